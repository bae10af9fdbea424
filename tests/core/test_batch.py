"""Batch: distinct keys, framed commands, and replies that arrive in whatever pieces."""

from __future__ import annotations

import itertools
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve import _core
from fastserve._core import (
    Batch,
    KeyGroup,
    ReadPlan,
    Slot,
    StoredView,
    UnusualReply,
    columns_of_rows,
    plain_batch,
    same_items,
)
from fastserve.errors import EntityError
from fastserve.types import ValueType
from tests import reference
from tests.conftest import Rand
from tests.core.requests import JOIN_KEY, typical
from tests.registries import answer, bulk, commands_of

STRING, INT32, INT64 = int(ValueType.STRING), int(ValueType.INT32), int(ValueType.INT64)

CUSTOMERS = KeyGroup(
    ["customer_id"], ["customer_id"], [STRING], [StoredView("a", ["x", "y"], 0), StoredView("b", ["z"], 3)], "p"
)
PAIRS = KeyGroup(["acc_id", "shop"], ["acc_id", "customer_id"], [INT64, STRING], [StoredView("c", ["n"], 0)], "p")
CONSTANT = KeyGroup(["__dummy_id"], [], [], [StoredView("d", ["rate"], 0)], "p")
SLOTS = [
    Slot("x", "a:x", INT64, group=0, field=0, event_time=2),
    Slot("rate", "d:rate", STRING, group=2, field=0, event_time=1),
    Slot("z", "b:z", STRING, group=0, field=3, event_time=4),
    Slot("n", "c:n", INT64, group=1, field=0, event_time=1),
    Slot("y", "a:y", STRING, group=0, field=1, event_time=2),
]
PLAN = ReadPlan(
    [CUSTOMERS, PAIRS, CONSTANT],
    SLOTS,
    join_keys={"customer_id": STRING, "acc_id": INT64},
    required={"customer_id": ["a", "b", "c"], "acc_id": ["c"]},
)
COLUMNS: dict[str, list[Any]] = {"customer_id": ["C1", "C2", "C1", "C1", "ü"], "acc_id": [7, 7, 8, 7, -1]}


def redis_key(names: list[str], values: list[Any], types: list[int], project: str = "p") -> bytes:
    return reference.serialize_entity_key(names, values, types) + project.encode()


def row(view: str, values: Mapping[str, bytes], seconds: int) -> dict[bytes, bytes]:
    fields = {reference.field_id(view, name): value for name, value in values.items()}
    return {**fields, reference.timestamp_field(view): reference.encode_timestamp(seconds)}


def customer_key(customer: str) -> bytes:
    return redis_key(["customer_id"], [customer], [STRING])


def pair_key(account: int, customer: str) -> bytes:
    return redis_key(["acc_id", "shop"], [account, customer], [INT64, STRING])


HASHES = {
    customer_key("C1"): {
        **row("a", {"x": _core.encode_value(41, INT64), "y": b""}, 100),
        **row("b", {"z": _core.encode_value("\r\n$3\r\n", STRING)}, 5),
    },
    customer_key("ü"): row("a", {"x": _core.encode_value(-1, INT64)}, 0),
    pair_key(7, "C1"): row("c", {"n": _core.encode_value(1, INT64)}, 9),
    pair_key(8, "C1"): row("c", {"n": _core.encode_value(2, INT64)}, 10),
    redis_key(["__dummy_id"], [""], [STRING]): row("d", {"rate": _core.encode_value("1.09", STRING)}, 11),
}


def batch() -> Batch:
    return Batch(PLAN, COLUMNS, 5)


def asked() -> tuple[Batch, bytes]:
    """Return a batch that handed all its commands out, and the replies."""
    found = batch()
    return found, answer(commands_of(found), HASHES)


def answers(filled: Batch) -> tuple[Any, ...]:
    return (
        _core.python_columns(filled, True),
        _core.statuses(filled),
        _core.json_response(filled),
        _core.proto_response(filled),
    )


