"""Columns of any origin -> the one Arrow type per ValueType that the core encodes from.

STRING string, BYTES (PDF_BYTES, IMAGE_BYTES) binary, INT32 int32, INT64 int64, FLOAT float, DOUBLE double, BOOL bool,
UNIX_TIMESTAMP int64 seconds, their lists a list of that; every other type is binary, a serialised Value in each cell.

Arrow converts what needs no judgement, a column at a time. The rest goes cell by cell through `encode_column`, which
takes what Feast takes and names the first row that it refuses. As with Feast, null is NaN in a column of integers,
and a column of BYTES that has nothing but empty ones; a null among datetimes becomes the null of such columns,
INT64_MIN.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from functools import cache
from typing import Any

from fastserve._core import decode_value, encode_column
from fastserve.types import ValueType

__all__ = [
    "NULL_SECONDS",
    "as_arrow",
    "as_python",
    "canonical_type",
    "cast_column",
    "cast_key",
    "cast_time",
    "first_row",
    "parse_time",
]

NULL_SECONDS = -(2**63)
"""What Feast stores for a null among datetimes."""

Cells = Any
"""A column: a pyarrow Array or ChunkedArray, a pandas Series, an ndarray, or a list of Python values."""

_ELEMENTS = {
    ValueType.BYTES_LIST: ValueType.BYTES,
    ValueType.STRING_LIST: ValueType.STRING,
    ValueType.INT32_LIST: ValueType.INT32,
    ValueType.INT64_LIST: ValueType.INT64,
    ValueType.DOUBLE_LIST: ValueType.DOUBLE,
    ValueType.FLOAT_LIST: ValueType.FLOAT,
    ValueType.BOOL_LIST: ValueType.BOOL,
    ValueType.UNIX_TIMESTAMP_LIST: ValueType.UNIX_TIMESTAMP,
}

_SCALARS = frozenset(range(1, 9)) | {ValueType.PDF_BYTES, ValueType.IMAGE_BYTES}
_SINGLE = _SCALARS | {ValueType.UUID, ValueType.TIME_UUID, ValueType.DECIMAL}
"""Types whose values are no collections."""

_TIMES = frozenset({ValueType.UNIX_TIMESTAMP, ValueType.UNIX_TIMESTAMP_LIST, ValueType.ZONED_TIMESTAMP})


@cache
def canonical_type(value_type: int) -> Any:
    """Return the pyarrow type in which the core takes columns of a ValueType."""
    import pyarrow as pa

    element = _ELEMENTS.get(ValueType(value_type))
    if element is not None:
        return pa.list_(canonical_type(element))
    return {
        ValueType.STRING: pa.string(),
        ValueType.INT32: pa.int32(),
        ValueType.INT64: pa.int64(),
        ValueType.FLOAT: pa.float32(),
        ValueType.DOUBLE: pa.float64(),
        ValueType.BOOL: pa.bool_(),
        ValueType.UNIX_TIMESTAMP: pa.int64(),
    }.get(ValueType(value_type), pa.binary())


def cast_column(cells: Cells, value_type: int, name: str) -> Any:
    """Return a column as a pyarrow Array of `canonical_type(value_type)`, or of the large form of it.

    Args:
        name: what errors call the column.
    Raises:
        TypeError, ValueError: naming the column and the 0-based row that has no value of the type.
    """
    import pyarrow as pa

    arrow = as_arrow(cells)
    if arrow is not None:
        if pa.types.is_null(arrow.type):
            return pa.nulls(len(arrow), canonical_type(value_type))
        try:
            found = _cast(arrow, ValueType(value_type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            found = None  # cell by cell, to convert what Arrow does not, or to name the row
        if found is not None:
            return found
    return _cast_cells(as_python(cells), value_type, name)


def cast_key(cells: Cells, value_type: int, name: str) -> Any:
    """Do what `cast_column` does for a join key, of which nothing may be cut off: that would be another entity's."""
    import pyarrow as pa
    import pyarrow.compute as pc

    arrow = as_arrow(cells)
    if arrow is not None and pa.types.is_floating(arrow.type) and value_type in (ValueType.INT32, ValueType.INT64):
        row = first_row(pc.not_equal(pc.trunc(arrow), arrow).fill_null(False))
        if row is not None and arrow[row].as_py() == arrow[row].as_py():  # NaN is null
            raise ValueError(f"{name}, row {row}: {arrow[row].as_py()} is not a whole number")
    return cast_column(cells if arrow is None else arrow, value_type, name)


