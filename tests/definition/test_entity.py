"""Entities."""

from __future__ import annotations

from typing import Any

import pytest

from fastserve.definition import Entity, dummy_entity
from fastserve.errors import DefinitionError
from fastserve.types import Int64, ValueType


def test_arguments() -> None:
    entity = Entity(
        name="customer", join_keys=["cid"], value_type=ValueType.STRING, description="d", tags={"a": "b"}, owner="o"
    )
    assert (entity.name, entity.join_key, entity.join_keys) == ("customer", "cid", ["cid"])
    assert (entity.value_type, entity.description, entity.tags, entity.owner) == (2, "d", {"a": "b"}, "o")


@pytest.mark.parametrize("join_keys", [None, [], ()])
def test_join_key_is_the_name_unless_given(join_keys: Any) -> None:
    entity = Entity(name="customer", join_keys=join_keys)
    assert (entity.join_key, entity.value_type) == ("customer", ValueType.UNKNOWN)


def test_only_one_join_key() -> None:
    with pytest.raises(DefinitionError, match=r"^Entity customer: an entity has one join key, not 2: a, b$"):
        Entity(name="customer", join_keys=["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"name": 5}, "Entity: name must be text, not 5"),
        ({"name": "a", "join_keys": "cid"}, "Entity a: join_keys must be a list of texts, not 'cid'"),
        ({"name": "a", "join_keys": [5]}, "Entity a: join_keys must be a list of texts, but number 0 is 5"),
        ({"name": "a", "value_type": Int64}, "Entity a: value_type must be a ValueType, not Int64"),
        ({"name": "a", "tags": {"a": 1}}, "Entity a: tags must be a mapping of texts, but has 'a': 1"),
        ({"name": "a", "tags": ["a"]}, r"Entity a: tags must be a mapping of texts, not \['a'\]"),
        ({"name": "a", "owner": None}, "Entity a: owner must be text, not None"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(DefinitionError, match=f"^{rule}$"):
        Entity(**arguments)


def test_equal_by_content_and_hashed_by_name() -> None:
    one, other = Entity(name="a", join_keys=["k"]), Entity(name="a", join_keys=["k"])
    assert one == other and len({one, other}) == 1
    other.tags["a"] = "b"
    assert one != other and one != "a"


def test_repr_shows_what_is_set() -> None:
    assert repr(Entity(name="a", tags={"k": "v"})) == "Entity(name='a', join_key='a', tags={'k': 'v'})"


def test_tags_are_the_entitys_own() -> None:
    tags = {"a": "b"}
    entity = Entity(name="a", tags=tags)
    tags["c"] = "d"
    assert entity.tags == {"a": "b"}


def test_dummy_entity() -> None:
    assert (dummy_entity().name, dummy_entity().join_key) == ("__dummy", "__dummy_id")
