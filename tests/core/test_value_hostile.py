"""Stored bytes that are not a Value: DecodeError, or the value that protobuf reads; nothing else, and never a crash."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st

from fastserve import _core
from fastserve.errors import DecodeError
from tests import goldens, reference
from tests.conftest import Rand
from tests.core.strategies import DELIMITED, VARINT, varint, wire_field
from tests.goldens import same
from tests.hostile import mutated

GOLDEN_VALUES = goldens.value_bytes()


def check_hostile(data: bytes) -> bool:
    """Compare core and oracle on any bytes, in both forms; return whether the core found a value."""
    found = [
        _check(data, _core.decode_value, reference.decode_value),
        _check(data, lambda stored: json.loads(_core.value_to_json(stored)), reference.decode_json),
    ]
    return any(found)


def _check(data: bytes, decode: Callable[[bytes], Any], oracle: Callable[[bytes], Any]) -> bool:
    try:
        decoded = decode(data)
    except DecodeError as error:
        assert 0 <= error.offset <= len(data)
        return False
    if not is_ambiguous(data):
        assert same(decoded, oracle(data)), data.hex()
    return True


def is_ambiguous(data: bytes) -> bool:
    """Whether the protobuf package is no judge: it drops map entries with unknown fields, against the specification."""
    try:
        return any(len(UnknownFieldSet(part)) for part in _maps(reference.parse_value(data)))
    except reference.Unreadable:
        return False


def _maps(message: reference.Message) -> Iterator[reference.Message]:
    if message.DESCRIPTOR.name == "Map":
        yield message
        for value in message.val.values():
            yield from _maps(value)
        return
    for field, held in message.ListFields():
        if field.message_type is not None:
            for part in held if field.name == "val" else [held]:
                yield from _maps(part)


# --- cut off, changed, made up ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", GOLDEN_VALUES, ids=lambda value: value.hex()[:40])
def test_every_truncation(value: bytes) -> None:
    for size in range(len(value) + 1):
        check_hostile(value[:size])


@pytest.mark.parametrize("value", GOLDEN_VALUES, ids=lambda value: value.hex()[:40])
def test_every_byte_replaced(value: bytes) -> None:
    for place in range(min(len(value), 40)):
        for byte in (0x00, 0x01, 0x0A, 0x7F, 0x80, 0xFF):
            check_hostile(value[:place] + bytes([byte]) + value[place + 1 :])


def test_mutations(rand: Rand) -> None:
    found = sum(check_hostile(mutated(rand, GOLDEN_VALUES)) for _ in range(20_000))
    assert found > 1000  # else the mutations are so rough that they test nothing


@given(st.binary(max_size=60))
def test_random_bytes(data: bytes) -> None:
    check_hostile(data)


@given(st.binary(max_size=30), st.sampled_from(sorted(reference.FIELD_NUMBERS.values())))
def test_random_bodies(body: bytes, number: int) -> None:
    check_hostile(wire_field(number, DELIMITED, body))


@given(st.binary(max_size=30), st.integers(0, 50))
def test_random_bytes_with_a_hint(data: bytes, value_type: int) -> None:
    try:
        _core.decode_value(data, value_type)
    except DecodeError as error:
        assert 0 <= error.offset <= len(data)


# --- single attacks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",  # field number 0
        b"\x20",  # no payload
        b"\x20\x80",  # varint cut off
        b"\x20" + b"\xff" * 10 + b"\x01",  # varint of 11 bytes
        b"\x29" + bytes(7),  # double cut off
        b"\x35" + bytes(3),  # float cut off
        b"\x12\x05abcd",  # shorter than announced
        b"\x12" + varint(2**63),
        b"\x12" + varint(2**64 - 1),
        b"\x12\x01\xff",  # not UTF-8
        b"\x12\x03\xed\xa0\x80",  # a surrogate
        b"\x62\x03\x0a\x05a",  # element longer than its list
        b"\x72\x03\x0a\x01\x80",  # packed varint cut off
        b"\x7a\x04\x0a\x02ab",  # packed double cut off
        b"\xa2\x01\x03\x0a\x05\x0a",  # map entry longer than the map
        b"\x48",  # unknown field cut off
        b"\x4b",  # group without an end
        b"\x4c",  # end without a group
        b"\x4e\x00",  # wire type 6
        b"\x4f\x00",  # wire type 7
        b"\xa0\x80\x80\x80\x80\x00\x01",  # the tag takes more than 5 bytes
        b"\xa0\x80\x80\x80\x10\x01",  # and more than 32 bits
        b"\x12\x80\x80\x80\x80\x80\x00",  # so does the length
        b"\x62\x01\x71\x0a\x00",  # a broken list, replaced by bytes
        b"\xff" * 11,
        wire_field(2, DELIMITED, b"\xff") + wire_field(4, VARINT, b"\x01"),
        wire_field(36, DELIMITED, b"no UUID"),
        wire_field(44, DELIMITED, b"no decimal"),
        wire_field(8, VARINT, varint(2**62)),
        wire_field(48, DELIMITED, wire_field(1, VARINT, varint(2**62))),
        wire_field(48, DELIMITED, wire_field(1, VARINT, varint(253402300799)) + wire_field(2, 2, b"Asia/Tokyo")),
        wire_field(48, DELIMITED, wire_field(1, VARINT, varint(-62135596800)) + wire_field(2, 2, b"America/New_York")),
    ],
    ids=bytes.hex,
)
def test_refused(data: bytes) -> None:
    with pytest.raises(reference.Unreadable):
        reference.decode_value(data)
    with pytest.raises(DecodeError) as caught:
        _core.decode_value(data)
    assert 0 <= caught.value.offset <= len(data)


@pytest.mark.parametrize("number", [20, 42, 47])
@pytest.mark.parametrize("depth", [1, 10, 30, 31, 34, 50, 99, 100, 101, 1000, 20_000])
def test_deep_nesting(number: int, depth: int) -> None:
    data = b""
    for _ in range(depth):
        entry = {20: wire_field(2, 2, data), 42: data, 47: wire_field(2, 2, data)}[number]
        data = wire_field(number, DELIMITED, wire_field(1, DELIMITED, entry))
    for decode in (_core.decode_value, _core.value_to_json):
        if depth <= 30:  # what protobuf reads, and so may be stored
            decode(data)
        elif depth > 1000:
            with pytest.raises(DecodeError):
                decode(data)
        else:
            try:
                decode(data)
            except DecodeError as error:
                assert "deep" in str(error)


DEEP_BUT_DROPPED = """
from fastserve import _core, errors
from tests.core.strategies import DELIMITED, VARINT, wire_field
data, number = b"", wire_field(4, VARINT, b"\\x01")
for _ in range(20_000):
    data = wire_field(42, DELIMITED, wire_field(1, DELIMITED, data)) + number
