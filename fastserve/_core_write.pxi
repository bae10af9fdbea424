# Writing: rows of Arrow columns -> entity keys, Values and event times, framed for the script that Redis applies.
#
#   call        EVALSHA sha n | n Redis keys | features, key ttl, always, "_ts:view", the features' field ids
#               | n event times | for each feature: n Values
#   reply       ":" rows applied CRLF
#
# Columns stay columns in the call, so that each is encoded in one go, straight behind the one before; the script picks
# its rows from them. Rows are not copied: an EncodedRows holds on to the Arrow batch, all of which was looked at before.

def encode_rows(WritePlan plan not None, batch, bint created=False, rows=None):
    """Check rows against the plan and make them ready to be written.

    Args:
        plan: the WritePlan.
        batch: anything with `__arrow_c_array__`, a struct array: the join keys and features in the order of
            `plan.columns`, the event time, and with `created` the created time. Arrow types: string or large_string for
            STRING; binary or large_binary for BYTES, PDF and image bytes; int32, int64, double, float, bool for theirs;
            timestamp of any unit or int64 seconds for UNIX_TIMESTAMP; list, large_list or fixed_size_list of these for
            their lists; for all else binary with serialised Values in it, which are not looked at. Times are timestamps
            of any unit and zone. A null feature is stored as a null, and a NaN too, as Feast does; a null timestamp as
            the null of such columns, INT64_MIN seconds.
        created: the batch has a created time, which may be null.
        rows: a buffer of int64, the rows that count; all of them without it.
    Returns:
        EncodedRows, which holds on to the batch: its buffers must not change.
    Raises:
        EncodeError: a column of another type; a null join key or event time; text that is not UTF-8; names the column
            and the row.
        ValueError: the batch has another number of columns.
    """
    return EncodedRows(Table.of(plan, batch, created, rows))


