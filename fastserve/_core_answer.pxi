# An answer on its way to a client of ours: a Batch as protobuf, and such bytes as a Batch that all emitters can read.
#
#   answer      GetOnlineFeaturesResponse as in _core_emit.pxi; its metadata has a field more, which others skip:
#               100 ValueType per column, packed varints (0 where each value tells its own)
#   cells       per row, per column: the Value, then its Timestamp; offsets into the answer's bytes, which are not copied apart
#
# All columns of a received answer are outputs of its plan: it has no keys of its own. Statuses are those of the server,
# which knows the ttl of each view; values that the server withheld are not in the bytes.

DEF TYPES_FIELD = 100

cdef Sink answer_metadata(Batch batch, bint view_versions):
    cdef Slot slot
    cdef Sink metadata = proto_metadata(batch, view_versions), types = Sink.of(64)
    for _name, value_type, _values in batch.entity_columns:
        types.put_varint(value_type)
    for slot in batch.plan.outputs:
        types.put_varint(slot.value_type)
    metadata.put_message(TYPES_FIELD, types)
    return metadata


def answer_bytes(Batch batch not None, bint view_versions=False):
    """Return the answer as our own clients want it: that of `proto_response`, with the types of the columns.

    Args:
        batch: filled by a store.
        view_versions: fill `metadata.feature_view_metadata`.
    Raises:
        DecodeError: a stored value is not a Value; names the entity key and the feature.
    """
    cdef Sink out = Sink.of(1024 + 32 * batch.n_rows * (len(batch.plan.outputs) + 1))
    out.put_message(1, answer_metadata(batch, view_versions))
    put_proto_results(out, batch)
    return out.finish()


# --- received --------------------------------------------------------------------------------------------------------

cdef Cursor cursor_over(bytes data):
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
    return Cursor(p, p, p + PyBytes_GET_SIZE(data))


cdef bint next_part(Cursor* c, uint64_t* number, Cursor* part) except -1:
    """Step to the next length-delimited field of a message; others are skipped. False at its end."""
    cdef uint64_t tag = 0, size = 0
    while c.at < c.end:
        take_tag(c, &tag)
        if tag & 7 != 2:
            skip_field(c, tag & 7)
            continue
        take_size(c, &size)
        number[0] = tag >> 3
        part[0] = Cursor(c.start, take(c, size), NULL)
        part.end = c.at
        return True
    return False


def answer_head(bytes answer not None):
    """Return the metadata of an answer, still serialised: equal answers to equal requests have equal ones.

    Raises:
        DecodeError: there is none.
    """
    cdef Cursor c = cursor_over(answer), part
    cdef uint64_t number = 0
    while next_part(&c, &number, &part):
        if number == 1:
            return PyBytes_FromStringAndSize(<const char*>part.at, part.end - part.at)
    fail(&c, "an answer without metadata")


cdef list names_in(Cursor* c):
    cdef uint64_t number = 0
    cdef Cursor part
    cdef list names = []
    while next_part(c, &number, &part):
        if number == 1:
            names.append(text_of(&part))
    return names


cdef tuple view_version_in(Cursor* c):
    cdef uint64_t tag = 0, size = 0, version = 0
    cdef Cursor part
    cdef str name = ""
    while c.at < c.end:
        take_tag(c, &tag)
        if tag == (1 << 3 | 2):
            take_size(c, &size)
            part = Cursor(c.start, take(c, size), NULL)
            part.end = c.at
            name = text_of(&part)
        elif tag == 2 << 3:
            take_varint(c, &version)
        else:
            skip_field(c, tag & 7)
    return name, version


def answer_plan(bytes head not None):
    """Return the plan of answers with this metadata (of `answer_head`): what their columns are called and of what type.

    Raises:
        DecodeError: the bytes are not metadata of an answer.
    """
    cdef Cursor c = cursor_over(head), part
    cdef uint64_t number = 0, value_type = 0
    cdef list names = [], types = [], versions = []
    while next_part(&c, &number, &part):
        if number == 1:
            names += names_in(&part)
        elif number == 2:
            versions.append(view_version_in(&part))
        elif number == TYPES_FIELD:
            while part.at < part.end:
                take_varint(&part, &value_type)
                types.append(value_type if value_type < 1 << 16 else 0)
    if types and len(types) != len(names):
        fail(&c, f"{len(types)} types for {len(names)} columns")
    return plan_of_columns(names, types or [0] * len(names), versions)


def plan_of_columns(names, types, view_versions=()):
    """Return the plan of an answer with these columns.

    Args:
        names: of the columns, in order.
        types: the ValueType of each; 0 where each value tells its own.
        view_versions: (name, version number) of each view that was read.
    """
    views = [StoredView(name, (name,), 2 * i) for i, name in enumerate(names)]
    slots = [
        Slot(name, name, value_type, group=0, field=2 * i, event_time=2 * i + 1)
        for i, (name, value_type) in enumerate(zip(names, types, strict=True))
    ]
    return ReadPlan(
        [KeyGroup(("answer",), (), (), views, "")], slots, join_keys={}, required={}, view_versions=view_versions
    )