def as_arrow(cells: Cells) -> Any | None:
    """Return the cells as one pyarrow Array without dictionaries and views; None for what Arrow cannot hold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(cells, (pa.Array, pa.ChunkedArray)):
        try:
            found = pa.array(cells, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return None
        # Texts among bytes are no bytes, though Arrow takes them for some.
        if pa.types.is_binary(found.type) and any(isinstance(cell, str) for cell in cells):
            return None
        cells = found
    if pa.types.is_run_end_encoded(cells.type):
        cells = pc.run_end_decode(cells)  # which no cast does
    if isinstance(cells, pa.ChunkedArray):
        cells = (
            cells.chunk(0) if cells.num_chunks == 1 else pa.concat_arrays(cells.chunks or [pa.array([], cells.type)])
        )
    if isinstance(cells, pa.ExtensionArray):
        cells = cells.storage
    if isinstance(cells, pa.DictionaryArray):
        values = as_arrow(cells.dictionary)
        return None if values is None else values.take(cells.indices)
    plain = _plain_type(cells.type)
    return cells if plain is cells.type else cells.cast(plain)


def _plain_type(dtype: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_run_end_encoded(dtype):
        return _plain_type(dtype.value_type)
    if str(dtype) == "string_view":  # polars, DuckDB; pyarrow 15 has no name for it
        return pa.large_string()
    return pa.large_binary() if str(dtype) == "binary_view" else dtype


def as_python(cells: Cells) -> list[Any]:
    """Return the cells as Python values."""
    to_list = getattr(cells, "to_pylist", None) or getattr(cells, "tolist", None)
    return to_list() if to_list is not None else list(cells)


def _cast_cells(values: list[Any], value_type: int, name: str) -> Any:
    import pyarrow as pa

    if value_type in _SINGLE:
        # Feast stores nothing for them; here a cell is lost only with an error.
        row = next((i for i, v in enumerate(values) if isinstance(v, (list, tuple, set, dict)) or _is_array(v)), None)
        if row is not None:
            raise TypeError(f"{name}, row {row}: {ValueType(value_type).name} expected, got {values[row]!r:.40}")
    if value_type in _TIMES and any(isinstance(value, (str, list)) for value in values):
        values = [_parsed(value) for value in values]
    encoded = encode_column(values, value_type, name)
    if value_type not in _SCALARS and value_type not in _ELEMENTS:
        return pa.array(encoded, pa.binary())
    return pa.array([_decoded(cell, value_type) for cell in encoded], canonical_type(value_type))


def _parsed(value: Any) -> Any:
    """A time that came as ISO 8601 text, as JSON has it; anything else, also a number in text, as it is."""
    if isinstance(value, list):
        return [_parsed(item) for item in value]
    if not isinstance(value, str) or value.lstrip("-").isdigit():
        return value
    try:
        return parse_time(value)
    except ValueError:
        return value  # the encoder says what is wrong with it


def _is_array(value: Any) -> bool:
    return not isinstance(value, (str, bytes)) and hasattr(value, "tolist") and hasattr(value, "__len__")


def _decoded(cell: bytes, value_type: int) -> Any:
    # Datetimes end with the year 9999 and have no sentinel: the bytes are those of int64 but for the tag.
    if cell and value_type == ValueType.UNIX_TIMESTAMP:
        return decode_value(b"\x20" + cell[1:], ValueType.INT64)
    if cell and value_type == ValueType.UNIX_TIMESTAMP_LIST:
        return decode_value(b"\x72" + cell[2:], ValueType.INT64_LIST)
    return decode_value(cell, value_type)


# --- what Arrow converts; each returns None for what needs a look at the cells ---------------------------------------


def _cast(array: Any, value_type: ValueType) -> Any | None:
    element = _ELEMENTS.get(value_type)
    if element is not None:
        return _cast_list(array, element)
    convert = _CASTS.get(value_type)
    return convert(array, canonical_type(value_type)) if convert is not None else None


def _to_string(array: Any, _: Any) -> Any | None:
    import pyarrow as pa

    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return array
    return array.cast(pa.string()) if pa.types.is_integer(array.type) else None


def _to_binary(array: Any, target: Any) -> Any | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type)):
        array = array.cast(target) if pa.types.is_fixed_size_binary(array.type) else None
    if array is not None and len(array) and not pc.max(pc.binary_length(array)).as_py():
        return pa.nulls(len(array), array.type)
    return array


def _to_integer(array: Any, target: Any) -> Any | None:
    import pyarrow as pa

    if array.type == target:
        return array
    if pa.types.is_floating(array.type):
        return _truncated(_without_nan(array), target)
    known = pa.types.is_integer(array.type) or pa.types.is_boolean(array.type) or _is_text(array)
    return array.cast(target) if known else None


def _truncated(array: Any, target: Any) -> Any | None:
    """Cut off fractions, as `int()` does; None if a number is out of range."""
    import pyarrow.compute as pc

    limit = 2.0 ** (target.bit_width - 1)
    extremes = pc.min_max(array.cast("double")).as_py()
    if extremes["min"] is not None and not (-limit <= extremes["min"] and extremes["max"] < limit):
        return None
    return array.cast(target, safe=False)


def _to_floating(array: Any, target: Any) -> Any | None:
    import pyarrow as pa

    numeric = pa.types.is_floating(array.type) or pa.types.is_integer(array.type) or pa.types.is_decimal(array.type)
    if not numeric and not (_is_text(array) and target == pa.float32()):
        return None
    return array if array.type == target else array.cast(target, safe=False)


def _without_nan(array: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_nan = pc.is_nan(array)
    return pc.if_else(is_nan, pa.scalar(None, array.type), array) if pc.any(is_nan).as_py() else array


def _to_bool(array: Any, target: Any) -> Any | None:
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        return array
    return array.cast(target) if pa.types.is_integer(array.type) else None


def _to_seconds(array: Any, target: Any) -> Any | None:
    import pyarrow as pa

    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _whole_seconds(array).cast(target).fill_null(NULL_SECONDS)
    return array.cast(target).fill_null(NULL_SECONDS) if pa.types.is_integer(array.type) else None


def _whole_seconds(array: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_date(array.type):
        return array.cast(pa.timestamp("s"))
    if array.type.unit != "s" and _has_negative(array):
        array = pc.floor_temporal(array.cast(pa.timestamp(array.type.unit)), unit="second")
    return array.cast(pa.timestamp("s", array.type.tz), safe=False)


def _has_negative(array: Any) -> bool:
    """Whether a time is before 1970: casts to coarser units cut off towards 1970, Feast goes down."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lowest = pc.min(array.cast(pa.int64())).as_py()
    return lowest is not None and lowest < 0


