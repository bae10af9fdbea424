# Packed vectors (see _core_layout.pxi) in the making: from filled Batches and from rows; and how two become one.
#
#   call     EVALSHA sha n+1 | marker key, n keys of vectors | marker, key ttl, source, the layout's head, u16 bitmap size
#            of each segment | n vectors
#   reply    "*" count CRLF, then ":" number CRLF each: -1 alone if the marker is another one, else the 1-based numbers of
#            vectors that have to be built from the hash

cdef enum:
    VECTORS_PER_CALL = 64     # Redis serves nobody else meanwhile


@cython.final
cdef class EncodedVectors:
    """Packed vectors on their way to a store. Made by `pack_batch` and `pack_rows`; not thread-safe.

    Attributes:
        layout: the VectorLayout.
        n_rows: the number of vectors.
        applied: vectors that the store is known to have merged.
        handed_out, answered: calls.
        marker_changed: the store has another marker, so that from some call on nothing was written.
        unresolved: the rows whose vectors have to be built from the hash.
    """

    cdef readonly VectorLayout layout
    cdef readonly Py_ssize_t n_rows
    cdef readonly Py_ssize_t applied
    cdef readonly Py_ssize_t handed_out
    cdef readonly Py_ssize_t answered
    cdef readonly bint marker_changed
    cdef readonly list unresolved
    cdef Sink keys, key_ends      # the entity keys, and where each ends (Py_ssize_t)
    cdef Sink vectors, ends
    cdef Sink replies
    cdef Py_ssize_t sent          # vectors

    @staticmethod
    cdef EncodedVectors of(VectorLayout layout, Py_ssize_t n):
        cdef EncodedVectors self = EncodedVectors.__new__(EncodedVectors)
        self.layout = layout
        self.unresolved = []
        self.keys, self.key_ends = Sink.of(32 * n + 64), Sink.of(8 * n + 8)
        self.vectors, self.ends = Sink.of(128 * n + 64), Sink.of(8 * n + 8)
        self.replies = Sink.of(64)
        return self

    def __len__(self):
        return self.n_rows

    cdef int end_row(self) except -1:
        """The key and the vector that were put last are those of one row."""
        self.key_ends.put(&self.keys.size, sizeof(Py_ssize_t))
        self.ends.put(&self.vectors.size, sizeof(Py_ssize_t))
        self.n_rows += 1
        return 0

    cdef inline Span key_span(self, Py_ssize_t row) noexcept:
        cdef const Py_ssize_t* ends = <const Py_ssize_t*>self.key_ends.data
        cdef Py_ssize_t start = ends[row - 1] if row else 0
        return Span(self.keys.data + start, ends[row] - start)

    cdef inline Span vector_span(self, Py_ssize_t row) noexcept:
        cdef const Py_ssize_t* ends = <const Py_ssize_t*>self.ends.data
        cdef Py_ssize_t start = ends[row - 1] if row else 0
        return Span(self.vectors.data + start, ends[row] - start)

    def entity_keys(self):
        """Return the entity keys of all rows, without prefix and project."""
        return [bytes_of_span(self.key_span(row)) for row in range(self.n_rows)]

    def entity_key(self, Py_ssize_t row):
        """Return the entity key of a row."""
        if not 0 <= row < self.n_rows:
            raise IndexError(f"row {row} of {self.n_rows}")
        return bytes_of_span(self.key_span(row))

    def items(self):
        """Yield (entity key, vector) of each row."""
        cdef Py_ssize_t row
        for row in range(self.n_rows):
            yield bytes_of_span(self.key_span(row)), bytes_of_span(self.vector_span(row))

    # --- Redis ---

    def commands(self, bytes sha not None, bytes prefix not None, bytes marker_key not None, bytes marker not None,
                 int64_t key_ttl=0, int source=0, Py_ssize_t limit=1 << 20):
        """Return the next calls in RESP, at least one and about `limit` bytes, or None when all rows were handed out.

        Args:
            sha: names the script, in hexadecimal.
            prefix: what the keys of vectors begin with.
            marker_key, marker: nothing is written unless this is what is stored there.
            key_ttl: seconds that vectors live on from a write; 0 leaves them alone.
            source: what they were made of, see `merge_vectors`.
            limit: in bytes.
        """
        cdef Py_ssize_t n
        cdef Sink out
        if self.sent == self.n_rows:
            return None
        sizes = b"".join([size.to_bytes(2, "little") for size in self.layout.bitmap_sizes])
        constants = (marker, b"%d" % key_ttl, b"%d" % source, self.layout.head, sizes)
        cdef bytes after_keys = b"".join([framed(item) for item in constants])
        out = Sink.of(min(limit, self.vectors.size + self.keys.size) + 4096)
        while self.sent < self.n_rows and (out.size < limit or out.size == 0):
            n = min(VECTORS_PER_CALL, self.n_rows - self.sent)
            out.put_bytes(b"*%d\r\n$7\r\nEVALSHA\r\n" % (9 + 2 * n) + framed(sha) + framed(b"%d" % (n + 1)))
            out.put_bytes(framed(marker_key))
            self.put_keys(out, n, span_of(prefix))
            out.put_bytes(after_keys)
            self.put_vectors(out, n)
            self.sent += n
            self.handed_out += 1
        return out.finish()

    cdef int put_keys(self, Sink out, Py_ssize_t n, Span prefix) except -1:
        cdef Py_ssize_t row
        cdef Span key
        cdef uint8_t* p
        for row in range(self.sent, self.sent + n):
            key = self.key_span(row)
            p = out.room(CELL_ROOM + prefix.size + key.size)
            p = write_bytes(write_head(p, prefix.size + key.size), prefix.data, prefix.size)
            out.size = write_line_end(write_bytes(p, key.data, key.size)) - out.data
        return 0

    cdef int put_vectors(self, Sink out, Py_ssize_t n) except -1:
        cdef Py_ssize_t row
        cdef Span vector
        cdef uint8_t* p
        for row in range(self.sent, self.sent + n):
            vector = self.vector_span(row)
            p = write_head(out.room(CELL_ROOM + vector.size), vector.size)
            out.size = write_line_end(write_bytes(p, vector.data, vector.size)) - out.data
        return 0

    def rewind(self):
        """Forget all calls handed out and replies taken, to write again: merging a vector twice changes nothing."""
        self.sent = self.handed_out = self.answered = self.applied = 0
        self.marker_changed = False
        self.unresolved = []
        self.replies.size = 0

    @property
    def first_unanswered(self):
        """The row that the next call to be answered begins with."""
        return self.answered * VECTORS_PER_CALL

    def feed(self, data, Py_ssize_t size=-1):
        """Take bytes of replies; return True when all calls handed out are answered.

        Args:
            data: bytes, or a bytearray of which the first `size` bytes count.
        Raises:
            UnusualReply: a reply is not an array of numbers, but an error for instance; the connection is of no use
                afterwards.
        """
        cdef Py_ssize_t at = 0, after
        self.replies.put_bytes(bytes(data) if size < 0 else bytes(data[:size]))
        while self.answered < self.handed_out:
            after = self.take_reply(at)
            if after == 0:
                break
            at = after
        if self.answered == self.handed_out and at < self.replies.size:
            self.unusual(at)
        memmove(self.replies.data, self.replies.data + at, self.replies.size - at)
        self.replies.size -= at
        return self.answered == self.handed_out

    cdef Py_ssize_t take_reply(self, Py_ssize_t start) except -1:
        """Take one reply; return the offset behind it, or 0 when bytes are missing."""
        cdef int64_t count = 0, number = 0, i
        cdef Py_ssize_t first = self.first_unanswered, n = min(VECTORS_PER_CALL, self.n_rows - first)
        cdef Py_ssize_t at = read_length(self.replies.data, start, self.replies.size, c'*', &count)
        cdef list rows = []
        if at < 0 or count < 0 or count > n:
            self.unusual(start)
        for i in range(count if at else 0):
            at = read_length(self.replies.data, at, self.replies.size, c':', &number)
            if at == 0:
                break
            if at < 0 or number == 0 or number > n or number < 0 and (number != -1 or count != 1):
                self.unusual(start)
            rows.append(first + number - 1)
        if at == 0:
            return 0
        self.answered += 1
        if number == -1:
            self.marker_changed = True
        else:
            self.applied += n
            self.unresolved.extend(rows)
        return at

    cdef int unusual(self, Py_ssize_t at) except -1:
        cdef bytes rest = PyBytes_FromStringAndSize(<char*>self.replies.data + at, self.replies.size - at)
        row = self.first_unanswered
        raise UnusualReply(rest, bytes_of_span(self.key_span(row)) if row < self.n_rows else b"")


