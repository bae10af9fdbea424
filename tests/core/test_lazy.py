"""Batches that make most keys when a store has begun already, and replies that are received where they are to lie."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from fastserve import _core
from fastserve._core import Batch, KeyGroup, ReadPlan, Slot, StoredView, UnusualReply, plain_batch
from fastserve.errors import EntityError
from tests import reference
from tests.conftest import Rand
from tests.core.requests import JOIN_KEY, Request, frame_reply
from tests.core.test_python import feast_vectors, hashes, vectors
from tests.core.vectors import every_form
from tests.goldens import same

N = 150
FIRST = 64
"""Rows that have keys at once."""
KINDS = [hashes, vectors, feast_vectors]
Kind = Callable[[int], tuple[Request, ReadPlan, bytes]]


def batch_of(plan: ReadPlan, entities: list[str], lazy: bool = True) -> Batch:
    return Batch(plan, {JOIN_KEY: entities}, len(entities), None, lazy)


def server(plan: ReadPlan, entities: list[str], replies: bytes) -> Callable[[bytes], bytes]:
    """Return what answers the commands for some of the entities, from the replies to those for all."""
    commands = b"".join(iter(batch_of(plan, entities, lazy=False).commands, None))
    found: dict[bytes, Any] = {}
    for (name, *words), values in zip(reference.parse_replies(commands), reference.parse_replies(replies), strict=True):
        found.update(zip(words, values, strict=True) if name == b"MGET" else [(words[0], values)])

    def answer(commands: bytes) -> bytes:
        asked = reference.parse_replies(commands)
        return b"".join(
            frame_reply([found[key] for key in words] if name == b"MGET" else found[words[0]]) for name, *words in asked
        )

    return answer


def receive(batch: Batch, data: bytes, size: int) -> bool:
    """Feed a batch the way a socket does that receives into it."""
    done = False
    for start in range(0, len(data), size):
        assert not done
        piece = data[start : start + size]
        with memoryview(batch) as room:
            room[: len(piece)] = piece
        done = batch.feed_received(len(piece))
    return done


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [1, 500, 1 << 20])
@pytest.mark.parametrize("size", [7, 5000])
def test_the_same_answer(kind: Kind, limit: int, size: int, rand: Rand) -> None:
    """Some entities are asked for twice; each part of the commands is answered before the next is handed out."""
    request, plan, replies = kind(N)
    answer = server(plan, request.entities, replies)
    entities = request.entities + rand.choices(request.entities, k=30)
    rand.shuffle(entities)
    whole = batch_of(plan, entities, lazy=False)
    whole.feed(answer(b"".join(iter(whole.commands, None))))
    lazy = batch_of(plan, entities)
    while (commands := lazy.commands(limit)) is not None:
        assert receive(lazy, answer(commands), size)
    assert lazy.unsent == 0
    assert whole.unpack_vectors() == lazy.unpack_vectors()
    assert lazy.entity_keys(0) == whole.entity_keys(0)
    assert same(every_form(lazy), every_form(whole))


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_commands_are_about_the_first_rows(kind: Kind) -> None:
    request, plan, _ = kind(N)
    batch = batch_of(plan, request.entities)
    first, others = batch.commands(), batch.commands()
    assert first is not None and others is not None and batch.commands() is None
    assert [entities_of(first), entities_of(others)] == [FIRST, N - FIRST]


def entities_of(commands: bytes) -> int:
    """Return how many entities some commands ask for."""
    return sum(len(words) if name == b"MGET" else 1 for name, *words in reference.parse_replies(commands))


@pytest.mark.parametrize("ask", [
    lambda batch: batch.unsent,
    lambda batch: len(batch.entity_keys(0)),
    lambda batch: len(batch.unpack_vectors()),
])  # fmt: skip
def test_who_asks_for_keys_gets_all(ask: Callable[[Batch], int]) -> None:
    request, plan, _ = vectors(N)
    assert ask(batch_of(plan, request.entities)) == N


def test_put_reaches_every_row() -> None:
    request, plan, _ = hashes(N)
    batch = batch_of(plan, request.entities)
    slot = plan.outputs[0]
    batch.put(0, N - 1, 0, _core.encode_value(7, slot.value_type))
    assert _core.slot_values(batch, slot) == [None] * (N - 1) + [7]


def test_rewind() -> None:
    """A store may lose its connection after the first commands."""
    request, plan, replies = vectors(N)
    answer = server(plan, request.entities, replies)
    batch = batch_of(plan, request.entities)
    batch.commands()
    batch.rewind()
    assert batch.feed(answer(b"".join(iter(batch.commands, None))))
    assert batch.unpack_vectors() == []


def test_first_rows_of_one_entity() -> None:
    """They have one command together, and there are others nevertheless."""
    request, plan, replies = hashes(N)
    answer = server(plan, request.entities, replies)
    entities = request.entities[:1] * FIRST + request.entities
    batch = batch_of(plan, entities)
    while (commands := batch.commands()) is not None:
        assert batch.feed(answer(commands))
    assert len(batch.entity_keys(0)) == N
    whole = batch_of(plan, entities, lazy=False)
    whole.feed(answer(b"".join(iter(whole.commands, None))))
    assert same(every_form(batch), every_form(whole))


def test_a_group_without_join_keys() -> None:
    """All rows are one entity, so there is nothing to be lazy about."""
    group = KeyGroup(["__dummy_id"], [], [], [StoredView("d", ["rate"], 0)], "p")
    plan = ReadPlan([group], [Slot("rate", "d:rate", 2, 0, 0, 1)], join_keys={JOIN_KEY: None}, required={})
    batch = batch_of(plan, ["C1"] * N)
    assert batch.commands() is not None and batch.commands() is None
    assert batch.feed(frame_reply([_core.encode_value("x", 2), None]))
    assert _core.python_columns(batch)["rate"] == ["x"] * N


def test_a_late_row_that_cannot_be_a_key() -> None:
    _, plan, _ = hashes(2)
    entities = [*(f"C{i}" for i in range(FIRST)), "\ud800", "C1"]
    batch = plain_batch(plan, [{JOIN_KEY: entity} for entity in entities], lazy=True)
    assert batch is not None and batch.commands() is not None
    with pytest.raises(EntityError) as caught:
        batch.commands()
    assert (caught.value.join_key, caught.value.row) == (JOIN_KEY, FIRST)
    with pytest.raises(EntityError):
        batch_of(plan, entities, lazy=False)


# --- receiving -------------------------------------------------------------------------------------------------------


def test_nothing_is_taken_while_more_is_being_received() -> None:
    request, plan, replies = hashes(3)
    batch = batch_of(plan, request.entities)
    batch.commands()
    with memoryview(batch) as room:
        assert len(room) >= len(replies) and not room.readonly
        room[: len(replies)] = replies
        with pytest.raises(BufferError):
            batch.feed_received(len(replies))
    assert batch.feed_received(len(replies))


@pytest.mark.parametrize("size", [-1, 1 << 40])
def test_more_than_there_was_room_for(size: int) -> None:
    batch = batch_of(hashes(3)[1], ["C1"])
    batch.commands()
    with memoryview(batch):
        pass
    with pytest.raises(ValueError, match="received"):
        batch.feed_received(size)


@pytest.mark.parametrize("extra", [b"$-1\r\n", b"-ERR x\r\n"])
def test_more_than_was_asked_for(extra: bytes) -> None:
    request, plan, replies = hashes(3)
    batch = batch_of(plan, request.entities)
    batch.commands()
    with pytest.raises(UnusualReply) as caught:
        receive(batch, replies + extra, 1 << 16)
    assert caught.value.rest == extra


def test_large_replies_grow_the_room() -> None:
    """Views of the room before do not outlive it."""
    rand = Random(3)
    request, plan, replies = hashes(N)
    many = [entity + f"-{i}" for i in range(60) for entity in request.entities]
    assert len(replies) * 60 > 1 << 20
    batch = batch_of(plan, many)
    while batch.commands() is not None:
        pass
    assert receive(batch, replies * 60, rand.randrange(10_000, 60_000))
    one = batch_of(plan, request.entities, lazy=False)
    one.commands()
    one.feed(replies)
    expected = _core.python_columns(one)
    del expected[JOIN_KEY]
    assert same({name: column for name, column in _core.python_columns(batch).items() if name != JOIN_KEY},
                {name: column * 60 for name, column in expected.items()})  # fmt: skip
