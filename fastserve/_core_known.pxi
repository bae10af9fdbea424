# Batches of entity keys that are known as bytes, because a store gave them: row i is key i, and there are no columns.

def batch_of_keys(ReadPlan plan not None, list keys not None):
    """Return a Batch that asks for these entity keys.

    Args:
        plan: one KeyGroup, which is read from hashes and has no columns.
        keys: bytes, without the project; each may be there once.
    Raises:
        ValueError: the plan is none of that kind.
    """
    cdef Batch batch
    if len(plan.groups) != 1:
        raise ValueError(f"a plan of one group expected, got {len(plan.groups)}")
    if (<KeyGroup>plan.groups[0]).columns:
        raise ValueError("the plan's keys come from columns")
    batch = Batch(plan, {}, 0)
    batch.make_key_room(len(keys))
    put_known_keys(batch, &batch.states[0], keys)
    return batch


cdef int put_known_keys(Batch batch, GroupState* state, list keys) except -1:
    cdef Py_ssize_t n = PyList_GET_SIZE(keys)
    cdef bytes key
    batch.make_cells(n * state.n_fields)
    for key in keys:
        batch.keys.put_bytes(key)
        batch.end_key(state)
    state.constant = False
    batch.n_rows = n
    batch.send_group = batch.scan_group = 0
    skip_finished_groups(batch)
    return 0


def stored_entities(Batch batch not None, Py_ssize_t group):
    """Return the indexes into `entity_keys(group)` of those of which the hashes hold anything that was asked for."""
    cdef GroupState* state = batch.state(group)
    cdef Py_ssize_t entity, i
    cdef list result = []
    for entity in range(state.n_entities):
        for i in range(state.n_fields):
            if batch.cells[state.first_cell + entity * state.n_fields + i].size >= 0:
                result.append(entity)
                break
    return result


def rows_of_entities(Batch batch not None, Py_ssize_t group, entities):
    """Return the rows of the request that have one of these entities, given as indexes into `entity_keys(group)`."""
    cdef GroupState* state = batch.state(group)
    cdef Py_ssize_t row
    wanted = set(entities)
    return [row for row in range(batch.n_rows) if batch.entity_at(state, row) in wanted]