cdef inline bytes bytes_of_span(Span span):
    return PyBytes_FromStringAndSize(<const char*>span.data, span.size)


# --- vectors in the making -------------------------------------------------------------------------------------------

cdef Py_ssize_t begin_vector(Sink out, VectorLayout layout) except -1:
    """Append what comes before the segments, all of which are empty so far; return where the vector begins."""
    cdef Py_ssize_t start = out.size, size = layout.first_segment_at()
    memcpy(out.room(size), PyBytes_AS_STRING(layout.head), VECTOR_HEAD)
    out.size += size
    end_segments(out, layout, start, 0)
    return start


cdef int end_segments(Sink out, VectorLayout layout, Py_ssize_t start, Py_ssize_t segment) noexcept:
    """Let this segment, and those behind it, end here."""
    cdef Py_ssize_t i
    for i in range(segment, layout.n_segments):
        write_u32(out.data + start + VECTOR_HEAD + 4 * i, <uint32_t>(out.size - start))
    return 0


cdef Py_ssize_t begin_segment(Sink out, const SegmentShape* shape, int64_t event_time) except -1:
    """Append a segment without its variable-width values, where all is zero; return where it begins."""
    cdef Py_ssize_t start = out.size
    cdef uint8_t* p = out.room(shape.body_at)
    memset(p, 0, shape.body_at)
    write_u32(write_u32(p, <uint32_t>event_time), <uint32_t>(<uint64_t>event_time >> 32))
    out.size += shape.body_at
    return start


