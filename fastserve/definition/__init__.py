"""What a team writes in its repository's Python files: entities, sources, views, services.

    path                what
    entity.py           Entity
    source.py           FileSource, PushSource, RequestSource, KafkaSource, KinesisSource
    formats.py          how files and stream messages are written
    decorators.py       @on_demand_feature_view, @stream_feature_view, @batch_feature_view
    view.py             FeatureView, BatchFeatureView, StreamFeatureView, LabelView
    on_demand.py        OnDemandFeatureView
    projection.py       some features of a view, as a service uses them
    service.py          FeatureService
    project.py          Project
    transformation.py   what a batch or stream job does to rows
    logging.py          what Feast's server logs
    version.py          the text that pins a version
    check.py            checks of arguments, and the base of all definitions
    validate.py         rules over a whole repository

The constructors take Feast's arguments, and the objects can be changed afterwards, as Feast's can. How a definition is
written into a registry is in `fastserve.registry.messages`; what is read from there are objects of `fastserve.model`.
"""

from __future__ import annotations

from fastserve.definition.check import Definition
from fastserve.definition.decorators import batch_feature_view, on_demand_feature_view, stream_feature_view
from fastserve.definition.entity import Entity, dummy_entity
from fastserve.definition.formats import (
    AvroFormat,
    DeltaFormat,
    FileFormat,
    JsonFormat,
    ParquetFormat,
    ProtoFormat,
    StreamFormat,
)
from fastserve.definition.logging import FileLoggingDestination, LoggingConfig
from fastserve.definition.on_demand import INPUT_SCHEMA, OnDemandFeatureView
from fastserve.definition.project import Project
from fastserve.definition.projection import FeatureViewProjection
from fastserve.definition.service import AnyView, FeatureService
from fastserve.definition.source import (
    DataSource,
    FileSource,
    KafkaSource,
    KinesisSource,
    PushMode,
    PushSource,
    RequestSource,
)
from fastserve.definition.transformation import Aggregation, TransformationMode
from fastserve.definition.version import parse_version
from fastserve.definition.view import BatchFeatureView, ConflictPolicy, FeatureView, LabelView, StreamFeatureView, View
from fastserve.model import FeatureViewState, Field

__all__ = [
    "INPUT_SCHEMA",
    "Aggregation",
    "AnyView",
    "AvroFormat",
    "BatchFeatureView",
    "ConflictPolicy",
    "DataSource",
    "Definition",
    "DeltaFormat",
    "Entity",
    "FeatureService",
    "FeatureView",
    "FeatureViewProjection",
    "FeatureViewState",
    "Field",
    "FileFormat",
    "FileLoggingDestination",
    "FileSource",
    "JsonFormat",
    "KafkaSource",
    "KinesisSource",
    "LabelView",
    "LoggingConfig",
    "OnDemandFeatureView",
    "ParquetFormat",
    "Project",
    "ProtoFormat",
    "PushMode",
    "PushSource",
    "RequestSource",
    "StreamFeatureView",
    "StreamFormat",
    "TransformationMode",
    "View",
    "batch_feature_view",
    "dummy_entity",
    "on_demand_feature_view",
    "parse_version",
    "stream_feature_view",
]
