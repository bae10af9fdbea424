# Entity keys and hash field ids.
#
#   version 3        u32 n | n times (u32 2, u32 length, name) | n times (u32 type, u32 length, value), little-endian,
#                    names sorted by code point, values in the order of their names
#   version 2        the same without n and without the lengths of names
#   version 0 and 1  as 2, but INT64 takes 4 bytes
#   value            STRING utf-8 | BYTES as is | INT32 i32 | INT64 i64 | UNIX_TIMESTAMP i64 seconds
#   hash field id    murmur3 x86 32-bit, seed 0, of "view:feature", as u32 little-endian
#                    (Austin Appleby's public-domain MurmurHash3)

cdef uint32_t rotl32(uint32_t x, int r) noexcept:
    return x << r | x >> (32 - r)


cdef uint32_t murmur3(const uint8_t* p, Py_ssize_t n) noexcept:
    cdef uint32_t h = 0, k = 0
    cdef Py_ssize_t i
    for i in range(n // 4):
        k = fixed32(p + 4 * i) * <uint32_t>0xCC9E2D51
        h ^= rotl32(k, 15) * <uint32_t>0x1B873593
        h = rotl32(h, 13) * 5 + <uint32_t>0xE6546B64
    k = 0
    for i in range(n & 3):
        k |= <uint32_t>p[(n & ~<Py_ssize_t>3) + i] << 8 * i
    if n & 3:
        h ^= rotl32(k * <uint32_t>0xCC9E2D51, 15) * <uint32_t>0x1B873593
    h ^= <uint32_t>n
    h = (h ^ h >> 16) * <uint32_t>0x85EBCA6B
    h = (h ^ h >> 13) * <uint32_t>0xC2B2AE35
    return h ^ h >> 16


def murmur3_32(bytes data not None):
    """Return murmur3 x86 32-bit (seed 0) of the bytes."""
    return murmur3(<const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


def field_id(str view not None, str feature not None):
    """Return the 4-byte name of a feature's field in the Redis hash of its entity.

    Args:
        view: the stored name of the feature view, with its version suffix if it has one, never an alias.
        feature: the feature's name.
    """
    return murmur3_32(f"{view}:{feature}".encode()).to_bytes(4, "little")


# --- values of join keys ---------------------------------------------------------------------------------------------

cdef object key_int(object value, uint32_t value_type):
    """An integer key: integers, integral floats and integer text."""
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value} is not an integer")
    if isinstance(value, (bytes, datetime)):
        raise TypeError(f"{type_name(value_type)} expected, got {type(value).__name__}")
    try:
        number = int(value) if isinstance(value, (float, str)) else int(operator.index(value))
    except (TypeError, ValueError):
        if not hasattr(value, "__int__"):
            raise ValueError(f"{type_name(value_type)} expected, got {repr(value)[:40]}") from None
        number = int(value)
        if number != value:
            raise ValueError(f"{value} is not an integer")
    if value_type == INT32 and not INT32_MIN <= number <= INT32_MAX or not INT64_MIN <= number <= INT64_MAX:
        raise ValueError(f"{number} is out of the range of {type_name(value_type)}")
    return number


cdef object key_text(object value):
    if isinstance(value, (bytes, bytearray, memoryview, list, tuple, dict, set)):
        raise TypeError(f"STRING expected, got {type(value).__name__}")
    return str(value)


cdef object key_value(object value, uint32_t value_type):
    """The canonical form of a join-key value, which may be a protobuf Value: str, bytes or int."""
    if hasattr(value, "WhichOneof"):
        member = value.WhichOneof("val")
        value = None if member is None or member == "null_val" else getattr(value, member)
    if is_missing(value):
        raise ValueError("the value is null")
    if value_type == STRING:
        return key_text(value)
    if value_type == INT32 or value_type == INT64:
        return key_int(value, value_type)
    if value_type == UNIX_TIMESTAMP:
        return seconds_of(value)
    if value_type == BYTES:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise TypeError(f"BYTES expected, got {type(value).__name__}")
        return bytes(value)
    raise ValueError(f"value type not supported for entity keys: {type_name(value_type)}")


cdef uint32_t key_type(object value) except 0:
    """The ValueType of a key whose view does not declare one."""
    cdef uint32_t value_type = infer_type(value)
    if value_type > UNIX_TIMESTAMP or value_type in (DOUBLE, FLOAT, BOOL):
        raise ValueError(f"value type not supported for entity keys: {type_name(value_type)}")
    return value_type


cdef int infer_key_type(list values, str name) except -1:
    """The ValueType of an undeclared column: that of its first value, or STRING if it has none."""
    if not values:
        return STRING
    try:
        return key_type(values[0])
    except (TypeError, ValueError) as exc:
        raise EntityError(str(exc), join_key=name, row=0) from None


cdef inline bint is_plain_key(object value, uint32_t value_type) noexcept:
    """Whether the value is canonical already: the common case, found without a Python call."""
    cdef int overflow = 0
    cdef int64_t number
    if value_type == STRING:
        return type(value) is str
    if value_type == BYTES:
        return type(value) is bytes
    if type(value) is not int:
        return False
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    return not overflow and (value_type != INT32 or INT32_MIN <= number <= INT32_MAX)


cdef list key_column(list values, uint32_t value_type, str name):
    """A new list of the canonical values of one column of join keys."""
    cdef Py_ssize_t row
    cdef list result = values.copy()
    for row in range(PyList_GET_SIZE(result)):
        value = result[row]
        if likely(is_plain_key(value, value_type)):
            continue
        try:
            result[row] = key_value(value, value_type)
        except (TypeError, ValueError) as exc:
            raise EntityError(str(exc), join_key=name, row=row) from None
    return result


cdef int put_key_value(Sink out, object value, uint32_t value_type, int version) except -1:
    """Append type, length and bytes of a canonical value."""
    cdef Py_ssize_t n = 0
    cdef const char* text
    cdef int64_t number
    cdef uint8_t* p
    if value_type == STRING:
        text = PyUnicode_AsUTF8AndSize(value, &n)
        p = write_u32(write_u32(out.room(8 + n), STRING), <uint32_t>n)
        memcpy(p, text, n)
        out.size += 8 + n
        return 0
    out.put_u32(value_type)
    if value_type == BYTES:
        out.put_u32(<uint32_t>PyBytes_GET_SIZE(value))
        return out.put_bytes(value)
    number = value
    if value_type == INT32 or (value_type == INT64 and version < 2):
        if not INT32_MIN <= number <= INT32_MAX:
            raise ValueError(f"{number} does not fit the 4 bytes that key version {version} has for integers")
        out.put_u32(4)
        return out.put_u32(<uint32_t>number)
    out.put_u32(8)
    return out.put_u64(<uint64_t>number)


def entity_key_prefix(join_keys, int version=3):
    """Return the constant first part of all entity keys with these join keys: their names, sorted."""
    cdef Sink out = Sink.of(64)
    names = [name.encode() for name in sorted(join_keys)]
    if version >= 3:
        out.put_u32(len(names))
    for name in names:
        out.put_u32(STRING)
        if version >= 3:
            out.put_u32(len(name))
        out.put_bytes(name)
    return out.finish()


def serialize_entity_key(join_keys, values, value_types, int version=3):
    """Serialise an entity key as Feast does.

    Args:
        join_keys: names, in any order.
        values: one per name: str, bytes, int, or seconds or a datetime for UNIX_TIMESTAMP.
        value_types: the ValueType of each; 0 infers it from the Python type.
        version: `entity_key_serialization_version`, 0 to 3; higher ones behave as 3.
    Raises:
        EntityError: a name occurs twice, or a value cannot be a key; the text names the join key.
    """
    cdef Sink out = Sink.of(64)
    cdef uint32_t value_type
    out.put_bytes(entity_key_prefix(join_keys, version))
    order = sorted(zip(join_keys, values, value_types, strict=True), key=operator.itemgetter(0))
    for i, (name, value, declared) in enumerate(order):
        if i and order[i - 1][0] == name:
            raise EntityError("the join key occurs twice", join_key=name)
        try:
            if is_missing(value):
                raise ValueError("the value is null")
            value_type = declared or key_type(value)
            put_key_value(out, key_value(value, value_type), value_type, version)
        except (TypeError, ValueError) as exc:
            raise EntityError(str(exc), join_key=name) from None
    return out.finish()


cdef int read_u32(Cursor* c, uint32_t* out) except -1:
    out[0] = fixed32(take(c, 4))
    return 0


cdef object read_key_text(Cursor* c):
    cdef uint32_t n = 0
    cdef Cursor text
    read_u32(c, &n)
    text = Cursor(c.start, take(c, n), c.at)
    return text_of(&text)


cdef object read_key_value(Cursor* c, uint32_t value_type):
    cdef uint32_t n = 0
    cdef const uint8_t* p
    if value_type == STRING:
        return read_key_text(c)
    read_u32(c, &n)
    if n != (0 if value_type == BYTES else 4 if value_type == INT32 else 8) and value_type != BYTES:
        fail(c, f"{type_name(value_type)} takes {n} bytes")
    p = take(c, n)
    if value_type == BYTES:
        return PyBytes_FromStringAndSize(<const char*>p, n)
    if value_type == INT32:
        return <int32_t>fixed32(p)
    if value_type == INT64 or value_type == UNIX_TIMESTAMP:
        return <int64_t>fixed64(p)
    fail(c, f"{type_name(value_type)} is not a type of entity keys")


def deserialize_entity_key(bytes data not None):
    """Split an entity key of version 3.

    Returns:
        (names, value types, values), three tuples in key order.
    Raises:
        DecodeError: the bytes are not such a key.
    """
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef Cursor c = Cursor(p, p, p + PyBytes_GET_SIZE(data))
    cdef uint32_t n = 0, value_type = 0
    cdef list names = [], types = [], values = []
    read_u32(&c, &n)
    for _ in range(n):
        read_u32(&c, &value_type)
        if value_type != STRING:
            fail(&c, f"a join key's name has type {value_type}")
        names.append(read_key_text(&c).rstrip("\0"))    # Feast drops trailing NULs of names
    for _ in range(n):
        read_u32(&c, &value_type)
        types.append(value_type)
        values.append(read_key_value(&c, value_type))
    if c.at != c.end:
        fail(&c, f"{c.end - c.at} bytes after the last value")
    return tuple(names), tuple(types), tuple(values)
