# Feast's precomputed vectors: one feast.core.PrecomputedFeatureVector per entity key, as the BYTES of a Value in its hash.
#
#   message      repeated 1 full name of a feature, repeated 2 Value (as many; unset: null or absent),
#                repeated 3 {1 name of a view, 2 Timestamp}, 4 Timestamp of when it was built
#
# On reading, the Values and Timestamps become cells, as if each had come from its own field of the hash. Feast does not say
# whether a view has no row: it has none if its time is the epoch, and all of its values are unset.

cdef Py_ssize_t expect_feast(Batch batch, Py_ssize_t n_cells) noexcept:
    """Give the values of Feast's vectors cells behind the first `n_cells`; return how many there are then."""
    cdef Py_ssize_t g
    cdef KeyGroup group
    cdef GroupState* state
    for g in range(batch.n_groups):
        group = <KeyGroup>batch.plan.groups[g]
        if group.feast is not None:
            state = &batch.states[g]
            state.first_value, state.n_values = n_cells, group.n_fields
            n_cells += (state.n_entities + batch.n_unkeyed) * group.n_fields
    return n_cells


@cython.final
cdef class FeastReader:
    """Turns the vectors of one group of a batch into cells."""

    cdef Batch batch
    cdef KeyGroup group
    cdef FeastNames names
    cdef GroupState* state
    cdef Span block               # of names, that `fields` is for
    cdef int32_t* fields
    cdef int32_t* other_fields    # for names in another order than usual; NULL so far
    cdef Cell* cells              # of the entity at work
    cdef Py_ssize_t next_view     # whose time stands behind the one that was taken last, usually

    def __cinit__(self, Batch batch, Py_ssize_t g):
        self.batch = batch
        self.group = <KeyGroup>batch.plan.groups[g]
        self.names = self.group.feast
        self.state = &batch.states[g]
        self.block, self.fields = span_of(self.names.block), self.names.fields

    def __dealloc__(self):
        PyMem_Free(self.other_fields)

    cdef int read_until(self, Py_ssize_t until) except -1:
        """Read the vectors that were not read yet, up to that of an entity."""
        cdef Py_ssize_t entity
        for entity in range(self.state.n_looked, until):
            self.cells = &self.batch.cells[self.state.first_value + entity * self.state.n_values]
            self.read_vector(entity)
            self.state.n_looked = entity + 1
        return 0

    cdef int read_vector(self, Py_ssize_t entity) except -1:
        """Read an entity's vector, if there is one."""
        cdef const Cell* cell = &self.batch.cells[self.state.first_cell + entity]
        cdef Py_ssize_t i
        cdef const uint8_t* p
        cdef Cursor c
        cdef Member m
        for i in range(self.state.n_values):
            self.cells[i].size = -1
        if cell.size <= 0:
            return 0
        p = self.batch.replies.data + cell.offset
        c = Cursor(p, p, p + cell.size)
        try:
            read_member(&c, &m, 0)
            if m.number != BYTES:
                fail(&c, f"{type_name(m.number)} is stored where a vector should be")
            self.read(&m.body)
        except (DecodeError, VectorStaleError) as exc:
            raise self.located(exc, entity) from None
        return 0

    cdef object located(self, exc, Py_ssize_t entity):
        return vector_error(exc, self.group, self.batch.key_bytes(self.state.first_key + entity))

    cdef int read(self, Cursor* c) except -1:
        """Set the cells of a vector. The names come first, which no writer does otherwise."""
        cdef uint64_t tag = 0, n = 0
        cdef Py_ssize_t value = 0
        cdef Cursor part
        self.take_names(c)
        while c.at < c.end:
            value = self.take_short_values(c, value)
            self.take_short_times(c)
            if c.at == c.end:
                break
            take_tag(c, &tag)
            if tag != (2 << 3 | 2) and tag != (3 << 3 | 2):
                self.skip(c, tag)
                continue
            take_size(c, &n)
            part = Cursor(c.start, take(c, n), c.at)
            if tag >> 3 == 3:
                self.take_time(&part)
                continue
            if value == self.names.n_names:
                fail(c, f"more than the {value} values that there are names for")
            self.cells[self.fields[value]] = self.cell_of(&part)
            value += 1
        if value < self.names.n_names:
            fail(c, f"{value} values for {self.names.n_names} names")
        return self.forget_views_without_rows()

    cdef inline Py_ssize_t take_short_values(self, Cursor* c, Py_ssize_t value) noexcept:
        """Set the cells of values that are shorter than 128 bytes, which nearly all are, up to something else; return the
        number of the value that comes next."""
        # Copies, since the compiler must take it that writing a cell changes what `self` has.
        cdef Py_ssize_t n_names = self.names.n_names
        cdef const int32_t* fields = self.fields
        cdef const uint8_t* replies = self.batch.replies.data
        cdef Cell* cells = self.cells
        cdef const uint8_t* p = c.at
        cdef const uint8_t* end = c.end
        while value < n_names and end - p >= 2 and p[0] == (2 << 3 | 2) and p[1] < 0x80 and p[1] <= end - p - 2:
            cells[fields[value]] = Cell(p + 2 - replies, p[1])
            p += 2 + p[1]
            value += 1
        c.at = p
        return value

    cdef inline void take_short_times(self, Cursor* c) noexcept:
        """Set the cells of event times that stand where they usually do, up to something else."""
        cdef const uint8_t* replies = self.batch.replies.data
        cdef const uint8_t* p = c.at
        cdef const uint8_t* end = c.end
        cdef const ViewHead* head
        cdef Py_ssize_t size
        while end - p >= 2 and p[0] == (3 << 3 | 2) and p[1] < 0x80 and p[1] <= end - p - 2:
            head = &self.names.heads[self.next_view]
            size = p[1] - head.size - 1    # of the time
            if size < 0 or head.name is NULL or p[2 + head.size] != size or memcmp(p + 2, head.bytes, head.size) != 0:
                break
            p += 2 + head.size + 1
            self.cells[head.field] = Cell(p - replies, size)
            p += size
            self.next_view = self.next_view + 1 if self.next_view + 1 < self.names.n_views else 0
        c.at = p

    cdef int skip(self, Cursor* c, uint64_t tag) except -1:
        if tag >> 3 <= 3:
            fail(c, f"field {tag >> 3} with wire type {tag & 7} is out of place")
        return skip_field(c, tag & 7)

    cdef inline Cell cell_of(self, const Cursor* part) noexcept:
        return Cell(part.at - self.batch.replies.data, part.end - part.at)

    cdef int take_names(self, Cursor* c) except -1:
        """Step over the names, and let `fields` say what the values behind them are."""
        cdef uint64_t tag = 0, n = 0
        cdef Cursor ahead = c[0], behind
        if c.end - c.at > self.block.size and memcmp(c.at, self.block.data, self.block.size) == 0:
            c.at += self.block.size
            if c.at[0] != (1 << 3 | 2):
                return 0
            c[0] = ahead    # there are more names
        names = []
        while ahead.at < ahead.end:
            behind = ahead
            take_tag(&ahead, &tag)
            if tag != (1 << 3 | 2):
                ahead = behind
                break
            take_size(&ahead, &n)
            names.append(PyBytes_FromStringAndSize(<const char*>take(&ahead, n), n))
        self.remap(names)
        self.block = Span(c.at, ahead.at - c.at)
        c.at = ahead.at
        return 0

    cdef int remap(self, list names) except -1:
        """Let `fields` be those of names in another order than usual."""
        cdef Py_ssize_t i
        fields = dict(self.names.names)
        if len(names) != self.names.n_names or set(names) != fields.keys():
            raise VectorStaleError("", "", names_difference(fields, names))
        if self.other_fields is NULL:
            self.other_fields = <int32_t*>PyMem_Calloc(self.names.n_names + 1, sizeof(int32_t))
            if self.other_fields is NULL:
                raise MemoryError
        for i in range(self.names.n_names):
            self.other_fields[i] = fields[names[i]]
        self.fields = self.other_fields
        return 0

    cdef int take_time(self, Cursor* part) except -1:
        """Set the cell of a view's event time; views that nobody asked for are passed over."""
        cdef Cursor time
        cdef Py_ssize_t view = self.find_view(part, &time)
        if view < self.names.n_views:
            self.cells[self.names.heads[view].field] = self.cell_of(&time)
            self.next_view = view + 1 if view + 1 < self.names.n_views else 0
        return 0

    cdef Py_ssize_t find_view(self, Cursor* part, Cursor* time) except -1:
        """Return which view's time a part is, `n_views` if it is none's."""
        cdef Cursor name
        cdef const ViewHead* head
        cdef Py_ssize_t view
        read_parts(part, &name, time)
        for view in range(self.names.n_views):
            head = &self.names.heads[view]
            if head.name_size == name.end - name.at and memcmp(head.name, name.at, head.name_size) == 0:
                return view
        return self.names.n_views

    cdef int forget_views_without_rows(self) except -1:
        cdef const ViewHead* head = self.names.heads
        cdef Py_ssize_t i
        for i in range(self.names.n_views):
            if self.cells[head[i].field].size <= 0:
                self.forget_if_without_row(head[i].field)
        return 0

    cdef int forget_if_without_row(self, int32_t event_time) except -1:
        """Forget a view, whose time is the epoch, if none of its values is set."""
        cdef StoredView view
        cdef int i
        for view in self.group.views:
            if view.event_time != event_time:
                continue
            for i in range(view.start, event_time):
                if self.cells[i].size > 0:
                    return 0
            for i in range(view.start, event_time + 1):
                self.cells[i].size = -1
        return 0


