"""On-demand feature views: what they are made of, and what they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fastserve.definition import (
    Aggregation,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewProjection,
    Field,
    FileSource,
    OnDemandFeatureView,
    RequestSource,
    TransformationMode,
    on_demand_feature_view,
)
from fastserve.definition.validate import find_errors
from fastserve.errors import DefinitionError
from fastserve.types import Float64, Int64, String, ValueType

KEY = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
FILE = FileSource(name="file", path="a.parquet", timestamp_field="ts")
VIEW = FeatureView(
    name="v", source=FILE, entities=[KEY], schema=[Field("customer_id", String), Field("x", Int64), Field("y", Int64)]
)
REQUEST = RequestSource(name="asked", schema=[Field("amount", Float64)])
OUT = [Field("out", Int64)]


def double(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"out": [2 * x for x in inputs["x"]]}


def made(**changes: Any) -> OnDemandFeatureView:
    arguments: Mapping[str, Any] = {
        "name": "od",
        "sources": [VIEW, REQUEST],
        "schema": OUT,
        "udf": double,
        "mode": "python",
    }
    return OnDemandFeatureView(**{**arguments, **changes})


def test_sources_are_told_apart() -> None:
    found = made(sources=[VIEW[["x"]], FeatureViewProjection("other", features=[Field("z", Int64)]), REQUEST])
    assert {n: [f.name for f in p.features] for n, p in found.source_feature_view_projections.items()} == {
        "v": ["x"],
        "other": ["z"],
    }
    assert found.source_request_sources == {"asked": REQUEST}
    assert found.request_data() == [Field("amount", Float64)]


def test_an_input_schema_is_a_request_source_of_its_own() -> None:
    found = made(sources=None, input_schema=[Field("amount", Float64)])
    assert {name: source.schema for name, source in found.source_request_sources.items()} == {
        "__input_schema__od": [Field("amount", Float64)]
    }


def test_a_stored_view_has_the_join_keys_of_its_schema() -> None:
    found = made(entities=[KEY], schema=[Field("customer_id", String), *OUT], write_to_online_store=True)
    assert (found.join_keys, found.features, found.online) == (["customer_id"], OUT, True)
    assert (made().join_keys, made().entities, made().online) == ([], ["__dummy"], False)


def test_a_stored_view_may_be_a_source() -> None:
    stored = made(name="stored", entities=[KEY], write_to_online_store=True)
    assert list(made(sources=[stored]).source_feature_view_projections) == ["stored"]


def test_the_decorator() -> None:
    @on_demand_feature_view(sources=[VIEW], schema=OUT, mode=TransformationMode.PYTHON, tags={"a": "b"}, version="v2")
    def doubled(inputs: dict[str, Any]) -> dict[str, Any]:
        return double(inputs)

    assert isinstance(doubled, OnDemandFeatureView)
    assert (doubled.name, doubled.mode, doubled.tags, doubled.version) == ("doubled", "python", {"a": "b"}, "v2")
    assert doubled.udf is not None
    assert doubled.udf({"x": [2]}) == {"out": [4]}
    assert doubled.udf_string.lstrip().startswith("@on_demand_feature_view(sources=[VIEW]")
    assert on_demand_feature_view(name="other", sources=[VIEW], schema=OUT)(double).name == "other"


def test_a_service_takes_copies() -> None:
    service = FeatureService(name="s", features=[made()[["out"]].with_name("alias")])
    (projection,) = service.feature_view_projections
    assert (projection.name, projection.name_to_use(), projection.features) == ("od", "alias", OUT)


def test_features_of_sources_that_are_found_out_later() -> None:
    unknown = FeatureView(name="v", source=FILE, entities=[KEY])
    assert made(sources=[unknown]).complete({"v": VIEW}).source_feature_view_projections["v"].features == VIEW.features
    assert made(sources=[unknown[["y"]]]).complete({"v": VIEW}).source_feature_view_projections["v"].features == [
        Field("y", Int64)
    ]
    assert made().complete({}) == made()
    with pytest.raises(DefinitionError, match=r"od: its source v has no feature z$"):
        made(sources=[unknown[["z"]]]).complete({"v": VIEW})


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"sources": None}, "it needs sources, or an input_schema"),
        ({"sources": [FILE]}, "sources must be a list of views and request sources"),
        ({"sources": [VIEW, VIEW[["x"]]]}, "sources has the name v twice"),
        ({"sources": [made(name="inner")]}, "its source inner is computed when it is read"),
        ({"schema": None}, "it needs a schema"),
        ({"udf": None}, "it needs a function"),
        ({"mode": "substrait"}, "mode 'substrait' is not supported; it must be one of 'pandas', 'python'"),
        ({"mode": "pandas", "singleton": True}, "singleton needs mode 'python'"),
        ({"write_to_online_store": True}, "a view with write_to_online_store needs entities"),
        ({"aggregations": [Aggregation("x", "sum")]}, "aggregations are not supported"),
        ({"feature_transformation": object()}, "feature_transformation is not supported"),
        ({"schema": [*OUT, *OUT]}, "schema has out twice"),
        ({"version": "two"}, "two"),
    ],
)
def test_rules(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(DefinitionError, match=f"od: .*{rule}"):
        made(**changes)


def test_rules_of_a_repository() -> None:
    other = FeatureView(name="v", source=FILE, entities=[KEY], schema=[Field("x", Int64)])
    named = FeatureViewProjection("od", features=OUT)
    service = FeatureService(name="s", features=[made()], precompute_online=True)
    assert [str(error) for error in find_errors([KEY, other, made()])] == [
        "OnDemandFeatureView od: its source v has no feature y"
    ]
    assert [error.rule for error in find_errors([made()])] == ["its source, the view v, does not exist"]
    assert [error.rule for error in find_errors([KEY, VIEW, made(), made(name="outer", sources=[named])])] == [
        "its source od is computed when it is read, so it cannot feed others"
    ]
    assert [error.rule for error in find_errors([KEY, VIEW, made(), service])] == [
        "view od is computed when it is read; precompute_online cannot have it"
    ]


def test_a_stored_views_key_must_be_known() -> None:
    key = Entity(name="customer", join_keys=["customer_id"])
    stored = made(entities=[key], write_to_online_store=True)
    (error,) = find_errors([key, VIEW, stored])
    assert error.rule.startswith("the type of the join key customer_id is not known")
    assert not find_errors([KEY, VIEW, made()])
