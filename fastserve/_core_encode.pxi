# feast.types.Value: Python -> wire bytes, by the ValueType of the schema. The layout is that of _core_value.pxi.
#
# A value that is null (None, NaN, NaT) becomes no bytes at all, except in a timestamp column, where NaN and NaT become
# the null of such columns, INT64_MIN seconds; a None element of a list becomes the zero of its type.

cdef str type_name(uint32_t value_type):
    names = {
        BYTES: "BYTES", STRING: "STRING", INT32: "INT32", INT64: "INT64", DOUBLE: "DOUBLE", FLOAT: "FLOAT",
        BOOL: "BOOL", UNIX_TIMESTAMP: "UNIX_TIMESTAMP", MAP: "MAP", STRUCT: "STRUCT", JSON: "JSON",
        SCALAR_MAP: "SCALAR_MAP", ZONED_TIMESTAMP: "ZONED_TIMESTAMP", UUID_TEXT: "UUID", TIME_UUID: "TIME_UUID",
        DECIMAL: "DECIMAL", VALUE_LIST: "VALUE_LIST", VALUE_SET: "VALUE_SET",
    }
    if value_type <= LAST_MEMBER and ELEMENT[value_type] != NOT_A_MEMBER and value_type not in names:
        return f"{type_name(ELEMENT[value_type])}_{'SET' if IS_SET[value_type] else 'LIST'}"
    return names.get(value_type, f"value type {value_type}")


cdef int refuse(object value, uint32_t value_type) except -1:
    text = repr(value)
    raise TypeError(f"{type_name(value_type)} expected, got {type(value).__name__} {text[:40]}")


cdef bint is_missing(object value) except -1:
    """None, NaN, and the NaT and NA of NumPy and pandas: the values that differ from themselves."""
    if value is None:
        return True
    if isinstance(value, float):
        return isnan(PyFloat_AS_DOUBLE(value))
    if isinstance(value, (int, str, bytes, list, tuple, dict, set)) or hasattr(value, "__len__"):
        return False
    if isinstance(value, Decimal):
        return value.is_nan()
    try:
        return bool(value != value)
    except TypeError:    # comparing pandas.NA gives NA, which has no truth
        return True


cdef int64_t int_of(object value, uint32_t value_type) except? -1:
    """What `int()` makes of the value, checked against the range of the type; a datetime is its seconds."""
    cdef int64_t low = INT32_MIN if value_type == INT32 else INT64_MIN
    cdef int64_t high = INT32_MAX if value_type == INT32 else INT64_MAX
    if isinstance(value, (bytes, list, tuple, dict, set)):
        refuse(value, value_type)
    try:
        number = seconds_of(value) if isinstance(value, datetime) else int(value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ValueError(f"{type_name(value_type)} expected, got {str(value)[:40]!r}") from exc
    if number < low or number > high:
        raise ValueError(f"{number} is out of the range of {type_name(value_type)}")
    return number


cdef object EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


cdef int64_t seconds_of(object value) except? -1:
    """Seconds since the epoch of a datetime (naive: UTC), date, datetime64, number or numeric text; fractions are cut off."""
    if isinstance(value, datetime):
        if value != value:
            return NULL_SECONDS
        delta = (value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)) - EPOCH
        micros = delta.days * 86400000000 + delta.seconds * 1000000 + delta.microseconds
        return micros // 1000000 if micros >= 0 else -(-micros // 1000000)
    if isinstance(value, date):
        return (value - EPOCH.date()).days * 86400
    if hasattr(value, "astype") and hasattr(value, "dtype") and value.dtype.kind == "M":
        return int(value.astype("datetime64[s]").astype("int64"))
    if hasattr(value, "seconds") and hasattr(value, "nanos"):    # a protobuf Timestamp
        return value.seconds
    if is_missing(value):
        return NULL_SECONDS
    return int_of(value, UNIX_TIMESTAMP)


