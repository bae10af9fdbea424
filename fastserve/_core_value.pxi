# feast.types.Value: wire bytes -> Python.
#
#   Value            one field whose number is the ValueType; no field at all is null
#   1 bytes, 2 string, 3 int32, 4 int64 (varints), 5 double (8 bytes), 6 float (4 bytes), 7 bool, 8 seconds since the epoch
#   11-18, 22-29     lists and sets of 1-8: a message of `repeated T val = 1`, numbers packed (unpacked is read too)
#   32 JSON, 36 and 37 UUID, 44 decimal are text; 33, 38, 39, 45 lists and 40, 41, 46 sets of them
#   20, 34           map: repeated {1 key string, 2 Value}; 21 and 35 lists of it; 42, 43 repeated Value
#   47 scalar map: repeated {1 MapKey, 2 Value}; 48 {1 seconds, 2 zone name}
# As in protobuf, unknown fields are skipped and of several members the last one counts; but a message that is given
# twice, which protobuf would merge, is refused: no writer makes one.

cdef enum:
    BYTES = 1, STRING = 2, INT32 = 3, INT64 = 4, DOUBLE = 5, FLOAT = 6, BOOL = 7, UNIX_TIMESTAMP = 8
    BYTES_LIST = 11, UNIX_TIMESTAMP_LIST = 18, NULL_MEMBER = 19, MAP = 20, MAP_LIST = 21
    BYTES_SET = 22, UNIX_TIMESTAMP_SET = 29, PDF_BYTES = 30, IMAGE_BYTES = 31, JSON = 32, JSON_LIST = 33
    STRUCT = 34, STRUCT_LIST = 35, UUID_TEXT = 36, TIME_UUID = 37, UUID_LIST = 38, TIME_UUID_LIST = 39, UUID_SET = 40
    TIME_UUID_SET = 41, VALUE_LIST = 42, VALUE_SET = 43, DECIMAL = 44, DECIMAL_LIST = 45, DECIMAL_SET = 46
    SCALAR_MAP = 47, ZONED_TIMESTAMP = 48
    LAST_MEMBER = 48
    VALUE = 0            # as an element: a whole Value
    NOT_A_MEMBER = 255
    MAX_DEPTH = 100      # protobuf's own limit for nested messages

cdef int64_t NULL_SECONDS = INT64_MIN    # a null in a column of timestamps

cdef uint8_t[49] WIRE        # member -> its wire type
cdef uint8_t[49] ELEMENT     # repeated member -> the member that one element is
cdef uint8_t[49] IS_SET

memset(WIRE, NOT_A_MEMBER, 49)
memset(ELEMENT, NOT_A_MEMBER, 49)
memset(IS_SET, 0, 49)
for _member in (INT32, INT64, BOOL, UNIX_TIMESTAMP, NULL_MEMBER):
    WIRE[_member] = 0
WIRE[DOUBLE] = 1
WIRE[FLOAT] = 5
for _member in (1, 2, *range(11, 19), *range(20, 30), *range(32, 49)):
    WIRE[_member] = 2
for _member in range(1, 9):
    ELEMENT[_member + 10] = ELEMENT[_member + 21] = _member
    IS_SET[_member + 21] = 1
for _member, _element in (
    (MAP_LIST, MAP), (STRUCT_LIST, STRUCT), (JSON_LIST, JSON), (UUID_LIST, UUID_TEXT), (TIME_UUID_LIST, TIME_UUID),
    (UUID_SET, UUID_TEXT), (TIME_UUID_SET, TIME_UUID), (DECIMAL_LIST, DECIMAL), (DECIMAL_SET, DECIMAL),
    (VALUE_LIST, VALUE), (VALUE_SET, VALUE),
):
    ELEMENT[_member] = _element
for _member in (UUID_SET, TIME_UUID_SET, DECIMAL_SET):
    IS_SET[_member] = 1


cdef struct Member:
    uint32_t number          # 0: null
    uint64_t scalar          # wire types 0, 1 and 5
    Cursor body              # wire type 2


