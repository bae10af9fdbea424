# Batch -> the form asked for. A value is decoded here, once, straight into that form.
#
#   JSON       {"results":[{"values":[...],"statuses":[...],"event_timestamps":[...]}, ...],"metadata":{"feature_names":[...]}}
#   protobuf   GetOnlineFeaturesResponse: 1 metadata {1 {1 names}, 2 {1 view, 2 version}},
#              2 per column {1 Value per row, 2 statuses packed, 3 Timestamp per row}
#
# Columns come in this order: the join keys that the request has, then the features in the order asked for.

cdef enum:
    PRESENT = 1, NULL_VALUE = 2, NOT_FOUND = 3, OUTSIDE_MAX_AGE = 4
    METERED_ROWS = 64           # of larger requests a server looks at so many rows to count statuses, evenly spread

cdef tuple STATUS_NAMES = ("INVALID", "PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE")
cdef tuple STATUS_JSON = (b'"INVALID"', b'"PRESENT"', b'"NULL_VALUE"', b'"NOT_FOUND"', b'"OUTSIDE_MAX_AGE"')

cdef bytes EPOCH_JSON = b'"1970-01-01T00:00:00Z"'

cdef tuple STATUS_ALONE = tuple([b'],"statuses":[' + _name + b'],"event_timestamps":[' for _name in STATUS_JSON])
"""Between the value and the event time of an answer with one row."""


cdef inline int stored(Batch batch, Slot slot, Py_ssize_t row, Cursor* c, bint* found) except -1:
    """Point `c` at the bytes of one value; `found` tells whether the store has the field at all."""
    cdef Cell* cell
    cdef const uint8_t* p
    if slot.group < 0:
        value = batch.serialised(slot.name)[row]
        found[0] = True
        p = <const uint8_t*>PyBytes_AS_STRING(value)
        c[0] = Cursor(p, p, p + PyBytes_GET_SIZE(value))
        return 0
    cell = batch.cell_at(&batch.states[slot.group], row, slot.field)
    found[0] = cell.size >= 0
    p = batch.replies.data + (cell.offset if cell.size > 0 else 0)
    c[0] = Cursor(p, p, p + (cell.size if cell.size > 0 else 0))
    return 0


cdef inline bint is_packed(Batch batch, Slot slot) noexcept:
    return slot.group >= 0 and batch.states[slot.group].places is not NULL


cdef inline bint load(Batch batch, Slot slot, Py_ssize_t row, Cursor* c, Member* m) except -1:
    """Read one value, wherever it is stored, into `m`; return whether the store has the field at all."""
    cdef bint found = False
    if is_packed(batch, slot):
        return load_packed(batch, slot, row, c, m)
    stored(batch, slot, row, c, &found)
    read_member(c, m, 0)
    return found


cdef inline bint withheld(Batch batch, Slot slot, Py_ssize_t row) except -1:
    return batch.plan.enforce_ttl and batch.is_expired(slot, row)


