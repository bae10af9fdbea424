# Bytes: one bounded reader and one growing writer, which every part shares.
#
#   varint           base 128, least significant group first, at most 10 bytes
#   protobuf field   varint (number << 3 | wire type), then by wire type: 0 varint, 1 eight bytes, 2 varint length and
#                    that many bytes, 5 four bytes (https://protobuf.dev/programming-guides/encoding)
#   Timestamp        field 1 seconds (varint), field 2 nanos (varint), zero fields left out
#   RESP             "$" decimal length CRLF bytes CRLF; "*" decimal count CRLF items (https://redis.io/docs/reference/protocol-spec)

cdef extern from *:
    """
    #define fastserve_likely(x) __builtin_expect(!!(x), 1)
    """
    bint likely "fastserve_likely" (bint)

cdef extern from "Python.h":
    # Declared anew so that a failure can be turned into a DecodeError without a try block on the hot path.
    PyObject* raw_decode_utf8 "PyUnicode_DecodeUTF8" (const char*, Py_ssize_t, const char*)
    void PyErr_Clear()
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

cdef extern from *:
    """
    /* Steals the reference that PyUnicode_DecodeUTF8 returned. */
    #define fastserve_steal(p) ((PyObject*)(p))
    """
    object steal "fastserve_steal" (PyObject*)


cdef struct Cursor:
    const uint8_t* start     # of the stored value: offsets in errors count from here
    const uint8_t* at
    const uint8_t* end


cdef struct Span:
    const uint8_t* data
    int64_t size


cdef inline Span span_of(bytes source):
    return Span(<const uint8_t*>PyBytes_AS_STRING(source), PyBytes_GET_SIZE(source))


cdef int fail(const Cursor* c, str reason) except -1:
    raise DecodeError(reason, c.at - c.start)


cdef inline const uint8_t* take(Cursor* c, uint64_t n) except NULL:
    """Return the next `n` bytes and step over them: the only way bytes are read."""
    cdef const uint8_t* at = c.at
    if n > <uint64_t>(c.end - at):
        fail(c, f"{n} bytes expected, {c.end - at} left")
    c.at = at + n
    return at


cdef inline int take_varint(Cursor* c, uint64_t* out) except -1:
    if likely(c.at < c.end and c.at[0] < 0x80):
        out[0] = c.at[0]
        c.at += 1
        return 0
    return take_long_varint(c, out)


cdef int take_long_varint(Cursor* c, uint64_t* out) except -1:
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef const uint8_t* at = c.at
    while at < c.end and shift < 70:
        value |= <uint64_t>(at[0] & 0x7F) << shift if shift < 63 else <uint64_t>(at[0] & 1) << 63
        if at[0] < 0x80:
            c.at = at + 1
            out[0] = value
            return 0
        at += 1
        shift += 7
    return fail(c, "varint is longer than 10 bytes" if shift >= 70 else "varint is cut off")


cdef inline int take_tag(Cursor* c, uint64_t* tag) except -1:
    """Read the tag of a protobuf field: number << 3 | wire type."""
    cdef const uint8_t* at = c.at
    take_varint(c, tag)
    if tag[0] >> 3 == 0 or tag[0] >> 32 or c.at - at > 5:
        fail(c, f"field number {tag[0] >> 3} is not in use")
    return 0


cdef inline int take_size(Cursor* c, uint64_t* size) except -1:
    """Read the length of a length-delimited field; protobuf's messages end at 2 GiB."""
    cdef const uint8_t* at = c.at
    take_varint(c, size)
    if size[0] > INT32_MAX or c.at - at > 5:
        fail(c, "length is out of range")
    return 0


cdef inline uint64_t fixed64(const uint8_t* p) noexcept:
    cdef uint64_t low = fixed32(p)
    return low | <uint64_t>fixed32(p + 4) << 32


cdef inline uint32_t fixed32(const uint8_t* p) noexcept:
    return p[0] | <uint32_t>p[1] << 8 | <uint32_t>p[2] << 16 | <uint32_t>p[3] << 24


cdef int skip_field(Cursor* c, uint64_t wire) except -1:
    cdef uint64_t n = 0
    if wire == 0:
        take_varint(c, &n)
    elif wire == 1:
        take(c, 8)
    elif wire == 2:
        take_size(c, &n)
        take(c, n)
    elif wire == 5:
        take(c, 4)
    else:
        fail(c, f"wire type {wire} is not in use")
    return 0


