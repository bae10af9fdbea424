"""Hypothesis strategies for stored values: wire bytes, and Python values of each ValueType."""

from __future__ import annotations

import json
import struct
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from tests import reference
from tests.reference import NULL_SECONDS, Message, split_member

# --- wire bytes ------------------------------------------------------------------------------------------------------
#
# Written by hand, not by protobuf, so that everything a writer may do is tried: fields in any order and more than once,
# unknown fields, packed and unpacked numbers, varints that are longer than they need be.

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5

ZONES = ["", "UTC", "Europe/Prague", "America/Los_Angeles", "Asia/Kathmandu", "UTC+05:30", "UTC-03:00"]
FIRST_SECOND, LAST_SECOND = -62135510400, 253402214400  # a day inside the years 1 to 9999, for the zones


def varint(number: int, padding: int = 0) -> bytes:
    """Return a varint, `padding` bytes longer than it need be, but at most 10 bytes; negatives as protobuf has them."""
    number &= 2**64 - 1
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F)
    groups += [0] * min(padding, 10 - len(groups))
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def wire_field(number: int, wire_type: int, payload: bytes) -> bytes:
    """Return a field; a delimited payload gets its length."""
    length = varint(len(payload)) if wire_type == DELIMITED else b""
    return varint(number << 3 | wire_type) + length + payload


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
seconds = st.just(NULL_SECONDS) | st.integers(FIRST_SECOND, LAST_SECOND)
decimals = st.decimals(allow_nan=False).map(str)

_TEXTS: dict[str, st.SearchStrategy[str]] = {
    "uuid": st.uuids().map(str),
    "time_uuid": st.uuids(version=1).map(str),
    "decimal": decimals,
    "json": json_values.map(json.dumps) | st.text(),
    "zone": st.sampled_from(ZONES),
}
_INTEGERS: dict[str, st.SearchStrategy[int]] = {
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "bool": st.integers(0, 1),
    "unix_timestamp": seconds,
    "null": st.just(0),
}
_PADDING = st.sampled_from([0, 0, 0, 0, 1, 9])


@st.composite
def wire_messages(draw: st.DrawFn, descriptor: Message, kind: str = "", depth: int = 0) -> bytes:
    """Draw the bytes of a message.

    Elements and map entries may be repeated; all else is given at most once, and of a oneof there is at most one. What
    happens to a second one, which no writer makes, has tests of its own.

    Args:
        descriptor: of the message.
        kind: what its elements stand for, such as "uuid" for the StringList of a uuid_list_val.
        depth: how many messages are around it.
    """
    parts = [draw(_wire_fields(field, kind, depth)) for field in draw(_chosen(list(descriptor.fields), depth))]
    # The protobuf package drops map entries that have unknown fields, against the specification: no judge of those.
    if not descriptor.GetOptions().map_entry and draw(st.integers(0, 5)) == 0:
        parts.insert(draw(st.integers(0, len(parts))), draw(unknown_fields(descriptor)))
    return b"".join(parts)


def _chosen(fields: list[Message], depth: int) -> st.SearchStrategy[list[Message]]:
    """Return a strategy for the fields that a message has, in the order in which they are written."""
    if depth >= 8:
        fields = [field for field in fields if field.message_type is None]
    if not fields:
        return st.just([])
    if fields[0].name == "val":
        return st.lists(st.just(fields[0]), max_size=3)
    if fields[0].containing_oneof is not None:
        return st.lists(st.sampled_from(fields), max_size=1)
    return st.lists(st.sampled_from(fields), unique_by=lambda field: field.number)


@st.composite
def unknown_fields(draw: st.DrawFn, descriptor: Message) -> bytes:
    """Draw a field that the message does not have."""
    number = draw(
        st.sampled_from([9, 10, 30, 31, 49, 127, 2000, 2**29 - 1]).filter(
            lambda n: n not in descriptor.fields_by_number
        )
    )
    wire_type = draw(st.sampled_from([VARINT, FIXED64, DELIMITED, FIXED32]))
    size = {VARINT: 0, FIXED64: 8, FIXED32: 4}.get(wire_type)
    payload = draw(st.binary(max_size=9)) if size is None else draw(st.binary(min_size=size, max_size=size))
    return wire_field(number, wire_type, payload or varint(draw(st.integers(0, 2**64 - 1))) * (wire_type == VARINT))


@st.composite
def _wire_fields(draw: st.DrawFn, field: Message, kind: str, depth: int) -> bytes:
    if field.message_type is not None:
        inner = split_member(field.name)[0] if field.name != "val" else kind
        return wire_field(field.number, DELIMITED, draw(wire_messages(field.message_type, inner, depth + 1)))
    wire_type, payloads = _payloads(field, kind)
    if wire_type != DELIMITED and field.name == "val" and draw(st.booleans()):
        packed = b"".join(draw(st.lists(payloads, max_size=4)))
        return wire_field(field.number, DELIMITED, packed)
    return wire_field(field.number, wire_type, draw(payloads))


