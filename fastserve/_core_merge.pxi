# Two packed vectors of one entity (see _core_layout.pxi) -> one. The script of stores/redis_vectors.py does the same.
#
#   merge      of each segment the one with the later event time stays. At an equal time the source decides:
#              0  made of a written row: what is stored stays, as in the hash. If that is another row, it has to be built
#                 from the hash: of two writers with rows of one time, the second to write may be the first to merge
#              1  read from the hash: it is taken unless it lacks more fields, for at one event time fields are only added
#              2  read from a hash whose rows are overwritten whatever their time: it is taken in any case, older or not
#   lacking    with source 0, a vector that has to be built from the hash: the segment that stays has absent fields, which
#              the hash may have, or is of another row; or there was no vector, so that other segments may be missing
#
# What is stored but no vector of the layout is replaced as a whole.

def merge_vectors(VectorLayout layout not None, bytes stored, bytes given not None, int source=0):
    """Merge two vectors of one entity.

    Args:
        layout: of both.
        stored: what the store has; None for nothing.
        given: what comes to it.
        source: 0: given was made of a row as it was written; 1: of what is stored in the hash; 2: of that, and rows are
            overwritten there whatever their event time.
    Returns:
        (vector, whether it has to be built from the hash instead).
    Raises:
        ValueError: `given` is not a vector of the layout.
    """
    cdef Span new = span_of(given), old
    cdef Py_ssize_t i
    cdef Merge merge = Merge(layout, source)
    if not has_segments(new, layout):
        raise ValueError("not a vector of the layout")
    if stored is None:
        return given, source == 0 and (layout.n_segments > 1 or merge.absent(new, 0) > 0)
    old = span_of(stored)
    if not has_segments(old, layout):
        return given, source == 0 and (layout.n_segments > 1 or merge.absent(new, 0) > 0)
    merge.begin()
    for i in range(layout.n_segments):
        merge.put(new if merge.takes(new, old, i) else old, i)
    return merge.out.finish(), source == 0 and merge.lacks


cdef bint has_segments(Span vector, VectorLayout layout) noexcept:
    """Whether this looks like a vector of the layout; what is in the segments is not looked at."""
    cdef Py_ssize_t i, before = layout.first_segment_at()
    cdef uint32_t end
    if vector.size < before or memcmp(vector.data, PyBytes_AS_STRING(layout.head), VECTOR_HEAD) != 0:
        return False
    for i in range(layout.n_segments):
        end = fixed32(vector.data + VECTOR_HEAD + 4 * i)
        if end < before or (end > before and end - before < EVENT_TIME_WIDTH + 2 * layout.shapes[i].bitmap_size):
            return False
        before = end
    return before == vector.size


cdef inline Span segment_span(Span vector, VectorLayout layout, Py_ssize_t i) noexcept:
    cdef Py_ssize_t start = fixed32(vector.data + VECTOR_HEAD + 4 * (i - 1)) if i else layout.first_segment_at()
    return Span(vector.data + start, fixed32(vector.data + VECTOR_HEAD + 4 * i) - start)


cdef inline bint same_bytes(Span one, Span other) noexcept:
    return one.size == other.size and memcmp(one.data, other.data, one.size) == 0


@cython.final
cdef class Merge:
    """A vector that is put together of the segments of two."""

    cdef VectorLayout layout
    cdef Sink out
    cdef int source
    cdef bint lacks               # some segment that was given, or what stays in its place, is not all that the hash has

    def __cinit__(self, VectorLayout layout, int source):
        self.layout, self.source = layout, source
        self.out = Sink.of(512)

    cdef int begin(self) except -1:
        begin_vector(self.out, self.layout)
        return 0

    cdef int put(self, Span vector, Py_ssize_t i) except -1:
        cdef Span segment = segment_span(vector, self.layout, i)
        self.out.put(segment.data, segment.size)
        return end_segments(self.out, self.layout, 0, i)

    cdef bint takes(self, Span given, Span stored, Py_ssize_t i) except -1:
        """Whether the segment that was given takes the place of the stored one."""
        cdef Span new = segment_span(given, self.layout, i), old = segment_span(stored, self.layout, i)
        cdef int64_t new_time, old_time
        cdef int lacks
        if new.size == 0:
            return False
        lacks = self.absent(given, i)
        new_time = <int64_t>fixed64(new.data)
        old_time = <int64_t>fixed64(old.data) if old.size else 0
        if old.size == 0 or new_time > old_time or self.source == 2:
            self.lacks |= lacks > 0
            return True
        if new_time < old_time:
            return False
        self.lacks |= self.absent(stored, i) > 0 or not same_bytes(new, old)
        return self.source == 1 and lacks <= self.absent(stored, i)

    cdef int absent(self, Span vector, Py_ssize_t i) noexcept:
        """The number of absent fields in a segment."""
        cdef Span segment = segment_span(vector, self.layout, i)
        cdef int size = self.layout.shapes[i].bitmap_size, at, count = 0
        cdef uint8_t bits
        if segment.size == 0:
            return 0
        for at in range(EVENT_TIME_WIDTH + size, EVENT_TIME_WIDTH + 2 * size):
            bits = segment.data[at]
            while bits:
                bits &= bits - 1
                count += 1
        return count