# The range of Timestamp, and of Python's datetime: 0001-01-01 to 9999-12-31.
cdef int64_t FIRST_SECOND = -62135596800
cdef int64_t LAST_SECOND = 253402300799


cdef int64_t read_timestamp(const uint8_t* p, Py_ssize_t n) except? -1:
    """Microseconds since the epoch of a serialised google.protobuf.Timestamp; digits below a microsecond are dropped."""
    cdef Cursor c = Cursor(p, p, p + n)
    cdef uint64_t tag = 0, raw = 0
    cdef int64_t seconds = 0
    cdef int32_t nanos = 0
    while c.at < c.end:
        take_tag(&c, &tag)
        if tag == 0x08:
            take_varint(&c, &raw)
            seconds = <int64_t>raw
        elif tag == 0x10:
            take_varint(&c, &raw)
            nanos = <int32_t>raw
        else:
            skip_field(&c, tag & 7)
    if not FIRST_SECOND <= seconds <= LAST_SECOND or nanos < 0 or nanos > 999999999:
        fail(&c, f"timestamp of {seconds} s and {nanos} ns is out of range")
    return seconds * 1000000 + nanos // 1000



# Big blocks of memory are kept for the next who needs one: new ones cost the system a page fault for every 4 KB.
cdef enum:
    BLOCK_BYTES = 1 << 16        # smaller ones are not worth it
    MOST_BLOCK_BYTES = 1 << 22   # bigger ones are given back
    KEPT_BLOCKS = 4

cdef struct Block:
    void* data
    Py_ssize_t size

cdef Block[KEPT_BLOCKS] kept_blocks
memset(kept_blocks, 0, sizeof(kept_blocks))


cdef void* take_block(Py_ssize_t size, Py_ssize_t* got) except NULL:
    """Return memory of at least `size` bytes, and how many it has: the biggest kept block, since it may have to grow."""
    cdef void* data
    cdef int i, best = 0
    if size >= BLOCK_BYTES:
        for i in range(1, KEPT_BLOCKS):
            if kept_blocks[i].size > kept_blocks[best].size:
                best = i
        if kept_blocks[best].size >= size:
            data, got[0] = kept_blocks[best].data, kept_blocks[best].size
            kept_blocks[best] = Block(NULL, 0)
            return data
    data = PyMem_Malloc(size)
    if data is NULL:
        raise MemoryError
    got[0] = size
    return data


cdef void give_block(void* data, Py_ssize_t size) noexcept:
    """Free memory of `take_block`, or keep it in the place of a smaller block."""
    cdef int i, least = 0
    if BLOCK_BYTES <= size <= MOST_BLOCK_BYTES:
        for i in range(1, KEPT_BLOCKS):
            if kept_blocks[i].size < kept_blocks[least].size:
                least = i
        if kept_blocks[least].size < size:
            kept_blocks[least], data = Block(data, size), kept_blocks[least].data
    PyMem_Free(data)


