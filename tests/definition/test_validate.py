"""Rules over a whole repository."""

from __future__ import annotations

from typing import Any

import pytest

from fastserve import model
from fastserve.definition import (
    BatchFeatureView,
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    LabelView,
    Project,
    PushSource,
    StreamFeatureView,
)
from fastserve.definition.validate import find_errors, validate
from fastserve.errors import DefinitionError
from fastserve.types import Bool, Float64, Int32, Int64, String, UnixTimestamp, Uuid, ValueType
from tests.definition import repositories

CUSTOMER = Entity(name="customer", join_keys=["cid"], value_type=ValueType.STRING)
ACCOUNT = Entity(name="account", join_keys=["aid"], value_type=ValueType.INT64)
FILE = FileSource(name="file", path="a.parquet", timestamp_field="ts")
PUSH = PushSource(name="push", batch_source=FILE)
X = Field("x", Int64)


def view(name: str = "v", kind: Any = FeatureView, **arguments: Any) -> Any:
    return kind(**{"name": name, "source": PUSH, "entities": [CUSTOMER], "schema": [X], **arguments})


def texts(*definitions: Definition, registered: Any = ()) -> list[str]:
    return [str(error) for error in find_errors([CUSTOMER, ACCOUNT, *definitions], registered)]


def test_good_repositories_have_no_errors() -> None:
    for names in (repositories.one_of_each(), repositories.bank()):
        definitions = [item for item in names["OBJECTS"] if isinstance(item, Definition)]
        on_demand = [item for item in names["OBJECTS"] if isinstance(item, model.OnDemandFeatureView)]
        assert find_errors(definitions, on_demand) == []


def test_validate_raises_the_first() -> None:
    validate([CUSTOMER, view()])
    with pytest.raises(DefinitionError, match="FeatureView v: the entity customer is not defined"):
        validate([view()])


def test_all_errors_are_found() -> None:
    assert len(texts(view(entities=[Entity(name="e", value_type=ValueType.BOOL)]), Entity(name=""))) == 3


# --- an object alone -------------------------------------------------------------------------------------------------


def test_objects_are_looked_at_again() -> None:
    changed = view()
    changed.name, changed.version = "v:w", "newest"
    assert texts(changed) == [
        "FeatureView v:w: the name of a view must not contain ':', which has a meaning in feature references",
        "FeatureView v:w: version must be 'latest' or 'vN' (such as 'v2'), not 'newest'",
    ]


@pytest.mark.parametrize(
    "nameless", [Entity(name=""), PushSource(name=""), FeatureService(name="", features=[]), Project(name="")]
)
def test_objects_need_names(nameless: Definition) -> None:
    assert texts(nameless) == [f"{type(nameless).__name__}: it needs a name"]


# --- names that occur twice ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FeatureView, BatchFeatureView, StreamFeatureView, LabelView])
def test_names_of_views_are_unique_over_all_kinds(kind: Any) -> None:
    other = view("V", kind)
    assert texts(view(), other) == [
        f"{kind.__name__} V: the view v has the same name; upper and lower case count as the same"
    ]


def test_the_same_object_may_come_twice() -> None:
    one = view()
    assert texts(one, one, one[["x"]], one.with_name("alias"), FILE, FILE) == []


def test_equal_objects_may_come_twice() -> None:
    assert texts(view(), view(), FileSource(name="f", path="a"), FileSource(name="f", path="a")) == []


def test_names_of_sources_are_unique() -> None:
    assert texts(FileSource(name="s", path="a"), PushSource(name="S")) == [
        "PushSource S: the data source s has the same name; upper and lower case count as the same"
    ]


def test_names_of_entities_and_services_are_unique_by_case() -> None:
    assert texts(Entity(name="e"), Entity(name="E")) == []
    assert texts(Entity(name="e"), Entity(name="e", join_keys=["k"])) == ["Entity e: the entity e has the same name"]
    one, other = FeatureService(name="s", features=[]), FeatureService(name="s", features=[], owner="o")
    assert texts(one, other) == ["FeatureService s: the feature service s has the same name"]


@pytest.mark.parametrize(
    ("registered", "rule"),
    [
        (model.FeatureView("V"), "the registry has a view V; upper and lower case count as the same"),
        (model.FeatureView("v", kind="stream_feature_view"), "the registry has a view v"),
        (model.OnDemandFeatureView("v"), "the registry has a view v"),
    ],
)
def test_names_in_the_registry_count(registered: Any, rule: str) -> None:
    assert texts(view(), registered=[registered]) == [f"FeatureView v: {rule}"]


