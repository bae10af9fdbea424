"""The objects of `fastserve.definition` -> registry messages: the other way round of `convert`.

One function for each kind of object; each returns a new message with the fields that Feast fills in. Time stamps,
versions and states are written as far as the object has them: whoever applies it decides about them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from types import FunctionType
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from fastserve.definition import (
    Aggregation,
    AvroFormat,
    BatchFeatureView,
    DataSource,
    Definition,
    DeltaFormat,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewProjection,
    Field,
    FileFormat,
    FileSource,
    JsonFormat,
    KafkaSource,
    KinesisSource,
    LabelView,
    LoggingConfig,
    OnDemandFeatureView,
    Project,
    ProtoFormat,
    PushSource,
    RequestSource,
    StreamFeatureView,
    StreamFormat,
)
from fastserve.errors import DefinitionError
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.convert import NESTED_TAG, STRUCT_TAG, TRACK_METRICS_TAG
from fastserve.source_text import unresolved_names
from fastserve.types import Array, FeastType, Set, Struct, to_struct_text, to_type_text

if TYPE_CHECKING:
    from google.protobuf.message import Message

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
    "stream_feature_view",
    "to_message",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_SOURCE_CLASSES = {
    FileSource: "feast.infra.offline_stores.file_source.FileSource",
    PushSource: "feast.data_source.PushSource",
    RequestSource: "feast.data_source.RequestSource",
    KafkaSource: "feast.data_source.KafkaSource",
    KinesisSource: "feast.data_source.KinesisSource",
}
"""The class by which Feast reads a source."""


def to_message(definition: Definition, project: str) -> Message:
    """Return the message of any definition.

    Args:
        project: the project that it becomes a part of.

    Raises:
        DefinitionError: the definition cannot be written; the text says why.
    """
    for kind, function in _FUNCTIONS:
        if isinstance(definition, kind):
            message: Message = function(definition, project)
            return message
    raise DefinitionError(type(definition).__name__, definition.name, "this kind of object is not kept in a registry")


def entity(definition: Entity, project: str) -> pb.Entity:
    """Return the message of an entity."""
    spec = pb.EntitySpecV2(
        name=definition.name,
        value_type=_number(definition.value_type),
        description=definition.description,
        join_key=definition.join_key,
        tags=definition.tags,
        project=project,
        owner=definition.owner,
    )
    return pb.Entity(spec=spec, meta=pb.EntityMeta(**_times(definition)))


def project(definition: Project, project: str = "") -> pb.Project:
    """Return the message of a project; its name counts, not the argument `project`."""
    spec = pb.ProjectSpec(
        name=definition.name, description=definition.description, tags=definition.tags, owner=definition.owner
    )
    return pb.Project(spec=spec, meta=pb.ProjectMeta(**_times(definition)))


def field(definition: Field) -> pb.FeatureSpecV2:
    """Return the message of a column."""
    return pb.FeatureSpecV2(
        name=definition.name,
        value_type=_number(definition.value_type),
        tags={**definition.tags, **_type_tags(definition.dtype)},
        description=definition.description,
        vector_index=definition.vector_index,
        vector_search_metric=definition.vector_search_metric,
        vector_length=definition.vector_length,
    )


def _type_tags(dtype: FeastType) -> dict[str, str]:
    """Return what the number of a type does not tell."""
    inner = dtype.base_type if isinstance(dtype, (Array, Set)) else dtype
    if isinstance(inner, Struct):
        return {STRUCT_TAG: to_struct_text(inner)}
    if isinstance(inner, (Array, Set)):
        return {NESTED_TAG: to_type_text(dtype)}
    return {}


def _number(value_type: int) -> Any:
    # Two of the numbers (PDF_BYTES, IMAGE_BYTES) are not in the message's enumeration, but are written all the same.
    return int(value_type)


# ---- Sources ----


def data_source(definition: DataSource, project: str = "") -> pb.DataSource:
    """Return the message of a source; without a project, that of a source inside another object."""
    message = pb.DataSource(
        name=definition.name,
        project=project,
        field_mapping=_follow(definition, "field_mapping"),
        timestamp_field=_follow(definition, "timestamp_field"),
        created_timestamp_column=_follow(definition, "created_timestamp_column"),
        date_partition_column=definition.date_partition_column,
        data_source_class_type=_source_class(definition),
        description=definition.description,
        tags=definition.tags,
        owner=definition.owner,
        meta=pb.DataSource.SourceMeta(**_times(definition)),
    )
    if definition.batch_source is not None:
        message.batch_source.CopyFrom(data_source(definition.batch_source))
        # Feast names the class of the outermost source alone.
        message.batch_source.ClearField("data_source_class_type")
    _add_options(message, definition)
    return message


def _follow(definition: DataSource, name: str) -> Any:
    # The table's columns may have become known after the push source was made.
    value = getattr(definition, name)
    behind = definition.batch_source if isinstance(definition, PushSource) else None
    return getattr(behind, name) if behind is not None and not value else value


def _source_class(definition: DataSource) -> str:
    found = next((path for kind, path in _SOURCE_CLASSES.items() if isinstance(definition, kind)), None)
    if found is None:
        raise DefinitionError(type(definition).__name__, definition.name, "this kind of source is not supported")
    return found


def _add_options(message: pb.DataSource, definition: DataSource) -> None:
    if isinstance(definition, FileSource):
        message.type = pb.DataSource.BATCH_FILE
        message.file_options.CopyFrom(_file_options(definition))
    elif isinstance(definition, PushSource):
        message.type = pb.DataSource.PUSH_SOURCE
    elif isinstance(definition, RequestSource):
        message.type = pb.DataSource.REQUEST_SOURCE
        message.request_data_options.schema.extend(map(field, definition.schema))
        message.request_data_options.SetInParent()
    elif isinstance(definition, KafkaSource):
        message.type = pb.DataSource.STREAM_KAFKA
        message.kafka_options.CopyFrom(_kafka_options(definition))
    elif isinstance(definition, KinesisSource):
        message.type = pb.DataSource.STREAM_KINESIS
        message.kinesis_options.CopyFrom(_kinesis_options(definition))


def _file_options(definition: FileSource) -> pb.DataSource.FileOptions:
    return pb.DataSource.FileOptions(
        file_format=_file_format(definition.file_format),
        uri=definition.path,
        s3_endpoint_override=definition.s3_endpoint_override,
    )


def _file_format(definition: FileFormat | None) -> pb.FileFormat | None:
    if definition is None:
        return None
    if isinstance(definition, DeltaFormat):
        return pb.FileFormat(delta_format=pb.TableFormat.DeltaFormat())
    return pb.FileFormat(parquet_format=pb.FileFormat.ParquetFormat())


def _kafka_options(definition: KafkaSource) -> pb.DataSource.KafkaOptions:
    return pb.DataSource.KafkaOptions(
        kafka_bootstrap_servers=definition.kafka_bootstrap_servers,
        topic=definition.topic,
        message_format=_stream_format(definition.message_format),
        watermark_delay_threshold=_duration(definition.watermark_delay_threshold),
    )


def _kinesis_options(definition: KinesisSource) -> pb.DataSource.KinesisOptions:
    return pb.DataSource.KinesisOptions(
        region=definition.region,
        stream_name=definition.stream_name,
        record_format=_stream_format(definition.record_format),
    )


def _stream_format(definition: StreamFormat) -> pb.StreamFormat:
    if isinstance(definition, AvroFormat):
        return pb.StreamFormat(avro_format=pb.StreamFormat.AvroFormat(schema_json=definition.schema_json))
    if isinstance(definition, JsonFormat):
        return pb.StreamFormat(json_format=pb.StreamFormat.JsonFormat(schema_json=definition.schema_json))
    assert isinstance(definition, ProtoFormat)
    return pb.StreamFormat(proto_format=pb.StreamFormat.ProtoFormat(class_path=definition.class_path))


# ---- Views ----


def feature_view(definition: FeatureView, project: str = "") -> pb.FeatureView:
    """Return the message of a view other than a stream view.

    Raises:
        DefinitionError: the view has a function, and it cannot be pickled.
    """
    return pb.FeatureView(spec=_view_spec(definition, project), meta=_view_meta(definition))


def _view_spec(definition: FeatureView, project: str) -> pb.FeatureViewSpec:
    return pb.FeatureViewSpec(
        name=definition.name,
        project=project,
        entities=definition.entities,
        entity_columns=map(field, definition.entity_columns),
        features=map(field, definition.features),
        tags=definition.tags,
        ttl=_duration(definition.ttl),
        batch_source=_source(definition.batch_source),
        stream_source=_source(definition.stream_source),
        source_views=[_view_spec(view, "") for view in definition.source_views],
        feature_transformation=_transformation(definition),
        online=definition.online,
        offline=definition.offline,
        description=definition.description,
        owner=definition.owner,
        org=definition.org,
        mode=definition.mode,
        enable_validation=definition.enable_validation,
        version=definition.version,
        disabled=not definition.enabled,
    )


def stream_feature_view(definition: StreamFeatureView, project: str) -> pb.StreamFeatureView:
    """Return the message of a stream view; as Feast has it, join keys are among its features too.

    Raises:
        DefinitionError: the view has a function, and it cannot be pickled.
    """
    spec = pb.StreamFeatureViewSpec(
        name=definition.name,
        project=project,
        entities=definition.entities,
        entity_columns=map(field, definition.entity_columns),
        features=map(field, definition.schema),
        tags=definition.tags,
        ttl=_duration(definition.ttl),
        batch_source=_source(definition.batch_source),
        stream_source=_source(definition.stream_source),
        online=definition.online,
        description=definition.description,
        owner=definition.owner,
        org=definition.org,
        mode=definition.mode,
        aggregations=map(_aggregation, definition.aggregations),
        timestamp_field=definition.timestamp_field,
        enable_tiling=definition.enable_tiling,
        tiling_hop_size=_duration(definition.tiling_hop_size),
        enable_validation=definition.enable_validation,
        version=definition.version,
        disabled=not definition.enabled,
    )
    _add_function(spec, definition)
    return pb.StreamFeatureView(spec=spec, meta=_view_meta(definition))


def _add_function(spec: pb.StreamFeatureViewSpec, definition: StreamFeatureView) -> None:
    """Write the function where Feast has it today, and where it had it before."""
    if definition.udf is None:
        return
    body, name = _pickled(definition), definition.udf.__name__
    old = pb.UserDefinedFunction(name=name, body=body, body_text=definition.udf_string)
    new = pb.UserDefinedFunctionV2(name=name, body=body, body_text=definition.udf_string)
    spec.user_defined_function.CopyFrom(old)
    spec.feature_transformation.user_defined_function.CopyFrom(new)


def on_demand_feature_view(definition: OnDemandFeatureView, project: str) -> pb.OnDemandFeatureView:
    """Return the message of an on-demand view.

    Raises:
        DefinitionError: its function has no source text, and cannot be pickled.
    """
    tags = {tag: text for tag, text in definition.tags.items() if tag != TRACK_METRICS_TAG}
    spec = pb.OnDemandFeatureViewSpec(
        name=definition.name,
        project=project,
        entities=definition.entities,
        entity_columns=map(field, definition.entity_columns),
        features=map(field, definition.features),
        feature_transformation=_on_demand_function(definition),
        mode=definition.mode,
        description=definition.description,
        tags={**tags, TRACK_METRICS_TAG: "true"} if definition.track_metrics else tags,
        owner=definition.owner,
        org=definition.org,
        write_to_online_store=definition.write_to_online_store,
        singleton=definition.singleton,
        version=definition.version,
        disabled=not definition.enabled,
    )
    for name, source in definition.source_feature_view_projections.items():
        spec.sources[name].feature_view_projection.CopyFrom(projection(source))
    for name, request in definition.source_request_sources.items():
        spec.sources[name].request_data_source.CopyFrom(data_source(request))
        spec.sources[name].request_data_source.ClearField("data_source_class_type")
    return pb.OnDemandFeatureView(spec=spec, meta=_on_demand_meta(definition))


def _on_demand_meta(definition: OnDemandFeatureView) -> pb.OnDemandFeatureViewMeta:
    return pb.OnDemandFeatureViewMeta(
        **_times(definition),
        current_version_number=definition.current_version_number or 0,
        state=_number(definition.state),
    )


def _on_demand_function(definition: OnDemandFeatureView) -> pb.FeatureTransformationV2:
    assert definition.udf is not None  # or the view would break a rule
    try:
        body = _pickled(definition)
    except DefinitionError:
        # The text alone will do: it is what is run, wherever it can be.
        if unresolved_names(definition.udf_string):
            raise
        body = b""
    function = pb.UserDefinedFunctionV2(
        name=definition.udf.__name__, body=body, body_text=definition.udf_string, mode=definition.mode
    )
    return pb.FeatureTransformationV2(user_defined_function=function)


def label_view(definition: LabelView, project: str) -> pb.LabelView:
    """Return the message of a label view."""
    spec = pb.LabelViewSpec(
        name=definition.name,
        project=project,
        entities=definition.entities,
        entity_columns=map(field, definition.entity_columns),
        features=map(field, definition.features),
        tags=definition.tags,
        ttl=_duration(definition.ttl),
        source=_source(definition.stream_source or definition.batch_source),
        online=definition.online,
        description=definition.description,
        owner=definition.owner,
        labeler_field=definition.labeler_field,
        conflict_policy=definition.conflict_policy.name,
        reference_feature_view=definition.reference_feature_view,
    )
    return pb.LabelView(spec=spec, meta=pb.LabelViewMeta(**_times(definition)))


def _source(definition: DataSource | None) -> pb.DataSource | None:
    return None if definition is None else data_source(definition)


def _view_meta(definition: FeatureView) -> pb.FeatureViewMeta:
    return pb.FeatureViewMeta(
        **_times(definition),
        materialization_intervals=[
            pb.MaterializationInterval(start_time=_timestamp(start), end_time=_timestamp(end))
            for start, end in definition.materialization_intervals
        ],
        current_version_number=definition.current_version_number or 0,
        state=_number(definition.state),
    )


def _aggregation(definition: Aggregation) -> pb.Aggregation:
    return pb.Aggregation(
        column=definition.column,
        function=definition.function,
        time_window=_duration(definition.time_window),
        slide_interval=_duration(definition.slide_interval),
        name=definition.name,
    )


def _transformation(definition: FeatureView) -> pb.FeatureTransformationV2 | None:
    if not isinstance(definition, BatchFeatureView) or definition.udf is None:
        return None
    function = pb.UserDefinedFunctionV2(
        name=definition.udf.__name__,
        body=_pickled(definition),
        body_text=definition.udf_string,
        mode=definition.mode,
    )
    return pb.FeatureTransformationV2(user_defined_function=function)


def _pickled(definition: BatchFeatureView | StreamFeatureView | OnDemandFeatureView) -> bytes:
    kind = type(definition).__name__
    try:
        import dill
    except ImportError:
        raise DefinitionError(kind, definition.name, "a view with a udf needs dill: pip install dill") from None
    try:
        body: bytes = dill.dumps(_movable(definition.udf), recurse=True)
    except Exception as error:  # whatever the function's globals raise when they are pickled
        raise DefinitionError(kind, definition.name, f"its udf cannot be pickled: {error}") from error
    return body


def _movable(function: Any) -> Any:
    """Return a copy that is pickled as a whole; of a function of a module that can be imported it would be the name."""
    if not isinstance(function, FunctionType):
        return function
    code, scope = function.__code__, function.__globals__
    copied = FunctionType(code, scope, function.__name__, function.__defaults__, function.__closure__)
    copied.__kwdefaults__, copied.__annotations__ = function.__kwdefaults__, dict(function.__annotations__)
    copied.__doc__, copied.__module__ = function.__doc__, "__main__"
    return copied


# ---- Services ----


def feature_service(definition: FeatureService, project: str) -> pb.FeatureService:
    """Return the message of a service."""
    spec = pb.FeatureServiceSpec(
        name=definition.name,
        project=project,
        features=map(projection, definition.feature_view_projections),
        tags=definition.tags,
        description=definition.description,
        owner=definition.owner,
        logging_config=_logging(definition.logging_config),
        precompute_online=definition.precompute_online,
    )
    return pb.FeatureService(spec=spec, meta=pb.FeatureServiceMeta(**_times(definition)))


def projection(definition: FeatureViewProjection) -> pb.FeatureViewProjection:
    """Return the message of a projection."""
    source = definition.batch_source
    created = source.created_timestamp_column if source is not None else ""
    message = pb.FeatureViewProjection(
        feature_view_name=definition.name,
        feature_columns=map(field, definition.features),
        feature_view_name_alias=definition.name_alias,
        join_key_map=definition.join_key_map,
        timestamp_field=created,  # as Feast fills it in; nobody reads it
        created_timestamp_column=created,
        date_partition_column=source.date_partition_column if source is not None else "",
        batch_source=_source(source),
        version_tag=definition.version_tag,
        view_type=definition.view_type,
    )
    if source is not None:
        message.batch_source.ClearField("data_source_class_type")
    return message


def _logging(definition: LoggingConfig | None) -> pb.LoggingConfig | None:
    if definition is None:
        return None
    destination = pb.LoggingConfig.FileDestination(
        path=definition.destination.path,
        s3_endpoint_override=definition.destination.s3_endpoint_override,
        partition_by=definition.destination.partition_by or (),
    )
    return pb.LoggingConfig(sample_rate=definition.sample_rate, file_destination=destination)


# ---- Times ----


def _times(definition: Definition) -> dict[str, Any]:
    found: Mapping[str, datetime | None] = {
        "created_timestamp": definition.created_timestamp,
        "last_updated_timestamp": definition.last_updated_timestamp,
    }
    return {name: _timestamp(moment) for name, moment in found.items() if moment is not None}


def _timestamp(moment: datetime) -> Timestamp:
    # A time without a zone is UTC.
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    seconds, rest = divmod(aware - _EPOCH, timedelta(seconds=1))
    return Timestamp(seconds=seconds, nanos=rest.microseconds * 1000)


def _duration(duration: timedelta | None) -> Duration | None:
    if duration is None:
        return None
    seconds, rest = divmod(duration, timedelta(seconds=1))
    return Duration(seconds=seconds, nanos=rest.microseconds * 1000)


_FUNCTIONS: tuple[tuple[type, Callable[[Any, str], Any]], ...] = (
    (Entity, entity),
    (DataSource, data_source),
    (StreamFeatureView, stream_feature_view),
    (FeatureView, feature_view),
    (OnDemandFeatureView, on_demand_feature_view),
    (LabelView, label_view),
    (FeatureService, feature_service),
    (Project, project),
)
"""Class -> function; a subclass stands before its base."""
