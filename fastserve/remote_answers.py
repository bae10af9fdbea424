"""The JSON that a feature server answers -> a filled Batch, which gives out every form of the answer.

JSON does not tell an int32 from an int64, nor bytes from text. Where the client's registry has the feature, its type
is known; elsewhere it is taken from each value, as Feast's client does for all.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

import msgspec

from fastserve._core import Batch, answer_of_columns, encode_timestamp, encode_value, plan_of_columns
from fastserve.types import ValueType

__all__ = ["read_json_answer"]

STATUSES = {"PRESENT": 1, "NULL_VALUE": 2, "NOT_FOUND": 3, "OUTSIDE_MAX_AGE": 4}
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

FLOATING = frozenset({ValueType.DOUBLE, ValueType.FLOAT})
FLOATINGS = frozenset({ValueType.DOUBLE_LIST, ValueType.FLOAT_LIST, ValueType.DOUBLE_SET, ValueType.FLOAT_SET})
BINARY = frozenset({ValueType.BYTES, ValueType.PDF_BYTES, ValueType.IMAGE_BYTES})
BINARIES = frozenset({ValueType.BYTES_LIST, ValueType.BYTES_SET})
SPECIAL: dict[str, float] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Encode = Callable[[Any], bytes]


class _View(msgspec.Struct):
    name: str = ""
    version: int = 0


class _Metadata(msgspec.Struct):
    feature_names: list[str]
    feature_view_metadata: list[_View] = []


class _Column(msgspec.Struct):
    values: list[Any]
    statuses: list[str]
    event_timestamps: list[str] = []


class _Answer(msgspec.Struct):
    results: list[_Column]
    metadata: _Metadata


_decoder = msgspec.json.Decoder(_Answer)


def read_json_answer(body: bytes, types: Mapping[str, int]) -> Batch:
    """Return the answer in a body.

    Args:
        types: name of a column -> its ValueType, as far as known.
    Raises:
        ValueError: it is not the JSON of such an answer.
    """
    answer = _decoder.decode(body)  # msgspec's errors are ValueErrors
    names = answer.metadata.feature_names
    if len(names) != len(answer.results):
        raise ValueError(f"{len(answer.results)} results for {len(names)} names")
    n_rows = len(answer.results[0].values) if names else 0
    columns, found = [], []
    for name, column in zip(names, answer.results, strict=True):
        if len(column.values) != n_rows:  # a singleton view of Feast's server: it computes one row only
            raise ValueError(f"column {name} has {len(column.values)} values for {n_rows} rows")
        value_type, values = _encoded(column.values, types.get(name, 0))
        found.append(value_type)
        statuses = [STATUSES.get(status, 0) for status in column.statuses]
        columns.append((values, statuses, [_moment(text) for text in column.event_timestamps] or None))
    versions = [(view.name, view.version) for view in answer.metadata.feature_view_metadata]
    return answer_of_columns(plan_of_columns(names, found, versions), n_rows, columns)


@lru_cache(maxsize=4096)
def _moment(text: str) -> bytes:
    """A time in RFC 3339, with up to nine fractional digits, as a serialised Timestamp."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    since = datetime.fromisoformat(whole).replace(tzinfo=timezone.utc) - EPOCH
    return encode_timestamp(since.days * 86400 + since.seconds, int(fraction[:9].ljust(9, "0")))


def _encoded(values: list[Any], value_type: int) -> tuple[int, list[bytes]]:
    """The type of a column and its serialised Values."""
    if value_type:
        encode = _encoder(ValueType(value_type))
        for candidates in (values, map(_with_numbers, values)):
            try:
                return value_type, [b"" if value is None else encode(value) for value in candidates]
            except (TypeError, ValueError):
                continue  # an inner list is not as it was, or the server's registry says otherwise
    return 0, [_inferred(value) for value in values]


def _with_numbers(value: Any) -> Any:
    """The value with the lists of floats that it has inside made such lists again: in JSON some of those are integers
    and some are text."""
    if isinstance(value, dict):
        return {key: _with_numbers(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    items = [_with_numbers(item) for item in value]
    found = [_special(item) for item in items]
    if any(isinstance(item, float) for item in found) and all(type(item) in (int, float) for item in found):
        return [float(item) for item in found]
    return items


def _encoder(value_type: ValueType) -> Encode:
    if value_type in FLOATING:
        return lambda value: _number(_special(value), value_type)
    if value_type in FLOATINGS:
        return lambda value: encode_value([_special(item) for item in value], value_type)
    if value_type in BINARY:
        return lambda value: encode_value(_bytes(value), value_type)
    if value_type in BINARIES:
        return lambda value: encode_value([_bytes(item) for item in value], value_type)
    if value_type == ValueType.ZONED_TIMESTAMP:
        return lambda value: encode_value(datetime.fromisoformat(value), value_type)
    if value_type == ValueType.SCALAR_MAP:  # JSON has made text of its keys
        return lambda value: encode_value(value, ValueType.MAP)
    return lambda value: encode_value(value, value_type)


def _special(value: Any) -> Any:
    return SPECIAL.get(value, value) if isinstance(value, str) else value


def _number(value: float, value_type: ValueType) -> bytes:
    if isinstance(value, float) and math.isnan(value):  # for `encode_value` that is a null
        return (
            b"\x29" + struct.pack("<d", value) if value_type == ValueType.DOUBLE else b"\x35" + struct.pack("<f", value)
        )
    return encode_value(value, value_type)


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _inferred(value: Any) -> bytes:
    """A Value of the type that the JSON value has."""
    if value is None:
        return b""
    try:
        return encode_value(value)
    except (TypeError, ValueError):
        value = _with_numbers(value)
    try:
        return encode_value(value)
    except (TypeError, ValueError):
        if not isinstance(value, list):
            raise
        return encode_value(value, ValueType.VALUE_LIST)
