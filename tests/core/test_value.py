"""The value codec: recorded values, and agreement with the oracle on whatever a writer may write."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve import _core
from fastserve.errors import DecodeError
from tests import goldens, reference, reference_encode
from tests.core import strategies
from tests.core.strategies import DELIMITED, VARINT, stored_values, varint, wire_field
from tests.goldens import evaluate, same

VALUE_CASES = goldens.load("values")["cases"]
OUTPUTS = [pytest.param(output, id=name) for name, output in goldens.value_outputs()]
MEMBERS = [name for name in reference.FIELD_NUMBERS if name != "null_val"]
TEXT_UUID = "550e8400-e29b-41d4-a716-446655440000"
UUID_TYPES = sorted(reference.UUID_TYPES)


def from_json(data: bytes) -> Any:
    """Return what the core's JSON text says."""
    return json.loads(_core.value_to_json(data))


# --- recorded --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
def test_golden_python(output: dict[str, Any]) -> None:
    # A null that was written as such is None for us and 0 for Feast.
    expected = None if output["oneof"] == "null_val" else evaluate(output["to_dict_python"])
    assert same(_core.decode_value(bytes.fromhex(output["hex"])), expected)


@pytest.mark.parametrize("output", OUTPUTS)
def test_golden_json(output: dict[str, Any]) -> None:
    assert same(from_json(bytes.fromhex(output["hex"])), goldens.expected_json(output))


@pytest.mark.parametrize("case", VALUE_CASES, ids=lambda case: case["name"])
def test_golden_encode(case: dict[str, Any]) -> None:
    inputs = [evaluate(text) for text in case["python_inputs"]]
    if case["name"] == "unix_timestamp_nat":  # an error of Feast's; a null for us
        assert _core.decode_value(_core.encode_column(inputs, case["value_type_number"])[0]) is None
    elif "error" in case:
        with pytest.raises((ValueError, TypeError), match="a_column, row 0"):
            _core.encode_column(inputs, case["value_type_number"], "a_column")
    else:
        encoded = _core.encode_column(inputs, case["value_type_number"])
        assert len(encoded) == len(case["outputs"])
        for data, output in zip(encoded, case["outputs"], strict=True):
            assert same_stored(data, bytes.fromhex(output["hex"]), output["oneof"])


# Only a column of nothing but b"" becomes null.
SINGLE = [c for c in VALUE_CASES if len(c["python_inputs"]) == 1 and c["name"] != "bytes_empty"]


@pytest.mark.parametrize("case", SINGLE, ids=lambda case: case["name"])
def test_golden_encode_value(case: dict[str, Any]) -> None:
    value = evaluate(case["python_inputs"][0])
    if "error" in case:
        with pytest.raises((ValueError, TypeError)):
            _core.encode_value(value, case["value_type_number"])
    else:
        data = _core.encode_value(value, case["value_type_number"])
        assert same_stored(data, bytes.fromhex(case["outputs"][0]["hex"]), case["outputs"][0]["oneof"])


def same_stored(left: bytes, right: bytes, member: str | None) -> bool:
    """Whether two stored values are equal; maps and sets have no order, all else must be so byte for byte."""
    if member is None or not ("map" in member or "struct" in member or "set" in member or member == "list_val"):
        return left == right
    parsed = reference.parse_value(left), reference.parse_value(right)
    return parsed[0].WhichOneof("val") == parsed[1].WhichOneof("val") and same(
        reference.value_to_python(parsed[0]), reference.value_to_python(parsed[1])
    )


# --- decoding against the oracle -------------------------------------------------------------------------------------


@given(stored_values)
def test_decode_as_the_oracle(data: bytes) -> None:
    assert same(_core.decode_value(data), reference.decode_value(data))


@given(stored_values)
def test_json_as_the_oracle(data: bytes) -> None:
    assert same(from_json(data), reference.decode_json(data))


@pytest.mark.parametrize("member", MEMBERS)
@settings(max_examples=20)
@given(data=st.data())
def test_every_member_as_the_oracle(member: str, data: st.DataObject) -> None:
    stored = data.draw(strategies.stored_members(member))
    assert same(_core.decode_value(stored), reference.decode_value(stored))
    assert same(from_json(stored), reference.decode_json(stored))


