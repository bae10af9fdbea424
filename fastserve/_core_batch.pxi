# Batch: one request on its way. Distinct entity keys, their commands, and the replies as they came.
#
#   cells            for each group, for each distinct entity, for each field: offset and length in the reply buffer,
#                    length -1 where nothing is stored. Commands are sent in this order, so replies fill it front to back

cdef list echo_column(list values, str name):
    """The Values of a join key that no requested view uses, but the answer repeats; each has the type that it shows."""
    cdef Py_ssize_t row = 0
    cdef list result = []
    try:
        for row, value in enumerate(values):
            result.append(encode_value(value))
    except (TypeError, ValueError) as exc:
        raise EntityError(str(exc), join_key=name, row=row) from None
    return result


cdef struct GroupState:
    Py_ssize_t n_entities
    Py_ssize_t first_cell
    Py_ssize_t first_key
    int n_fields                # cells of an entity, that its reply fills
    Py_ssize_t first_value      # and those of its values: the same, or what is made of a vector of Feast's
    int n_values
    PyObject* whole_hash        # the FieldTable (borrowed) of a group that is read by HGETALL, else NULL
    Py_ssize_t keys_per_command # of an MGET; 0: each entity has its own command
    Py_ssize_t keys_in_first    # of the first MGET, which a lazy Batch may make of fewer
    const VectorPlace* places   # of packed vectors: where each field is, else NULL
    int32_t n_segments
    Py_ssize_t* segments        # where each one of each entity begins in the replies, view by view; 0: nowhere
    Py_ssize_t n_looked         # entities whose vectors were looked at
    Py_ssize_t n_decoded        # rows whose values are in `ahead`
    int32_t* entity_of_row      # NULL: row i is entity i; entity-less groups have every row at entity 0
    bint constant


cdef struct Cell:
    Py_ssize_t offset
    Py_ssize_t size


cdef enum:
    LAZY_ROWS = 64            # enough for a store to have something to do while the keys of others are made


