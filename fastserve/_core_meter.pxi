# Meters: what a server counts, in cells of 8 bytes that stay readable when the process that wrote them is gone.
#
#   Counter     one cell: an int64
#   Histogram   a cell for each bound, of the values up to it and above the one before; a cell for the values above all
#               bounds; and a cell for the sum of all values
#   PlanMeter   per view four cells, of the values that were PRESENT, NULL_VALUE, NOT_FOUND and OUTSIDE_MAX_AGE
#
# Adding is a few machine instructions under the GIL. Times are nanoseconds of CLOCK_MONOTONIC, as time.monotonic_ns().

cdef class Cells:
    """Some cells of a writable buffer, which is kept in place as long as they are."""

    cdef Py_buffer view
    cdef int64_t* cells
    cdef readonly Py_ssize_t n

    def __cinit__(self, *_args, **_named):
        self.cells = NULL

    cdef int open(self, buffer, Py_ssize_t first, Py_ssize_t n) except -1:
        if self.cells is not NULL:
            raise ValueError("open already")
        PyObject_GetBuffer(buffer, &self.view, PyBUF_WRITABLE)
        if first < 0 or n < 0 or (first + n) * 8 > self.view.len or <uintptr_t>self.view.buf % 8:
            PyBuffer_Release(&self.view)
            raise ValueError(f"cells {first} to {first + n} are not in a buffer of {len(memoryview(buffer))} bytes")
        self.cells = <int64_t*>self.view.buf + first
        self.n = n
        return 0

    def __dealloc__(self):
        if self.cells is not NULL:
            PyBuffer_Release(&self.view)


@cython.final
cdef class Counter(Cells):
    """A number in a cell: Counter(buffer, index of the cell)."""

    def __init__(self, buffer, Py_ssize_t first):
        self.open(buffer, first, 1)

    def add(self, int64_t n=1):
        """Add `n`."""
        self.cells[0] += n

    def set(self, int64_t n):
        """Set the number to `n`."""
        self.cells[0] = n

    @property
    def value(self):
        return self.cells[0]


@cython.final
cdef class Histogram(Cells):
    """Counts values by size: Histogram(buffer, index of the first cell, increasing bounds). It has len(bounds) + 2 cells."""

    cdef int64_t* bounds
    cdef Py_ssize_t n_bounds

    def __init__(self, buffer, Py_ssize_t first, bounds):
        cdef Py_ssize_t i
        cdef list numbers = sorted(bounds)
        self.open(buffer, first, len(numbers) + 2)
        self.n_bounds = len(numbers)
        self.bounds = <int64_t*>PyMem_Malloc((self.n_bounds + 1) * sizeof(int64_t))
        if self.bounds is NULL:
            raise MemoryError
        for i in range(self.n_bounds):
            self.bounds[i] = numbers[i]

    def __dealloc__(self):
        PyMem_Free(self.bounds)

    cdef inline void put(self, int64_t value) noexcept:
        cdef Py_ssize_t i = 0
        while i < self.n_bounds and value > self.bounds[i]:
            i += 1
        self.cells[i] += 1
        self.cells[self.n_bounds + 1] += value

    def observe(self, int64_t value):
        """Count one value."""
        self.put(value)


