"""The slow, readable version of packed vectors: the twin of `docs/vector-format.md` and the oracle of the core's.

layouts     Views, fingerprint
vectors     Row, pack, unpack
merging     merge
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.reference import NULL_SECONDS, Message, Unreadable, Value, parse_value

MAGIC, VERSION = 0xF5, 1

Views = Sequence[tuple[str, Sequence[tuple[str, int]]]]
"""The views of a layout: stored name, and name and ValueType of each feature."""

_FIXED = {  # ValueType -> (struct format, member of Value)
    3: ("<i", "int32_val"),
    4: ("<q", "int64_val"),
    5: ("<d", "double_val"),
    6: ("<f", "float_val"),
    7: ("<B", "bool_val"),
    8: ("<q", "unix_timestamp_val"),
}
_READ = {5: "8s", 6: "4s"}  # as bytes: in a Python float a signalling NaN would become a quiet one
_RAW = {1: "bytes_val", 2: "string_val", 30: "bytes_val", 31: "bytes_val"}
_FIRST_MICRO, _LAST_MICRO = -62135596800 * 10**6, 253402300799 * 10**6 + 999999


class Row(NamedTuple):
    """One view's row: event time in microseconds since the epoch, and the serialised Values of the stored features."""

    event_time: int
    values: Mapping[str, bytes]


def fingerprint(views: Views) -> bytes:
    """Return the 8 bytes that tell layouts apart."""
    text = json.dumps([VERSION, views], ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def pack(views: Views, rows: Mapping[str, Row]) -> bytes:
    """Return the vector of these rows; a view that is not in `rows` has none."""
    segments = [_pack_segment(features, rows[name]) if name in rows else b"" for name, features in views]
    first = 12 + 4 * len(views)
    ends = [first + sum(map(len, segments[: i + 1])) for i in range(len(segments))]
    head = struct.pack("<BBH", MAGIC, VERSION, len(views)) + fingerprint(views)
    return head + struct.pack(f"<{len(ends)}I", *ends) + b"".join(segments)


def _is_null(value: Message) -> bool:
    return value.WhichOneof("val") in (None, "null_val") or value.unix_timestamp_val == NULL_SECONDS


def _pack_segment(features: Sequence[tuple[str, int]], row: Row) -> bytes:
    stored = {name: parse_value(row.values[name]) for name, _ in features if name in row.values}
    values = {name: value for name, value in stored.items() if not _is_null(value)}
    fixed, ends, body = b"", b"", b""
    for name, value_type in _widest_first(features):
        form, member = _FIXED[value_type]
        fixed += struct.pack(form, getattr(values[name], member)) if name in values else bytes(struct.calcsize(form))
    for name, value_type in features:
        if value_type not in _FIXED:
            if name in values:
                body += _raw(values[name], value_type, row.values[name])
            ends += struct.pack("<I", len(body))
    bitmaps = _bitmap([n not in values for n, _ in features]) + _bitmap([n not in stored for n, _ in features])
    return struct.pack("<q", row.event_time) + bitmaps + fixed + ends + body


def _widest_first(features: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    fixed = [feature for feature in features if feature[1] in _FIXED]
    return sorted(fixed, key=lambda feature: -struct.calcsize(_FIXED[feature[1]][0]))


def _raw(value: Message, value_type: int, data: bytes) -> bytes:
    if value_type not in _RAW:
        return data
    held = getattr(value, _RAW[value_type])
    return bytes(held.encode() if isinstance(held, str) else held)


def _bitmap(bits: Sequence[bool]) -> bytes:
    return sum(bit << i for i, bit in enumerate(bits)).to_bytes((len(bits) + 7) // 8, "little")


def unpack(views: Views, data: bytes) -> dict[str, Row]:
    """Return the rows in a vector: of each view that has one, the Values of its stored features.

    Raises:
        Unreadable: it is not a vector of these views.
    """
    first = 12 + 4 * len(views)
    if len(data) < first or data[:12] != struct.pack("<BBH", MAGIC, VERSION, len(views)) + fingerprint(views):
        raise Unreadable("not a vector of this layout")
    rows, start = {}, first
    for (name, features), end in zip(views, struct.unpack_from(f"<{len(views)}I", data, 12), strict=True):
        if not start <= end <= len(data):
            raise Unreadable("segments are not in order")
        if end > start:
            rows[name] = _unpack_segment(features, data[start:end])
        start = end
    if start != len(data):
        raise Unreadable("bytes are left over")
    return rows


def _unpack_segment(features: Sequence[tuple[str, int]], data: bytes) -> Row:
    size = (len(features) + 7) // 8
    fixed = _widest_first(features)
    n_ends = len(features) - len(fixed)
    layout = "<q" + f"{size}s{size}s" + "".join(_READ.get(t, _FIXED[t][0][1:]) for _, t in fixed) + f"{n_ends}I"
    body_at = struct.calcsize(layout)
    if len(data) < body_at:
        raise Unreadable("the segment is too short")
    event_time, nulls, absents, *rest = struct.unpack_from(layout, data)
    null, absent = int.from_bytes(nulls, "little"), int.from_bytes(absents, "little")
    if not _FIRST_MICRO <= event_time <= _LAST_MICRO or absent & ~null or null >> len(features):
        raise Unreadable("event time or bitmaps")
    numbers, ends = dict(zip([name for name, _ in fixed], rest, strict=False)), [0, *rest[len(fixed) :]]
    if ends != sorted(ends) or ends[-1] != len(data) - body_at:
        raise Unreadable("ends are not in order")
    texts = {
        name: data[body_at + ends[i] : body_at + ends[i + 1]]
        for i, (name, _) in enumerate(feature for feature in features if feature[1] not in _FIXED)
    }
    values = {}
    for i, (name, value_type) in enumerate(features):
        if not absent >> i & 1:
            is_null = null >> i & 1
            values[name] = b"" if is_null else _value(value_type, numbers.get(name), texts.get(name, b""))
    return Row(event_time, values)


def _value(value_type: int, number: int | bytes | None, text: bytes) -> bytes:
    if isinstance(number, bytes):
        return bytes([0x29 if value_type == 5 else 0x35]) + number
    if value_type in _FIXED:
        member = _FIXED[value_type][1]
        held: object = bool(number) if member == "bool_val" else number
        return bytes(Value(**{member: held}).SerializeToString())
    if value_type not in _RAW:
        return text
    # protobuf would refuse text that is not UTF-8; the core tells when it is read.
    tag = 2 if value_type == 2 else 1
    return bytes([tag << 3 | 2]) + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + _varint(number >> 7)


def merge(views: Views, stored: bytes | None, given: bytes, source: int) -> tuple[bytes, bool]:
    """Return the merged vector, and whether it has to be built from the hash instead.

    Args:
        source: what `given` was made of: 0 a row as it was written, 1 the hash, 2 a hash whose rows are overwritten
            whatever their event time.
    """
    old = {} if stored is None else unpack(views, stored)
    new = unpack(views, given)
    lacking = stored is None and len(views) > 1
    for name, features in views:
        if name not in new:
            continue
        mine, theirs = new[name], old.get(name)
        lacks = len(features) - len(mine.values)
        if theirs is None or mine.event_time > theirs.event_time or source == 2:
            old[name] = mine
        elif mine.event_time == theirs.event_time:
            stored_lacks = len(features) - len(theirs.values)
            if source == 1 and lacks <= stored_lacks:
                old[name] = mine
            lacks = stored_lacks or mine != theirs
        else:
            continue
        lacking = lacking or lacks > 0
    return pack(views, old), lacking and source == 0