def feed(target: Batch, pieces: Iterable[bytes]) -> Batch:
    """Feed pieces; only the last may complete the replies."""
    results = [target.feed(piece) for piece in pieces]
    assert results == [False] * (len(results) - 1) + [True]
    return target


WHOLE = answers(feed(*(lambda target, replies: (target, [replies]))(*asked())))


# --- commands --------------------------------------------------------------------------------------------------------


def test_one_command_per_distinct_entity_and_group() -> None:
    customers = [customer_key(name) for name in ["C1", "C2", "ü"]]
    pairs = [pair_key(*pair) for pair in [(7, "C1"), (7, "C2"), (8, "C1"), (-1, "ü")]]
    expected = [reference.hmget(key, CUSTOMERS.fields) for key in customers]
    expected += [reference.hmget(key, PAIRS.fields) for key in pairs]
    expected += [reference.hmget(redis_key(["__dummy_id"], [""], [STRING]), CONSTANT.fields)]
    assert commands_of(batch()) == b"".join(expected)
    assert batch().groups == (CUSTOMERS, PAIRS, CONSTANT)
    assert batch().entity_keys(0) == [key[:-1] for key in customers]
    assert batch().entity_keys(1) == [key[:-1] for key in pairs]
    assert batch().entity_keys(2) == [CONSTANT.prefix]


@pytest.mark.parametrize("limit", [1, 50, 130, 131, 1000, 1 << 20])
def test_commands_come_in_chunks(limit: int) -> None:
    """A chunk ends with the first command that reaches the limit; the replies of each chunk are complete."""
    chunked, whole = batch(), commands_of(batch())
    longest = max(len(reference.hmget(*words[1:2], words[2:])) for words in reference.parse_replies(whole))
    chunks = []
    while (chunk := chunked.commands(limit)) is not None:
        assert 0 < len(chunk) < limit + longest
        assert chunked.feed(answer(chunk, HASHES))
        chunks.append(chunk)
    assert b"".join(chunks) == whole
    assert all(len(chunk) >= limit for chunk in chunks[:-1])
    assert chunked.commands(limit) is None
    assert answers(chunked) == WHOLE


def test_entity_keys_of_a_group_that_is_not_there() -> None:
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"group {index} of 3"):
            batch().entity_keys(index)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_keys_of_every_version(version: int) -> None:
    names, types, views = ["a", "b", "c"], [STRING, INT64, INT32], [StoredView("v", ["f"], 0)]
    plan = ReadPlan(
        [KeyGroup(names, names, types, views, "p", version)],
        [],
        join_keys=dict(zip(names, types, strict=True)),
        required={},
    )
    found = Batch(plan, {"c": [2**31 - 1], "a": ["é"], "b": [-5]}, 1)
    assert found.entity_keys(0) == [reference.serialize_entity_key(names, ["é", -5, 2**31 - 1], types, version)]


def test_many_random_keys_with_duplicates(rand: Rand) -> None:
    """20,000 rows, about half of them distinct: the keys are those of a dict, in the order of their first row."""
    print(rand)
    names = [f"C{rand.randrange(200)}" * rand.randrange(1, 4) for _ in range(20_000)]
    accounts = [rand.choice([rand.randrange(40), rand.getrandbits(63), -rand.getrandbits(33)]) for _ in range(20_000)]
    plan = ReadPlan(
        [PAIRS, CUSTOMERS],
        [Slot("n", "c:n", INT64, 0, 0, 1), Slot("z", "b:z", STRING, 1, 3, 4)],
        join_keys={"customer_id": STRING, "acc_id": INT64},
        required={},
    )
    found = Batch(plan, {"customer_id": names, "acc_id": accounts}, 20_000)
    pairs = list(dict.fromkeys(zip(accounts, names, strict=True)))
    customers = list(dict.fromkeys(names))
    assert 5_000 < len(pairs) < 19_999
    assert found.entity_keys(0) == [pair_key(*pair)[:-1] for pair in pairs]
    assert found.entity_keys(1) == [customer_key(name)[:-1] for name in customers]
    for entity, (account, name) in enumerate(pairs):
        found.put(0, entity, 0, _core.encode_value((account ^ len(name)) & 0xFFFF, INT64))
    for entity, name in enumerate(customers):
        found.put(1, entity, 3, _core.encode_value(f"of {name}", STRING))
    columns = _core.python_columns(found)
    assert columns["n"] == [(account ^ len(name)) & 0xFFFF for account, name in zip(accounts, names, strict=True)]
    assert columns["z"] == [f"of {name}" for name in names]