@cython.final
cdef class PlanMeter:
    """What reads by one plan add to.

    Args:
        plan: the ReadPlan; a ReadMeter keeps the meter in it.
        owner: the ReadMeter that made it.
        latency: a Histogram of nanoseconds, or None.
        views: (indexes of outputs of the plan, four Counters in the order of the statuses) for each stored view.
    """

    cdef readonly object owner
    cdef Histogram latency
    cdef list views
    cdef int* view_of       # the view of each output; -1: it is not counted
    cdef int64_t* tallies   # of each view, 5 each: scratch space
    cdef Py_ssize_t n_outputs

    def __cinit__(self, ReadPlan plan not None, *_):
        cdef Py_ssize_t i
        self.n_outputs = len(plan.outputs)
        self.view_of = <int*>PyMem_Malloc((self.n_outputs + 1) * sizeof(int))
        self.tallies = <int64_t*>PyMem_Calloc(5 * (self.n_outputs + 1), sizeof(int64_t))
        if self.view_of is NULL or self.tallies is NULL:
            raise MemoryError
        for i in range(self.n_outputs):
            self.view_of[i] = -1

    def __dealloc__(self):
        PyMem_Free(self.view_of)
        PyMem_Free(self.tallies)

    def __init__(self, ReadPlan plan not None, owner, Histogram latency, views):
        self.owner = owner
        self.latency = latency
        self.views = []
        for indexes, counters in views:
            present, null, missing, expired = counters
            for counter in (present, null, missing, expired):
                if not isinstance(counter, Counter):
                    raise TypeError(f"Counter expected, got {type(counter).__name__}")
            slots = tuple([<Slot?>plan.outputs[i] for i in indexes])
            for i in indexes:
                if self.view_of[<Py_ssize_t>i] >= 0:
                    raise ValueError(f"output {i} is in two views")
                self.view_of[<Py_ssize_t>i] = <int>len(self.views)
            self.views.append((slots, (None, present, null, missing, expired)))

    def count(self, Batch batch not None):
        """Add the statuses of a filled batch of the plan.

        Of more than 64 rows only every so-manieth is looked at, and counts for the rows up to the next one.
        """
        self.add(batch)

    cdef int add(self, Batch batch) except -1:
        if batch.shown is None:
            return self.look_and_add(batch)
        return self.add_shown(batch)

    cdef int add_shown(self, Batch batch) except -1:
        """Add the statuses that the answer shows."""
        cdef Py_ssize_t i, row, view, n = batch.n_rows
        cdef const uint8_t* status = batch.shown.data
        cdef int kind
        cdef int64_t* tally
        for i in range(self.n_outputs):
            if self.view_of[i] >= 0:
                tally = &self.tallies[5 * self.view_of[i]]
                for row in range(n):
                    tally[status[row]] += 1
            status += n
        for view in range(len(self.views)):
            counters = <tuple>(<tuple>self.views[view])[1]
            tally = &self.tallies[5 * view]
            for kind in range(PRESENT, OUTSIDE_MAX_AGE + 1):
                if tally[kind]:
                    (<Counter>counters[kind]).cells[0] += tally[kind]
                    tally[kind] = 0
        return 0

    cdef int look_and_add(self, Batch batch) except -1:
        cdef Py_ssize_t step = (batch.n_rows + METERED_ROWS - 1) // METERED_ROWS
        cdef int64_t[5] counts
        cdef int status
        for slots, counters in self.views:
            memset(counts, 0, sizeof(counts))
            for slot in <tuple>slots:
                count_statuses(batch, <Slot>slot, step, counts)
            for status in range(PRESENT, OUTSIDE_MAX_AGE + 1):
                if counts[status]:
                    (<Counter>(<tuple>counters)[status]).cells[0] += counts[status]
        return 0


cdef int count_statuses(Batch batch, Slot slot, Py_ssize_t step, int64_t* counts) except -1:
    cdef Py_ssize_t row = 0
    cdef bint found = False, null
    while row < batch.n_rows:
        null = is_null_at(batch, slot, row, &found)
        counts[status_of(batch, slot, row, found, null)] += min(step, batch.n_rows - row)
        row += step
    return 0


cdef inline bint is_null_at(Batch batch, Slot slot, Py_ssize_t row, bint* found) except -1:
    cdef Cursor c
    cdef Member m
    if not is_packed(batch, slot):
        stored(batch, slot, row, &c, found)
        if c.at == c.end:
            return True
        # Nearly all values are seen not to be null by their first byte, which is not that of the member for nulls.
        if slot.value_type != UNIX_TIMESTAMP and c.at[0] != (NULL_MEMBER << 3 & 0x7f | 0x80):
            return False
    try:
        found[0] = load(batch, slot, row, &c, &m)
    except DecodeError:
        found[0] = True
        return False    # of a value that the answer leaves out, or else nothing would be counted
    return is_null(&m)