@given(stored_values, st.sampled_from(UUID_TYPES))
def test_values_that_are_no_text_ignore_the_hint(data: bytes, value_type: int) -> None:
    member = reference.parse_value(data).WhichOneof("val") or ""
    if not member.startswith(("string", "json", "list", "set")):
        assert same(_core.decode_value(data, value_type), reference.decode_value(data))


@pytest.mark.parametrize(
    "data",
    [
        wire_field(4, VARINT, b"\x01") + wire_field(2, DELIMITED, b"x"),
        wire_field(2, DELIMITED, b"x") + wire_field(4, VARINT, b"\x01"),
        wire_field(4, VARINT, b"\x01") + wire_field(4, VARINT, b"\x02"),
        wire_field(4, VARINT, b"\x01") + wire_field(19, VARINT, b"\x00"),
        bytes.fromhex("2001" + "72030a0102"),
        bytes.fromhex("72030a0101" + "72030a0102"),  # to protobuf, messages given twice are one: [1, 2]
        bytes.fromhex("72030a0101" + "2001" + "72030a0102"),  # but not when another member came between: [2]
        bytes.fromhex("a201090a070a016112022001" + "a201090a070a016212022002"),
        bytes.fromhex("8203020801" + "8203051203555443"),
        bytes.fromhex("fa02100a0e" + "0a021001" + "0a021002" + "12022001" + "12022002"),
        bytes.fromhex("fa020a0a08" + "0a0410012801" + "1200"),
        bytes.fromhex("a2010a0a08" + "0a0161" + "0a0162" + "1200"),
        bytes.fromhex("820306" + "0801" + "0802" + "1200"),
    ],
    ids=bytes.hex,
)
def test_fields_given_twice_are_refused_or_read_as_protobuf_does(data: bytes) -> None:
    """No writer does that; but a part of the value must not be lost in silence."""
    try:
        decoded, text = _core.decode_value(data), from_json(data)
    except DecodeError:
        return
    assert same(decoded, reference.decode_value(data))
    assert same(text, reference.decode_json(data))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes.fromhex("72020801"), [1]),  # unpacked
        (bytes.fromhex("720608010a020203"), [1, 2, 3]),  # both
        (wire_field(15, DELIMITED, wire_field(1, 1, bytes(8))), [0.0]),
        (wire_field(16, DELIMITED, wire_field(1, 5, bytes(4))), [0.0]),
        (wire_field(17, DELIMITED, wire_field(1, VARINT, b"\x05")), [True]),
        (wire_field(3, VARINT, varint(2**32 + 7)), 7),  # int32 keeps the low half
        (wire_field(3, VARINT, varint(2**31)), -(2**31)),
        (wire_field(7, VARINT, varint(2**40)), True),
        (wire_field(4, VARINT, varint(5, padding=9)), 5),
        (wire_field(9, VARINT, b"\x01") + wire_field(4, VARINT, b"\x05"), 5),  # unknown fields
        (wire_field(2**29 - 1, DELIMITED, b"abc") + wire_field(4, VARINT, b"\x05"), 5),
        (wire_field(11, DELIMITED, b""), []),
        (wire_field(22, DELIMITED, b""), set()),
        (wire_field(47, DELIMITED, wire_field(1, DELIMITED, b"")), {None: None}),
        (wire_field(20, DELIMITED, wire_field(1, DELIMITED, b"")), {"": None}),
    ],
)
def test_forms_that_protobuf_writers_may_choose(data: bytes, expected: Any) -> None:
    assert same(reference.decode_value(data), expected)
    assert same(_core.decode_value(data), expected)


# --- single rules ----------------------------------------------------------------------------------------------------


def test_uuids_that_were_stored_as_text() -> None:
    text = _core.encode_value(TEXT_UUID, 2)
    assert _core.decode_value(text) == TEXT_UUID
    assert _core.decode_value(text, 36) == _core.decode_value(text, 37) == UUID(TEXT_UUID)
    assert _core.decode_value(_core.encode_value([TEXT_UUID], 12), 38) == [UUID(TEXT_UUID)]
    assert _core.decode_value(_core.encode_value({TEXT_UUID}, 23), 40) == {UUID(TEXT_UUID)}
    assert _core.decode_value(b"", 36) is None
    with pytest.raises(DecodeError):
        _core.decode_value(_core.encode_value("no UUID", 2), 36)


