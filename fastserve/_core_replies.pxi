# The replies to the commands of a Batch: scanned where they lie, and their fields written down as its cells.
#
#   reply of HMGET   "*" fields CRLF, then per field "$" length CRLF bytes CRLF, or "$-1" CRLF for nothing
#   reply of HGETALL "*" 2 x fields CRLF, then name and value of each field that the hash has, in any order
#   reply of MGET    "*" keys CRLF, then the vector of each key, or "$-1" CRLF for none: it fills one cell per entity
#
# Bytes come in any portions, given or received straight into the place behind those before. How far they are scanned is
# kept in the Batch, so that each goes on where the last one ended.

cdef enum:
    RECEIVE_BYTES = 1 << 18   # at once: they are still in the fastest cache when they are scanned


cdef Py_ssize_t accept_replies(
    Batch batch, const uint8_t* data, Py_ssize_t n, Py_ssize_t until, bint keep_errors
) except -2:
    """Scan and copy what belongs to this batch; return how many bytes, or -1 if all do and more are wanted."""
    cdef Py_ssize_t before = batch.replies.size
    cdef bint done
    if batch.scanned < before:    # in the middle of a reply, which must lie in one piece
        batch.replies.put(data, n)
        done = scan_replies(batch, batch.replies.data, batch.replies.size, until, keep_errors)
        if done:
            batch.replies.size = batch.scanned
    else:    # where it is; offsets are as if it were copied already
        done = scan_replies(batch, data - before, before + n, until, keep_errors)
        batch.replies.put(data, batch.scanned - before if done else n)
    if not done:
        go_ahead(batch)
    return batch.scanned - before if done else -1


cdef bint accept_received(Batch batch, Py_ssize_t n) except -1:
    """Scan `n` bytes more that lie behind the replies already; return whether all replies that are expected are in."""
    cdef bint done
    batch.replies.size += n
    done = scan_replies(batch, batch.replies.data, batch.replies.size, batch.expected_cells, False)
    if not done:
        go_ahead(batch)
    elif batch.scanned < batch.replies.size:
        unusual_reply(batch, batch.replies.data + batch.scanned, batch.replies.size - batch.scanned)
    return done


cdef int go_ahead(Batch batch) except -1:
    """Use the time until more comes."""
    if batch.plan.has_vectors:
        look_ahead(batch)
    if batch.form != OTHER_FORM:
        work_ahead(batch)
    return 0


cdef bint scan_replies(Batch batch, const uint8_t* data, Py_ssize_t size, Py_ssize_t until, bint keep_errors) except -1:
    """Scan up to the cell `until`; return whether it was reached. `data` is what `replies` holds or will hold."""
    cdef Py_ssize_t at = batch.scanned, cell = batch.filled_cells, after
    cdef int64_t n = 0
    while cell < until:
        if keep_errors and batch.fields_left == 0 and at < size and data[at] == c'-':
            after = scan_error(batch, data, at, size)
        elif batch.states[batch.scan_group].whole_hash is not NULL:
            after = scan_hash(batch, &batch.states[batch.scan_group], &batch.cells[cell], data, at, size)
        else:
            after = -1
        if after == 0:
            break
        if after > 0:
            at = after
            begin_reply(batch)
            cell += batch.reply_entities * batch.states[batch.scan_group].n_fields
            batch.scan_entity += batch.reply_entities
            skip_finished_groups(batch)
            continue
        if batch.fields_left == 0:
            after = read_length(data, at, size, c'*', &n)
            if after == 0:
                break
            begin_reply(batch)
            if after < 0 or n != batch.reply_entities * batch.states[batch.scan_group].n_fields:
                unusual_reply(batch, data + at, size - at)
            batch.fields_left = n
            at = after
        after = read_length(data, at, size, c'$', &n)
        if after == 0 or (after > 0 and n >= 0 and size - after < n + 2):
            break
        if after < 0 or n < -1 or (n >= 0 and (data[after + n] != c'\r' or data[after + n + 1] != c'\n')):
            unusual_reply(batch, data + at, size - at)
        batch.cells[cell] = Cell(after, n)
        at = after + n + 2 if n >= 0 else after
        cell += 1
        batch.fields_left -= 1
        if batch.fields_left == 0:
            batch.scan_entity += batch.reply_entities
            skip_finished_groups(batch)
    batch.scanned = at
    batch.filled_cells = cell
    return cell >= until


cdef inline void begin_reply(Batch batch) noexcept:
    """Note how many entities the next reply is about."""
    cdef const GroupState* state = &batch.states[batch.scan_group]
    batch.reply_entities = 1
    if state.keys_per_command and batch.scan_entity == 0:
        batch.reply_entities = state.keys_in_first
    elif state.keys_per_command:
        batch.reply_entities = min(state.keys_per_command, state.n_entities - batch.scan_entity)


cdef Py_ssize_t scan_error(Batch batch, const uint8_t* data, Py_ssize_t start, Py_ssize_t size) except -1:
    """Scan an error reply; return the offset behind it, or 0 when bytes are missing."""
    cdef Py_ssize_t after = read_error(data, start, size)
    if after < 0:
        unusual_reply(batch, data + start, size - start)
    if after > 0 and batch.refusal is None:
        batch.refusal = PyBytes_FromStringAndSize(<char*>data + start + 1, after - start - 3), scanned_key(batch)
    return after


cdef Py_ssize_t scan_hash(
    Batch batch, const GroupState* state, Cell* cells, const uint8_t* data, Py_ssize_t start, Py_ssize_t size
) except -1:
    """Scan one reply of HGETALL; return the offset behind it, or 0 when bytes are missing: it is then scanned anew."""
    cdef FieldTable table = <FieldTable>state.whole_hash
    cdef Py_ssize_t at, name
    cdef int64_t n = 0, i, name_size = 0, value_size = 0
    cdef int index
    at = read_length(data, start, size, c'*', &n)
    if at == 0:
        return 0
    if at < 0 or n < 0 or n % 2:
        unusual_reply(batch, data + start, size - start)
    for i in range(n // 2):
        name = table.expected(i, data + at, size - at)
        if likely(name > 0):
            index = table.order[i]
            at += name
        else:
            name = read_text(data, at, size, &name_size)
            if name == 0:
                return 0
            if name < 0:
                unusual_reply(batch, data + start, size - start)
            index = table.find_at(i, data + name, name_size)
            at = name + name_size + 2
        at = read_text(data, at, size, &value_size)
        if at == 0:
            return 0
        if at < 0:
            unusual_reply(batch, data + start, size - start)
        if index >= 0:
            cells[index] = Cell(at, value_size)
        at += value_size + 2
    return at


cdef void skip_finished_groups(Batch batch) noexcept:
    """Let scan_group and scan_entity point to the entity whose reply comes next."""
    while batch.scan_group < batch.n_groups and batch.scan_entity == batch.states[batch.scan_group].n_entities:
        batch.scan_group += 1
        batch.scan_entity = 0


cdef int unusual_reply(Batch batch, const uint8_t* rest, Py_ssize_t size) except -1:
    raise UnusualReply(PyBytes_FromStringAndSize(<char*>rest, size), scanned_key(batch))


cdef bytes scanned_key(Batch batch):
    """The key of the command whose reply comes next; empty if there is none."""
    cdef Py_ssize_t key = batch.n_keys
    if batch.scan_group < batch.n_groups:
        key = batch.states[batch.scan_group].first_key + batch.scan_entity
    return batch.key_bytes(key) if key < batch.n_keys else b""