# --- replies in pieces -----------------------------------------------------------------------------------------------


def test_the_answer() -> None:
    columns, statuses, text, _ = WHOLE
    assert {name: values for name, values in columns.items() if not name.endswith("__ts")} == {
        **COLUMNS,
        "x": [41, None, 41, 41, -1],
        "rate": ["1.09"] * 5,
        "z": ["\r\n$3\r\n", None, "\r\n$3\r\n", "\r\n$3\r\n", None],
        "n": [1, None, 2, 1, None],
        "y": [None] * 5,
    }
    assert columns["x__ts"] == [100, 0, 100, 100, 0]
    assert columns["n__ts"] == [9, 0, 10, 9, 0]
    null, none = "NULL_VALUE", "NOT_FOUND"
    assert statuses["y"] == [null, none, null, null, none]
    assert statuses["x"] == ["PRESENT", none, "PRESENT", "PRESENT", "PRESENT"]
    assert json.loads(text)["metadata"]["feature_names"] == ["customer_id", "acc_id", "x", "rate", "z", "n", "y"]


def test_one_byte_at_a_time() -> None:
    target, replies = asked()
    assert answers(feed(target, [replies[i : i + 1] for i in range(len(replies))])) == WHOLE


def test_every_split_in_two() -> None:
    _, replies = asked()
    for split in range(1, len(replies)):
        target, _ = asked()
        assert answers(feed(target, [replies[:split], replies[split:]])) == WHOLE, split


@settings(max_examples=60)
@given(cuts=st.sets(st.integers(1, 10_000), max_size=12), empties=st.booleans())
def test_any_split(cuts: set[int], empties: bool) -> None:
    target, replies = asked()
    places = [0, *sorted(cut % (len(replies) - 1) + 1 for cut in cuts), len(replies)]
    pieces = [replies[start:end] for start, end in itertools.pairwise(places)]
    assert all(target.feed(piece) is False for piece in pieces[:-1])
    if empties:
        assert target.feed(b"") is False
    assert target.feed(pieces[-1]) is True
    assert answers(target) == WHOLE


def test_pieces_in_a_buffer_that_is_used_again() -> None:
    """As a connection does: only the first bytes of the buffer are what has come."""
    target, replies = asked()
    buffer = bytearray(64)
    for start in range(0, len(replies), 64):
        piece = replies[start : start + 64]
        buffer[:] = b"*" * 64
        buffer[: len(piece)] = piece
        done = target.feed(buffer, len(piece))
        assert done is (start + 64 >= len(replies))
    assert answers(target) == WHOLE


@pytest.mark.parametrize("size", [-1, 9, 2**62])
def test_more_bytes_than_the_buffer_has(size: int) -> None:
    target, _ = asked()
    with pytest.raises(ValueError, match="8"):
        target.feed(bytearray(8), size)


def test_large_values_over_many_pieces() -> None:
    plan = ReadPlan([CUSTOMERS], [SLOTS[4]], join_keys={"customer_id": STRING}, required={})
    texts = {f"C{i}": chr(97 + i) * (100_000 + i) for i in range(5)}
    hashes = {customer_key(k): row("a", {"y": _core.encode_value(text, STRING)}, 1) for k, text in texts.items()}
    target = Batch(plan, {"customer_id": list(texts)}, 5)
    replies = answer(commands_of(target), hashes)
    feed(target, [replies[i : i + 4096] for i in range(0, len(replies), 4096)])
    assert _core.python_columns(target)["y"] == list(texts.values())