cdef double number_of(object value, uint32_t value_type) except? -1:
    if isinstance(value, (str, bytes)) and value_type == DOUBLE:
        refuse(value, value_type)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise TypeError(f"{type_name(value_type)} expected, got {type(value).__name__} {str(value)[:40]!r}") from exc


cdef bint bool_of(object value) except -1:
    if isinstance(value, (str, bytes, float)) or not hasattr(value, "__bool__"):
        refuse(value, BOOL)
    return bool(value)


cdef bytes json_text(object value):
    if not isinstance(value, str):
        return json.dumps(value).encode()
    try:
        json.loads(value)
    except ValueError as exc:
        raise ValueError(f"not valid JSON: {value[:40]!r}: {exc}") from exc
    return value.encode()


cdef bytes text_bytes(object value, uint32_t value_type):
    """The text forms: strings, JSON, UUIDs and decimals."""
    if value_type == JSON:
        return json_text(value)
    if isinstance(value, bytes) or is_array_like(value):
        refuse(value, value_type)
    text = str(value)
    try:
        if value_type == DECIMAL:
            Decimal(text)
        elif value_type != STRING:
            UUID(text)
    except (ValueError, ArithmeticError) as exc:
        raise ValueError(f"{type_name(value_type)} expected, got {text[:40]!r}") from exc
    return text.encode()


cdef object dict_of(object value, uint32_t value_type):
    if isinstance(value, (str, bytes)):
        try:
            value = json.loads(value)
        except ValueError as exc:
            raise ValueError(f"not valid JSON for {type_name(value_type)}: {value[:40]!r}: {exc}") from exc
    if not isinstance(value, dict):
        refuse(value, value_type)
    return value


