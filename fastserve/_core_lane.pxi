# The server's fast lane: a request whose like was there before -> Batch -> response, without Python in between.
#
#   head     what stands before the body. A KnownHead is one that the parser has taken; the same bytes say the same again
#   body     before  value of "entities"  behind. A Shape is a body that was read in the ordinary way, without that value;
#            with another JSON object in its place the body asks for the same features of other entities
#   answer   start  content-length  content-type  x-request-id  [connection: close]  body
#
# Whatever is not as expected makes `Lane.begin` return None: the ordinary way then answers, or says what is wrong.

cdef enum:
    JSON_FORM, COMPACT_FORM, PROTOBUF_FORM

cdef Py_ssize_t LANE_SHAPES = 1000, LANE_ENDS = 8, LANE_BODY = 1 << 16
cdef bytes SHAPE_KEY = b'"entities"'


@cython.final
cdef class KnownHead:
    """The head of a request, which the parser has taken before.

    Args:
        raw: its bytes, with the empty line.
        head: what it says.
        length: of the body that it announces.
        form: of the answer that it asks for: json or protobuf; None if it asks for anything that a Lane does not do.
    """

    cdef readonly bytes raw
    cdef readonly object head
    cdef readonly Py_ssize_t length
    cdef int form

    def __init__(self, bytes raw not None, head, Py_ssize_t length, form):
        self.raw, self.head, self.length = raw, head, length
        self.form = {"json": JSON_FORM, "protobuf": PROTOBUF_FORM, None: -1}[form]


@cython.final
cdef class Shape:
    """A body without its entities; see `Lane.learn`."""

    cdef bytes before, behind
    cdef object request, epoch
    cdef ReadPlan plan
    cdef tuple names          # of the join keys that it must have
    cdef bint compact, versions


cdef class StoreRead:
    """A read that waits for its replies on a connection that it shares.

    Args:
        wire: has an event loop, `loop`, and a number of reads that were `cancelled`.
        batch: to be filled.
        on_done: called once with an error or None, unless the read is cancelled before.
        deadline: the loop's time.
    """

    cdef readonly object wire
    cdef readonly Batch batch
    cdef readonly object on_done
    cdef readonly double deadline
    cdef public bint is_retried

    def __init__(self, wire, Batch batch not None, on_done, double deadline):
        self.wire, self.batch, self.on_done, self.deadline = wire, batch, on_done, deadline

    def cancel(self):
        """Leave a tombstone."""
        self.on_done = None
        self.wire.cancelled += 1

    def settle(self, exc):
        """Tell the caller, unless it was told or has cancelled."""
        on_done, self.on_done = self.on_done, None
        if on_done is None:
            return
        try:
            on_done(exc)
        except Exception as fault:
            # Others wait for their replies behind this one.
            message = "on_done of a fastserve read failed"
            self.wire.loop.call_exception_handler({"message": message, "exception": fault})


