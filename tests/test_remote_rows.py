"""Entities and rows as JSON."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from fastserve.errors import EntityError, RequestError
from fastserve.registry import schema_pb2 as pb
from fastserve.remote_rows import encode_entities, encode_rows

UTC = timezone.utc
ID = UUID("550e8400-e29b-41d4-a716-446655440000")


def entities(**columns: list[Any]) -> Any:
    return json.loads(b"{" + encode_entities(columns) + b"}")


def rows(given: Any) -> Any:
    return json.loads(b"{" + encode_rows(given) + b"}")


def test_plain_entities() -> None:
    columns = {"a": ["x", None], "b": [1, True], "c": [2**63, -(2**63)]}
    assert entities(**columns) == {"entities": columns}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.5, 1.5),
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (ID, str(ID)),
        (Decimal("1.50"), "1.50"),
        ({1}, [1]),
        ((1, "a"), [1, "a"]),
        (np.array([1, 2]), [1, 2]),
        ({"a": ID}, {"a": str(ID)}),
        (datetime(1970, 1, 2), 86400),
        (datetime(1970, 1, 2, tzinfo=timezone(timedelta(hours=1))), 82800),
        (datetime(1969, 12, 31, 23, 59, 59, 500_000), 0),
        (pd.Timestamp("1970-01-02"), 86400),
        (pd.NaT, None),
        (pd.NA, None),
    ],
)
def test_one_entity(value: Any, expected: Any) -> None:
    found = entities(a=[value])["entities"]["a"][0]
    assert found == expected and type(found) is type(expected)


def test_times_are_named() -> None:
    found = entities(a=[datetime(1970, 1, 2), None], b=[86400, 1])
    assert found == {"entities": {"a": [86400, None], "b": [86400, 1]}, "time_entities": ["a"]}


def test_numbers_that_json_lacks() -> None:
    found = entities(a=[math.nan, math.inf, -math.inf])["entities"]["a"]
    assert math.isnan(found[0]) and found[1:] == [math.inf, -math.inf]


def test_protobuf_values() -> None:
    assert entities(a=[pb.Value(int64_val=7), pb.Value()]) == {"entities": {"a": [7, None]}}


def test_bytes_are_apart() -> None:
    found = entities(a=[b"\x00\xff", None], b=["x", "y"])
    assert found == {"entities": {"a": [], "b": ["x", "y"]}, "binary_entities": {"a": ["AP8=", None]}}
    assert list(found["entities"]) == ["a", "b"]


@pytest.mark.parametrize("value", [object(), 1j, timedelta(1)])
def test_what_is_no_entity(value: Any) -> None:
    with pytest.raises(EntityError, match=r"entity 'a', row 1: .* is nothing that JSON could carry"):
        entities(a=[1, value])


def test_what_json_cannot_carry() -> None:
    with pytest.raises(RequestError, match="the request is no JSON"):
        entities(a=["half of a pair: \ud800"])


# --- rows ------------------------------------------------------------------------------------------------------------

MOMENT = datetime(2026, 3, 1, 12, 30, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "given",
    [
        {"k": ["C1", "C2"], "x": [1, None], "t": [MOMENT, MOMENT]},
        [{"k": "C1", "x": 1, "t": MOMENT}, {"k": "C2", "x": None, "t": MOMENT}],
        pa.table({"k": ["C1", "C2"], "x": pa.array([1, None], pa.int64()), "t": [MOMENT, MOMENT]}),
        pl.DataFrame({"k": ["C1", "C2"], "x": [1, None], "t": [MOMENT, MOMENT]}),
        pd.DataFrame({"k": ["C1", "C2"], "x": pd.array([1, None], "Int64"), "t": [MOMENT, MOMENT]}),
        pd.DataFrame({"k": ["C1", "C2"], "x": [1, None], "t": [MOMENT, MOMENT]}).astype({"t": "datetime64[ns, UTC]"}),
    ],
    ids=["dict", "list", "arrow", "polars", "pandas", "pandas, nanoseconds"],
)
def test_rows_of_any_form(given: Any) -> None:
    found = rows(given)["df"]
    assert found["k"] == ["C1", "C2"]
    assert found["x"] == [1, None]
    assert [datetime.fromisoformat(text) for text in found["t"]] == [MOMENT, MOMENT]


def test_values_of_rows() -> None:
    cells = [ID, Decimal("1.5"), {"a": {1: "x"}}, [1.5, None], date(2026, 1, 2), time(1, 2), pd.NaT, np.int8(1)]
    cells.append(np.array(["2026-01-02"], "datetime64[ns]"))
    expected = [str(ID), "1.5", {"a": {"1": "x"}}, [1.5, None], "2026-01-02", "01:02:00", None, 1]
    assert rows({"a": cells})["df"]["a"] == [*expected, ["2026-01-02T00:00:00"]]


def test_naive_times_stay_naive() -> None:
    assert rows({"t": [datetime(2026, 3, 1)]}) == {"df": {"t": ["2026-03-01T00:00:00"]}}


def test_numbers_of_nanoseconds_stay_numbers() -> None:
    assert rows({"t": [1_767_323_045_678_901_000]}) == {"df": {"t": [1_767_323_045_678_901_000]}}


def test_bytes_in_rows() -> None:
    found = rows({"k": ["a"], "b": [b"\x00"], "l": [[b"\x01", None]], "m": [bytearray(b"\x02")]})
    assert found["df"] == {"k": ["a"], "b": [], "l": [], "m": []}
    assert found == {"df": found["df"], "binary": {"b": ["AA=="], "l": [["AQ==", None]], "m": ["Ag=="]}}


def test_bytes_inside_of_objects_are_refused() -> None:
    # Nobody could tell them from text there.
    with pytest.raises(RequestError, match="column 'm': bytes in an object"):
        rows({"m": [{"a": b"\x00"}]})


def test_a_nan_is_written_as_python_does() -> None:
    assert b"NaN" in encode_rows({"x": [math.nan]})


def test_rows_that_are_none() -> None:
    with pytest.raises(RequestError, match="rows expected as a DataFrame"):
        encode_rows(5)
    with pytest.raises(RequestError, match="column 'a': object"):
        encode_rows({"a": [object()]})
