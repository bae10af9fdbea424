"""Packed vectors: layouts, packing from batches, reading in place; against tests/reference_vector.py."""

from __future__ import annotations

from random import Random

import pytest

from fastserve import _core
from fastserve._core import Batch, VectorLayout
from fastserve.errors import DecodeError, EncodeError, VectorStaleError, VectorVersionError
from tests import reference, reference_vector
from tests.core.requests import JOIN_KEY, Request, every_type, frame_reply, typical
from tests.core.vectors import (
    all_types,
    columns,
    every_form,
    key_of,
    layout_of,
    one_view,
    packed,
    read,
    stored_row,
    value,
    vector_of,
    vector_plan,
    views_of,
)
from tests.goldens import same


@pytest.mark.parametrize("request_", [typical(Random(1), 20), all_types()], ids=["typical", "every type"])
def test_answers_equal_those_of_the_hash(request_: Request) -> None:
    batch, vectors = packed(request_)
    assert vectors.n_rows == len(vectors) == len(request_.entities)
    for ours, theirs in zip(every_form(batch), every_form(request_.filled()), strict=True):
        assert same(ours, theirs)
    assert columns(batch) == columns(request_.filled())


@pytest.mark.parametrize("request_", [typical(Random(2), 20), every_type()], ids=["typical", "every type"])
def test_bytes_are_those_of_the_reference(request_: Request) -> None:
    views = views_of(request_)
    _, vectors = packed(request_)
    assert vectors.layout.fingerprint.to_bytes(8, "little") == reference_vector.fingerprint(views)
    for (_, vector), stored in zip(vectors.items(), request_.hashes, strict=True):
        rows = {view: stored_row(view, features, stored) for view, features in views}
        assert vector == reference_vector.pack(views, rows)
        assert reference_vector.pack(views, reference_vector.unpack(views, vector)) == vector


FIXED = [("a", 4), ("b", 2), ("c", 7), ("d", 6), ("e", 5)]


def test_absent_null_and_missing_are_told_apart() -> None:
    plan = one_view([("a", 4), ("b", 2), ("c", 17)])
    some = reference_vector.Row(5_000_000, {"a": value(int64_val=7), "b": b""})
    vectors = {key_of("C1"): vector_of(plan, some), key_of("C2"): vector_of(plan, None)}
    batch, missing = read(plan, ["C3", "C1", "C2", "C1"], vectors)
    assert missing == [(0, 0)]
    assert _core.statuses(batch) == {
        JOIN_KEY: ["PRESENT"] * 4,
        "a": ["NOT_FOUND", "PRESENT", "NOT_FOUND", "PRESENT"],
        "b": ["NOT_FOUND", "NULL_VALUE", "NOT_FOUND", "NULL_VALUE"],
        "c": ["NOT_FOUND"] * 4,
    }
    answer = _core.python_columns(batch, True)
    assert answer["a"] == [None, 7, None, 7]
    assert answer["a__ts"] == [0, 5, 0, 5]
    values, valid, nulls = _core.fixed_column(batch, plan.outputs[0])
    assert (list(memoryview(values).cast("q")), valid, nulls) == ([0, 7, 0, 7], b"\x0a", 2)


@pytest.mark.parametrize("enforce", [False, True])
def test_ttl(enforce: bool) -> None:
    plan = one_view([("a", 4), ("b", 2)], ttl=60, enforce_ttl=enforce)
    row = reference_vector.Row(5_000_000, {"a": value(int64_val=7), "b": value(string_val="x")})
    batch, _ = read(plan, ["C1"], {key_of("C1"): vector_of(plan, row)})
    assert _core.statuses(batch)["a"] == ["OUTSIDE_MAX_AGE"]
    assert _core.python_columns(batch)["a"] == [None if enforce else 7]
    assert _core.fixed_column(batch, plan.outputs[0])[2] == enforce
    assert _core.text_column(batch, plan.outputs[1])[0] == (b"" if enforce else b"x")
    assert (b'"values":[null]' in _core.json_response(batch)) is enforce


