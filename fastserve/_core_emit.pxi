# Batch -> the form asked for. A value is decoded here, once, straight into that form.
#
#   JSON       {"results":[{"values":[...],"statuses":[...],"event_timestamps":[...]}, ...],"metadata":{"feature_names":[...]}}
#   protobuf   GetOnlineFeaturesResponse: 1 metadata {1 {1 names}, 2 {1 view, 2 version}},
#              2 per column {1 Value per row, 2 statuses packed, 3 Timestamp per row}
#   buffers    values packed in rows, little-endian; validity one bit per row, least significant first (Arrow's layout,
#              https://arrow.apache.org/docs/format/Columnar.html); variable-width columns have n + 1 int32 end offsets
#
# Columns come in this order: the join keys that the request has, then the features in the order asked for.

cdef enum:
    PRESENT = 1, NULL_VALUE = 2, NOT_FOUND = 3, OUTSIDE_MAX_AGE = 4

cdef tuple STATUS_NAMES = ("INVALID", "PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE")
cdef tuple STATUS_JSON = (b'"INVALID"', b'"PRESENT"', b'"NULL_VALUE"', b'"NOT_FOUND"', b'"OUTSIDE_MAX_AGE"')

cdef bytes EPOCH_JSON = b'"1970-01-01T00:00:00Z"'


cdef inline int stored(Batch batch, Slot slot, Py_ssize_t row, Cursor* c, bint* found) except -1:
    """Point `c` at the bytes of one value; `found` tells whether the store has the field at all."""
    cdef Cell* cell
    cdef const uint8_t* p
    if slot.group < 0:
        value = (<list>batch.computed[slot.name])[row]
        found[0] = True
        p = <const uint8_t*>PyBytes_AS_STRING(value)
        c[0] = Cursor(p, p, p + PyBytes_GET_SIZE(value))
        return 0
    cell = batch.cell_at(&batch.states[slot.group], row, slot.field)
    found[0] = cell.size >= 0
    p = batch.replies.data + (cell.offset if cell.size > 0 else 0)
    c[0] = Cursor(p, p, p + (cell.size if cell.size > 0 else 0))
    return 0


cdef inline bint withheld(Batch batch, Slot slot, Py_ssize_t row) except -1:
    return batch.plan.enforce_ttl and batch.is_expired(slot, row)


cdef int status_of(Batch batch, Slot slot, Py_ssize_t row, bint found, bint null) except -1:
    if not found:
        return NOT_FOUND
    if batch.is_expired(slot, row):
        return OUTSIDE_MAX_AGE
    return NULL_VALUE if null else PRESENT


# --- Python columns --------------------------------------------------------------------------------------------------

cdef list python_column(Batch batch, Slot slot, Py_ssize_t* row):
    """One feature's values. On an error `row` tells where; the caller adds that to it."""
    cdef bint found = False, enforce = batch.plan.enforce_ttl
    cdef Cursor c
    cdef list result = PyList_New(batch.n_rows)
    for row[0] in range(batch.n_rows):
        stored(batch, slot, row[0], &c, &found)
        if c.at == c.end or (enforce and withheld(batch, slot, row[0])):
            value = None
        else:
            value = value_of(c.at, c.end - c.at, slot.value_type)
        Py_INCREF(value)
        PyList_SET_ITEM(result, row[0], value)
    return result


cdef list entity_python_column(uint32_t value_type, list values):
    cdef Cursor nowhere = Cursor(NULL, NULL, NULL)
    if value_type == VALUE:
        return [decode_value(value) for value in values]
    if value_type == UNIX_TIMESTAMP:
        return [datetime_of(value, &nowhere) for value in values]
    return values.copy()