# --- rows ------------------------------------------------------------------------------------------------------------


def test_zero_rows() -> None:
    target = Batch(PLAN, {"customer_id": [], "acc_id": []}, 0)
    assert target.commands() is None
    assert [target.entity_keys(g) for g in range(3)] == [[], [], []]
    assert target.feed(b"") is True
    assert _core.python_columns(target) == {name: [] for name in ["customer_id", "acc_id", "x", "rate", "z", "n", "y"]}
    assert _core.statuses(target)["rate"] == []


def test_a_plan_without_groups() -> None:
    target = Batch(ReadPlan([], [], join_keys={"k": None}, required={}), {"k": [1, "a", None]}, 3)
    assert target.commands() is None
    assert _core.python_columns(target) == {"k": [1, "a", None]}


def test_a_group_of_one_entity_for_all_rows() -> None:
    plan = ReadPlan([CONSTANT], [Slot("rate", "d:rate", STRING, 0, 0, 1)], join_keys={}, required={})
    target = Batch(plan, {}, 1000)
    assert len(reference.parse_replies(commands_of(target))) == 1
    target.feed(b"*2\r\n" + bulk(_core.encode_value("1", STRING)) + bulk(None))
    assert _core.python_columns(target) == {"rate": ["1"] * 1000}


# --- unusual replies -------------------------------------------------------------------------------------------------

NIL = bulk(None)
FIRST = b"*5\r\n" + NIL * 5
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        pytest.param(b"", LOADING, id="error first"),
        pytest.param(FIRST, LOADING, id="error in the middle"),
        pytest.param(FIRST * 3, LOADING, id="error in the next group"),
        pytest.param(FIRST, b"*-1\r\n", id="nil array"),
        pytest.param(FIRST, b"*4\r\n" + NIL * 4, id="too few fields"),
        pytest.param(FIRST, b"*6\r\n" + NIL * 6, id="too many fields"),
        pytest.param(FIRST, b"*0\r\n", id="no fields"),
        pytest.param(FIRST, b"$3\r\nabc\r\n", id="text"),
        pytest.param(FIRST, b":5\r\n", id="number"),
        pytest.param(FIRST, b"_\r\n", id="null of RESP3"),
        pytest.param(FIRST, b"%1\r\n", id="map of RESP3"),
        pytest.param(FIRST, b"\r\n", id="no reply at all"),
        pytest.param(FIRST, b"*x\r\n", id="array of x"),
        pytest.param(FIRST, b"*\r\n", id="array without length"),
        pytest.param(FIRST, b"*99999999999\r\n", id="array too long"),
        pytest.param(FIRST + b"*5\r\n" + NIL, b"-ERR\r\n", id="error as field"),
        pytest.param(FIRST + b"*5\r\n" + NIL, b":1\r\n", id="number as field"),
        pytest.param(FIRST + b"*5\r\n" + NIL, b"*1\r\n$-1\r\n", id="array as field"),
        pytest.param(FIRST + b"*5\r\n" + NIL, b"$-2\r\n", id="negative length"),
        pytest.param(FIRST + b"*5\r\n" + NIL, b"$--1\r\n", id="two signs"),
        pytest.param(FIRST + b"*5\r\n" + NIL, b"$99999999999\r\n", id="text too long"),
        pytest.param(FIRST + b"*5\r\n", b"$1\nx\r\n", id="bare newline"),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_unusual_replies(good: bytes, bad: bytes, bytewise: bool) -> None:
    target, _ = asked()
    place = good.count(b"*") - (good.count(NIL) % 5 != 0 or good.endswith(b"*5\r\n"))
    keys = target.entity_keys(0) + target.entity_keys(1)
    pieces = [bytes([byte]) for byte in good + bad] if bytewise else [good + bad]
    with pytest.raises(UnusualReply) as caught:
        for piece in pieces:
            assert target.feed(piece) is False
    assert bad.startswith(caught.value.rest) if bytewise else caught.value.rest == bad
    assert caught.value.key == keys[place]


