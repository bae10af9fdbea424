"""Entities and rows in any form -> JSON for a feature server.

JSON has no bytes. They go as base64 in an object of their own, which servers other than ours do not look into: those
find an empty column, which they refuse, instead of taking the text for a value.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Container, Mapping
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from fastserve.arrow import as_arrow, as_python
from fastserve.errors import EntityError, RequestError
from fastserve.sources import columns_of

__all__ = ["encode_entities", "encode_rows"]

Columns = Mapping[str, list[Any]]

PLAIN = frozenset({str, int, bool, type(None)})
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_encoder = msgspec.json.Encoder()


def encode_entities(columns: Columns) -> bytes:
    """Return the members "entities" and, if there are any, "binary_entities" of a request to read, without braces.

    Times are numbers, as keys have them; "time_entities" names their columns.

    Raises:
        EntityError: a value is nothing that JSON could carry.
    """
    plain, times = {}, []
    for name, values in columns.items():
        if PLAIN.issuperset(map(type, values)):
            plain[str(name)] = values
            continue
        plain[str(name)] = _entity_column(name, values)
        if any(isinstance(value, datetime) for value in values):
            times.append(str(name))
    members = _members("entities", "binary_entities", plain)
    return members + b',"time_entities":' + _json(times) if times else members


def encode_rows(rows: Any, seconds: Container[str] = ()) -> bytes:
    """Return the members "df" and, if there are any, "binary" of a request to write, without braces.

    Args:
        rows: what `sources.columns_of` takes.
        seconds: the columns whose times are to be whole seconds since 1970; others are ISO 8601 text.
    Raises:
        RequestError: the rows are of no such form, or a value is nothing that JSON could carry.
    """
    columns = {name: _row_column(name, cells, name in seconds) for name, cells in columns_of(rows).items()}
    return _members("df", "binary", columns)


def _members(name: str, binary_name: str, columns: dict[str, list[Any]]) -> bytes:
    binary = {name: list(map(_base64, values)) for name, values in columns.items() if any(map(_has_bytes, values))}
    # An empty list keeps the place of a column.
    plain = {key: [] if key in binary else values for key, values in columns.items()} if binary else columns
    members = b'"%b":%b' % (name.encode(), _json(plain))
    return members + b',"%b":%b' % (binary_name.encode(), _json(binary)) if binary else members


def _json(value: Any) -> bytes:
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError) as exc:  # ValueError: halves of surrogate pairs are one
        raise RequestError(f"the request is no JSON: {exc}") from exc


def _has_bytes(value: Any) -> bool:
    return type(value) is bytes or (type(value) is list and any(map(_has_bytes, value)))


def _base64(value: Any) -> Any:
    if type(value) is list:
        return [_base64(item) for item in value]
    return base64.b64encode(value).decode() if type(value) is bytes else value


# --- entities --------------------------------------------------------------------------------------------------------


def _entity_column(name: str, values: list[Any]) -> list[Any]:
    plain = []
    for row, value in enumerate(values):
        try:
            plain.append(_entity_value(value))
        except (TypeError, ValueError, OverflowError) as exc:
            raise EntityError(str(exc), join_key=name, row=row) from exc
    return plain


def _entity_value(value: Any) -> Any:
    if hasattr(value, "WhichOneof"):
        member = value.WhichOneof("val")
        value = None if member in (None, "null_val") else getattr(value, member)
    return _plain(_seconds(value))


def _seconds(value: Any) -> Any:
    """A datetime, or a list of them, as seconds since 1970; anything else as it is."""
    if isinstance(value, list):
        return [_seconds(item) for item in value]
    if not isinstance(value, datetime) or value != value:
        return value
    aware = value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
    return math.trunc((aware - EPOCH).total_seconds())


# --- rows ------------------------------------------------------------------------------------------------------------


def _row_column(name: str, cells: Any, as_seconds: bool) -> list[Any]:
    values = cells if type(cells) is list else _cells(cells)
    try:
        return [_plain(_seconds(value) if as_seconds else value) for value in values]
    except (TypeError, ValueError) as exc:
        raise RequestError(f"column {name!r}: {exc}") from exc


def _cells(cells: Any) -> list[Any]:
    """The Python values of a Series or an array, for which null is what Arrow takes for null."""
    import pyarrow as pa

    array = as_arrow(cells)
    if array is None:
        return as_python(cells)
    if pa.types.is_timestamp(array.type) and array.type.unit == "ns":
        array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
    return as_python(array)


# --- values ----------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """The value as JSON has it; bytes stay bytes."""
    kind = type(value)
    if kind in PLAIN or kind is bytes:
        return value
    if isinstance(value, float):
        return _float(float(value))
    if isinstance(value, (datetime, date, time)):
        return value.isoformat() if value == value else None  # NaT differs from itself
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _member(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return _other(value)


def _member(value: Any) -> Any:
    plain = _plain(value)
    if _has_bytes(plain):
        raise TypeError("bytes in an object, which JSON could not tell from text")
    return plain


def _float(value: float) -> Any:
    if math.isfinite(value):
        return value
    # Both servers read these as Python writes them; quoted they would be text.
    return msgspec.Raw(b"NaN" if math.isnan(value) else b"Infinity" if value > 0 else b"-Infinity")


def _other(value: Any) -> Any:
    """What NumPy and pandas have beside Python's own, and subclasses of plain types."""
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if getattr(getattr(value, "dtype", None), "kind", "") == "M":
        value = value.astype("datetime64[us]")  # of nanoseconds NumPy would make bare numbers
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, (str, bytes)):
        return value[:]  # of the plain type
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    raise TypeError(f"{type(value).__name__} {str(value)[:40]!r} is nothing that JSON could carry")
