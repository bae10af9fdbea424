"""Requests for the core and for the oracle at once: plans, entities, stored hashes and their replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from fastserve._core import Batch, KeyGroup, ReadPlan, Slot, StoredView
from tests import goldens, reference
from tests.reference import Feature, Value

PROJECT = "bank"
JOIN_KEY = "customer_id"


@dataclass(frozen=True)
class Request:
    """A request for features of views that share one string join key.

    Attributes:
        plan: for the core.
        features: the same for the oracle, in the same order.
        entities: the join key of each row.
        hashes: what is stored for each row: hash field -> bytes.
    """

    plan: ReadPlan
    features: tuple[Feature, ...]
    entities: list[str]
    hashes: list[reference.Hash]

    @property
    def columns(self) -> reference.Columns:
        """The features with the rows' hashes, as the oracle's answers take them."""
        return [(feature, self.hashes) for feature in self.features]

    def begin(self) -> Batch:
        """Return a new Batch without data."""
        return Batch(self.plan, {JOIN_KEY: self.entities}, len(self.entities))

    def replies(self) -> bytes:
        """Return what Redis answers to the commands of a Batch."""
        hashes = dict(zip(self.entities, self.hashes, strict=True))  # a Batch asks once for each distinct entity
        fields = self.plan.groups[0].fields
        return b"".join(frame_reply([stored.get(field) for field in fields]) for stored in hashes.values())

    def filled(self) -> Batch:
        """Return a Batch with all replies in."""
        batch = self.begin()
        while batch.commands() is not None:
            pass
        if self.entities:
            assert batch.feed(self.replies())
        return batch


def frame_reply(items: Sequence[bytes | None]) -> bytes:
    """Return an array of bulk strings in RESP2."""
    framed = [b"$-1\r\n" if item is None else b"$%d\r\n%b\r\n" % (len(item), item) for item in items]
    return b"*%d\r\n%b" % (len(items), b"".join(framed))


def make_plan(features: Sequence[Feature], join_key: str = JOIN_KEY) -> ReadPlan:
    """Return the plan of features whose views all have this one string join key."""
    names = list(dict.fromkeys(feature.view for feature in features))
    per_view = {view: list(dict.fromkeys(f.name for f in features if f.view == view)) for view in names}
    views, start = [], 0
    for view, members in per_view.items():
        views.append(StoredView(view, members, start))
        start += len(members) + 1
    group = KeyGroup((join_key,), (join_key,), (reference.STRING,), views, PROJECT)
    slots = [_slot(feature, views[names.index(feature.view)]) for feature in features]
    return ReadPlan([group], slots, join_keys={join_key: reference.STRING}, required={join_key: names})


def _slot(feature: Feature, view: StoredView) -> Slot:
    return Slot(
        feature.output,
        f"{feature.view}:{feature.name}",
        feature.value_type,
        group=0,
        field=view.start + view.features.index(feature.name),
        event_time=view.event_time,
        ttl=feature.ttl * 1_000_000,
    )


_TYPICAL: list[tuple[int, Callable[[Random], Any]]] = [
    (4, lambda rand: Value(int64_val=rand.randrange(1_000_000))),
    (5, lambda rand: Value(double_val=rand.uniform(0, 10_000))),
    (6, lambda rand: Value(float_val=rand.random())),
    (2, lambda rand: Value(string_val=rand.choice(["gold", "silver", "café", "standard customer"]))),
    (7, lambda rand: Value(bool_val=rand.random() < 0.5)),
    (3, lambda rand: Value(int32_val=rand.randrange(-100, 100))),
    (8, lambda rand: Value(unix_timestamp_val=1_700_000_000 + rand.randrange(10**7))),
    (5, lambda rand: Value(double_val=rand.randrange(1000) / 4)),
]
"""The features of a typical view: ValueType and a maker of values."""


def typical(rand: Random, n_entities: int, n_views: int = 6) -> Request:
    """Return a request for views with eight features each; one value in twenty is null."""
    features = tuple(
        Feature(f"view_{v}", f"feature_{f}", f"view_{v}__feature_{f}", value_type)
        for v in range(n_views)
        for f, (value_type, _) in enumerate(_TYPICAL)
    )
    entities = [f"CUST_{number:06}" for number in range(n_entities)]
    return Request(make_plan(features), features, entities, [_typical_hash(rand, n_views) for _ in entities])


def _typical_hash(rand: Random, n_views: int) -> reference.Hash:
    stored: dict[bytes, bytes | None] = {}
    for v in range(n_views):
        for f, (_, make) in enumerate(_TYPICAL):
            value = Value() if rand.random() < 0.05 else make(rand)
            stored[reference.field_id(f"view_{v}", f"feature_{f}")] = value.SerializeToString()
        moment = reference.encode_timestamp(1_767_000_000 + rand.randrange(10**6), rand.randrange(10**6) * 1000)
        stored[reference.timestamp_field(f"view_{v}")] = moment
    return stored


def every_type() -> Request:
    """Return a request for one row of a view with a feature of every type, with the recorded values."""
    stored = {output["oneof"]: bytes.fromhex(output["hex"]) for _, output in goldens.value_outputs()}
    members = [member for member in reference.FIELD_NUMBERS if member != "null_val"]
    features = tuple(Feature("all", member, member, reference.FIELD_NUMBERS[member]) for member in members)
    row: dict[bytes, bytes | None] = {reference.field_id("all", member): stored[member] for member in members}
    row[reference.timestamp_field("all")] = reference.encode_timestamp(1_767_323_045, 678_901_000)
    return Request(make_plan(features), features, ["C1"], [row])
