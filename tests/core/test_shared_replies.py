"""Replies to several batches that come over one connection, one behind the other: `Batch.feed_from`."""

from __future__ import annotations

import pytest

from fastserve._core import Batch, UnusualReply
from tests.conftest import Rand
from tests.core.test_batch import FIRST, HASHES, WHOLE, answer, answers, asked, batch

ERROR = b"-WRONGTYPE Operation against a key\r\n"


def take(target: Batch, pieces: list[bytes], until: int | None = None) -> bytes:
    """Feed pieces up to the one that completes the replies; return what is left of that one."""
    for piece in pieces:
        end = target.feed_from(b"<" + piece + b">", 1, 1 + len(piece), target.asked if until is None else until)
        if end >= 0:
            return piece[end - 1 :]
    raise AssertionError("more was wanted")


def pieces_of(target: Batch) -> tuple[list[int], list[bytes]]:
    """Hand out the commands one by one; return how far each reaches, and the replies to each."""
    marks, data = [], []
    while (piece := target.commands(1)) is not None:
        marks.append(target.asked)
        data.append(answer(piece, HASHES))
    return marks, data


@pytest.mark.parametrize("extra", [b"", b"x", FIRST, ERROR, b"\r\n"])
def test_what_belongs_to_others_is_left(extra: bytes) -> None:
    target, replies = asked()
    assert take(target, [replies + extra]) == extra
    assert answers(target) == WHOLE
    assert target.refusal is None


def test_cut_at_any_two_places(rand: Rand) -> None:
    _, replies = asked()
    data = replies + FIRST
    for _ in range(300):
        target, _ = asked()
        first, second = sorted(rand.choices(range(len(data)), k=2))
        assert FIRST.startswith(take(target, [data[:first], data[first:second], data[second:]]))
        assert answers(target) == WHOLE


def test_bytearray() -> None:
    target, replies = asked()
    buffer = bytearray(b"old" + replies + b"others")
    assert target.feed_from(buffer, 3, len(buffer), target.asked) == 3 + len(replies)
    buffer[:] = bytes(len(buffer))
    assert answers(target) == WHOLE


def test_commands_in_pieces() -> None:
    """Several pieces of a batch may be under way; others' replies come between theirs."""
    target = batch()
    marks, data = pieces_of(target)
    assert target.unsent == 0
    for mark, replies in zip(marks, data, strict=True):
        assert take(target, [replies + b"*9\r\n"], mark) == b"*9\r\n"
    assert answers(target) == WHOLE


def test_unsent() -> None:
    target = batch()
    count = target.unsent
    assert count == sum(len(target.entity_keys(group)) for group in range(3))
    while target.commands(1) is not None:
        count -= 1
        assert target.unsent == count
    target.rewind()
    assert target.unsent == sum(len(target.entity_keys(group)) for group in range(3))


@pytest.mark.parametrize("bytewise", [False, True])
def test_an_error_is_kept_and_the_rest_goes_on(bytewise: bool) -> None:
    target = batch()
    keys = target.entity_keys(0)
    data = b"".join([FIRST, ERROR, b"-LOADING later\r\n", *pieces_of(target)[1][3:]])
    pieces = [data[i : i + 1] for i in range(len(data))] if bytewise else [data + FIRST]
    assert take(target, pieces) == (b"" if bytewise else FIRST)
    assert target.refusal == (ERROR[1:-2], keys[1])
    target.rewind()
    assert target.refusal is None


@pytest.mark.parametrize("bad", [b"+OK\r\n", b"*4\r\n", b":1\r\n", b"-\n", b"-" + bytes(1 << 16), b"*-1\r\n", b"x"])
def test_garbage(bad: bytes) -> None:
    target, _ = asked()
    with pytest.raises(UnusualReply) as caught:
        target.feed_from(FIRST + bad, 0, len(FIRST + bad), target.asked)
    assert caught.value.key == target.entity_keys(0)[1]


@pytest.mark.parametrize(
    ("start", "size", "until"), [(-1, 1, 1), (2, 1, 1), (0, 9, 1), (0, -2, 1), (0, 1, 99), (0, 1, -1)]
)
def test_places_outside(start: int, size: int, until: int) -> None:
    target, _ = asked()
    with pytest.raises(ValueError, match=" of "):
        target.feed_from(bytearray(4), start, size, until)