cdef int status_of(Batch batch, Slot slot, Py_ssize_t row, bint found, bint null) except -1:
    if batch.given is not NULL:
        return batch.given[slot.field // 2 * batch.n_rows + row]
    if not found:
        return NOT_FOUND
    if batch.is_expired(slot, row):
        return OUTSIDE_MAX_AGE
    return NULL_VALUE if null else PRESENT


def statuses(Batch batch not None):
    """Return column -> list of "PRESENT", "NULL_VALUE", "NOT_FOUND" or "OUTSIDE_MAX_AGE", one per row."""
    cdef Slot slot
    cdef Py_ssize_t row
    cdef bint found
    cdef Cursor c
    cdef Member m
    cdef list column
    result = {name: ["PRESENT"] * batch.n_rows for name, _type, _values in batch.entity_columns}
    for slot in batch.plan.outputs:
        column = []
        for row in range(batch.n_rows):
            try:
                found = load(batch, slot, row, &c, &m)
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
    cdef Member m
    if is_packed(batch, slot):
        found = load_packed(batch, slot, row, &c, &m)
        null = is_null(&m)
        if null or withheld(batch, slot, row):
            out.put(b"null", 4)
        else:
            put_json_member(out, &m, 0)
        return status_of(batch, slot, row, found, null)
    stored(batch, slot, row, &c, &found)
    if c.at == c.end or withheld(batch, slot, row):
        out.put(b"null", 4)
    else:
        null = put_json_value(out, &c, 0)
    return status_of(batch, slot, row, found, null)


@cython.final
cdef class EventTimes:
    """The event times of one view as JSON text, kept for its next feature; and the latest, which views often share."""

    cdef Sink text, latest
    cdef Sink present        # what follows a value that is PRESENT, in an answer with one row
    cdef int64_t latest_time
    cdef int group
    cdef int field

    def __cinit__(self):
        self.text = Sink.of(1024)
        self.latest = Sink.of(32)
        self.present = Sink.of(128)
        self.group = self.field = -2

    cdef int put(self, Sink out, Batch batch, Slot slot) except -1:
        if self.group != slot.group or self.field != slot.event_time:
            self.format(batch, slot)
        return out.put(self.text.data, self.text.size)

    cdef int put_after(self, Sink out, Batch batch, Slot slot, int status) except -1:
        """Append what follows the value of an answer with one row: status and event time."""
        if self.group != slot.group or self.field != slot.event_time:
            self.format(batch, slot)
            self.present.size = 0
            self.put_around(self.present, PRESENT)
        if status == PRESENT:
            return out.put(self.present.data, self.present.size)
        return self.put_around(out, status)

    cdef int put_around(self, Sink out, int status) except -1:
        out.put_bytes(<bytes>STATUS_ALONE[status])
        out.put(self.text.data, self.text.size)
        return out.put(b"]}", 2)

    cdef int format(self, Batch batch, Slot slot) except -1:
        cdef Py_ssize_t row
        cdef int64_t event_time
        self.text.size = 0
        for row in range(batch.n_rows):
            if row:
                self.text.put_byte(44)
            event_time = batch.event_time(slot, row)
            if event_time == 0:
                self.text.put_bytes(EPOCH_JSON)
                continue
            if event_time != self.latest_time:
                self.latest.size = 0
                put_json_time(self.latest, event_time)
                self.latest_time = event_time
            self.text.put(self.latest.data, self.latest.size)
        self.group = slot.group
        self.field = slot.event_time
        return 0


cdef int put_json_column(Sink out, Batch batch, Slot slot, Sink seen, EventTimes times) except -1:
    """Append one feature's result, and its statuses to `seen`."""
    cdef Py_ssize_t row, first = seen.size
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
        out.put_bytes(<bytes>STATUS_JSON[seen.data[first + row]])
    if batch.n_rows:
        out.put_bytes(b'],"event_timestamps":[')
        times.put(out, batch, slot)
    return out.put(b"]}", 2)


cdef int put_json_single(Sink out, Batch batch, Slot slot, Sink seen, EventTimes times, bint first) except -1:
    """Append the result of a feature of one row, which is what most requests ask for, in few steps."""
    cdef int status
    memcpy(out.room(12), b',{"values":[' if not first else b'{"values":[ ', 12)
    out.size += 12 - first
    try:
        status = put_json_slot_value(out, batch, slot, 0)
    except DecodeError as exc:
        raise batch.located(exc, slot, 0) from None
    seen.put_byte(<uint8_t>status)
    return times.put_after(out, batch, slot, status)


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
    return json_sink(batch, view_versions).finish()


cdef Sink json_sink(Batch batch, bint view_versions):
    """The text of `json_response`. Keeps the statuses of a small answer for who counts them."""
    cdef Slot slot
    cdef Sink out = Sink.of(1024 + 64 * batch.n_rows * (len(batch.plan.outputs) + 1))
    cdef bint is_small = batch.n_rows <= METERED_ROWS
    cdef Sink seen = Sink.of(batch.n_rows * (len(batch.plan.outputs) if is_small else 1) + 1)
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
        if batch.n_rows == 1:
            put_json_single(out, batch, slot, seen, times, first)
            first = False
            continue
        if not first:
            out.put_byte(44)
        first = False
        if not is_small:
            seen.size = 0
        put_json_column(out, batch, slot, seen, times)
    if is_small:
        batch.shown = seen
    out.put_bytes(b'],"metadata":{"feature_names":[')
    if batch.plan.outputs:
        names.append(batch.plan.json_names)
    out.put_bytes(b",".join(names))
    out.put_byte(93)
    if view_versions:
        put_json_versions(out, batch.plan)
    out.put(b"}}", 2)
    return out


# --- protobuf --------------------------------------------------------------------------------------------------------

cdef int stored_value(Batch batch, Slot slot, Py_ssize_t row, Sink value, Cursor* c, bint* found) except -1:
    """Do what `stored` does; a value that is not stored in serialised form is first put into `value` in that form."""
    cdef Member m
    if not is_packed(batch, slot):
        return stored(batch, slot, row, c, found)
    try:
        found[0] = load_packed(batch, slot, row, c, &m)
    except DecodeError as exc:
        raise batch.located(exc, slot, row) from None
    if m.number == 0 or batch.states[slot.group].places[slot.field].kind == WIRE_VALUE:
        return 0
    value.size = 0
    put_member(value, &m)
    c[0] = Cursor(value.data, value.data, value.data + value.size)
    return 0


cdef int put_proto_slot(Sink vector, Batch batch, Slot slot, Sink seen) except -1:
    cdef Py_ssize_t row
    cdef bint found = False, null = True
    cdef Cursor c
    cdef Member m
    cdef Sink moment = Sink.of(16), value = Sink.of(64)
    for row in range(batch.n_rows):
        stored_value(batch, slot, row, value, &c, &found)
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
    cdef Sink out = Sink.of(4096)
    out.put_message(1, proto_metadata(batch, view_versions))
    put_proto_results(out, batch)
    return out.finish()


cdef int put_proto_results(Sink out, Batch batch) except -1:
    cdef Slot slot
    cdef Sink vector = Sink.of(4096), seen = Sink.of(batch.n_rows + 1)
    for _name, value_type, values in batch.entity_columns:
        vector.size = 0
        put_proto_entities(vector, batch, value_type, values)
        out.put_message(2, vector)
    for slot in batch.plan.outputs:
        vector.size = seen.size = 0
        put_proto_slot(vector, batch, slot, seen)
        out.put_message(2, vector)
    return 0
