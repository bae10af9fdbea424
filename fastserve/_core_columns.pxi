# Batch -> column buffers in Arrow's layout (https://arrow.apache.org/docs/format/Columnar.html), for Arrow and NumPy.
#
#   values     one after the other, little-endian, zeros where null; BOOL takes a byte
#   validity   one bit per row, least significant first, 1 where there is a value
#   offsets    int32, n + 1 of them: where each text ends in `values`, or each list among the elements

cdef int item_size(uint32_t value_type) noexcept:
    """Bytes of one fixed-width value; 0 for the types that are not."""
    if value_type == INT64 or value_type == DOUBLE or value_type == UNIX_TIMESTAMP:
        return 8
    if value_type == INT32 or value_type == FLOAT:
        return 4
    return 1 if value_type == BOOL else 0


cdef int require(bint fits, Slot slot, str kind) except -1:
    if not fits:
        raise TypeError(f"{slot.label} is {type_name(slot.value_type)}, which makes no {kind} column")
    return 0


cdef int put_fixed(Sink out, const Member* m, uint32_t value_type, const Cursor* c) except -1:
    """Append one value in the width of the schema's type; a stored type that fits into it without loss is widened."""
    cdef double number
    cdef uint64_t raw = 0
    if m.number == value_type or (value_type == INT64 and m.number == INT32):
        if value_type == UNIX_TIMESTAMP and not FIRST_SECOND <= <int64_t>m.scalar <= LAST_SECOND:
            return fail(c, f"timestamp of {<int64_t>m.scalar} s is outside years 1 to 9999")
        if item_size(value_type) == 8:
            return out.put_u64(<uint64_t><int64_t><int32_t>m.scalar if m.number == INT32 else m.scalar)
        if item_size(value_type) == 4:
            return out.put_u32(<uint32_t>m.scalar)
        return out.put_byte(m.scalar != 0)
    if value_type == DOUBLE and (m.number == FLOAT or m.number == INT32):
        number = float_of(m.scalar) if m.number == FLOAT else <double><int32_t>m.scalar
        memcpy(&raw, &number, 8)
        return out.put_u64(raw)
    return fail(c, f"{type_name(m.number)} is stored where the schema says {type_name(value_type)}")


cdef int set_bit(Sink bits, Py_ssize_t i) except -1:
    bits.data[i >> 3] |= <uint8_t>(1 << (i & 7))
    return 0


cdef inline void clear_bit(uint8_t* bits, Py_ssize_t i) noexcept:
    bits[i >> 3] &= <uint8_t>~(1 << (i & 7))