def test_an_object_may_be_defined_anew() -> None:
    registered = [model.FeatureView("v"), model.Entity("customer", "old"), model.DataSource("file", "file")]
    assert texts(view(), FILE, registered=registered) == []


# --- entities --------------------------------------------------------------------------------------------------------


def test_entities_must_be_defined_or_registered() -> None:
    other = Entity(name="other", value_type=ValueType.INT64)
    assert texts(view(entities=[other])) == ["FeatureView v: the entity other is not defined"]
    assert texts(view(entities=[other]), registered=[model.Entity("other", "other")]) == []


def test_entities_of_views_are_those_that_are_defined() -> None:
    different = Entity(name="customer", join_keys=["k"], value_type=ValueType.INT64)
    assert texts(view(entities=[different])) == [
        "FeatureView v: its entity customer has the join key k, but the one that is defined has cid"
    ]


@pytest.mark.parametrize("dtype", [String, Int32, Int64, UnixTimestamp])
def test_types_that_can_be_keys(dtype: Any) -> None:
    key = Entity(name="k")
    assert texts(key, view(entities=[key], schema=[Field("k", dtype), X])) == []


@pytest.mark.parametrize("dtype", [Bool, Float64, Uuid])
def test_types_that_cannot_be_keys(dtype: Any) -> None:
    key = Entity(name="k")
    assert texts(key, view(entities=[key], schema=[Field("k", dtype), X])) == [
        f"FeatureView v: the join key k is a {dtype.value_type.name}; a key must be one of BYTES, INT32, INT64, "
        "STRING, UNIX_TIMESTAMP"
    ]


def test_type_of_a_key_must_be_known() -> None:
    key = Entity(name="e", join_keys=["k"])
    assert texts(key, view(entities=[key])) == [
        "FeatureView v: the type of the join key k is not known: add it to the schema, or give the entity e a "
        "value_type"
    ]


def test_views_that_are_never_online_may_have_any_key() -> None:
    key = Entity(name="k", value_type=ValueType.DOUBLE)
    assert texts(key, view(entities=[key], online=False)) == []


# --- services --------------------------------------------------------------------------------------------------------


def test_services_need_their_views() -> None:
    service = FeatureService(name="s", features=["v:x", "w:x", view("u"), "od:x"])
    registered = [model.FeatureView("u", features=(X,)), model.OnDemandFeatureView("od", features=(X,))]
    assert texts(view(), service, registered=registered) == ["FeatureService s: the view w does not exist"]


def test_services_need_their_features() -> None:
    chosen = view(schema=[X, Field("old", Int64)])[["old", "x"]]
    service = FeatureService(name="s", features=[chosen])
    assert texts(view(), service) == ["FeatureService s: view v has no feature old"]


def test_what_is_computed_when_read_cannot_be_precomputed() -> None:
    service = FeatureService(name="s", features=["od"], precompute_online=True)
    assert texts(service, registered=[model.OnDemandFeatureView("od")]) == [
        "FeatureService s: view od is computed when it is read; precompute_online cannot have it"
    ]
    stored = [model.OnDemandFeatureView("od", write_to_online_store=True), model.FeatureView("od")]
    assert texts(service, registered=stored[:1]) == texts(service, registered=stored) == []


# --- places in Redis -------------------------------------------------------------------------------------------------


def features(*numbers: int) -> list[Field]:
    return [Field(f"f{number}", Int64) for number in numbers]


def test_features_must_not_share_a_hash() -> None:
    assert texts(view(schema=features(37660, 43618))) == [
        "FeatureView v: v:f43618 would share its place in Redis with v:f37660: their names have the same 32-bit hash; "
        "rename one of them"
    ]


def test_features_of_views_with_the_same_keys_must_not_share_a_hash() -> None:
    one, other = view(schema=features(54952)), view("w", schema=features(11456))
    assert len(texts(one, other)) == 1
    assert texts(one, view("w", schema=features(11456), entities=[ACCOUNT])) == []


def test_features_of_the_registry_count() -> None:
    registered = model.FeatureView(
        "w", entities=("customer",), entity_columns=(Field("cid", String),), features=tuple(features(11456))
    )
    assert len(texts(view(schema=features(54952)), registered=[registered])) == 1
    assert texts(view(), registered=[registered]) == []


def test_precomputed_vectors_count() -> None:
    one = view(schema=features(208928))
    service = FeatureService(name="s9908", features=[one], precompute_online=True)
    assert texts(one, service) == [
        "FeatureService s9908: __precomputed__s9908:vector would share its place in Redis with v:f208928: their names "
        "have the same 32-bit hash; rename one of them"
    ]