cdef inline void end_value(Sink out, Py_ssize_t segment, const SegmentShape* shape, const VectorPlace* place) noexcept:
    """A value of variable width, or nothing in its place, ends here."""
    if place.kind != FIXED_VALUE:
        write_u32(out.data + segment + place.at, <uint32_t>(out.size - segment - shape.body_at))


cdef inline void set_null(Sink out, Py_ssize_t segment, const VectorPlace* place, bint absent) noexcept:
    out.data[segment + place.bitmap] |= place.mask
    if absent:
        out.data[segment + place.absent] |= place.mask


# --- from a Batch ----------------------------------------------------------------------------------------------------

def pack_batch(VectorLayout layout not None, Batch batch not None, Py_ssize_t group):
    """Pack whole vectors from what the hashes hold.

    Args:
        layout: the VectorLayout.
        batch: filled; the group has all views of the layout, by their stored names, with all their features.
        group: its index.
    Returns:
        EncodedVectors, without the entities that no view has a row of.
    Raises:
        EncodeError: a stored value is not of the layout's type; names the entity key, the view and the feature.
        ValueError: a view or feature of the layout is not in the group, or that was read from vectors itself.
    """
    cdef GroupState* state = batch.state(group)
    cdef EncodedVectors result = EncodedVectors.of(layout, state.n_entities)
    cdef BatchPacker packer = BatchPacker(layout, batch, group)
    cdef Py_ssize_t entity
    for entity in range(state.n_entities):
        if packer.put(result.vectors, entity):
            key = batch.key_bytes(state.first_key + entity)
            result.keys.put_bytes(key)
            result.end_row()
    return result