@cython.final
@cython.freelist(16)
cdef class Sink:
    """A growing buffer of bytes that frees itself."""

    cdef uint8_t* data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity

    def __dealloc__(self):
        give_block(self.data, self.capacity)

    @staticmethod
    cdef Sink of(Py_ssize_t capacity):
        """A Sink with room for that many bytes. (A call of the class would take arguments as Python objects.)"""
        cdef Sink self = Sink.__new__(Sink)
        self.data = <uint8_t*>take_block(capacity, &self.capacity)
        return self

    cdef int grow(self, Py_ssize_t n) except -1:
        cdef Py_ssize_t capacity = 0
        cdef uint8_t* data = <uint8_t*>take_block(max(self.capacity * 2, self.size + n), &capacity)
        memcpy(data, self.data, self.size)
        give_block(self.data, self.capacity)
        self.data = data
        self.capacity = capacity
        return 0

    cdef inline uint8_t* room(self, Py_ssize_t n) except NULL:
        """Return where the next `n` bytes go; the caller writes them and adds to `size`."""
        if self.capacity - self.size < n:
            self.grow(n)
        return self.data + self.size

    cdef inline int put(self, const void* source, Py_ssize_t n) except -1:
        memcpy(self.room(n), source, n)
        self.size += n
        return 0

    cdef inline int put_bytes(self, bytes source) except -1:
        return self.put(PyBytes_AS_STRING(source), PyBytes_GET_SIZE(source))

    cdef inline int put_byte(self, uint8_t byte) except -1:
        self.room(1)[0] = byte
        self.size += 1
        return 0

    cdef inline int put_u32(self, uint32_t value) except -1:
        cdef uint8_t* p = self.room(4)
        cdef int i
        for i in range(4):
            p[i] = <uint8_t>(value >> 8 * i)
        self.size += 4
        return 0

    cdef inline int put_u64(self, uint64_t value) except -1:
        self.put_u32(<uint32_t>value)
        return self.put_u32(<uint32_t>(value >> 32))

    cdef int put_varint(self, uint64_t value) except -1:
        cdef uint8_t* p = self.room(10)
        cdef int n = 0
        while value >= 0x80:
            p[n] = <uint8_t>(value & 0x7F | 0x80)
            value >>= 7
            n += 1
        p[n] = <uint8_t>value
        self.size += n + 1
        return 0

    cdef inline int put_field(self, uint64_t number, const void* source, Py_ssize_t n) except -1:
        """Append a length-delimited protobuf field."""
        self.put_varint(number << 3 | 2)
        self.put_varint(n)
        return self.put(source, n)

    cdef inline int put_message(self, uint64_t number, Sink message) except -1:
        return self.put_field(number, message.data, message.size)

    cdef int put_decimal(self, int64_t value) except -1:
        """Append `value` as decimal digits."""
        cdef uint8_t[20] digits
        cdef int n = 20
        cdef uint64_t rest = <uint64_t>value if value >= 0 else <uint64_t>0 - <uint64_t>value
        while True:
            n -= 1
            digits[n] = <uint8_t>(48 + rest % 10)
            rest //= 10
            if rest == 0:
                break
        if value < 0:
            self.put_byte(45)
        return self.put(&digits[n], 20 - n)

    cdef inline int put_digits(self, uint32_t value, int width) except -1:
        """Append `value` with leading zeros."""
        cdef uint8_t* p = self.room(width)
        cdef int i
        for i in range(width - 1, -1, -1):
            p[i] = <uint8_t>(48 + value % 10)
            value //= 10
        self.size += width
        return 0

    cdef bytes finish(self):
        return PyBytes_FromStringAndSize(<char*>self.data, self.size)


cdef int put_timestamp(Sink out, int64_t micros) except -1:
    """Append a serialised google.protobuf.Timestamp."""
    cdef int64_t seconds = micros // 1000000
    cdef int64_t nanos = (micros - seconds * 1000000) * 1000
    if seconds:
        out.put_byte(0x08)
        out.put_varint(<uint64_t>seconds)
    if nanos:
        out.put_byte(0x10)
        out.put_varint(<uint64_t>nanos)
    return 0