cdef str names_difference(dict fields, list names):
    lacking = sorted([name.decode(errors="replace") for name in fields.keys() - set(names)])
    more = sorted([name.decode(errors="replace") for name in set(names) - fields.keys()])
    parts = [f"it lacks {', '.join(lacking)}"] * bool(lacking) + [f"it has {', '.join(more)} as well"] * bool(more)
    return "; ".join(parts) or "a name is in it twice"


def pack_feast(Batch batch not None, Py_ssize_t group, names, views, int64_t built_at):
    """Pack what the hashes hold into Feast's vectors.

    Args:
        batch: filled.
        group: an index into its groups, one that is read from hashes.
        names: (full name, index of its field) of each feature, in the order of the service.
        views: (name, index of its event time's field) of each view.
        built_at: in microseconds since the epoch.
    Returns:
        (entity key, serialised PrecomputedFeatureVector) of each entity, as Feast makes them also of those without rows.
    """
    cdef GroupState* state = batch.state(group)
    cdef FeastNames expected = FeastNames(names, views, state.n_fields)
    cdef Py_ssize_t entity
    cdef Cell* cells
    cdef Sink out = Sink.of(1024)
    cdef list result = []
    if state.n_values != state.n_fields or state.places is not NULL:
        raise ValueError(f"group {group} is read from vectors")
    for entity in range(state.n_entities):
        cells = &batch.cells[state.first_cell + entity * state.n_fields]
        out.size = 0
        put_feast(out, batch, expected, cells, built_at)
        result.append((batch.key_bytes(state.first_key + entity), out.finish()))
    return result


cdef int put_feast(Sink out, Batch batch, FeastNames expected, const Cell* cells, int64_t built_at) except -1:
    cdef Sink part = Sink.of(64)
    out.put_bytes(expected.block)
    for _, field in expected.names:
        put_cell_field(out, 2, batch, &cells[<Py_ssize_t>field])
    for view, field in expected.views:
        part.size = 0
        part.put_field(1, PyBytes_AS_STRING(view), PyBytes_GET_SIZE(view))
        put_cell_field(part, 2, batch, &cells[<Py_ssize_t>field])
        out.put_message(3, part)
    part.size = 0
    put_timestamp(part, built_at)
    return out.put_message(4, part)


cdef int put_cell_field(Sink out, uint64_t number, Batch batch, const Cell* cell) except -1:
    """Append a field with the bytes of a cell; empty if nothing is stored."""
    if cell.size <= 0:
        return out.put_field(number, NULL, 0)
    return out.put_field(number, batch.replies.data + cell.offset, cell.size)
