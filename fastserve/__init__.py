"""fastserve: the online half of a feature store. Give me these features for these entities, now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastserve._version import __version__

if TYPE_CHECKING:
    from fastserve.config import Config
    from fastserve.definition import (
        Aggregation,
        BatchFeatureView,
        ConflictPolicy,
        Entity,
        FeatureService,
        FeatureView,
        FeatureViewState,
        Field,
        FileSource,
        KafkaSource,
        KinesisSource,
        LabelView,
        OnDemandFeatureView,
        Project,
        PushMode,
        PushSource,
        RequestSource,
        StreamFeatureView,
    )
    from fastserve.errors import FastserveError
    from fastserve.feature_store import FeatureStore
    from fastserve.response import OnlineResponse
    from fastserve.types import (
        Array,
        Bool,
        Bytes,
        Decimal,
        Float32,
        Float64,
        ImageBytes,
        Int32,
        Int64,
        Invalid,
        Json,
        Map,
        PdfBytes,
        ScalarMap,
        Set,
        String,
        Struct,
        TimeUuid,
        UnixTimestamp,
        Uuid,
        ValueType,
        ZonedTimestamp,
    )

__all__ = [
    "Aggregation",
    "Array",
    "BatchFeatureView",
    "Bool",
    "Bytes",
    "Config",
    "ConflictPolicy",
    "Decimal",
    "Entity",
    "FastserveError",
    "FeatureService",
    "FeatureStore",
    "FeatureView",
    "FeatureViewState",
    "Field",
    "FileSource",
    "Float32",
    "Float64",
    "ImageBytes",
    "Int32",
    "Int64",
    "Invalid",
    "Json",
    "KafkaSource",
    "KinesisSource",
    "LabelView",
    "Map",
    "OnDemandFeatureView",
    "OnlineResponse",
    "PdfBytes",
    "Project",
    "PushMode",
    "PushSource",
    "RequestSource",
    "ScalarMap",
    "Set",
    "StreamFeatureView",
    "String",
    "Struct",
    "TimeUuid",
    "UnixTimestamp",
    "Uuid",
    "ValueType",
    "ZonedTimestamp",
    "__version__",
]

# Loaded at first use, so that `import fastserve` costs next to nothing.
_HOMES = {
    "Config": "fastserve.config",
    "FastserveError": "fastserve.errors",
    "FeatureStore": "fastserve.feature_store",
    "OnlineResponse": "fastserve.response",
    "Aggregation": "fastserve.definition",
    "BatchFeatureView": "fastserve.definition",
    "ConflictPolicy": "fastserve.definition",
    "Entity": "fastserve.definition",
    "FeatureService": "fastserve.definition",
    "FeatureView": "fastserve.definition",
    "FeatureViewState": "fastserve.definition",
    "Field": "fastserve.definition",
    "FileSource": "fastserve.definition",
    "KafkaSource": "fastserve.definition",
    "KinesisSource": "fastserve.definition",
    "LabelView": "fastserve.definition",
    "OnDemandFeatureView": "fastserve.definition",
    "Project": "fastserve.definition",
    "PushMode": "fastserve.definition",
    "PushSource": "fastserve.definition",
    "RequestSource": "fastserve.definition",
    "StreamFeatureView": "fastserve.definition",
    "Array": "fastserve.types",
    "Bool": "fastserve.types",
    "Bytes": "fastserve.types",
    "Decimal": "fastserve.types",
    "Float32": "fastserve.types",
    "Float64": "fastserve.types",
    "ImageBytes": "fastserve.types",
    "Int32": "fastserve.types",
    "Int64": "fastserve.types",
    "Invalid": "fastserve.types",
    "Json": "fastserve.types",
    "Map": "fastserve.types",
    "PdfBytes": "fastserve.types",
    "ScalarMap": "fastserve.types",
    "Set": "fastserve.types",
    "String": "fastserve.types",
    "Struct": "fastserve.types",
    "TimeUuid": "fastserve.types",
    "UnixTimestamp": "fastserve.types",
    "Uuid": "fastserve.types",
    "ValueType": "fastserve.types",
    "ZonedTimestamp": "fastserve.types",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastserve' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
