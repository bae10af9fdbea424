# The latest row of each entity key: one pass over the rows, with a table of the distinct keys.
#
#   slot    u64: 0 is free; else the upper half of the key's hash, and the key's number + 1
#   order   event time, then created time (null: before all others), then the later row; ticks of the columns' own unit

cdef struct Latest:       # of one entity key
    int64_t key_end       # in the buffer of keys; it starts where the key before ends
    int64_t row
    int64_t event
    int64_t created


cdef inline uint64_t hash64(const uint8_t* p, int64_t n) noexcept nogil:
    """A quick hash of 64 bits, the same in every process; for tables and partitions, not for storage."""
    cdef uint64_t h = <uint64_t>n * <uint64_t>0x9E3779B97F4A7C15, word = 0
    cdef int64_t i = 0
    while i + 8 <= n:
        memcpy(&word, p + i, 8)
        h = mix64(h ^ word)
        i += 8
    if i < n:
        word = 0
        memcpy(&word, p + i, n - i)
        h = mix64(h ^ word)
    return h


cdef inline uint64_t mix64(uint64_t h) noexcept nogil:
    h = (h ^ h >> 32) * <uint64_t>0xD6E8FEB86659FD93
    h = (h ^ h >> 32) * <uint64_t>0xD6E8FEB86659FD93
    return h ^ h >> 32


@cython.final
cdef class LatestRows:
    """Finds the latest row per key."""

    cdef Table table
    cdef Frames keys
    cdef Latest* found
    cdef Py_ssize_t n_found
    cdef uint64_t* slots
    cdef uint64_t mask

    def __cinit__(self, Table table not None):
        cdef uint64_t size = 8
        while size < 2 * <uint64_t>table.n_rows:
            size *= 2
        self.table = table
        self.mask = size - 1
        self.slots = <uint64_t*>PyMem_Calloc(size, sizeof(uint64_t))
        self.found = <Latest*>PyMem_Malloc((table.n_rows + 1) * sizeof(Latest))
        if self.slots is NULL or self.found is NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.slots)
        PyMem_Free(self.found)
        free(self.keys.data)

    @cython.nonecheck(False)
    cdef int run(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.table.n_rows):
            if self.take(self.table.rows[i]) < 0:
                return -1
        return 0

    @cython.nonecheck(False)
    cdef int take(self, int64_t row) noexcept nogil:
        cdef int64_t start = self.keys.size, size = self.table.body_size(row)
        cdef uint64_t h
        cdef Latest* latest
        if make_room(&self.keys, size) < 0:
            return -1
        self.table.write_body(self.keys.data + start, row)
        h = hash64(self.keys.data + start, size)
        latest = self.find(h, start, size)
        if latest is NULL:
            return 0
        self.improve(latest, row)
        return 0

    @cython.nonecheck(False)
    cdef Latest* find(self, uint64_t h, int64_t start, int64_t size) noexcept nogil:
        """The entry of a known key; a new key is entered as it is."""
        cdef uint64_t at = (h >> 7) & self.mask, upper = h & <uint64_t>0xFFFFFFFF00000000
        cdef Latest* latest
        cdef int64_t known
        while self.slots[at]:
            if self.slots[at] & <uint64_t>0xFFFFFFFF00000000 == upper:
                latest = &self.found[<uint32_t>self.slots[at] - 1]
                known = latest[-1].key_end if latest != self.found else 0
                if latest.key_end - known == size and memcmp(self.keys.data + known, self.keys.data + start, size) == 0:
                    return latest
            at = (at + 1) & self.mask
        latest = &self.found[self.n_found]
        self.n_found += 1
        self.slots[at] = upper | <uint64_t>self.n_found
        self.keys.size = latest.key_end = start + size
        latest.event = latest.created = INT64_MIN
        latest.row = -1
        return latest

    @cython.nonecheck(False)
    cdef void improve(self, Latest* latest, int64_t row) noexcept nogil:
        cdef const Column* c = self.table.event_times()
        cdef int64_t created = INT64_MIN, event = ticks_at(c, row + c.offset)
        if self.table.has_created:
            c = self.table.created_times()
            if is_valid(c, row + c.offset):
                created = ticks_at(c, row + c.offset)
        if event > latest.event or event == latest.event and created >= latest.created or latest.row < 0:
            latest.row = row
            latest.event = event
            latest.created = created


@cython.nonecheck(False)
def latest_rows(WritePlan plan not None, batch, bint created=False):
    """Find the latest row of each entity key: the latest event time, then the latest created time, then the last row.

    Args:
        plan: the WritePlan.
        batch: as for `encode_rows`; its features are not looked at.
        created: the batch has a created time, which may be null: that is before all others.
    Returns:
        Bytes of int64, the rows in ascending order.
    Raises:
        EncodeError: a null join key or event time, and as for `encode_rows`.
        ValueError: more than 2**32 - 2 rows.
    """
    cdef Table table = Table.of(plan, batch, created, None)
    cdef LatestRows latest
    cdef Py_ssize_t i
    cdef int failed
    if table.n_rows > 0xFFFFFFFE:
        raise ValueError(f"{table.n_rows} rows are too many at a time")
    table.bind_event_times()
    if created:
        table.bind_time(table.n_keys + table.n_features + 1)
    latest = LatestRows(table)
    with nogil:
        failed = latest.run()
        if failed == 0:    # marked, then gathered: that sorts them
            for i in range(table.n_rows):
                table.rows[i] = 0
            for i in range(latest.n_found):
                table.rows[latest.found[i].row] = 1
            table.n_rows = gather_marked(table.rows, table.n_rows)
    if failed:
        raise MemoryError
    return PyBytes_FromStringAndSize(<char*>table.rows, 8 * table.n_rows)


cdef Py_ssize_t gather_marked(int64_t* rows, Py_ssize_t n) noexcept nogil:
    """Turn marks into the numbers of the rows that have one."""
    cdef Py_ssize_t i, count = 0
    for i in range(n):
        if rows[i]:
            rows[count] = i
            count += 1
    return count


@cython.nonecheck(False)
def key_hashes(WritePlan plan not None, batch):
    """Return bytes of one uint64 per row: a hash of its entity key, the same in every process of the same byte order.

    Args:
        plan: the WritePlan.
        batch: as for `encode_rows`, but nothing beyond the join keys is looked at, or need be there.
    Raises:
        EncodeError: a null join key.
    """
    cdef Table table = Table.of(plan, batch, False, None, False)
    cdef Frames key = Frames(NULL, 0, 0)
    cdef Py_ssize_t i
    cdef int64_t size
    cdef uint64_t* hashes = <uint64_t*>table.rows    # each row's place is free once it was read
    cdef int failed = 0
    with nogil:
        for i in range(table.n_rows):
            size = table.body_size(table.rows[i])
            failed = make_room(&key, size)
            if failed:
                break
            table.write_body(key.data, table.rows[i])
            hashes[i] = hash64(key.data, size)
    free(key.data)
    if failed:
        raise MemoryError
    return PyBytes_FromStringAndSize(<char*>table.rows, 8 * table.n_rows)
