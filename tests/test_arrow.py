"""Columns of any origin become the one Arrow type of each ValueType; the first cell that does not fit is named."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fastserve._core import decode_value
from fastserve.arrow import (
    NULL_SECONDS,
    as_arrow,
    as_python,
    canonical_type,
    cast_column,
    cast_key,
    cast_time,
    first_row,
    parse_time,
)
from fastserve.types import (
    Array,
    Bool,
    Bytes,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    Map,
    Set,
    String,
    UnixTimestamp,
    ValueType,
)
from fastserve.types import Decimal as DecimalType
from fastserve.types import Json as JsonType
from fastserve.types import Uuid as UuidType
from tests.reference_encode import encode_value
from tests.rows import DAY, UTC


def seconds(*texts: str) -> list[int]:
    return [int(dt.datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) for text in texts]


def test_iso_text_is_a_time() -> None:
    texts = ["2026-01-02T03:04:05.678Z", "2026-01-02T05:04:05+02:00", "2026-01-02", "1767323045", None]
    expected = [1767323045, 1767323045, 1767312000, 1767323045, NULL_SECONDS]
    assert cast_column(texts, ValueType.UNIX_TIMESTAMP, "t").to_pylist() == [*expected[:4], None]
    lists = cast_column([texts[:2], None], ValueType.UNIX_TIMESTAMP_LIST, "t")
    assert lists.to_pylist() == [expected[:2], None]
    zoned = cast_column(["2026-07-01T09:00:00-07:00"], ValueType.ZONED_TIMESTAMP, "t")[0].as_py()
    assert decode_value(zoned, ValueType.ZONED_TIMESTAMP).isoformat() == "2026-07-01T09:00:00-07:00"
    with pytest.raises(ValueError, match="t, row 1: UNIX_TIMESTAMP expected, got 'soon'"):
        cast_column([None, "soon"], ValueType.UNIX_TIMESTAMP, "t")


CASTS: list[tuple[FeastType, Any, list[Any]]] = [
    (Int64, ["12", " 3 ", None], [12, 3, None]),
    (Int64, [3.9, -3.9, float("nan")], [3, -3, None]),
    (Int64, [True, False], [1, 0]),
    (Int64, pa.array([2**53 + 1, None]), [2**53 + 1, None]),
    (Int32, pa.array([1, 2], pa.uint8()), [1, 2]),
    (Int64, [1, "2", 3.0], [1, 2, 3]),
    (Float64, [1, 2**60], [1.0, float(2**60)]),
    (Float64, [Decimal("1.5")], [1.5]),
    (Float64, pa.array([1.5], pa.float16()), [1.5]),
    (Float32, ["1.5", "x"][:1], [1.5]),
    (Float32, [1e300], [float("inf")]),
    (String, [5, None], ["5", None]),
    (String, [5.0], ["5.0"]),
    (String, [True], ["True"]),
    (String, ["", "é"], ["", "é"]),
    (Bool, [1, 0, None], [True, False, None]),
    (Bytes, [b"", b"a"], [b"", b"a"]),
    (Bytes, [b"", None], [None, None]),
    (Bytes, pa.array([b"ab"], pa.binary(2)), [b"ab"]),
    (UnixTimestamp, [dt.datetime(2026, 1, 1), None], [*seconds("2026-01-01"), NULL_SECONDS]),
    (UnixTimestamp, [5, None], [5, NULL_SECONDS]),
    (UnixTimestamp, [None, None], [None, None]),
    (UnixTimestamp, ["5", None], [5, None]),
    (UnixTimestamp, [dt.date(2026, 1, 1)], seconds("2026-01-01")),
    (UnixTimestamp, pa.array([-1500, 1500], pa.timestamp("ms", "America/New_York")), [-2, 1]),
    (UnixTimestamp, pd.Series(pd.to_datetime(["2026-01-01", None])), [*seconds("2026-01-01"), NULL_SECONDS]),
    (Array(Int64), [[1, 2], [], None], [[1, 2], [], None]),
    (Array(Int64), pa.array([[1, 2], None], pa.large_list(pa.int32())), [[1, 2], None]),
    (Array(Float32), pa.array([[1.5, 2.5]], pa.list_(pa.float64(), 2)), [[1.5, 2.5]]),
    (Array(Float64), [np.array([1.5]), None], [[1.5], None]),
    (Array(String), [["a", None]], [["a", ""]]),
    (Array(Bool), [[True, None]], [[True, False]]),
    (
        Array(UnixTimestamp),
        pa.array([[-1500, None], None, []], pa.list_(pa.timestamp("ms"))),
        [[-2, NULL_SECONDS], None, []],
    ),
    (Array(Int64), [b"[1, 2]"], [[1, 2]]),
]


@pytest.mark.parametrize(("dtype", "cells", "expected"), CASTS, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASTS)])
def test_cast(dtype: FeastType, cells: Any, expected: list[Any]) -> None:
    assert cast_column(cells, dtype.value_type, "x").to_pylist() == expected


def test_a_slice_of_lists_keeps_its_place() -> None:
    cells = pa.array([[1], [2, 3], None, [4]], pa.list_(pa.int32())).slice(1)
    assert cast_column(cells, ValueType.INT64_LIST, "x").to_pylist() == [[2, 3], None, [4]]


def test_a_null_in_a_list_of_floats_is_nan() -> None:
    found = cast_column(pa.array([[1.5, None]]), ValueType.DOUBLE_LIST, "x").to_pylist()
    assert found[0][0] == 1.5 and found[0][1] != found[0][1]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (Map, {"a": 1, "b": [1.5]}),
        (Set(Int64), {1, 2}),
        (JsonType, {"a": [1, None]}),
        (JsonType, json.dumps({"a": 1})),
        (UuidType, uuid.UUID(int=5)),
        (DecimalType, Decimal("1.10")),
        (Array(Array(Int64)), [[1], [2, 3]]),
    ],
    ids=str,
)
def test_other_types_are_serialised_values(dtype: FeastType, value: Any) -> None:
    number = int(dtype.value_type)
    found = cast_column(pd.Series([value, None], dtype=object), number, "x")
    assert found.type == pa.binary()
    assert found.to_pylist() == [encode_value(value, number), b""]


@pytest.mark.parametrize(
    ("dtype", "cells", "row"),
    [
        (Int64, [1, "x"], 1),
        (Int32, [1, 2**31], 1),
        (Int64, [1.0, float("inf")], 1),
        (Int64, [1, [2]], 1),
        (Float64, [1.5, "2.5"], 1),
        (Bool, [True, "yes"], 1),
        (Bytes, [b"a", "b"], 1),
        (String, [b"x"], 0),
        (String, ["a", ["b"]], 1),
        (UnixTimestamp, ["soon"], 0),
        (Array(Int64), [[1], [1.5]], 1),
        (Array(String), [["a"], [1]], 1),
        (Array(Int64), [[1], 2], 1),
        (DecimalType, ["1.5", "abc"], 1),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_named(dtype: FeastType, cells: list[Any], row: int) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"^column 'f', row {row}: "):
        cast_column(cells, dtype.value_type, "column 'f'")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["2026-01-02T00:00:00", "2026-01-02T02:00:00+02:00"], [DAY, DAY]),
        (["2026-01-02", "2026-01-02T00:00:00.0Z"], [DAY, DAY]),
        ([1767312000 * 10**9, None], [DAY, None]),
        ([dt.date(2026, 1, 2)], [DAY]),
        (pa.array([1767312000], pa.timestamp("s")), [DAY]),
        (pa.array([1767312000000], pa.timestamp("ms", "Asia/Tokyo")), [DAY]),
        (pd.Series(pd.to_datetime(["2026-01-02", None])), [DAY, None]),
        ([dt.datetime(2026, 1, 2, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))), "2026-01-02"], [DAY, DAY]),
        ([None], [None]),
        ([float("nan"), "2026-01-02"], [None, DAY]),
    ],
    ids=str,
)
def test_cast_time(cells: Any, expected: list[Any]) -> None:
    found = cast_time(cells, "ts")
    assert found.type.tz == "UTC" and found.type.unit in ("us", "ns")
    assert found.to_pylist() == expected


@pytest.mark.parametrize(
    "text", ["2026-01-02T03:04:05.6Z", "2026-01-02 03:04:05.600000999+00:00", "2026-01-02T03:04:05,6"]
)
def test_parse_time(text: str) -> None:
    assert parse_time(text) == dt.datetime(2026, 1, 2, 3, 4, 5, 600000, UTC)


@pytest.mark.parametrize("value", ["yesterday", "", b"2026", True, [1]])
def test_what_is_no_time_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^column 'ts', row 1: "):
        cast_time(["2026-01-02", value], "column 'ts'")


# --- what the others use ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (String, pa.string()),
        (Bytes, pa.binary()),
        (Int32, pa.int32()),
        (Float32, pa.float32()),
        (UnixTimestamp, pa.int64()),
        (Array(Bool), pa.list_(pa.bool_())),
        (Array(UnixTimestamp), pa.list_(pa.int64())),
        (Map, pa.binary()),
        (DecimalType, pa.binary()),
    ],
    ids=str,
)
def test_canonical_type(dtype: FeastType, expected: Any) -> None:
    assert canonical_type(dtype.value_type) == expected


PLAIN: list[tuple[str, Any, Any]] = [
    ("dictionary", pa.array(["a", None, "a"]).dictionary_encode(), pa.array(["a", None, "a"])),
    ("chunks", pa.chunked_array([[1], [2, None]]), pa.array([1, 2, None])),
    ("no chunks", pa.chunked_array([], pa.int32()), pa.array([], pa.int32())),
    ("categories", pd.Series([5, None, 6], dtype="category"), pa.array([5, None, 6])),
    ("NaN is null", np.array([1.5, np.nan]), pa.array([1.5, None])),
    ("list", [1, None], pa.array([1, None])),
]


@pytest.mark.parametrize(("cells", "expected"), [case[1:] for case in PLAIN], ids=[case[0] for case in PLAIN])
def test_as_arrow_gives_one_plain_array(cells: Any, expected: Any) -> None:
    found = as_arrow(cells)
    assert found is not None and found.equals(expected)


def test_run_lengths_are_expanded() -> None:
    found = as_arrow(pa.RunEndEncodedArray.from_arrays([2, 3], [5, 6]))
    assert found is not None and found.to_pylist() == [5, 5, 6]


@pytest.mark.parametrize(
    "cells", [[1, "a"], [b"a", "b"], [object()], [2**70]], ids=["mixed", "bytes and text", "object", "huge"]
)
def test_what_arrow_cannot_hold_is_none(cells: Any) -> None:
    assert as_arrow(cells) is None


@pytest.mark.skipif(not hasattr(pa, "string_view"), reason="this pyarrow has no views")
def test_views_are_made_large() -> None:
    for view_type, large in ((pa.string_view(), pa.large_string()), (pa.binary_view(), pa.large_binary())):
        found = as_arrow(pa.array(["a", None], view_type))
        assert found is not None and found.type == large and found.null_count == 1


@pytest.mark.parametrize(
    "cells", [[1, None], (1, None), pa.array([1, None]), pd.Series([1, None], dtype=object), np.array([1, None])]
)
def test_as_python(cells: Any) -> None:
    assert as_python(cells) == [1, None]


@pytest.mark.parametrize(("mask", "row"), [([False, True, True], 1), ([None, False], None), ([], None)])
def test_first_row(mask: list[bool | None], row: int | None) -> None:
    assert first_row(pa.array(mask, pa.bool_())) == row


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "cells", "expected"),
    [
        (Int64, [7.0, None, float("nan")], [7, None, None]),
        (Int32, [7.0, -8.0], [7, -8]),
        (Int64, pa.array([2**53 + 1]), [2**53 + 1]),
        (Int64, ["7"], [7]),
        (String, [7], ["7"]),
    ],
)
def test_cast_key(dtype: FeastType, cells: Any, expected: list[Any]) -> None:
    assert cast_key(cells, dtype.value_type, "k").to_pylist() == expected


@pytest.mark.parametrize("dtype", [Int32, Int64], ids=str)
def test_the_fraction_of_a_key_is_named(dtype: FeastType) -> None:
    with pytest.raises(ValueError, match=r"^k, row 2: 7\.5 is not a whole number"):
        cast_key([7.0, None, 7.5], dtype.value_type, "k")
    assert cast_column([7.5], dtype.value_type, "k").to_pylist() == [7]


@pytest.mark.parametrize("cells", [[float("inf")], [float("-inf")], [1e300]], ids=str)
def test_a_key_out_of_range_is_named(cells: list[float]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError), match="k, row 0: "):
        cast_key(cells, Int64.value_type, "k")


@pytest.mark.parametrize("text", ["", "2026", "2026-13-01", "12:00", "2026-01-02T25:00", "2026-01-02T03:04:05.6X"])
def test_a_text_that_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time; expected is a form such as 2026-01-31T12:00:00Z"):
        parse_time(text)