def encode_timestamp(int64_t seconds, int64_t nanos=0):
    """Serialise a google.protobuf.Timestamp.

    Args:
        seconds: since the epoch, may be negative.
        nanos: 0 to 999,999,999; digits below a microsecond are dropped.
    Raises:
        ValueError: the time lies outside years 1 to 9999.
    """
    cdef Sink out = Sink.of(16)
    if not FIRST_SECOND <= seconds <= LAST_SECOND or not 0 <= nanos < 1000000000:
        raise ValueError(f"timestamp of {seconds} s and {nanos} ns is out of range")
    put_timestamp(out, seconds * 1000000 + nanos // 1000)
    return out.finish()


def decode_timestamp(bytes data not None):
    """Return the microseconds since the epoch of a serialised google.protobuf.Timestamp.

    Raises:
        DecodeError: the bytes are not a Timestamp, or it lies outside years 1 to 9999.
    """
    return read_timestamp(<const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


# --- JSON text -------------------------------------------------------------------------------------------------------

cdef uint8_t[256] JSON_ESCAPE    # 0: copy the byte; 1: \u00XX; else the letter after the backslash
memset(JSON_ESCAPE, 0, 256)
memset(JSON_ESCAPE, 1, 32)
for _code, _letter in ((8, b"b"), (9, b"t"), (10, b"n"), (12, b"f"), (13, b"r"), (34, b'"'), (92, b"\\")):
    JSON_ESCAPE[_code] = _letter[0]

cdef const char* HEX = b"0123456789abcdef"


cdef int put_json_text(Sink out, const uint8_t* p, Py_ssize_t n) except -1:
    """Append UTF-8 text as a JSON string; only what JSON demands is escaped."""
    cdef Py_ssize_t i, run = 0
    cdef uint8_t escape
    out.put_byte(34)
    for i in range(n):
        escape = JSON_ESCAPE[p[i]]
        if likely(escape == 0):
            continue
        out.put(p + run, i - run)
        run = i + 1
        out.put_byte(92)
        if escape == 1:
            out.put(b"u00", 3)
            out.put_byte(HEX[p[i] >> 4])
            out.put_byte(HEX[p[i] & 15])
        else:
            out.put_byte(escape)
    out.put(p + run, n - run)
    return out.put_byte(34)


cdef int put_json_str(Sink out, str text) except -1:
    cdef Py_ssize_t n = 0
    cdef const char* p = PyUnicode_AsUTF8AndSize(text, &n)
    return put_json_text(out, <const uint8_t*>p, n)


cdef int put_json_double(Sink out, double value) except -1:
    """Append the shortest text that reads back as `value`; the non-finite ones as Feast spells them."""
    if isfinite(value):
        return put_double(out, value)
    return out.put_bytes(b'"NaN"' if isnan(value) else b'"Infinity"' if value > 0 else b'"-Infinity"')


cdef int put_json_time(Sink out, int64_t micros) except -1:
    """Append RFC 3339 text with Z and 0, 3 or 6 fractional digits, the fewest that are exact."""
    cdef int64_t seconds = micros // 1000000
    cdef uint32_t fraction = <uint32_t>(micros - seconds * 1000000)
    cdef Civil t
    civil_from_seconds(seconds, &t)
    out.put_byte(34)
    out.put_digits(t.year, 4)
    out.put_byte(45)
    out.put_digits(t.month, 2)
    out.put_byte(45)
    out.put_digits(t.day, 2)
    out.put_byte(84)
    out.put_digits(t.hour, 2)
    out.put_byte(58)
    out.put_digits(t.minute, 2)
    out.put_byte(58)
    out.put_digits(t.second, 2)
    if fraction:
        out.put_byte(46)
        if fraction % 1000:
            out.put_digits(fraction, 6)
        else:
            out.put_digits(fraction // 1000, 3)
    return out.put(b'Z"', 2)


cdef struct Civil:
    int year, month, day, hour, minute, second


cdef void civil_from_seconds(int64_t seconds, Civil* out) noexcept:
    """Split seconds since the epoch into UTC calendar fields, for years 1 to 9999.

    Days are counted from 1 March of year 0, so that the leap day ends a year. Centuries, years and months come from
    multiples of affine functions, whose remainders are what is left: Neri and Schneider, Euclidean affine functions
    and their application to calendar algorithms, 2022 (doi 10.1002/spe.3172).
    """
    cdef uint64_t since_year_0 = <uint64_t>(seconds + <int64_t>719468 * 86400)
    cdef uint32_t days = <uint32_t>(since_year_0 // 86400)
    cdef uint32_t rest = <uint32_t>(since_year_0 - <uint64_t>days * 86400)
    cdef uint32_t quarters = 4 * days + 3
    cdef uint32_t century = quarters // 146097
    cdef uint64_t years = <uint64_t>2939745 * (quarters % 146097 | 3)    # of the century, in 32 bits and what is below
    cdef uint32_t day_of_year = <uint32_t>years // 2939745 // 4
    cdef uint32_t months = 2141 * day_of_year + 197913                   # in 16 bits and what is below
    cdef bint is_next = day_of_year >= 306                               # January and February
    out.year = <int>(100 * century + (years >> 32) + is_next)
    out.month = <int>((months >> 16) - 12 * is_next)
    out.day = <int>((months & 0xFFFF) // 2141 + 1)
    out.hour = <int>(rest // 3600)
    out.minute = <int>(rest // 60 % 60)
    out.second = <int>(rest % 60)