def test_an_error_that_is_cut_off_is_unusual_at_once() -> None:
    target, _ = asked()
    with pytest.raises(UnusualReply) as caught:
        target.feed(b"-LOAD")
    assert caught.value.rest == b"-LOAD"


@pytest.mark.parametrize("extra", [b"x", b"\r\n", b"*5\r\n", LOADING])
def test_more_than_was_asked_for(extra: bytes) -> None:
    target, replies = asked()
    with pytest.raises(UnusualReply) as caught:
        target.feed(replies + extra)
    assert caught.value.rest == extra
    later, _ = asked()
    assert later.feed(replies) is True
    with pytest.raises(UnusualReply):
        later.feed(extra)


def test_a_reply_that_nobody_asked_for() -> None:
    with pytest.raises(UnusualReply):
        batch().feed(b"*2\r\n")
    early = batch()
    early.commands(1)
    with pytest.raises(UnusualReply) as caught:
        early.feed(FIRST + FIRST)
    assert caught.value.rest == FIRST


# --- rewinding, and other stores -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_rewind(share: float) -> None:
    """After a lost connection the whole batch is asked for again; nothing of the first answer stays."""
    target, replies = asked()
    other = {key: dict.fromkeys(fields, b"\x20\x63") for key, fields in HASHES.items()}
    wrong = answer(commands_of(batch()), other)
    target.feed(wrong[: int(len(wrong) * share)])
    target.rewind()
    assert commands_of(target) == commands_of(batch())
    assert answers(feed(target, [replies])) == WHOLE


def test_rewind_in_the_middle_of_the_commands() -> None:
    target = batch()
    target.feed(answer(target.commands(1) or b"", HASHES))
    target.rewind()
    assert answers(feed(target, [answer(commands_of(target), HASHES)])) == WHOLE


def test_rewind_forgets_values() -> None:
    target, replies = asked()
    target.feed(replies)
    target.rewind()
    assert _core.python_columns(target)["x"] == [None] * 5
    assert _core.statuses(target)["rate"] == ["NOT_FOUND"] * 5


def test_put() -> None:
    """What a store puts by hand gives the same answer as what Redis sends."""
    target = batch()
    for index, group in enumerate(target.groups):
        for entity, key in enumerate(target.entity_keys(index)):
            stored = HASHES.get(key + b"p", {})
            for field, name in enumerate(group.fields):
                if name in stored:
                    target.put(index, entity, field, b"overwritten")
                    target.put(index, entity, field, stored[name])
    assert answers(target) == WHOLE


@pytest.mark.parametrize("place", [(3, 0, 0), (-1, 0, 0), (0, 3, 0), (0, -1, 0), (0, 0, 5), (0, 0, -1), (2, 1, 0)])
def test_put_outside(place: tuple[int, int, int]) -> None:
    with pytest.raises(IndexError):
        batch().put(*place, b"")


def test_put_takes_bytes() -> None:
    for value in (None, "text", bytearray(b"x")):
        with pytest.raises(TypeError):
            batch().put(0, 0, 0, value)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        batch().feed(None)  # type: ignore[arg-type]


def test_computed_columns_have_a_value_per_row() -> None:
    target = batch()
    with pytest.raises(ValueError, match="ratio: 2 values for 5 rows"):
        target.set_computed("ratio", [b"", b""])
    target.set_computed("ratio", [b""] * 5)
    assert target.computed == {"ratio": [b""] * 5}