@cython.final
cdef class ReadMeter:
    """What every read of a server adds to: ReadMeter(plan_meter, succeeded=Counter, ..., store=Histogram, ...).

    Args:
        plan_meter: called with a plan and this meter for the PlanMeter of a plan that has none yet.
        requests, succeeded, failed, in_flight: Counters; any of them may be None.
        entities: a Histogram of rows; queue, store, decode, failed_latency: of nanoseconds; any of them may be None.
    """

    cdef object plan_meter
    cdef Counter requests, succeeded, failed, in_flight
    cdef Histogram entities, queue, store, decode, failed_latency

    def __init__(self, plan_meter, *, Counter requests=None, Counter succeeded=None, Counter failed=None,
                 Counter in_flight=None, Histogram entities=None, Histogram queue=None, Histogram store=None,
                 Histogram decode=None, Histogram failed_latency=None):
        self.plan_meter = plan_meter
        self.requests, self.succeeded, self.failed, self.in_flight = requests, succeeded, failed, in_flight
        self.entities, self.queue, self.store, self.decode = entities, queue, store, decode
        self.failed_latency = failed_latency

    def begin(self, int64_t arrived=0):
        """Return the ReadTimer of a request that has arrived: now, or at a time of time.monotonic_ns()."""
        return ReadTimer(self, arrived)

    cdef PlanMeter meter_of(self, ReadPlan plan):
        cdef PlanMeter meter = <PlanMeter?>plan.meter if plan.meter is not None else None
        if meter is None or meter.owner is not self:
            plan.meter = meter = self.plan_meter(plan, self)
        return meter


cdef class ReadTimer:
    """One read on its way through the server, in flight until `done`, `failed` or `left` is called, or it is dropped.

    Attributes:
        arrived: when it began, as time.monotonic_ns() tells it.
        nanoseconds: how long it took, once it has ended.
    """

    cdef ReadMeter meter
    cdef readonly int64_t arrived
    cdef int64_t sent_at, answered_at
    cdef readonly int64_t nanoseconds
    cdef bint open

    def __cinit__(self, ReadMeter meter not None, int64_t arrived=0):
        self.meter = meter
        self.arrived = arrived or monotonic_now()
        self.open = True
        if meter.in_flight is not None:
            meter.in_flight.cells[0] += 1

    def __dealloc__(self):
        if self.open:
            self.leave()

    cdef void leave(self) noexcept:
        self.open = False
        if self.meter is not None and self.meter.in_flight is not None:
            self.meter.in_flight.cells[0] -= 1

    def sent(self):
        """The store has been asked."""
        self.sent_at = monotonic_now()

    def answered(self):
        """The store has answered."""
        self.answered_at = monotonic_now()

    def done(self, Batch batch not None):
        """The answer is made. What comes after the first `done`, `failed` or `left` counts for nothing."""
        self.count(batch)

    cdef int count(self, Batch batch) except -1:
        cdef ReadMeter meter = self.meter
        cdef PlanMeter by_plan
        cdef int64_t now = monotonic_now()
        if not self.open:
            return 0
        self.leave()
        self.nanoseconds = now - self.arrived
        by_plan = meter.meter_of(batch.plan)
        if meter.requests is not None:
            meter.requests.cells[0] += 1
        if meter.entities is not None:
            meter.entities.put(batch.n_rows)
        if meter.succeeded is not None:
            meter.succeeded.cells[0] += 1
        if by_plan.latency is not None:
            by_plan.latency.put(self.nanoseconds)
        if self.sent_at:
            if meter.queue is not None:
                meter.queue.put(self.sent_at - self.arrived)
            if self.answered_at:
                if meter.store is not None:
                    meter.store.put(self.answered_at - self.sent_at)
                if meter.decode is not None:
                    meter.decode.put(now - self.answered_at)
        return by_plan.add(batch)

    def left(self):
        """Nobody wants the answer any more; nothing is counted."""
        if self.open:
            self.leave()

    def failed(self):
        """An error was answered."""
        cdef ReadMeter meter = self.meter
        cdef int64_t now = monotonic_now()
        if not self.open:
            return
        self.leave()
        self.nanoseconds = now - self.arrived
        if meter.requests is not None:
            meter.requests.cells[0] += 1
        if meter.failed is not None:
            meter.failed.cells[0] += 1
        if meter.failed_latency is not None:
            meter.failed_latency.put(self.nanoseconds)
        if self.sent_at and meter.store is not None:
            meter.store.put((self.answered_at or now) - self.sent_at)


cdef int64_t monotonic_now() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec
