"""The slow, readable version of what `fastserve._core` does: the oracle of the tests and the baseline of bench/micro.

Plain Python and the protobuf package only; nothing here imports fastserve. The message classes are built from
`golden/proto_schema.json` in a private descriptor pool, so a mistake in the package's own schema cannot hide here.
Writing values is in `reference_encode.py`.

    entity keys     serialize_entity_key, deserialize_entity_key, entity_key_prefix
    hash fields     murmur3_32, field_id, timestamp_field
    values          parse_value, value_to_python, value_to_json, decode_value, decode_json
    timestamps      encode_timestamp, decode_timestamp, rfc3339
    Redis           hmget, parse_reply, parse_replies
    answers         Feature, Cell, event_times, cells, to_dict, to_json
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.message import DecodeError as ProtobufDecodeError

GOLDEN = Path(__file__).parent / "golden"

NULL_SECONDS = -(2**63)
"""The stored form of a null timestamp."""

BYTES, STRING, INT32, INT64, UNIX_TIMESTAMP = 1, 2, 3, 4, 8
UUID_TYPES = frozenset({36, 37, 38, 39, 40, 41})

Message = Any
"""A dynamic message: mypy knows nothing of its fields."""


class Unreadable(ValueError):
    """The bytes are not what they must be; the core must answer with DecodeError."""


# --- message classes -------------------------------------------------------------------------------------------------

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALAR_TYPES = {
    "bytes": _FIELD.TYPE_BYTES,
    "string": _FIELD.TYPE_STRING,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "double": _FIELD.TYPE_DOUBLE,
    "float": _FIELD.TYPE_FLOAT,
    "bool": _FIELD.TYPE_BOOL,
}


def _build_pool() -> descriptor_pool.DescriptorPool:
    schema = json.loads((GOLDEN / "proto_schema.json").read_text())
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    for package, imports in [("feast.types", []), ("feast.serving", ["feast.types"])]:
        file = descriptor_pb2.FileDescriptorProto(name=package, package=package, syntax="proto3")
        file.dependency.extend([*imports, "google/protobuf/timestamp.proto"])
        for name, numbers in schema["enums"].items():
            if name.startswith(package + ".") and name.count(".") == 2:
                _add_enum(file, name.rpartition(".")[2], numbers)
        for name, message in schema["messages"].items():
            if name.startswith(package + "."):
                _add_message(file, name.removeprefix(package + "."), message["fields"], schema["enums"])
        pool.Add(file)  # type: ignore[no-untyped-call]
    return pool


def _add_enum(file: Message, name: str, numbers: Mapping[str, int]) -> None:
    enum = file.enum_type.add(name=name)
    for label, number in numbers.items():
        enum.value.add(name=f"{name}_{label}", number=number)


def _add_message(file: Message, path: str, fields: Iterable[Mapping[str, Any]], enums: Mapping[str, Any]) -> None:
    parent, _, name = path.rpartition(".")
    siblings = next(m for m in file.message_type if m.name == parent).nested_type if parent else file.message_type
    message = siblings.add(name=name)
    for spec in fields:
        repeated = spec["repeated"] or spec["type"].startswith("map<")
        field = message.field.add(name=spec["name"], number=spec["number"], label=3 if repeated else 1)
        _set_type(field, spec["type"], message, f"{file.package}.{path}", enums)
        if "oneof" in spec:
            _join_oneof(message, field, spec["oneof"])


def _join_oneof(message: Message, field: Message, name: str) -> None:
    if name not in [oneof.name for oneof in message.oneof_decl]:
        message.oneof_decl.add(name=name)
    field.oneof_index = [oneof.name for oneof in message.oneof_decl].index(name)


def _set_type(field: Message, kind: str, message: Message, full_name: str, enums: Mapping[str, Any]) -> None:
    if kind.startswith("map<"):
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{full_name}.{field.name.capitalize()}Entry"
        entry = message.nested_type.add(name=f"{field.name.capitalize()}Entry")
        entry.options.map_entry = True
        for number, part in enumerate(kind[4:-1].split(", "), 1):
            half = entry.field.add(name=["key", "value"][number - 1], number=number, label=1)
            _set_type(half, part, entry, full_name, enums)
    elif kind in _SCALAR_TYPES:
        field.type = _SCALAR_TYPES[kind]
    else:
        field.type, field.type_name = _FIELD.TYPE_ENUM if kind in enums else _FIELD.TYPE_MESSAGE, "." + kind


_POOL = _build_pool()


def message_class(name: str) -> Message:
    """Return the class of the message with this full name, such as `feast.types.Value`."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


