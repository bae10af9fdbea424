"""Numbers as text: byte for byte what Python's repr gives."""

from __future__ import annotations

import itertools
import math
import os
import random
import struct
from collections.abc import Iterable

import pytest

from fastserve import _core
from tests.reference import Value

ROUNDS = int(os.environ.get("FASTSERVE_DOUBLES", "40000"))
"""Random numbers of each kind; a million takes half a minute."""


def check(numbers: Iterable[float]) -> None:
    values = [number for number in numbers if math.isfinite(number)]
    data = Value(double_list_val={"val": values}).SerializeToString()
    texts = _core.value_to_json(data).decode()[1:-1].split(",")
    wrong = [(repr(value), text) for value, text in zip(values, texts, strict=True) if repr(value) != text]
    assert wrong == []


def double_of(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def test_any_bits() -> None:
    rand = random.Random(1)
    check(double_of(rand.getrandbits(64)) for _ in range(ROUNDS))


@pytest.mark.parametrize("digits", range(1, 18))
def test_few_digits(digits: int) -> None:
    rand = random.Random(digits)
    check(rand.randrange(10**digits) / 10 ** rand.randrange(20) for _ in range(ROUNDS // 10))


def test_every_exponent_and_its_edges() -> None:
    edges = (0, 1, 2, 3, 2**51, 2**52 - 2, 2**52 - 1)
    check(double_of(exponent << 52 | fraction) for exponent in range(2047) for fraction in edges)


def test_powers_of_ten_and_their_neighbours() -> None:
    powers = [float(f"1e{exponent}") for exponent in range(-323, 309)]
    check(itertools.chain.from_iterable((p, math.nextafter(p, 0), math.nextafter(p, math.inf)) for p in powers))


def test_whole_numbers() -> None:
    rand = random.Random(3)
    check(float(number) for number in (*range(-1000, 1000), *(rand.randrange(2**63) for _ in range(1000)), 2**53 + 2))


def test_halfway_between_two_texts() -> None:
    # Of the shortest texts the closest one; of two that are as close, the one that is even.
    check([9007199254740993.0, 5e-324, 2e-323, 1.7976931348623157e308, 2.2250738585072014e-308, 9.5367431640625e-7])
    check(number * 2.0**-k for number in range(1, 200, 2) for k in range(60))


def test_floats_as_the_doubles_that_they_are() -> None:
    rand = random.Random(2)
    check(struct.unpack("<f", struct.pack("<f", rand.uniform(-1e6, 1e6)))[0] for _ in range(ROUNDS // 10))


def test_zero_keeps_its_sign() -> None:
    check([0.0, -0.0, -1.5, -1e300, -1e-7])