# --- bad keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value_type", "value", "reason"),
    [
        (INT32, 2**31, "2147483648 is out of the range of INT32"),
        (INT32, -(2**31) - 1, "out of the range of INT32"),
        (INT64, 2**63, "9223372036854775808 is out of the range of INT64"),
        (INT64, -(2**63) - 1, "out of the range of INT64"),
        (INT64, 1e300, "out of the range of INT64"),
        (INT64, 7.5, "7.5 is not an integer"),
        (INT64, np.float32(7.5), "7.5"),
        (INT64, Decimal("7.5"), "7.5"),
        (INT64, "x7", "INT64 expected"),
        (INT64, "7.0", "INT64 expected"),
        (INT64, b"7", "INT64 expected, got bytes"),
        (INT64, float("inf"), "not an integer"),
        (INT64, float("nan"), "null"),
        (INT64, None, "null"),
        (INT64, [7], "INT64 expected"),
        (STRING, None, "null"),
        (STRING, b"C1", "STRING expected, got bytes"),
        (STRING, ["C1"], "STRING expected, got list"),
        (STRING, {"a": 1}, "STRING expected, got dict"),
        (STRING, "\ud800", "surrogate"),
        (int(ValueType.BYTES), "text", "BYTES expected, got str"),
        (int(ValueType.UNIX_TIMESTAMP), "noon", "UNIX_TIMESTAMP expected"),
        (int(ValueType.UNIX_TIMESTAMP), 2**63, "out of the range"),
    ],
)
def test_values_that_cannot_be_keys(value_type: int, value: Any, reason: str) -> None:
    good: Any = {STRING: "a", int(ValueType.BYTES): b"a"}.get(value_type, 1)
    group = KeyGroup(["k"], ["k"], [value_type], [StoredView("v", ["f"], 0)], "p")
    plan = ReadPlan([group], [], join_keys={"k": value_type}, required={})
    with pytest.raises(EntityError, match=reason) as caught:
        Batch(plan, {"k": [good, good, value]}, 3)
    assert (caught.value.join_key, caught.value.row) == ("k", 2)
    assert str(caught.value).startswith("entity 'k', row 2: ")


@pytest.mark.parametrize("version", [0, 1])
def test_old_key_versions_have_four_bytes_for_integers(version: int) -> None:
    group = KeyGroup(["k"], ["k"], [INT64], [StoredView("v", ["f"], 0)], "p", version)
    plan = ReadPlan([group], [], join_keys={"k": INT64}, required={})
    with pytest.raises(EntityError, match=r"'k', row 1: .*4 bytes") as caught:
        Batch(plan, {"k": [1, 2**40]}, 2)
    assert (caught.value.join_key, caught.value.row) == ("k", 1)


def test_a_key_column_that_is_missing() -> None:
    with pytest.raises(EntityError, match="'acc_id'") as caught:
        Batch(PLAN, {"customer_id": ["C1"]}, 1)
    assert caught.value.join_key == "acc_id"


# --- the commonest requests ------------------------------------------------------------------------------------------

VALUES = st.sampled_from(["C1", "C2", "", 7, 8, "9", 7.5, None, b"x", True])
ROWS = st.lists(
    st.fixed_dictionaries({"customer_id": VALUES, "acc_id": VALUES})
    | st.dictionaries(st.sampled_from(["customer_id", "acc_id", "other"]), VALUES),
    max_size=4,
)


def outcome(make: Callable[[], Batch | None]) -> Any:
    try:
        found = make()
    except EntityError as exc:
        return str(exc)
    return found and (found.n_rows, found.entity_columns, commands_of(found), found.request_data)


@given(ROWS)
def test_the_short_way_leads_to_the_same_batch(rows: list[dict[str, Any]]) -> None:
    plain = outcome(lambda: plain_batch(PLAN, rows))
    is_plain = bool(rows) and all(row.keys() == {"customer_id", "acc_id"} for row in rows)
    assert (plain is not None) == is_plain
    if is_plain:
        assert plain == outcome(lambda: Batch(PLAN, columns_of_rows(rows), len(rows)))


