"""Random answers: one feature of a given type, some rows, and what the oracle makes of them.

TYPES                the member of Value that holds each ValueType
columns(value_type)  -> strategy for Column
Column.batch()       -> a Batch that a store has filled with the rows
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from fastserve._core import Batch, KeyGroup, ReadPlan, Slot, StoredView
from fastserve.types import ValueType
from tests import reference
from tests.core.strategies import stored_members

_MEMBERS = {number: name for name, number in reference.FIELD_NUMBERS.items()}
_BYTES = dict.fromkeys((ValueType.PDF_BYTES, ValueType.IMAGE_BYTES), "bytes_val")
TYPES: dict[ValueType, str] = {
    **{value_type: _MEMBERS[value_type] for value_type in ValueType if value_type in _MEMBERS},
    **_BYTES,
}
"""The types with a member of their own, and those that share `bytes_val`. `null_val` is here under NULL."""

FIRST_SECOND, LAST_SECOND = -62135596800, 253402300799
"""The first and the last second of the years 1 to 9999."""

NULL_VAL = b"\x98\x01\x00"

NULLS: list[bytes | None] = [None, b"", NULL_VAL]
"""Nothing stored; the null that Feast writes; the null that it never writes but reads."""

event_times = st.builds(
    reference.encode_timestamp,
    st.sampled_from([0, 1, -1, FIRST_SECOND, LAST_SECOND, 1767323045]) | st.integers(FIRST_SECOND, LAST_SECOND),
    st.sampled_from([0, 1, 999, 1000, 250_000_000, 678_901_000, 999_999_999]) | st.integers(0, 10**9 - 1),
)
"""Serialised event times: whole seconds, milliseconds, microseconds and finer."""


class Row(NamedTuple):
    """What the store holds for one entity; None where it holds nothing."""

    value: bytes | None
    event_time: bytes | None


class Column(NamedTuple):
    """A feature `f` of view `v`, and its rows."""

    value_type: int
    rows: Sequence[Row]
    ttl: int = 0

    def batch(self, name: str = "f", enforce_ttl: bool = False) -> Batch:
        """Return a batch of entities "0", "1", … with the rows."""
        plan = column_plan(self.value_type, name, self.ttl, enforce_ttl)
        found = Batch(plan, {"k": self.entities}, len(self.rows))
        for entity, row in enumerate(self.rows):
            for field, data in enumerate(row):
                if data is not None:
                    found.put(0, entity, field, data)
        return found

    @property
    def entities(self) -> list[str]:
        return [str(number) for number in range(len(self.rows))]

    @property
    def oracle(self) -> reference.Columns:
        """The arguments of `reference.to_dict` and `reference.to_json`."""
        return [(self.feature, [self._hash(row) for row in self.rows])]

    @property
    def feature(self) -> reference.Feature:
        return reference.Feature("v", "f", "f", self.value_type, self.ttl)

    @property
    def messages(self) -> list[Any]:
        """The parsed Values; empty ones for what is not stored."""
        return [reference.parse_value(row.value or b"") for row in self.rows]

    def _hash(self, row: Row) -> Mapping[bytes, bytes | None]:
        return {reference.field_id("v", "f"): row.value, reference.timestamp_field("v"): row.event_time}


def column_plan(value_type: int, name: str = "f", ttl: int = 0, enforce_ttl: bool = False) -> ReadPlan:
    """Return a plan that reads `v:f` for entities `k`; `ttl` in seconds."""
    group = KeyGroup(["k"], ["k"], [ValueType.STRING], [StoredView("v", ["f"], 0)], "test")
    slot = Slot(name, "v:f", value_type, group=0, field=0, event_time=1, ttl=ttl * 1_000_000)
    return ReadPlan([group], [slot], join_keys={"k": 2}, required={"k": ["v"]}, enforce_ttl=enforce_ttl)


def columns(value_type: ValueType) -> st.SearchStrategy[Column]:
    """Return a strategy for columns of a type: values, every kind of null, event times or none."""
    values: st.SearchStrategy[bytes | None] = st.sampled_from(NULLS) | stored_members(TYPES[value_type])
    rows = st.lists(st.builds(Row, values, st.none() | event_times), max_size=5)
    return rows.map(lambda found: Column(int(value_type), found))


def entity_key(entity: int) -> bytes:
    """Return the entity key of a row of a column."""
    return reference.serialize_entity_key(["k"], [str(entity)], [reference.STRING])


def is_null(message: Any) -> bool:
    """Whether a parsed Value is null for every reader; the JSON text "null" is not."""
    member = message.WhichOneof("val")
    return member in (None, "null_val") or message.unix_timestamp_val == reference.NULL_SECONDS