def take_replies(in_flight, bytes data not None, Py_ssize_t at):
    """Hand replies to the reads at the front of a queue, as far as nothing unusual comes.

    Args:
        in_flight: a deque of (StoreRead, `asked` of its Batch, whether more pieces may follow, ...).
        data: what came; from `at` on.
    Returns:
        Where the replies begin that are left to the caller: to a piece, or to nobody; or -1 if all was taken.
    Raises:
        UnusualReply: see `Batch.feed_from`.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), until, end
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef tuple entry
    cdef StoreRead read
    cdef Batch batch
    popleft = in_flight.popleft
    while at < size and in_flight:
        entry = in_flight[0]
        if entry[2]:
            return at
        read = entry[0]
        batch = read.batch
        until = entry[1]
        end = accept_replies(batch, p + at, size - at, until, True)
        if end < 0:
            return -1
        at += end
        popleft()
        read.settle(None if batch.refusal is None else read.wire.refused(batch))
    return at if at < size else -1


class _Unwatched:
    """Stands in for the event that an ASGI application waits on: nobody waits on a LaneRead."""

    def set(self):
        pass

cdef object UNWATCHED = _Unwatched()


cdef class LaneRead(ReadTimer):
    """A read on the fast lane, and all that is kept of it: what uvicorn asks of a request, what the hooks ask of an
    exchange, and what tells its owner that the store has answered: it calls owner.filled(read, exc).

    Attributes:
        pending: what can be cancelled.
        is_counted: as one of the requests at hand.
        columns: its entities.
    """

    cdef Lane lane
    cdef Shape shape
    cdef KnownHead known
    cdef readonly object protocol
    cdef readonly Batch batch
    cdef readonly dict columns
    cdef int64_t number
    cdef public object pending
    cdef public bint response_complete, disconnected, keep_alive, is_counted

    def __call__(self, exc):
        self.answered_at = monotonic_now()
        self.protocol.filled(self, exc)

    @property
    def message_event(self):
        return UNWATCHED

    @property
    def timer(self):
        return self

    @property
    def exchange(self):
        return self

    @property
    def head(self):
        return self.known.head

    @property
    def request(self):
        """The request, as the ordinary way would have read it."""
        import copy

        request = copy.copy(self.shape.request)
        request.entities = self.columns
        return request

    @property
    def id(self):
        return f"{self.lane.prefix.decode()}{self.number:x}"

    @property
    def headers(self):
        return [(b"x-request-id", self.id.encode())]

    @property
    def method(self):
        return "POST"

    @property
    def path(self):
        return self.lane.path

    @property
    def client(self):
        return self.protocol.client_address

    @property
    def key(self):
        return ""

    @property
    def trace(self):
        return ""

    def response(self, list defaults not None, bint is_last):
        """Return the response, and count it; None if vectors are missing.

        Args:
            defaults: headers (name, value) that stay for a while.
            is_last: of the connection.
        Raises:
            DecodeError, VectorError: as `FeatureStore.finish_read`.
        """
        cdef Batch batch = self.batch
        cdef bint versions = self.shape.versions
        cdef Sink body
        cdef bytes data
        if batch.plan.has_vectors and batch.unpack_vectors():
            return None
        if self.known.form == PROTOBUF_FORM:
            data = self.framed(answer_bytes(batch, versions), defaults, is_last)
        elif self.shape.compact:
            data = self.framed(compact_json(batch, versions), defaults, is_last)
        else:
            body = json_sink(batch, versions)
            data = self.lane.framed(self, body.data, body.size, defaults, is_last)
        self.count(batch)
        if self.lane.succeeded is not None:
            self.lane.succeeded.cells[0] += 1
        return data

    def framed(self, bytes body not None, list defaults not None, bint is_last):
        """Return the response with this body, not counted; otherwise as `response`."""
        return self.lane.framed(self, <const uint8_t*>PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body), defaults, is_last)


@cython.final
cdef class Lane:
    """What the reads of a worker have in common.

    Args:
        heads: bytes -> KnownHead; whoever has it adds to it.
        meter: what reads are counted with.
        succeeded: a Counter of answers with status 200, or None.
        path: of the reads.
        prefix: of request ids.
        numbers: an iterator over the numbers of requests.
        max_entities: more are left to the ordinary way; 0 is any.
    """

    cdef dict heads, shapes
    cdef KnownHead last_head
    cdef Shape last_shape
    cdef ReadMeter meter
    cdef Counter succeeded
    cdef str path
    cdef bytes prefix
    cdef object numbers
    cdef Py_ssize_t max_entities
    cdef list defaults
    cdef bytes start
    cdef Sink top

    def __init__(self, dict heads not None, ReadMeter meter not None, Counter succeeded, str path not None,
                 str prefix not None, numbers, Py_ssize_t max_entities):
        self.heads, self.meter, self.succeeded, self.path, self.numbers = heads, meter, succeeded, path, numbers
        self.prefix = prefix.encode() + b"-"
        self.max_entities = max_entities
        self.shapes = {}
        self.top = Sink.of(512)

    # --- requests ---

    def begin(self, protocol, bytes data not None, epoch):
        """Return the LaneRead of a request that is all of `data`, or None if that must be looked at in the ordinary way.

        Args:
            protocol: the connection.
            epoch: changes whenever plans may have changed.
        """
        cdef KnownHead known = self.head_of(data)
        cdef Shape shape
        cdef LaneRead read
        cdef Py_ssize_t at, n_rows = 0
        cdef dict columns
        if known is None or known.form < 0:
            return None
        at = PyBytes_GET_SIZE(known.raw)
        if PyBytes_GET_SIZE(data) - at != known.length:
            return None
        shape = self.shape_of(data, at)
        if shape is None or shape.epoch is not epoch:
            return None
        columns = columns_between(
            <const uint8_t*>PyBytes_AS_STRING(data) + at + PyBytes_GET_SIZE(shape.before),
            <const uint8_t*>PyBytes_AS_STRING(data) + PyBytes_GET_SIZE(data) - PyBytes_GET_SIZE(shape.behind),
            &n_rows,
        )
        if columns is None or len(columns) != len(shape.names) or n_rows > self.max_entities > 0:
            return None
        for name in shape.names:
            if name not in columns:
                return None
        read = LaneRead.__new__(LaneRead, self.meter)
        try:
            read.batch = Batch.__new__(Batch, shape.plan, columns, n_rows)
        except EntityError:
            read.left()
            return None
        read.lane, read.shape, read.known, read.protocol, read.columns = self, shape, known, protocol, columns
        read.number = next(self.numbers)
        read.keep_alive = read.is_counted = True
        read.sent_at = monotonic_now()
        return read

    cdef KnownHead head_of(self, bytes data):
        cdef KnownHead known = self.last_head
        cdef Py_ssize_t end
        if known is not None and starts_with(data, 0, known.raw):
            return known
        end = data.find(b"\r\n\r\n")
        known = self.heads.get(data[:end + 4])
        if known is not None:
            self.last_head = known
        return known

    cdef Shape shape_of(self, bytes data, Py_ssize_t at):
        """The Shape of the body that begins at `at`, if it is known."""
        cdef Shape shape = self.last_shape
        cdef Py_ssize_t brace
        if shape is not None and starts_with(data, at, shape.before) and ends_with(data, at, shape):
            return shape
        brace = data.find(SHAPE_KEY, at)
        brace = data.find(b"{", brace) if brace >= 0 else -1
        if brace < 0:
            return None
        for shape in self.shapes.get(data[at:brace], ()):
            if ends_with(data, at, shape):
                self.last_shape = shape
                return shape
        return None

    def knows(self, bytes body not None, epoch):
        """Whether the Shape of a body is known, and up to date."""
        cdef Shape shape = self.shape_of(body, 0)
        return shape is not None and shape.epoch is epoch

    def learn(self, bytes body not None, bytes entities not None, request, ReadPlan plan not None, epoch):
        """Take note of a body that was read in the ordinary way.

        Args:
            entities: the bytes of the value of its field `entities`.
            request: what it asks for; has `compact` and `include_feature_view_version_metadata`.
            plan: what was read for it; `epoch` is of before that was looked up.
        """
        cdef Shape shape
        cdef Py_ssize_t at = body.find(entities), key = body.find(SHAPE_KEY)
        cdef list known
        if plan.request_data or plan.transforms or len(body) > LANE_BODY or key < 0 or body.find(b"{", key) != at:
            return
        if body.count(entities) != 1:
            return    # which of them is it?
        shape = Shape.__new__(Shape)
        shape.before, shape.behind, shape.request, shape.plan = body[:at], body[at + len(entities):], request, plan
        shape.epoch, shape.names = epoch, tuple(plan.required_views)
        shape.compact, shape.versions = request.compact, request.include_feature_view_version_metadata
        if len(self.shapes) >= LANE_SHAPES:
            self.shapes.clear()
        known = [other for other in self.shapes.get(shape.before, ()) if (<Shape>other).behind != shape.behind]
        self.shapes[shape.before] = [shape, *known[:LANE_ENDS - 1]]

    # --- responses ---

    cdef bytes framed(self, LaneRead read, const uint8_t* body, Py_ssize_t size, list defaults, bint is_last):
        """The response with this body."""
        cdef Sink top = self.top
        cdef bytes data
        if defaults is not self.defaults:
            self.defaults = defaults
            self.start = b"HTTP/1.1 200 OK\r\n" + b"".join([b"%b: %b\r\n" % header for header in defaults])
            self.start += b"content-length: "
        top.size = 0
        top.put_bytes(self.start)
        top.put_decimal(size)
        if read.known.form == PROTOBUF_FORM:
            top.put_bytes(b"\r\ncontent-type: application/x-protobuf\r\nx-request-id: ")
        else:
            top.put_bytes(b"\r\ncontent-type: application/json\r\nx-request-id: ")
        top.put_bytes(self.prefix)
        put_hex(top, read.number)
        if is_last:
            top.put_bytes(b"\r\nconnection: close")
        top.put(b"\r\n\r\n", 4)
        data = PyBytes_FromStringAndSize(NULL, top.size + size)
        memcpy(PyBytes_AS_STRING(data), top.data, top.size)
        memcpy(PyBytes_AS_STRING(data) + top.size, body, size)
        return data


cdef int put_hex(Sink out, uint64_t number) except -1:
    cdef uint8_t[16] digits
    cdef int n = 16
    while True:
        n -= 1
        digits[n] = HEX[number & 15]
        number >>= 4
        if number == 0:
            return out.put(&digits[n], 16 - n)


cdef inline bint starts_with(bytes data, Py_ssize_t at, bytes start) noexcept:
    cdef Py_ssize_t n = PyBytes_GET_SIZE(start)
    return PyBytes_GET_SIZE(data) - at >= n and memcmp(PyBytes_AS_STRING(data) + at, PyBytes_AS_STRING(start), n) == 0


cdef inline bint ends_with(bytes data, Py_ssize_t at, Shape shape) noexcept:
    """Whether a body that begins as the shape also ends so."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(shape.behind), size = PyBytes_GET_SIZE(data)
    return (
        size - at - PyBytes_GET_SIZE(shape.before) >= n
        and memcmp(PyBytes_AS_STRING(data) + size - n, PyBytes_AS_STRING(shape.behind), n) == 0
    )


