# Arrow's C data interface, and cells of its columns -> the frames of Redis arguments that hold serialised Values.
#
#   ArrowSchema, ArrowArray   structs of https://arrow.apache.org/docs/format/CDataInterface.html, lent by capsules
#   validity                  one bit per row, least significant first; no buffer: no nulls
#   text, lists               int32 or int64 offsets, one more than there are rows
#   frame                     "$" decimal length CRLF bytes CRLF, the bytes being a Value (see _core_value.pxi)
#
# An array tells offsets and lengths but not the sizes of its buffers: that those suffice is for the producer to see to.
# What can be looked at is looked at once, in `bind_column`; afterwards cells are written without Python, so without the
# GIL.

cdef extern from "Python.h":
    void* PyCapsule_GetPointer(object, const char*) except NULL


cdef struct ArrowSchema:
    const char* format
    const char* name
    const char* metadata
    int64_t flags
    int64_t n_children
    ArrowSchema** children
    ArrowSchema* dictionary
    void* release
    void* private_data


cdef struct ArrowArray:
    int64_t length
    int64_t null_count
    int64_t offset
    int64_t n_buffers
    int64_t n_children
    const void** buffers
    ArrowArray** children
    ArrowArray* dictionary
    void* release
    void* private_data


cdef enum Form:       # how the cells of a column lie in memory
    NO_FORM = 0
    TEXT              # bytes between offsets
    BITS
    FIXED32           # bytes that are stored as they are
    FIXED64
    NUMBER32          # stored as varints
    NUMBER64
    LIST


cdef struct Column:
    Form form
    uint32_t member           # of Value, that cells are stored in; 0: cells are serialised Values already
    bint large                # offsets are int64
    const uint8_t* validity   # NULL: no nulls
    const uint8_t* data       # TEXT: the bytes; BITS: the bits; else the numbers
    const void* offsets       # TEXT and LIST; NULL: lists of `width` elements each
    int64_t offset            # of row 0 in the buffers
    int64_t width
    int64_t divisor           # ticks of a timestamp in a second; 1 for everything else
    bint is_time              # of timestamps, whose nulls are stored as INT64_MIN seconds, as Feast does
    bint null_if_empty        # BYTES of nothing but empty ones, which are nulls to Feast
    Column* items             # of a LIST


cdef inline bint is_valid(const Column* c, int64_t at) noexcept nogil:
    return c.validity is NULL or c.validity[at >> 3] >> (at & 7) & 1


cdef inline int64_t offset_at(const Column* c, int64_t at) noexcept nogil:
    if c.large:
        return (<const int64_t*>c.offsets)[at]
    if c.offsets is NULL:
        return at * c.width
    return (<const int32_t*>c.offsets)[at]


cdef inline int64_t floor_div(int64_t value, int64_t divisor) noexcept nogil:
    """The quotient, rounded down; without the GIL Cython's own // is C's, which rounds towards 0."""
    cdef int64_t quotient = <int64_t>(value / divisor) if divisor != 1 else value
    return quotient - 1 if quotient * divisor > value else quotient


cdef inline int64_t integer_at(const Column* c, int64_t at) noexcept nogil:
    """The cell of BITS, NUMBER32 or NUMBER64; timestamps in seconds."""
    if c.form == NUMBER64:
        return floor_div((<const int64_t*>c.data)[at], c.divisor)
    if c.form == NUMBER32:
        return (<const int32_t*>c.data)[at]
    return c.data[at >> 3] >> (at & 7) & 1


# --- writing, into room that was made before -------------------------------------------------------------------------

cdef enum:
    CELL_ROOM = 64        # of a frame and of the tags and lengths in it, whatever its payload; all of it, for a number
    ELEMENT_ROOM = 16     # of a list's element, whatever its text


cdef inline uint8_t* write_varint(uint8_t* p, uint64_t value) noexcept nogil:
    while value >= 0x80:
        p[0] = <uint8_t>(value | 0x80)
        value >>= 7
        p += 1
    p[0] = <uint8_t>value
    return p + 1


cdef inline int varint_size(uint64_t value) noexcept nogil:
    cdef int n = 1
    while value >= 0x80:
        value >>= 7
        n += 1
    return n


