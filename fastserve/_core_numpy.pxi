# Batch -> what NumPy makes arrays of: for each column of fixed width a buffer, with nulls as NumPy has them.
#
#   null    of DOUBLE and FLOAT: NaN; of INT32 and INT64: NaN, in a column of doubles; of UNIX_TIMESTAMP: INT64_MIN, its NaT

cdef dict NUMPY_TYPES = {
    INT32: "<i4", INT64: "<i8", DOUBLE: "<f8", FLOAT: "<f4", BOOL: "?", UNIX_TIMESTAMP: "<M8[s]",
}


def numpy_columns(Batch batch not None):
    """Return the features of fixed width: a list of (names, bytearray, dtype), whose columns lie one behind the other.

    Columns of one type share one buffer; those that nulls make another type have their own. What is not in it are
    objects: types without a fixed width, and booleans with nulls.

    Raises:
        DecodeError: a stored value is not of the type; names the entity key and the feature.
    """
    cdef Gathering gathering = batch.gathering if batch.form == NUMPY_FORM else None
    cdef NumpyBlock block
    cdef Py_ssize_t column
    cdef list result = []
    batch.plan.form = NUMPY_FORM
    batch.gathering = None    # its buffers are given away
    if gathering is None:
        gathering = Gathering(batch)
    gathering.finish(batch)
    for i, column in batch.plan.ungathered:
        block = gathering.blocks[i]
        block.fill(batch, column)
    for block in gathering.blocks:
        block.finish(result)
    return result


@cython.final
cdef class Gathering:
    """The columns of fixed width of an answer for NumPy in the making; those in packed vectors may be gathered as these come."""

    cdef list blocks              # a NumpyBlock for each type
    cdef Pick* picks
    cdef Py_ssize_t n_picks
    cdef Py_ssize_t n_rows        # gathered so far

    def __cinit__(self, Batch batch):
        cdef Py_ssize_t at, column
        cdef NumpyBlock block
        self.blocks = [NumpyBlock(batch, *group) for group in batch.plan.fixed_outputs]
        self.n_picks = len(batch.plan.gathered)
        self.picks = <Pick*>PyMem_Malloc((self.n_picks + 1) * sizeof(Pick))
        if self.picks is NULL:
            raise MemoryError
        for at, (i, column) in enumerate(batch.plan.gathered):
            block = self.blocks[i]
            self.picks[at] = pick_of(batch, block.slots[column], block.column(column), block.valid_of(column))

    def __dealloc__(self):
        PyMem_Free(self.picks)

    cdef void go_on(self, Batch batch, Py_ssize_t until) noexcept:
        gather(batch, self.picks, self.n_picks, self.n_rows, until)
        self.n_rows = until

    cdef int finish(self, Batch batch) except -1:
        cdef Py_ssize_t at, column
        cdef NumpyBlock block
        self.go_on(batch, batch.n_rows)
        for at, (i, column) in enumerate(batch.plan.gathered):
            block = self.blocks[i]
            check_seconds(batch, block.slots[column], block.column(column))
            block.note_nulls(column, self.picks[at].nulls)
        return 0


