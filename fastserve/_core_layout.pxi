# The layout of packed vectors: all features of a service for one entity key, as one value. All numbers little-endian;
# docs/vector-format.md has an example.
#
#   vector     u8 magic 0xF5 | u8 version 1 | u16 segments | u64 fingerprint | u32 end of each segment, from the vector's
#              start | the segments, one per view; an empty one: the view has no row
#   segment    i64 event time in us | null bitmap | absent bitmap | fixed-width values, the widest first | u32 end of each
#              variable-width value, from the first one's start | the variable-width values
#   bitmap     a bit per feature, least significant first, spare ones 0; an absent feature is null too
#   value      8 bytes of INT64, DOUBLE, UNIX_TIMESTAMP (seconds); 4 of INT32, FLOAT; 1 of BOOL; zeros where null;
#              text and bytes as they are; all else a serialised Value (_core_value.pxi)

cdef enum:
    VECTOR_MAGIC = 0xF5
    VECTOR_VERSION = 1
    VECTOR_HEAD = 12          # bytes before the ends of the segments
    EVENT_TIME_WIDTH = 8


cdef enum PlaceKind:
    FIXED_VALUE = 0
    RAW_VALUE                 # text and bytes
    WIRE_VALUE                # a serialised Value
    ROW_TIME                  # the event time of the view


cdef struct VectorPlace:      # where a feature is in its segment
    PlaceKind kind
    int32_t segment
    uint32_t member           # of Value, that it is
    int32_t width             # of a FIXED_VALUE
    int32_t at                # FIXED_VALUE: its offset in the segment; RAW_VALUE, WIRE_VALUE: that of its end
    int32_t bitmap            # offset of the byte of the null bitmap that has its bit
    int32_t absent            # the same of the absent bitmap
    uint8_t mask              # its bit


cdef struct SegmentShape:
    int32_t first             # index of the first of its features' places
    int32_t n_features
    int32_t bitmap_size
    int32_t ends_at           # offset of the ends
    int32_t n_ends
    int32_t body_at           # offset of the variable-width values: no segment is shorter
    uint8_t spare             # the bits of a bitmap's last byte that stand for no feature


@cython.final
cdef class VectorLayout:
    """Which views a packed vector has, a segment each, and their features.

    Args:
        views: the stored name of each view, and (name, ValueType) of each of its features.
    Attributes:
        views: the same, as tuples.
        fingerprint: tells layouts apart: a 64-bit BLAKE2b digest, little-endian, of `[1, views]` as JSON text.
        n_segments: the number of views.
        head: the bytes that all vectors of the layout begin with.
        bitmap_sizes: bytes of a bitmap in each segment.
    Raises:
        ValueError: a name occurs twice, a type cannot be stored, or there are no views or too many.
    """

    cdef readonly tuple views
    cdef readonly uint64_t fingerprint
    cdef readonly Py_ssize_t n_segments
    cdef readonly bytes head
    cdef dict indexes             # (view, feature) -> index into `places`
    cdef VectorPlace* places      # of all features of all views, in order
    cdef SegmentShape* shapes
    cdef bytes blank              # zeros, as many as the fixed part of the longest segment has

    def __cinit__(self, views):
        from hashlib import blake2b    # few processes have vectors

        self.views = tuple([(str(name), tuple([(str(f), int(t)) for f, t in features])) for name, features in views])
        self.n_segments = len(self.views)
        if not 0 < self.n_segments <= 0xFFFF:
            raise ValueError(f"a vector has 1 to {0xFFFF} views, not {self.n_segments}")
        self.check_names()
        text = json.dumps([VECTOR_VERSION, self.views], ensure_ascii=False, separators=(",", ":"))
        digest = blake2b(text.encode(), digest_size=8).digest()
        self.fingerprint = int.from_bytes(digest, "little")
        self.head = bytes([VECTOR_MAGIC, VECTOR_VERSION]) + self.n_segments.to_bytes(2, "little") + digest
        self.indexes = {}
        self.allocate()
        for segment in range(self.n_segments):
            self.lay_out(segment)
        self.blank = bytes(max([self.shapes[i].body_at for i in range(self.n_segments)]))

    def __dealloc__(self):
        PyMem_Free(self.places)
        PyMem_Free(self.shapes)

    cdef int check_names(self) except -1:
        for names in ([name for name, _ in self.views], *([f for f, _ in features] for _, features in self.views)):
            if len(set(names)) < len(names):
                raise ValueError(f"a name occurs twice in {', '.join(names)}")
        return 0

    cdef int allocate(self) except -1:
        n = sum([len(features) for _, features in self.views])
        self.places = <VectorPlace*>PyMem_Calloc(n + 1, sizeof(VectorPlace))
        self.shapes = <SegmentShape*>PyMem_Calloc(self.n_segments, sizeof(SegmentShape))
        if self.places is NULL or self.shapes is NULL:
            raise MemoryError
        return 0

    cdef int lay_out(self, Py_ssize_t segment) except -1:
        """Give the features of a view their places, behind those of the views before."""
        cdef SegmentShape* shape = &self.shapes[segment]
        cdef VectorPlace* place
        cdef int i
        view, features = self.views[segment]
        shape.first = <int32_t>len(self.indexes)
        shape.n_features = <int32_t>len(features)
        shape.bitmap_size = (shape.n_features + 7) // 8
        shape.spare = <uint8_t>(0xFF << (shape.n_features % 8)) if shape.n_features % 8 else 0
        for i, (feature, value_type) in enumerate(features):
            self.indexes[view, feature] = len(self.indexes)
            place = &self.places[shape.first + i]
            try:
                place.member = stored_type(value_type)
            except ValueError as exc:
                raise ValueError(f"{view}:{feature}: {exc}") from None
            place.segment = <int32_t>segment
            place.width = item_size(place.member)
            place.kind = FIXED_VALUE if place.width else RAW_VALUE if place.member in (STRING, BYTES) else WIRE_VALUE
            place.bitmap = EVENT_TIME_WIDTH + i // 8
            place.absent = place.bitmap + shape.bitmap_size
            place.mask = <uint8_t>(1 << (i % 8))
        return self.lay_out_values(shape)

    cdef int lay_out_values(self, SegmentShape* shape) except -1:
        cdef int i
        cdef int32_t at = EVENT_TIME_WIDTH + 2 * shape.bitmap_size
        cdef VectorPlace* place
        for width in (8, 4, 1, 0):
            if width == 0:
                shape.ends_at = at
            for i in range(shape.n_features):
                place = &self.places[shape.first + i]
                if place.width == width:
                    place.at = at
                    at += width or 4
        shape.body_at = at
        shape.n_ends = (at - shape.ends_at) // 4
        return 0

    @property
    def bitmap_sizes(self):
        return tuple([self.shapes[i].bitmap_size for i in range(self.n_segments)])

    cdef VectorPlace place_of(self, str view, str feature) except *:
        """Where a feature is; without a feature, the event time of the view."""
        cdef VectorPlace place
        memset(&place, 0, sizeof(VectorPlace))
        if feature is None:
            place.kind = ROW_TIME
            place.segment = <int32_t>self.segment_of(view)
            return place
        index = self.indexes.get((view, feature))
        if index is None:
            raise ValueError(f"{view}:{feature} is not in the layout of the vectors")
        return self.places[<Py_ssize_t>index]

    cdef Py_ssize_t segment_of(self, str view) except -1:
        for segment, (name, _) in enumerate(self.views):
            if name == view:
                return segment
        raise ValueError(f"{view} is not in the layout of the vectors")

    cdef Py_ssize_t first_segment_at(self) noexcept:
        """The offset of the first segment in a vector."""
        return VECTOR_HEAD + 4 * self.n_segments


