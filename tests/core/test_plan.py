"""StoredView, KeyGroup, Slot, ReadPlan: what they compute, and that nothing changes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._core import Batch, KeyGroup, ReadPlan, Slot, StoredView, stored_fields
from fastserve.types import ValueType
from tests import goldens, reference
from tests.registries import commands_of

STRING, INT64 = int(ValueType.STRING), int(ValueType.INT64)
names = st.text(min_size=1, max_size=12)


def group(**changes: Any) -> KeyGroup:
    arguments: dict[str, Any] = {
        "join_keys": ["account_id", "merchant_id"],
        "columns": ["account_id", "shop"],
        "value_types": [INT64, STRING],
        "views": [StoredView("spend", ["sum", "count"], 0), StoredView("名", ["é"], 3)],
        "project": "bank",
    }
    return KeyGroup(**{**arguments, **changes})


def plan(**changes: Any) -> ReadPlan:
    arguments: dict[str, Any] = {
        "groups": [group()],
        "outputs": [Slot("sum", "spend:sum", 5, group=0, field=0, event_time=2)],
        "join_keys": {"account_id": INT64, "shop": STRING, "customer_id": None},
        "required": {"account_id": ["spend"], "shop": ["spend"]},
    }
    return ReadPlan(**{**arguments, **changes})


def test_the_fields_of_a_group() -> None:
    found = group()
    assert found.fields == (
        reference.field_id("spend", "sum"),
        reference.field_id("spend", "count"),
        b"_ts:spend",
        reference.field_id("名", "é"),
        "_ts:名".encode(),
    )
    assert [view.event_time for view in found.views] == [2, 4]
    assert [found.fields[view.event_time] for view in found.views] == [stored_fields(v)[-1] for v in found.views]


@given(view=names, features=st.lists(names, max_size=4))
def test_field_names_are_those_of_the_reference(view: str, features: list[str]) -> None:
    expected = [*(reference.field_id(view, feature) for feature in features), reference.timestamp_field(view)]
    assert stored_fields(StoredView(view, features, 0)) == expected


def test_field_names_are_those_that_feast_wrote() -> None:
    for key in goldens.load("bank/redis_dump")["keys"]:
        for field in key["fields"]:
            view, _, feature = field["meaning"].partition(":")
            if view == "_ts":
                assert stored_fields(StoredView(feature, [], 0)) == [bytes.fromhex(field["field_hex"])]
            else:
                assert stored_fields(StoredView(view, [feature], 0))[0].hex() == field["field_hex"]


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_the_prefix_of_a_group(version: int) -> None:
    found = group(version=version)
    assert found.prefix == reference.entity_key_prefix(["account_id", "merchant_id"], version)
    assert found.suffix == b"bank"
    assert found.version == version


def test_the_prefix_does_not_depend_on_the_request_s_names() -> None:
    assert group(columns=["a", "b"]).prefix == group().prefix


@pytest.mark.parametrize("version", [2, 3])
def test_an_entityless_group_has_the_whole_key(version: int) -> None:
    found = group(join_keys=["__dummy_id"], columns=[], value_types=[], version=version)
    assert found.prefix == reference.serialize_entity_key(["__dummy_id"], [""], [STRING], version)


def test_commands_are_what_feast_sends() -> None:
    """Feast sends one per view, we one for all views of an entity."""
    golden = goldens.load("redis_commands")["read"]["commands"]
    asked: dict[bytes, set[bytes]] = {}
    for _, key, *fields in golden:
        asked.setdefault(bytes.fromhex(key), set()).update(map(bytes.fromhex, fields))
    views = [StoredView("customer_profile", ["age"], 0), StoredView("txn_7d", ["amount_sum", "txn_count"], 2)]
    customers = KeyGroup(["customer_id"], ["customer_id"], [STRING], views, "bank")
    read = ReadPlan([customers], [], join_keys={"customer_id": STRING}, required={"customer_id": []})
    commands = reference.parse_replies(commands_of(Batch(read, {"customer_id": ["C2", "C1", "C2"]}, 3)))
    assert {words[1]: set(words[2:]) for words in commands} == asked
    assert [words[0] for words in commands] == [b"HMGET", b"HMGET"]


def test_a_slot_without_a_place_is_computed() -> None:
    slot = Slot("ratio", "risk:ratio", 5)
    assert (slot.group, slot.field, slot.event_time, slot.ttl) == (-1, 0, 0, 0)


def test_a_slot_that_is_in_no_reply_is_refused() -> None:
    """Among the outputs or the inputs of on-demand views: the core reads by these numbers without looking again."""
    inside = Slot("f", "v:f", 1, group=0, field=0, event_time=1)
    assert plan(inputs=[inside]).inputs == (inside,)
    for place in ({"group": 1}, {"group": 0, "field": 9}, {"group": 0, "event_time": 9}, {"group": -2}):
        outside = Slot("g", "v:g", 1, **place)
        with pytest.raises(ValueError, match=r"v:g: field .* is not in the plan"):
            plan(inputs=[inside, outside])
        with pytest.raises(ValueError, match=r"v:g: field .* is not in the plan"):
            plan(outputs=[outside])


def test_has_ttl() -> None:
    """Ages matter when an output or an input of an on-demand view has a ttl."""
    old, any_age = Slot("f", "v:f", 1, group=0, event_time=1, ttl=5), Slot("g", "v:g", 1, group=0, event_time=1)
    assert plan(outputs=[any_age, old]).has_ttl
    assert plan(outputs=[any_age], inputs=[any_age, old]).has_ttl
    assert not plan(outputs=[any_age], inputs=[any_age]).has_ttl


def test_attributes() -> None:
    found = plan(
        entity_names={"customer": "customer_id"},
        request_data=["amount"],
        transforms=["anything"],
        view_versions=[("spend", 2)],
        enforce_ttl=True,
    )
    assert found.join_keys == {"account_id": INT64, "shop": STRING, "customer_id": None}
    assert found.required == {"account_id": ["spend"], "shop": ["spend"]}
    assert found.entity_names == {"customer": "customer_id"}
    assert (found.request_data, found.transforms, found.view_versions) == (("amount",), ("anything",), (("spend", 2),))
    assert found.enforce_ttl is True
    assert [slot.name for slot in found.outputs] == ["sum"]
    assert [g.columns for g in found.groups] == [("account_id", "shop")]


@pytest.mark.parametrize(
    "item", [StoredView("v", ["f"], 0), group(), Slot("f", "v:f", 1), plan()], ids=lambda item: type(item).__name__
)
def test_nothing_can_be_assigned(item: Any) -> None:
    attributes = [name for name in dir(item) if not name.startswith("_")]
    assert len(attributes) >= 4
    for name in attributes:
        with pytest.raises(AttributeError):
            setattr(item, name, None)
        with pytest.raises(AttributeError):
            delattr(item, name)
    with pytest.raises(AttributeError):
        item.more = 1


def test_later_changes_of_the_arguments_do_not_matter() -> None:
    features, views, outputs = ["f"], [StoredView("v", ["f"], 0)], [Slot("f", "v:f", 1, group=0)]
    join_keys: dict[str, int | None] = {"k": STRING}
    found = ReadPlan(
        [KeyGroup(["k"], ["k"], [STRING], views, "p")], outputs, join_keys=join_keys, required={"k": ["v"]}
    )
    before = commands_of(Batch(found, {"k": ["x"]}, 1))
    features.append("g")
    views.append(StoredView("w", ["g"], 2))
    outputs.clear()
    join_keys.clear()
    assert commands_of(Batch(found, {"k": ["x"]}, 1)) == before
    assert len(found.outputs) == 1
    assert found.join_keys == {"k": STRING}


@pytest.mark.parametrize(
    "make",
    [
        lambda: StoredView(None, [], 0),  # type: ignore[arg-type]
        lambda: StoredView("v", None, 0),  # type: ignore[arg-type]
        lambda: Slot(None, "v:f", 1),  # type: ignore[arg-type]
        lambda: Slot("f", "v:f", "text"),  # type: ignore[arg-type]
        lambda: group(project=None),
        lambda: group(views=[None]),
    ],
)
def test_wrong_arguments(make: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        make()