def test_many_keys_are_asked_for_in_several_commands() -> None:
    plan = one_view([("a", 4)])
    entities = [f"C{i}" for i in range(10_000)]
    batch = Batch(plan, {JOIN_KEY: entities}, len(entities))
    commands = reference.parse_replies(b"".join(iter(batch.commands, None)))
    assert [len(command) - 1 for command in commands] == [112] * 89 + [10_000 - 112 * 89]
    vector = vector_of(plan, reference_vector.Row(1, {"a": value(int64_val=7)}))
    replies = b"".join(frame_reply([vector] * (len(command) - 1)) for command in commands)
    pieces = [replies[at : at + 10_007] for at in range(0, len(replies), 10_007)]
    assert [batch.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert batch.unpack_vectors() == []
    assert _core.python_columns(batch)["a"] == [7] * 10_000


def test_of_long_keys_fewer_are_asked_for_at_a_time() -> None:
    plan = one_view([("a", 4)])
    entities = [f"{i:0750}" for i in range(25)]
    batch = Batch(plan, {JOIN_KEY: entities}, len(entities))
    commands = reference.parse_replies(b"".join(iter(batch.commands, None)))
    assert [len(command) - 1 for command in commands] == [10, 10, 5]


def test_a_rewound_batch_forgets_its_vectors() -> None:
    plan = one_view([("a", 4)])
    vector = vector_of(plan, reference_vector.Row(1, {"a": value(int64_val=7)}))
    batch, _ = read(plan, ["C1"], {key_of("C1"): vector})
    batch.rewind()
    batch.commands()
    assert batch.feed(frame_reply([None]))
    assert batch.unpack_vectors() == [(0, 0)]
    assert _core.python_columns(batch)["a"] == [None]


def test_vectors_are_looked_at_while_others_are_on_their_way() -> None:
    plan = one_view([("a", 4)])
    batch = Batch(plan, {JOIN_KEY: ["C1", "C2", "C3"]}, 3)
    ones, twos = ([vector_of(plan, reference_vector.Row(1, {"a": value(int64_val=i)}))] * 3 for i in (1, 2))
    batch.commands()
    assert not batch.feed(frame_reply(ones)[:-9])
    batch.rewind()
    batch.commands()
    damaged = frame_reply([twos[0][:-1], *twos[1:]])
    assert not batch.feed(damaged[:-9])
    assert batch.feed(damaged[-9:]), "what is wrong is told when all are in"
    with pytest.raises(DecodeError, match=r"of variable width|bytes") as raised:
        batch.unpack_vectors()
    assert raised.value.key == key_of("C1").hex()
    batch.rewind()
    batch.commands()
    assert [batch.feed(frame_reply(twos)[i : i + 1]) for i in range(len(frame_reply(twos)))][-1]
    assert batch.unpack_vectors() == batch.unpack_vectors() == []
    assert _core.python_columns(batch)["a"] == [2, 2, 2]


def test_vectors_that_were_not_unpacked_do_not_count() -> None:
    plan = one_view([("a", 4)])
    batch = Batch(plan, {JOIN_KEY: ["C1"]}, 1)
    batch.put(0, 0, 0, vector_of(plan, reference_vector.Row(1, {"a": value(int64_val=7)})))
    assert _core.statuses(batch)["a"] == ["NOT_FOUND"]
    batch.unpack_vectors()
    assert _core.statuses(batch)["a"] == ["PRESENT"]


def test_entities_without_rows_have_no_vector() -> None:
    request = typical(Random(3), 3)
    request.hashes[1] = {}
    vectors = _core.pack_batch(layout_of(request), request.filled(), 0)
    assert vectors.entity_keys() == [key_of(request.entities[i]) for i in (0, 2)]


# --- what is refused -------------------------------------------------------------------------------------------------


def broken(vector: bytes) -> Exception:
    plan = one_view(FIXED)
    with pytest.raises(Exception) as caught:
        read(plan, ["C1"], {key_of("C1"): vector})
    assert key_of("C1").hex() in str(caught.value)
    assert "feature service all" in str(caught.value)
    return caught.value


def sound() -> bytes:
    row = reference_vector.Row(5, {"a": value(int64_val=7), "b": value(string_val="abc"), "c": value(bool_val=True)})
    return vector_of(one_view(FIXED), row)


SEGMENT = 20  # where the only segment of `sound` begins


def with_bytes(at: int, *data: int) -> bytes:
    return sound()[:at] + bytes(data) + sound()[at + len(data) :]


@pytest.mark.parametrize(
    ("vector", "offset", "reason"),
    [
        (b"", 0, "2 bytes expected, 0 left"),
        (with_bytes(0, 0x0A), 0, "a vector begins with 0xf5, this with 0x0a"),
        (sound()[:11], 2, "10 bytes expected, 9 left"),
        (with_bytes(2, 3), 2, "3 segments; the layout has 2"),
        (sound()[:19], 2, "19 bytes are too few for 2 segments"),
        (sound()[:-1], 16, f"segment 1 ends at {len(sound())}; it begins at 20, and the vector has {len(sound()) - 1}"),
        (sound() + b"x", len(sound()), "1 bytes follow the last segment"),
        (with_bytes(12, 19), 12, "segment 0 ends at 19; it begins at 20"),
        (with_bytes(16, SEGMENT + 10), SEGMENT, "a segment of 10 bytes; no row has fewer than 35"),
        (with_bytes(SEGMENT + 7, 0x7F), SEGMENT, "the event time lies outside years 1 to 9999"),
        (with_bytes(SEGMENT + 9, 1), SEGMENT, "a feature is absent, but not null"),
        (with_bytes(SEGMENT + 8, 0xB8, 0x18), SEGMENT, "a bit is set that stands for no feature"),
        (
            with_bytes(SEGMENT + 31, 2),
            SEGMENT,
            "the values of variable width end at 2; the segment has 3 bytes of them",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_vectors(vector: bytes, offset: int, reason: str) -> None:
    error = broken(vector)
    assert isinstance(error, DecodeError)
    assert reason in error.reason
    assert error.offset == offset


def test_ends_that_fall() -> None:
    plan = one_view([("a", 2), ("b", 2)])
    vector = bytearray(
        vector_of(plan, reference_vector.Row(5, {"a": value(string_val="abc"), "b": value(string_val="")}))
    )
    vector[SEGMENT + 14] = 2
    with pytest.raises(DecodeError, match="the value 1 of variable width ends at 2, before it begins"):
        read(plan, ["C1"], {key_of("C1"): bytes(vector)})


def test_another_version_and_another_layout() -> None:
    error = broken(with_bytes(1, 2))
    assert isinstance(error, VectorVersionError)
    assert error.version == 2
    assert isinstance(broken(with_bytes(4, 0)), VectorStaleError)


def test_values_that_do_not_fit_cannot_be_packed() -> None:
    request = typical(Random(4), 1, n_views=1)
    views = views_of(request)
    name = views[0][1][0][0]
    request.hashes[0] = {**request.hashes[0], reference.field_id("view_0", name): value(string_val="x")}
    with pytest.raises(EncodeError, match="STRING is stored where the schema says INT64") as caught:
        _core.pack_batch(VectorLayout(views), request.filled(), 0)
    assert caught.value.column == f"view_0:{name}"
    assert key_of(request.entities[0]).hex() in str(caught.value)


@pytest.mark.parametrize(
    ("views", "reason"),
    [
        ([], "a vector has 1 to 65535 views, not 0"),
        ([("v", []), ("v", [])], "a name occurs twice in v, v"),
        ([("v", [("a", 2), ("a", 2)])], "a name occurs twice in a, a"),
        ([("v", [("a", 19)])], "v:a: value type 19 cannot be stored"),
    ],
)
def test_layouts_that_are_none(views: list[tuple[str, list[tuple[str, int]]]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        VectorLayout(views)


def test_plans_that_do_not_fit_the_layout() -> None:
    plan = one_view([("a", 4)])
    with pytest.raises(ValueError, match="v:a is not in the layout"):
        vector_plan(plan, VectorLayout([("v", [("b", 4)])]))
    with pytest.raises(ValueError, match="v:a is not in the layout"):
        vector_plan(plan, VectorLayout([("w", [("a", 4)])]))
    with pytest.raises(ValueError, match="v:a: INT32 in the vectors, INT64 in the plan"):
        vector_plan(plan, VectorLayout([("v", [("a", 3)])]))
