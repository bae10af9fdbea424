"""The slow, readable version of writing values: Python -> `feast.types.Value`, by the rules of the specification.

Part of the oracle beside `reference.py`; nothing here imports fastserve.

    encode_column(values, value_type) -> list of bytes
    encode_value(value, value_type) -> bytes
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from tests.reference import FIELD_NUMBERS, NULL_SECONDS, Message, Value, message_class, split_member

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

MEMBERS: dict[int, str] = {number: name for name, number in FIELD_NUMBERS.items()} | {30: "bytes_val", 31: "bytes_val"}
"""The oneof member that holds a ValueType; the two last are PDF and image bytes."""

_INTEGERS = {np.int64, np.int32, int}
_FLOATS = {np.float64, np.float32, float}
_ELEMENT_CLASSES: dict[str, set[Any]] = {
    "bytes": {np.bytes_, bytes},
    "string": {np.str_, str},
    "int32": _INTEGERS,
    "int64": _INTEGERS,
    "double": _FLOATS,
    "float": _FLOATS,
    "bool": {np.bool_, bool},
    "unix_timestamp": {np.datetime64, np.int64, np.int32, int, datetime},
    "uuid": {np.str_, str, UUID},
    "time_uuid": {np.str_, str, UUID},
    "decimal": {np.str_, str, Decimal},
}
"""What the elements of the first list or set with any elements must be."""

_SCALAR_CLASSES: dict[str, set[Any]] = {
    "double": {float, np.float64, int, np.int64, Decimal},
    "bytes": {bytes, np.bytes_},
    "bool": {bool, np.bool_, int, np.int64},
    "uuid": {str, UUID},
    "time_uuid": {str, UUID},
    "decimal": {str, Decimal},
}
"""What the first value of a column must be; the other kinds take whatever their conversion takes."""

_NULL_ELEMENTS: dict[str, Any] = {
    "bytes": b"",
    "string": "",
    "int32": 0,
    "int64": 0,
    "double": 0.0,
    "float": 0.0,
    "bool": False,
    "unix_timestamp": NULL_SECONDS,
}


def encode_value(value: Any, value_type: int = 0) -> bytes:
    """Return the stored bytes of one value; type 0 infers it.

    Raises:
        ValueError, TypeError: the value does not fit the type.
    """
    return encode_column([value], value_type)[0]


def encode_column(values: Sequence[Any], value_type: int = 0) -> list[bytes]:
    """Return the stored bytes of each value; the first that is neither null nor empty decides the checks."""
    messages = _column(values, value_type)
    return [bytes(message.SerializeToString(deterministic=True)) for message in messages]


def is_null(value: Any) -> bool:
    """Whether a scalar is None, NaN or NaT."""
    if value is None or type(value).__name__ in ("NaTType", "NAType"):
        return True
    if isinstance(value, np.datetime64):
        return bool(np.isnat(value))
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def to_seconds(value: Any) -> int:
    """Return whole epoch seconds, fractions cut off; NULL_SECONDS for a null."""
    if is_null(value):
        return NULL_SECONDS
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[s]").astype(np.int64))
    if not isinstance(value, datetime):
        return int(value)
    aware = value if value.utcoffset() is not None else value.replace(tzinfo=timezone.utc)
    seconds = abs(aware - EPOCH) // timedelta(seconds=1)
    return seconds if aware >= EPOCH else -seconds


def infer_type(value: Any) -> int:
    """Return the ValueType that a Python value stands for."""
    kind = _inferred_kind(value)
    if kind not in _KINDS:
        raise ValueError(f"no value type for {type(value).__name__}")
    return _KINDS[kind]


_KINDS = {name.removesuffix("_val"): number for name, number in FIELD_NUMBERS.items()}


def _inferred_kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.dtype == object else list(value)
    if isinstance(value, dict):
        return "map" if not value or isinstance(next(iter(value)), str) else "scalar_map"
    if isinstance(value, (list, set)):
        kinds = {_inferred_kind(element) for element in value}
        if len(kinds) != 1:
            raise (ValueError if kinds else TypeError)("elements of one kind expected")
        return f"{kinds.pop()}_{'list' if isinstance(value, list) else 'set'}"
    for classes, kind in _INFERENCE:
        if isinstance(value, classes):
            return kind
    raise ValueError(f"no value type for {type(value).__name__}")


_INFERENCE: list[tuple[Any, str]] = [
    ((bool, np.bool_), "bool"),
    ((np.int8, np.int16, np.int32, np.uint8, np.uint16), "int32"),
    ((int, np.integer), "int64"),
    (np.float32, "float"),
    ((float, np.float64), "double"),
    ((str, np.str_), "string"),
    ((bytes, np.bytes_), "bytes"),
    ((datetime, np.datetime64), "unix_timestamp"),
    (UUID, "uuid"),
    (Decimal, "decimal"),
]


def _is_empty(value: Any) -> bool:
    return value is None or (hasattr(value, "__len__") and not isinstance(value, str) and len(value) == 0)


def _column(values: Sequence[Any], value_type: int) -> list[Message]:
    sample = next((value for value in values if not _is_empty(value)), None)
    if value_type == 0:
        if sample is None and any(value is not None for value in values):
            raise TypeError("only empty values: no type can be inferred")
        if sample is None:
            return [Value() for _ in values]
        value_type = infer_type(sample)
    member = MEMBERS[value_type]
    kind, shape = split_member(member)
    if kind in ("map", "struct", "json", "list", "set", "scalar_map"):
        return [_whole(value, member, _WHOLE[member]) for value in values]
    if shape:
        _check_elements(sample, kind)
        return [_whole(value, member, lambda held: _collection(held, kind, shape)) for value in values]
    return _scalars(values, member, kind)


def _whole(value: Any, member: str, convert: Callable[[Any], Any]) -> Message:
    if value is None:
        return Value()
    held = convert(value)
    return Value(**{member: held})


# --- scalars ---------------------------------------------------------------------------------------------------------


def _scalars(values: Sequence[Any], member: str, kind: str) -> list[Message]:
    sample = next((value for value in values if not _is_empty(value) and not _is_array_like(value)), None)
    if sample is None:
        return [Value() for _ in values]
    if kind in _SCALAR_CLASSES and not is_null(sample) and type(sample) not in _SCALAR_CLASSES[kind]:
        raise TypeError(f"{type(sample).__name__} is not a {kind}")
    return [_scalar(value, member, kind) for value in values]


def _is_array_like(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes))


def _scalar(value: Any, member: str, kind: str) -> Message:
    null = value is None if kind == "unix_timestamp" else is_null(value)
    return Value() if null or _is_array_like(value) else Value(**{member: _CONVERT[kind](value)})


def _integer(value: Any) -> int:
    try:
        # A pandas timestamp is a datetime with a method that tells nanoseconds.
        return to_seconds(value) if hasattr(value, "as_unit") else int(value)
    except OverflowError as error:
        raise ValueError(str(error)) from None


def _zoned(value: Any) -> Message:
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} is not a datetime")
    name = "" if value.tzinfo is None else getattr(value.tzinfo, "key", None) or str(value.tzinfo)
    return message_class("feast.types.ZonedTimestamp")(unix_timestamp=to_seconds(value), zone=name)


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "bytes": lambda value: value,
    "string": str,
    "int32": _integer,
    "int64": _integer,
    "double": lambda value: value,
    "float": float,
    "bool": lambda value: bool(value) if isinstance(value, np.bool_) else value,
    "unix_timestamp": to_seconds,
    "uuid": str,
    "time_uuid": str,
    "decimal": str,
    "zoned_timestamp": _zoned,
}


# --- lists and sets --------------------------------------------------------------------------------------------------


def _check_elements(sample: Any, kind: str) -> None:
    if isinstance(sample, (bytes, bytearray)):
        if kind == "bytes":
            raise TypeError("bytes are not a list of bytes")
        return
    for element in [] if sample is None else sample:
        # A pandas timestamp is a datetime too; True is an int too, but may not stand for one.
        known = type(element) in _ELEMENT_CLASSES[kind] or (kind == "unix_timestamp" and isinstance(element, datetime))
        if element is not None and not known:
            raise TypeError(f"{type(element).__name__} is not a {kind}")


def _collection(value: Any, kind: str, shape: str) -> Message:
    elements = json.loads(value) if isinstance(value, (bytes, bytearray)) else list(value)
    if shape == "set":
        elements = list(dict.fromkeys(elements))
    elements = [_NULL_ELEMENTS.get(kind, "") if element is None else _element(element, kind) for element in elements]
    return message_class(Value.DESCRIPTOR.fields_by_name[f"{kind}_{shape}_val"].message_type.full_name)(val=elements)


def _element(value: Any, kind: str) -> Any:
    if kind == "unix_timestamp":
        return to_seconds(value)
    if kind == "bool":
        return bool(value)
    return str(value) if kind in ("uuid", "time_uuid", "decimal") else value


# --- maps, JSON and nested collections -------------------------------------------------------------------------------


def _map(value: Any) -> Message:
    held = json.loads(value) if isinstance(value, str) else value
    if not isinstance(held, Mapping):
        raise TypeError(f"{type(held).__name__} is not a map")
    result = message_class("feast.types.Map")()
    for key, element in held.items():
        result.val[key].CopyFrom(_map_element(element))
    return result


def _map_element(value: Any) -> Message:
    if isinstance(value, dict):
        return Value(map_val=_map(value))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return Value(map_list_val=_map_list(value))
    return _column([value], 0)[0]


def _map_list(value: Any) -> Message:
    held = json.loads(value) if isinstance(value, str) else value
    return message_class("feast.types.MapList")(val=[_map(element) for element in held])


def _json_text(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    json.loads(value)
    return value


def _json_list(value: Iterable[Any]) -> Message:
    return message_class("feast.types.StringList")(val=[_json_text(element) for element in value])


def _nested(value: Iterable[Any]) -> Message:
    inner = [Value() if _is_empty(element) else _nested_element(list(element)) for element in value]
    return message_class("feast.types.RepeatedValue")(val=inner)


def _nested_element(elements: list[Any]) -> Message:
    if any(isinstance(element, (list, set, tuple, np.ndarray)) for element in elements):
        return Value(list_val=_nested(elements))
    return _column([elements], 0)[0]


def _scalar_map(value: Any) -> Message:
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} is not a scalar map")
    result = message_class("feast.types.ScalarMap")()
    for key, element in value.items():
        result.val.add(key=_map_key(key), value=_column([element], 0)[0])
    return result


def _map_key(key: Any) -> Message:
    kind = _inferred_kind(key)
    if kind == "int32" and not isinstance(key, np.int32):
        kind = "int64"
    if kind in ("string", "map", "scalar_map") or kind.endswith(("_list", "_set")):
        raise TypeError(f"{type(key).__name__} is not a key of a scalar map")
    held = to_seconds(key) if kind == "unix_timestamp" else _CONVERT[kind](key)
    return message_class("feast.types.MapKey")(**{f"{kind}_key": held})


_WHOLE: dict[str, Callable[[Any], Any]] = {
    "map_val": _map,
    "struct_val": _map,
    "map_list_val": _map_list,
    "struct_list_val": _map_list,
    "json_val": _json_text,
    "json_list_val": _json_list,
    "list_val": _nested,
    "set_val": _nested,
    "scalar_map_val": _scalar_map,
}