cdef inline int read_payload(Cursor* c, uint64_t wire, Member* m) except -1:
    cdef uint64_t n = 0
    if wire == 0:
        return take_varint(c, &m.scalar)
    if wire == 1:
        m.scalar = fixed64(take(c, 8))
    elif wire == 5:
        m.scalar = fixed32(take(c, 4))
    else:
        take_size(c, &n)
        m.body = Cursor(c.start, take(c, n), c.at)
    return 0


cdef inline bint read_plain_varint(const uint8_t* p, Py_ssize_t size, uint64_t* out) noexcept:
    """Read a varint that takes all of the bytes; False if it does not, or is too long to be one."""
    cdef Py_ssize_t i = 0
    cdef uint64_t value = 0
    if size < 1 or size > 9:
        return False
    while i < size - 1:
        if p[i] < 0x80:
            return False
        value |= <uint64_t>(p[i] & 0x7F) << 7 * i
        i += 1
    out[0] = value | <uint64_t>p[i] << 7 * i
    return p[i] < 0x80


cdef inline bint read_plain(Cursor* c, Member* m) noexcept:
    """Read the commonest Values: one scalar, text or bytes under a one-byte tag, of one-byte length, and nothing else.

    False, with nothing changed, leaves the bytes to those who look at everything.
    """
    cdef const uint8_t* p = c.at
    cdef Py_ssize_t size = c.end - p
    cdef uint8_t tag
    if size < 2:
        return False
    tag = p[0]
    if tag == (DOUBLE << 3 | 1):
        if size != 9:
            return False
        m.scalar = fixed64(p + 1)
    elif tag == (INT64 << 3) or tag == (INT32 << 3) or tag == (UNIX_TIMESTAMP << 3) or tag == (BOOL << 3):
        if not read_plain_varint(p + 1, size - 1, &m.scalar):
            return False
    elif tag == (STRING << 3 | 2) or tag == (BYTES << 3 | 2):
        if p[1] != size - 2 or p[1] >= 0x80:
            return False
        m.body = Cursor(c.start, p + 2, c.end)
    elif tag == (FLOAT << 3 | 5):
        if size != 5:
            return False
        m.scalar = fixed32(p + 1)
    else:
        return False
    m.number = tag >> 3
    c.at = c.end
    return True


cdef int read_member(Cursor* c, Member* m, int depth) except -1:
    """Read a whole Value: find the member that is set. `depth` is how deep the Value is nested."""
    cdef uint64_t tag = 0, number
    if likely(read_plain(c, m)):
        return 0
    m.number = 0
    while c.at < c.end:
        take_tag(c, &tag)
        number = tag >> 3
        if number > LAST_MEMBER or WIRE[number] == NOT_A_MEMBER:
            skip_field(c, tag & 7)
        elif (tag & 7) != WIRE[number]:
            fail(c, f"member {number} with wire type {tag & 7} is out of place")
        else:
            if m.number:
                drop_member(c, m, number, depth)
            read_payload(c, tag & 7, m)
            m.number = <uint32_t>number
    return 0


cdef int drop_member(const Cursor* c, const Member* m, uint64_t number, int depth) except -1:
    """A later member takes the place of `m`, which must be sound all the same.

    protobuf would merge two messages of one member; no writer makes that, so it is refused.
    """
    if m.number == number and (ELEMENT[number] != NOT_A_MEMBER or number in (MAP, STRUCT, SCALAR_MAP, ZONED_TIMESTAMP)):
        fail(c, f"member {number} is set twice")
    return put_json_member(Sink.of(256), m, depth + 1)


cdef inline bint is_null(const Member* m) noexcept:
    if m.number == UNIX_TIMESTAMP:
        return <int64_t>m.scalar == NULL_SECONDS
    return m.number == 0 or m.number == NULL_MEMBER