@cython.final
@cython.freelist(8)
cdef class Batch:
    """The entities of one request and what the store holds for them.

    Args:
        plan: the ReadPlan.
        columns: column -> list of values, all of equal length, join keys of the plan only; the Batch copies them.
        n_rows: the number of rows.
        request_data: column -> list of values, for on-demand feature views.
        lazy: make the keys of most rows when they are asked for: after the first `commands`, with which a store can begin.
    Raises:
        EntityError: a value cannot be a key; names the column and the row. With `lazy`, what asks for keys may raise it.
    """

    cdef readonly ReadPlan plan
    cdef readonly Py_ssize_t n_rows
    cdef readonly list entity_columns      # (name, ValueType, canonical values), in the request's order; type 0: Values
    cdef readonly dict request_data        # column -> list of values, for on-demand feature views
    cdef readonly tuple refusal            # (text, entity key) of the first error reply that feed_from took, or None
    cdef readonly dict computed            # output name -> list of serialised Values; None without on-demand views
    cdef readonly dict plain               # output name -> (list of Python values, value type), not serialised yet
    cdef int64_t now                       # microseconds since the epoch
    cdef Sink shown                        # the status of each value, feature by feature, once a small answer is made
    # Keys, of all groups, one after the other
    cdef Sink keys
    cdef Py_ssize_t* key_ends              # in the block of the states, behind them
    cdef Py_ssize_t n_keys
    cdef Py_ssize_t n_unkeyed              # rows, the last ones, that have none yet
    cdef KeyTable seen                     # the keys that are there already, of a group at work
    cdef GroupState* states
    cdef Py_ssize_t n_groups
    # Replies
    cdef Sink replies
    cdef Py_ssize_t n_lent                 # buffers of the room behind them that are in use
    cdef Cell* cells
    cdef Py_ssize_t n_cells, cells_size
    # Values decoded already, in the form in which the answer will be asked for, most likely
    cdef AnswerForm form
    cdef readonly list ahead               # a list for each output (of NumPy: for each of objects), or None: not begun
    cdef Gathering gathering
    # Progress: commands handed out, replies scanned
    cdef Py_ssize_t send_group, send_entity
    cdef Py_ssize_t expected_cells, filled_cells
    cdef Py_ssize_t scan_group, scan_entity
    cdef Py_ssize_t fields_left            # of the reply at hand; 0 between replies
    cdef Py_ssize_t reply_entities         # that the reply at hand is about
    cdef Py_ssize_t scanned
    # Of an answer that a server gave (_core_answer.pxi): the status of each value, column by column; else NULL
    cdef uint8_t* given
    cdef int n_columns

    def __cinit__(
        self, ReadPlan plan not None, dict columns not None, Py_ssize_t n_rows, dict request_data=None, bint lazy=False
    ):
        self.plan = plan
        self.form, plan.form = plan.form, OTHER_FORM
        self.n_rows = n_rows
        self.request_data = request_data
        self.entity_columns = []
        self.now = microseconds_now() if plan.has_ttl else 0
        self.keys = Sink.of(64 * (n_rows + 1))
        self.replies = Sink.of(16)
        self.n_groups = len(plan.groups)
        self.make_key_room(self.n_groups * max(n_rows, 1))
        memset(self.states, 0, self.n_groups * sizeof(GroupState))
        self.take_columns(columns)
        self.make_keys(lazy)

    cdef int make_key_room(self, Py_ssize_t n) except -1:
        """Make room for where `n` keys end, behind the states of the groups; these move."""
        cdef Py_ssize_t size = self.n_groups * sizeof(GroupState) + n * sizeof(Py_ssize_t)
        cdef void* block = PyMem_Realloc(self.states, size)
        if block is NULL:
            raise MemoryError
        self.states = <GroupState*>block
        self.key_ends = <Py_ssize_t*>(self.states + self.n_groups)
        return 0

    def __dealloc__(self):
        cdef Py_ssize_t g
        if self.states is not NULL:
            for g in range(self.n_groups):
                PyMem_Free(self.states[g].entity_of_row)
                PyMem_Free(self.states[g].segments)
        PyMem_Free(self.states)
        PyMem_Free(self.given)
        give_block(self.cells, self.cells_size)

    cdef int take_columns(self, dict columns) except -1:
        cdef uint32_t value_type
        for name, values in columns.items():
            declared = self.plan.join_key_types[name]
            if declared is None:
                self.entity_columns.append((name, VALUE, echo_column(values, name)))
                continue
            value_type = declared or infer_key_type(values, name)
            self.entity_columns.append((name, value_type, key_column(values, value_type, name)))
        return 0

    # --- keys ---

    cdef int make_keys(self, bint lazy) except -1:
        cdef Py_ssize_t g
        cdef KeyGroup group
        cdef GroupState* state
        for g in range(self.n_groups):
            group = <KeyGroup>self.plan.groups[g]
            state = &self.states[g]
            state.first_key = self.n_keys
            state.first_cell = self.n_cells
            state.n_fields = 1 if group.vector_format else group.n_fields
            state.whole_hash = <PyObject*>group.table if group.whole_hash and not group.vector_format else NULL
            if group.columns:
                self.n_unkeyed = max(self.n_rows - LAZY_ROWS, 0) if lazy and self.n_groups == 1 else 0
                self.make_group_keys(group, state)
            else:
                self.make_constant_key(group, state)
            if group.places is not NULL:
                expect_vectors(self, group, state)
            state.first_value, state.n_values = state.first_cell, state.n_fields
            # Rows without keys so far may all have entities of their own.
            self.n_cells += (state.n_entities + self.n_unkeyed) * state.n_fields
        self.make_cells(expect_feast(self, self.n_cells))
        skip_finished_groups(self)
        return 0

    cdef int make_cells(self, Py_ssize_t n) except -1:
        """Make room for the replies of `n` fields, in the place of what there was."""
        give_block(self.cells, self.cells_size)
        self.cells, self.cells_size, self.n_cells = NULL, 0, 0
        self.cells = <Cell*>take_block((n + 1) * sizeof(Cell), &self.cells_size)
        self.n_cells = n
        self.clear_cells()
        return 0

    cdef void clear_cells(self) noexcept:
        memset(self.cells, 0xFF, self.n_cells * sizeof(Cell))    # sizes of -1

    cdef int make_constant_key(self, KeyGroup group, GroupState* state) except -1:
        state.constant = True
        if self.n_rows:
            self.keys.put_bytes(group.prefix)
            self.end_key(state)
        return 0

    cdef int end_key(self, GroupState* state) except -1:
        self.key_ends[self.n_keys] = self.keys.size
        self.n_keys += 1
        state.n_entities += 1
        return 0

    cdef int make_group_keys(self, KeyGroup group, GroupState* state) except -1:
        """Append the key of every row that is to have one now; one that was there before is taken back and shared."""
        self.seen = KeyTable(self.n_rows) if self.n_rows > 1 else None
        self.put_keys(group, state, 0, self.n_rows - self.n_unkeyed)
        return 0

    cdef inline int finish_keys(self) except -1:
        """Make the keys that a lazy Batch has not made."""
        return self.make_other_keys() if self.n_unkeyed else 0

    cdef int make_other_keys(self) except -1:
        cdef Py_ssize_t row = self.n_rows - self.n_unkeyed
        self.n_unkeyed = 0
        return self.put_keys(<KeyGroup>self.plan.groups[0], &self.states[0], row, self.n_rows)

    cdef int put_keys(self, KeyGroup group, GroupState* state, Py_ssize_t row, Py_ssize_t stop) except -1:
        cdef tuple columns = self.columns_of(group)
        cdef KeyTable seen = self.seen
        cdef Py_ssize_t column = 0, start
        cdef int32_t entity
        try:
            while row < stop:
                start = self.keys.size
                self.put_key(group, columns, row, &column)
                entity = seen.find_or_add(self, state, start) if seen is not None else 0
                if entity < state.n_entities:
                    self.keys.size = start
                    self.share(state, row, entity)
                else:
                    if state.entity_of_row is not NULL:
                        state.entity_of_row[row] = entity
                    self.end_key(state)
                row += 1
        except ValueError as exc:    # lone surrogates, or more than an old key version holds
            raise EntityError(str(exc), join_key=group.columns[column], row=row) from None
        if self.n_unkeyed == 0:
            self.seen = None
        return 0

    cdef int put_key(self, KeyGroup group, tuple columns, Py_ssize_t row, Py_ssize_t* column) except -1:
        cdef Py_ssize_t i
        cdef tuple one
        self.keys.put_bytes(group.prefix)
        for i in range(PyTuple_GET_SIZE(columns)):
            column[0] = i
            one = <tuple>PyTuple_GET_ITEM(columns, i)
            value = <object>PyList_GET_ITEM(<object>PyTuple_GET_ITEM(one, 2), row)
            put_key_value(self.keys, value, <uint32_t><object>PyTuple_GET_ITEM(one, 1), group.version)
        return 0

    cdef int share(self, GroupState* state, Py_ssize_t row, int32_t entity) except -1:
        """Record that `row` has the key of an earlier one; the first time, write down all rows before it."""
        cdef Py_ssize_t i
        if state.entity_of_row is NULL:
            state.entity_of_row = <int32_t*>PyMem_Malloc(self.n_rows * sizeof(int32_t))
            if state.entity_of_row is NULL:
                raise MemoryError
            for i in range(row):
                state.entity_of_row[i] = <int32_t>i
        state.entity_of_row[row] = entity
        return 0

    cdef tuple columns_of(self, KeyGroup group):
        """The (name, ValueType, values) of a group's join keys."""
        if PyTuple_GET_SIZE(group.columns) == 1:
            return (self.entity_column(group.columns[0]),)
        return tuple([self.entity_column(name) for name in group.columns])

    cdef tuple entity_column(self, str name):
        for column in self.entity_columns:
            if (<tuple>column)[0] == name:
                return column
        raise EntityError("no values given", join_key=name)

    cdef inline Py_ssize_t key_start(self, Py_ssize_t key) noexcept:
        return self.key_ends[key - 1] if key else 0

    # --- store side ---

    @property
    def groups(self):
        """The plan's KeyGroups."""
        return self.plan.groups

    def entity_keys(self, Py_ssize_t group):
        """Return the distinct entity keys of a group (by index) as bytes, without the project."""
        cdef GroupState* state = self.state(group)
        cdef Py_ssize_t key
        self.finish_keys()
        return [
            PyBytes_FromStringAndSize(<char*>self.keys.data + self.key_start(key), self.key_ends[key] - self.key_start(key))
            for key in range(state.first_key, state.first_key + state.n_entities)
        ]

    cdef GroupState* state(self, Py_ssize_t group) except NULL:
        if not 0 <= group < self.n_groups:
            raise IndexError(f"group {group} of {self.n_groups}")
        return &self.states[group]

    def commands(self, Py_ssize_t limit=1 << 20):
        """Return the next commands in RESP, at least one and about `limit` bytes, or None when all were handed out."""
        cdef Sink out
        cdef KeyGroup group
        cdef GroupState* state
        if self.send_group == self.n_groups:
            return None
        if self.send_entity:    # what was there at first is under way
            self.finish_keys()
        if self.n_keys == 1 and self.n_groups == 1 and self.n_unkeyed == 0 and self.states[0].keys_per_command == 0:
            return self.only_command(<KeyGroup>self.plan.groups[0])
        out = Sink.of(min(limit, self.keys.size + self.n_keys * self.plan.framing) + self.plan.framing)
        while (out.size < limit or out.size == 0) and self.send_group < self.n_groups:
            group = <KeyGroup>self.plan.groups[self.send_group]
            state = &self.states[self.send_group]
            if self.send_entity == state.n_entities:
                if self.n_unkeyed:
                    break
                self.send_group += 1
                self.send_entity = 0
                continue
            if state.keys_per_command:
                self.send_entity += put_mget(out, self, group, state, self.send_entity)
            else:
                self.put_command(out, group, state.first_key + self.send_entity)
                self.send_entity += 1
            self.expected_cells = state.first_cell + self.send_entity * state.n_fields
        return out.finish() if out.size else None

    cdef int put_command(self, Sink out, KeyGroup group, Py_ssize_t key) except -1:
        cdef Span name = self.key_span(key)
        out.size = write_command(out.room(name.size + self.plan.framing), group, name) - out.data
        return 0

    cdef bytes only_command(self, KeyGroup group):
        """Hand out the command of a request with one: the commonest, made where it is to be."""
        cdef Span name = self.key_span(0)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, command_size(group, name))
        write_command(<uint8_t*>PyBytes_AS_STRING(out), group, name)
        self.send_group = 1
        self.expected_cells = self.states[0].n_fields
        return out

    cdef inline Span key_span(self, Py_ssize_t key) noexcept:
        cdef Py_ssize_t start = self.key_start(key)
        return Span(self.keys.data + start, self.key_ends[key] - start)

    def rewind(self):
        """Forget all commands handed out and replies taken, to ask again over another connection."""
        self.send_group = self.send_entity = self.expected_cells = 0
        self.scan_group = self.scan_entity = self.filled_cells = self.scanned = self.fields_left = 0
        self.replies.size = 0
        self.refusal = self.shown = None
        forget_looks(self)
        forget_ahead(self)
        self.clear_cells()
        skip_finished_groups(self)

    @property
    def asked(self):
        """How far the commands handed out reach, for `feed_from`."""
        return self.expected_cells

    @property
    def unsent(self):
        """The number of distinct keys that are yet to be asked for; but for vectors, a command each."""
        if self.send_group == self.n_groups:
            return 0
        self.finish_keys()
        return self.n_keys - self.states[self.send_group].first_key - self.send_entity

    def feed(self, data, Py_ssize_t size=-1):
        """Take bytes of replies; return True when the replies of all commands handed out are in.

        Args:
            data: bytes, or a bytearray of which the first `size` bytes count.
        Raises:
            UnusualReply: a reply is not an array of the plan's length; the connection is of no use afterwards.
        """
        cdef Py_ssize_t n = 0, end
        cdef const uint8_t* p = given_bytes(data, size, &n)
        self.finish_keys()
        end = accept_replies(self, p, n, self.expected_cells, False)
        if 0 <= end < n:
            unusual_reply(self, p + end, n - end)
        return end >= 0

    def feed_from(self, data, Py_ssize_t start, Py_ssize_t size, Py_ssize_t until):
        """Take this batch's replies from bytes that may hold others' behind them.

        An error reply does not end it: the first one is kept in `refusal`, and its fields are as if nothing was stored.

        Args:
            data: bytes or a bytearray, of which those from `start` up to `size` count.
            until: `asked`, as it was when the commands had been handed out whose replies are wanted.
        Returns:
            Where the replies of others begin, or -1 if all was taken and more is wanted.
        Raises:
            UnusualReply: a reply is neither an array of the plan's length nor an error; the connection is of no use
                afterwards.
        """
        cdef Py_ssize_t n = 0, end
        cdef const uint8_t* p = given_bytes(data, size, &n)
        self.finish_keys()
        if not 0 <= start <= n or not 0 <= until <= self.expected_cells:
            raise ValueError(f"from {start} of {n} bytes, until {until} of {self.expected_cells}")
        end = accept_replies(self, p + start, n - start, until, True)
        return start + end if end >= 0 else -1

    def __getbuffer__(self, Py_buffer* view, int flags):
        """Lend the room behind the replies that came: for `socket.recv_into`, after which `feed_received` is called."""
        PyBuffer_FillInfo(view, self, self.replies.room(RECEIVE_BYTES), RECEIVE_BYTES, False, flags)
        self.n_lent += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.n_lent -= 1

    def feed_received(self, Py_ssize_t size):
        """Do what `feed` does, with bytes that were received into this object, which is a writable buffer.

        Raises:
            UnusualReply: as `feed`.
            BufferError: the buffer is still in use.
        """
        if self.n_lent:
            raise BufferError("a Batch cannot take what is being received")
        self.finish_keys()
        if not 0 <= size <= min(self.replies.capacity - self.replies.size, RECEIVE_BYTES):
            raise ValueError(f"{size} bytes received, into a room for {RECEIVE_BYTES}")
        return accept_received(self, size)

    cdef bytes key_bytes(self, Py_ssize_t key):
        return PyBytes_FromStringAndSize(<char*>self.keys.data + self.key_start(key), self.key_ends[key] - self.key_start(key))

    def put(self, Py_ssize_t group, Py_ssize_t entity, int field, bytes value not None):
        """Store one value by hand (for stores that do not speak RESP).

        Args:
            group, entity, field: indexes into `groups`, into `entity_keys(group)` and into the group's `fields`; 0 for
                vectors.
            value: the serialised Value, or Timestamp for the event time; or the vector.
        """
        cdef GroupState* state = self.state(group)
        cdef Cell* cell
        self.finish_keys()
        if not 0 <= entity < state.n_entities or not 0 <= field < state.n_fields:
            raise IndexError(f"entity {entity}, field {field} of {state.n_entities} x {state.n_fields}")
        cell = &self.cells[state.first_cell + entity * state.n_fields + field]
        cell.offset = self.replies.size
        cell.size = PyBytes_GET_SIZE(value)
        self.replies.put_bytes(value)

    def unpack_vectors(self):
        """Look at the vectors that the store has read; without this, nothing in them counts.

        Returns:
            (group, entity) of each that is not there, as indexes into `groups` and into `entity_keys(group)`; its features
            are NOT_FOUND.
        Raises:
            DecodeError: a vector is not sound; names the key.
            VectorVersionError: it is in another version of the format.
            VectorStaleError: it is of another layout.
        """
        cdef Py_ssize_t g
        cdef list missing = []
        self.finish_keys()
        for g in range(self.n_groups):
            look_at_vectors(self, g, self.states[g].n_entities)
            find_missing(self, g, missing)
        forget_looks(self)
        return missing

    # --- answer side ---

    cdef inline Py_ssize_t entity_at(self, const GroupState* state, Py_ssize_t row) noexcept:
        if state.constant:
            return 0
        return state.entity_of_row[row] if state.entity_of_row is not NULL else row

    cdef inline Cell* cell_at(self, const GroupState* state, Py_ssize_t row, int field) noexcept:
        return &self.cells[state.first_value + self.entity_at(state, row) * state.n_values + field]

    cdef int64_t event_time(self, Slot slot, Py_ssize_t row) except? -1:
        """Microseconds since the epoch; 0 where the store has none."""
        cdef Cell* cell
        if slot.group < 0:
            return 0
        if self.states[slot.group].places is not NULL:
            return vector_time(self, slot, row)
        cell = self.cell_at(&self.states[slot.group], row, slot.event_time)
        if cell.size <= 0:
            return 0
        try:
            return read_timestamp(self.replies.data + cell.offset, cell.size)
        except DecodeError as exc:
            exc.reason = f"event time: {exc.reason}"
            raise self.located(exc, slot, row) from None

    cdef bint is_expired(self, Slot slot, Py_ssize_t row) except -1:
        cdef int64_t event_time
        if slot.ttl == 0 or slot.group < 0:
            return False
        event_time = self.event_time(slot, row)
        return event_time != 0 and self.now - event_time > slot.ttl

    cdef object located(self, exc, Slot slot, Py_ssize_t row):
        """The DecodeError with the place it happened at."""
        cdef GroupState* state
        if exc.field is not None:
            return exc
        if slot.group < 0 or self.given is not NULL:
            return DecodeError(exc.reason, exc.offset, field=slot.label, key=f"of row {row}")
        state = &self.states[slot.group]
        key = self.key_bytes(state.first_key + self.entity_at(state, row))
        return DecodeError(exc.reason, exc.offset, field=slot.label, key=key.hex())

    def set_computed(self, str name not None, list values not None):
        """Give the values of an on-demand feature view's output: one serialised Value per row."""
        if len(values) != self.n_rows:
            raise ValueError(f"{name}: {len(values)} values for {self.n_rows} rows")
        for value in values:
            if type(value) is not bytes:
                raise TypeError(f"{name}: serialised values must be bytes")
        self.keep_computed(name, values)

    cdef int keep_computed(self, str name, list values) except -1:
        if self.computed is None:
            self.computed = {}
        self.computed[name] = values
        return 0

    def set_plain(self, str name not None, list values not None, uint32_t value_type):
        """Do what `set_computed` does with values that need no conversion, which most answers never serialise.

        Args:
            values: Python values; a copy is kept.
            value_type: their declared ValueType.
        Returns:
            Whether all are null or exactly what `decode_value` returns for the type; if not, nothing was done.
        """
        if len(values) != self.n_rows:
            raise ValueError(f"{name}: {len(values)} values for {self.n_rows} rows")
        return self.keep_plain(name, values, value_type)

    cdef bint keep_plain(self, str name, list values, uint32_t value_type) except -1:
        for value in values:
            if value is not None and not is_plain(value, value_type):
                return False
        if self.plain is None:
            self.plain = {}
        self.plain[name] = (values.copy(), value_type)
        return True

    cdef list serialised(self, str name):
        """The serialised Values of an output."""
        if self.computed is None or name not in self.computed:
            values, value_type = self.plain[name]
            self.keep_computed(name, encode_column(values, value_type, name))
        return self.computed[name]