cdef uint8_t* write_long_head(uint8_t* p, uint64_t size) noexcept nogil:
    cdef uint8_t[20] digits
    cdef int n = 20
    p[0] = c'$'
    while size:
        n -= 1
        digits[n] = <uint8_t>(48 + size % 10)
        size //= 10
    memcpy(p + 1, &digits[n], 20 - n)
    return write_line_end(p + 21 - n)


cdef inline uint8_t* write_head(uint8_t* p, uint64_t size) noexcept nogil:
    """The frame's beginning."""
    if size >= 100:
        return write_long_head(p, size)
    p[0] = c'$'
    if size < 10:
        p[1] = <uint8_t>(48 + size)
        return write_line_end(p + 2)
    p[1] = <uint8_t>(48 + size // 10)
    p[2] = <uint8_t>(48 + size % 10)
    return write_line_end(p + 3)


cdef inline uint8_t* write_line_end(uint8_t* p) noexcept nogil:
    p[0] = c'\r'
    p[1] = c'\n'
    return p + 2


cdef inline uint8_t* write_empty(uint8_t* p) noexcept nogil:
    """The frame of a null: a Value with nothing in it."""
    return write_line_end(write_head(p, 0))


cdef inline uint8_t* write_bytes(uint8_t* p, const uint8_t* source, int64_t size) noexcept nogil:
    memcpy(p, source, size)
    return p + size


cdef uint8_t* write_integers(uint8_t* p, const Column* c, const int64_t* rows, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint64_t value
    cdef int64_t at
    cdef uint8_t tag = <uint8_t>(c.member << 3)
    cdef uint8_t* body
    for i in range(n):
        at = rows[i] + c.offset
        if is_valid(c, at):
            value = <uint64_t>integer_at(c, at)
        elif c.is_time:
            value = <uint64_t>NULL_SECONDS
        else:
            p = write_empty(p)
            continue
        if value < <uint64_t>1 << 56:    # one digit of length
            body = write_varint(p + 5, value)
            p[0] = c'$'
            p[1] = <uint8_t>(48 + (body - p - 4))
            write_line_end(p + 2)
            p[4] = tag
            p = write_line_end(body)
            continue
        p = write_head(p, 1 + varint_size(value))
        p[0] = tag
        p = write_line_end(write_varint(p + 1, value))
    return p


cdef uint8_t* write_fixed64(uint8_t* p, const Column* c, const int64_t* rows, Py_ssize_t n) noexcept nogil:
    """Doubles; NaN is null, as in Feast."""
    cdef Py_ssize_t i
    cdef int64_t at
    cdef double value
    for i in range(n):
        at = rows[i] + c.offset
        value = (<const double*>c.data)[at]
        if value != value or not is_valid(c, at):
            p = write_empty(p)
            continue
        memcpy(p, b"$9\r\n\x29", 5)
        memcpy(p + 5, &value, 8)
        p = write_line_end(p + 13)
    return p


cdef uint8_t* write_fixed32(uint8_t* p, const Column* c, const int64_t* rows, Py_ssize_t n) noexcept nogil:
    """Floats; NaN is null, as in Feast."""
    cdef Py_ssize_t i
    cdef int64_t at
    cdef float value
    for i in range(n):
        at = rows[i] + c.offset
        value = (<const float*>c.data)[at]
        if value != value or not is_valid(c, at):
            p = write_empty(p)
            continue
        memcpy(p, b"$5\r\n\x35", 5)
        memcpy(p + 5, &value, 4)
        p = write_line_end(p + 9)
    return p


cdef uint8_t* write_text(uint8_t* p, const Column* c, const int64_t* rows, Py_ssize_t n) noexcept nogil:
    """Text, bytes, and Values that are serialised already."""
    cdef Py_ssize_t i
    cdef int64_t at, start, size
    cdef uint8_t tag = <uint8_t>(c.member << 3 | 2)
    for i in range(n):
        at = rows[i] + c.offset
        if not is_valid(c, at) or c.null_if_empty:
            p = write_empty(p)
            continue
        start = offset_at(c, at)
        size = offset_at(c, at + 1) - start
        if c.member:
            p = write_head(p, size + 1 + varint_size(size))
            p[0] = tag
            p = write_varint(p + 1, size)
        else:
            p = write_head(p, size)
        p = write_line_end(write_bytes(p, c.data + start, size))
    return p


# --- lists: a message of `repeated T val = 1`, numbers packed --------------------------------------------------------

cdef inline uint64_t element_at(const Column* c, int64_t at) noexcept nogil:
    """An integer element; a null is the zero of its type."""
    if is_valid(c, at):
        return <uint64_t>integer_at(c, at)
    return <uint64_t>NULL_SECONDS if c.member == UNIX_TIMESTAMP else 0


cdef int64_t packed_size(const Column* c, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t at, size = 0
    if c.form == FIXED64:
        return 8 * (stop - start)
    if c.form == FIXED32:
        return 4 * (stop - start)
    for at in range(start, stop):
        size += varint_size(element_at(c, at))
    return size


cdef int64_t texts_size(const Column* c, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t at, size = 0, text
    for at in range(start, stop):
        text = offset_at(c, at + 1) - offset_at(c, at) if is_valid(c, at) else 0
        size += 1 + varint_size(text) + text
    return size


cdef uint8_t* write_packed(uint8_t* p, const Column* c, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t at
    cdef double nan64 = NAN
    cdef float nan32 = NAN
    if c.form == FIXED64:
        memcpy(p, c.data + 8 * start, 8 * (stop - start))
        for at in range(start, stop):
            if not is_valid(c, at):
                memcpy(p + 8 * (at - start), &nan64, 8)
        return p + 8 * (stop - start)
    if c.form == FIXED32:
        memcpy(p, c.data + 4 * start, 4 * (stop - start))
        for at in range(start, stop):
            if not is_valid(c, at):
                memcpy(p + 4 * (at - start), &nan32, 4)
        return p + 4 * (stop - start)
    for at in range(start, stop):
        p = write_varint(p, element_at(c, at))
    return p


cdef uint8_t* write_texts(uint8_t* p, const Column* c, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t at, size
    for at in range(start, stop):
        size = offset_at(c, at + 1) - offset_at(c, at) if is_valid(c, at) else 0
        p[0] = 1 << 3 | 2
        p = write_varint(p + 1, size)
        p = write_bytes(p, c.data + offset_at(c, at), size)
    return p


cdef uint8_t* write_lists(uint8_t* p, const Column* c, const int64_t* rows, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int64_t at, start, stop, packed, size
    cdef uint64_t tag = <uint64_t>c.member << 3 | 2
    for i in range(n):
        at = rows[i] + c.offset
        if not is_valid(c, at):
            p = write_empty(p)
            continue
        start = c.items.offset + offset_at(c, at)
        stop = c.items.offset + offset_at(c, at + 1)
        packed = 0
        if c.items.form == TEXT:
            size = texts_size(c.items, start, stop)
        else:
            packed = packed_size(c.items, start, stop)
            size = 1 + varint_size(packed) + packed if packed else 0
        p = write_head(p, varint_size(tag) + varint_size(size) + size)
        p = write_varint(write_varint(p, tag), size)
        if c.items.form == TEXT:
            p = write_texts(p, c.items, start, stop)
        elif packed:
            p[0] = 1 << 3 | 2
            p = write_packed(write_varint(p + 1, packed), c.items, start, stop)
        p = write_line_end(p)
    return p


cdef uint8_t* write_cells(uint8_t* p, const Column* c, const int64_t* rows, Py_ssize_t n) noexcept nogil:
    """Write the frames of the column's cells in these rows; `cells_room` bytes must be free."""
    if c.form == FIXED64:
        return write_fixed64(p, c, rows, n)
    if c.form == TEXT:
        return write_text(p, c, rows, n)
    if c.form == FIXED32:
        return write_fixed32(p, c, rows, n)
    if c.form == LIST:
        return write_lists(p, c, rows, n)
    return write_integers(p, c, rows, n)


cdef int64_t cells_room(const Column* c, const int64_t* rows, Py_ssize_t n) noexcept nogil:
    """How many bytes `write_cells` takes at most."""
    cdef Py_ssize_t i
    cdef int64_t at, start, stop, room = CELL_ROOM * n
    if c.form != TEXT and c.form != LIST:
        return room
    for i in range(n):
        at = rows[i] + c.offset
        if not is_valid(c, at):    # its offsets may be anything
            continue
        start = offset_at(c, at)
        stop = offset_at(c, at + 1)
        if c.form == TEXT:
            room += stop - start
            continue
        room += ELEMENT_ROOM * (stop - start)
        if c.items.form == TEXT:
            room += texts_size(c.items, c.items.offset + start, c.items.offset + stop)
    return room


# --- taking columns over ---------------------------------------------------------------------------------------------

cdef dict FORMATS = {    # ValueType -> formats of the Arrow types that it is encoded from
    STRING: ("u", "U"), BYTES: ("z", "Z"), INT32: ("i",), INT64: ("l",), DOUBLE: ("g",), FLOAT: ("f",), BOOL: ("b",),
    UNIX_TIMESTAMP: ("l", "tss", "tsm", "tsu", "tsn"),
}
cdef dict FORM_OF_FORMAT = {
    "u": TEXT, "U": TEXT, "z": TEXT, "Z": TEXT, "i": NUMBER32, "l": NUMBER64, "g": FIXED64, "f": FIXED32, "b": BITS,
    "tss": NUMBER64, "tsm": NUMBER64, "tsu": NUMBER64, "tsn": NUMBER64,
}
cdef dict TICKS = {"tss": 1, "tsm": 1000, "tsu": 1000000, "tsn": 1000000000}


cdef str format_of(const ArrowSchema* schema):
    """The format, of timestamps without the zone: they count from the epoch in UTC whatever it is."""
    text = (<bytes>schema.format).decode("ascii", "replace")
    return text.split(":")[0] if text.startswith("ts") else text


cdef int misfit(str name, str reason, Py_ssize_t row=-1) except -1:
    raise EncodeError(reason, column=name, row=None if row < 0 else row)


cdef int bind_buffers(Column* c, const ArrowArray* array, str name, int64_t base) except -1:
    """Point to the buffers of an array that is no list."""
    cdef int n = 3 if c.form == TEXT else 2
    if array.n_buffers != n or array.buffers is NULL:
        misfit(name, f"{n} buffers expected, the Arrow array has {array.n_buffers}")
    bind_validity(c, array, base)
    if c.form == TEXT:
        c.offsets = array.buffers[1]
        c.data = <const uint8_t*>array.buffers[2]
    else:
        c.data = <const uint8_t*>array.buffers[1]
    if array.length and (c.offsets if c.form == TEXT else c.data) is NULL:
        misfit(name, "the Arrow array lacks a buffer")
    return 0


cdef int bind_validity(Column* c, const ArrowArray* array, int64_t base) noexcept:
    c.offset = base + array.offset
    if array.null_count != 0:    # -1: unknown
        c.validity = <const uint8_t*>array.buffers[0]
    return 0


cdef int bind_plain(Column* c, const ArrowSchema* schema, const ArrowArray* array, uint32_t value_type, str name,
                    int64_t base) except -1:
    """Take a column of a type that is no list over; `base` rows of the array come before the first."""
    found = format_of(schema)
    known = FORMATS.get(value_type, ("z", "Z"))
    if found not in known or schema.dictionary is not NULL:
        kind = "a dictionary" if schema.dictionary is not NULL else f"Arrow type {found!r}"
        misfit(name, f"{type_name(value_type)} is not encoded from {kind}, but from {' or '.join(map(repr, known))}")
    c.form = FORM_OF_FORMAT[found]
    c.member = value_type if value_type in FORMATS else 0
    c.large = found in ("U", "Z")
    c.is_time = found in TICKS
    c.divisor = TICKS.get(found, 1)
    return bind_buffers(c, array, name, base)


cdef int bind_list(Column* c, const ArrowSchema* schema, const ArrowArray* array, uint32_t value_type, str name,
                   int64_t base) except -1:
    found = format_of(schema)
    is_fixed = found.startswith("+w:")
    if found not in ("+l", "+L") and not is_fixed:
        misfit(name, f"{type_name(value_type)} is not encoded from Arrow type {found!r}, but from '+l' or '+L'")
    if schema.n_children != 1 or array.n_children != 1 or array.n_buffers != (1 if is_fixed else 2):
        misfit(name, "the Arrow array is no list")
    c.form = LIST
    c.member = value_type
    c.large = found == "+L"
    bind_validity(c, array, base)
    if is_fixed:
        c.width = int(found[3:])
    else:
        c.offsets = array.buffers[1]
        if array.length and c.offsets is NULL:
            misfit(name, "the Arrow array lacks a buffer")
    return bind_plain(c.items, schema.children[0], array.children[0], ELEMENT[value_type], name, 0)


cdef int64_t MAX_CELL = 1 << 28    # bytes of a text, elements of a list: a Redis value ends at 512 MB


cdef int check_cell(const Column* c, int64_t at, int64_t limit, str name, Py_ssize_t row) except -1:
    """The offsets of a cell of texts or lists must not fall, nor end behind `limit`; text must be UTF-8."""
    cdef int64_t start, stop
    if not is_valid(c, at):    # its offsets may be anything
        return 0
    start = offset_at(c, at)
    stop = offset_at(c, at + 1)
    if start < 0 or stop < start or stop > limit:
        misfit(name, f"the Arrow offsets {start} and {stop} are not in order", row)
    if stop - start > MAX_CELL:
        misfit(name, f"{stop - start} bytes or elements; a value may have {MAX_CELL}", row)
    if c.form == TEXT and stop > start:
        if c.data is NULL:
            misfit(name, "the Arrow array lacks a buffer", row)
        if c.member == STRING and not is_utf8(c.data + start, stop - start):
            misfit(name, "the text is not UTF-8, so no reader could show it", row)
    return 0


cdef inline bint is_utf8(const uint8_t* p, int64_t n) noexcept:
    cdef int64_t i = 0
    cdef uint64_t word = 0
    while i + 8 <= n:
        memcpy(&word, p + i, 8)
        if word & <uint64_t>0x8080808080808080:
            return is_wide_utf8(p, n)
        i += 8
    while i < n:
        if p[i] >= 0x80:
            return is_wide_utf8(p, n)
        i += 1
    return True


cdef bint is_wide_utf8(const uint8_t* p, int64_t n) noexcept:
    cdef PyObject* text = raw_decode_utf8(<const char*>p, n, NULL)
    if text is NULL:
        PyErr_Clear()
        return False
    steal(text)
    return True


cdef int check_cells(const Column* c, int64_t limit, const int64_t* rows, Py_ssize_t n, str name) except -1:
    """Look at every row of a column of texts or lists; what lies between the rows is nobody's."""
    cdef Py_ssize_t i
    cdef int64_t at, element
    for i in range(n):
        at = rows[i] + c.offset
        check_cell(c, at, limit, name, rows[i])
        if c.form == LIST and c.items.form == TEXT and is_valid(c, at):
            for element in range(offset_at(c, at), offset_at(c, at + 1)):
                check_cell(c.items, c.items.offset + element, INT64_MAX, name, rows[i])
    return 0


cdef int bind_column(Column* c, const ArrowSchema* schema, const ArrowArray* array, uint32_t value_type, str name,
                     int64_t base, const int64_t* rows, Py_ssize_t n) except -1:
    """Take a column over and look at all of its cells that are going to be written.

    Raises:
        EncodeError: not the Arrow type of the ValueType; text that is not UTF-8; an array that is not sound.
    """
    memset(c, 0, sizeof(Column) - sizeof(Column*))
    if ELEMENT[value_type] in FORMATS and not IS_SET[value_type]:
        memset(c.items, 0, sizeof(Column))
        bind_list(c, schema, array, value_type, name, base)
        return check_cells(c, array.children[0].length, rows, n, name)
    bind_plain(c, schema, array, BYTES if value_type in (PDF_BYTES, IMAGE_BYTES) else value_type, name, base)
    if c.form == TEXT:
        check_cells(c, INT64_MAX, rows, n, name)
        c.null_if_empty = c.member == BYTES and has_only_empty(c, rows, n)
    return 0


cdef bint has_only_empty(const Column* c, const int64_t* rows, Py_ssize_t n) noexcept:
    cdef Py_ssize_t i
    cdef int64_t at
    for i in range(n):
        at = rows[i] + c.offset
        if is_valid(c, at) and offset_at(c, at + 1) != offset_at(c, at):
            return False
    return True