cdef class Elements:
    """Walks the elements of a repeated member, packed or not."""

    cdef Cursor body
    cdef Cursor packed
    cdef uint32_t element
    cdef uint64_t wire

    @staticmethod
    cdef Elements of(const Member* m):
        cdef Elements self = Elements.__new__(Elements)
        self.body = m.body
        self.packed = Cursor(m.body.start, m.body.at, m.body.at)
        self.element = ELEMENT[m.number]
        self.wire = WIRE[self.element] if self.element != VALUE else 2
        return self

    cdef bint next(self, Member* m) except -1:
        cdef uint64_t tag = 0, n = 0
        m.number = self.element
        while True:
            if self.packed.at < self.packed.end:
                read_payload(&self.packed, self.wire, m)
                return True
            if self.body.at >= self.body.end:
                return False
            take_tag(&self.body, &tag)
            if tag == (1 << 3 | self.wire):
                read_payload(&self.body, self.wire, m)
                return True
            if tag == (1 << 3 | 2):
                take_size(&self.body, &n)
                self.packed = Cursor(self.body.start, take(&self.body, n), self.body.at)
            elif tag >> 3 == 1:
                fail(&self.body, f"element has wire type {tag & 7}")
            else:
                skip_field(&self.body, tag & 7)


cdef int read_parts(Cursor* c, Cursor* first, Cursor* second) except -1:
    """Read a message of two length-delimited fields, 1 and 2, each at most once."""
    cdef uint64_t tag = 0, n = 0
    cdef Cursor* part
    first[0] = second[0] = Cursor(c.start, c.at, c.at)
    while c.at < c.end:
        take_tag(c, &tag)
        if tag >> 3 > 2:
            skip_field(c, tag & 7)
            continue
        part = first if tag >> 3 == 1 else second
        if tag & 7 != 2 or part.at != part.end:
            fail(c, f"field {tag >> 3} with wire type {tag & 7} is out of place")
        take_size(c, &n)
        part[0] = Cursor(c.start, take(c, n), c.at)
    return 0


cdef bint next_entry(Cursor* body, Cursor* key, Cursor* value) except -1:
    """Step to the next entry of a map or scalar map: repeated field 1, of {1 key, 2 Value}, either may be left out."""
    cdef uint64_t tag = 0, n = 0
    cdef Cursor entry
    while body.at < body.end:
        take_tag(body, &tag)
        if tag == (1 << 3 | 2):
            take_size(body, &n)
            entry = Cursor(body.start, take(body, n), body.at)
            read_parts(&entry, key, value)
            return True
        if tag >> 3 == 1:
            fail(body, f"map entry has wire type {tag & 7}")
        skip_field(body, tag & 7)
    return False


cdef int check_depth(const Cursor* c, int depth) except -1:
    return fail(c, f"nested more than {MAX_DEPTH} levels deep") if depth > MAX_DEPTH else 0


# --- wire -> Python --------------------------------------------------------------------------------------------------

cdef object text_of(const Cursor* c):
    cdef PyObject* text = raw_decode_utf8(<const char*>c.at, c.end - c.at, NULL)
    if text is NULL:
        PyErr_Clear()
        fail(c, "text is not UTF-8")
    return steal(text)


cdef inline object bytes_of(const Cursor* c):
    return PyBytes_FromStringAndSize(<const char*>c.at, c.end - c.at)


cdef double double_of(uint64_t raw) noexcept:
    cdef double value
    memcpy(&value, &raw, 8)
    return value


cdef double float_of(uint64_t raw) noexcept:
    cdef uint32_t low = <uint32_t>raw
    cdef float value
    memcpy(&value, &low, 4)
    return value


cdef object UTC = timezone.utc    # bound once: the attribute is looked up through the type


cdef object datetime_of(int64_t seconds, const Cursor* c):
    """An aware UTC datetime; None for the null of timestamp columns."""
    cdef Civil t
    if seconds == NULL_SECONDS:
        return None
    if not FIRST_SECOND <= seconds <= LAST_SECOND:
        fail(c, f"timestamp of {seconds} s is outside years 1 to 9999")
    civil_from_seconds(seconds, &t)
    return datetime_new(t.year, t.month, t.day, t.hour, t.minute, t.second, 0, UTC)


cdef object parsed_text(const Cursor* c, object make):
    text = text_of(c)
    try:
        return make(text)
    except (ValueError, ArithmeticError) as exc:
        raise DecodeError(f"{text[:60]!r} is not a {make.__name__}", c.at - c.start) from exc


cdef object json_of(const Cursor* c):
    text = text_of(c)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text    # as Feast: text that does not parse stays text


