"""Groups that are read by HGETALL: replies in any order, with fields that nobody asked for, in pieces."""

from __future__ import annotations

import pytest

from fastserve import _core
from fastserve._core import Batch, KeyGroup, ReadPlan, Slot, StoredView, UnusualReply
from tests.conftest import Rand
from tests.core.requests import Request, typical

STRING = 2


def whole(request: Request) -> ReadPlan:
    """The plan of a request, with HGETALL instead of HMGET."""
    groups = [
        KeyGroup(g.join_keys, g.columns, g.value_types, g.views, g.suffix.decode(), g.version, whole_hash=True)
        for g in request.plan.groups
    ]
    plan = request.plan
    return ReadPlan(groups, plan.outputs, join_keys=plan.join_keys, required=plan.required)


def batch_of(request: Request) -> Batch:
    return Batch(whole(request), {"customer_id": request.entities}, len(request.entities))


def reply(pairs: list[tuple[bytes, bytes]]) -> bytes:
    parts = [part for pair in pairs for part in pair]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def replies(request: Request, rand: Rand) -> bytes:
    """What Redis would answer: each hash in an order of its own, with fields of other views."""
    data = b""
    for row in dict(zip(request.entities, request.hashes, strict=True)).values():
        pairs = [(field, value) for field, value in row.items() if value is not None]
        pairs += [(b"_ts:other", b""), (b"abcd", b"x" * 300), (b"", b"")]
        rand.shuffle(pairs)
        data += reply(pairs)
    return data


def test_the_command() -> None:
    group = KeyGroup(["k"], ["k"], [STRING], [StoredView("v", ["a"], 0)], "bank", whole_hash=True)
    plan = ReadPlan([group], [Slot("a", "v:a", STRING, 0, 0, 1)], join_keys={"k": STRING}, required={"k": ["v"]})
    key = _core.serialize_entity_key(["k"], ["x"], [STRING]) + b"bank"
    assert Batch(plan, {"k": ["x"]}, 1).commands() == b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n" % (len(key), key)


@pytest.mark.parametrize("piece", [1, 7, 100, 1 << 20])
def test_answers_equal_those_of_hmget(rand: Rand, piece: int) -> None:
    request = typical(rand, 5)
    batch = batch_of(request)
    assert batch.commands() is not None
    data = replies(request, rand)
    done = [batch.feed(data[at : at + piece]) for at in range(0, len(data), piece)]
    assert done[-1] and not any(done[:-1])
    assert _core.json_response(batch) == _core.json_response(request.filled())
    assert _core.python_columns(batch, True) == _core.python_columns(request.filled(), True)


def test_no_hash() -> None:
    request = typical(Rand(1), 2)
    batch = batch_of(request)
    batch.commands()
    assert batch.feed(b"*0\r\n*0\r\n")
    assert {status for name, column in _core.statuses(batch).items() for status in column if name != "customer_id"} == {
        "NOT_FOUND"
    }


@pytest.mark.parametrize(
    "data",
    [b"-ERR no\r\n", b"*1\r\n$1\r\na\r\n", b"*-1\r\n", b"*2\r\n$-1\r\n$1\r\na\r\n", b"*2\r\n$1\r\na\r\n$-1\r\n",
     b"*2\r\n$1\r\naXX$1\r\nb\r\n", b"*2\r\n:1\r\n$1\r\nb\r\n", b"*2\r\n$1\r\na\r\n$1\r\nbXX", b"*0\r\n*0\r\n"],
)  # fmt: skip
def test_unusual_replies(data: bytes) -> None:
    batch = batch_of(typical(Rand(1), 1))
    batch.commands()
    with pytest.raises(UnusualReply):
        batch.feed(data)


def test_many_fields_are_told_apart(rand: Rand) -> None:
    """Names of four bytes and longer ones, found among names that differ in one byte."""
    features = [f"f{i}" for i in range(300)]
    view = StoredView("v", features, 0)
    group = KeyGroup(["k"], ["k"], [STRING], [view], "bank", whole_hash=True)
    slots = [Slot(name, f"v:{name}", STRING, 0, i, view.event_time) for i, name in enumerate(features)]
    plan = ReadPlan([group], slots, join_keys={"k": STRING}, required={"k": ["v"]})
    batch = Batch(plan, {"k": ["x"]}, 1)
    batch.commands()
    pairs = [(_core.field_id("v", name), _core.encode_value(name, STRING)) for name in features]
    near = [(name[:3] + bytes([name[3] ^ 1]), b"\xff") for name, _ in pairs]
    mixed = pairs + [pair for pair in near if pair[0] not in dict(pairs)] + [(b"_ts:w", b""), (b"_ts:v", b"")]
    rand.shuffle(mixed)
    assert batch.feed(reply(mixed))
    assert _core.python_columns(batch) == {"k": ["x"], **{name: [name] for name in features}}
