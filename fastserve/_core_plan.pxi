# What does not depend on the entities, settled once per request shape and never changed.
#
#   command of an entity   "*" (2 + fields) CRLF "$5" CRLF HMGET CRLF | "$" key length CRLF key CRLF | the fields, framed
#                          or "*2" CRLF "$7" CRLF HGETALL CRLF | "$" key length CRLF key CRLF
#   key                    entity key (prefix of the names, then the values) and the project's name, nothing in between
#   fields of a view       the 4-byte id of each feature, in plan order, then "_ts:" and the view's stored name

cdef extern from "Python.h":
    ctypedef struct PyListObject:
        PyObject** ob_item

    ctypedef struct PyTupleObject:
        PyObject** ob_item


cdef enum AnswerForm:         # those that are begun while replies are on their way
    OTHER_FORM = 0
    PYTHON_FORM
    NUMPY_FORM


@cython.final
cdef class StoredView:
    """The fields of one feature view in the reply of its group.

    Attributes:
        name: the stored name, with its version suffix if it has one.
        features: the features that are read, in field order.
        start: the index of the first feature's field in the group.
        event_time: the index of the event time's field, which follows the last feature's.
    """

    cdef readonly str name
    cdef readonly tuple features
    cdef readonly int start, event_time

    def __init__(self, str name not None, features, int start):
        self.name = name
        self.features = tuple(features)
        self.start = start
        self.event_time = start + len(self.features)


cdef struct FramedName:
    const uint8_t* text      # "$" length CRLF name CRLF
    Py_ssize_t size


@cython.final
cdef class FieldTable:
    """Finds a field of a hash by its name: open addressing, at most half full, compared byte by byte."""

    cdef tuple fields
    cdef list texts          # the framed names
    cdef FramedName* framed
    cdef int32_t* slots      # index + 1; 0 is free
    cdef uint32_t mask
    cdef int32_t* order      # the field that stood at each place of the last hash: most hashes have the same order
    cdef int64_t n_places

    def __cinit__(self, tuple fields not None):
        cdef uint32_t size = 8, at
        cdef int i
        while size < 2 * <uint32_t>len(fields):
            size *= 2
        self.fields = fields
        self.mask = size - 1
        self.slots = <int32_t*>PyMem_Calloc(size, sizeof(int32_t))
        self.order = <int32_t*>PyMem_Calloc(len(fields) + 1, sizeof(int32_t))
        self.framed = <FramedName*>PyMem_Calloc(len(fields) + 1, sizeof(FramedName))
        if self.slots is NULL or self.order is NULL or self.framed is NULL:
            raise MemoryError
        self.n_places = len(fields)
        self.texts = [framed(field) for field in fields]
        for i in range(len(fields)):
            self.framed[i].text = <const uint8_t*>PyBytes_AS_STRING(self.texts[i])
            self.framed[i].size = PyBytes_GET_SIZE(self.texts[i])
            at = field_hash(<const uint8_t*>PyBytes_AS_STRING(fields[i]), PyBytes_GET_SIZE(fields[i])) & self.mask
            while self.slots[at]:
                at = (at + 1) & self.mask
            self.slots[at] = i + 1

    def __dealloc__(self):
        PyMem_Free(self.slots)
        PyMem_Free(self.order)
        PyMem_Free(self.framed)

    cdef inline Py_ssize_t expected(self, int64_t place, const uint8_t* p, Py_ssize_t left) noexcept:
        """Return the size of the framed name at `p` if it is that of the field `order[place]`, else 0."""
        cdef const FramedName* name
        if place >= self.n_places:
            return 0
        name = &self.framed[self.order[place]]
        return name.size if name.size <= left and memcmp(name.text, p, name.size) == 0 else 0

    cdef int find_at(self, int64_t place, const uint8_t* name, Py_ssize_t size) noexcept:
        """Return the index of the field at a place of the hash, or -1; from now on it is expected there."""
        cdef int index = self.find(name, size)
        if index >= 0 and place < self.n_places:
            self.order[place] = index
        return index

    cdef inline bint is_field(self, int index, const uint8_t* name, Py_ssize_t size) noexcept:
        cdef PyObject* field = PyTuple_GET_ITEM(self.fields, index)
        return PyBytes_GET_SIZE(<object>field) == size and memcmp(PyBytes_AS_STRING(<object>field), name, size) == 0

    cdef int find(self, const uint8_t* name, Py_ssize_t size) noexcept:
        """Return the index of a field, or -1."""
        cdef uint32_t at = field_hash(name, size) & self.mask
        while self.slots[at]:
            if self.is_field(self.slots[at] - 1, name, size):
                return self.slots[at] - 1
            at = (at + 1) & self.mask
        return -1


