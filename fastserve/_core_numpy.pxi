# Batch -> what NumPy makes arrays of: for each column of fixed width a buffer, with nulls as NumPy has them.
#
#   null    of DOUBLE and FLOAT: NaN; of INT32 and INT64: NaN, in a column of doubles; of UNIX_TIMESTAMP: INT64_MIN, its NaT

cdef enum:
    ROWS_AT_A_TIME = 64       # of all columns, so that what they are gathered from stays in the fastest cache

cdef dict NUMPY_TYPES = {
    INT32: "<i4", INT64: "<i8", DOUBLE: "<f8", FLOAT: "<f4", BOOL: "?", UNIX_TIMESTAMP: "<M8[s]",
}


def numpy_columns(Batch batch not None):
    """Return for each feature of the answer its buffer, a bytearray, and the name of its dtype.

    Those that are objects have None instead: types without a fixed width, and booleans with nulls.

    Raises:
        DecodeError: a stored value is not of the type; names the entity key and the feature.
    """
    cdef list columns = [NumpyColumn(batch, slot) for slot in batch.plan.outputs if item_size((<Slot>slot).value_type)]
    cdef NumpyColumn column
    cdef Slot slot
    cdef Py_ssize_t start
    cdef list result = []
    for start in range(0, batch.n_rows, ROWS_AT_A_TIME):
        for column in columns:
            column.fill(batch, start, min(start + ROWS_AT_A_TIME, batch.n_rows))
    filled = iter(columns)
    for slot in batch.plan.outputs:
        result.append((<NumpyColumn>next(filled)).finish() if item_size(slot.value_type) else None)
    return result


@cython.final
cdef class NumpyColumn:
    """A column in the making."""

    cdef Slot slot
    cdef Py_ssize_t n_rows, nulls
    cdef object values            # bytearray
    cdef uint8_t* data            # of it
    cdef Sink valid

    def __cinit__(self, Batch batch, Slot slot):
        self.slot, self.n_rows = slot, batch.n_rows
        self.values = PyByteArray_FromStringAndSize(NULL, batch.n_rows * item_size(slot.value_type))
        self.data = <uint8_t*>PyByteArray_AS_STRING(self.values)
        self.valid = cleared_bits(batch.n_rows)

    cdef int fill(self, Batch batch, Py_ssize_t start, Py_ssize_t stop) except -1:
        self.nulls += fill_fixed(batch, self.slot, start, stop, self.data, self.valid.data)
        return 0

    cdef object finish(self):
        """The buffer and its dtype, or None."""
        cdef uint32_t value_type = self.slot.value_type
        if self.nulls:
            if value_type == BOOL:
                return None
            if value_type == INT32 or value_type == INT64:
                self.become_doubles()
                value_type = DOUBLE
            self.put_nulls(value_type)
        return self.values, NUMPY_TYPES[value_type]

    cdef int become_doubles(self) except -1:
        cdef Py_ssize_t row
        cdef object values = PyByteArray_FromStringAndSize(NULL, 8 * self.n_rows)
        cdef double* numbers = <double*>PyByteArray_AS_STRING(values)
        for row in range(self.n_rows):
            if self.slot.value_type == INT32:
                numbers[row] = <double>(<int32_t*>self.data)[row]
            else:
                numbers[row] = <double>(<int64_t*>self.data)[row]
        self.values = values
        self.data = <uint8_t*>numbers
        return 0

    cdef int put_nulls(self, uint32_t value_type) noexcept:
        cdef Py_ssize_t row
        for row in range(self.n_rows):
            if self.valid.data[row >> 3] >> (row & 7) & 1:
                continue
            if value_type == DOUBLE:
                (<double*>self.data)[row] = NAN
            elif value_type == FLOAT:
                (<float*>self.data)[row] = NAN
            else:
                (<int64_t*>self.data)[row] = NULL_SECONDS
        return 0


def fill_objects(list values not None, array not None):
    """Put values into an array of as many objects, one dimension, dtype object. (NumPy would look into each of them.)

    Raises:
        ValueError: the array is none of that kind.
    """
    cdef Py_buffer view
    cdef PyObject** places
    cdef Py_ssize_t i, n = PyList_GET_SIZE(values)
    PyObject_GetBuffer(array, &view, PyBUF_WRITABLE | PyBUF_FORMAT)
    try:
        if view.format is NULL or strcmp(view.format, b"O") != 0 or view.len != n * <Py_ssize_t>sizeof(PyObject*):
            raise ValueError(f"an array of {n} objects expected")
        places = <PyObject**>view.buf
        for i in range(n):
            Py_INCREF(<object>PyList_GET_ITEM(values, i))
            Py_XDECREF(places[i])
            places[i] = <PyObject*>PyList_GET_ITEM(values, i)
    finally:
        PyBuffer_Release(&view)
    return array
