# Redis's replies (RESP2) as they are scanned where they lie.
#
#   number           ":" decimal CRLF
#   text             "$" length CRLF bytes CRLF, or "$-1" CRLF for nothing
#   array            "*" length CRLF, then its elements
#   error            "-" text CRLF

class UnusualReply(Exception):
    """A reply that is not the array that was expected: an error, for instance.

    Attributes:
        rest: the bytes from that reply on, for a RESP parser.
        key: the entity key that the command was about, without the project.
    """

    def __init__(self, rest, key):
        super().__init__("unusual reply")
        self.rest = rest
        self.key = key


cdef inline Py_ssize_t read_length(const uint8_t* data, Py_ssize_t at, Py_ssize_t size, uint8_t kind, int64_t* out) noexcept:
    """Read kind, decimal number, CRLF. Returns the offset behind it, 0 when bytes are missing, -1 when it is another kind."""
    # Nearly all lengths have one digit or two, and their bytes are all there.
    cdef const uint8_t* p = data + at
    if likely(size - at >= 5 and p[0] == kind and c'0' <= p[1] <= c'9'):
        if p[2] == c'\r' and p[3] == c'\n':
            out[0] = p[1] - c'0'
            return at + 4
        if c'0' <= p[2] <= c'9' and p[3] == c'\r' and p[4] == c'\n':
            out[0] = (p[1] - c'0') * 10 + (p[2] - c'0')
            return at + 5
    return read_any_length(data, at, size, kind, out)


cdef Py_ssize_t read_any_length(
    const uint8_t* data, Py_ssize_t at, Py_ssize_t size, uint8_t kind, int64_t* out
) noexcept:
    cdef int64_t n = 0
    cdef bint negative = False
    cdef Py_ssize_t digits
    if at >= size:
        return 0
    if data[at] != kind:
        return -1
    at += 1
    if at < size and data[at] == c'-':
        negative = True
        at += 1
    digits = at
    while at < size and c'0' <= data[at] <= c'9':
        n = n * 10 + (data[at] - c'0')
        at += 1
        if at - digits > 10:    # Redis values end at 512 MB
            return -1
    if at + 1 >= size:
        return 0
    if data[at] != c'\r' or data[at + 1] != c'\n' or at == digits:
        return -1
    out[0] = -n if negative else n
    return at + 2


cdef Py_ssize_t read_text(const uint8_t* data, Py_ssize_t at, Py_ssize_t size, int64_t* length) noexcept:
    """Read "$", length, CRLF, bytes, CRLF. Returns the offset of the bytes, 0 when some are missing, -1 if it is not that."""
    cdef Py_ssize_t start = read_length(data, at, size, c'$', length)
    if start <= 0:
        return start
    if length[0] < 0:
        return -1
    if size - start < length[0] + 2:
        return 0
    return start if data[start + length[0]] == c'\r' and data[start + length[0] + 1] == c'\n' else -1


cdef const uint8_t* given_bytes(object data, Py_ssize_t size, Py_ssize_t* out) except NULL:
    """The bytes of bytes, or the first `size` of a bytearray (of bytes as well, if it is not -1); `out` is how many."""
    cdef Py_ssize_t n
    cdef const char* p
    if isinstance(data, bytes):
        p, n = PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
        if size == -1:
            size = n
    elif isinstance(data, bytearray):
        p, n = PyByteArray_AS_STRING(data), PyByteArray_GET_SIZE(data)
    else:
        raise TypeError(f"bytes or a bytearray expected, got {type(data).__name__}")
    if not 0 <= size <= n:
        raise ValueError(f"{size} bytes of {n}")
    out[0] = size
    return <const uint8_t*>p


cdef Py_ssize_t read_error(const uint8_t* data, Py_ssize_t at, Py_ssize_t size) noexcept:
    """Read "-", text, CRLF. Returns the offset behind it, 0 when bytes are missing, -1 if it is too long or not that."""
    cdef const uint8_t* end = <const uint8_t*>memchr(data + at, c'\n', size - at)
    if end is NULL:
        return 0 if size - at < 1 << 16 else -1
    return end - data + 1 if data[at] == c'-' and end - data - at >= 2 and end[-1] == c'\r' else -1
