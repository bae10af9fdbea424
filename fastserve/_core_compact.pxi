# Answers that say nothing twice: compact JSON, and statuses as one byte per row.
#
#   compact JSON   {"feature_names":[name per column],
#                   "values":[[value per row] per column],
#                   "statuses":{name:[status per row]},          of columns that are not PRESENT in all rows; left out if none
#                   "feature_view_metadata":[...]}               if asked for
#   status column  a byte per row: the number of the status, as in _core_emit.pxi

cdef bint put_compact_values(Sink out, Batch batch, Slot slot, Sink seen) except -1:
    """Append the values of one feature, its statuses to `seen`; return whether all are PRESENT."""
    cdef Py_ssize_t row
    cdef int status
    cdef bint present = True
    out.put_byte(91)
    for row in range(batch.n_rows):
        if row:
            out.put_byte(44)
        try:
            status = put_json_slot_value(out, batch, slot, row)
        except DecodeError as exc:
            raise batch.located(exc, slot, row) from None
        present &= status == PRESENT
        seen.put_byte(<uint8_t>status)
    out.put_byte(93)
    return present


cdef int put_compact_statuses(Sink out, Slot slot, Sink seen) except -1:
    cdef Py_ssize_t row
    if out.size:
        out.put_byte(44)
    out.put_bytes(json_text_of(slot.name))
    out.put(b":[", 2)
    for row in range(seen.size):
        if row:
            out.put_byte(44)
        out.put_bytes(<bytes>STATUS_JSON[seen.data[row]])
    return out.put_byte(93)


cdef int put_compact_columns(Sink out, Batch batch, Sink statuses) except -1:
    """Append the values of all columns, and to `statuses` those of the columns that are not all PRESENT."""
    cdef Slot slot
    cdef Sink seen = Sink.of(batch.n_rows + 1)
    cdef bint first = True
    for _name, value_type, values in batch.entity_columns:
        out.put_bytes(b"[" if first else b",[")
        first = False
        put_json_entities(out, batch, value_type, values)
        out.put_byte(93)
    for slot in batch.plan.outputs:
        if not first:
            out.put_byte(44)
        first = False
        seen.size = 0
        if not put_compact_values(out, batch, slot, seen):
            put_compact_statuses(statuses, slot, seen)
    return 0


def compact_json(Batch batch not None, bint view_versions=False):
    """Return the answer as compact JSON (UTF-8 bytes).

    Args:
        batch: filled by a store.
        view_versions: add `feature_view_metadata`.
    Raises:
        DecodeError: a stored value is not a Value; names the entity key and the feature.
    """
    cdef Sink out = Sink.of(1024 + 16 * batch.n_rows * (len(batch.plan.outputs) + 1)), statuses = Sink.of(64)
    cdef list names = [json_text_of(name) for name, _type, _values in batch.entity_columns]
    if batch.plan.outputs:
        names.append(batch.plan.json_names)
    out.put_bytes(b'{"feature_names":[')
    out.put_bytes(b",".join(names))
    out.put_bytes(b'],"values":[')
    put_compact_columns(out, batch, statuses)
    out.put_byte(93)
    if statuses.size:
        out.put_bytes(b',"statuses":{')
        out.put(statuses.data, statuses.size)
        out.put_byte(125)
    if view_versions:
        put_json_versions(out, batch.plan)
    return (out.put_byte(125), out.finish())[1]


def status_column(Batch batch not None, Slot slot not None):
    """Return one feature's statuses, a byte per row, and how many of them are not PRESENT.

    Raises:
        DecodeError: a stored value is not a Value; names the entity key and the feature.
    """
    cdef Py_ssize_t row, others = 0
    cdef bint found
    cdef Cursor c
    cdef Member m
    cdef int status
    cdef Sink out = Sink.of(batch.n_rows + 1)
    for row in range(batch.n_rows):
        try:
            found = load(batch, slot, row, &c, &m)
        except DecodeError as exc:
            raise batch.located(exc, slot, row) from None
        status = status_of(batch, slot, row, found, is_null(&m))
        others += status != PRESENT
        out.put_byte(<uint8_t>status)
    return out.finish(), others
