# The rows of a request -> columns, and the Batch of the commonest request straight from them.

def columns_of_rows(list rows not None):
    """Turn rows, a list of mappings with equal keys, into a dict of lists.

    Raises:
        EntityError: a row lacks a key of the first row, or has one more.
    """
    cdef dict row, first
    cdef list column
    cdef Py_ssize_t i
    if not rows:
        return {}
    for i in range(len(rows)):
        if type(rows[i]) is not dict:
            return columns_of_rows([as_dict(item, i) for i, item in enumerate(rows)])
        if len(<dict>rows[i]) != len(<dict>rows[0]):
            raise row_mismatch(rows, i)
    first = rows[0]
    result = {}
    for name in first:
        column = []
        for i in range(len(rows)):
            row = rows[i]
            if name not in row:
                raise row_mismatch(rows, i)
            column.append(row[name])
        result[name] = column
    return result


def plain_batch(ReadPlan plan not None, entity_rows, bint lazy=False):
    """Return the Batch of the commonest request, or None if this is another one.

    That is a list of dicts which have the join keys and the request data that the plan requires and nothing else. It
    takes the shortest way; all other forms, and all errors but those of values, are for `online.begin`. `lazy` as in Batch.
    """
    cdef Py_ssize_t i, n
    cdef PyObject* value
    cdef list rows, column
    cdef dict columns = {}, request_data = {} if plan.request_data else None
    if type(entity_rows) is not list:
        return None
    rows = <list>entity_rows
    n = PyList_GET_SIZE(rows)
    for i in range(n):
        if type(rows[i]) is not dict or len(<dict>rows[i]) != plan.row_width:
            return None
    if n == 0 or not plan.required_views:
        return None
    for name in <dict>rows[0]:
        column = PyList_New(n)
        if name in plan.required_views:
            columns[name] = column
        elif name not in plan.request_data or name in plan.join_key_types:
            return None
        if request_data is not None and name in plan.request_data:
            request_data[name] = column
        for i in range(n):
            value = PyDict_GetItemWithError(<dict>rows[i], name)
            if value is NULL:
                return None
            Py_INCREF(<object>value)
            PyList_SET_ITEM(column, i, <object>value)
    return Batch(plan, columns, n, request_data, lazy)


cdef dict as_dict(object row, Py_ssize_t i):
    if not isinstance(row, Mapping):
        raise EntityError(f"a dict expected, got {type(row).__name__}", row=i)
    return dict(row)


cdef object row_mismatch(list rows, Py_ssize_t i):
    missing = sorted(str(name) for name in rows[0] if name not in rows[i])
    extra = sorted(str(name) for name in rows[i] if name not in rows[0])
    parts = [f"missing {missing}"] * bool(missing) + [f"unexpected {extra}"] * bool(extra)
    return EntityError(f"all rows must have the columns of the first; {', '.join(parts)}", row=i)