Value = message_class("feast.types.Value")
FIELD_NUMBERS: dict[str, int] = {field.name: field.number for field in Value.DESCRIPTOR.fields}


# --- entity keys -----------------------------------------------------------------------------------------------------


def serialize_entity_key(
    join_keys: Sequence[str], values: Sequence[Any], value_types: Sequence[int], version: int = 3
) -> bytes:
    """Return the bytes of an entity key; the values already have the Python type of their value type."""
    if len(set(join_keys)) != len(join_keys):
        raise ValueError("a join key is given twice")
    pairs = sorted(zip(join_keys, zip(value_types, values, strict=True), strict=True))
    parts = [entity_key_prefix(join_keys, version)]
    for _, (value_type, value) in pairs:
        data = _key_value(value, value_type, version)
        parts += [struct.pack("<II", value_type, len(data)), data]
    return b"".join(parts)


def entity_key_prefix(join_keys: Sequence[str], version: int = 3) -> bytes:
    """Return what all keys of these join keys start with."""
    parts = [struct.pack("<I", len(join_keys))] if version >= 3 else []
    for name in sorted(join_keys):
        data = name.encode()
        parts += [struct.pack("<I", STRING), struct.pack("<I", len(data)) if version >= 3 else b"", data]
    return b"".join(parts)


def _key_value(value: Any, value_type: int, version: int) -> bytes:
    try:
        if value_type == STRING:
            return str(value).encode()
        if value_type == BYTES:
            return bytes(value)
        if value_type == INT32 or (value_type == INT64 and version < 2):
            return struct.pack("<i", value)
        if value_type in (INT64, UNIX_TIMESTAMP):
            return struct.pack("<q", value)
    except struct.error as error:
        raise ValueError(str(error)) from None
    raise ValueError(f"value type {value_type} cannot be a key")


def deserialize_entity_key(data: bytes) -> tuple[tuple[str, ...], tuple[int, ...], tuple[Any, ...]]:
    """Return names, value types and values of a version 3 entity key."""
    try:
        (count,), position = struct.unpack_from("<I", data), 4
        names: list[str] = []
        for _ in range(count):
            value_type, name, position = _length_prefixed(data, position)
            if value_type != STRING:
                raise Unreadable(f"a join key name has type {value_type}")
            names.append(name.decode().rstrip("\0"))
        types: list[int] = []
        values: list[Any] = []
        while position < len(data):
            value_type, raw, position = _length_prefixed(data, position)
            types.append(value_type)
            values.append(_parse_key_value(raw, value_type))
    except (struct.error, UnicodeDecodeError) as error:
        raise Unreadable(str(error)) from None
    if len(values) != count:
        raise Unreadable(f"{count} names but {len(values)} values")
    return tuple(names), tuple(types), tuple(values)


def _length_prefixed(data: bytes, position: int) -> tuple[int, bytes, int]:
    value_type, length = struct.unpack_from("<II", data, position)
    end = position + 8 + length
    if end > len(data):
        raise Unreadable(f"{length} bytes announced, fewer there")
    return value_type, data[position + 8 : end], end


def _parse_key_value(raw: bytes, value_type: int) -> Any:
    if value_type == STRING:
        return raw.decode()
    if value_type == BYTES:
        return raw
    if value_type == INT32:
        return struct.unpack("<i", raw)[0]
    if value_type in (INT64, UNIX_TIMESTAMP):
        return struct.unpack("<q", raw)[0]
    raise Unreadable(f"value type {value_type} cannot be a key")


def murmur3_32(data: bytes) -> int:
    """Return the x86 32-bit murmur3 hash, seed 0, unsigned."""
    mask, hashed = 0xFFFFFFFF, 0
    for start in range(0, len(data), 4):
        block = data[start : start + 4]
        k = int.from_bytes(block, "little") * 0xCC9E2D51 & mask
        k = (k << 15 | k >> 17) * 0x1B873593 & mask
        hashed ^= k
        if len(block) == 4:
            hashed = ((hashed << 13 | hashed >> 19) & mask) * 5 + 0xE6546B64 & mask
    hashed ^= len(data)
    hashed = (hashed ^ hashed >> 16) * 0x85EBCA6B & mask
    hashed = (hashed ^ hashed >> 13) * 0xC2B2AE35 & mask
    return hashed ^ hashed >> 16


@cache  # a plan settles it once, so the baseline of bench/micro shall not pay for it either
def field_id(view: str, feature: str) -> bytes:
    """Return the name of the Redis hash field that holds the feature."""
    return murmur3_32(f"{view}:{feature}".encode()).to_bytes(4, "little")


def timestamp_field(view: str) -> bytes:
    """Return the name of the Redis hash field that holds the view's event time."""
    return f"_ts:{view}".encode()


# --- timestamps ------------------------------------------------------------------------------------------------------


def encode_timestamp(seconds: int, nanos: int = 0) -> bytes:
    """Return a serialised google.protobuf.Timestamp."""
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos).SerializeToString()


def decode_timestamp(data: bytes) -> int:
    """Return whole microseconds since the epoch."""
    try:
        stamp = timestamp_pb2.Timestamp.FromString(data)
    except ProtobufDecodeError as error:
        raise Unreadable(str(error)) from None
    return stamp.seconds * 1_000_000 + stamp.nanos // 1000


def rfc3339(microseconds: int) -> str:
    """Return the text of an instant: `Z`, and as few of 0, 3 or 6 fractional digits as are exact."""
    text = (datetime(1970, 1, 1) + timedelta(microseconds=microseconds)).isoformat()
    return (text.removesuffix("000") if "." in text else text) + "Z"


# --- values: bytes -> Python -----------------------------------------------------------------------------------------


def parse_value(data: bytes) -> Message:
    """Return the Value message of stored bytes."""
    try:
        return Value.FromString(bytes(data))
    except ProtobufDecodeError as error:
        raise Unreadable(str(error)) from None


def decode_value(data: bytes, value_type: int = 0) -> Any:
    """Return the Python form (`to_dict`) of stored bytes; the type only matters for UUIDs stored as strings."""
    return _guarded(value_to_python, parse_value(data), value_type)


def decode_json(data: bytes) -> Any:
    """Return the HTTP form of stored bytes as what `json.loads` would give."""
    return _guarded(value_to_json, parse_value(data))


def _guarded(convert: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return convert(*arguments)
    except (ValueError, ArithmeticError, OSError, TypeError, RecursionError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


@cache
def split_member(member: str) -> tuple[str, str]:
    """Return kind and shape of a oneof member: `int64_list_val` -> ("int64", "list"), `int64_val` -> ("int64", "")."""
    kind = member.removesuffix("_val")
    for shape in ("list", "set"):
        if kind.endswith("_" + shape):
            return kind.removesuffix("_" + shape), shape
    return kind, ""


def value_to_python(value: Message, value_type: int = 0) -> Any:
    """Return the Python form of a Value message; None for unset and for null_val."""
    member = value.WhichOneof("val")
    if member is None or member == "null_val":
        return None
    kind, shape = split_member(member)
    if kind == "string" and value_type in UUID_TYPES:
        kind = "uuid"
    convert, held = _TO_PYTHON.get(kind, _as_is), getattr(value, member)
    if shape == "list":
        return [convert(element) for element in held.val]
    return {convert(element) for element in held.val} if shape == "set" else convert(held)


def _as_is(held: Any) -> Any:
    return held


def _utc(seconds: int) -> datetime | None:
    return None if seconds == NULL_SECONDS else datetime.fromtimestamp(seconds, tz=timezone.utc)


def _parsed_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _map(held: Message) -> dict[str, Any]:
    return {key: value_to_python(value) for key, value in held.val.items()}


def _nested(held: Message) -> list[Any]:
    return [value_to_python(value) for value in held.val]


def _scalar_map(held: Message) -> dict[Any, Any]:
    return {_scalar_key(entry.key): value_to_python(entry.value) for entry in held.val}


def _scalar_key(key: Message) -> Any:
    member = key.WhichOneof("key")
    return None if member is None else _TO_PYTHON.get(member.removesuffix("_key"), _as_is)(getattr(key, member))


def _zoned(held: Message) -> datetime | None:
    return None if held.unix_timestamp == NULL_SECONDS else datetime.fromtimestamp(held.unix_timestamp, zone(held.zone))


def zone(name: str) -> tzinfo:
    """Return the time zone of a stored zone name; UTC when it has no name or an unknown one."""
    if not name:
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        match = re.fullmatch(r"(?:UTC|GMT)?([+-])([0-9]{2}):?([0-9]{2})(?::([0-9]{2}))?", name.strip())
    if match is None:
        return timezone.utc
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]), seconds=int(match[4] or 0))
    if offset >= timedelta(hours=24):
        return timezone.utc
    return timezone(-offset if match[1] == "-" else offset)