@cython.final
cdef class BatchPacker:
    """Packs the entities of one group of a Batch."""

    cdef VectorLayout layout
    cdef Batch batch
    cdef GroupState* state
    cdef int32_t* fields          # in the group: that of each of the layout's features
    cdef int32_t* times           # and the event time of each segment
    cdef Sink number              # scratch

    def __cinit__(self, VectorLayout layout, Batch batch, Py_ssize_t group):
        cdef StoredView view
        self.layout, self.batch, self.state = layout, batch, batch.state(group)
        self.number = Sink.of(16)
        self.fields = <int32_t*>PyMem_Calloc(len(layout.indexes) + 1, sizeof(int32_t))
        self.times = <int32_t*>PyMem_Calloc(layout.n_segments, sizeof(int32_t))
        if self.fields is NULL or self.times is NULL:
            raise MemoryError
        if self.state.places is not NULL:
            raise ValueError(f"group {group} is read from vectors")
        views = {view.name: view for view in (<KeyGroup>batch.plan.groups[group]).views}
        for i, (name, features) in enumerate(layout.views):
            if name not in views:
                raise ValueError(f"{name} is not in the group")
            self.times[<Py_ssize_t>i] = views[name].event_time
            for feature, _ in features:
                if feature not in views[name].features:
                    raise ValueError(f"{name}:{feature} is not in the group")
                index = layout.indexes[name, feature]
                self.fields[<Py_ssize_t>index] = views[name].start + views[name].features.index(feature)

    def __dealloc__(self):
        PyMem_Free(self.fields)
        PyMem_Free(self.times)

    cdef inline Cell* cell(self, Py_ssize_t entity, int32_t field) noexcept:
        return &self.batch.cells[self.state.first_cell + entity * self.state.n_fields + field]

    cdef bint put(self, Sink out, Py_ssize_t entity) except -1:
        """Append an entity's vector; False, with nothing appended, if no view has a row of it."""
        cdef Py_ssize_t segment, start = begin_vector(out, self.layout)
        cdef Py_ssize_t size = out.size
        for segment in range(self.layout.n_segments):
            if self.has_row(segment, entity):
                self.put_segment(out, segment, entity)
            end_segments(out, self.layout, start, segment)
        if out.size > size:
            return True
        out.size = start
        return False

    cdef bint has_row(self, Py_ssize_t segment, Py_ssize_t entity) noexcept:
        cdef const SegmentShape* shape = &self.layout.shapes[segment]
        cdef int i
        if self.cell(entity, self.times[segment]).size >= 0:
            return True
        for i in range(shape.first, shape.first + shape.n_features):
            if self.cell(entity, self.fields[i]).size >= 0:
                return True
        return False

    cdef int put_segment(self, Sink out, Py_ssize_t segment, Py_ssize_t entity) except -1:
        cdef const SegmentShape* shape = &self.layout.shapes[segment]
        cdef const Cell* time = self.cell(entity, self.times[segment])
        cdef Py_ssize_t start
        cdef int i = -1
        cdef int64_t event_time = 0
        try:
            if time.size > 0:
                event_time = read_timestamp(self.batch.replies.data + time.offset, time.size)
            start = begin_segment(out, shape, event_time)
            for i in range(shape.first, shape.first + shape.n_features):
                self.put_value(out, start, &self.layout.places[i], self.cell(entity, self.fields[i]))
                end_value(out, start, shape, &self.layout.places[i])
        except DecodeError as exc:
            raise self.misfit(exc, segment, i - shape.first if i >= 0 else -1, entity) from None
        return 0

    cdef int put_value(self, Sink out, Py_ssize_t start, const VectorPlace* place, const Cell* cell) except -1:
        cdef const uint8_t* p
        cdef Cursor c
        cdef Member m
        if cell.size <= 0:
            set_null(out, start, place, cell.size < 0)
            return 0
        p = self.batch.replies.data + cell.offset
        c = Cursor(p, p, p + cell.size)
        read_member(&c, &m, 0)
        if is_null(&m):
            set_null(out, start, place, False)
        elif place.kind == WIRE_VALUE:
            out.put(p, cell.size)
        elif place.kind == FIXED_VALUE:
            self.number.size = 0
            put_fixed(self.number, &m, place.member, &c)
            memcpy(out.data + start + place.at, self.number.data, place.width)
        elif m.number == place.member:
            out.put(m.body.at, m.body.end - m.body.at)
        else:
            fail(&c, f"{type_name(m.number)} is stored where the schema says {type_name(place.member)}")
        return 0

    cdef object misfit(self, exc, Py_ssize_t segment, Py_ssize_t feature, Py_ssize_t entity):
        name, features = self.layout.views[segment]
        column = f"{name}:{features[feature][0]}" if feature >= 0 else f"event time of {name}"
        key = self.batch.key_bytes(self.state.first_key + entity).hex()
        return EncodeError(f"entity key {key}: {exc.reason}", column=column)


# --- from rows -------------------------------------------------------------------------------------------------------

def pack_rows(VectorLayout layout not None, str view not None, EncodedRows rows not None):
    """Pack rows on their way to the hashes; of each vector only the segment of their view is not empty.

    Args:
        layout: the VectorLayout.
        view: the stored name of the rows' view. Its features that the rows do not have are absent.
    Returns:
        EncodedVectors, one per row, in order.
    Raises:
        ValueError: the layout has not got the view, or a feature of it has another type.
    """
    cdef EncodedVectors result = EncodedVectors.of(layout, rows.n_rows)
    cdef RowPacker packer = RowPacker(layout, view, rows)
    cdef Table table = rows.table
    cdef Py_ssize_t row
    cdef int64_t size
    for row in range(rows.n_rows):
        packer.put(result.vectors, table.rows[row])
        size = table.body_size(table.rows[row])
        result.keys.put_bytes(rows.plan.prefix)
        table.write_body(result.keys.room(size), table.rows[row])
        result.keys.size += size
        result.end_row()
    return result