cdef inline uint32_t field_hash(const uint8_t* name, Py_ssize_t size) noexcept:
    """Names of 4 bytes are hashes already."""
    return fixed32(name) if size == 4 else murmur3(name, size)


@cython.final
cdef class KeyGroup:
    """Feature views whose rows one entity key finds: they are one hash in Redis, so they are read by one command.

    Attributes:
        join_keys: the views' join keys, sorted.
        columns: the request's columns that hold their values, parallel; empty for entity-less views.
        value_types: the ValueType of each, parallel; 0 is taken from the values.
        views: the StoredViews.
        fields: the hash fields that are read.
        prefix: the bytes that all entity keys of the group begin with.
        suffix: the project's name, which ends the Redis keys.
        version: the `entity_key_serialization_version`.
        whole_hash: read by HGETALL instead of HMGET. In a small hash Redis searches each field from the front, so that
            asking for most of them costs it more than giving out all.
        vector: the VectorLayout of packed vectors, which are then read instead of the hash, by MGET: the keys are
            `vector_prefix` and the entity key, without the project. The layout may have more views than the group.
        vector_format: "packed"; "feast", which reads Feast's vectors, one per hash, in `vector_field`; "" for neither.
        vector_label: what errors call the vectors.
    Args:
        vector_names: (full name, index of its field) of each feature in Feast's vectors.
        vector_views: (name, index of its event time's field) of each view in them.
    """

    cdef readonly tuple join_keys
    cdef readonly tuple columns
    cdef readonly tuple value_types
    cdef readonly tuple views
    cdef readonly tuple fields
    cdef readonly bytes prefix
    cdef readonly bytes suffix
    cdef readonly int version
    cdef readonly bint whole_hash
    cdef readonly VectorLayout vector
    cdef readonly str vector_format
    cdef readonly bytes vector_prefix
    cdef readonly bytes vector_field
    cdef readonly str vector_label
    cdef bytes head
    cdef bytes tail
    cdef int n_fields
    cdef FieldTable table
    cdef VectorPlace* places       # of packed vectors: where each field is
    cdef FeastNames feast          # of Feast's vectors: what is in them

    def __dealloc__(self):
        PyMem_Free(self.places)

    def __init__(self, join_keys, columns, value_types, views, str project not None, int version=3,
                 bint whole_hash=False, *, VectorLayout vector=None, str vector_format="", bytes vector_prefix=b"",
                 bytes vector_field=b"", str vector_label="precomputed vectors", vector_names=(), vector_views=()):
        self.join_keys = tuple(join_keys)
        self.columns = tuple(columns)
        self.value_types = tuple(value_types)
        self.views = tuple(views)
        self.version = version
        self.suffix = project.encode()
        self.fields = tuple(field for view in self.views for field in stored_fields(view))
        self.n_fields = len(self.fields)
        self.prefix = entity_key_prefix(self.join_keys, version)
        if not self.columns:
            self.prefix += dummy_key_value(self.join_keys)
        self.whole_hash = whole_hash
        self.table = FieldTable(self.fields)
        self.vector, self.vector_prefix, self.vector_field = vector, vector_prefix, vector_field
        self.vector_format = vector_format or ("packed" if vector is not None else "")
        self.vector_label = vector_label
        if self.vector_format == "feast":
            self.feast = FeastNames(vector_names, vector_views, self.n_fields)
            self.frame_fields((vector_field,))
        elif self.vector_format:
            self.bind_vectors()
        elif whole_hash:
            self.head, self.tail = b"*2\r\n$7\r\nHGETALL\r\n", b"\r\n"
        else:
            self.frame_fields(self.fields)

    cdef int frame_fields(self, tuple fields) except -1:
        """Make the two parts of HMGET that stand around the key."""
        self.head = b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(fields))
        self.tail = b"\r\n" + b"".join([framed(field) for field in fields])
        return 0

    cdef Py_ssize_t framing(self) except -1:
        """Bytes of an entity's command beside its key."""
        return len(self.head) + len(self.vector_prefix) + len(self.suffix) + len(self.tail)

    cdef int bind_vectors(self) except -1:
        """Find the fields in the vectors."""
        cdef Py_ssize_t i
        if self.vector_format != "packed" or self.vector is None:
            raise ValueError(f"vectors of format {self.vector_format!r} cannot be read")
        self.head = self.tail = b""
        self.places = <VectorPlace*>PyMem_Calloc(self.n_fields + 1, sizeof(VectorPlace))
        if self.places is NULL:
            raise MemoryError
        fields = [(view.name, feature) for view in self.views for feature in (*view.features, None)]
        for i, (view, feature) in enumerate(fields):
            self.places[i] = self.vector.place_of(view, feature)
        return 0