cdef int gather_ahead(Batch batch) except -1:
    """Gather the rows whose vectors are there."""
    cdef Py_ssize_t g, until = batch.n_rows
    if not batch.plan.gathered:
        return 0
    if batch.gathering is None:
        batch.gathering = Gathering(batch)
    for g in range(batch.n_groups):
        until = min(until, rows_in(batch, g) // TILE * TILE)
    if until > batch.gathering.n_rows:
        batch.gathering.go_on(batch, until)
    return 0


cdef tuple places_of_outputs(ReadPlan plan):
    """Where in `fixed_outputs` those are that are gathered from packed vectors, segment by segment, and the others: two
    tuples of (index of the type, index of the Slot)."""
    cdef Slot slot
    cdef list gathered = [], others = []
    for i, (_, _, slots) in enumerate(plan.fixed_outputs):
        for column, slot in enumerate(slots):
            if is_gathered(plan, slot):
                gathered.append((slot.group, (<KeyGroup>plan.groups[slot.group]).places[slot.field].segment, i, column))
            else:
                others.append((i, column))
    return tuple([(i, column) for _, _, i, column in sorted(gathered)]), tuple(others)


cdef tuple fixed_outputs_of(tuple outputs):
    """The features of fixed width by type: (ValueType, names, Slots)."""
    cdef Slot slot
    cdef dict groups = {}
    for slot in outputs:
        if item_size(slot.value_type):
            groups.setdefault(slot.value_type, []).append(slot)
    return tuple([
        (value_type, tuple([(<Slot>slot).name for slot in slots]), tuple(slots)) for value_type, slots in groups.items()
    ])


@cython.final
cdef class NumpyBlock:
    """Columns of one type in the making."""

    cdef uint32_t value_type
    cdef tuple names, slots
    cdef Py_ssize_t n_rows, size  # size: bytes of a column
    cdef object values            # bytearray
    cdef uint8_t* data            # of it
    cdef Sink valid               # bits of each column, which begins a byte
    cdef Sink nulls               # Py_ssize_t for each column
    cdef bint has_nulls

    def __cinit__(self, Batch batch, uint32_t value_type, tuple names, tuple slots):
        cdef Py_ssize_t n = len(slots)
        self.value_type, self.names, self.slots, self.n_rows = value_type, names, slots, batch.n_rows
        self.size = batch.n_rows * item_size(value_type)
        self.values = PyByteArray_FromStringAndSize(NULL, n * self.size)
        self.data = <uint8_t*>PyByteArray_AS_STRING(self.values)
        self.valid = cleared_bits(n * self.rows_of_bits())
        memset(self.valid.data, 0xFF, n * self.rows_of_bits() // 8)
        self.nulls = cleared_bits(n * 8 * sizeof(Py_ssize_t))

    cdef inline Py_ssize_t rows_of_bits(self) noexcept:
        """The rows of a column, and what is wanting to a whole byte."""
        return (self.n_rows + 7) // 8 * 8

    cdef inline uint8_t* valid_of(self, Py_ssize_t column) noexcept:
        return self.valid.data + column * self.rows_of_bits() // 8

    cdef inline Py_ssize_t nulls_of(self, Py_ssize_t column) noexcept:
        return (<Py_ssize_t*>self.nulls.data)[column]

    cdef inline uint8_t* column(self, Py_ssize_t column) noexcept:
        return self.data + column * self.size

    cdef int fill(self, Batch batch, Py_ssize_t column) except -1:
        self.note_nulls(column, fill_fixed(batch, self.slots[column], self.column(column), self.valid_of(column)))
        return 0

    cdef inline void note_nulls(self, Py_ssize_t column, Py_ssize_t nulls) noexcept:
        (<Py_ssize_t*>self.nulls.data)[column] = nulls
        if nulls:
            self.has_nulls = True

    cdef int finish(self, list result) except -1:
        """Append what `numpy_columns` returns of these."""
        cdef Py_ssize_t i
        cdef bint changes = self.value_type in (BOOL, INT32, INT64)
        if self.has_nulls and changes:
            for i, name in enumerate(self.names):
                self.finish_alone(i, name, result)
            return 0
        for i in range(len(self.names)):
            if self.nulls_of(i):
                self.put_nulls(i)
        result.append((self.names, self.values, NUMPY_TYPES[self.value_type]))
        return 0

    cdef int finish_alone(self, Py_ssize_t column, str name, list result) except -1:
        """Do that for one column of a type that has no null."""
        if self.nulls_of(column) == 0:
            values = self.values[column * self.size:(column + 1) * self.size]
            result.append(((name,), values, NUMPY_TYPES[self.value_type]))
        elif self.value_type != BOOL:
            result.append(((name,), self.doubles(column), NUMPY_TYPES[DOUBLE]))
        return 0

    cdef object doubles(self, Py_ssize_t column):
        """A column of integers as doubles."""
        cdef Py_ssize_t row
        cdef object values = PyByteArray_FromStringAndSize(NULL, 8 * self.n_rows)
        cdef double* numbers = <double*>PyByteArray_AS_STRING(values)
        cdef const uint8_t* data = self.column(column)
        for row in range(self.n_rows):
            if not self.is_valid(column, row):
                numbers[row] = NAN
            elif self.value_type == INT32:
                numbers[row] = <double>(<const int32_t*>data)[row]
            else:
                numbers[row] = <double>(<const int64_t*>data)[row]
        return values

    cdef inline bint is_valid(self, Py_ssize_t column, Py_ssize_t row) noexcept:
        return self.valid_of(column)[row >> 3] >> (row & 7) & 1

    cdef int put_nulls(self, Py_ssize_t column) noexcept:
        """Write the null of the type where there is no value."""
        cdef Py_ssize_t row, byte
        cdef const uint8_t* valid = self.valid_of(column)
        for byte in range(self.rows_of_bits() // 8):
            if valid[byte] == 0xFF:
                continue
            for row in range(8 * byte, min(8 * byte + 8, self.n_rows)):
                if not self.is_valid(column, row):
                    self.put_null(self.column(column), row)
        return 0

    cdef inline void put_null(self, uint8_t* data, Py_ssize_t row) noexcept:
        if self.value_type == DOUBLE:
            (<double*>data)[row] = NAN
        elif self.value_type == FLOAT:
            (<float*>data)[row] = NAN
        else:
            (<int64_t*>data)[row] = NULL_SECONDS


def put_objects(Batch batch not None, slots, array not None):
    """Put the Python values of some features into an array of objects: a row for each feature, or one dimension for one.

    Raises:
        DecodeError: as `python_columns`.
        ValueError: the array is none of that kind.
    """
    cdef Py_buffer view
    cdef Py_ssize_t i = 0
    get_objects(array, &view, len(slots) * batch.n_rows)
    try:
        for slot in slots:
            put_slot_objects(batch, slot, <PyObject**>view.buf + i * batch.n_rows)
            i += 1
    finally:
        PyBuffer_Release(&view)


cdef int put_slot_objects(Batch batch, Slot slot, PyObject** places) except -1:
    cdef Rows rows = all_rows(batch)
    cdef list column = objects_ahead(batch, slot)
    if column is None:
        return put_values(batch, slot, places, &rows)
    swap_objects(column, places)
    return 0


cdef void swap_objects(list values, PyObject** places) noexcept:
    """Put the values of a list that is nobody else's in their places, and what was there into the list."""
    cdef PyObject** items = (<PyListObject*>values).ob_item
    cdef PyObject* before
    cdef Py_ssize_t i
    for i in range(PyList_GET_SIZE(values)):
        before = places[i]
        places[i] = items[i]
        items[i] = before if before is not NULL else new_reference(None)


cdef list objects_ahead(Batch batch, Slot slot):
    """What `column_ahead` returns of it."""
    cdef Py_ssize_t i
    for i, other in enumerate(batch.plan.objects):
        if other is slot:
            return column_ahead(batch, NUMPY_FORM, i, slot)
    return None


cdef int get_objects(array, Py_buffer* view, Py_ssize_t n) except -1:
    """Lay open an array of `n` objects."""
    PyObject_GetBuffer(array, view, PyBUF_WRITABLE | PyBUF_FORMAT)
    if view.format is NULL or strcmp(view.format, b"O") != 0 or view.len != n * <Py_ssize_t>sizeof(PyObject*):
        PyBuffer_Release(view)
        raise ValueError(f"an array of {n} objects expected")
    return 0


def fill_objects(list values not None, array not None):
    """Put values into an array of as many objects, one dimension, dtype object. (NumPy would look into each of them.)

    Raises:
        ValueError: the array is none of that kind.
    """
    cdef Py_buffer view
    get_objects(array, &view, PyList_GET_SIZE(values))
    copy_objects(values, <PyObject**>view.buf)
    PyBuffer_Release(&view)
    return array


cdef void copy_objects(list values, PyObject** places) noexcept:
    cdef Py_ssize_t i
    for i in range(PyList_GET_SIZE(values)):
        put_item(places + i, <object>PyList_GET_ITEM(values, i))
