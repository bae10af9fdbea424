"""Rows and hashes -> packed vectors -> calls of the script that merges them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve import _core
from fastserve._core import EncodedVectors, KeyGroup, ReadPlan, StoredView, UnusualReply, VectorLayout, WritePlan
from tests import reference, reference_vector
from tests.core.arrow import batch_of
from tests.core.requests import PROJECT, frame_reply
from tests.core.strategies import python_values
from tests.core.test_write import TYPES
from tests.reference import INT64, NULL_SECONDS, STRING
from tests.reference_encode import MEMBERS

SHA = b"0123456789abcdef0123456789abcdef01234567"
VIEWS = [("other", [("x", STRING)]), ("v", [(f"f{number}", number) for number in TYPES]), ("last", [("y", 7)])]
LAYOUT = VectorLayout(VIEWS)


def write_plan(features: list[tuple[str, int]]) -> WritePlan:
    return WritePlan("v", ["id"], [INT64], [n for n, _ in features], [t for _, t in features], PROJECT)


def values_of(value_type: int) -> st.SearchStrategy[Any]:
    """Python values that fit a column of this type and can be read again."""
    if value_type in (1, 30, 31):
        return st.binary(min_size=1)
    seconds = st.integers(-62135596800, 253402300799)
    if value_type == 8:
        return seconds | st.just(NULL_SECONDS)
    return st.lists(seconds, max_size=4) if value_type == 18 else python_values(MEMBERS[value_type])


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[list[Any]], list[int]]:
    """Columns of the view `v`, and event times in microseconds."""
    n = draw(st.integers(0, 4))
    columns = [draw(st.lists(st.none() | values_of(number), min_size=n, max_size=n)) for number in TYPES]
    return columns, draw(st.lists(st.integers(-(10**15), 10**16), min_size=n, max_size=n))


@given(rows())
@settings(max_examples=40)
def test_rows_are_packed_as_by_the_oracle(given_rows: tuple[list[list[Any]], list[int]]) -> None:
    columns, times = given_rows
    plan = write_plan(VIEWS[1][1])
    encoded = _core.encode_rows(plan, batch_of(plan, [list(range(len(times))), *columns], times))
    vectors = _core.pack_rows(LAYOUT, "v", encoded)
    assert vectors.entity_keys() == encoded.entity_keys() == [key for key, _ in vectors.items()]
    for (_, vector), (_, time, _, values) in zip(vectors.items(), encoded.records(), strict=True):
        row = reference_vector.Row(time, dict(zip(plan.features, values, strict=True)))
        assert vector == reference_vector.pack(VIEWS, {"v": row})


@given(rows())
@settings(max_examples=20)
def test_rows_and_the_hashes_that_they_make_are_packed_alike(given_rows: tuple[list[list[Any]], list[int]]) -> None:
    columns, times = given_rows
    plan = write_plan(VIEWS[1][1])
    encoded = _core.encode_rows(plan, batch_of(plan, [list(range(len(times))), *columns], times))
    read = ReadPlan(
        [KeyGroup(("id",), ("id",), (INT64,), [StoredView("v", plan.features, 0)], PROJECT)],
        [],
        join_keys={"id": INT64},
        required={"id": ["v"]},
    )
    batch = _core.Batch(read, {"id": list(range(len(times)))}, len(times))
    for entity, (_, time, _, values) in enumerate(encoded.records()):
        clock = _core.encode_timestamp(time // 10**6, time % 10**6 * 1000)
        for field, value in enumerate([*values, clock]):
            batch.put(0, entity, field, value)
    layout = VectorLayout([VIEWS[1]])
    from_rows = _core.pack_rows(layout, "v", encoded)
    assert list(_core.pack_batch(layout, batch, 0).items()) == list(from_rows.items())


def test_features_that_the_rows_lack_are_absent() -> None:
    plan = write_plan([("a", INT64)])
    views = [("v", [("b", STRING), ("a", INT64), ("c", 5)])]
    encoded = _core.encode_rows(plan, batch_of(plan, [[1], [7]], [5]))
    ((_, vector),) = _core.pack_rows(VectorLayout(views), "v", encoded).items()
    assert reference_vector.unpack(views, vector)["v"].values.keys() == {"a"}


def test_rows_of_another_view_or_type_are_refused() -> None:
    plan = write_plan([("a", INT64)])
    encoded = _core.encode_rows(plan, batch_of(plan, [[1], [7]], [5]))
    with pytest.raises(ValueError, match="v is not in the layout"):
        _core.pack_rows(VectorLayout([("w", [("a", INT64)])]), "v", encoded)
    with pytest.raises(ValueError, match="v:a: DOUBLE in the vectors, INT64 in the rows"):
        _core.pack_rows(VectorLayout([("v", [("a", 5)])]), "v", encoded)


def test_only_hashes_with_all_of_the_layout_are_packed() -> None:
    read = ReadPlan([KeyGroup(("id",), (), (), [StoredView("v", ["a"], 0)], PROJECT)], [], join_keys={}, required={})
    batch = _core.Batch(read, {}, 1)
    with pytest.raises(ValueError, match="w is not in the group"):
        _core.pack_batch(VectorLayout([("w", [])]), batch, 0)
    with pytest.raises(ValueError, match="v:b is not in the group"):
        _core.pack_batch(VectorLayout([("v", [("b", 2)])]), batch, 0)
    with pytest.raises(IndexError, match="group 1 of 1"):
        _core.pack_batch(VectorLayout([("v", [("a", 2)])]), batch, 1)


# --- calls and replies -----------------------------------------------------------------------------------------------


def many(n: int) -> EncodedVectors:
    plan = write_plan([("a", INT64)])
    layout = VectorLayout([("v", [("a", INT64)]), ("w", [(str(i), 2) for i in range(9)])])
    return _core.pack_rows(layout, "v", _core.encode_rows(plan, batch_of(plan, [range(n), range(n)], [5] * n)))


def test_calls() -> None:
    vectors = many(150)
    data = b"".join(iter(lambda: vectors.commands(SHA, b"p:", b"marker-key", b"marker", 60, 1), None))
    items = [(b"p:" + key, vector) for key, vector in vectors.items()]
    head = [b"marker", b"60", b"1", vectors.layout.head, b"\1\0\2\0"]
    for first, call in zip((0, 64, 128), reference.parse_replies(data), strict=True):
        page = items[first : first + 64]
        keys, values = zip(*page, strict=True)
        assert call == [b"EVALSHA", SHA, b"%d" % (len(page) + 1), b"marker-key", *keys, *head, *values]
    assert (vectors.handed_out, vectors.answered) == (3, 0)


def test_calls_of_about_a_limit() -> None:
    vectors = many(150)
    sizes = [
        len(reference.parse_replies(data)) for data in iter(lambda: vectors.commands(SHA, b"", b"", b"", limit=1), None)
    ]
    assert sizes == [1, 1, 1]
    vectors.rewind()
    assert len(reference.parse_replies(vectors.commands(SHA, b"", b"", b"") or b"")) == 3


REPLIES = b"*0\r\n" + b"*2\r\n:1\r\n:64\r\n" + b"*1\r\n:22\r\n"


@pytest.mark.parametrize("cut", range(len(REPLIES)))
def test_replies(cut: int) -> None:
    vectors = many(150)
    vectors.commands(SHA, b"", b"", b"")
    assert not vectors.feed(REPLIES[:cut])
    assert vectors.feed(bytearray(REPLIES[cut:] + b"more"), len(REPLIES) - cut)
    assert vectors.unresolved == [64, 127, 149]
    assert (vectors.applied, vectors.answered, vectors.marker_changed) == (150, 3, False)
    vectors.rewind()
    assert (vectors.unresolved, vectors.applied, vectors.handed_out) == ([], 0, 0)


def test_another_marker() -> None:
    vectors = many(150)
    vectors.commands(SHA, b"", b"", b"")
    assert vectors.feed(b"*1\r\n:2\r\n" + b"*1\r\n:-1\r\n" * 2)
    assert (vectors.applied, vectors.unresolved, vectors.marker_changed) == (64, [1], True)


@pytest.mark.parametrize(
    "reply", [b"-ERR no\r\n", b"*1\r\n:0\r\n", b"*1\r\n:65\r\n", b"*2\r\n:-1\r\n:-1\r\n", b"*1\r\n:-2\r\n", b":1\r\n"]
)
def test_unusual_replies(reply: bytes) -> None:
    vectors = many(150)
    vectors.commands(SHA, b"", b"", b"")
    with pytest.raises(UnusualReply) as caught:
        vectors.feed(b"*0\r\n" + reply)
    assert caught.value.rest == reply
    assert caught.value.key == vectors.entity_key(vectors.first_unanswered) == vectors.entity_keys()[64]


def test_replies_to_nothing() -> None:
    with pytest.raises(UnusualReply):
        many(1).feed(frame_reply([]))