cdef Py_ssize_t command_size(KeyGroup group, Span name) noexcept:
    cdef uint8_t[CELL_ROOM] frame
    cdef Py_ssize_t n = name.size + PyBytes_GET_SIZE(group.suffix)
    return PyBytes_GET_SIZE(group.head) + (write_head(frame, n) - frame) + n + PyBytes_GET_SIZE(group.tail)


cdef uint8_t* write_command(uint8_t* p, KeyGroup group, Span name) noexcept:
    """Write the command for an entity; return where it ends."""
    p = write_span(p, span_of(group.head))
    p = write_head(p, name.size + PyBytes_GET_SIZE(group.suffix))
    p = write_span(write_span(p, name), span_of(group.suffix))
    return write_span(p, span_of(group.tail))


cdef inline uint8_t* write_span(uint8_t* p, Span source) noexcept:
    return write_bytes(p, source.data, source.size)


cdef bytes dummy_key_value(tuple join_keys):
    """Entity-less views have one row, under the empty text."""
    cdef Sink out = Sink.of(16)
    for _ in join_keys:
        put_key_value(out, "", STRING, 3)
    return out.finish()


def stored_fields(StoredView view not None):
    """Return the hash fields of a view's features, in order, and that of its event time."""
    return [*(field_id(view.name, feature) for feature in view.features), b"_ts:" + view.name.encode()]


@cython.final
cdef class Slot:
    """One feature of the answer.

    Attributes:
        name: its name in the answer.
        label: `view:feature`, for errors.
        group, field, event_time: where it is in the replies; group is -1 for the outputs of on-demand feature views.
        value_type: the ValueType of the schema.
        ttl: how old its row may be, in microseconds; 0 is any age.
    """

    cdef readonly str name
    cdef readonly str label
    cdef readonly int group
    cdef readonly int field
    cdef readonly int event_time
    cdef readonly uint32_t value_type
    cdef readonly int64_t ttl
    cdef bytes json_name

    def __init__(self, str name, str label, uint32_t value_type, int group=-1, int field=0, int event_time=0,
                 int64_t ttl=0):
        self.name = name
        self.label = label
        self.value_type = value_type
        self.group = group
        self.field = field
        self.event_time = event_time
        self.ttl = ttl
        self.json_name = json_text_of(name)


cdef bytes json_text_of(str text):
    cdef Sink out = Sink.of(64)
    put_json_str(out, text)
    return out.finish()


