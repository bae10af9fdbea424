# A Batch and the functions of on-demand feature views: their inputs as Python columns, and what they return put back.

cdef bint all_plain(list values) noexcept:
    """Whether functions get these values of the request as they are."""
    for value in values:
        if not (
            value is None or type(value) is str or type(value) is float or type(value) is int or type(value) is bool
            or type(value) is bytes
        ):
            return False
    return True


def transform_inputs(Batch batch not None, tuple inputs not None, tuple request_data not None, convert):
    """Return what the function of an on-demand feature view takes: column -> a new list, one value per row.

    Args:
        batch: filled by a store, with all of `request_data`.
        inputs: (feature, its full name, Slot) of each feature; it is there by both names.
        request_data: names of the request's columns that it declares.
        convert: called with name and values of such a column if it has others than None, bool, int, float, str and
            bytes; returns a new list.
    Raises:
        DecodeError: a stored value is not a Value; names the entity key and the feature.
    """
    cdef dict columns = key_values(batch)
    cdef dict given = batch.request_data
    cdef list values
    for name in request_data:
        values = given[name]
        columns[name] = values.copy() if all_plain(values) else convert(name, values)
    for feature, full_name, slot in inputs:
        values = slot_values(batch, slot)
        columns[feature] = values
        columns[full_name] = values.copy()
    return columns


def keep_plain_outputs(Batch batch not None, dict result not None, tuple outputs not None):
    """Do `Batch.set_plain` with each output of a function.

    Args:
        result: what the function returned.
        outputs: (name in the result, name in the answer, ValueType).
    Returns:
        Whether all were lists of one value per row that need no conversion; if not, some may have been kept.
    """
    cdef PyObject* values
    for name, output, value_type in outputs:
        values = PyDict_GetItemWithError(result, name)
        if values is NULL or type(<object>values) is not list or PyList_GET_SIZE(<object>values) != batch.n_rows:
            return False
        if not batch.keep_plain(output, <list>values, value_type):
            return False
    return True