def _is_text(array: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(array.type) or pa.types.is_large_string(array.type))


_CASTS: dict[ValueType, Callable[[Any, Any], Any | None]] = {
    ValueType.STRING: _to_string,
    ValueType.BYTES: _to_binary,
    ValueType.PDF_BYTES: _to_binary,
    ValueType.IMAGE_BYTES: _to_binary,
    ValueType.INT32: _to_integer,
    ValueType.INT64: _to_integer,
    ValueType.FLOAT: _to_floating,
    ValueType.DOUBLE: _to_floating,
    ValueType.BOOL: _to_bool,
    ValueType.UNIX_TIMESTAMP: _to_seconds,
}


# --- lists -----------------------------------------------------------------------------------------------------------


def _cast_list(array: Any, element: ValueType) -> Any | None:
    import pyarrow as pa

    dtype = array.type
    if not (pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)):
        return None
    values = array.flatten()
    if values.null_count == 0 and values.type == canonical_type(element) and not pa.types.is_fixed_size_list(dtype):
        return array
    found = _cast_elements(values, element)
    return None if found is None else _list_of(array, found)


def _cast_elements(values: Any, element: ValueType) -> Any | None:
    """Convert what lists hold: more strictly than columns, and without nulls."""
    import pyarrow as pa

    plain = as_arrow(values)
    assert plain is not None
    if pa.types.is_null(plain.type):
        return pa.nulls(len(plain), canonical_type(element)).fill_null(_ZEROS[element])
    if not _LIKE[element](plain.type):
        return None
    if element in (ValueType.FLOAT, ValueType.DOUBLE):
        found = plain.cast(canonical_type(element), safe=False)
    else:
        found = _CASTS[element](plain, canonical_type(element)) if element != ValueType.BYTES else plain
    return None if found is None else found.fill_null(_ZEROS[element])


