# What rows are written by: a WritePlan, and the Table of an Arrow batch that is bound to it.
#
#   batch       join keys, features, event time, created time: the children of a struct array
#   key body    for each join key: u32 type, u32 length, value (see _core_key.pxi)
#
# Functions without the GIL cannot raise, so what debug builds check for None elsewhere is off in them.

cdef enum:
    ROWS_PER_CALL = 64          # Redis serves nobody else meanwhile; more make a row hardly cheaper
    ARGUMENTS_PER_CALL = 4096   # of wide views, which therefore have fewer rows in a call
    ROWS_PER_BLOCK = 256        # of what goes to Python objects

cdef tuple KEY_TYPES = (STRING, BYTES, INT32, INT64, UNIX_TIMESTAMP)


@cython.final
cdef class WritePlan:
    """What does not depend on the rows: how the rows of one feature view are stored.

    Args:
        view: the stored name of the feature view, with its version suffix if it has one.
        join_keys: names of the join keys, in any order; none for entity-less views.
        key_types: the ValueType of each; 0 takes it from the Arrow column.
        features: names.
        feature_types: the ValueType of each.
        project: the project's name.
        version: the `entity_key_serialization_version`.
    Attributes:
        join_keys, key_types: sorted by name: the order of the columns in batches.
        fields: the hash fields, in the order of the features, the event time's last.
        prefix: what all entity keys begin with.
        suffix: what all Redis keys end with.
    Raises:
        ValueError: a name occurs twice, a type cannot be stored, or two features share a field of the hash.
    """

    cdef readonly str view
    cdef readonly tuple join_keys
    cdef readonly tuple key_types
    cdef readonly tuple features
    cdef readonly tuple feature_types
    cdef readonly str project
    cdef readonly int version
    cdef readonly tuple fields
    cdef readonly bytes prefix
    cdef readonly bytes suffix
    cdef readonly Py_ssize_t rows_per_call

    def __init__(self, str view not None, join_keys, key_types, features, feature_types, str project not None,
                 int version=3):
        keys = sorted(zip(join_keys, key_types, strict=True), key=operator.itemgetter(0))
        self.view = view
        self.join_keys = tuple([name for name, _ in keys])
        self.key_types = tuple([value_type for _, value_type in keys])
        self.features = tuple(features)
        self.feature_types = tuple(feature_types)
        self.project = project
        self.version = version
        self.check_types()
        group = KeyGroup(self.join_keys or ("__dummy_id",), self.join_keys, self.key_types,
                         [StoredView(view, self.features, 0)], project, version)
        self.fields, self.prefix, self.suffix = group.fields, group.prefix, group.suffix
        self.check_fields()
        self.rows_per_call = min(ROWS_PER_CALL, max(1, ARGUMENTS_PER_CALL // (len(self.features) + 2)))

    cdef int check_types(self) except -1:
        if len(self.features) != len(self.feature_types):
            raise ValueError(f"{self.view}: {len(self.features)} features, {len(self.feature_types)} types")
        for name, value_type in zip(self.features, self.feature_types):
            try:
                stored_type(value_type)
            except ValueError as exc:
                raise ValueError(f"{self.view}:{name}: {exc}") from None
        for name, value_type in zip(self.join_keys, self.key_types):
            if value_type and value_type not in KEY_TYPES:
                raise ValueError(f"{self.view}: join key {name}: {type_name(value_type)} cannot be a key")
        return 0

    cdef int check_fields(self) except -1:
        for names in (self.join_keys, self.features):
            if len(set(names)) < len(names):
                raise ValueError(f"{self.view}: a name occurs twice in {', '.join(names)}")
        known = {}
        for name, field in zip(self.features, self.fields):
            if field in known:
                raise ValueError(f"{self.view}: the features {known[field]} and {name} share the field {field.hex()}")
            known[field] = name
        return 0

    @property
    def columns(self):
        """The names of a batch's columns; the event time, and the created time where there is one, follow them."""
        return self.join_keys + self.features

    def owns(self, bytes key not None):
        """Whether a Redis key is one of this plan's: these join keys, any values, exactly this project."""
        cdef Cursor c = Cursor(<const uint8_t*>PyBytes_AS_STRING(key), NULL, NULL)
        cdef uint32_t size = 0, ignored = 0
        if not key.startswith(self.prefix):
            return False
        c.at = c.start + PyBytes_GET_SIZE(self.prefix)
        c.end = c.start + PyBytes_GET_SIZE(key)
        try:
            for _ in self.join_keys:
                read_u32(&c, &ignored)
                read_u32(&c, &size)
                take(&c, size)
        except DecodeError:
            return False
        return key[c.at - c.start:] == self.suffix


@cython.final
cdef class Table:
    """The columns of an Arrow batch, bound to a plan: join keys, features, event time, created time."""

    cdef WritePlan plan
    cdef object schema_capsule
    cdef object array_capsule
    cdef const ArrowSchema* schema
    cdef const ArrowArray* array
    cdef Column* columns           # those of the batch, then as many again for the elements of lists
    cdef int64_t* rows             # those that are taken, of the batch
    cdef Py_ssize_t n_rows
    cdef Py_ssize_t n_keys
    cdef Py_ssize_t n_features
    cdef uint32_t* key_types
    cdef bint has_created

    @staticmethod
    cdef Table of(WritePlan plan, batch, bint has_created, rows, bint whole=True):
        """Bind the join keys; unless `whole`, nothing else need be there."""
        cdef Table self = Table.__new__(Table)
        self.plan = plan
        self.n_keys = len(plan.join_keys)
        self.n_features = len(plan.features)
        self.has_created = has_created
        self.schema_capsule, self.array_capsule = batch.__arrow_c_array__()
        self.schema = <const ArrowSchema*>PyCapsule_GetPointer(self.schema_capsule, b"arrow_schema")
        self.array = <const ArrowArray*>PyCapsule_GetPointer(self.array_capsule, b"arrow_array")
        self.check_shape(whole)
        self.allocate()
        self.take_rows(rows)
        self.bind_keys()
        return self

    def __dealloc__(self):
        PyMem_Free(self.columns)
        PyMem_Free(self.rows)
        PyMem_Free(self.key_types)

    cdef Py_ssize_t n_columns(self) noexcept:
        return self.n_keys + self.n_features + 1 + self.has_created

    cdef int check_shape(self, bint whole) except -1:
        cdef Py_ssize_t i, n = self.n_columns() if whole else self.n_keys
        if self.schema.release is NULL or self.array.release is NULL:
            raise ValueError("the Arrow batch was released")
        if format_of(self.schema) != "+s" or self.schema.n_children != self.array.n_children:
            raise ValueError("the Arrow batch is no struct")
        if self.array.n_children < n or whole and self.array.n_children > n:
            raise ValueError(f"{self.plan.view}: {n} columns expected, the Arrow batch has {self.array.n_children}")
        for i in range(n):
            if self.array.children[i].length < self.array.offset + self.array.length:
                misfit(self.name_of(i), f"{self.array.children[i].length} rows, the batch has {self.array.length}")
        return 0

    cdef str name_of(self, Py_ssize_t i):
        if i < self.n_keys + self.n_features:
            return self.plan.columns[i]
        name = self.schema.children[i].name
        return (<bytes>name).decode("utf-8", "replace") if name is not NULL and name[0] else "event time"

    cdef int allocate(self) except -1:
        cdef Py_ssize_t i, n = self.n_columns()
        self.columns = <Column*>PyMem_Calloc(2 * n, sizeof(Column))
        self.key_types = <uint32_t*>PyMem_Calloc(self.n_keys + 1, sizeof(uint32_t))
        if self.columns is NULL or self.key_types is NULL:
            raise MemoryError
        for i in range(n):
            self.columns[i].items = &self.columns[n + i]
        return 0

    cdef int take_rows(self, rows) except -1:
        cdef Py_ssize_t i
        cdef Py_buffer view
        self.n_rows = self.array.length
        if rows is not None:
            PyObject_GetBuffer(rows, &view, PyBUF_SIMPLE)
            self.n_rows = view.len // 8
        self.rows = <int64_t*>PyMem_Malloc((self.n_rows + 1) * 8)
        if self.rows is NULL:
            raise MemoryError
        if rows is None:
            for i in range(self.n_rows):
                self.rows[i] = i
            return self.check_rows()
        memcpy(self.rows, view.buf, 8 * self.n_rows)
        PyBuffer_Release(&view)
        return self.check_rows()

    cdef int check_rows(self) except -1:
        cdef Py_ssize_t i
        cdef int64_t at
        cdef const uint8_t* validity = NULL
        if self.array.n_buffers and self.array.null_count:
            validity = <const uint8_t*>self.array.buffers[0]
        for i in range(self.n_rows):
            at = self.rows[i]
            if not 0 <= at < self.array.length:
                raise IndexError(f"row {at} of a batch of {self.array.length}")
            at += self.array.offset
            if validity is not NULL and not validity[at >> 3] >> (at & 7) & 1:
                raise EncodeError("the whole row is null", column=self.name_of(0), row=self.rows[i])
        return 0

    cdef int bind(self, Py_ssize_t i, uint32_t value_type) except -1:
        return bind_column(&self.columns[i], self.schema.children[i], self.array.children[i], value_type,
                           self.name_of(i), self.array.offset, self.rows, self.n_rows)

    cdef int refuse_nulls(self, Py_ssize_t i) except -1:
        cdef Py_ssize_t row
        cdef const Column* c = &self.columns[i]
        if c.validity is NULL:
            return 0
        for row in range(self.n_rows):
            if not is_valid(c, self.rows[row] + c.offset):
                misfit(self.name_of(i), "the value is null", self.rows[row])
        return 0

    # --- keys ---

    cdef int bind_keys(self) except -1:
        cdef Py_ssize_t i
        for i in range(self.n_keys):
            self.key_types[i] = self.plan.key_types[i] or self.type_of_key(i)
            self.bind(i, self.key_types[i])
            self.refuse_nulls(i)
            if self.key_types[i] == INT64 and self.plan.version < 2:
                self.check_narrow(i)
        return 0

    cdef uint32_t type_of_key(self, Py_ssize_t i) except 0:
        found = format_of(self.schema.children[i])
        for value_type in KEY_TYPES:
            if found in FORMATS[value_type]:
                return value_type
        misfit(self.name_of(i), f"Arrow type {found!r} cannot be a key")

    cdef int check_narrow(self, Py_ssize_t i) except -1:
        cdef Py_ssize_t row
        cdef int64_t value
        for row in range(self.n_rows):
            value = integer_at(&self.columns[i], self.rows[row] + self.columns[i].offset)
            if not INT32_MIN <= value <= INT32_MAX:
                misfit(self.name_of(i), f"{value} does not fit the 4 bytes that key version {self.plan.version} has",
                       self.rows[row])
        return 0

    @cython.nonecheck(False)
    cdef int64_t body_size(self, int64_t row) noexcept nogil:
        """Bytes of the values in an entity key."""
        cdef Py_ssize_t i
        cdef int64_t at, size = 0
        cdef const Column* c
        for i in range(self.n_keys):
            c = &self.columns[i]
            at = row + c.offset
            if c.form == TEXT:
                size += 8 + offset_at(c, at + 1) - offset_at(c, at)
            else:
                size += 8 + self.key_width(i)
        return size

    @cython.nonecheck(False)
    cdef inline int key_width(self, Py_ssize_t i) noexcept nogil:
        return 4 if self.key_types[i] == INT32 or self.key_types[i] == INT64 and self.plan.version < 2 else 8

    @cython.nonecheck(False)
    cdef uint8_t* write_body(self, uint8_t* p, int64_t row) noexcept nogil:
        """Type, length and bytes of each value: see _core_key.pxi."""
        cdef Py_ssize_t i
        cdef int64_t at, start, value
        cdef uint32_t size
        cdef const Column* c
        for i in range(self.n_keys):
            c = &self.columns[i]
            at = row + c.offset
            p = write_u32(p, self.key_types[i])
            if c.form == TEXT:
                start = offset_at(c, at)
                size = <uint32_t>(offset_at(c, at + 1) - start)
                p = write_bytes(write_u32(p, size), c.data + start, size)
                continue
            value = integer_at(c, at)
            size = self.key_width(i)
            p = write_u32(write_u32(p, size), <uint32_t>value)
            if size == 8:
                p = write_u32(p, <uint32_t>(<uint64_t>value >> 32))
        return p

    # --- times ---

    cdef int bind_time(self, Py_ssize_t i) except -1:
        found = format_of(self.schema.children[i])
        if found not in TICKS:
            misfit(self.name_of(i), f"a timestamp expected, got Arrow type {found!r}")
        return self.bind(i, UNIX_TIMESTAMP)

    @cython.nonecheck(False)
    cdef inline const Column* event_times(self) noexcept nogil:
        return &self.columns[self.n_keys + self.n_features]

    @cython.nonecheck(False)
    cdef inline const Column* created_times(self) noexcept nogil:
        return &self.columns[self.n_keys + self.n_features + 1]

    cdef int bind_event_times(self) except -1:
        """Bind the event times; none may be null, or lie outside years 1 to 9999."""
        cdef Py_ssize_t row, i = self.n_keys + self.n_features
        cdef int64_t seconds
        self.bind_time(i)
        self.refuse_nulls(i)
        for row in range(self.n_rows):
            seconds = integer_at(&self.columns[i], self.rows[row] + self.columns[i].offset)
            if not FIRST_SECOND <= seconds <= LAST_SECOND:
                misfit(self.name_of(i), f"{seconds} s from the epoch lie outside years 1 to 9999", self.rows[row])
        return 0


cdef inline uint8_t* write_u32(uint8_t* p, uint32_t value) noexcept nogil:
    p[0] = <uint8_t>value
    p[1] = <uint8_t>(value >> 8)
    p[2] = <uint8_t>(value >> 16)
    p[3] = <uint8_t>(value >> 24)
    return p + 4


cdef inline int64_t ticks_at(const Column* c, int64_t at) noexcept nogil:
    return (<const int64_t*>c.data)[at]


cdef inline int64_t micros_at(const Column* c, int64_t row) noexcept nogil:
    """A time in microseconds, digits below them dropped, as Feast does."""
    cdef int64_t at = row + c.offset
    if c.divisor == 1000000000:
        return floor_div(ticks_at(c, at), 1000)
    return ticks_at(c, at) * (1000000 // c.divisor)


cdef uint8_t* write_times(uint8_t* p, const Column* c, const int64_t* rows, Py_ssize_t n) noexcept nogil:
    """The frames of serialised Timestamps."""
    cdef Py_ssize_t i
    cdef int64_t micros, seconds, nanos
    cdef int size
    for i in range(n):
        micros = micros_at(c, rows[i])
        seconds = floor_div(micros, 1000000)
        nanos = (micros - seconds * 1000000) * 1000
        size = (1 + varint_size(<uint64_t>seconds) if seconds else 0) + (1 + varint_size(nanos) if nanos else 0)
        p = write_head(p, size)
        if seconds:
            p[0] = 0x08
            p = write_varint(p + 1, <uint64_t>seconds)
        if nanos:
            p[0] = 0x10
            p = write_varint(p + 1, nanos)
        p = write_line_end(p)
    return p


# --- a growing buffer that needs no GIL ------------------------------------------------------------------------------

cdef struct Frames:
    uint8_t* data
    int64_t size
    int64_t capacity


cdef int make_room(Frames* f, int64_t n) noexcept nogil:
    """Let the next `n` bytes be free. Returns -1 without memory."""
    cdef int64_t capacity
    cdef uint8_t* data
    if f.capacity - f.size >= n:
        return 0
    capacity = 2 * f.capacity if 2 * f.capacity > f.size + n else f.size + n
    data = <uint8_t*>realloc(f.data, capacity)
    if data is NULL:
        return -1
    f.data = data
    f.capacity = capacity
    return 0


cdef int put_span(Frames* f, Span source) noexcept nogil:
    if make_room(f, source.size) < 0:
        return -1
    memcpy(f.data + f.size, source.data, source.size)
    f.size += source.size
    return 0
