"""Feast's precomputed vectors: those that Feast built are read, and the same are built."""

from __future__ import annotations

from typing import Any

import pytest

from fastserve import _core
from fastserve._core import Batch, KeyGroup, ReadPlan, Slot, StoredView
from fastserve.errors import DecodeError, VectorStaleError
from tests import goldens, reference
from tests.core.requests import JOIN_KEY, PROJECT, frame_reply
from tests.core.vectors import key_of, value

VIEWS = {
    "txn_7d": [("amount_sum", 5), ("txn_count", 4), ("avg_amount", 6)],
    "customer_profile": [("age", 3), ("segment", 2)],
}
FEATURES = [(view, *feature) for view, features in VIEWS.items() for feature in features]
STORED = [
    StoredView("txn_7d", ["amount_sum", "txn_count", "avg_amount"], 0),
    StoredView("customer_profile", ["age", "segment"], 4),
]
NAMES = [(f"{view}__{name}", i + (i > 2)) for i, (view, name, _) in enumerate(FEATURES)]
CLOCKS = [("txn_7d", 3), ("customer_profile", 6)]
FIELD = reference.field_id("__precomputed__fraud_pre", "vector")
NOT_FOUND = 3
SLOTS = [
    Slot(name, f"{view}:{name}", number, 0, i + (i > 2), 3 if view == "txn_7d" else 6)
    for i, (view, name, number) in enumerate(FEATURES)
]


def plan_of(names: list[tuple[str, int]] = NAMES, views: list[tuple[str, int]] = CLOCKS, **options: Any) -> ReadPlan:
    """Return a plan that reads from Feast's vectors, or with `vector_format=""` from the hash."""
    options = {"vector_format": "feast", "vector_names": names, "vector_views": views, **options}
    group = KeyGroup(
        (JOIN_KEY,), (JOIN_KEY,), (2,), STORED, PROJECT, vector_field=FIELD, vector_label="feature service x", **options
    )
    return ReadPlan([group], SLOTS, join_keys={JOIN_KEY: 2}, required={JOIN_KEY: ["txn_7d", "customer_profile"]})


def read(plan: ReadPlan, entities: list[str], values: dict[str, bytes]) -> tuple[Batch, list[tuple[int, int]]]:
    batch = Batch(plan, {JOIN_KEY: entities}, len(entities))
    commands = reference.parse_replies(batch.commands() or b"")
    distinct = list(dict.fromkeys(entities))
    assert commands == [[b"HMGET", key_of(entity) + PROJECT.encode(), FIELD] for entity in distinct]
    assert batch.feed(b"".join(frame_reply([values.get(entity)]) for entity in distinct))
    return batch, batch.unpack_vectors()


def golden() -> dict[str, bytes]:
    """Return entity -> stored Value with Feast's vector."""
    stored = goldens.load("precomputed_vectors")["stored"]
    return {case["entity_key"]["values"][0]["value"]: bytes.fromhex(case["stored_value_hex"]) for case in stored}


def test_what_feast_built_is_read() -> None:
    batch, missing = read(plan_of(), ["C2", "C1", "NOPE", "C3", "C9", "C1"], golden())
    assert missing == [(0, 2)]
    answer = _core.python_columns(batch, True)
    assert answer["amount_sum"] == [77.5, 20.0, None, None, 1.0, 20.0]
    assert answer["txn_count"] == [7, 2, None, None, 1, 2]
    assert answer["age"] == [29, 41, None, None, None, 41]
    assert answer["segment"] == ["", "gold", None, None, None, "gold"]
    assert answer["age__ts"][1] == 1767323045
    statuses = _core.statuses(batch)
    assert statuses["amount_sum"] == ["PRESENT", "PRESENT", "NOT_FOUND", "NOT_FOUND", "PRESENT", "PRESENT"]
    assert statuses["age"] == ["PRESENT", "PRESENT", "NOT_FOUND", "NULL_VALUE", "NOT_FOUND", "PRESENT"]


def test_the_same_vectors_are_built() -> None:
    stored = goldens.load("precomputed_vectors")["stored"]
    entities = [case["entity_key"]["values"][0]["value"] for case in stored]
    for entity, case in zip(entities, stored, strict=True):
        from_feast, _ = read(plan_of(), [entity], golden())
        built = case["vector_decoded"]["precomputed_at"]
        batch = from_hash(from_feast)
        micros = built["seconds"] * 10**6 + built["nanos"] // 1000
        assert _core.pack_feast(batch, 0, NAMES, CLOCKS, micros) == [
            (key_of(entity), bytes.fromhex(case["vector_proto_hex"]))
        ]


def from_hash(batch: Batch) -> Batch:
    """Return the batch as it would be with the same values read from the hash."""
    copy = Batch(plan_of(vector_format="", names=[], views=[]), {JOIN_KEY: batch.entity_columns[0][2]}, batch.n_rows)
    answer = reference.message_class("feast.serving.GetOnlineFeaturesResponse").FromString(_core.proto_response(batch))
    for slot, result in zip(SLOTS, answer.results[1:], strict=True):
        for entity in range(batch.n_rows):
            if result.statuses[entity] != NOT_FOUND:
                copy.put(0, entity, slot.field, result.values[entity].SerializeToString())
                copy.put(0, entity, slot.event_time, result.event_timestamps[entity].SerializeToString())
    return copy


