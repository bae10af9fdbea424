"""Bytes that no writer wrote: mutations of good ones, for the hostile tests and the fuzzer."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

INTERESTING = [0x00, 0x01, 0x02, 0x04, 0x08, 0x0A, 0x12, 0x7F, 0x80, 0x81, 0xFE, 0xFF]
"""Bytes that mean something to the formats: tags, lengths, ends of varints."""


def mutated(rand: Random, samples: Sequence[bytes]) -> bytes:
    """Return one of the samples, changed in one to four places."""
    data = bytearray(rand.choice(samples))
    for _ in range(rand.randint(1, 4)):
        rand.choice(_MUTATIONS)(rand, data, samples)
    return bytes(data)


def _place(rand: Random, data: bytearray) -> int:
    return rand.randint(0, len(data))


def _flip(rand: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    if data:
        data[rand.randrange(len(data))] ^= 1 << rand.randrange(8)


def _replace(rand: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    if data:
        data[rand.randrange(len(data))] = rand.choice(INTERESTING)


def _insert(rand: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    place = _place(rand, data)
    data[place:place] = bytes(
        rand.choice([rand.choice(INTERESTING), rand.randrange(256)]) for _ in range(rand.randint(1, 8))
    )


def _remove(rand: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    place = _place(rand, data)
    del data[place : place + rand.randint(1, 8)]


def _repeat(rand: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    place = _place(rand, data)
    data[place:place] = data[place : place + rand.randint(1, 16)] * rand.randint(1, 3)


def _splice(rand: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    other = rand.choice(samples)
    data[_place(rand, data) :] = other[rand.randint(0, len(other)) :]


def _grow_number(rand: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    if data:
        data[rand.randrange(len(data))] = 0xFF
        place = _place(rand, data)
        data[place:place] = b"\xff" * rand.choice([1, 3, 8])


_MUTATIONS = [_flip, _replace, _insert, _remove, _repeat, _splice, _grow_number]
