"""Run one piece of the core many times and tell by how much the process grew.

    python tests/isolated/leak.py decode --rounds 200000

Prints one line of JSON: {"name": ..., "rounds": ..., "bytes": ..., "blocks": ...}, the growth of resident memory and of
the number of blocks that Python's allocator has handed out, which tells of small objects at once. A process of its own,
so that nothing else that pytest holds is counted. tests/test_isolated.py runs every piece.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from fastserve import _core
from tests import goldens, hostile
from tests.core.requests import typical

WARM_UP = 0.2
"""The part of the rounds that runs before memory is looked at: caches and the allocator's arenas fill."""


def rss() -> int:
    """Return the resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def decode() -> Callable[[int], object]:
    """Every recorded value in turn, to Python."""
    values = goldens.value_bytes()
    return lambda round: _core.decode_value(values[round % len(values)])


def decode_json() -> Callable[[int], object]:
    """Every recorded value in turn, to JSON."""
    values = goldens.value_bytes()
    return lambda round: _core.value_to_json(values[round % len(values)])


def encode() -> Callable[[int], object]:
    """Python values of every type, to bytes."""
    outputs = [output for _, output in goldens.value_outputs() if output["oneof"] not in (None, "null_val")]
    pairs = [(_core.decode_value(data), data) for data in (bytes.fromhex(output["hex"]) for output in outputs)]
    typed = [(value, _member(data)) for value, data in pairs if value is not None]
    return lambda round: _core.encode_value(*typed[round % len(typed)])


def _member(data: bytes) -> int:
    """Return the number of the member that a short recorded value holds."""
    return (data[0] if data[0] < 0x80 else data[0] & 0x7F | data[1] << 7) >> 3


def refuse() -> Callable[[int], object]:
    """Values that are not readable: the ways out that raise."""
    rand, values = Random(1), goldens.value_bytes()
    broken = [hostile.mutated(rand, values) for _ in range(1000)]

    def run(round: int) -> None:
        with contextlib.suppress(ValueError):
            _core.decode_value(broken[round % 1000])
        with contextlib.suppress(ValueError):
            _core.value_to_json(broken[round % 1000])
        with contextlib.suppress(ValueError, TypeError):
            _core.encode_value([1, "x", object()], 14)

    return run


def keys() -> Callable[[int], object]:
    """Entity keys, there and back, and keys that are none."""

    def run(round: int) -> None:
        data = _core.serialize_entity_key(["b", "a"], [round, f"C{round}"], [4, 2])
        _core.deserialize_entity_key(data)
        _core.field_id("view", f"feature_{round}")
        with contextlib.suppress(ValueError):
            _core.deserialize_entity_key(data[:-1])
        with contextlib.suppress(ValueError):
            _core.serialize_entity_key(["a"], [None], [2])

    return run


def answer() -> Callable[[int], object]:
    """Whole requests: keys, commands, replies and every form of the answer. One round in a hundred, they are large."""
    request = typical(Random(1), 5)
    replies = request.replies()

    def run(round: int) -> None:
        if round % 100:
            return
        batch = request.begin()
        batch.commands()
        batch.feed(replies[:1000])
        batch.feed(replies[1000:])
        _core.python_columns(batch, True)
        _core.json_response(batch)
        _core.proto_response(batch)
        _core.statuses(batch)
        batch.rewind()

    return run


def broken_answer() -> Callable[[int], object]:
    """Requests whose replies are broken. One round in twenty."""
    request = typical(Random(1), 3, n_views=1)
    rand, samples = Random(2), [request.replies()]
    replies = [hostile.mutated(rand, samples) for _ in range(500)]

    def run(round: int) -> None:
        if round % 20:
            return
        batch = request.begin()
        batch.commands()
        with contextlib.suppress(ValueError, _core.UnusualReply):
            batch.feed(replies[round // 20 % 500])
            _core.python_columns(batch)
        with contextlib.suppress(ValueError):
            _core.json_response(batch)

    return run


PIECES: dict[str, Callable[[], Callable[[int], object]]] = {
    piece.__name__: piece for piece in (decode, decode_json, encode, refuse, keys, answer, broken_answer)
}


def grown(run: Callable[[int], object], rounds: int) -> dict[str, int]:
    """Return by how much the process is larger after the rounds than after the first of them."""
    first = int(rounds * WARM_UP)
    for round in range(first):
        run(round)
    gc.collect()
    before = rss(), sys.getallocatedblocks()
    for round in range(first, rounds):
        run(round)
    gc.collect()
    return {"bytes": rss() - before[0], "blocks": sys.getallocatedblocks() - before[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(PIECES))
    parser.add_argument("--rounds", type=int, default=200_000)
    options = parser.parse_args()
    result = grown(PIECES[options.name](), options.rounds)
    print(json.dumps({"name": options.name, "rounds": options.rounds, **result}))


if __name__ == "__main__":
    main()