@cython.final
cdef class KeyTable:
    """Finds keys that occurred before: open addressing, at most half full, compared byte by byte."""

    cdef int32_t* slots      # entity + 1; 0 is free
    cdef Py_ssize_t mask

    def __cinit__(self, Py_ssize_t n):
        cdef Py_ssize_t size = 8
        while size < 2 * n:
            size *= 2
        self.mask = size - 1
        self.slots = <int32_t*>PyMem_Calloc(size, sizeof(int32_t))
        if self.slots is NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.slots)

    cdef int32_t find_or_add(self, Batch batch, const GroupState* state, Py_ssize_t start) except -1:
        """Return the entity whose key equals the one at `start`, or the next free entity number, which is then taken."""
        cdef const uint8_t* data = batch.keys.data
        cdef Py_ssize_t size = batch.keys.size - start
        cdef Py_ssize_t at = murmur3(data + start, size) & self.mask
        cdef Py_ssize_t key
        while self.slots[at]:
            key = state.first_key + self.slots[at] - 1
            if (batch.key_ends[key] - batch.key_start(key) == size
                    and memcmp(data + batch.key_start(key), data + start, size) == 0):
                return self.slots[at] - 1
            at = (at + 1) & self.mask
        self.slots[at] = <int32_t>(state.n_entities + 1)
        return <int32_t>state.n_entities


cdef int64_t microseconds_now() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return <int64_t>now.tv_sec * 1000000 + now.tv_nsec // 1000