def vector(
    names: list[str] | None = None, values: list[bytes] | None = None, times: list[tuple[str, int]] | None = None
) -> bytes:
    """Return a stored Value with a vector; all features are given unless said otherwise."""
    usual = [value(double_val=1.5), value(int64_val=2), value(float_val=2.5), value(int32_val=3), value(string_val="x")]
    parts = [field(1, name.encode()) for name in ([name for name, _ in NAMES] if names is None else names)]
    parts += [field(2, data) for data in (usual if values is None else values)]
    for view, seconds in [("txn_7d", 5), ("customer_profile", 6)] if times is None else times:
        parts.append(field(3, field(1, view.encode()) + field(2, reference.encode_timestamp(seconds))))
    return value(bytes_val=b"".join(parts))


def field(number: int, data: bytes) -> bytes:
    assert len(data) < 1 << 14
    size = [len(data)] if len(data) < 128 else [len(data) & 127 | 128, len(data) >> 7]
    return bytes([number << 3 | 2, *size]) + data


def test_names_in_any_order() -> None:
    names = [name for name, _ in reversed(NAMES)]
    values = [
        value(string_val="x"),
        value(int32_val=3),
        value(float_val=2.5),
        value(int64_val=2),
        value(double_val=1.5),
    ]
    stored = {"C1": vector(names, values), "C2": vector(), "C3": vector(names, values, [("txn_7d", 7)])}
    batch, missing = read(plan_of(), ["C1", "C2", "C3"], stored)
    assert missing == []
    answer = _core.python_columns(batch, True)
    assert answer["segment"] == ["x"] * 3
    assert answer["amount_sum"] == [1.5] * 3
    assert answer["age__ts"] == [6, 6, 0]
    assert answer["txn_count__ts"] == [5, 5, 7]


def test_one_field_under_two_names() -> None:
    names = [*NAMES, ("alias__age", 4)]
    given = vector([name for name, _ in names], [b"", b"", b"", value(int32_val=3), b"", value(int32_val=3)])
    batch, _ = read(plan_of(names), ["C1"], {"C1": given})
    assert _core.python_columns(batch)["age"] == [3]


def test_nulls_and_views_without_rows() -> None:
    unset = [b""] * 5
    stored = {
        "null": vector(values=unset),
        "none": vector(values=unset, times=[("txn_7d", 0), ("customer_profile", 6)]),
        "epoch": vector(times=[("txn_7d", 0), ("other", 3)]),
    }
    batch, _ = read(plan_of(), list(stored), stored)
    statuses = _core.statuses(batch)
    assert statuses["amount_sum"] == ["NULL_VALUE", "NOT_FOUND", "PRESENT"]
    assert statuses["age"] == ["NULL_VALUE", "NULL_VALUE", "PRESENT"]


def test_other_names_are_stale() -> None:
    names = [name for name, _ in NAMES]
    for given, reason in [
        (vector(names[1:]), "it lacks txn_7d__amount_sum"),
        (vector([*names, "v__new"]), "it has v__new as well"),
        (vector([*names[1:], "v__new"]), "it lacks txn_7d__amount_sum; it has v__new as well"),
        (vector([*names, names[0]]), "a name is in it twice"),
        (vector([]), f"it lacks {', '.join(sorted(names))}"),
    ]:
        with pytest.raises(VectorStaleError, match=reason) as caught:
            read(plan_of(), ["C1"], {"C1": given})
        assert (caught.value.label, caught.value.key) == ("feature service x", key_of("C1").hex())


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (value(string_val="x"), "STRING is stored where a vector should be"),
        (b"\xff", "varint is cut off"),
        (vector(values=[b""] * 6), "more than the 5 values that there are names for"),
        (vector(values=[b""] * 4), "4 values for 5 names"),
        (value(bytes_val=bytes(1)), "field number 0 is not in use"),
    ],
)
def test_broken_vectors(stored: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason) as caught:
        read(plan_of(), ["C1"], {"C1": stored})
    assert (caught.value.field, caught.value.key) == ("feature service x", key_of("C1").hex())


def test_a_null_is_no_vector() -> None:
    assert read(plan_of(), ["C1"], {"C1": b""})[1] == [(0, 0)]


def test_fields_that_the_group_lacks() -> None:
    with pytest.raises(ValueError, match="not among the 7 of the group"):
        plan_of(names=[("v__x", 7)])


def test_a_rewound_batch_forgets_its_vectors() -> None:
    batch, _ = read(plan_of(), ["C1"], {"C1": vector()})
    batch.rewind()
    batch.commands()
    assert batch.feed(frame_reply([None]))
    assert batch.unpack_vectors() == [(0, 0)]
    assert _core.statuses(batch)["age"] == ["NOT_FOUND"]


def test_a_batch_of_vectors_cannot_be_packed() -> None:
    batch, _ = read(plan_of(), ["C1"], {"C1": vector()})
    with pytest.raises(ValueError, match="group 0 is read from vectors"):
        _core.pack_feast(batch, 0, [], [], 0)