# --- the value of "entities" ---

cdef dict columns_between(const uint8_t* p, const uint8_t* end, Py_ssize_t* n_rows):
    """Read a JSON object of equally long, not empty lists, each of plain texts or of numbers that fit an int64; None for
    anything else."""
    cdef dict columns = {}
    cdef list values
    cdef str name
    p = opened(p, end, c'{')
    while p is not NULL:
        name = plain_text(&p, end)
        p = opened(p, end, c':') if name is not None else NULL
        p = opened(p, end, c'[') if p is not NULL else NULL
        if p is NULL or name in columns:
            return None
        values = []
        if not take_values(&p, end, values) or (columns and len(values) != n_rows[0]):
            return None
        n_rows[0] = len(values)
        columns[name] = values
        if p < end and p[0] == c',':
            p = spaces_over(p + 1, end)
        else:
            p = opened(p, end, c'}')
            return columns if p == end else None
    return None


cdef inline const uint8_t* spaces_over(const uint8_t* p, const uint8_t* end) noexcept:
    while p < end and (p[0] == 32 or p[0] == 10 or p[0] == 13 or p[0] == 9):
        p += 1
    return p


cdef inline const uint8_t* opened(const uint8_t* p, const uint8_t* end, uint8_t sign) noexcept:
    """Step over a sign and the space around it; NULL if it is not there."""
    if p is NULL:
        return NULL
    p = spaces_over(p, end)
    return spaces_over(p + 1, end) if p < end and p[0] == sign else NULL