cdef list event_seconds(Batch batch, Slot slot, Slot last, list seconds):
    """The event times of a feature's rows in whole seconds; `seconds` are those of the feature `last`, often the same."""
    cdef Py_ssize_t row
    if seconds is not None and slot.group == last.group and slot.event_time == last.event_time:
        return seconds.copy()
    return [batch.event_time(slot, row) // 1000000 for row in range(batch.n_rows)]


cdef dict blank_columns(Batch batch):
    """A dict to fill: a copy of the plan's, which need not grow key by key, if it has the right join keys in order."""
    cdef dict required = batch.plan.required_views
    cdef Py_ssize_t i = 0
    if len(required) != PyList_GET_SIZE(batch.entity_columns):
        return {}
    for name in required:
        if (<tuple>batch.entity_columns[i])[0] != name:
            return {}
        i += 1
    return batch.plan.blank.copy()


def python_columns(Batch batch not None, bint event_timestamps=False):
    """Return the answer as a dict: column -> list of Python values, one per row.

    Args:
        batch: filled by a store.
        event_timestamps: after each column, `<column>__ts`: whole seconds since the epoch, 0 where there is none.
    Raises:
        DecodeError: a stored value is not a Value; names the entity key and the feature.
    """
    cdef Slot slot = None, last = None
    cdef list seconds = None
    cdef Py_ssize_t row = 0
    cdef dict result = {} if event_timestamps else blank_columns(batch)
    for name, value_type, values in batch.entity_columns:
        result[name] = entity_python_column(value_type, values)
        if event_timestamps:
            result[name + "__ts"] = [0] * batch.n_rows
    try:
        for slot in batch.plan.outputs:
            result[slot.name] = python_column(batch, slot, &row)
            if event_timestamps:
                result[slot.name + "__ts"] = seconds = event_seconds(batch, slot, last, seconds)
                last = slot
    except DecodeError as exc:
        raise batch.located(exc, slot, row) from None
    return result


def key_values(Batch batch not None):
    """Return the join keys that the request has: column -> list of Python values."""
    return {name: entity_python_column(value_type, values) for name, value_type, values in batch.entity_columns}


def slot_values(Batch batch not None, Slot slot not None):
    """Return the Python values of one feature, one per row. Raises DecodeError, as `python_columns`."""
    cdef Py_ssize_t row = 0
    try:
        return python_column(batch, slot, &row)
    except DecodeError as exc:
        raise batch.located(exc, slot, row) from None


def statuses(Batch batch not None):
    """Return column -> list of "PRESENT", "NULL_VALUE", "NOT_FOUND" or "OUTSIDE_MAX_AGE", one per row."""
    cdef Slot slot
    cdef Py_ssize_t row
    cdef bint found = False
    cdef Cursor c
    cdef Member m
    cdef list column
    result = {name: ["PRESENT"] * batch.n_rows for name, _type, _values in batch.entity_columns}
    for slot in batch.plan.outputs:
        column = []
        for row in range(batch.n_rows):
            stored(batch, slot, row, &c, &found)
            try:
                read_member(&c, &m, 0)
            except DecodeError as exc:
                raise batch.located(exc, slot, row) from None
            column.append(STATUS_NAMES[status_of(batch, slot, row, found, is_null(&m))])
        result[slot.name] = column
    return result


# --- JSON ------------------------------------------------------------------------------------------------------------

cdef int put_json_entities(Sink out, Batch batch, uint32_t value_type, list values) except -1:
    """Append the values of a column of join keys; they are canonical, so there are few forms."""
    cdef bint first = True
    for value in values:
        if not first:
            out.put_byte(44)
        first = False
        if value_type == STRING:
            put_json_str(out, value)
        elif value_type == VALUE:
            out.put_bytes(value_to_json(value))
        elif value_type == BYTES:
            put_json_str(out, base64.b64encode(value).decode())
        else:
            out.put_decimal(value)
    return 0


cdef int put_json_repeat(Sink out, bytes item, Py_ssize_t n) except -1:
    cdef Py_ssize_t i
    for i in range(n):
        if i:
            out.put_byte(44)
        out.put_bytes(item)
    return 0


cdef int put_json_entity_column(Sink out, Batch batch, uint32_t value_type, list values) except -1:
    out.put_bytes(b'{"values":[')
    put_json_entities(out, batch, value_type, values)
    out.put_bytes(b'],"statuses":[')
    put_json_repeat(out, STATUS_JSON[PRESENT], batch.n_rows)
    if batch.n_rows:
        out.put_bytes(b'],"event_timestamps":[')
        put_json_repeat(out, EPOCH_JSON, batch.n_rows)
    return out.put(b"]}", 2)


cdef int put_json_slot_value(Sink out, Batch batch, Slot slot, Py_ssize_t row) except -1:
    """Append one value; return its status."""
    cdef bint found = False, null = True
    cdef Cursor c
    stored(batch, slot, row, &c, &found)
    if c.at == c.end or withheld(batch, slot, row):
        out.put(b"null", 4)
    else:
        null = put_json_value(out, &c, 0)
    return status_of(batch, slot, row, found, null)


@cython.final
cdef class EventTimes:
    """The event times of one view as JSON text, kept for its next feature."""

    cdef Sink text
    cdef int group
    cdef int field

    def __cinit__(self):
        self.text = Sink.of(1024)
        self.group = self.field = -2

    cdef int put(self, Sink out, Batch batch, Slot slot) except -1:
        if self.group != slot.group or self.field != slot.event_time:
            self.format(batch, slot)
        return out.put(self.text.data, self.text.size)

    cdef int format(self, Batch batch, Slot slot) except -1:
        cdef Py_ssize_t row
        cdef int64_t event_time
        self.text.size = 0
        for row in range(batch.n_rows):
            if row:
                self.text.put_byte(44)
            event_time = batch.event_time(slot, row)
            if event_time:
                put_json_time(self.text, event_time)
            else:
                self.text.put_bytes(EPOCH_JSON)
        self.group = slot.group
        self.field = slot.event_time
        return 0


cdef int put_json_column(Sink out, Batch batch, Slot slot, Sink seen, EventTimes times) except -1:
    """Append one feature's result; `seen` is scratch space for the statuses."""
    cdef Py_ssize_t row
    seen.size = 0
    out.put_bytes(b'{"values":[')
    for row in range(batch.n_rows):
        if row:
            out.put_byte(44)
        try:
            seen.put_byte(<uint8_t>put_json_slot_value(out, batch, slot, row))
        except DecodeError as exc:
            raise batch.located(exc, slot, row) from None
    out.put_bytes(b'],"statuses":[')
    for row in range(batch.n_rows):
        if row:
            out.put_byte(44)
        out.put_bytes(<bytes>STATUS_JSON[seen.data[row]])
    if batch.n_rows:
        out.put_bytes(b'],"event_timestamps":[')
        times.put(out, batch, slot)
    return out.put(b"]}", 2)


cdef int put_json_versions(Sink out, ReadPlan plan) except -1:
    """Append the versions of the views that were read; version 0 is left out, as protobuf does."""
    cdef bint first = True
    out.put_bytes(b',"feature_view_metadata":[')
    for name, version in plan.view_versions:
        out.put_bytes(b'{"name":' if first else b',{"name":')
        first = False
        put_json_str(out, name)
        if version:
            out.put_bytes(b',"version":')
            out.put_decimal(version)
        out.put_byte(125)
    return out.put_byte(93)


def json_response(Batch batch not None, bint view_versions=False):
    """Return the answer as the JSON text (UTF-8 bytes) of Feast's server.

    Args:
        batch: filled by a store.
        view_versions: add `metadata.feature_view_metadata`.
    Raises:
        DecodeError: a stored value is not a Value; names the entity key and the feature.
    """
    cdef Slot slot
    cdef Sink out = Sink.of(1024 + 64 * batch.n_rows * (len(batch.plan.outputs) + 1))
    cdef Sink seen = Sink.of(batch.n_rows + 1)
    cdef EventTimes times = EventTimes()
    cdef list names = [json_text_of(name) for name, _type, _values in batch.entity_columns]
    cdef bint first = True
    out.put_bytes(b'{"results":[')
    for _name, value_type, values in batch.entity_columns:
        if not first:
            out.put_byte(44)
        first = False
        put_json_entity_column(out, batch, value_type, values)
    for slot in batch.plan.outputs:
        if not first:
            out.put_byte(44)
        first = False
        put_json_column(out, batch, slot, seen, times)
    out.put_bytes(b'],"metadata":{"feature_names":[')
    if batch.plan.outputs:
        names.append(batch.plan.json_names)
    out.put_bytes(b",".join(names))
    out.put_byte(93)
    if view_versions:
        put_json_versions(out, batch.plan)
    return (out.put(b"}}", 2), out.finish())[1]


# --- protobuf --------------------------------------------------------------------------------------------------------

cdef int put_proto_slot(Sink vector, Batch batch, Slot slot, Sink seen) except -1:
    cdef Py_ssize_t row
    cdef bint found = False, null = True
    cdef Cursor c
    cdef Member m
    cdef Sink moment = Sink.of(16)
    for row in range(batch.n_rows):
        stored(batch, slot, row, &c, &found)
        if withheld(batch, slot, row):
            c.at = c.end
        vector.put_field(1, c.at, c.end - c.at)
        try:
            read_member(&c, &m, 0)
        except DecodeError as exc:
            raise batch.located(exc, slot, row) from None
        seen.put_varint(status_of(batch, slot, row, found, is_null(&m)))
    vector.put_message(2, seen)
    for row in range(batch.n_rows):
        moment.size = 0
        put_timestamp(moment, batch.event_time(slot, row))
        vector.put_message(3, moment)
    return 0


cdef int put_proto_entities(Sink vector, Batch batch, uint32_t value_type, list values) except -1:
    cdef Sink seen = Sink.of(16)
    cdef bytes value
    for item in values:
        value = item if value_type == VALUE else encode_value(item, value_type)
        vector.put_field(1, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
        seen.put_byte(PRESENT)
    vector.put_message(2, seen)
    for _ in range(batch.n_rows):
        vector.put_field(3, NULL, 0)
    return 0


cdef Sink proto_metadata(Batch batch, bint view_versions):
    cdef Slot slot
    cdef Sink names = Sink.of(256), metadata = Sink.of(256), entry
    texts = [name for name, _type, _values in batch.entity_columns] + [slot.name for slot in batch.plan.outputs]
    for text in texts:
        raw = text.encode()
        names.put_field(1, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
    metadata.put_message(1, names)
    if view_versions:
        for name, version in batch.plan.view_versions:
            entry = Sink.of(64)
            raw = name.encode()
            entry.put_field(1, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
            if version:
                entry.put_byte(2 << 3)
                entry.put_varint(version)
            metadata.put_message(2, entry)
    return metadata


def proto_response(Batch batch not None, bint view_versions=False):
    """Return the answer as a serialised `feast.serving.GetOnlineFeaturesResponse`.

    Args:
        batch: filled by a store.
        view_versions: fill `metadata.feature_view_metadata`.
    Raises:
        DecodeError: a stored value is not a Value; names the entity key and the feature.
    """
    cdef Slot slot
    cdef Sink out = Sink.of(4096), vector = Sink.of(4096), seen = Sink.of(batch.n_rows + 1)
    out.put_message(1, proto_metadata(batch, view_versions))
    for _name, value_type, values in batch.entity_columns:
        vector.size = 0
        put_proto_entities(vector, batch, value_type, values)
        out.put_message(2, vector)
    for slot in batch.plan.outputs:
        vector.size = seen.size = 0
        put_proto_slot(vector, batch, slot, seen)
        out.put_message(2, vector)
    return out.finish()


# --- buffers ---------------------------------------------------------------------------------------------------------

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


cdef Sink cleared_bits(Py_ssize_t n):
    cdef Sink bits = Sink.of(n // 8 + 1)
    memset(bits.data, 0, n // 8 + 1)
    bits.size = (n + 7) // 8
    return bits


cdef bint read_slot(Batch batch, Slot slot, Py_ssize_t row, Cursor* c, Member* m) except -1:
    """Read the member stored for a row; False if it is null, absent or withheld."""
    cdef bint found = False
    stored(batch, slot, row, c, &found)
    if c.at == c.end or withheld(batch, slot, row):
        return False
    read_member(c, m, 0)
    return not is_null(m)


def fixed_column(Batch batch not None, Slot slot not None):
    """Return a fixed-width feature as buffers: INT32, INT64, FLOAT, DOUBLE, BOOL or UNIX_TIMESTAMP (seconds).

    Returns:
        (values, validity, null count): one byte per BOOL, zeros where null.
    Raises:
        DecodeError: a stored value is not of the type; names the entity key and the feature.
    """
    cdef Py_ssize_t row, nulls = 0
    cdef int width = item_size(slot.value_type)
    cdef Sink values = Sink.of(batch.n_rows * width + 8), valid = cleared_bits(batch.n_rows)
    cdef Cursor c
    cdef Member m
    require(width > 0, slot, "fixed-width")
    for row in range(batch.n_rows):
        try:
            if read_slot(batch, slot, row, &c, &m):
                put_fixed(values, &m, slot.value_type, &c)
                set_bit(valid, row)
                continue
        except DecodeError as exc:
            raise batch.located(exc, slot, row) from None
        memset(values.room(width), 0, width)
        values.size += width
        nulls += 1
    return values.finish(), valid.finish(), nulls


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