cdef struct ViewHead:
    const uint8_t* bytes      # of a view's entry in the message, up to the length of the time
    Py_ssize_t size
    const uint8_t* name       # in `bytes`
    Py_ssize_t name_size
    int32_t field             # of the event time


@cython.final
cdef class FeastNames:
    """Which names a group expects in Feast's vectors, and where what belongs to them goes."""

    cdef tuple names              # (full name as UTF-8, field)
    cdef tuple views              # (name as UTF-8, field of the event time)
    cdef bytes block              # the names as they usually are in the message
    cdef list texts               # what `heads` points into
    cdef int32_t* fields          # of the names in `block`
    cdef ViewHead* heads          # of the views, and one that is blank
    cdef Py_ssize_t n_names, n_views

    def __cinit__(self, names, views, Py_ssize_t n_fields):
        self.names = tuple([((<str?>name).encode(), int(field)) for name, field in names])
        self.views = tuple([((<str?>name).encode(), int(field)) for name, field in views])
        if not all([0 <= field < n_fields for _, field in self.names + self.views]):
            raise ValueError(f"names of Feast's vectors have fields that are not among the {n_fields} of the group")
        self.n_names, self.n_views = len(self.names), len(self.views)
        self.fields = <int32_t*>PyMem_Calloc(self.n_names + 1, sizeof(int32_t))
        self.heads = <ViewHead*>PyMem_Calloc(self.n_views + 1, sizeof(ViewHead))
        if self.fields is NULL or self.heads is NULL:
            raise MemoryError
        self.set_fields()
        self.set_heads()

    def __dealloc__(self):
        PyMem_Free(self.fields)
        PyMem_Free(self.heads)

    cdef int set_fields(self) except -1:
        cdef Sink block = Sink.of(256)
        cdef Py_ssize_t i
        for i, (name, field) in enumerate(self.names):
            block.put_field(1, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
            self.fields[i] = field
        self.block = block.finish()
        return 0

    cdef int set_heads(self) except -1:
        cdef Sink head = Sink.of(64)
        cdef Py_ssize_t i, size
        cdef Span span
        self.texts = []
        for i, (name, field) in enumerate(self.views):
            size = PyBytes_GET_SIZE(name)
            head.size = 0
            head.put_field(1, PyBytes_AS_STRING(name), size)
            head.put_varint(2 << 3 | 2)
            self.texts.append(head.finish())
            span = span_of(self.texts[i])
            self.heads[i] = ViewHead(span.data, span.size, span.data + span.size - 1 - size, size, field)
        return 0
