"""Registry messages -> the objects of `fastserve.model`.

Each function takes one message and returns one object. What a message says that this version does not know (a later
type, another warehouse's options) is left out of the object and stays in the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Protocol

from fastserve.model import (
    DataSource,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewProjection,
    FeatureViewState,
    Field,
    OnDemandFeatureView,
    Project,
    RequestSource,
    SourceKind,
    UserDefinedFunction,
)
from fastserve.registry import schema_pb2 as pb
from fastserve.types import (
    Array,
    FeastType,
    Invalid,
    ValueType,
    from_struct_text,
    from_type_text,
    from_value_type,
)

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

__all__ = [
    "data_source",
    "entity",
    "feature_service",
    "feature_view",
    "field",
    "label_view",
    "on_demand_feature_view",
    "project",
    "projection",
    "stored_on_demand_feature_view",
    "stream_feature_view",
]

STRUCT_TAG = "feast:struct_schema"
TRACK_METRICS_TAG = "feast:track_metrics"
NESTED_TAG = "feast:nested_inner_type"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_VALUE_TYPES = {int(value_type): value_type for value_type in ValueType}
_STATES = {int(state): state for state in FeatureViewState}

_SOURCE_KINDS: dict[int, SourceKind] = {
    pb.DataSource.INVALID: "unknown",
    pb.DataSource.BATCH_FILE: "file",
    pb.DataSource.STREAM_KAFKA: "kafka",
    pb.DataSource.STREAM_KINESIS: "kinesis",
    pb.DataSource.CUSTOM_SOURCE: "custom",
    pb.DataSource.REQUEST_SOURCE: "request",
    pb.DataSource.PUSH_SOURCE: "push",
}

Entities = Mapping[str, Entity]


class _Spec(Protocol):
    """What the specs of all views have."""

    @property
    def name(self) -> str: ...
    @property
    def entities(self) -> Iterable[str]: ...
    @property
    def entity_columns(self) -> Iterable[pb.FeatureSpecV2]: ...
    @property
    def features(self) -> Iterable[pb.FeatureSpecV2]: ...
    @property
    def description(self) -> str: ...
    @property
    def tags(self) -> Mapping[str, str]: ...
    @property
    def owner(self) -> str: ...


class _Meta(Protocol):
    """What the metas of all objects have."""

    def HasField(self, field_name: str) -> bool: ...
    @property
    def created_timestamp(self) -> Timestamp: ...
    @property
    def last_updated_timestamp(self) -> Timestamp: ...


def field(spec: pb.FeatureSpecV2) -> Field:
    """Return the column; a type number that this version does not know becomes `Invalid`."""
    tags = dict(spec.tags)
    dtype = _dtype(
        _VALUE_TYPES.get(spec.value_type, ValueType.UNKNOWN), tags.pop(STRUCT_TAG, ""), tags.pop(NESTED_TAG, "")
    )
    return Field(
        name=spec.name,
        dtype=dtype,
        description=spec.description,
        tags=tags,
        vector_index=spec.vector_index,
        vector_length=spec.vector_length,
        vector_search_metric=spec.vector_search_metric,
    )


def _dtype(value_type: ValueType, struct_text: str, nested_text: str) -> FeastType:
    try:
        if struct_text and value_type is ValueType.STRUCT:
            return from_struct_text(struct_text)
        if struct_text and value_type is ValueType.STRUCT_LIST:
            return Array(from_struct_text(struct_text))
        if nested_text and value_type in (ValueType.VALUE_LIST, ValueType.VALUE_SET):
            return from_type_text(nested_text)
    except ValueError:
        # A later Feast may write types that we cannot name. Values are read by their number, which we know.
        pass
    return Invalid if value_type is ValueType.NULL else from_value_type(value_type)


def entity(message: pb.Entity) -> Entity:
    """Return the entity."""
    spec = message.spec
    return Entity(
        name=spec.name,
        join_key=spec.join_key or spec.name,
        value_type=_VALUE_TYPES.get(spec.value_type, ValueType.UNKNOWN),
        description=spec.description,
        tags=spec.tags,
        owner=spec.owner,
        created_timestamp=_created(message.meta),
        last_updated_timestamp=_updated(message.meta),
    )


def feature_view(message: pb.FeatureView, entities: Entities) -> FeatureView:
    """Return the view; `entities` give the join keys of views so old that they do not list their own."""
    return _batch_or_stream(message, entities)


def stream_feature_view(message: pb.StreamFeatureView, entities: Entities) -> FeatureView:
    """Return the view; `entities` as in `feature_view`."""
    return _batch_or_stream(message, entities)


def _batch_or_stream(message: pb.FeatureView | pb.StreamFeatureView, entities: Entities) -> FeatureView:
    spec, meta = message.spec, message.meta
    columns = _entity_columns(spec, entities)
    return FeatureView(
        name=spec.name,
        kind="feature_view" if isinstance(message, pb.FeatureView) else "stream_feature_view",
        entities=tuple(spec.entities),
        entity_columns=columns,
        features=_features(spec, columns),
        ttl=_timedelta(spec.ttl),
        online=spec.online,
        description=spec.description,
        tags=spec.tags,
        owner=spec.owner,
        enabled=not spec.disabled,
        state=_state(meta.state),
        current_version_number=meta.current_version_number,
        version=spec.version or "latest",
        batch_source=data_source(spec.batch_source) if spec.HasField("batch_source") else None,
        stream_source=data_source(spec.stream_source) if spec.HasField("stream_source") else None,
        created_timestamp=_created(meta),
        last_updated_timestamp=_updated(meta),
        materialization_intervals=tuple(
            (_datetime(interval.start_time), _datetime(interval.end_time))
            for interval in meta.materialization_intervals
        ),
    )


def label_view(message: pb.LabelView, entities: Entities) -> FeatureView:
    """Return the view; `entities` as in `feature_view`."""
    spec = message.spec
    columns = _entity_columns(spec, entities)
    source = data_source(spec.source) if spec.HasField("source") else None
    pushed = source is not None and source.kind == "push"
    return FeatureView(
        name=spec.name,
        kind="label_view",
        entities=tuple(spec.entities),
        entity_columns=columns,
        features=_features(spec, columns),
        ttl=_timedelta(spec.ttl),
        online=spec.online,
        description=spec.description,
        tags=spec.tags,
        owner=spec.owner,
        batch_source=source.batch_source if source is not None and pushed else source,
        stream_source=source if pushed else None,
        created_timestamp=_created(message.meta),
        last_updated_timestamp=_updated(message.meta),
    )


def stored_on_demand_feature_view(message: pb.OnDemandFeatureView, entities: Entities) -> FeatureView:
    """Return a view with `write_to_online_store` in the form in which it is read: an ordinary view."""
    spec, meta = message.spec, message.meta
    columns = _entity_columns(spec, entities)
    return FeatureView(
        name=spec.name,
        kind="on_demand_feature_view",
        entities=tuple(spec.entities),
        entity_columns=columns,
        features=_features(spec, columns),
        description=spec.description,
        tags=spec.tags,
        owner=spec.owner,
        enabled=not spec.disabled,
        state=_state(meta.state),
        current_version_number=meta.current_version_number,
        version=spec.version or "latest",
        created_timestamp=_created(meta),
        last_updated_timestamp=_updated(meta),
    )


def on_demand_feature_view(message: pb.OnDemandFeatureView, entities: Entities) -> OnDemandFeatureView:
    """Return the view; its function is not loaded."""
    spec, meta = message.spec, message.meta
    columns = _entity_columns(spec, entities)
    requests = {k: s for k, s in spec.sources.items() if s.WhichOneof("source") == "request_data_source"}
    return OnDemandFeatureView(
        name=spec.name,
        features=_features(spec, columns),
        source_projections={k: _source_projection(s) for k, s in spec.sources.items() if k not in requests},
        request_sources={k: _request_source(s.request_data_source) for k, s in requests.items()},
        mode=_mode(spec),
        singleton=spec.singleton,
        udf=_function(spec),
        write_to_online_store=spec.write_to_online_store,
        entities=tuple(spec.entities),
        entity_columns=columns,
        has_aggregations=bool(spec.aggregations),
        enabled=not spec.disabled,
        state=_state(meta.state),
        current_version_number=meta.current_version_number,
        version=spec.version or "latest",
        description=spec.description,
        tags=spec.tags,
        owner=spec.owner,
        created_timestamp=_created(meta),
        last_updated_timestamp=_updated(meta),
    )


def _mode(spec: pb.OnDemandFeatureViewSpec) -> str:
    if spec.feature_transformation.WhichOneof("transformation") == "substrait_transformation":
        return "substrait"
    return spec.mode or "pandas"


def _function(spec: pb.OnDemandFeatureViewSpec) -> UserDefinedFunction | None:
    # Registries of old Feasts have the function in the deprecated field, some of them beside an empty new one.
    for found in (spec.feature_transformation.user_defined_function, spec.user_defined_function):
        if found.body_text or found.body:
            return UserDefinedFunction(name=found.name, body=found.body, body_text=found.body_text)
    return None


def _source_projection(source: pb.OnDemandSource) -> FeatureViewProjection:
    if source.WhichOneof("source") == "feature_view":
        spec = source.feature_view.spec
        return FeatureViewProjection(spec.name, features=tuple(map(field, spec.features)))
    return projection(source.feature_view_projection)


def projection(message: pb.FeatureViewProjection) -> FeatureViewProjection:
    """Return the projection."""
    return FeatureViewProjection(
        name=message.feature_view_name,
        name_alias=message.feature_view_name_alias,
        features=tuple(map(field, message.feature_columns)),
        join_key_map=message.join_key_map,
        version_tag=message.version_tag if message.HasField("version_tag") else None,
        view_type=message.view_type,
    )


def feature_service(message: pb.FeatureService) -> FeatureService:
    """Return the service."""
    spec = message.spec
    return FeatureService(
        name=spec.name,
        feature_view_projections=tuple(map(projection, spec.features)),
        precompute_online=spec.precompute_online,
        description=spec.description,
        tags=spec.tags,
        owner=spec.owner,
        created_timestamp=_created(message.meta),
        last_updated_timestamp=_updated(message.meta),
    )


def data_source(message: pb.DataSource) -> DataSource:
    """Return the source; what a warehouse needs is only in the message."""
    return DataSource(
        name=message.name,
        kind=_SOURCE_KINDS.get(message.type, "warehouse"),
        timestamp_field=message.timestamp_field,
        created_timestamp_column=message.created_timestamp_column,
        field_mapping=message.field_mapping,
        path=message.file_options.uri,
        description=message.description,
        tags=message.tags,
        owner=message.owner,
        schema=_request_source(message).schema,
        batch_source=data_source(message.batch_source) if message.HasField("batch_source") else None,
        s3_endpoint_override=message.file_options.s3_endpoint_override,
        file_format="delta" if message.file_options.file_format.HasField("delta_format") else "parquet",
    )


def _request_source(message: pb.DataSource) -> RequestSource:
    options = message.request_data_options
    schema = tuple(map(field, options.schema))
    if not schema:
        schema = tuple(
            field(pb.FeatureSpecV2(name=name, value_type=value_type))
            for name, value_type in sorted(options.deprecated_schema.items())
        )
    return RequestSource(message.name, schema)


def project(message: pb.Project) -> Project:
    """Return the project."""
    spec = message.spec
    return Project(
        name=spec.name,
        description=spec.description,
        tags=spec.tags,
        owner=spec.owner,
        created_timestamp=_created(message.meta),
        last_updated_timestamp=_updated(message.meta),
    )


def _entity_columns(spec: _Spec, entities: Entities) -> tuple[Field, ...]:
    columns = tuple(map(field, spec.entity_columns))
    if columns:
        return columns
    known = (entities[name] for name in spec.entities if name in entities)
    return tuple(Field(found.join_key, _dtype(found.value_type, "", "")) for found in known)


def _features(spec: _Spec, columns: tuple[Field, ...]) -> tuple[Field, ...]:
    # Stream views and stored on-demand views list their join keys among the features.
    join_keys = {column.name for column in columns}
    return tuple(field(feature) for feature in spec.features if feature.name not in join_keys)


def _state(number: int) -> FeatureViewState:
    return _STATES.get(number, FeatureViewState.STATE_UNSPECIFIED)


def _timedelta(duration: Duration) -> timedelta:
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos / 1000)


def _datetime(timestamp: Timestamp) -> datetime:
    return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)


def _created(meta: _Meta) -> datetime | None:
    return _datetime(meta.created_timestamp) if meta.HasField("created_timestamp") else None


def _updated(meta: _Meta) -> datetime | None:
    return _datetime(meta.last_updated_timestamp) if meta.HasField("last_updated_timestamp") else None