def test_days_of_the_calendar() -> None:
    """The ends of all months of 400 years and of some others, at their first and their last second."""
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    years = (*range(1600, 2101), 1, 2, 4, 100, 9996, 9999)
    firsts = [datetime(year, month, 1, tzinfo=timezone.utc) for year in years for month in range(1, 13)]
    moments = [first + timedelta(seconds=shift) for first in firsts for shift in (0, 86399, 86400 * 28 - 1)]
    moments += [first - timedelta(seconds=1) for first in firsts if first.year > 1]
    for moment in moments:
        data = b"\x40" + varint(((moment - epoch) // timedelta(seconds=1)) % 2**64)
        assert _core.decode_value(data) == moment
        assert from_json(data) == reference.decode_json(data)


@pytest.mark.parametrize(
    ("zone", "offset"),
    [
        ("", "+00:00"),
        ("UTC", "+00:00"),
        ("America/Los_Angeles", "-07:00"),
        ("UTC+05:30", "+05:30"),
        ("UTC-03:00", "-03:00"),
        ("+05:30", "+05:30"),
        ("+0530", "+05:30"),
        ("GMT-01:00", "-01:00"),
        ("UTC+05:30:15", "+05:30:15"),
        ("No/Such_Zone", "+00:00"),  # the instant is right, so the value is of use: UTC, as Feast
        ("UTC+99:00", "+00:00"),
        ("../../etc/passwd", "+00:00"),
    ],
)
def test_zones(zone: str, offset: str) -> None:
    body = wire_field(1, VARINT, varint(1782921600)) + wire_field(2, DELIMITED, zone.encode())
    data = wire_field(48, DELIMITED, body)
    moment = _core.decode_value(data)
    assert moment == datetime.fromtimestamp(1782921600, tz=timezone.utc)
    assert moment.isoformat().endswith(offset)
    assert same(from_json(data), reference.decode_json(data))


@pytest.mark.parametrize(
    "text", ["NaN", "[1, NaN]", '"\\ud800"', "{", "", "[" * 10**5, "9" * 5000, '{"a": 1, "a": 2}', " 1 "]
)
def test_json_text(text: str) -> None:
    data = wire_field(32, DELIMITED, text.encode())
    assert same(_core.decode_value(data), reference.decode_value(data))
    assert from_json(data) == text


@pytest.mark.parametrize("key", ["sNaN", "NaN", "1E+3", "-Infinity"])
def test_decimals_as_keys_and_set_elements(key: str) -> None:
    for data in [
        wire_field(46, DELIMITED, wire_field(1, DELIMITED, key.encode())),
        wire_field(47, DELIMITED, wire_field(1, DELIMITED, wire_field(1, DELIMITED, wire_field(10, 2, key.encode())))),
    ]:
        # A signalling NaN has no hash: it cannot be in a set, nor a key.
        if key == "sNaN":
            with pytest.raises(DecodeError):
                _core.decode_value(data)
        else:
            assert same(_core.decode_value(data), reference.decode_value(data))


@pytest.mark.parametrize("number", [0.1, 1e300, -0.0, 5e-324, 1e16, 123456789012345680.0, 2.5, 1e-7])
def test_json_doubles_are_as_short_as_they_can_be(number: float) -> None:
    assert _core.value_to_json(_core.encode_value(number, 5)).decode() == repr(number)


def test_json_text_is_utf8_and_compact() -> None:
    value = _core.encode_value({"ž": ["a", '"\\\n\x01\x7f€🐎']}, 20)
    assert _core.value_to_json(value).decode() == '{"ž":["a","\\"\\\\\\n\\u0001\x7f€🐎"]}'


@pytest.mark.parametrize("seconds", [-62135596801, 253402300800, 2**62])
def test_times_outside_the_calendar(seconds: int) -> None:
    data = wire_field(8, VARINT, varint(seconds))
    with pytest.raises(DecodeError):
        _core.decode_value(data)
    assert from_json(data) == seconds


def test_only_bytes_are_taken() -> None:
    for wrong in ["text", None, bytearray(b""), memoryview(b"")]:
        with pytest.raises(TypeError):
            _core.decode_value(wrong)  # type: ignore[arg-type]


def test_entries_of_maps_keep_their_order() -> None:
    one, other = _core.encode_column([{"b": 1, "a": 2}, {"a": 2, "b": 1}], 20)
    assert one != other
    assert list(_core.decode_value(one)) == ["b", "a"]


# --- encoding against the oracle -------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", MEMBERS)
@settings(max_examples=25)
@given(data=st.data())
def test_encode_as_the_oracle(member: str, data: st.DataObject) -> None:
    value_type = reference.FIELD_NUMBERS[member]
    values = data.draw(st.lists(st.none() | strategies.python_values(member), max_size=4))
    column = _core.encode_column(values, value_type, "a_column")
    for stored, wanted in zip(column, reference_encode.encode_column(values, value_type), strict=True):
        assert same_stored(stored, wanted, member)
        if member != "list_val":  # an empty inner list is read as None, which says no more what it was a list of
            again = _core.encode_value(_core.decode_value(stored), value_type)
            assert same(reference.decode_value(again), reference.decode_value(stored))


@pytest.mark.parametrize(
    ("values", "value_type", "expected"),
    [
        ([b"x", b""], 1, ["0a0178", "0a00"]),
        ([None, np.nan, pd.NaT, pd.NA], 2, ["", "", "", ""]),
        ([5, None, 5.5, True], 2, ["120135", "", "1203352e35", "120454727565"]),
        (
            ["12", 3.9, True, Decimal("4.5"), np.int8(5), -3.9],
            4,
            ["200c", "2003", "2001", "2004", "2005", varint(32).hex() + varint(-3).hex()],
        ),
        ([pd.Timestamp("2026-01-01T12:34:56.789Z")], 4, ["20f0d3d9ca06"]),
        (
            [Decimal("0.5"), 1, np.float64(1.5), np.int64(2)],
            5,
            ["29000000000000e03f", "29000000000000f03f", "29000000000000f83f", "290000000000000040"],
        ),
        (["1.5", Decimal("0.5"), np.float32(0.25)], 6, ["350000c03f", "350000003f", "350000803e"]),
        ([True, np.bool_(False), 0, 1], 7, ["3801", "3800", "3800", "3801"]),
        (
            [None, 7, "7", np.datetime64("1970-01-01T00:00:07.9"), pd.Timestamp("1970-01-01T00:00:07.9")],
            8,
            ["", "4007", "4007", "4007", "4007"],
        ),
        ([datetime(1969, 12, 31, 23, 59, 58, 500000)], 8, ["40ffffffffffffffffff01"]),
        ([datetime(9999, 12, 31, 23, 59, 59, 999999)], 8, ["40" + varint(253402300799).hex()]),
        ([np.array([1, 2]), (3,), b"[4, 5]", []], 14, ["72040a020102", "72030a0103", "72040a020405", "7200"]),
        ([np.str_("a"), "b"], 2, ["120161", "120162"]),
        ([np.bytes_(b"a")], 1, ["0a0161"]),
        ([[np.str_("a")]], 12, ["62030a0161"]),
        ([np.array(["a", None], dtype=object)], 12, ["62050a01610a00"]),
        ([[None, datetime(1970, 1, 1)]], 18, ["92010d0a0b8080808080808080800100"]),
        ([[None]], 17, ["8a01030a0100"]),
        ([[None, 1.5]], 16, ["82010a0a08000000000000c03f"]),
        ([(1, 1, 1)], 25, ["ca01030a0101"]),
        ([[1, 2], "x", {}], 2, ["", "120178", ""]),  # array-like cells in a scalar column are null
        (['{"a": 1}', "[1]", None], 32, ["8202087b2261223a20317d", "8202035b315d", ""]),
        ([object()], 0, None),
    ],
)
def test_column_rules(values: list[Any], value_type: int, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises((TypeError, ValueError)):
            _core.encode_column(values, value_type)
    else:
        assert [data.hex() for data in reference_encode.encode_column(values, value_type)] == expected
        assert [data.hex() for data in _core.encode_column(values, value_type)] == expected


@pytest.mark.parametrize(
    ("values", "value_type", "row"),
    [
        ([1, "abc"], 4, 1),
        ([1, 2**31], 3, 1),
        ([1, -(2**63) - 1], 4, 1),
        ([float("inf")], 4, 0),
        ([b"x"], 5, 0),
        ([1.5, "x"], 5, 1),
        (["x"], 6, 0),
        (["x"], 7, 0),
        (["x"], 1, 0),
        ([None, "x"], 8, 1),
        (["2026-01-01"], 48, 0),
        ([[1], ["x"]], 14, 1),
        ([["x"]], 13, 0),
        ([[2**31]], 13, 0),
        ([["x"]], 15, 0),
        ([[1]], 12, 0),
        ([["x"]], 11, 0),
        ([["x"]], 17, 0),
        ([5], 20, 0),
        (["[1]"], 20, 0),
        ([{"a": object()}], 20, 0),
        ([{"a": 1}], 47, 0),
        ([{("a",): 1}], 47, 0),
        (["{", "{}"], 32, 0),
        ([["{"]], 33, 0),
        ([object()], 32, 0),
        ([object()], 0, 0),
        ([[1, "a"]], 0, 0),
        (["\ud800"], 2, 0),
        ([5], 12, 0),
        (["a"], 12, 0),
        ([10**400], 5, 0),
        ([10**400], 6, 0),
    ],
)
def test_refused_values_name_column_and_row(values: list[Any], value_type: int, row: int) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"a_column, row {row}\b"):
        _core.encode_column(values, value_type, "a_column")
    with pytest.raises((TypeError, ValueError)):
        _core.encode_value(values[row], value_type)


@pytest.mark.parametrize("value_type", [9, 10, 19, 49, 200])
def test_unknown_value_types(value_type: int) -> None:
    with pytest.raises(ValueError, match=str(value_type)):
        _core.encode_value(1, value_type)


def test_map_keys_that_have_the_same_text() -> None:
    """In JSON the last one counts, as in a dict; what readers make of equal names in one object is up to them."""
    keys = [{"int64_key": 0}, {"bool_key": False}, {"decimal_key": "0"}, {"unix_timestamp_key": 0}, {"double_key": 0.0}]
    scalar_map = reference.message_class("feast.types.ScalarMap")()
    for number, key in enumerate(keys):
        scalar_map.val.add(key=key, value={"int64_val": number})
    data = reference.Value(scalar_map_val=scalar_map).SerializeToString()
    assert _core.value_to_json(data) == b'{"0":3,"false":1,"0.0":4}'
    assert reference.value_to_json(reference.parse_value(data)) == {"0": 3, "false": 1, "0.0": 4}
    assert _core.decode_value(data) == {0: 4, datetime(1970, 1, 1, tzinfo=timezone.utc): 3}


@pytest.mark.parametrize(
    ("value", "member"),
    [
        (np.uint32(1), "int64_val"),
        (np.uint8(1), "int32_val"),
        (np.float32(1), "float_val"),
        (np.bool_(True), "bool_val"),
        (np.str_("a"), "string_val"),
        (np.bytes_(b"a"), "bytes_val"),
        (pd.Timestamp("2026-01-01"), "unix_timestamp_val"),
        ({1}, "int64_set_val"),
        ({"a"}, "string_set_val"),
        ({}, None),
        ({1: 2}, "scalar_map_val"),
        ({"a": 1}, "map_val"),
        ([{"a": 1}], "map_list_val"),
        ([UUID(TEXT_UUID)], "uuid_list_val"),
        ([Decimal(1)], "decimal_list_val"),
        ([True], "bool_list_val"),
        (np.array([1, 2], dtype=np.int32), "int32_list_val"),
        (np.array([1.5], dtype=np.float32), "float_list_val"),
        ([timezone.utc], None),
        (timedelta(1), None),
    ],
)
def test_inferred_types(value: Any, member: str | None) -> None:
    if member is None and value != {}:
        with pytest.raises((TypeError, ValueError)):
            _core.encode_value(value)
    elif member is not None:
        assert reference.parse_value(reference_encode.encode_value(value)).WhichOneof("val") == member
        assert reference.parse_value(_core.encode_value(value)).WhichOneof("val") == member


@pytest.mark.parametrize("inner", [{5}, frozenset({5})])
def test_sets_inside_lists_are_stored_as_lists(inner: Any) -> None:
    for value_type in (42, 43):
        assert _core.encode_value([inner, set()], value_type) == _core.encode_value([[5], []], value_type)
