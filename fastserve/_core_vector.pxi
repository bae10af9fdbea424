# Packed vectors (see _core_layout.pxi) in a Batch: read by MGET, looked at once as a whole, then read in place.
#
# Nothing is unpacked into cells: where each segment begins is all that is noted. What is in them is read by the offsets of
# the layout, which `check_segment` has compared with the size of the segment.

cdef extern from "Python.h":
    # Declared anew without the counting of references that `object` brings.
    PyObject* new_float "PyFloat_FromDouble" (double) except NULL
    PyObject* new_int "PyLong_FromLongLong" (long long) except NULL


cdef enum:
    # Redis reads 16 KB of commands at a time and answers these before it reads on. So there are vectors to look at while it
    # works for the others; and it serves nobody else during one command.
    BYTES_PER_MGET = 1 << 13


cdef int expect_vectors(Batch batch, KeyGroup group, GroupState* state) except -1:
    """Let a group, whose keys are made, be read from vectors."""
    cdef Py_ssize_t size = batch.keys.size - batch.key_start(state.first_key) if state.n_entities else 0
    size += state.n_entities * (PyBytes_GET_SIZE(group.vector_prefix) + 16)
    state.places = group.places
    state.n_segments = <int32_t>group.vector.n_segments
    state.keys_per_command = max(1, BYTES_PER_MGET * state.n_entities // max(size, 1))
    return 0


cdef Py_ssize_t put_mget(Sink out, Batch batch, KeyGroup group, GroupState* state, Py_ssize_t entity) except -1:
    """Append the command for an entity and those behind it; return how many it asks for."""
    cdef Py_ssize_t n = min(state.keys_per_command, state.n_entities - entity)
    cdef Py_ssize_t key, start, size
    cdef Span prefix = span_of(group.vector_prefix)
    cdef uint8_t* p
    if entity == 0:
        state.keys_in_first = n
    out.put_byte(c'*')
    out.put_decimal(1 + n)
    out.put(b"\r\n$4\r\nMGET\r\n", 12)
    for key in range(state.first_key + entity, state.first_key + entity + n):
        start = batch.key_start(key)
        size = batch.key_ends[key] - start
        p = out.room(CELL_ROOM + prefix.size + size)
        p = write_bytes(write_head(p, prefix.size + size), prefix.data, prefix.size)
        p = write_line_end(write_bytes(p, batch.keys.data + start, size))
        out.size = p - out.data
    return n


# --- looking at vectors ----------------------------------------------------------------------------------------------

cdef int look_ahead(Batch batch) except -1:
    """Look at the vectors that have come while others are on their way. What is wrong with one, `unpack_vectors` tells."""
    cdef GroupState* state
    if batch.scan_group == batch.n_groups:
        return 0
    state = &batch.states[batch.scan_group]
    try:
        look_at_vectors(batch, batch.scan_group, (batch.filled_cells - state.first_cell) // state.n_fields)
    except (DecodeError, VectorStaleError, VectorVersionError):
        pass
    return 0


cdef int look_at_vectors(Batch batch, Py_ssize_t g, Py_ssize_t until) except -1:
    """Look at the vectors of a group up to those of an entity; of another group there is nothing to look at."""
    if batch.states[g].places is not NULL:
        return unpack_group(batch, g, until)
    if (<KeyGroup>batch.plan.groups[g]).feast is not None:
        return FeastReader(batch, g).read_until(until)
    return 0


cdef void forget_looks(Batch batch) noexcept:
    cdef Py_ssize_t g
    for g in range(batch.n_groups):
        batch.states[g].n_looked = 0


cdef int find_missing(Batch batch, Py_ssize_t g, list missing) except -1:
    """Append (group, entity) of the vectors that are not there."""
    cdef const GroupState* state = &batch.states[g]
    cdef Py_ssize_t entity
    # No vector has no bytes, and Feast's reader takes such a one for none.
    cdef Py_ssize_t least = 0 if state.places is not NULL else 1
    if not (<KeyGroup>batch.plan.groups[g]).vector_format:
        return 0
    for entity in range(state.n_entities):
        if batch.cells[state.first_cell + entity].size < least:
            missing.append((g, entity))
    return 0


cdef int unpack_group(Batch batch, Py_ssize_t g, Py_ssize_t until) except -1:
    """Note where the segments of a group's vectors begin."""
    cdef KeyGroup group = <KeyGroup>batch.plan.groups[g]
    cdef GroupState* state = &batch.states[g]
    cdef Py_ssize_t entity
    cdef const Cell* cell
    cdef Cursor c
    if state.n_looked == 0:
        clear_segments(state)
    for entity in range(state.n_looked, until):
        cell = &batch.cells[state.first_cell + entity]
        if cell.size >= 0:
            c.start = c.at = batch.replies.data + cell.offset
            c.end = c.start + cell.size
            try:
                note_segments(&c, group.vector, state.segments + entity, state.n_entities, cell.offset)
            except (DecodeError, VectorStaleError, VectorVersionError) as exc:
                raise vector_error(exc, group, batch.key_bytes(state.first_key + entity)) from None
        state.n_looked = entity + 1
    return 0


cdef int clear_segments(GroupState* state) except -1:
    PyMem_Free(state.segments)
    state.segments = <Py_ssize_t*>PyMem_Calloc(state.n_entities * state.n_segments + 1, sizeof(Py_ssize_t))
    if state.segments is NULL:
        raise MemoryError
    return 0


cdef object vector_error(exc, KeyGroup group, bytes key):
    """The error with what it could not know where it happened."""
    if isinstance(exc, VectorStaleError):
        return VectorStaleError(group.vector_label, key.hex(), exc.difference)
    if isinstance(exc, VectorVersionError):
        return VectorVersionError(group.vector_label, key.hex(), exc.version)
    return DecodeError(exc.reason, exc.offset, field=group.vector_label, key=key.hex())


cdef int note_segments(Cursor* c, VectorLayout layout, Py_ssize_t* segments, Py_ssize_t stride, Py_ssize_t base) except -1:
    """Look at a whole vector, and note where the segments are: `base` and their offset, 0 for those without a row."""
    cdef Py_ssize_t i, size = c.end - c.start, at = layout.first_segment_at()
    cdef uint32_t end
    if size < at or memcmp(c.start, PyBytes_AS_STRING(layout.head), VECTOR_HEAD) != 0:
        refuse_vector(c, layout)
    for i in range(layout.n_segments):
        end = fixed32(c.start + VECTOR_HEAD + 4 * i)
        if end < at or end > size:
            c.at = c.start + VECTOR_HEAD + 4 * i
            fail(c, f"segment {i} ends at {end}; it begins at {at}, and the vector has {size} bytes")
        if end > at:
            check_segment(c, &layout.shapes[i], at, end - at)
            segments[i * stride] = base + at
        at = end
    if at != size:
        c.at = c.start + at
        fail(c, f"{size - at} bytes follow the last segment")
    return 0


cdef int refuse_vector(Cursor* c, VectorLayout layout) except -1:
    """Raise the error of a vector whose head is not the layout's; who knows label and key puts them in."""
    cdef const uint8_t* p = take(c, 2)
    if p[0] != VECTOR_MAGIC:
        c.at = c.start
        fail(c, f"a vector begins with 0x{VECTOR_MAGIC:02x}, this with 0x{p[0]:02x}")
    if p[1] != VECTOR_VERSION:
        raise VectorVersionError("", "", p[1])
    take(c, VECTOR_HEAD - 2)
    found = fixed64(p + 4)
    if found != layout.fingerprint:
        raise VectorStaleError(
            "", "", f"its schema fingerprint is {found:016x}, that of the request {layout.fingerprint:016x}"
        )
    c.at = c.start + 2
    if fixed32(p) >> 16 != <uint32_t>layout.n_segments:
        fail(c, f"{fixed32(p) >> 16} segments; the layout has {layout.n_segments}")
    return fail(c, f"{c.end - c.start} bytes are too few for {layout.n_segments} segments")


cdef int check_segment(Cursor* c, const SegmentShape* shape, Py_ssize_t start, Py_ssize_t size) except -1:
    """Look at whatever later reads rely upon."""
    cdef const uint8_t* p = c.start + start
    cdef const uint8_t* absent = p + EVENT_TIME_WIDTH + shape.bitmap_size
    cdef int32_t i
    cdef uint32_t end = 0, before = 0
    c.at = p
    if size < shape.body_at:
        return fail(c, f"a segment of {size} bytes; no row has fewer than {shape.body_at}")
    if not FIRST_MICRO <= <int64_t>fixed64(p) <= LAST_MICRO:
        return fail(c, "the event time lies outside years 1 to 9999")
    for i in range(shape.bitmap_size):
        if absent[i] & ~absent[i - shape.bitmap_size]:
            return fail(c, "a feature is absent, but not null")
    if shape.bitmap_size and (absent - 1)[0] & shape.spare:
        return fail(c, "a bit is set that stands for no feature")
    for i in range(shape.n_ends):
        end = fixed32(p + shape.ends_at + 4 * i)
        if end < before:
            return fail(c, f"the value {i} of variable width ends at {end}, before it begins")
        before = end
    if end != <uint64_t>(size - shape.body_at):
        return fail(c, f"the values of variable width end at {end}; the segment has {size - shape.body_at} bytes of them")
    return 0


cdef int64_t FIRST_MICRO = FIRST_SECOND * 1000000
cdef int64_t LAST_MICRO = LAST_SECOND * 1000000 + 999999


# --- reading in place ------------------------------------------------------------------------------------------------

cdef struct Walk:             # over the rows, in one view's segments; a copy of what does not change, for the compiler
    const uint8_t* replies
    const Py_ssize_t* segments
    const int32_t* entity_of_row
    Py_ssize_t step           # 0 for views without entities, all of whose rows are one


cdef inline Walk walk_of(Batch batch, const GroupState* state, int32_t segment) noexcept:
    cdef Walk walk
    walk.replies = batch.replies.data
    walk.segments = NULL if state.segments is NULL else state.segments + segment * state.n_entities
    walk.entity_of_row = state.entity_of_row
    walk.step = 0 if state.constant else 1
    return walk


cdef inline const uint8_t* segment_of_row(const Walk* walk, Py_ssize_t row) noexcept:
    cdef Py_ssize_t start
    if walk.segments is NULL:
        return NULL
    start = walk.segments[walk.entity_of_row[row] if walk.entity_of_row is not NULL else row * walk.step]
    return walk.replies + start if start else NULL


cdef inline const uint8_t* segment_at(Batch batch, const GroupState* state, Py_ssize_t row, int32_t segment) noexcept:
    """The view's segment in a row's vector; NULL if there is none."""
    cdef Walk walk = walk_of(batch, state, segment)
    return segment_of_row(&walk, row)


cdef int64_t vector_time(Batch batch, Slot slot, Py_ssize_t row) noexcept:
    """The event time of a slot of a packed vector; 0 without a row."""
    cdef const GroupState* state = &batch.states[slot.group]
    cdef const uint8_t* p = segment_at(batch, state, row, state.places[slot.event_time].segment)
    return <int64_t>fixed64(p) if p is not NULL else 0


cdef inline Cursor variable_at(const uint8_t* segment, const SegmentShape* shape, const VectorPlace* place) noexcept:
    """The bytes of a value of variable width."""
    cdef uint32_t start = fixed32(segment + place.at - 4) if place.at > shape.ends_at else 0
    cdef const uint8_t* body = segment + shape.body_at
    return Cursor(body + start, body + start, body + fixed32(segment + place.at))


cdef inline uint64_t fixed_at(const uint8_t* segment, const VectorPlace* place) noexcept:
    """The value of fixed width, in the form that Member has for it."""
    if place.width == 8:
        return fixed64(segment + place.at)
    if place.width == 1:
        return segment[place.at] != 0
    if place.member == INT32:
        return <uint64_t><int64_t><int32_t>fixed32(segment + place.at)
    return fixed32(segment + place.at)


cdef bint load_packed(Batch batch, Slot slot, Py_ssize_t row, Cursor* c, Member* m) except -1:
    """Read a value of a packed vector, as `load` does; `c` is what it has of bytes."""
    cdef const GroupState* state = &batch.states[slot.group]
    cdef const VectorPlace* place = &state.places[slot.field]
    cdef const uint8_t* segment = segment_at(batch, state, row, place.segment)
    cdef Cursor value
    m.number = 0
    c[0] = Cursor(NULL, NULL, NULL)
    if segment is NULL or segment[place.bitmap] & place.mask:
        return segment is not NULL and not segment[place.absent] & place.mask
    if place.kind == FIXED_VALUE:
        m.number = place.member
        m.scalar = fixed_at(segment, place)
        return True
    c[0] = variable_at(segment, &(<KeyGroup>batch.plan.groups[slot.group]).vector.shapes[place.segment], place)
    if place.kind == WIRE_VALUE:
        value = c[0]
        read_member(&value, m, 0)
        return True
    m.number = place.member
    m.body = c[0]
    return True


cdef enum:
    SHARED_TEXTS = 128

cdef struct Text:             # a text of the column at work, which its list keeps alive
    const uint8_t* data
    Py_ssize_t size
    PyObject* text


cdef inline object shared_text(Text* texts, const Cursor* c):
    """Do what `text_of` does; a text that the column had before is given again. Most columns of texts have few."""
    cdef Py_ssize_t size = c.end - c.at
    cdef Text* known
    if size == 0:
        return ""
    known = &texts[place_of_text(c.at, size)]
    if known.size == size and memcmp(known.data, c.at, size) == 0:
        return <object>known.text
    text = text_of(c)
    known[0] = Text(c.at, size, <PyObject*>text)
    return text


cdef inline Py_ssize_t place_of_text(const uint8_t* p, Py_ssize_t size) noexcept:
    """Which of SHARED_TEXTS places a text has. It depends on both ends: much alike are `segment 1` and `segment 2`."""
    cdef uint64_t mixed = size
    if size >= 8:
        mixed += fixed64(p) * <uint64_t>0x9E3779B97F4A7C15 ^ fixed64(p + size - 8)
    elif size >= 4:
        mixed += fixed32(p) * <uint64_t>0x9E3779B97F4A7C15 ^ fixed32(p + size - 4)
    else:
        mixed += p[0] ^ p[size // 2] << 8 ^ p[size - 1] << 16
    return <Py_ssize_t>(mixed * <uint64_t>0x9E3779B97F4A7C15 >> 57)


cdef int put_packed(Batch batch, Slot slot, PyObject** places, Rows* rows) except -1:
    """Do what `put_python_values` does."""
    cdef const GroupState* state = &batch.states[slot.group]
    cdef const VectorPlace* place = &state.places[slot.field]
    cdef Walk walk = walk_of(batch, state, place.segment)
    cdef const uint8_t* segment
    cdef bint enforce = batch.plan.enforce_ttl and slot.ttl
    cdef Py_ssize_t i
    cdef PyObject* value
    if place.kind != FIXED_VALUE:
        return put_variable(batch, slot, places, rows)
    for i in range(rows.start, rows.stop):
        segment = segment_of_row(&walk, i)
        if segment is NULL or segment[place.bitmap] & place.mask or (enforce and batch.is_expired(slot, i)):
            value = <PyObject*>None
            Py_INCREF(None)
        else:
            rows.at = i
            value = fixed_object(segment, place)
        replace_item(places + i, value)
    return 0


cdef inline PyObject* fixed_object(const uint8_t* segment, const VectorPlace* place) except NULL:
    """A new reference."""
    if place.member == DOUBLE:
        return new_float(double_of(fixed64(segment + place.at)))
    if place.member == INT64:
        return new_int(<int64_t>fixed64(segment + place.at))
    if place.member == FLOAT:
        return new_float(float_of(fixed32(segment + place.at)))
    if place.member == INT32:
        return new_int(<int32_t>fixed32(segment + place.at))
    return other_object(segment, place)


cdef PyObject* other_object(const uint8_t* segment, const VectorPlace* place) except NULL:
    cdef Cursor c = Cursor(segment, segment + place.at, segment + place.at + place.width)
    if place.member == BOOL:
        value = True if segment[place.at] else False
    else:
        value = datetime_of(<int64_t>fixed64(segment + place.at), &c)
    Py_INCREF(value)
    return <PyObject*>value


cdef int put_variable(Batch batch, Slot slot, PyObject** places, Rows* rows) except -1:
    """Do that for values of variable width."""
    cdef const GroupState* state = &batch.states[slot.group]
    cdef const VectorPlace* place = &state.places[slot.field]
    cdef const SegmentShape* shape = &(<KeyGroup>batch.plan.groups[slot.group]).vector.shapes[place.segment]
    cdef Walk walk = walk_of(batch, state, place.segment)
    cdef const uint8_t* segment
    cdef bint enforce = batch.plan.enforce_ttl and slot.ttl
    cdef Text[SHARED_TEXTS] texts
    cdef Cursor c
    cdef Py_ssize_t i
    memset(texts, 0, sizeof(texts))
    for i in range(rows.start, rows.stop):
        rows.at = i
        segment = segment_of_row(&walk, i)
        if segment is NULL or segment[place.bitmap] & place.mask or (enforce and batch.is_expired(slot, i)):
            value = None
        else:
            c = variable_at(segment, shape, place)
            value = shared_text(texts, &c) if place.member == STRING else variable_object(c, place, slot.value_type)
        put_item(places + i, value)
    return 0


cdef inline object variable_object(Cursor c, const VectorPlace* place, uint32_t value_type):
    if place.member == BYTES:
        return bytes_of(&c)
    return value_of(c.at, c.end - c.at, value_type)