cdef Sink cleared_bits(Py_ssize_t n):
    cdef Sink bits = Sink.of(n // 8 + 1)
    memset(bits.data, 0, n // 8 + 1)
    bits.size = (n + 7) // 8
    return bits


cdef bint read_slot(Batch batch, Slot slot, Py_ssize_t row, Cursor* c, Member* m) except -1:
    """Read the member stored for a row; False if it is null, absent or withheld."""
    cdef bint found = False
    if is_packed(batch, slot):
        load_packed(batch, slot, row, c, m)
        return not is_null(m) and not withheld(batch, slot, row)
    stored(batch, slot, row, c, &found)
    if c.at == c.end or withheld(batch, slot, row):
        return False
    read_member(c, m, 0)
    return not is_null(m)


cdef Py_ssize_t fill_fixed(
    Batch batch, Slot slot, uint8_t* values, uint8_t* valid
) except -1:
    """Write a fixed-width feature into the column's buffers, whose bits are 1 so far; return how many rows have no value:
    theirs are zeros."""
    cdef Py_ssize_t row, nulls = 0
    cdef int width = item_size(slot.value_type)
    cdef Sink number
    cdef Cursor c
    cdef Member m
    cdef Pick pick
    if is_gathered(batch.plan, slot):
        pick = pick_of(batch, slot, values, valid)
        gather(batch, &pick, 1, 0, batch.n_rows)
        check_seconds(batch, slot, values)
        return pick.nulls
    number = Sink.of(16)
    for row in range(batch.n_rows):
        number.size = 0
        try:
            if read_slot(batch, slot, row, &c, &m):
                put_fixed(number, &m, slot.value_type, &c)
        except DecodeError as exc:
            raise batch.located(exc, slot, row) from None
        if number.size:
            memcpy(values + row * width, number.data, width)
        else:
            memset(values + row * width, 0, width)
            clear_bit(valid, row)
            nulls += 1
    return nulls


def fixed_column(Batch batch not None, Slot slot not None):
    """Return a fixed-width feature as buffers: INT32, INT64, FLOAT, DOUBLE, BOOL or UNIX_TIMESTAMP (seconds).

    Returns:
        (values, validity, null count): one byte per BOOL, zeros where null.
    Raises:
        DecodeError: a stored value is not of the type; names the entity key and the feature.
    """
    cdef Py_ssize_t nulls, n = batch.n_rows
    cdef bytes values = PyBytes_FromStringAndSize(NULL, n * item_size(slot.value_type))
    cdef bytes valid = PyBytes_FromStringAndSize(NULL, (n + 7) // 8)
    require(item_size(slot.value_type) > 0, slot, "fixed-width")
    memset(PyBytes_AS_STRING(valid), 0xFF, (n + 7) // 8)
    nulls = fill_fixed(batch, slot, <uint8_t*>PyBytes_AS_STRING(values), <uint8_t*>PyBytes_AS_STRING(valid))
    if n % 8:
        PyBytes_AS_STRING(valid)[n // 8] &= (1 << n % 8) - 1
    return values, valid, nulls


cdef inline bint is_text(uint32_t number) noexcept:
    return number in (STRING, JSON, UUID_TEXT, TIME_UUID, DECIMAL)


cdef int expect_member(const Member* m, uint32_t value_type, const Cursor* c) except -1:
    if m.number != value_type and not (is_text(m.number) and is_text(value_type)):
        fail(c, f"{type_name(m.number)} is stored where the schema says {type_name(value_type)}")
    return 0


cdef int put_text(Sink values, const Member* m) except -1:
    """Append text or bytes; Arrow does not check that text is UTF-8, so this does."""
    if m.number != BYTES:
        text_of(&m.body)
    values.put(m.body.at, m.body.end - m.body.at)
    if values.size > INT32_MAX:
        fail(&m.body, "the column exceeds 2 GiB")
    return 0


def text_column(Batch batch not None, Slot slot not None):
    """Return a feature of text or bytes as buffers; a scalar map as the text of its JSON form.

    Returns:
        (values, offsets, validity, null count).
    Raises:
        DecodeError: a stored value is not of the type, or the column exceeds 2 GiB.
    """
    cdef Py_ssize_t row, nulls = 0
    cdef uint32_t value_type = stored_type(slot.value_type)
    cdef Sink values = Sink.of(4096), offsets = Sink.of(4 * batch.n_rows + 8), valid = cleared_bits(batch.n_rows)
    cdef Cursor c
    cdef Member m
    require(is_text(value_type) or value_type == BYTES or value_type == SCALAR_MAP, slot, "text")
    offsets.put_u32(0)
    for row in range(batch.n_rows):
        try:
            if read_slot(batch, slot, row, &c, &m):
                expect_member(&m, value_type, &c)
                if value_type == SCALAR_MAP:
                    put_json_member(values, &m, 0)
                else:
                    put_text(values, &m)
                set_bit(valid, row)
            else:
                nulls += 1
        except DecodeError as exc:
            raise batch.located(exc, slot, row) from None
        offsets.put_u32(<uint32_t>values.size)
    return values.finish(), offsets.finish(), valid.finish(), nulls


@cython.final
cdef class Elementwise:
    """The elements of a list column in the making: their values, ends (of text) and validity."""

    cdef Sink values, ends, valid
    cdef uint32_t element_type
    cdef uint32_t count, nulls

    @staticmethod
    cdef Elementwise of(uint32_t element_type):
        cdef Elementwise self = Elementwise.__new__(Elementwise)
        self.values = Sink.of(4096)
        self.ends = Sink.of(256)
        self.valid = Sink.of(256)
        self.element_type = element_type
        if item_size(element_type) == 0:
            self.ends.put_u32(0)
        return self

    cdef int put(self, const Member* m, const Cursor* c) except -1:
        cdef int width = item_size(self.element_type)
        if self.count % 8 == 0:
            self.valid.put_byte(0)
        if is_null(m):    # only timestamps can be null inside a list
            memset(self.values.room(width), 0, width)
            self.values.size += width
            self.nulls += 1
        else:
            set_bit(self.valid, self.count)
            if width:
                put_fixed(self.values, m, self.element_type, c)
            else:
                put_text(self.values, m)
                self.ends.put_u32(<uint32_t>self.values.size)
        self.count += 1
        return 0


def list_column(Batch batch not None, Slot slot not None):
    """Return a feature of lists or sets, of fixed-width types, text or bytes, as buffers.

    Returns:
        ((values, value offsets, validity, null count) of the elements, (offsets, validity, null count) of the rows):
        the rows' offsets count elements; value offsets count bytes of text and are empty for fixed-width elements.
    Raises:
        DecodeError: a stored value is not of the type, or the column exceeds 2 GiB.
    """
    cdef Py_ssize_t row, nulls = 0
    cdef Sink offsets = Sink.of(4 * batch.n_rows + 8), valid = cleared_bits(batch.n_rows)
    cdef uint32_t element_type = ELEMENT[slot.value_type] if slot.value_type <= LAST_MEMBER else NOT_A_MEMBER
    cdef Elementwise items = Elementwise.of(element_type)
    cdef Elements elements
    cdef Cursor c
    cdef Member m, element
    require(item_size(element_type) > 0 or is_text(element_type) or element_type == BYTES, slot, "list")
    offsets.put_u32(0)
    for row in range(batch.n_rows):
        try:
            if read_slot(batch, slot, row, &c, &m):
                expect_member(&m, slot.value_type, &c)
                elements = Elements.of(&m)
                while elements.next(&element):
                    items.put(&element, &c)
                set_bit(valid, row)
            else:
                nulls += 1
        except DecodeError as exc:
            raise batch.located(exc, slot, row) from None
        offsets.put_u32(items.count)
    inner = (items.values.finish(), items.ends.finish(), items.valid.finish(), items.nulls)
    return inner, (offsets.finish(), valid.finish(), nulls)


def event_time_column(Batch batch not None, Slot slot not None):
    """Return the event times of a feature's rows: int64 microseconds since the epoch, little-endian; 0 where none."""
    cdef Py_ssize_t row
    cdef Sink out = Sink.of(8 * batch.n_rows + 8)
    for row in range(batch.n_rows):
        out.put_u64(<uint64_t>batch.event_time(slot, row))
    return out.finish()
