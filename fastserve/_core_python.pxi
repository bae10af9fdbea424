# Batch -> Python values, column by column.

cdef struct Rows:
    Py_ssize_t start, stop
    Py_ssize_t at             # the one at work, for errors to tell


cdef inline Rows all_rows(Batch batch) noexcept:
    return Rows(0, batch.n_rows, 0)


cdef list python_column(Batch batch, Slot slot):
    """One feature's values."""
    cdef list result
    cdef Rows rows = all_rows(batch)
    if slot.group < 0 and batch.plain is not None and slot.name in batch.plain:
        return (<list>(<tuple>batch.plain[slot.name])[0]).copy()
    result = PyList_New(batch.n_rows)
    put_values(batch, slot, (<PyListObject*>result).ob_item, &rows)
    return result


cdef int put_values(Batch batch, Slot slot, PyObject** places, Rows* rows) except -1:
    """Do what `put_python_values` does; errors tell where."""
    try:
        return put_python_values(batch, slot, places, rows)
    except DecodeError as exc:
        raise batch.located(exc, slot, rows.at) from None


cdef inline void replace_item(PyObject** place, PyObject* value) noexcept:
    """Put a new reference in the place of what there was, if anything."""
    cdef PyObject* before = place[0]
    place[0] = value
    Py_XDECREF(before)


cdef inline void put_item(PyObject** place, object value) noexcept:
    Py_INCREF(value)
    replace_item(place, <PyObject*>value)


cdef int put_python_values(Batch batch, Slot slot, PyObject** places, Rows* rows) except -1:
    """Put one feature's values of some rows into the items of a list or of an array."""
    cdef bint withhold = batch.plan.enforce_ttl and slot.ttl != 0
    cdef uint32_t value_type = slot.value_type
    cdef Py_ssize_t i
    cdef const GroupState* state
    cdef const Cell* cell
    cdef Text[SHARED_TEXTS] texts
    if slot.group < 0:
        return put_computed(batch, slot, places, rows)
    if is_packed(batch, slot):
        return put_packed(batch, slot, places, rows)
    if not withhold and put_numbers(batch, slot, places, rows):
        return 0
    state = &batch.states[slot.group]
    if value_type == STRING:
        memset(texts, 0, sizeof(texts))
    for i in range(rows.start, rows.stop):
        rows.at = i
        cell = batch.cell_at(state, i, slot.field)
        if cell.size <= 0 or (withhold and batch.is_expired(slot, i)):
            value = None
        elif value_type == STRING:
            value = text_value(texts, batch.replies.data + cell.offset, cell.size)
        else:
            value = value_of(batch.replies.data + cell.offset, cell.size, value_type)
        put_item(places + i, value)
    return 0


cdef bint put_numbers(Batch batch, Slot slot, PyObject** places, Rows* rows) except -1:
    """Do that for the commonest types of numbers; False, with nothing done, for others."""
    # A type that the compiler knows leaves little of `plain_number` in each loop.
    if slot.value_type == DOUBLE:
        put_number_cells(batch, slot, places, rows, DOUBLE)
    elif slot.value_type == INT64:
        put_number_cells(batch, slot, places, rows, INT64)
    elif slot.value_type == FLOAT:
        put_number_cells(batch, slot, places, rows, FLOAT)
    elif slot.value_type == INT32:
        put_number_cells(batch, slot, places, rows, INT32)
    elif slot.value_type == BOOL:
        put_number_cells(batch, slot, places, rows, BOOL)
    elif slot.value_type == UNIX_TIMESTAMP:
        put_number_cells(batch, slot, places, rows, UNIX_TIMESTAMP)
    else:
        return False
    return True


cdef inline int put_number_cells(Batch batch, Slot slot, PyObject** places, Rows* rows, uint32_t member) except -1:
    cdef const GroupState* state = &batch.states[slot.group]
    cdef const Cell* cells = &batch.cells[state.first_value + slot.field]
    cdef const Cell* cell
    cdef const uint8_t* replies = batch.replies.data
    cdef Py_ssize_t i, step = state.n_values
    cdef PyObject* number
    for i in range(rows.start, rows.stop):
        cell = cells + batch.entity_at(state, i) * step
        if cell.size <= 0:
            put_item(places + i, None)
            continue
        number = plain_number(replies + cell.offset, cell.size, member)
        if number is not NULL:
            replace_item(places + i, number)
            continue
        rows.at = i
        put_item(places + i, value_of(replies + cell.offset, cell.size, member))
    return 0


cdef inline PyObject* plain_number(const uint8_t* p, Py_ssize_t n, uint32_t member) except? NULL:
    """A new reference to the number that a Value is, in its plainest form; NULL if it is not that."""
    cdef Cursor nowhere = Cursor(NULL, NULL, NULL)
    cdef uint64_t number = 0
    if member == DOUBLE:
        return new_float(double_of(fixed64(p + 1))) if n == 9 and p[0] == (DOUBLE << 3 | 1) else NULL
    if member == FLOAT:
        return new_float(float_of(fixed32(p + 1))) if n == 5 and p[0] == (FLOAT << 3 | 5) else NULL
    if p[0] != member << 3 or not read_plain_varint(p + 1, n - 1, &number):
        return NULL
    if member == BOOL:
        return new_reference(True if number else False)
    if member == UNIX_TIMESTAMP:
        return new_reference(datetime_of(<int64_t>number, &nowhere)) if is_second(<int64_t>number) else NULL
    return new_int(<int64_t>number if member == INT64 else <int32_t>number)