@cython.final
cdef class EncodedRows:
    """Rows of one feature view on their way to a store. Made by `encode_rows`; not thread-safe.

    Attributes:
        plan: the WritePlan.
        n_rows: the number of rows.
        applied: rows that the store is known to have applied.
        handed_out, answered: calls.
    """

    cdef readonly WritePlan plan
    cdef readonly Py_ssize_t n_rows
    cdef readonly Py_ssize_t applied
    cdef Table table
    cdef Span prefix, suffix         # of Redis keys
    cdef Frames out
    cdef Sink replies
    cdef Py_ssize_t sent             # rows
    cdef readonly Py_ssize_t handed_out
    cdef readonly Py_ssize_t answered
    cdef bint busy

    def __cinit__(self, Table table not None):
        cdef Py_ssize_t i
        self.table = table
        self.plan = table.plan
        self.n_rows = table.n_rows
        self.replies = Sink.of(64)
        self.prefix, self.suffix = span_of(self.plan.prefix), span_of(self.plan.suffix)
        for i in range(table.n_features):
            table.bind(table.n_keys + i, self.plan.feature_types[i])
        table.bind_event_times()
        if table.has_created:
            table.bind_time(table.n_keys + table.n_features + 1)

    def __dealloc__(self):
        free(self.out.data)

    def __len__(self):
        return self.n_rows

    # --- Redis ---

    @cython.nonecheck(False)
    def commands(self, bytes sha not None, int64_t key_ttl=0, bint always=False, Py_ssize_t limit=1 << 20):
        """Return the next calls in RESP, at least one and about `limit` bytes, or None when all rows were handed out.

        Args:
            sha: names the script, in hexadecimal.
            key_ttl: seconds that keys live on from a write; 0 leaves them alone.
            always: write whatever is stored.
            limit: in bytes.
        """
        cdef Py_ssize_t n, size = self.plan.rows_per_call
        cdef int failed = 0
        if self.sent == self.n_rows:
            return None
        cdef bytes full_head = self.call_head(sha, size), last_head = self.call_head(sha, self.n_rows % size)
        cdef bytes after_keys = self.constants(key_ttl, always)
        cdef Span full = span_of(full_head), last = span_of(last_head), constants = span_of(after_keys)
        self.begin()
        with nogil:
            while failed == 0 and self.sent < self.n_rows and (self.out.size < limit or self.out.size == 0):
                n = min(size, self.n_rows - self.sent)
                failed = self.put_call(full if n == size else last, constants, n)
                self.sent += n
                self.handed_out += 1
        return self.finish(failed)

    cdef int begin(self) except -1:
        if self.busy:
            raise RuntimeError("another thread is encoding these rows")
        self.busy = True
        self.out.size = 0
        return 0

    cdef bytes finish(self, int failed):
        self.busy = False
        if failed:
            raise MemoryError
        return PyBytes_FromStringAndSize(<char*>self.out.data, self.out.size)

    cdef bytes call_head(self, bytes sha, Py_ssize_t n):
        cdef Py_ssize_t arguments = 3 + n + 4 + self.table.n_features + n * (self.table.n_features + 1)
        return b"*%d\r\n$7\r\nEVALSHA\r\n" % arguments + framed(sha) + framed(b"%d" % n)

    cdef bytes constants(self, int64_t key_ttl, bint always):
        head = (b"%d" % self.table.n_features, b"%d" % key_ttl, b"%d" % always, self.plan.fields[-1])
        return b"".join([framed(item) for item in (*head, *self.plan.fields[:-1])])

    @cython.nonecheck(False)
    cdef int put_call(self, Span head, Span constants, Py_ssize_t n) noexcept nogil:
        cdef const int64_t* rows = self.table.rows + self.sent
        cdef Py_ssize_t i
        cdef const Column* c
        if put_span(&self.out, head) < 0 or self.put_keys(rows, n, self.suffix) < 0:
            return -1
        if put_span(&self.out, constants) < 0 or self.put_event_times(rows, n) < 0:
            return -1
        for i in range(self.table.n_features):
            if self.put_cells(&self.table.columns[self.table.n_keys + i], rows, n) < 0:
                return -1
        return 0

    @cython.nonecheck(False)
    cdef int put_keys(self, const int64_t* rows, Py_ssize_t n, Span suffix) noexcept nogil:
        """Append the frames of entity keys that end with the suffix."""
        cdef Py_ssize_t i
        cdef int64_t size
        cdef uint8_t* p
        for i in range(n):
            size = self.prefix.size + self.table.body_size(rows[i]) + suffix.size
            if make_room(&self.out, CELL_ROOM + size) < 0:
                return -1
            p = write_bytes(write_head(self.out.data + self.out.size, size), self.prefix.data, self.prefix.size)
            p = write_bytes(self.table.write_body(p, rows[i]), suffix.data, suffix.size)
            p = write_line_end(p)
            self.out.size = p - self.out.data
        return 0

    @cython.nonecheck(False)
    cdef int put_event_times(self, const int64_t* rows, Py_ssize_t n) noexcept nogil:
        if make_room(&self.out, CELL_ROOM * n) < 0:
            return -1
        self.out.size = write_times(self.out.data + self.out.size, self.table.event_times(), rows, n) - self.out.data
        return 0

    @cython.nonecheck(False)
    cdef int put_cells(self, const Column* c, const int64_t* rows, Py_ssize_t n) noexcept nogil:
        if make_room(&self.out, cells_room(c, rows, n)) < 0:
            return -1
        self.out.size = write_cells(self.out.data + self.out.size, c, rows, n) - self.out.data
        return 0

    def rewind(self):
        """Forget all calls handed out and replies taken, to write again over another connection. Rows that were applied
        stay counted: the store does not apply them twice."""
        self.sent = self.handed_out = self.answered = 0
        self.replies.size = 0

    def feed(self, data, Py_ssize_t size=-1):
        """Take bytes of replies and count the rows applied; return True when all calls handed out are answered.

        Args:
            data: bytes, or a bytearray of which the first `size` bytes count.
        Raises:
            UnusualReply: a reply is not a number, but an error for instance; the connection is of no use afterwards.
        """
        cdef int64_t count = 0
        cdef Py_ssize_t at = 0, after
        self.replies.put_bytes(bytes(data) if size < 0 else bytes(data[:size]))
        while self.answered < self.handed_out:
            after = read_length(self.replies.data, at, self.replies.size, c':', &count)
            if after == 0:
                break
            if after < 0:
                self.unusual(at)
            self.applied += count
            self.answered += 1
            at = after
        if self.answered == self.handed_out and at < self.replies.size:
            self.unusual(at)
        memmove(self.replies.data, self.replies.data + at, self.replies.size - at)
        self.replies.size -= at
        return self.answered == self.handed_out

    cdef int unusual(self, Py_ssize_t at) except -1:
        cdef bytes rest = PyBytes_FromStringAndSize(<char*>self.replies.data + at, self.replies.size - at)
        row = self.answered * self.plan.rows_per_call
        raise UnusualReply(rest, self.entity_key(row) if row < self.n_rows else b"")

    @property
    def first_unanswered(self):
        """The row that the next call to be answered begins with."""
        return self.answered * self.plan.rows_per_call

    # --- other stores ---

    def entity_key(self, Py_ssize_t row):
        """Return the entity key of a row, without the project."""
        return self.key_list(row, 1)[0]

    def entity_keys(self):
        """Return the entity keys of all rows, without the project."""
        return self.key_list(0, self.n_rows)

    cdef list key_list(self, Py_ssize_t first, Py_ssize_t n):
        if first < 0 or n < 0 or first + n > self.n_rows:
            raise IndexError(f"rows {first} to {first + n} of {self.n_rows}")
        self.begin()
        failed = self.put_keys(self.table.rows + first, n, Span(self.suffix.data, 0))
        return split_frames(self.finish(failed), n)

    cdef list cell_list(self, Py_ssize_t feature, Py_ssize_t first, Py_ssize_t n):
        self.begin()
        failed = self.put_cells(&self.table.columns[self.table.n_keys + feature], self.table.rows + first, n)
        return split_frames(self.finish(failed), n)

    def records(self):
        """Yield (entity key, event time, created time, Values) of each row.

        The key is without the project; times are in microseconds, the created one None where there is none; the Values
        are a tuple, serialised.
        """
        cdef Py_ssize_t first, i, n
        for first in range(0, self.n_rows, ROWS_PER_BLOCK):
            n = min(ROWS_PER_BLOCK, self.n_rows - first)
            columns = [self.cell_list(i, first, n) for i in range(self.table.n_features)]
            values = list(zip(*columns)) if columns else [()] * n
            keys = self.key_list(first, n)
            for i in range(n):
                yield keys[i], self.event_time(first + i), self.created_time(first + i), values[i]

    def items(self):
        """Yield (entity key without the project, feature, serialised Value, event time in us) of each cell."""
        for key, event_time, _, values in self.records():
            for feature, value in zip(self.plan.features, values):
                yield key, feature, value, event_time

    cdef int64_t event_time(self, Py_ssize_t row):
        return micros_at(self.table.event_times(), self.table.rows[row])

    cdef object created_time(self, Py_ssize_t row):
        cdef const Column* c = self.table.created_times()
        if not self.table.has_created or not is_valid(c, self.table.rows[row] + c.offset):
            return None
        return micros_at(c, self.table.rows[row])


cdef bytes framed(bytes item):
    return b"$%d\r\n%b\r\n" % (len(item), item)


cdef list split_frames(bytes frames, Py_ssize_t n):
    """The contents of `n` frames."""
    cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(frames)
    cdef Py_ssize_t i, at = 0
    cdef int64_t size = 0
    cdef list result = []
    for i in range(n):
        at = read_length(data, at, PyBytes_GET_SIZE(frames), c'$', &size)
        result.append(PyBytes_FromStringAndSize(<const char*>data + at, size))
        at += size + 2
    return result