def read_answer(ReadPlan plan not None, bytes answer not None):
    """Return an answer as a filled Batch.

    Args:
        plan: of `answer_plan`, for the metadata of this answer.
    Raises:
        DecodeError: the bytes are not an answer, or not one of these columns. Values are looked at when they are read.
    """
    cdef Cursor c = cursor_over(answer), part, first
    cdef uint64_t number = 0
    cdef Batch batch = None
    cdef int column = 0
    while next_part(&c, &number, &part):
        if number != 2:
            continue
        if batch is None:
            batch = empty_answer(plan, row_count(part, plan, &c))
            batch.replies.put_bytes(answer)
        if column == batch.n_columns:
            fail(&c, f"more than {column} results")
        take_result(batch, column, &part)
        column += 1
    if batch is None:
        batch = empty_answer(plan, 0)
    if column != batch.n_columns:
        fail(&c, f"{column} results for {batch.n_columns} columns")
    return batch


cdef Batch empty_answer(ReadPlan plan, Py_ssize_t n_rows):
    """A Batch with a place for every value; all are absent."""
    cdef Batch batch
    check_columns(plan)
    batch = Batch(plan, {}, n_rows)
    batch.n_columns = <int>len(plan.outputs)
    batch.given = <uint8_t*>PyMem_Malloc(n_rows * batch.n_columns + 1)
    if batch.given is NULL:
        raise MemoryError
    memset(batch.given, NOT_FOUND, n_rows * batch.n_columns)
    batch.states[0].constant = False
    batch.states[0].n_entities = n_rows
    batch.make_cells(2 * n_rows * batch.n_columns)
    return batch


cdef int check_columns(ReadPlan plan) except -1:
    """Places are computed from the columns' numbers, without another look at the slots."""
    cdef Slot slot
    cdef int i
    if len(plan.groups) != 1 or (<KeyGroup>plan.groups[0]).n_fields != 2 * len(plan.outputs):
        raise ValueError("not the plan of an answer")
    for i in range(<int>len(plan.outputs)):
        slot = plan.outputs[i]
        if slot.group != 0 or slot.field != 2 * i or slot.event_time != 2 * i + 1 or slot.ttl:
            raise ValueError(f"not the plan of an answer: {slot.label}")
    return 0


cdef Py_ssize_t row_count(Cursor result, ReadPlan plan, const Cursor* answer) except -1:
    cdef uint64_t number = 0
    cdef Cursor part
    cdef Py_ssize_t n = 0
    while next_part(&result, &number, &part):
        n += number == 1
    if n * len(plan.outputs) > answer.end - answer.start:    # a value takes two bytes at least
        fail(answer, f"{n} rows of {len(plan.outputs)} columns cannot be in so few bytes")
    return n


cdef int take_result(Batch batch, int column, Cursor* c) except -1:
    """Note where the values and event times of a column are, and its statuses."""
    cdef uint64_t number = 0, status = 0
    cdef Cursor part
    cdef Py_ssize_t values = 0, statuses = 0, times = 0
    while next_part(c, &number, &part):
        if number == 2:
            while part.at < part.end:
                take_varint(&part, &status)
                put_given(batch, column, statuses, status, c)
                statuses += 1
            continue
        if number != 1 and number != 3:
            continue
        if (values if number == 1 else times) >= batch.n_rows:
            fail(c, f"more than {batch.n_rows} rows in column {column}")
        if number == 1:
            batch.cells[2 * (values * batch.n_columns + column)] = Cell(part.at - c.start, part.end - part.at)
            values += 1
        else:
            batch.cells[2 * (times * batch.n_columns + column) + 1] = Cell(part.at - c.start, part.end - part.at)
            times += 1
    if values != batch.n_rows or statuses != batch.n_rows or times not in (0, batch.n_rows):
        fail(c, f"{values} values, {statuses} statuses and {times} times in column {column}, {batch.n_rows} expected")
    return 0


cdef inline int put_given(Batch batch, int column, Py_ssize_t row, uint64_t status, Cursor* c) except -1:
    if row >= batch.n_rows or status > OUTSIDE_MAX_AGE:
        fail(c, f"status {status} of row {row} in column {column}")
    batch.given[column * batch.n_rows + row] = <uint8_t>status
    if status == NOT_FOUND:
        # Nothing is stored there: an empty value would read as a null that is.
        batch.cells[2 * (row * batch.n_columns + column)].size = -1
    return 0


def answer_of_columns(ReadPlan plan not None, Py_ssize_t n_rows, columns):
    """Return an answer that came in another form as a filled Batch.

    Args:
        plan: of `plan_of_columns`.
        columns: for each column its serialised Values, its statuses (a number per row), and its event times (serialised
            Timestamps) or None.
    Raises:
        ValueError: a column has not `n_rows` of each, or a number is no status.
    """
    cdef Batch batch = empty_answer(plan, n_rows)
    cdef int column = 0
    cdef Py_ssize_t row
    for values, statuses, times in columns:
        if column == batch.n_columns or not len(values) == len(statuses) == n_rows or len(times or values) != n_rows:
            raise ValueError(f"column {column}: {n_rows} values, statuses and times expected")
        for row in range(n_rows):
            if not 0 <= statuses[row] <= OUTSIDE_MAX_AGE:
                raise ValueError(f"column {column}: {statuses[row]} is no status")
            batch.given[column * n_rows + row] = statuses[row]
            if statuses[row] != NOT_FOUND:
                batch.put(0, row, 2 * column, values[row])
            if times:
                batch.put(0, row, 2 * column + 1, times[row])
        column += 1
    if column != batch.n_columns:
        raise ValueError(f"{column} columns, {batch.n_columns} expected")
    return batch
