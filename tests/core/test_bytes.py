"""Timestamps and text: what the bottom of the core does, seen through its public functions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastserve import _core
from fastserve.errors import DecodeError
from tests import reference
from tests.conftest import Rand
from tests.core.strategies import DELIMITED, FIXED64, VARINT, varint, wire_field
from tests.goldens import load
from tests.hostile import mutated

FIRST_SECOND, LAST_SECOND = -62135596800, 253402300799
RECORDED = [
    (field["decoded"]["seconds"], field["decoded"]["nanos"], bytes.fromhex(field["value_hex"]))
    for key in load("bank/redis_dump")["keys"]
    for field in key["fields"]
    if field["meaning"].startswith("_ts:")
]

seconds = st.integers(FIRST_SECOND, LAST_SECOND)


# --- timestamps ------------------------------------------------------------------------------------------------------


def test_recorded_timestamps() -> None:
    for at, nanos, data in RECORDED:
        assert _core.encode_timestamp(at, nanos) == data
        assert _core.decode_timestamp(data) == at * 1_000_000 + nanos // 1000


@given(seconds, st.integers(0, 999_999))
@example(0, 0)
@example(-1, 999_999)
def test_timestamps_as_the_oracle(at: int, micros: int) -> None:
    data = _core.encode_timestamp(at, micros * 1000)
    assert data == reference.encode_timestamp(at, micros * 1000)
    assert _core.decode_timestamp(data) == reference.decode_timestamp(data) == at * 1_000_000 + micros


@given(seconds, st.integers(0, 999_999_999))
def test_digits_below_a_microsecond_are_dropped(at: int, nanos: int) -> None:
    assert _core.decode_timestamp(reference.encode_timestamp(at, nanos)) == at * 1_000_000 + nanos // 1000
    assert _core.encode_timestamp(at, nanos) == reference.encode_timestamp(at, nanos // 1000 * 1000)


@pytest.mark.parametrize(
    ("data", "micros"),
    [
        (b"", 0),
        (wire_field(2, VARINT, varint(5000)) + wire_field(1, VARINT, b"\x01"), 1_000_005),  # any order
        (wire_field(1, VARINT, b"\x01") + wire_field(1, VARINT, b"\x02"), 2_000_000),  # the last one counts
        (wire_field(3, DELIMITED, b"abc") + wire_field(1, VARINT, b"\x01"), 1_000_000),
        (wire_field(9, FIXED64, bytes(8)), 0),
        (wire_field(1, VARINT, varint(1, padding=9)), 1_000_000),
    ],
)
def test_forms_of_timestamps(data: bytes, micros: int) -> None:
    assert reference.decode_timestamp(data) == micros
    assert _core.decode_timestamp(data) == micros


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",
        b"\x08\x80",
        b"\x08" + b"\xff" * 11,
        b"\x00\x00",
        b"\x1a\x05a",
        b"\x88\x80\x80\x80\x80\x00\x01",  # the tag takes more than 5 bytes
        b"\x88\x80\x80\x80\x10\x01",  # and more than 32 bits
        wire_field(1, VARINT, varint(LAST_SECOND + 1)),
        wire_field(1, VARINT, varint(FIRST_SECOND - 1)),
        wire_field(2, VARINT, varint(10**9)),
        wire_field(2, VARINT, varint(-1)),
    ],
    ids=bytes.hex,
)
def test_refused_timestamps(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        _core.decode_timestamp(data)
    assert 0 <= caught.value.offset <= len(data)


@pytest.mark.parametrize("at", [LAST_SECOND + 1, FIRST_SECOND - 1, 2**62, -(2**63)])
def test_timestamps_outside_the_calendar_are_not_written(at: int) -> None:
    with pytest.raises(ValueError):
        _core.encode_timestamp(at)


@pytest.mark.parametrize("nanos", [-1, 10**9, 2**62])
def test_nanoseconds_outside_a_second_are_not_written(nanos: int) -> None:
    with pytest.raises(ValueError):
        _core.encode_timestamp(0, nanos)


def test_hostile_timestamps(rand: Rand) -> None:
    samples = sorted({data for _, _, data in RECORDED})
    for _ in range(10_000):
        data = mutated(rand, samples)
        try:
            decoded = _core.decode_timestamp(data)
        except DecodeError as error:
            assert 0 <= error.offset <= len(data)
        else:
            assert decoded == reference.decode_timestamp(data), data.hex()


# --- text as JSON ----------------------------------------------------------------------------------------------------


@given(st.text())
@example('\0\x1f"\\/\x7f\u2028\U0010ffff')
@example("".join(map(chr, range(256))))
def test_json_text(text: str) -> None:
    written = _core.value_to_json(_core.encode_value(text, 2)).decode()
    assert json.loads(written) == text
    assert written == json.dumps(text, ensure_ascii=False)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 4096, 100_000])
@pytest.mark.parametrize("letter", ["a", '"', "\n", "\x01", "é", "🐎"])
def test_long_json_text(size: int, letter: str) -> None:
    text = letter * size
    assert json.loads(_core.value_to_json(_core.encode_value(text, 2))) == text


SHORT_DECIMALS = st.builds(
    lambda digits, places: digits / 10**places, st.integers(-(10**16), 10**16), st.integers(0, 8)
)


@given(st.floats() | st.floats(width=32) | SHORT_DECIMALS)
def test_json_numbers(number: float) -> None:
    written = _core.value_to_json(reference.Value(double_val=number).SerializeToString())
    expected: Any = reference.value_to_json(reference.Value(double_val=number))
    assert written.decode() == json.dumps(expected)


@given(st.integers(-(2**63), 2**63 - 1))
@example(-(2**63))
@example(2**63 - 1)
def test_json_integers(number: int) -> None:
    assert _core.value_to_json(_core.encode_value(number, 4)) == str(number).encode()


@given(st.binary(max_size=100))
def test_json_base64(data: bytes) -> None:
    stored = reference.Value(bytes_val=data).SerializeToString()
    assert json.loads(_core.value_to_json(stored)) == reference.decode_json(stored)