def _payloads(field: Message, kind: str) -> tuple[int, st.SearchStrategy[bytes]]:
    """Return the wire type of a field that holds no message, and the payloads that mean something there."""
    name = field.name.removesuffix("_val").removesuffix("_key")
    kind = kind if name in ("val", "key") else "unix_timestamp" if name == "unix_timestamp" else name
    if field.type == field.TYPE_STRING:
        return DELIMITED, _TEXTS.get(kind, st.text()).map(str.encode)
    if field.type == field.TYPE_BYTES:
        return DELIMITED, st.binary(max_size=9)
    if field.type == field.TYPE_DOUBLE:
        return FIXED64, st.floats().map(lambda number: struct.pack("<d", number))
    if field.type == field.TYPE_FLOAT:
        return FIXED32, st.floats(width=32).map(lambda number: struct.pack("<f", number))
    return VARINT, st.builds(varint, _INTEGERS[kind], _PADDING)


stored_values = wire_messages(reference.Value.DESCRIPTOR)
"""Values that make sense to every reader: text is UTF-8, UUIDs and decimals parse, times are in range."""


def stored_members(member: str) -> st.SearchStrategy[bytes]:
    """Return a strategy for the bytes of Values that hold this member, such as `int64_list_val`."""
    return _wire_fields(reference.Value.DESCRIPTOR.fields_by_name[member], "", 0)


# --- Python values ---------------------------------------------------------------------------------------------------

offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
zones: st.SearchStrategy[Any] = st.just(timezone.utc) | st.sampled_from(ZONES[1:5]).map(ZoneInfo) | offsets
any_zone: st.SearchStrategy[Any] = st.none() | zones
datetimes = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=any_zone)

SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "bytes": st.binary(min_size=1),
    "string": st.text(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "float": st.floats(allow_nan=False, width=32),
    "bool": st.booleans(),
    "unix_timestamp": datetimes,
    "json": json_values.filter(lambda value: not isinstance(value, (str, float)) and value is not None),
    "uuid": st.uuids(),
    "time_uuid": st.uuids(version=1),
    "decimal": st.decimals(allow_nan=False),
    "zoned_timestamp": datetimes,
}

_LEAVES = st.one_of(
    st.none(), *(SCALARS[kind] for kind in ["bytes", "string", "int64", "double", "bool", "uuid", "decimal"])
)
_FLAT_LISTS = st.one_of(*(st.lists(SCALARS[kind], min_size=1, max_size=3) for kind in ["string", "int64", "double"]))

maps = st.recursive(
    st.dictionaries(st.text(), _LEAVES | datetimes | _FLAT_LISTS, max_size=3),
    lambda inner: st.dictionaries(st.text(), inner | st.lists(inner, min_size=1, max_size=2) | _LEAVES, max_size=3),
    max_leaves=4,
)
_MAP_KEYS = st.one_of(*(SCALARS[kind] for kind in ["bool", "int64", "double", "uuid", "decimal", "bytes"]), datetimes)
scalar_maps = st.dictionaries(_MAP_KEYS, _LEAVES | _FLAT_LISTS, max_size=4)


def _nested_lists(kind: str) -> st.SearchStrategy[Any]:
    flat = st.lists(SCALARS[kind], max_size=3)
    return st.recursive(flat, lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=5)


nested_lists = st.one_of(*(st.lists(_nested_lists(kind), max_size=3) for kind in ["string", "int64", "double"]))

_WHOLE: dict[str, st.SearchStrategy[Any]] = {
    "map_val": maps,
    "struct_val": maps,
    "map_list_val": st.lists(maps, max_size=3),
    "struct_list_val": st.lists(maps, max_size=3),
    "scalar_map_val": scalar_maps,
    "list_val": nested_lists,
    "set_val": st.lists(_FLAT_LISTS, max_size=3),
}


def python_values(member: str) -> st.SearchStrategy[Any]:
    """Return a strategy for Python values that may be stored in a member of Value, such as `int64_list_val`."""
    if member in _WHOLE:
        return _WHOLE[member]
    kind, shape = split_member(member)
    if shape == "list" and kind in ("double", "float"):
        return st.lists(st.floats(width=32 if kind == "float" else 64), max_size=4)
    if shape == "list":
        return st.lists(SCALARS[kind], max_size=4)
    return st.sets(SCALARS[kind], max_size=4) if shape == "set" else SCALARS[kind]