@cython.final
cdef class ReadPlan:
    """Everything about a request that does not depend on its entities.

    Attributes:
        groups: the KeyGroups, one command per distinct entity each.
        outputs: the Slots of the answer, in the order asked for.
        join_keys: column -> ValueType of every join key that the answer echoes when the request has it; the type is 0
            where the view does not declare it, and None where no requested view uses the key.
        required: column -> names of the views that cannot be read without it.
        entity_names: entity name -> join key, for requests that (as was once usual) name the entity instead.
        request_data: columns that on-demand feature views take from the request.
        transforms: the on-demand feature views to run, opaque to the core.
        inputs: the Slots that the transforms take; the answer may not have them.
        view_versions: (name, version number) of each view that is read.
        enforce_ttl: values older than the ttl are null.
        has_ttl: the age of some value matters, so a batch has to know the time.
        has_vectors: some group is read from vectors: after the store has read, `Batch.unpack_vectors` must be called.
    """

    cdef readonly tuple groups
    cdef readonly tuple outputs
    cdef dict join_key_types
    cdef dict required_views
    cdef dict entity_join_keys
    cdef readonly tuple request_data
    cdef readonly tuple transforms
    cdef readonly tuple inputs
    cdef readonly tuple view_versions
    cdef readonly bint enforce_ttl
    cdef readonly bint has_ttl
    cdef readonly bint has_vectors
    cdef bytes json_names
    cdef Py_ssize_t framing       # bytes of the longest command, without its entity key
    cdef object meter             # the PlanMeter that a server counts its reads with, if any
    cdef tuple fixed_outputs      # those of fixed width by type, for NumPy
    cdef tuple gathered, ungathered    # which of these are gathered from packed vectors
    cdef AnswerForm form          # that the last answer was asked for in, for the next Batch to take
    cdef tuple objects            # the outputs that are objects in NumPy
    cdef Py_ssize_t row_width     # columns of a request with just what is required
    cdef readonly tuple output_names
    cdef dict blank               # the answer's columns of a request with just the required join keys, all None

    def __init__(self, groups, outputs, *, join_keys, required, entity_names=(), request_data=(), transforms=(),
                 inputs=(), view_versions=(), bint enforce_ttl=False):
        self.groups = tuple(groups)
        self.outputs = tuple(outputs)
        self.join_key_types = dict(join_keys)
        self.required_views = dict(required)
        self.entity_join_keys = dict(entity_names)
        self.request_data = tuple(request_data)
        self.transforms = tuple(transforms)
        self.inputs = tuple(inputs)
        self.view_versions = tuple(view_versions)
        self.enforce_ttl = enforce_ttl
        self.has_ttl = any(slot.ttl for slot in self.outputs + self.inputs)
        for group in self.groups:
            if not isinstance(group, KeyGroup):
                raise TypeError(f"KeyGroup expected, got {type(group).__name__}")
        self.has_vectors = any([(<KeyGroup>group).vector_format for group in self.groups])
        self.framing = 256 + max([(<KeyGroup>group).framing() for group in self.groups], default=0)
        self.row_width = len({*self.required_views, *self.request_data})
        self.output_names = tuple([slot.name for slot in self.outputs])
        self.blank = dict.fromkeys([*self.required_views, *self.output_names])
        for slot in self.outputs + self.inputs:
            check_slot(slot, self.groups)
        self.fixed_outputs = fixed_outputs_of(self.outputs)
        self.gathered, self.ungathered = places_of_outputs(self)
        self.objects = tuple([slot for slot in self.outputs if not item_size((<Slot>slot).value_type)])
        self.json_names = b",".join([(<Slot>slot).json_name for slot in self.outputs])

    # Plans are shared by all threads, so their dicts are given out as views that cannot be written to.
    @property
    def join_keys(self):
        return MappingProxyType(self.join_key_types)

    @property
    def required(self):
        return MappingProxyType(self.required_views)

    @property
    def entity_names(self):
        return MappingProxyType(self.entity_join_keys)


cdef int check_slot(Slot slot, tuple groups) except -1:
    """The core reads replies by these indexes without looking again."""
    cdef int n_fields = 0
    if slot.group == -1:
        return 0
    if 0 <= slot.group < len(groups):
        n_fields = (<KeyGroup>groups[slot.group]).n_fields
    if not 0 <= slot.field < n_fields or not 0 <= slot.event_time < n_fields:
        raise ValueError(f"{slot.label}: field {slot.field} of group {slot.group} is not in the plan")
    if (<KeyGroup>groups[slot.group]).places is not NULL:
        check_places(slot, (<KeyGroup>groups[slot.group]).places)
    return 0


cdef int check_places(Slot slot, const VectorPlace* places) except -1:
    """What is read as the slot's type, without looking again, must be of that type."""
    cdef const VectorPlace* value = &places[slot.field]
    cdef const VectorPlace* time = &places[slot.event_time]
    if value.kind == ROW_TIME or time.kind != ROW_TIME or time.segment != value.segment:
        raise ValueError(f"{slot.label}: field {slot.field} is no feature with its event time at {slot.event_time}")
    if value.member != stored_type(slot.value_type):
        raise ValueError(
            f"{slot.label}: {type_name(value.member)} in the vectors, {type_name(slot.value_type)} in the plan"
        )
    return 0


def same_items(features, tuple known not None):
    """Whether a list holds the very objects of a tuple, in order. Looks at none of them, so it cannot miss the cache."""
    cdef Py_ssize_t n = PyTuple_GET_SIZE(known)
    if type(features) is not list or PyList_GET_SIZE(features) != n:
        return False
    return memcmp((<PyListObject*>features).ob_item, (<PyTupleObject*>known).ob_item, n * sizeof(PyObject*)) == 0