@cython.final
cdef class RowPacker:
    """Packs rows of one view."""

    cdef VectorLayout layout
    cdef EncodedRows rows
    cdef Py_ssize_t segment
    cdef const Column** columns   # of each of the view's features; NULL: the rows do not have it
    cdef Frames cell              # scratch

    def __cinit__(self, VectorLayout layout, str view, EncodedRows rows):
        cdef const VectorPlace* place
        cdef Py_ssize_t i, column
        cdef dict known = {name: i for i, name in enumerate(rows.plan.features)}
        self.layout, self.rows, self.segment = layout, rows, layout.segment_of(view)
        features = layout.views[self.segment][1]
        self.columns = <const Column**>PyMem_Calloc(len(features) + 1, sizeof(Column*))
        if self.columns is NULL:
            raise MemoryError
        for i, (name, _) in enumerate(features):
            if name not in known:
                continue
            column = known[name]
            place = &layout.places[layout.shapes[self.segment].first + i]
            found = stored_type(rows.plan.feature_types[column])
            if found != place.member:
                raise ValueError(f"{view}:{name}: {type_name(place.member)} in the vectors, {type_name(found)} in the rows")
            self.columns[i] = &rows.table.columns[rows.table.n_keys + column]

    def __dealloc__(self):
        PyMem_Free(<void*>self.columns)
        free(self.cell.data)

    cdef int put(self, Sink out, int64_t row) except -1:
        """Append the vector of a row."""
        cdef const SegmentShape* shape = &self.layout.shapes[self.segment]
        cdef const VectorPlace* place
        cdef Py_ssize_t vector = begin_vector(out, self.layout)
        cdef Py_ssize_t start = begin_segment(out, shape, micros_at(self.rows.table.event_times(), row))
        cdef int i
        for i in range(shape.n_features):
            place = &self.layout.places[shape.first + i]
            if self.columns[i] is NULL:
                set_null(out, start, place, True)
            elif not self.put_cell(out, start, place, self.columns[i], row):
                set_null(out, start, place, False)
            end_value(out, start, shape, place)
        return end_segments(out, self.layout, vector, self.segment)

    cdef bint put_cell(self, Sink out, Py_ssize_t start, const VectorPlace* place, const Column* c, int64_t row) except -1:
        """Append a cell, or put it into its place; False if it is null. What is null is what `write_cells` has for it."""
        cdef int64_t at = row + c.offset
        cdef uint8_t* p = out.data + start + place.at
        if not is_valid(c, at) or c.null_if_empty:
            return False
        if c.form == FIXED64:
            if isnan((<const double*>c.data)[at]):
                return False
            memcpy(p, c.data + 8 * at, 8)
            return True
        if c.form == FIXED32:
            if isnan((<const float*>c.data)[at]):
                return False
            memcpy(p, c.data + 4 * at, 4)
            return True
        if c.form == TEXT and c.member:
            out.put(c.data + offset_at(c, at), offset_at(c, at + 1) - offset_at(c, at))
            return True
        if c.form == TEXT:
            return put_wire(out, c.data + offset_at(c, at), offset_at(c, at + 1) - offset_at(c, at))
        if c.form == LIST:
            return self.put_list(out, c, row)
        return put_integer(p, place, integer_at(c, at))

    cdef bint put_list(self, Sink out, const Column* c, int64_t row) except -1:
        cdef int64_t size = 0
        cdef Py_ssize_t start
        self.cell.size = 0
        if make_room(&self.cell, cells_room(c, &row, 1)) < 0:
            raise MemoryError
        self.cell.size = write_cells(self.cell.data, c, &row, 1) - self.cell.data
        start = read_length(self.cell.data, 0, self.cell.size, c'$', &size)
        out.put(self.cell.data + start, size)
        return True


cdef bint put_integer(uint8_t* p, const VectorPlace* place, int64_t value) noexcept:
    if place.member == UNIX_TIMESTAMP and value == NULL_SECONDS:
        return False
    if place.width == 1:
        p[0] = <uint8_t>value
        return True
    p = write_u32(p, <uint32_t>value)
    if place.width == 8:
        write_u32(p, <uint32_t>(<uint64_t>value >> 32))
    return True


cdef bint put_wire(Sink out, const uint8_t* p, int64_t size) except -1:
    """Append a serialised Value; False, with nothing appended, if it is null. Broken ones are for readers to find."""
    cdef Cursor c = Cursor(p, p, p + size)
    cdef Member m
    try:
        read_member(&c, &m, 0)
        if is_null(&m):
            return False
    except DecodeError:
        pass
    out.put(p, size)
    return True