for read in (_core.decode_value, _core.value_to_json):
    try:
        read(data)
    except errors.DecodeError as error:
        assert "deep" in str(error), error
"""


def test_deep_nesting_in_members_that_another_one_replaces() -> None:
    # A stack that overflows would end this process.
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", DEEP_BUT_DROPPED], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_json_that_is_nested_too_deep_for_python_stays_text() -> None:
    text = "[" * 100_000
    assert _core.decode_value(wire_field(32, DELIMITED, text.encode())) == text


@pytest.mark.parametrize(
    "zone",
    [
        "\0",
        "a" * 5000,
        "/etc/passwd",
        "America",
        ".",
        "..",
        "UTC+",
        "UTC+:",
        "UTC+1e9:00",
        "é",
        "UTC+99999999999999999999:00",
    ],
)
def test_zone_names_that_are_no_zones(zone: str) -> None:
    body = wire_field(1, VARINT, b"\x01") + wire_field(2, DELIMITED, zone.encode())
    check_hostile(wire_field(48, DELIMITED, body))


def test_the_offset_tells_the_place() -> None:
    with pytest.raises(DecodeError) as caught:
        _core.decode_value(bytes.fromhex("a2010b0a090a016112042a02ff00"))
    assert 5 <= caught.value.offset <= 14
    with pytest.raises(DecodeError) as caught:
        _core.decode_value(wire_field(2, DELIMITED, b"abc") + wire_field(4, VARINT, b"\x80"))
    assert caught.value.offset in (6, 7)
