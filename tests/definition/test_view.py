"""Feature views of every kind."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from fastserve.definition import (
    Aggregation,
    BatchFeatureView,
    ConflictPolicy,
    Entity,
    FeatureView,
    FeatureViewProjection,
    FeatureViewState,
    Field,
    FileSource,
    JsonFormat,
    KafkaSource,
    LabelView,
    PushSource,
    RequestSource,
    StreamFeatureView,
    TransformationMode,
)
from fastserve.errors import DefinitionError
from fastserve.types import Array, Float32, Int64, Invalid, String, ValueType

CUSTOMER = Entity(name="customer", join_keys=["cid"], value_type=ValueType.STRING)
ACCOUNT = Entity(name="account", join_keys=["aid"], value_type=ValueType.INT64)
UNTYPED = Entity(name="untyped", join_keys=["uid"])
FILE = FileSource(name="file", path="a.parquet", timestamp_field="ts")
PUSH = PushSource(name="push", batch_source=FILE)
KAFKA = KafkaSource(name="kafka", timestamp_field="ts", message_format=JsonFormat("{}"), batch_source=FILE)
REQUEST = RequestSource(name="request", schema=[Field("a", Int64)])
CID, AID, X, Y = Field("cid", String), Field("aid", Int64), Field("x", Int64), Field("y", Int64)


def view(**arguments: Any) -> FeatureView:
    return FeatureView(**{"name": "v", "source": FILE, "entities": [CUSTOMER], "schema": [CID, X, Y], **arguments})


# --- columns ---------------------------------------------------------------------------------------------------------


def test_schema_is_split_into_keys_and_features() -> None:
    found = view(entities=[CUSTOMER, ACCOUNT], schema=[AID, X, CID, Y])
    assert found.entities == ["customer", "account"]
    assert (found.entity_columns, found.features, found.join_keys) == ([AID, CID], [X, Y], ["aid", "cid"])
    assert found.schema == [AID, CID, X, Y]


def test_entities_tell_the_types_of_keys_that_the_schema_lacks() -> None:
    found = view(entities=[UNTYPED, ACCOUNT, CUSTOMER], schema=[CID, X])
    assert found.entity_columns == [CID, AID]


def test_without_entities_there_is_one_row() -> None:
    found = view(entities=None, schema=[X])
    assert (found.entities, found.join_keys, found.features) == (["__dummy"], ["__dummy_id"], [X])


def test_without_schema_nothing_is_known_yet() -> None:
    found = view(entities=[UNTYPED], schema=None)
    assert (found.entity_columns, found.features) == ([], [])


# --- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "batch", "stream"), [(FILE, FILE, None), (PUSH, FILE, PUSH), (KAFKA, FILE, KAFKA), (None, None, None)]
)
def test_sources(source: Any, batch: Any, stream: Any) -> None:
    found = view(source=source)
    assert (found.batch_source, found.stream_source, found.source) == (batch, stream, batch)


def test_view_derived_from_views() -> None:
    upstream = view(name="up")
    one, several = view(source=upstream, sink_source=FILE), view(source=[upstream, upstream], sink_source=FILE)
    assert (one.source_views, one.batch_source) == ([upstream], FILE)
    assert several.source_views == [upstream, upstream]


# --- the rest --------------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    found = view()
    assert (found.ttl, found.online, found.offline, found.enabled, found.version) == (
        timedelta(0), True, False, True, "latest",
    )  # fmt: skip
    assert (found.mode, found.org, found.state) == ("", "", FeatureViewState.STATE_UNSPECIFIED)
    assert (found.most_recent_end_time, found.current_version_number) == (None, None)


def test_most_recent_end_time() -> None:
    found, late = view(), datetime(2024, 2, 1, tzinfo=timezone.utc)
    found.materialization_intervals = [(late, late), (late, late - timedelta(days=3))]
    assert found.most_recent_end_time == late


@pytest.mark.parametrize("mode", ["spark", TransformationMode.SPARK])
def test_mode_is_text(mode: Any) -> None:
    assert view(mode=mode).mode == "spark"


@pytest.mark.parametrize("version", ["latest", "Latest", "", "v0", "V12", "version3"])
def test_versions(version: str) -> None:
    assert view(version=version).version == version


def test_pinned_version_is_in_the_projection() -> None:
    assert view(version="v2").projection.version_tag == 2
    assert view().projection.version_tag is None


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"name": ""}, "a view needs a name"),
        ({"name": None}, "name must be text, not None"),
        ({"name": "v@1"}, "the name of a view must not contain '@'"),
        ({"name": "v:x"}, "the name of a view must not contain ':'"),
        ({"schema": {"a": Int64}}, "schema must be a list of Field objects"),
        ({"schema": [CID, "x"]}, "schema must be a list of Field objects, but number 1 is 'x'"),
        ({"schema": [X, CID, X]}, "schema has x twice"),
        ({"schema": [Field("", Int64)]}, "schema has a field without a name"),
        ({"schema": [Field("a", Invalid)]}, "field a has the type Invalid"),
        ({"schema": [Field("cid", Int64)]}, "field cid is a Int64, but the entity customer has the type STRING"),
        ({"schema": [Field(n, Array(Float32), vector_index=True) for n in "ab"]},
         "a view has at most one field with vector_index, not 2: a, b"),
        ({"entities": ["customer"]}, "entities must be a list of Entity objects, but number 0 is 'customer'"),
        ({"entities": [CUSTOMER, CUSTOMER]}, "the entities customer and customer share the join key cid"),
        ({"ttl": 5}, "ttl must be a timedelta, not 5"),
        ({"ttl": timedelta(-1)}, "ttl must not be negative, but is -1 day, 0:00:00"),
        ({"online": "yes"}, "online must be True or False, not 'yes'"),
        ({"tags": {"a": None}}, "tags must be a mapping of texts, but has 'a': None"),
        ({"version": "2"}, r"version must be 'latest' or 'vN' \(such as 'v2'\), not '2'"),
        ({"source": "file"}, "source must be a data source, a view or a list of views, not 'file'"),
        ({"source": PushSource(name="p")}, "its source, the PushSource p, needs a batch_source"),
        ({"source": REQUEST}, "the request source request can only feed on-demand views"),
        ({"source": []}, "a view that is derived from views needs a sink_source"),
        ({"source": FileSource(path="f", field_mapping={"x": "z"})},
         "field x is called z by the field_mapping of the source"),
        ({"source": FileSource(path="f", field_mapping={"cid": "z"})},
         "field cid is called z by the field_mapping of the source"),
    ],
)  # fmt: skip
def test_wrong_definitions_name_the_rule(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(DefinitionError, match=f": {rule}") as caught:
        view(**arguments)
    assert caught.value.kind == "FeatureView"
    assert caught.value.name == (arguments.get("name", "v") or "")


# --- copies for services ---------------------------------------------------------------------------------------------


def test_projection_is_the_whole_view() -> None:
    assert view().projection == FeatureViewProjection("v", features=[X, Y], batch_source=FILE)


def test_projection_follows_the_view() -> None:
    found = view(schema=None)
    found.features = [X]
    assert found.projection.features == [X]


def test_chosen_features_are_in_the_order_asked_for() -> None:
    found = view()
    chosen = found[["y", "x"]]
    assert (chosen.projection.features, chosen.name, chosen.features) == ([Y, X], "v", [X, Y])
    assert found.projection.features == [X, Y]


def test_names_and_join_keys_of_a_copy() -> None:
    changed = view()[["x"]].with_name("payer").with_join_key_map({"cid": "payer_id"})
    projection = changed.projection
    assert (projection.features, projection.name_alias, projection.join_key_map) == ([X], "payer", {"cid": "payer_id"})
    assert (projection.name_to_use(), changed.name) == ("payer", "v")


def test_name_to_use() -> None:
    assert FeatureViewProjection("v").name_to_use() == "v"
    assert FeatureViewProjection("v", "a", version_tag=2).name_to_use() == "a@v2"


def test_features_of_a_view_without_schema_are_remembered() -> None:
    assert view(schema=None)[["later"]].projection.desired_features == ["later"]


@pytest.mark.parametrize("name", ["zz", "cid"])
def test_unknown_features_are_named(name: str) -> None:
    with pytest.raises(DefinitionError, match=f"FeatureView v: has no feature {name}; it has: x, y"):
        view()[["x", name]]


def test_features_are_chosen_with_a_list() -> None:
    wrong: Any = "x"
    with pytest.raises(TypeError, match=r"such as view\[\['age'\]\], not 'x'"):
        view()[wrong]


def test_unknown_join_keys_are_named() -> None:
    with pytest.raises(DefinitionError, match="join_key_map names zz; the join keys are: cid"):
        view().with_join_key_map({"zz": "a"})


def test_projections_must_fit() -> None:
    with pytest.raises(DefinitionError, match="FeatureView v: a projection of w does not fit"):
        view().with_projection(FeatureViewProjection("w"))
    with pytest.raises(DefinitionError, match="FeatureView v: has no feature z"):
        view().with_projection(FeatureViewProjection("v", features=[Field("z", Int64)]))


def test_views_are_compared_by_content() -> None:
    assert view() == view() != view(ttl=timedelta(1))
    assert view() != view()[["x"]]


# --- other kinds -----------------------------------------------------------------------------------------------------


def test_batch_views_have_other_defaults() -> None:
    found = BatchFeatureView(name="b", source=FILE, schema=[X], batch_engine={"a": 1})
    assert (found.online, found.ttl, found.mode, found.batch_engine) == (False, None, "python", {"a": 1})


def stream(**arguments: Any) -> StreamFeatureView:
    return StreamFeatureView(**{"name": "s", "source": KAFKA, "entities": [CUSTOMER], "schema": [X], **arguments})


def test_stream_views() -> None:
    found = stream(aggregations=[Aggregation("x", "sum", timedelta(hours=1))], timestamp_field="ts", mode="spark")
    assert (found.stream_source, found.batch_source, found.mode) == (KAFKA, FILE, "spark")
    assert found.aggregations[0].slide_interval == timedelta(hours=1)
    assert (found.join_keys, found.features) == (["cid"], [X])


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"source": FILE}, "source must be a KafkaSource or PushSource, not the FileSource"),
        ({"aggregations": [Aggregation("x", "sum")]}, "aggregations need a timestamp_field"),
        ({"aggregations": ["x"]}, "aggregations must be a list of Aggregation objects, but number 0 is 'x'"),
        ({"aggregations": [Aggregation("x", "sum", timedelta(minutes=2))], "timestamp_field": "t",
          "enable_tiling": True},
         r"tiling_hop_size \(0:05:00\) must be smaller than the smallest time_window \(0:02:00\)"),
        ({"feature_transformation": object()}, "feature_transformation is not supported; give udf and udf_string"),
    ],
)  # fmt: skip
def test_wrong_stream_views(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(DefinitionError, match=f"^StreamFeatureView s: {rule}"):
        stream(**arguments)


def test_label_views() -> None:
    found = LabelView(name="l", source=PUSH, entities=[CUSTOMER], schema=[X], reference_feature_view=None)
    assert (found.stream_source, found.batch_source, found.join_keys) == (PUSH, FILE, ["cid"])
    assert (found.labeler_field, found.conflict_policy) == ("labeler", ConflictPolicy.LAST_WRITE_WINS)
    assert found.projection.view_type == found[["x"]].projection.view_type == "labelView"
    assert LabelView(name="l", source=FILE).batch_source is FILE


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"conflict_policy": "majority_vote"}, "conflict_policy must be a ConflictPolicy"),
        ({"source": "x"}, "source must be a data source, not 'x'"),
        ({"name": "l@"}, "the name of a view must not contain '@'"),
    ],
)
def test_wrong_label_views(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(DefinitionError, match=rule):
        LabelView(**{"name": "l", **arguments})
