"""Feature services."""

from __future__ import annotations

from typing import Any

import pytest

from fastserve import model
from fastserve.definition import (
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewProjection,
    Field,
    FileLoggingDestination,
    FileSource,
    LoggingConfig,
)
from fastserve.errors import DefinitionError
from fastserve.types import Int64, ValueType

KEY = Entity(name="customer", value_type=ValueType.STRING)
FILE = FileSource(name="file", path="a.parquet", timestamp_field="ts")
X, Y = Field("x", Int64), Field("y", Int64)


def view(name: str = "v", schema: list[Field] | None = None) -> FeatureView:
    return FeatureView(name=name, source=FILE, entities=[KEY], schema=[X, Y] if schema is None else schema)


def test_projections_are_in_declared_order() -> None:
    service = FeatureService(name="s", features=[view("b"), view("a")[["y"]].with_name("alias")])
    assert list(service.view_names()) == ["b", "a"]
    assert [p.features for p in service.feature_view_projections] == [[X, Y], [Y]]
    assert [p.name_to_use() for p in service.feature_view_projections] == ["b", "alias"]


def test_views_of_a_registry_are_taken() -> None:
    on_demand = model.OnDemandFeatureView("od", features=(X,))
    stored = model.FeatureView("st", features=(X, Y))
    projection = model.FeatureViewProjection("pr", "alias", (Y,), version_tag=1)
    service = FeatureService(name="s", features=[on_demand, stored, projection])
    assert [(p.name, p.features) for p in service.feature_view_projections] == [
        ("od", [X]), ("st", [X, Y]), ("pr", [Y]),
    ]  # fmt: skip
    assert service.feature_view_projections[2].name_to_use() == "alias@v1"


@pytest.mark.parametrize(
    ("text", "projection"),
    [
        ("v", FeatureViewProjection("v")),
        ("v:x", FeatureViewProjection("v", desired_features=["x"])),
        ("v@v2:x", FeatureViewProjection("v", desired_features=["x"], version_tag=2)),
        ("v@v0", FeatureViewProjection("v", version_tag=0)),
        ("v@latest:x", FeatureViewProjection("v", desired_features=["x"])),
    ],
)
def test_texts(text: str, projection: FeatureViewProjection) -> None:
    assert FeatureService(name="s", features=[text]).feature_view_projections == [projection]


@pytest.mark.parametrize("text", ["", ":x", "v:", "v@2:x", "a:b:c"])
def test_wrong_texts(text: str) -> None:
    with pytest.raises(DefinitionError, match=f"FeatureService s: features has '{text}', which is not of the form"):
        FeatureService(name="s", features=[text])


def test_features_are_filled_in_when_they_are_known() -> None:
    later = view(schema=[])
    service = FeatureService(name="s", features=[later, later[["y"]], "v:x", "other:z", view("w")])
    later.features = [X, Y]
    service.infer_features({"v": later})
    assert [p.features for p in service.feature_view_projections] == [[X, Y], [Y], [X], [], [X, Y]]
    assert [p.desired_features for p in service.feature_view_projections] == [[], [], [], ["z"], []]
    assert service.feature_view_projections[2].batch_source is FILE


def test_missing_features_are_named() -> None:
    service = FeatureService(name="s", features=["v:z"])
    with pytest.raises(DefinitionError, match="FeatureService s: view v has no feature z; it has: x, y"):
        service.infer_features({"v": view()})


def test_logging_is_kept() -> None:
    logging = LoggingConfig(destination=FileLoggingDestination(path="logs"), sample_rate=0.5)
    assert FeatureService(name="s", features=[], logging_config=logging).logging_config == logging


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"features": view()}, "features must be a list of views"),
        ({"features": [5]}, "features must be a list of views, but number 0 is 5"),
        ({"features": [FILE]}, "features must be a list of views, but number 0 is FileSource"),
        ({"features": [], "precompute_online": 1}, "precompute_online must be True or False, not 1"),
        ({"features": [], "logging_config": "x"}, "logging_config must be a LoggingConfig, not 'x'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(DefinitionError, match=f"^FeatureService s: {rule}"):
        FeatureService(name="s", **arguments)