cdef bint take_values(const uint8_t** at, const uint8_t* end, list values) except -1:
    """Read the values of a list up to behind its bracket, and the space that follows; return whether all is plain."""
    cdef const uint8_t* p = at[0]
    cdef bint is_text = p < end and p[0] == c'"'
    while p < end:
        value = plain_text(&p, end) if is_text else whole_number(&p, end)
        if value is None:
            return False
        values.append(value)
        p = spaces_over(p, end)
        if p == end:
            return False
        if p[0] == c']':
            at[0] = spaces_over(p + 1, end)
            return True
        if p[0] != c',':
            return False
        p = spaces_over(p + 1, end)
    return False


cdef str plain_text(const uint8_t** at, const uint8_t* end):
    """Read a JSON string without escapes, and step behind it; None for anything else."""
    cdef const uint8_t* p = at[0] + 1
    cdef const uint8_t* start = p
    cdef PyObject* text
    if p > end or at[0][0] != c'"':
        return None
    while p < end and p[0] != c'"':
        if JSON_ESCAPE[p[0]]:
            return None
        p += 1
    if p == end:
        return None
    at[0] = p + 1
    text = raw_decode_utf8(<const char*>start, p - start, NULL)
    if text is NULL:
        PyErr_Clear()
        return None
    return steal(text)


cdef object whole_number(const uint8_t** at, const uint8_t* end):
    """Read a JSON integer of up to 18 digits, and step behind it; None for anything else."""
    cdef const uint8_t* p = at[0]
    cdef bint negative = p < end and p[0] == c'-'
    cdef const uint8_t* first = p + negative
    cdef int64_t number = 0
    p = first
    while p < end and c'0' <= p[0] <= c'9' and p - first < 19:
        number = number * 10 + (p[0] - 48)
        p += 1
    if p == first or p - first > 18 or (first[0] == c'0' and p - first > 1) or (negative and number == 0):
        return None
    if p < end and (p[0] == c'.' or p[0] == c'e' or p[0] == c'E'):
        return None
    at[0] = p
    return -number if negative else number
