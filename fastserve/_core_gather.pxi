# Columns of fixed width gathered from packed vectors, all at once: what lies side by side in a segment is read together.

cdef enum:
    TILE = 8                  # rows at a time: as many values of 8 bytes fill a line of the cache, and as many bits a byte


ctypedef const uint8_t* ConstBytes

cdef struct Pick:             # a column in the making
    int32_t group
    int32_t segment
    int32_t width
    int32_t at                # in the segment, as in VectorPlace
    int32_t bitmap
    uint8_t mask
    int32_t bitmap_size       # bytes of the segment's null bitmap
    const uint8_t* blank      # stands for the segment of a row that has none: zeros
    uint8_t* values           # of all rows
    uint8_t* valid            # a bit for each row, all 1 so far
    Py_ssize_t nulls          # rows without a value so far


cdef bint is_gathered(ReadPlan plan, Slot slot) noexcept:
    """Whether a feature of fixed width is in packed vectors, and there whatever its age."""
    if slot.group < 0 or (plan.enforce_ttl and slot.ttl):
        return False
    return (<KeyGroup>plan.groups[slot.group]).places is not NULL


cdef Pick pick_of(Batch batch, Slot slot, uint8_t* values, uint8_t* valid) noexcept:
    cdef const VectorPlace* place = &batch.states[slot.group].places[slot.field]
    cdef VectorLayout layout = (<KeyGroup>batch.plan.groups[slot.group]).vector
    return Pick(
        group=slot.group, segment=place.segment, width=place.width, at=place.at, bitmap=place.bitmap, mask=place.mask,
        bitmap_size=layout.shapes[place.segment].bitmap_size, blank=<const uint8_t*>PyBytes_AS_STRING(layout.blank),
        values=values, valid=valid, nulls=0,
    )


cdef void gather(Batch batch, Pick* picks, Py_ssize_t n, Py_ssize_t start, Py_ssize_t stop) noexcept:
    """Fill some rows of columns; those of one segment must stand together. Values of rows that have none are zeros."""
    cdef Py_ssize_t row, first, last
    for row in range(start, stop, TILE):
        first = 0
        while first < n:
            last = first + 1
            while last < n and picks[last].group == picks[first].group and picks[last].segment == picks[first].segment:
                last += 1
            gather_tile(batch, picks + first, last - first, row, min(<Py_ssize_t>TILE, stop - row))
            first = last


cdef void gather_tile(Batch batch, Pick* picks, Py_ssize_t n, Py_ssize_t row, Py_ssize_t n_rows) noexcept:
    """Do that for some rows of columns of one segment."""
    cdef Walk walk = walk_of(batch, &batch.states[picks.group], picks.segment)
    cdef ConstBytes[TILE] segments
    cdef Py_ssize_t i
    for i in range(n_rows):
        segments[i] = segment_of_row(&walk, row + i)
        if segments[i] is NULL:
            segments[i] = picks.blank
    for i in range(n):
        copy_column(segments, &picks[i], picks[i].values + row * picks[i].width, n_rows)
    for i in range(n_rows):
        if segments[i] == picks.blank or has_nulls(segments[i], picks.bitmap_size):
            mark_nulls(segments[i], picks, n, row + i)


cdef inline void copy_column(const ConstBytes* segments, const Pick* pick, uint8_t* out, Py_ssize_t n) noexcept:
    # Counts and widths that the compiler knows make a copy one instruction, and the loops none.
    if pick.width == 8 and n == TILE:
        copy_values(segments, pick.at, out, TILE, 8)
    elif pick.width == 4 and n == TILE:
        copy_values(segments, pick.at, out, TILE, 4)
    else:
        copy_values(segments, pick.at, out, n, pick.width)


cdef inline void copy_values(const ConstBytes* segments, int32_t at, uint8_t* out, Py_ssize_t n, int width) noexcept:
    cdef Py_ssize_t i
    for i in range(n):
        if width == 1:
            out[i] = segments[i][at] != 0
        else:
            memcpy(out + i * width, segments[i] + at, width)


cdef inline bint has_nulls(const uint8_t* segment, int32_t bitmap_size) noexcept:
    cdef int32_t i
    for i in range(EVENT_TIME_WIDTH, EVENT_TIME_WIDTH + bitmap_size):
        if segment[i]:
            return True
    return False


cdef void mark_nulls(const uint8_t* segment, Pick* picks, Py_ssize_t n, Py_ssize_t row) noexcept:
    cdef Pick* pick
    cdef Py_ssize_t i
    for i in range(n):
        pick = &picks[i]
        if segment == pick.blank or segment[pick.bitmap] & pick.mask:
            memset(pick.values + row * pick.width, 0, pick.width)
            clear_bit(pick.valid, row)
            pick.nulls += 1


cdef inline bint are_seconds(const uint8_t* values, Py_ssize_t n) noexcept:
    """Whether all are such; without a branch, that is several times cheaper than to ask one by one."""
    cdef Py_ssize_t row
    cdef uint64_t outside = 0
    for row in range(n):
        outside |= fixed64(values + 8 * row) - <uint64_t>FIRST_SECOND > <uint64_t>(LAST_SECOND - FIRST_SECOND)
    return outside == 0


cdef int check_seconds(Batch batch, Slot slot, const uint8_t* values) except -1:
    """No second of a gathered timestamp may lie outside years 1 to 9999; where there is none are zeros."""
    cdef Py_ssize_t row
    cdef int64_t seconds
    if batch.states[slot.group].places[slot.field].member != UNIX_TIMESTAMP or are_seconds(values, batch.n_rows):
        return 0
    for row in range(batch.n_rows):
        seconds = <int64_t>fixed64(values + 8 * row)
        if not is_second(seconds):
            raise batch.located(DecodeError(f"timestamp of {seconds} s is outside years 1 to 9999", 0), slot, row)
    return 0