cdef int put_map_body(Sink out, dict value, int depth) except -1:
    cdef Sink entry, inner
    for key, item in value.items():
        entry = Sink.of(64)
        inner = Sink.of(64)
        text = str(key).encode()
        entry.put_field(1, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        put_any(inner, item, depth + 1)
        entry.put_message(2, inner)
        out.put_message(1, entry)
    return 0


cdef uint32_t map_key_field(object key) except 0:
    """The field of MapKey that holds a key of this Python type."""
    if isinstance(key, bool):
        return 5
    if isinstance(key, int):
        return 2
    if isinstance(key, float):
        return 4
    if isinstance(key, datetime):
        return 6
    if isinstance(key, bytes):
        return 7
    if isinstance(key, UUID):
        return 8
    if isinstance(key, Decimal):
        return 10
    raise TypeError(f"SCALAR_MAP key of {type(key).__name__} {repr(key)[:40]}")


cdef int put_scalar_map_body(Sink out, dict value, int depth) except -1:
    cdef Sink entry, key_sink, inner
    cdef uint32_t field
    for key, item in value.items():
        entry = Sink.of(64)
        key_sink = Sink.of(32)
        inner = Sink.of(64)
        field = map_key_field(key)
        put_payload(key_sink, key, field, MAP_KEY_MEMBER[field], depth)
        entry.put_message(1, key_sink)
        put_any(inner, item, depth + 1)
        entry.put_message(2, inner)
        out.put_message(1, entry)
    return 0


cdef int put_zoned_body(Sink out, object value) except -1:
    if not isinstance(value, datetime):
        refuse(value, ZONED_TIMESTAMP)
    zone = value.tzinfo
    name = b"" if zone is None else (getattr(zone, "key", None) or value.tzname() or "").encode()
    seconds = seconds_of(value)
    if seconds:
        out.put_byte(1 << 3)
        out.put_varint(<uint64_t><int64_t>seconds)
    if name:
        out.put_field(2, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
    return 0


cdef object zero_of(uint32_t element):
    """What stands for None inside a list of this element type."""
    if element == STRING or element == JSON:
        return "" if element == STRING else "null"
    if element == BYTES:
        return b""
    if element == UNIX_TIMESTAMP:
        return float("nan")
    if element == DOUBLE or element == FLOAT:
        return 0.0
    return False if element == BOOL else 0


cdef list elements_of(object value, uint32_t value_type):
    """The elements of a list, tuple, set or array, or of JSON text in bytes; sets lose their duplicates."""
    cdef uint32_t element = ELEMENT[value_type]
    if isinstance(value, bytes) and value_type != BYTES_LIST:
        value = json.loads(value)
    if hasattr(value, "tolist") and not (hasattr(value, "dtype") and value.dtype.kind == "M"):
        value = value.tolist()
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__iter__"):
        refuse(value, value_type)
    if element == VALUE:
        return list(value)
    items = [zero_of(element) if item is None else item for item in value]
    return list(dict.fromkeys(items)) if IS_SET[value_type] else items


cdef int check_element(object item, uint32_t element, uint32_t value_type) except -1:
    """Lists are stricter than columns: 1.5 is no integer and 5 is no text."""
    if element == INT32 or element == INT64:
        if isinstance(item, (float, str)):
            refuse(item, element)
    elif element == STRING and not isinstance(item, str):
        refuse(item, element)
    return 0


cdef int put_repeated_body(Sink out, object value, uint32_t value_type, int depth) except -1:
    cdef uint32_t element = ELEMENT[value_type]
    cdef Sink packed, inner
    items = elements_of(value, value_type)
    if element == VALUE:
        for item in items:
            inner = Sink.of(64)
            if hasattr(item, "__len__") and len(item) == 0:
                item = None    # empty inner collections are stored as unset
            elif isinstance(item, (set, frozenset)):
                item = list(item)    # inner sets are stored as lists
            put_any(inner, item, depth + 1)
            out.put_message(1, inner)
        return 0
    if WIRE[element] == 2:
        for item in items:
            check_element(item, element, value_type)
            put_payload(out, item, 1, element, depth + 1)
        return 0
    packed = Sink.of(16 + 10 * len(items))
    for item in items:
        check_element(item, element, value_type)
        put_number(packed, item, element)
    return out.put_message(1, packed) if packed.size else 0


cdef int put_number(Sink out, object value, uint32_t value_type) except -1:
    """Append a number without its tag."""
    cdef double number
    cdef float narrow
    cdef uint64_t raw = 0
    cdef uint32_t low = 0
    if value_type == DOUBLE:
        number = number_of(value, value_type)
        memcpy(&raw, &number, 8)
        return out.put_u64(raw)
    if value_type == FLOAT:
        narrow = <float>number_of(value, value_type)
        memcpy(&low, &narrow, 4)
        return out.put_u32(low)
    if value_type == BOOL:
        return out.put_varint(bool_of(value))
    if value_type == UNIX_TIMESTAMP:
        return out.put_varint(<uint64_t>seconds_of(value))
    return out.put_varint(<uint64_t>int_of(value, value_type))


cdef int put_body(Sink out, object value, uint32_t value_type, int depth) except -1:
    """Append the bytes of a length-delimited member, without its tag and length."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    if value_type == BYTES:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            refuse(value, BYTES)
        return out.put_bytes(bytes(value))
    if value_type == STRING or value_type == JSON or value_type == DECIMAL or value_type in (UUID_TEXT, TIME_UUID):
        return out.put_bytes(text_bytes(value, value_type))
    if value_type == MAP or value_type == STRUCT:
        return put_map_body(out, dict_of(value, value_type), depth)
    if value_type == SCALAR_MAP:
        if not isinstance(value, dict):
            refuse(value, value_type)
        return put_scalar_map_body(out, value, depth)
    if value_type == ZONED_TIMESTAMP:
        return put_zoned_body(out, value)
    return put_repeated_body(out, value, value_type, depth)


cdef int put_payload(Sink out, object value, uint32_t field, uint32_t value_type, int depth) except -1:
    """Append field number `field` with the form of `value_type`."""
    cdef Sink body
    cdef uint64_t wire = WIRE[value_type]
    out.put_varint(<uint64_t>field << 3 | wire)
    if wire != 2:
        return put_number(out, value, value_type)
    body = Sink.of(64)
    put_body(body, value, value_type, depth)
    out.put_varint(body.size)
    return out.put(body.data, body.size)


cdef int put_member(Sink out, const Member* m) except -1:
    """Append a member that was read as a Value."""
    cdef uint64_t wire = WIRE[m.number]
    out.put_varint(<uint64_t>m.number << 3 | wire)
    if wire == 0:
        return out.put_varint(m.scalar)
    if wire == 1:
        return out.put_u64(m.scalar)
    if wire == 5:
        return out.put_u32(<uint32_t>m.scalar)
    out.put_varint(m.body.end - m.body.at)
    return out.put(m.body.at, m.body.end - m.body.at)


cdef dict TYPE_BY_NAME = {    # Python and NumPy type names -> ValueType, as Feast infers them
    "int": INT64, "int64": INT64, "uint64": INT64, "uint32": INT64,
    "int32": INT32, "int16": INT32, "uint16": INT32, "int8": INT32, "uint8": INT32,
    "float": DOUBLE, "float64": DOUBLE, "float32": FLOAT, "float16": FLOAT, "str": STRING, "str_": STRING,
    "bytes": BYTES, "bytes_": BYTES, "bool": BOOL, "bool_": BOOL, "datetime": UNIX_TIMESTAMP, "Timestamp": UNIX_TIMESTAMP,
    "date": UNIX_TIMESTAMP, "datetime64": UNIX_TIMESTAMP, "UUID": UUID_TEXT, "Decimal": DECIMAL, "dict": MAP,
}


cdef uint32_t infer_list_type(object value) except 0:
    cdef uint32_t element = 0, other
    for item in value:
        if item is None:
            continue
        if isinstance(item, (list, tuple, set, frozenset)):
            return VALUE_LIST
        other = infer_type(item)
        if element and other != element:
            raise ValueError(f"list mixes {type_name(element)} and {type_name(other)}")
        element = other
    if element == 0:
        raise TypeError("the type of an empty list cannot be inferred")
    for other in range(LAST_MEMBER + 1):
        if ELEMENT[other] == element and IS_SET[other] == isinstance(value, (set, frozenset)):
            return other
    return VALUE_LIST


cdef uint32_t infer_type(object value) except 0:
    """The ValueType that Feast gives a Python value whose type is not declared."""
    name = type(value).__name__
    if name == "dict" and value and not all(isinstance(key, str) for key in value):
        return SCALAR_MAP
    if name in TYPE_BY_NAME:
        return TYPE_BY_NAME[name]
    if isinstance(value, (list, tuple, set, frozenset)) or hasattr(value, "tolist"):
        return infer_list_type(value)
    raise TypeError(f"no value type for {name} {repr(value)[:40]}")


cdef int put_any(Sink out, object value, int depth) except -1:
    """Append a Value whose type is inferred; null and empty lists are unset."""
    cdef uint32_t value_type
    if is_missing(value) or (isinstance(value, (list, tuple)) and not value):
        return 0
    value_type = infer_type(value)
    return put_payload(out, value, value_type, value_type, depth)


cdef uint32_t stored_type(uint32_t value_type) except? 0:
    """The member that values of a ValueType are stored in."""
    if value_type == PDF_BYTES or value_type == IMAGE_BYTES:
        return BYTES
    if value_type > LAST_MEMBER or WIRE[value_type] == NOT_A_MEMBER or value_type == NULL_MEMBER:
        raise ValueError(f"value type {value_type} cannot be stored")
    return value_type


cdef bint is_array_like(object value):
    """Whether a value holds several; NumPy's own texts have the methods of an array, but are none."""
    if isinstance(value, (str, bytes)):
        return False
    return isinstance(value, (list, tuple, set, dict)) or hasattr(value, "tolist") and hasattr(value, "__len__")


cdef bint is_scalar_type(uint32_t member) noexcept:
    return member <= UNIX_TIMESTAMP or member in (UUID_TEXT, TIME_UUID, DECIMAL)


def encode_value(value, uint32_t value_type=0):
    """Serialise a Python value as a `feast.types.Value`.

    Args:
        value: what `decode_value` returns for the type, or anything Feast converts to it.
        value_type: the ValueType; 0 infers it from the Python type.
    Raises:
        TypeError, ValueError: the value is not of the type, or out of its range.
    """
    cdef Sink out
    cdef uint32_t member
    if value_type == 0:
        if is_missing(value):
            return b""
        value_type = infer_type(value)
    member = stored_type(value_type)
    if is_missing(value) and not (member == UNIX_TIMESTAMP and value is not None):
        return b""
    if is_scalar_type(member) and is_array_like(value):
        return b""    # as Feast, for which a column of scalars has no arrays
    out = Sink.of(64)
    put_payload(out, value, member, member, 0)
    return out.finish()


cdef bint is_plain(object value, uint32_t member) except -1:
    """Whether a value is what decoding its serialised form gives: of exactly the Python type, and in its range."""
    cdef int overflow = 0
    cdef int64_t number
    if member == DOUBLE:
        return type(value) is float and not isnan(PyFloat_AS_DOUBLE(value))
    if member == BOOL:
        return type(value) is bool
    if member == STRING:
        return type(value) is str and value.isascii()    # others may have surrogates, which are an error
    if (member == INT64 or member == INT32) and type(value) is int:
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        return not overflow and (member == INT64 or INT32_MIN <= number <= INT32_MAX)
    return False


cdef bint put_plain(Sink out, object value, uint32_t member) except -1:
    """Append a value that is of exactly the Python type that its member is made of; return whether it is."""
    cdef double number = 0
    cdef float narrow
    cdef uint64_t raw = 0
    cdef uint32_t low = 0
    cdef int overflow = 0
    cdef Py_ssize_t n = 0
    cdef const char* text = NULL
    if member == DOUBLE or member == FLOAT:
        if type(value) is not float or isnan(PyFloat_AS_DOUBLE(value)):
            return False
        number = PyFloat_AS_DOUBLE(value)
    elif member == INT64:
        if type(value) is not int:
            return False
        raw = <uint64_t>PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow:
            return False
    elif member == STRING:
        if type(value) is not str:
            return False
        text = PyUnicode_AsUTF8AndSize(value, &n)
    elif member != BOOL or type(value) is not bool:
        return False
    out.put_byte(<uint8_t>(member << 3 | WIRE[member]))
    if member == DOUBLE:
        memcpy(&raw, &number, 8)
        return 1 + out.put_u64(raw)
    if member == FLOAT:
        narrow = <float>number
        memcpy(&low, &narrow, 4)
        return 1 + out.put_u32(low)
    if member == STRING:
        out.put_varint(n)
        return 1 + out.put(text, n)
    return 1 + out.put_varint(raw if member == INT64 else value is True)


def encode_column(values, uint32_t value_type=0, str name="column"):
    """Serialise a column of Python values; a type that is not declared is inferred from the first value that tells it.

    Args:
        values: any iterable of what `encode_value` takes.
        value_type: the ValueType of all of them; 0 infers it.
        name: what errors call the column.
    Returns:
        A list of bytes, one per value, empty where the value is null. As with Feast, that is so too for lists in a column
        of scalars, and for all of a column of BYTES that has nothing but empty ones.
    Raises:
        TypeError, ValueError: naming the column and the 0-based row.
    """
    cdef list result = []
    cdef Sink out = Sink.of(64)
    values = list(values)
    if value_type == BYTES and not any(value is not None and value != b"" for value in values):
        values = [None if value == b"" else value for value in values]
    for row, value in enumerate(values):
        out.size = 0
        try:
            if put_plain(out, value, value_type):
                result.append(out.finish())
                continue
            if value_type == 0 and not is_missing(value):
                value_type = infer_type(value)
            result.append(encode_value(value, value_type) if value_type else b"")
        except (TypeError, ValueError) as exc:
            kind = TypeError if isinstance(exc, TypeError) else ValueError
            raise kind(f"{name}, row {row}: {exc}") from exc
    return result