cdef object OFFSET = re.compile(r"(?:UTC|GMT)?(?:([+-])(\d\d):?(\d\d)(?::?(\d\d))?)?")


cdef object zone_of(str name):
    """The tzinfo that a zone name of a ZonedTimestamp stands for.

    An IANA name, or "UTC" or "GMT" with or without an offset, or an offset alone ("+05:30"). As in Feast, the instant of
    an unknown zone is given in UTC.
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if not name:
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        match = OFFSET.fullmatch(name.strip())
    if match is None or match[1] is None:
        return timezone.utc
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]), seconds=int(match[4] or 0))
    if offset >= timedelta(days=1):
        return timezone.utc
    return timezone(-offset if match[1] == "-" else offset)


cdef object zoned_datetime_of(Cursor c):
    cdef uint64_t tag = 0, n = 0, seconds = 0
    cdef Cursor zone = Cursor(c.start, c.at, c.at)
    while c.at < c.end:
        take_tag(&c, &tag)
        if tag == (1 << 3 | 0):
            take_varint(&c, &seconds)
        elif tag == (2 << 3 | 2):
            text_of(&zone)
            take_size(&c, &n)
            zone = Cursor(c.start, take(&c, n), c.at)
        elif tag >> 3 <= 2:
            fail(&c, f"zoned timestamp has tag {tag}")
        else:
            skip_field(&c, tag & 7)
    name = text_of(&zone)
    instant = datetime_of(<int64_t>seconds, &c)
    if instant is None:
        return None
    try:
        return instant.astimezone(zone_of(name))
    except OverflowError as exc:
        raise DecodeError("zoned timestamp is outside years 1 to 9999", zone.at - zone.start) from exc


cdef object map_of(Cursor body, int depth):
    cdef Cursor key, value
    result = {}
    while next_entry(&body, &key, &value):
        result[text_of(&key)] = python_of(&value, depth + 1)
    return result


cdef object scalar_map_of(Cursor body, int depth):
    cdef Cursor key, value
    result = {}
    while next_entry(&body, &key, &value):
        try:
            result[map_key_of(&key)] = python_of(&value, depth + 1)
        except TypeError as exc:    # a signalling NaN has no hash
            raise DecodeError(f"map key: {exc}", key.at - key.start) from exc
    return result


cdef uint8_t[11] MAP_KEY_MEMBER    # field of MapKey -> the member of Value with the same form
for _member, _element in enumerate(
    (NOT_A_MEMBER, INT32, INT64, FLOAT, DOUBLE, BOOL, UNIX_TIMESTAMP, BYTES, UUID_TEXT, TIME_UUID, DECIMAL)
):
    MAP_KEY_MEMBER[_member] = _element


cdef int read_map_key(Cursor* c, Member* m) except -1:
    """Read a MapKey as the member of Value that has the same form."""
    cdef uint64_t tag = 0
    m.number = 0
    while c.at < c.end:
        take_tag(c, &tag)
        if tag >> 3 > 10:
            skip_field(c, tag & 7)
        elif (tag & 7) != WIRE[MAP_KEY_MEMBER[tag >> 3]]:
            fail(c, f"map key {tag >> 3} with wire type {tag & 7} is out of place")
        else:
            if m.number:
                drop_member(c, m, 0, 0)
            read_payload(c, tag & 7, m)
            m.number = MAP_KEY_MEMBER[tag >> 3]
    return 0


cdef object map_key_of(Cursor* c):
    cdef Member m
    read_map_key(c, &m)
    return member_of(&m, c, 0)


cdef object repeated_of(const Member* m, int depth):
    cdef Elements elements = Elements.of(m)
    cdef Member element
    cdef list result = []
    while elements.next(&element):
        if element.number == VALUE:
            result.append(python_of(&element.body, depth + 1))
        else:
            result.append(member_of(&element, &elements.packed, depth + 1))
    if not IS_SET[m.number]:
        return result
    try:
        return set(result)
    except TypeError as exc:    # a signalling NaN has no hash
        raise DecodeError(f"set: {exc}", m.body.at - m.body.start) from exc


cdef object member_of(const Member* m, const Cursor* c, int depth):
    """The Python form of a member; `c` is where errors of members without a body are placed."""
    cdef uint32_t number = m.number
    if number == DOUBLE:
        return PyFloat_FromDouble(double_of(m.scalar))
    elif number == INT64:
        return PyLong_FromLongLong(<int64_t>m.scalar)
    elif number == STRING:
        return text_of(&m.body)
    elif number == FLOAT:
        return PyFloat_FromDouble(float_of(m.scalar))
    elif number == INT32:
        return PyLong_FromLongLong(<int32_t>m.scalar)
    elif number == BOOL:
        return True if m.scalar else False
    elif number == UNIX_TIMESTAMP:
        return datetime_of(<int64_t>m.scalar, c)
    elif number == BYTES:
        return bytes_of(&m.body)
    elif number == 0 or number == NULL_MEMBER:
        return None
    elif number == JSON:
        return json_of(&m.body)
    elif number == UUID_TEXT or number == TIME_UUID:
        return parsed_text(&m.body, UUID)
    elif number == DECIMAL:
        return parsed_text(&m.body, Decimal)
    elif number == ZONED_TIMESTAMP:
        return zoned_datetime_of(m.body)
    check_depth(&m.body, depth)
    if number == MAP or number == STRUCT:
        return map_of(m.body, depth)
    elif number == SCALAR_MAP:
        return scalar_map_of(m.body, depth)
    return repeated_of(m, depth)


cdef object python_of(Cursor* c, int depth):
    """The Python form of a whole Value."""
    cdef Member m
    read_member(c, &m, depth)
    return member_of(&m, c, depth)


cdef inline object value_of(const uint8_t* p, Py_ssize_t n, uint32_t hint):
    """Decode a stored Value; `hint` is the ValueType that the schema promises (0: none)."""
    cdef Cursor c = Cursor(p, p, p + n)
    cdef uint64_t number = 0
    if hint >= UUID_TEXT and hint <= TIME_UUID_SET:
        return uuid_of(&c, hint)
    # The commonest Values take the shortest way: they are told by their first byte and their size.
    if n == 9 and p[0] == (DOUBLE << 3 | 1):
        return PyFloat_FromDouble(double_of(fixed64(p + 1)))
    if n == 5 and p[0] == (FLOAT << 3 | 5):
        return PyFloat_FromDouble(float_of(fixed32(p + 1)))
    if n >= 2 and p[0] == (STRING << 3 | 2) and p[1] < 0x80 and p[1] == n - 2:
        c.at = p + 2
        return text_of(&c)
    if n >= 2 and p[0] & 7 == 0 and read_plain_varint(p + 1, n - 1, &number):
        if p[0] == (INT64 << 3):
            return PyLong_FromLongLong(<int64_t>number)
        if p[0] == (INT32 << 3):
            return PyLong_FromLongLong(<int32_t>number)
        if p[0] == (UNIX_TIMESTAMP << 3):
            c.at = c.end
            return datetime_of(<int64_t>number, &c)
        if p[0] == (BOOL << 3):
            return True if number else False
    return python_of(&c, 0)


cdef object uuid_of(Cursor* c, uint32_t hint):
    """Features that the schema calls UUID were once stored as plain text: those become UUIDs too."""
    value = python_of(c, 0)
    try:
        if isinstance(value, str):
            return UUID(value)
        if isinstance(value, (list, set)):
            return type(value)(UUID(item) if isinstance(item, str) else item for item in value)
    except ValueError as exc:
        raise DecodeError("stored text is not a UUID", 0) from exc
    return value


def decode_value(bytes data not None, uint32_t value_type=0):
    """Return the Python form of a serialised `feast.types.Value`.

    Numbers, text, bytes and booleans as such; timestamps as aware UTC datetimes, zoned ones in their zone; UUIDs as
    uuid.UUID; decimals as Decimal; JSON parsed; lists, sets and maps as list, set and dict; null as None.

    Args:
        data: the serialised message; empty is null.
        value_type: the ValueType of the schema, which matters only for UUIDs that were stored as text.
    Raises:
        DecodeError: the bytes are not a Value; the offset counts from the start of `data`.
    """
    return value_of(<const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), value_type)
