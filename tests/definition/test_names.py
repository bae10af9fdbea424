"""Where the names of definitions are found: in `fastserve`, and in modules called as Feast's are."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import fastserve
from fastserve import definition, types
from fastserve.model import FeatureViewState

MODULES = {
    "aggregation": "Aggregation",
    "batch_feature_view": "BatchFeatureView batch_feature_view",
    "data_format": "AvroFormat DeltaFormat FileFormat JsonFormat ParquetFormat ProtoFormat StreamFormat",
    "data_source": "DataSource KafkaSource KinesisSource PushMode PushSource RequestSource",
    "entity": "Entity",
    "feature_logging": "LoggingConfig",
    "feature_service": "FeatureService",
    "feature_view": "FeatureView FeatureViewState",
    "feature_view_projection": "FeatureViewProjection",
    "field": "Field",
    "infra.offline_stores.file_source": "FileLoggingDestination FileSource",
    "labeling": "ConflictPolicy LabelView",
    "on_demand_feature_view": "OnDemandFeatureView on_demand_feature_view",
    "project": "Project",
    "stream_feature_view": "StreamFeatureView stream_feature_view",
    "transformation.mode": "TransformationMode",
    "value_type": "ValueType",
}


@pytest.mark.parametrize("module", MODULES)
def test_modules_have_the_one_object(module: str) -> None:
    found = importlib.import_module(f"fastserve.{module}")
    assert sorted(found.__all__) == sorted(MODULES[module].split())
    for name in found.__all__:
        assert getattr(found, name) is getattr(types if name == "ValueType" else definition, name)


def test_package_has_definitions_and_types() -> None:
    for name in fastserve.__all__:
        assert getattr(fastserve, name) is not None
    assert fastserve.FeatureView is definition.FeatureView
    assert fastserve.FeatureViewState is FeatureViewState
    assert {name for name in types.__all__ if name[0].isupper()} - set(fastserve.__all__) == {
        "FeastType", "PrimitiveType",
    }  # fmt: skip
    assert fastserve.__all__ == sorted(fastserve.__all__)


def test_definitions_need_no_heavy_library() -> None:
    code = (
        "import sys, fastserve; assert not [m for m in sys.modules if m.startswith('fastserve.def')];"
        "fastserve.FeatureView, fastserve.Int64;"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'google.protobuf', 'redis', 'yaml', 'click', 'sqlalchemy', 'msgspec'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_definition_explains_itself() -> None:
    for name in definition.__all__:
        assert getattr(definition, name).__doc__, name