cdef inline bint is_second(int64_t seconds) noexcept:
    """Whether a timestamp is one that Python has."""
    return FIRST_SECOND <= seconds <= LAST_SECOND


cdef inline PyObject* new_reference(object value) noexcept:
    Py_INCREF(value)
    return <PyObject*>value


cdef inline object text_value(Text* texts, const uint8_t* p, Py_ssize_t n):
    """Do what `value_of` does for a column of texts."""
    cdef Cursor c
    if n >= 2 and p[0] == (STRING << 3 | 2) and p[1] < 0x80 and p[1] == n - 2:
        c = Cursor(p, p + 2, p + n)
        return shared_text(texts, &c)
    return value_of(p, n, STRING)


cdef int put_computed(Batch batch, Slot slot, PyObject** places, Rows* rows) except -1:
    """Do that for what an on-demand feature view made."""
    cdef list values, plain
    cdef bytes value
    cdef Py_ssize_t i
    if batch.plain is not None and slot.name in batch.plain:
        plain = <list>(<tuple>batch.plain[slot.name])[0]
        for i in range(rows.start, rows.stop):
            put_item(places + i, plain[i])
        return 0
    values = batch.serialised(slot.name)
    for i in range(rows.start, rows.stop):
        rows.at = i
        value = values[i]
        put_item(places + i, value_of(
            <const uint8_t*>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), slot.value_type
        ))
    return 0


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
    cdef Py_ssize_t i
    cdef dict result = {} if event_timestamps else blank_columns(batch)
    cdef list column
    batch.plan.form = PYTHON_FORM
    for name, value_type, values in batch.entity_columns:
        result[name] = entity_python_column(value_type, values)
        if event_timestamps:
            result[name + "__ts"] = [0] * batch.n_rows
    for i, slot in enumerate(batch.plan.outputs):
        column = column_ahead(batch, PYTHON_FORM, i, slot)
        result[slot.name] = column if column is not None else python_column(batch, slot)
        if event_timestamps:
            result[slot.name + "__ts"] = seconds = event_seconds(batch, slot, last, seconds)
            last = slot
    return result


def key_values(Batch batch not None):
    """Return the join keys that the request has: column -> list of Python values."""
    return {name: entity_python_column(value_type, values) for name, value_type, values in batch.entity_columns}


def slot_values(Batch batch not None, Slot slot not None):
    """Return the Python values of one feature, one per row. Raises DecodeError, as `python_columns`."""
    return python_column(batch, slot)


# --- while replies are on their way ----------------------------------------------------------------------------------
#
# An answer is asked for in the form of the last one of its plan, most likely. So rows are decoded as soon as their replies
# are in: the store works on others meanwhile, and the bytes are still in the fastest cache. If the answer is asked for in
# another form, that was for nothing, and is not done for the next.

cdef int work_ahead(Batch batch) except -1:
    """Decode what has come. What is wrong with it those tell who are asked for the answer; they begin anew."""
    try:
        if batch.form == PYTHON_FORM:
            decode_ahead(batch, batch.plan.outputs)
        else:
            decode_ahead(batch, batch.plan.objects)
            gather_ahead(batch)
    except DecodeError:
        forget_ahead(batch)
        batch.form = OTHER_FORM
    return 0


cdef int decode_ahead(Batch batch, tuple slots) except -1:
    cdef Py_ssize_t g, until
    cdef GroupState* state
    if batch.ahead is None:
        batch.ahead = [[None] * batch.n_rows for _ in slots]
    for g in range(batch.n_groups):
        state = &batch.states[g]
        until = rows_in(batch, g)
        if state.n_decoded < until:
            decode_rows(batch, slots, g, Rows(state.n_decoded, until, 0))
            state.n_decoded = until
    return 0


cdef int decode_rows(Batch batch, tuple slots, Py_ssize_t g, Rows rows) except -1:
    """Decode rows of those features that are of a group."""
    cdef Py_ssize_t i
    cdef Slot slot
    for i in range(PyTuple_GET_SIZE(slots)):
        slot = <Slot>PyTuple_GET_ITEM(slots, i)
        if slot.group == g:
            put_python_values(batch, slot, (<PyListObject*>PyList_GET_ITEM(batch.ahead, i)).ob_item, &rows)
    return 0


cdef Py_ssize_t rows_in(Batch batch, Py_ssize_t g) noexcept:
    """How many rows, from the first one, have their replies of a group in, or vectors that were looked at; 0 if rows share
    entities."""
    cdef const GroupState* state = &batch.states[g]
    if state.constant or state.entity_of_row is not NULL:
        return 0
    if (<KeyGroup>batch.plan.groups[g]).vector_format:
        return state.n_looked
    if g == batch.scan_group:
        return (batch.filled_cells - state.first_cell) // state.n_fields
    return state.n_entities if g < batch.scan_group else 0


cdef void forget_ahead(Batch batch) noexcept:
    cdef Py_ssize_t g
    batch.ahead = batch.gathering = None
    for g in range(batch.n_groups):
        batch.states[g].n_decoded = 0


cdef list column_ahead(Batch batch, AnswerForm form, Py_ssize_t i, Slot slot):
    """A column of that form if it was begun ahead, finished, or None. It is given once."""
    cdef list column
    cdef Rows rows
    if batch.form != form or batch.ahead is None or batch.ahead[i] is None:
        return None
    column = batch.ahead[i]
    rows = Rows(batch.states[slot.group].n_decoded if slot.group >= 0 else 0, batch.n_rows, 0)
    put_values(batch, slot, (<PyListObject*>column).ob_item, &rows)
    batch.ahead[i] = None
    return column
