"""What a feature repository consists of: entities, views, services, sources.

All objects are immutable: sequences are tuples and mappings read-only views, whatever was given. They can be compared,
hashed (by everything but their mappings), copied and pickled.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

from fastserve.errors import DefinitionError
from fastserve.types import FeastType, ValueType

__all__ = [
    "DUMMY_ENTITY",
    "DUMMY_JOIN_KEY",
    "DataSource",
    "Entity",
    "FeatureService",
    "FeatureView",
    "FeatureViewProjection",
    "FeatureViewState",
    "Field",
    "OnDemandFeatureView",
    "Project",
    "RequestSource",
    "UserDefinedFunction",
    "ViewKind",
]

DUMMY_ENTITY = "__dummy"
"""The entity that views without entities name in the registry."""

DUMMY_JOIN_KEY = "__dummy_id"
"""Its join key; its value is always the empty string."""

ViewKind = Literal["feature_view", "stream_feature_view", "label_view", "on_demand_feature_view"]
SourceKind = Literal["file", "request", "push", "kafka", "kinesis", "custom", "warehouse", "unknown"]


class FeatureViewState(enum.IntEnum):
    """How far a view is on its way to being served; views that never had a state have 0."""

    STATE_UNSPECIFIED = 0
    CREATED = 1
    GENERATED = 2
    MATERIALIZING = 3
    AVAILABLE_ONLINE = 4


_READ_ONLY = frozenset({str, bool, int, tuple, type(None), MappingProxyType})


class _Definition:
    """Base of the objects: makes what it is given read-only."""

    __slots__: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in type(self).__slots__:
            value = getattr(self, name)
            if type(value) in _READ_ONLY:
                continue  # a registry has tens of thousands of them, and asking whether it is a Mapping takes long
            if isinstance(value, Mapping):
                object.__setattr__(self, name, MappingProxyType(dict(value)))
            elif isinstance(value, list):
                object.__setattr__(self, name, tuple(value))

    def __reduce__(self) -> tuple[type[_Definition], tuple[object, ...]]:
        # A mappingproxy itself can be neither pickled nor deep-copied.
        values = (getattr(self, name) for name in type(self).__slots__)
        return type(self), tuple(dict(value) if isinstance(value, MappingProxyType) else value for value in values)


def _mapping() -> Any:
    return field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Field(_Definition):
    """A column: a feature, or a join key of a view; the one class for both sides, definitions and registry.

        Field(name="age", dtype=Int32, description="in years", tags={"pii": "yes"})

    Args:
        dtype: one of `fastserve.types`.
        tags: free text; None is as good as none.
        vector_index, vector_length, vector_search_metric: for vector search; length 0 means any, metric None is "".

    Raises:
        DefinitionError: an argument is of the wrong type.
    """

    name: str
    dtype: FeastType
    description: str = ""
    tags: Mapping[str, str] = _mapping()
    vector_index: bool = False
    vector_length: int = 0
    vector_search_metric: str = ""

    def __post_init__(self) -> None:
        # As Feast has it, None stands for "nothing".
        object.__setattr__(self, "tags", self.tags or {})
        object.__setattr__(self, "vector_search_metric", self.vector_search_metric or "")
        name = self.name if isinstance(self.name, str) else ""
        for argument, kind in _FIELD_ARGUMENTS:
            if not isinstance(value := getattr(self, argument), kind):
                raise DefinitionError("Field", name, f"{argument} must be {_KIND_NAMES[kind]}, not {value!r}")
        _Definition.__post_init__(self)

    @property
    def value_type(self) -> ValueType:
        """The type number of `dtype`."""
        return self.dtype.value_type


_KIND_NAMES: dict[type, str] = {
    str: "text",
    bool: "True or False",
    int: "a whole number",
    Mapping: "a mapping of texts",
    FeastType: "a type of fastserve.types (such as Int64)",
}
_FIELD_ARGUMENTS: tuple[tuple[str, type], ...] = (
    ("name", str),
    ("dtype", FeastType),
    ("description", str),
    ("tags", Mapping),
    ("vector_index", bool),
    ("vector_length", int),
    ("vector_search_metric", str),
)


@dataclass(frozen=True, slots=True)
class Entity(_Definition):
    """What features describe: a customer, an account.

    Args:
        join_key: the column that holds the entity's key.
        value_type: a fallback; a view's own `entity_columns` are what counts.
    """

    name: str
    join_key: str
    value_type: ValueType = ValueType.UNKNOWN
    description: str = ""
    tags: Mapping[str, str] = _mapping()
    owner: str = ""
    created_timestamp: datetime | None = None
    last_updated_timestamp: datetime | None = None

    @property
    def join_keys(self) -> list[str]:
        """The join key, in a list as Feast has it."""
        return [self.join_key]


@dataclass(frozen=True, slots=True)
class FeatureViewProjection(_Definition):
    """Some features of a view, as a service or an on-demand view uses them.

    Args:
        name: the view's name.
        name_alias: the name that the service gives to the view, or "".
        join_key_map: join key of the view -> column of the request.
        version_tag: the version of the view that is meant, or None for the active one.
        view_type: Feast's word for the kind of view, or "".
    """

    name: str
    name_alias: str = ""
    features: tuple[Field, ...] = ()
    join_key_map: Mapping[str, str] = _mapping()
    version_tag: int | None = None
    view_type: str = ""

    def name_to_use(self) -> str:
        """Return the name by which the answer knows the view: `alias or name`, and `@vN` if a version is meant."""
        base = self.name_alias or self.name
        return base if self.version_tag is None else f"{base}@v{self.version_tag}"


@dataclass(frozen=True, slots=True)
class DataSource(_Definition):
    """Where the rows of a view come from.

    Args:
        kind: "warehouse" is any database; what it needs is only in the registry's message.
        timestamp_field, created_timestamp_column: names after `field_mapping`.
        field_mapping: column of the source -> column of the view.
        path: of a file source: the path or URI as written, relative to the repository; else "".
        schema: of a request source: what a request must carry.
        batch_source: of a push or stream source: the table behind it.
        s3_endpoint_override: of a file source: the address of an object store that speaks S3; else "".
        file_format: of a file source: "parquet" or "delta".
    """

    name: str
    kind: SourceKind
    timestamp_field: str = ""
    created_timestamp_column: str = ""
    field_mapping: Mapping[str, str] = _mapping()
    path: str = ""
    description: str = ""
    tags: Mapping[str, str] = _mapping()
    owner: str = ""
    schema: tuple[Field, ...] = ()
    batch_source: DataSource | None = None
    s3_endpoint_override: str = ""
    file_format: str = "parquet"


@dataclass(frozen=True, slots=True)
class RequestSource(_Definition):
    """Data that an on-demand view takes from the request; an `input_schema` is named `__input_schema__<view>`."""

    name: str
    schema: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureView(_Definition):
    """A view whose features are stored online.

    Args:
        kind: a stored on-demand view is a FeatureView too, of kind "on_demand_feature_view".
        entities: names; `(DUMMY_ENTITY,)` for a view without entities.
        entity_columns: the join keys with their types, in declared order.
        features: in declared order, never with join keys.
        ttl: age from which a value is too old; zero means no limit.
        enabled: a view that is not enabled is not served.
        current_version_number: the active version; 0 also when the view has no versions.
        version: what the definition pins: "latest" or "vN".
        materialization_intervals: (start, end) of what was loaded.
    """

    name: str
    kind: ViewKind = "feature_view"
    entities: tuple[str, ...] = ()
    entity_columns: tuple[Field, ...] = ()
    features: tuple[Field, ...] = ()
    ttl: timedelta = timedelta(0)
    online: bool = True
    description: str = ""
    tags: Mapping[str, str] = _mapping()
    owner: str = ""
    enabled: bool = True
    state: FeatureViewState = FeatureViewState.STATE_UNSPECIFIED
    current_version_number: int = 0
    version: str = "latest"
    batch_source: DataSource | None = None
    stream_source: DataSource | None = None
    created_timestamp: datetime | None = None
    last_updated_timestamp: datetime | None = None
    materialization_intervals: tuple[tuple[datetime, datetime], ...] = ()

    @property
    def join_keys(self) -> tuple[str, ...]:
        """The names of the join keys, in declared order."""
        return tuple(column.name for column in self.entity_columns)

    @property
    def schema(self) -> tuple[Field, ...]:
        """Join keys and features."""
        return self.entity_columns + self.features

    @property
    def source_name(self) -> str:
        """The name of the source that feeds the view (the stream's, if it has one), or ""."""
        source = self.stream_source or self.batch_source
        return source.name if source else ""

    @property
    def projection(self) -> FeatureViewProjection:
        """All features of the view, under its own name."""
        return FeatureViewProjection(self.name, features=self.features)

    @property
    def most_recent_end_time(self) -> datetime | None:
        """The time up to which the view was loaded, or None."""
        return max((end for _, end in self.materialization_intervals), default=None)


@dataclass(frozen=True, slots=True)
class UserDefinedFunction(_Definition):
    """The function of an on-demand view, not yet loaded.

    Args:
        body: a pickle made with dill, or b"".
        body_text: source text with its decorators, or "".
    """

    name: str
    body: bytes = field(default=b"", repr=False)
    body_text: str = ""


@dataclass(frozen=True, slots=True)
class OnDemandFeatureView(_Definition):
    """A view that is computed from other features and from request data.

    Args:
        features: the outputs, never with join keys.
        source_projections: name in the definition -> features of a view.
        request_sources: name in the definition -> request data; also an `input_schema`.
        singleton: mode "python": the function gets one row at a time.
        write_to_online_store: computed when written, and read as an ordinary view.
        has_aggregations: the view groups its input instead of, or before, calling a function.
        entities, entity_columns: as in `FeatureView`; they matter for stored views.
    """

    name: str
    features: tuple[Field, ...] = ()
    source_projections: Mapping[str, FeatureViewProjection] = _mapping()
    request_sources: Mapping[str, RequestSource] = _mapping()
    mode: str = "pandas"
    singleton: bool = False
    udf: UserDefinedFunction | None = None
    write_to_online_store: bool = False
    entities: tuple[str, ...] = ()
    entity_columns: tuple[Field, ...] = ()
    has_aggregations: bool = False
    enabled: bool = True
    state: FeatureViewState = FeatureViewState.STATE_UNSPECIFIED
    current_version_number: int = 0
    version: str = "latest"
    description: str = ""
    tags: Mapping[str, str] = _mapping()
    owner: str = ""
    created_timestamp: datetime | None = None
    last_updated_timestamp: datetime | None = None

    @property
    def projection(self) -> FeatureViewProjection:
        """All outputs of the view, under its own name."""
        return FeatureViewProjection(self.name, features=self.features)


@dataclass(frozen=True, slots=True)
class FeatureService(_Definition):
    """The features of one model.

    Args:
        feature_view_projections: in declared order.
        precompute_online: all features of an entity are also kept as one value.
    """

    name: str
    feature_view_projections: tuple[FeatureViewProjection, ...] = ()
    precompute_online: bool = False
    description: str = ""
    tags: Mapping[str, str] = _mapping()
    owner: str = ""
    created_timestamp: datetime | None = None
    last_updated_timestamp: datetime | None = None


@dataclass(frozen=True, slots=True)
class Project(_Definition):
    """A namespace of the registry and of the online store."""

    name: str
    description: str = ""
    tags: Mapping[str, str] = _mapping()
    owner: str = ""
    created_timestamp: datetime | None = None
    last_updated_timestamp: datetime | None = None