def _list_of(array: Any, values: Any) -> Any:
    """Return the lists of `array`, with other elements."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.list_value_length(array).fill_null(0).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    return pa.ListArray.from_arrays(offsets, values, mask=array.is_null() if array.null_count else None)


# A null inside a list of floats reaches Feast as NaN.
_ZEROS: dict[ValueType, Any] = {
    ValueType.STRING: "",
    ValueType.BYTES: b"",
    ValueType.INT32: 0,
    ValueType.INT64: 0,
    ValueType.FLOAT: float("nan"),
    ValueType.DOUBLE: float("nan"),
    ValueType.BOOL: False,
    ValueType.UNIX_TIMESTAMP: NULL_SECONDS,
}


def _is_number(dtype: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(dtype) or pa.types.is_integer(dtype))


def _is_kind(*names: str) -> Callable[[Any], bool]:
    def check(dtype: Any) -> bool:
        import pyarrow as pa

        return any(getattr(pa.types, f"is_{name}")(dtype) for name in names)

    return check


_LIKE: dict[ValueType, Callable[[Any], bool]] = {
    ValueType.STRING: _is_kind("string", "large_string"),
    ValueType.BYTES: _is_kind("binary", "large_binary"),
    ValueType.INT32: _is_kind("integer"),
    ValueType.INT64: _is_kind("integer"),
    ValueType.FLOAT: _is_number,
    ValueType.DOUBLE: _is_number,
    ValueType.BOOL: _is_kind("boolean"),
    ValueType.UNIX_TIMESTAMP: _is_kind("timestamp", "date", "integer"),
}


# --- event times -----------------------------------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def cast_time(cells: Cells, name: str) -> Any:
    """Return a column of times as an Array of timestamp[us or ns, UTC]; nulls stay.

    Args:
        cells: datetimes (without zone: UTC), dates, ISO 8601 texts, or numbers of nanoseconds since 1970.
    Raises:
        ValueError: naming the column and the 0-based row that has no time.
    """
    import pyarrow as pa

    arrow = as_arrow(cells)
    if arrow is not None:
        try:
            found = _cast_time(arrow)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            found = None
        if found is not None:
            return found
    return _cast_time_cells(as_python(cells), name)


def _cast_time(array: Any) -> Any | None:
    import pyarrow as pa

    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.timestamp("us", "UTC"))
    if pa.types.is_timestamp(array.type):
        return array.cast(pa.timestamp("ns" if array.type.unit == "ns" else "us", "UTC"))
    if pa.types.is_date(array.type):
        return array.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    if pa.types.is_integer(array.type):
        return array.cast(pa.int64()).cast(pa.timestamp("ns", "UTC"))
    return None


def _cast_time_cells(values: list[Any], name: str) -> Any:
    import pyarrow as pa

    found = []
    for row, value in enumerate(values):
        try:
            found.append(_nanoseconds(value))
        except (TypeError, ValueError, OverflowError) as exc:
            raise ValueError(f"{name}, row {row}: {exc}") from exc
    return pa.array(found, pa.int64()).cast(pa.timestamp("ns", "UTC"))


def _nanoseconds(value: Any) -> int | None:
    if value is None or _differs_from_itself(value):
        return None
    if isinstance(value, str):
        value = parse_time(value)
    if isinstance(value, datetime):
        return (_aware(value) - _EPOCH) // timedelta(microseconds=1) * 1000
    if isinstance(value, date):
        return (value - _EPOCH.date()).days * 86_400_000_000_000
    if isinstance(value, (bool, bytes)) or not hasattr(value, "__int__"):
        raise TypeError(f"a time expected, got {type(value).__name__} {value!r:.40}")
    return int(value)


def _differs_from_itself(value: Any) -> bool:
    """Whether a value is NaN, NaT or pandas.NA."""
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # comparing pandas.NA gives NA, which has no truth; arrays likewise
        return not hasattr(value, "__len__")


def parse_time(text: str) -> datetime:
    """Return the time of an ISO 8601 text, aware; without zone it is UTC.

    Raises:
        ValueError: the text is not of that form.
    """
    # CPython 3.10 knows neither Z nor fractions of other than 3 or 6 digits.
    head, dot, tail = text.strip().replace("Z", "+00:00").replace("z", "+00:00").replace(",", ".").partition(".")
    digits = len(tail) - len(tail.lstrip("0123456789"))
    fraction = f".{tail[:digits][:6]:0<6}{tail[digits:]}" if dot else ""
    try:
        return _aware(datetime.fromisoformat(head + fraction))
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time; expected is a form such as 2026-01-31T12:00:00Z") from None


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)


def first_row(mask: Any) -> int | None:
    """Return the index of the first true cell of a pyarrow BooleanArray, or None."""
    import pyarrow as pa
    import pyarrow.compute as pc

    row = pc.index(mask, pa.scalar(True)).as_py()
    return None if row < 0 else int(row)
