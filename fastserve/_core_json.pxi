# feast.types.Value: wire bytes -> JSON text, as Feast's server spells it.

cdef int put_json_body(Sink out, const Cursor* c) except -1:
    """Append the text of a member as a JSON string."""
    cdef const uint8_t* p = c.at
    while p < c.end and p[0] < 0x80:
        p += 1
    if p < c.end:
        text_of(c)    # not ASCII: must be UTF-8, or it would break the whole answer
    return put_json_text(out, c.at, c.end - c.at)


cdef int put_json_base64(Sink out, const Cursor* c) except -1:
    out.put_byte(34)
    out.put_bytes(base64.b64encode(bytes_of(c)))
    return out.put_byte(34)


cdef int put_json_map(Sink out, Cursor body, int depth) except -1:
    cdef Cursor key, value
    cdef bint first = True
    out.put_byte(123)
    while next_entry(&body, &key, &value):
        if not first:
            out.put_byte(44)
        first = False
        put_json_body(out, &key)
        out.put_byte(58)
        put_json_value(out, &value, depth + 1)
    return out.put_byte(125)


cdef int put_json_scalar_map(Sink out, Cursor body, int depth) except -1:
    """Append an object; keys that are not text become the text of their JSON form.

    Several keys may have the same text, such as 0 and the timestamp 0: as in a dict, the last one counts.
    """
    cdef Cursor key, value
    cdef dict members = {}
    while next_entry(&body, &key, &value):
        members[json_key_of(&key)] = json_value_of(&value, depth + 1)
    out.put_byte(123)
    out.put_bytes(b",".join([b":".join(member) for member in members.items()]))
    return out.put_byte(125)


cdef bytes json_key_of(Cursor* c):
    cdef Member m
    cdef Sink out = Sink.of(32)
    read_map_key(c, &m)
    put_json_member(out, &m, 0)
    text = out.finish()
    return text if text.startswith(b'"') else b'"' + text + b'"'


cdef bytes json_value_of(Cursor* c, int depth):
    cdef Sink out = Sink.of(64)
    put_json_value(out, c, depth)
    return out.finish()


cdef int put_json_repeated(Sink out, const Member* m, int depth) except -1:
    cdef Elements elements = Elements.of(m)
    cdef Member element
    cdef bint first = True
    out.put_byte(91)
    while elements.next(&element):
        if not first:
            out.put_byte(44)
        first = False
        if element.number == VALUE:
            put_json_value(out, &element.body, depth + 1)
        else:
            put_json_member(out, &element, depth + 1)
    return out.put_byte(93)


cdef int put_json_member(Sink out, const Member* m, int depth) except -1:
    cdef uint32_t number = m.number
    if is_null(m):
        return out.put(b"null", 4)
    elif number == DOUBLE:
        return put_json_double(out, double_of(m.scalar))
    elif number == FLOAT:
        return put_json_double(out, float_of(m.scalar))
    elif number == INT32:
        return out.put_decimal(<int32_t>m.scalar)
    elif number == INT64 or number == UNIX_TIMESTAMP:
        return out.put_decimal(<int64_t>m.scalar)
    elif number == BOOL:
        return out.put(b"true", 4) if m.scalar else out.put(b"false", 5)
    elif number == BYTES:
        return put_json_base64(out, &m.body)
    elif number == STRING or number == JSON or number == UUID_TEXT or number == TIME_UUID or number == DECIMAL:
        return put_json_body(out, &m.body)
    elif number == ZONED_TIMESTAMP:
        moment = zoned_datetime_of(m.body)
        return out.put(b"null", 4) if moment is None else put_json_str(out, moment.isoformat())
    check_depth(&m.body, depth)
    if number == MAP or number == STRUCT:
        return put_json_map(out, m.body, depth)
    elif number == SCALAR_MAP:
        return put_json_scalar_map(out, m.body, depth)
    return put_json_repeated(out, m, depth)


cdef bint put_json_value(Sink out, Cursor* c, int depth) except -1:
    """Append a whole Value; return whether it was null."""
    cdef Member m
    read_member(c, &m, depth)
    put_json_member(out, &m, depth)
    return is_null(&m)


def value_to_json(bytes data not None):
    """Return a serialised `feast.types.Value` as JSON text (UTF-8 bytes), in the form of Feast's server.

    Raises:
        DecodeError: the bytes are not a Value.
    """
    cdef Sink out = Sink.of(256)
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef Cursor c = Cursor(p, p, p + PyBytes_GET_SIZE(data))
    put_json_value(out, &c, 0)
    return out.finish()
