"""Types of the compiled core; `make types` checks them against the built module. The docstrings are in its parts."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, final

from typing_extensions import Buffer

class _ArrowArray(Protocol):
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

@final
class StoredView:
    name: str
    features: tuple[str, ...]
    start: int
    def __init__(self, name: str, features: Iterable[str], start: int) -> None: ...
    @property
    def event_time(self) -> int: ...

@final
class VectorLayout:
    views: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    fingerprint: int
    n_segments: int
    head: bytes
    def __new__(cls, views: Iterable[tuple[str, Iterable[tuple[str, int]]]]) -> VectorLayout: ...
    @property
    def bitmap_sizes(self) -> tuple[int, ...]: ...

@final
class KeyGroup:
    join_keys: tuple[str, ...]
    columns: tuple[str, ...]
    value_types: tuple[int, ...]
    views: tuple[StoredView, ...]
    fields: tuple[bytes, ...]
    prefix: bytes
    suffix: bytes
    version: int
    whole_hash: bool
    vector: VectorLayout | None
    vector_format: str
    vector_prefix: bytes
    vector_field: bytes
    vector_label: str
    def __init__(
        self,
        join_keys: Iterable[str],
        columns: Iterable[str],
        value_types: Iterable[int],
        views: Iterable[StoredView],
        project: str,
        version: int = 3,
        whole_hash: bool = False,
        *,
        vector: VectorLayout | None = None,
        vector_format: str = "",
        vector_prefix: bytes = b"",
        vector_field: bytes = b"",
        vector_label: str = "precomputed vectors",
        vector_names: Iterable[tuple[str, int]] = (),
        vector_views: Iterable[tuple[str, int]] = (),
    ) -> None: ...

@final
class Slot:
    name: str
    label: str
    group: int
    field: int
    event_time: int
    value_type: int
    ttl: int
    def __init__(
        self,
        name: str,
        label: str,
        value_type: int,
        group: int = -1,
        field: int = 0,
        event_time: int = 0,
        ttl: int = 0,
    ) -> None: ...

@final
class ReadPlan:
    groups: tuple[KeyGroup, ...]
    outputs: tuple[Slot, ...]
    request_data: tuple[str, ...]
    transforms: tuple[Any, ...]
    inputs: tuple[Slot, ...]
    view_versions: tuple[tuple[str, int], ...]
    enforce_ttl: bool
    has_ttl: bool
    has_vectors: bool
    def __init__(
        self,
        groups: Iterable[KeyGroup],
        outputs: Iterable[Slot],
        *,
        join_keys: Mapping[str, int | None],
        required: Mapping[str, Sequence[str]],
        entity_names: Mapping[str, str] | tuple[()] = (),
        request_data: Iterable[str] = (),
        transforms: Iterable[Any] = (),
        inputs: Iterable[Slot] = (),
        view_versions: Iterable[tuple[str, int]] = (),
        enforce_ttl: bool = False,
    ) -> None: ...
    @property
    def join_keys(self) -> Mapping[str, int | None]: ...
    @property
    def required(self) -> Mapping[str, Sequence[str]]: ...
    @property
    def entity_names(self) -> Mapping[str, str]: ...

class UnusualReply(Exception):
    rest: bytes
    key: bytes
    def __init__(self, rest: bytes, key: bytes) -> None: ...

@final
class Batch:
    plan: ReadPlan
    n_rows: int
    entity_columns: list[tuple[str, int, list[Any]]]
    request_data: dict[str, list[Any]] | None
    refusal: tuple[bytes, bytes] | None
    computed: dict[str, list[bytes]] | None
    def __new__(
        cls,
        plan: ReadPlan,
        columns: dict[str, list[Any]],
        n_rows: int,
        request_data: dict[str, list[Any]] | None = None,
    ) -> Batch: ...
    @property
    def groups(self) -> tuple[KeyGroup, ...]: ...
    def entity_keys(self, group: int) -> list[bytes]: ...
    def commands(self, limit: int = 1048576) -> bytes | None: ...
    @property
    def asked(self) -> int: ...
    @property
    def unsent(self) -> int: ...
    def rewind(self) -> None: ...
    def feed(self, data: bytes | bytearray, size: int = -1) -> bool: ...
    def feed_from(self, data: bytes | bytearray, start: int, size: int, until: int) -> int: ...
    def put(self, group: int, entity: int, field: int, value: bytes) -> None: ...
    def unpack_vectors(self) -> list[tuple[int, int]]: ...
    def set_computed(self, name: str, values: list[bytes]) -> None: ...

@final
class Counter:
    n: int
    def __init__(self, buffer: Buffer, first: int) -> None: ...
    @property
    def value(self) -> int: ...
    def add(self, n: int = 1) -> None: ...
    def set(self, n: int) -> None: ...

@final
class Histogram:
    n: int
    def __init__(self, buffer: Buffer, first: int, bounds: Iterable[int]) -> None: ...
    def observe(self, value: int) -> None: ...

@final
class PlanMeter:
    owner: object
    def __init__(
        self,
        plan: ReadPlan,
        owner: object,
        latency: Histogram | None,
        views: Iterable[tuple[Iterable[int], Sequence[Counter]]],
    ) -> None: ...
    def count(self, batch: Batch) -> None: ...

@final
class ReadMeter:
    def __init__(
        self,
        plan_meter: Callable[[ReadPlan, ReadMeter], PlanMeter],
        *,
        requests: Counter | None = None,
        succeeded: Counter | None = None,
        failed: Counter | None = None,
        in_flight: Counter | None = None,
        entities: Histogram | None = None,
        queue: Histogram | None = None,
        store: Histogram | None = None,
        decode: Histogram | None = None,
        failed_latency: Histogram | None = None,
    ) -> None: ...
    def begin(self, arrived: int = 0) -> ReadTimer: ...

@final
class ReadTimer:
    arrived: int
    nanoseconds: int
    def __new__(cls, meter: ReadMeter, arrived: int = 0) -> ReadTimer: ...
    def sent(self) -> None: ...
    def answered(self) -> None: ...
    def done(self, batch: Batch) -> None: ...
    def failed(self, n_rows: int = -1) -> None: ...

@final
class WritePlan:
    view: str
    join_keys: tuple[str, ...]
    key_types: tuple[int, ...]
    features: tuple[str, ...]
    feature_types: tuple[int, ...]
    project: str
    version: int
    fields: tuple[bytes, ...]
    prefix: bytes
    suffix: bytes
    rows_per_call: int
    def __init__(
        self,
        view: str,
        join_keys: Iterable[str],
        key_types: Iterable[int],
        features: Iterable[str],
        feature_types: Iterable[int],
        project: str,
        version: int = 3,
    ) -> None: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    def owns(self, key: bytes) -> bool: ...

@final
class EncodedRows:
    plan: WritePlan
    n_rows: int
    applied: int
    handed_out: int
    answered: int
    def __len__(self) -> int: ...
    @property
    def first_unanswered(self) -> int: ...
    def commands(self, sha: bytes, key_ttl: int = 0, always: bool = False, limit: int = 1048576) -> bytes | None: ...
    def rewind(self) -> None: ...
    def feed(self, data: bytes | bytearray, size: int = -1) -> bool: ...
    def entity_key(self, row: int) -> bytes: ...
    def entity_keys(self) -> list[bytes]: ...
    def records(self) -> Iterator[tuple[bytes, int, int | None, tuple[bytes, ...]]]: ...
    def items(self) -> Iterator[tuple[bytes, str, bytes, int]]: ...

@final
class EncodedVectors:
    layout: VectorLayout
    n_rows: int
    applied: int
    handed_out: int
    answered: int
    marker_changed: bool
    unresolved: list[int]
    def __len__(self) -> int: ...
    @property
    def first_unanswered(self) -> int: ...
    def entity_key(self, row: int) -> bytes: ...
    def entity_keys(self) -> list[bytes]: ...
    def items(self) -> Iterator[tuple[bytes, bytes]]: ...
    def commands(
        self,
        sha: bytes,
        prefix: bytes,
        marker_key: bytes,
        marker: bytes,
        key_ttl: int = 0,
        source: int = 0,
        limit: int = 1048576,
    ) -> bytes | None: ...
    def rewind(self) -> None: ...
    def feed(self, data: bytes | bytearray, size: int = -1) -> bool: ...

def columns_of_rows(rows: list[Any]) -> dict[str, list[Any]]: ...
def compact_json(batch: Batch, view_versions: bool = False) -> bytes: ...
def decode_timestamp(data: bytes) -> int: ...
def decode_value(data: bytes, value_type: int = 0) -> Any: ...
def deserialize_entity_key(data: bytes) -> tuple[tuple[str, ...], tuple[int, ...], tuple[str | bytes | int, ...]]: ...
def encode_column(values: Iterable[Any], value_type: int = 0, name: str = "column") -> list[bytes]: ...
def encode_rows(
    plan: WritePlan, batch: _ArrowArray, created: bool = False, rows: Buffer | None = None
) -> EncodedRows: ...
def encode_timestamp(seconds: int, nanos: int = 0) -> bytes: ...
def encode_value(value: Any, value_type: int = 0) -> bytes: ...
def entity_key_prefix(join_keys: Iterable[str], version: int = 3) -> bytes: ...
def event_time_column(batch: Batch, slot: Slot) -> bytes: ...
def field_id(view: str, feature: str) -> bytes: ...
def fixed_column(batch: Batch, slot: Slot) -> tuple[bytes, bytes, int]: ...
def json_response(batch: Batch, view_versions: bool = False) -> bytes: ...
def key_values(batch: Batch) -> dict[str, list[Any]]: ...
def key_hashes(plan: WritePlan, batch: _ArrowArray) -> bytes: ...
def latest_rows(plan: WritePlan, batch: _ArrowArray, created: bool = False) -> bytes: ...
def list_column(batch: Batch, slot: Slot) -> tuple[tuple[bytes, bytes, bytes, int], tuple[bytes, bytes, int]]: ...
def murmur3_32(data: bytes) -> int: ...
def merge_vectors(layout: VectorLayout, stored: bytes | None, given: bytes, source: int = 0) -> tuple[bytes, bool]: ...
def pack_batch(layout: VectorLayout, batch: Batch, group: int) -> EncodedVectors: ...
def pack_feast(
    batch: Batch, group: int, names: Iterable[tuple[str, int]], views: Iterable[tuple[str, int]], built_at: int
) -> list[tuple[bytes, bytes]]: ...
def pack_rows(layout: VectorLayout, view: str, rows: EncodedRows) -> EncodedVectors: ...
def plain_batch(plan: ReadPlan, entity_rows: object) -> Batch | None: ...
def proto_response(batch: Batch, view_versions: bool = False) -> bytes: ...
def python_columns(batch: Batch, event_timestamps: bool = False) -> dict[str, list[Any]]: ...
def same_items(features: object, known: tuple[object, ...]) -> bool: ...
def serialize_entity_key(
    join_keys: Sequence[str], values: Sequence[Any], value_types: Sequence[int], version: int = 3
) -> bytes: ...
def slot_values(batch: Batch, slot: Slot) -> list[Any]: ...
def status_column(batch: Batch, slot: Slot) -> tuple[bytes, int]: ...
def statuses(batch: Batch) -> dict[str, list[str]]: ...
def stored_fields(view: StoredView) -> list[bytes]: ...
def text_column(batch: Batch, slot: Slot) -> tuple[bytes, bytes, bytes, int]: ...
def value_to_json(data: bytes) -> bytes: ...
