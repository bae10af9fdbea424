"""Entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastserve.definition.check import Arguments, Definition
from fastserve.model import DUMMY_ENTITY, DUMMY_JOIN_KEY
from fastserve.types import ValueType

__all__ = ["Entity", "dummy_entity"]


class Entity(Definition):
    """What features describe: a customer, an account.

        customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)

    Args:
        name: unique in the project.
        join_keys: the column that holds the entity's key, as a list of one; without it, the name.
        value_type: the key's type. Without it, it is taken from the views: their schema, or their source's column.
        tags: free text, for instance who may use it.

    Raises:
        DefinitionError: there is more than one join key, or an argument is of the wrong type.
    """

    def __init__(
        self,
        *,
        name: str,
        join_keys: Sequence[str] | None = None,
        value_type: ValueType | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
    ):
        check = Arguments("Entity", name)
        keys = check.several("join_keys", join_keys, str, "texts")
        if len(keys) > 1:
            raise check.error(f"an entity has one join key, not {len(keys)}: {', '.join(keys)}")
        self.name = name
        self.join_key: str = keys[0] if keys else name
        self.value_type = check.one("value_type", value_type or ValueType.UNKNOWN, ValueType, "a ValueType")
        self.description = check.text("description", description)
        self.tags = check.texts("tags", tags)
        self.owner = check.text("owner", owner)

    @property
    def join_keys(self) -> list[str]:
        """The join key, in a list."""
        return [self.join_key]


def dummy_entity() -> Entity:
    """Return the entity that views without entities have in the registry."""
    return Entity(name=DUMMY_ENTITY, join_keys=[DUMMY_JOIN_KEY])