_TO_PYTHON: dict[str, Callable[[Any], Any]] = {
    "unix_timestamp": _utc,
    "json": _parsed_json,
    "uuid": uuid.UUID,
    "time_uuid": uuid.UUID,
    "decimal": Decimal,
    "map": _map,
    "struct": _map,
    "scalar_map": _scalar_map,
    "zoned_timestamp": _zoned,
    "list": _nested,
    "set": _nested,
}


# --- values: bytes -> JSON -------------------------------------------------------------------------------------------


def value_to_json(value: Message) -> Any:
    """Return the HTTP form of a Value message as a JSON-ready object."""
    member = value.WhichOneof("val")
    if member is None or member == "null_val":
        return None
    kind, shape = split_member(member)
    convert, held = _TO_JSON.get(kind, _as_is), getattr(value, member)
    return [convert(element) for element in held.val] if shape else convert(held)


def _json_float(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _json_bytes(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _json_zoned(held: Message) -> str | None:
    moment = _zoned(held)
    return None if moment is None else moment.isoformat()


def _json_scalar_map(held: Message) -> dict[str, Any]:
    return {_json_key(entry.key): value_to_json(entry.value) for entry in held.val}


def _json_key(key: Message) -> str:
    """The text of the key's own JSON form: text stays text, 1 becomes "1", true "true"."""
    member = key.WhichOneof("key")
    if member is None:
        return "null"
    form = _TO_JSON.get(member.removesuffix("_key"), _as_is)(getattr(key, member))
    return form if isinstance(form, str) else json.dumps(form)


_TO_JSON: dict[str, Callable[[Any], Any]] = {
    "double": _json_float,
    "float": _json_float,
    "bytes": _json_bytes,
    "unix_timestamp": lambda seconds: None if seconds == NULL_SECONDS else seconds,
    "map": lambda held: {key: value_to_json(value) for key, value in held.val.items()},
    "struct": lambda held: {key: value_to_json(value) for key, value in held.val.items()},
    "scalar_map": _json_scalar_map,
    "zoned_timestamp": _json_zoned,
    "list": lambda held: [value_to_json(value) for value in held.val],
    "set": lambda held: [value_to_json(value) for value in held.val],
}


# --- Redis -----------------------------------------------------------------------------------------------------------


def hmget(key: bytes, fields: Sequence[bytes]) -> bytes:
    """Return the RESP bytes of one HMGET command."""
    words = [b"HMGET", key, *fields]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def parse_reply(data: bytes, start: int = 0) -> tuple[Any, int]:
    """Return the RESP2 or RESP3 reply that starts at `start`, and where the next one starts."""
    end = data.index(b"\r\n", start)
    kind, head, position = data[start : start + 1], data[start + 1 : end], end + 2
    if kind == b"$":
        length = int(head)
        return (None, position) if length < 0 else (data[position : position + length], position + length + 2)
    if kind == b"*":
        items: list[Any] = []
        for _ in range(int(head)):
            item, position = parse_reply(data, position)
            items.append(item)
        return items, position
    return {b"_": None, b":": int(head) if kind == b":" else 0, b"+": head, b"-": RuntimeError(head)}[kind], position


def parse_replies(data: bytes) -> list[Any]:
    """Return all replies in the buffer."""
    replies: list[Any] = []
    position = 0
    while position < len(data):
        reply, position = parse_reply(data, position)
        replies.append(reply)
    return replies


# --- answers ---------------------------------------------------------------------------------------------------------


class Feature(NamedTuple):
    """One feature of the answer.

    Arguments:
        view: the stored name of the view.
        name: the feature's own name.
        output: its name in the answer.
        value_type: of its field; only UUID types matter.
        ttl: of the view in seconds, 0 for none.
    """

    view: str
    name: str
    output: str
    value_type: int = 0
    ttl: int = 0


class Cell(NamedTuple):
    """One value of the answer, with its event time in microseconds since the epoch (0: not known)."""

    value: Message
    status: str
    event_time: int


Hash = Mapping[bytes, "bytes | None"]
"""What is stored for an entity: hash field -> bytes, or None for a field that HMGET did not find."""

Columns = Sequence[tuple[Feature, Sequence[Hash]]]
"""The features of an answer, each with the hash of each row."""


def event_times(view: str, hashes: Sequence[Hash]) -> list[int]:
    """Return the view's event time in each row, in microseconds since the epoch; 0 where there is none."""
    field = timestamp_field(view)
    return [decode_timestamp(row.get(field) or b"") for row in hashes]


def cells(
    feature: Feature, hashes: Sequence[Hash], now: float | None = None, times: Sequence[int] | None = None
) -> list[Cell]:
    """Return the column of one feature.

    Args:
        now: epoch seconds, to turn the view's ttl into statuses.
        times: the event times of the feature's view, if they are known already.
    """
    field = field_id(feature.view, feature.name)
    oldest = (now - feature.ttl) * 1_000_000 if now is not None and feature.ttl else None
    known = times if times is not None else event_times(feature.view, hashes)
    return [_cell(row.get(field), time, oldest) for row, time in zip(hashes, known, strict=True)]


def _cell(stored: bytes | None, event_time: int, oldest: float | None) -> Cell:
    if stored is None:
        return Cell(Value(), "NOT_FOUND", event_time)
    value = parse_value(stored)
    if oldest is not None and 0 != event_time < oldest:
        return Cell(value, "OUTSIDE_MAX_AGE", event_time)
    null = value.WhichOneof("val") in (None, "null_val") or value.unix_timestamp_val == NULL_SECONDS
    return Cell(value, "NULL_VALUE" if null else "PRESENT", event_time)


def _times_of_views(columns: Columns) -> dict[tuple[str, int], list[int]]:
    """The event times of each view, once; a view may be asked for under two aliases, with other hashes."""
    hashes_of = {(feature.view, id(hashes)): hashes for feature, hashes in columns}
    return {key: event_times(key[0], hashes) for key, hashes in hashes_of.items()}


def to_dict(entities: Mapping[str, Sequence[Any]], columns: Columns, timestamps: bool = False) -> dict[str, list[Any]]:
    """Return the `to_dict` form: join-key columns, then features; with `timestamps` a `__ts` column after each."""
    answer: dict[str, list[Any]] = {}
    for name, values in entities.items():
        answer[name] = list(values)
        if timestamps:
            answer[f"{name}__ts"] = [0] * len(values)
    times_of = _times_of_views(columns)
    for feature, hashes in columns:
        times = times_of[feature.view, id(hashes)]
        column = cells(feature, hashes, times=times)
        answer[feature.output] = [value_to_python(cell.value, feature.value_type) for cell in column]
        if timestamps:
            answer[f"{feature.output}__ts"] = [time // 1_000_000 for time in times]
    return answer


def to_json(entities: Mapping[str, Sequence[Any]], columns: Columns, now: float | None = None) -> dict[str, Any]:
    """Return the HTTP form as a JSON-ready object; the entity values must be JSON-ready."""
    results = [_json_result(rows, ["PRESENT"] * len(rows), [rfc3339(0)] * len(rows)) for rows in entities.values()]
    times_of = _times_of_views(columns)
    stamps_of = {key: [rfc3339(time) for time in times] for key, times in times_of.items()}
    for feature, hashes in columns:
        key = feature.view, id(hashes)
        column = cells(feature, hashes, now, times_of[key])
        values = [value_to_json(cell.value) for cell in column]
        results.append(_json_result(values, [cell.status for cell in column], stamps_of[key]))
    names = [*entities, *(feature.output for feature, _ in columns)]
    return {"results": results, "metadata": {"feature_names": names}}


def _json_result(values: Sequence[Any], statuses: Sequence[str], stamps: Sequence[str]) -> dict[str, Any]:
    return {"values": list(values), "statuses": list(statuses), "event_timestamps": list(stamps)}