@given(st.lists(st.dictionaries(st.sampled_from(["acc_id", "amount", "customer_id"]), VALUES, min_size=1), max_size=3))
def test_the_short_way_with_request_data(rows: list[dict[str, Any]]) -> None:
    """A column may be a join key and request data; one that is a join key which is not required is for the long way."""
    required = {"acc_id": ["c"]}
    plan = ReadPlan([], [], join_keys=PLAN.join_keys, required=required, request_data=["amount", "acc_id"])
    plain = outcome(lambda: plain_batch(plan, rows))
    is_plain = bool(rows) and all(row.keys() == {"acc_id", "amount"} for row in rows)
    assert (plain is not None) == is_plain
    if is_plain:
        columns = columns_of_rows(rows)
        keys = {"acc_id": columns["acc_id"]}
        given_data = {name: columns[name] for name in rows[0]}
        assert plain == outcome(lambda: Batch(plan, keys, len(rows), given_data))


@pytest.mark.parametrize(
    "rows",
    [
        None,
        [],
        (),
        {"customer_id": ["C1"], "acc_id": [1]},
        ({"customer_id": "C1", "acc_id": 1},),
        [OrderedDict(customer_id="C1", acc_id=1)],
        [{"customer_id": "C1", "acc_id": 1}, None],
        [{"customer_id": "C1", "acc_id": 1}, {"customer_id": "C1", "other": 1}],
        [{"customer_id": "C1"}],
        [{"customer_id": "C1", "acc_id": 1, "other": 2}],
        [{1: 2, 3: 4}],
    ],
)
def test_other_requests_take_the_long_way(rows: Any) -> None:
    assert plain_batch(PLAN, rows) is None
    assert plain_batch(ReadPlan([CONSTANT], [], join_keys={}, required={}), rows) is None


def test_the_same_items() -> None:
    a, b = "view:" + "a" * 30, "view:" + "b" * 30
    assert same_items([a, b], (a, b))
    assert same_items([], ())
    for other in ([b, a], [a], [a, b, a], (a, b), iter([a, b]), None, [a, "".join(list(b))]):
        assert not same_items(other, (a, b))


def test_big_batches_use_memory_again_but_do_not_share_it(rand: Rand) -> None:
    requests = [typical(rand, 400, n_views=2) for _ in range(3)]  # cells and replies of more than 64 KB each
    expected = [reference.to_dict({JOIN_KEY: request.entities}, request.columns) for request in requests]
    held: list[tuple[Batch, dict[str, list[Any]]]] = []
    for _ in range(30):
        number = rand.randrange(3)
        held.append((requests[number].filled(), expected[number]))
        if len(held) > rand.randrange(8):
            del held[rand.randrange(len(held))]
        for batch, columns in held:
            assert _core.python_columns(batch) == columns


# --- columns_of_rows -------------------------------------------------------------------------------------------------


def test_rows_to_columns() -> None:
    assert columns_of_rows([]) == {}
    assert columns_of_rows([{}]) == {}
    assert columns_of_rows([{"a": 1, "b": 2}, {"b": 4, "a": 3}]) == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"a": 1}, {"b": 2}], r"row 1: .*missing \['a'\], unexpected \['b'\]"),
        ([{"a": 1}, {"a": 1}, {}], r"row 2: .*missing \['a'\]"),
        ([{"a": 1}, {"a": 2, "b": 3}], r"row 1: .*unexpected \['b'\]"),
        ([{}, {"b": 3}], r"row 1: .*unexpected \['b'\]"),
        ([{"a": 1}, None], "row 1: a dict expected, got NoneType"),
        ([3], "row 0: a dict expected, got int"),
        (["customer_id"], "row 0: a dict expected, got str"),
    ],
)
def test_rows_that_differ(rows: list[Any], text: str) -> None:
    with pytest.raises(EntityError, match=text):
        columns_of_rows(rows)
