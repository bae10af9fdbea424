"""The objects of a repository: read-only, comparable, copyable."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import datetime, timedelta, timezone

import pytest

from fastserve.model import (
    DataSource,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewProjection,
    Field,
    OnDemandFeatureView,
    Project,
    RequestSource,
    UserDefinedFunction,
)
from fastserve.types import Array, Float64, Int64, String, ValueType

KEY = Field("customer_id", String)
AGE = Field("age", Int64, tags={"k": "v"})
VIEW = FeatureView("profile", entities=("customer",), entity_columns=(KEY,), features=(AGE,), tags={"team": "crm"})
OBJECTS = [
    AGE,
    Entity("customer", "customer_id", tags={"pii": "yes"}),
    DataSource("src", "file", field_mapping={"a": "b"}, batch_source=DataSource("t", "warehouse")),
    RequestSource("req", (AGE,)),
    VIEW,
    FeatureViewProjection("profile", "payer", (AGE,), {"customer_id": "payer_id"}, 2),
    OnDemandFeatureView(
        "risk",
        (AGE,),
        {"profile": VIEW.projection},
        {"req": RequestSource("req", (AGE,))},
        udf=UserDefinedFunction("risk", b"\x80", "def risk(): ..."),
    ),
    FeatureService("svc", (VIEW.projection,)),
    Project("bank", tags={"domain": "payments"}),
]


@pytest.mark.parametrize("item", OBJECTS, ids=lambda item: type(item).__name__)
def test_copies_are_equal(item: Entity) -> None:
    for twin in (copy.copy(item), copy.deepcopy(item), pickle.loads(pickle.dumps(item)), dataclasses.replace(item)):
        assert twin == item
        assert hash(twin) == hash(item)
        assert repr(twin) == repr(item)


@pytest.mark.parametrize("item", OBJECTS, ids=lambda item: type(item).__name__)
def test_objects_are_read_only(item: Entity) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        item.name = "other"  # type: ignore[misc]


def test_what_is_given_is_not_shared() -> None:
    tags = {"a": "b"}
    features = [AGE]
    view = FeatureView("v", features=features, tags=tags)  # type: ignore[arg-type]
    tags["c"] = "d"
    features.clear()
    assert view.tags == {"a": "b"}
    assert view.features == (AGE,)
    with pytest.raises(TypeError):
        view.tags["c"] = "d"  # type: ignore[index]


def test_objects_differ_by_content() -> None:
    assert Field("a", Int64) != Field("a", String)
    assert Field("a", Int64, tags={"a": "b"}) != Field("a", Int64)
    assert FeatureView("v", ttl=timedelta(1)) != FeatureView("v")


def test_field_and_entity() -> None:
    assert Field("a", Array(Float64)).value_type is ValueType.DOUBLE_LIST
    assert Entity("customer", "customer_id").join_keys == ["customer_id"]


@pytest.mark.parametrize(
    ("alias", "tag", "name"),
    [("", None, "profile"), ("payer", None, "payer"), ("", 2, "profile@v2"), ("payer", 0, "payer@v0")],
)
def test_name_to_use(alias: str, tag: int | None, name: str) -> None:
    assert FeatureViewProjection("profile", alias, version_tag=tag).name_to_use() == name


def test_view_properties() -> None:
    table, stream = DataSource("table", "file"), DataSource("stream", "push")
    assert VIEW.join_keys == ("customer_id",)
    assert VIEW.schema == (KEY, AGE)
    assert VIEW.projection == FeatureViewProjection("profile", features=(AGE,))
    assert VIEW.source_name == ""
    assert dataclasses.replace(VIEW, batch_source=table).source_name == "table"
    assert dataclasses.replace(VIEW, batch_source=table, stream_source=stream).source_name == "stream"


def test_most_recent_end_time() -> None:
    days = [datetime(2026, 1, day, tzinfo=timezone.utc) for day in (1, 2, 3)]
    assert VIEW.most_recent_end_time is None
    loaded = dataclasses.replace(VIEW, materialization_intervals=((days[1], days[2]), (days[0], days[1])))
    assert loaded.most_recent_end_time == days[2]


def test_a_pickle_is_not_shown() -> None:
    assert "x80" not in repr(UserDefinedFunction("f", b"\x80\x04"))
