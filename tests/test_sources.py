"""Rows of any form become one batch of canonical types; what does not fit is named."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastserve._core import encode_rows
from fastserve.arrow import NULL_SECONDS, cast_column, cast_time, parse_time
from fastserve.errors import EntityError, NotSupportedError, RequestError, SourceError, WriteError
from fastserve.model import DUMMY_ENTITY, DataSource, FeatureView, Field
from fastserve.parquet import FileRows
from fastserve.sources import columns_of, is_void, row_format, to_batch
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

UTC = dt.timezone.utc
DAY = dt.datetime(2026, 1, 2, tzinfo=UTC)
ALWAYS = dt.datetime(1970, 1, 1, tzinfo=UTC), dt.datetime(2100, 1, 1, tzinfo=UTC)


def view(source: DataSource | None = None, /, **features: FeastType) -> FeatureView:
    return FeatureView(
        "v",
        entities=("customer",),
        entity_columns=(Field("cid", String),),
        features=tuple(Field(name, dtype) for name, dtype in features.items()),
        batch_source=source or DataSource("s", "file", timestamp_field="ts", path="rows.parquet"),
    )


def seconds(*texts: str) -> list[int]:
    return [int(dt.datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) for text in texts]


COLUMNS: dict[str, list[Any]] = {
    "cid": ["a", "b"],
    "count": [1, None],
    "amount": [1.5, None],
    "name": ["x", None],
    "vip": [True, None],
    "tags": [["p", "q"], None],
    "ts": [dt.datetime(2026, 1, 2), dt.datetime(2026, 1, 2, 12)],
    "more": [0, 0],
}
VIEW = view(count=Int64, amount=Float64, name=String, vip=Bool, tags=Array(String))
EXPECTED = {
    **{name: COLUMNS[name] for name in COLUMNS if name != "more"},
    "ts": [t.replace(tzinfo=UTC) for t in COLUMNS["ts"]],
}


@pytest.mark.parametrize(
    "rows",
    [
        COLUMNS,
        {name: np.array(column, dtype=object) for name, column in COLUMNS.items()},
        pd.DataFrame(COLUMNS),
        pd.DataFrame(COLUMNS).convert_dtypes(),
        pa.table(COLUMNS),
        pa.concat_tables([pa.table(COLUMNS).slice(0, 1), pa.table(COLUMNS).slice(1)]),
        pa.table(COLUMNS).to_batches()[0],
        pa.table(COLUMNS).to_reader(),
        pl.DataFrame(COLUMNS),
        pl.DataFrame(COLUMNS).with_columns(pl.col("name").cast(pl.Categorical)),
        [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)],
    ],
    ids=[
        "dict",
        "ndarrays",
        "pandas",
        "nullable",
        "arrow",
        "chunked",
        "batch",
        "reader",
        "polars",
        "categorical",
        "rows",
    ],
)
def test_every_form_of_rows_gives_the_same(rows: Any) -> None:
    batch = to_batch(rows, row_format(VIEW))
    # `to_pydict` makes pandas Timestamps of nanoseconds, which equal datetimes.
    assert batch.to_pydict() == EXPECTED
    assert encode_rows(plan_of(VIEW), batch).n_rows == 2


def plan_of(found: FeatureView) -> Any:
    from fastserve.plan import PlanOptions
    from fastserve.write import compile_writer

    return compile_writer(found, PlanOptions("test")).plan


# --- types -----------------------------------------------------------------------------------------------------------

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
        (UnixTimestamp, ["2026-01-01T00:00:00"], 0),
        (Array(Int64), [[1], [1.5]], 1),
        (Array(String), [["a"], [1]], 1),
        (Array(Int64), [[1], 2], 1),
        (DecimalType, ["1.5", "abc"], 1),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_named(dtype: FeastType, cells: list[Any], row: int) -> None:
    with pytest.raises(WriteError, match=rf"feature view v: column 'f', row {row}: "):
        to_batch({"cid": ["a"] * len(cells), "f": cells, "ts": [DAY] * len(cells)}, row_format(view(f=dtype)))


# --- times -----------------------------------------------------------------------------------------------------------


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
    with pytest.raises(WriteError, match="feature view v: column 'ts', row 1: "):
        to_batch({"cid": ["a", "b"], "f": [1, 1], "ts": ["2026-01-02", value]}, row_format(view(f=Int64)))


# --- what rows must have ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cid": ["a", None]}, "join key 'cid', row 1: it must not be null"),
        ({"cid": [None, None]}, "join key 'cid', row 0: it must not be null"),
        ({"ts": ["2026-01-02", None]}, "event time 'ts', row 1: it must not be null"),
        ({"ts": [pd.NaT, DAY]}, "event time 'ts', row 0: it must not be null"),
    ],
)
def test_a_null_key_or_event_time_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(WriteError, match=f"feature view v: {words}"):
        to_batch(COLUMNS | change, row_format(VIEW))


def test_a_key_loses_no_fraction() -> None:
    found = FeatureView(
        "v", entity_columns=(Field("id", Int64),), features=(Field("f", Int64),), batch_source=VIEW.batch_source
    )
    rows = {"id": [7.0, 8.0], "f": [1, 2], "ts": [DAY, DAY]}
    assert to_batch(rows, row_format(found)).column("id").to_pylist() == [7, 8]
    with pytest.raises(WriteError, match=r"feature view v: join key 'id', row 1: 7.9 is not a whole number"):
        to_batch(rows | {"id": [7.0, 7.9]}, row_format(found))
    with pytest.raises(WriteError, match="feature view v: join key 'id', row 0: it must not be null"):
        to_batch(rows | {"id": [float("nan"), 7.0]}, row_format(found))
    with pytest.raises(WriteError, match="feature view v: join key 'id', row 1: INT64 expected"):
        to_batch(rows | {"id": [7, "x"]}, row_format(found))


def test_a_null_timestamp_key_is_named() -> None:
    found = FeatureView(
        "v", entity_columns=(Field("at", UnixTimestamp),), features=(Field("f", Int64),), batch_source=VIEW.batch_source
    )
    with pytest.raises(WriteError, match="join key 'at', row 1: it must not be null"):
        to_batch({"at": [DAY, None], "f": [1, 2], "ts": [DAY, DAY]}, row_format(found))


def test_all_missing_columns_are_named() -> None:
    rows = {name: COLUMNS[name] for name in ("cid", "count", "ts")}
    with pytest.raises(
        WriteError, match="feature view v: missing columns: amount, name, vip, tags; the rows have: cid"
    ):
        to_batch(rows, row_format(VIEW))


def test_columns_are_renamed_by_the_field_mapping() -> None:
    source = DataSource("s", "file", timestamp_field="ts", field_mapping={"when": "ts", "c": "count"}, path="x")
    batch = to_batch({"cid": ["a"], "c": [1], "when": ["2026-01-02"]}, row_format(view(source, count=Int64)))
    assert batch.to_pydict() == {"cid": ["a"], "count": [1], "ts": [DAY]}


def test_a_declared_time_of_creation_is_required_and_may_be_null() -> None:
    source = DataSource("s", "file", timestamp_field="ts", created_timestamp_column="created", path="x")
    form = row_format(view(source, f=Int64))
    with pytest.raises(WriteError, match="missing columns: created"):
        to_batch({"cid": ["a"], "f": [1], "ts": [DAY]}, form)
    batch = to_batch({"cid": ["a"], "f": [1], "ts": [DAY], "created": [None]}, form)
    assert batch.column("created").to_pylist() == [None]


def test_vectors_have_the_declared_length() -> None:
    vector = Field("f", Array(Float32), vector_length=2)
    found = FeatureView("v", entity_columns=(Field("cid", String),), features=(vector,), batch_source=VIEW.batch_source)
    rows: dict[str, Any] = {"cid": ["a", "b"], "ts": [DAY, DAY]}
    assert to_batch(rows | {"f": [[1.0, 2.0], None]}, row_format(found)).num_rows == 2
    with pytest.raises(WriteError, match="column 'f', row 1: a vector of length 2 expected, got one of 3"):
        to_batch(rows | {"f": [[1.0, 2.0], [1.0, 2.0, 3.0]]}, row_format(found))


def test_the_join_keys_of_a_stream_view_are_features_too() -> None:
    found = FeatureView(
        "v",
        kind="stream_feature_view",
        entities=("customer",),
        entity_columns=(Field("cid", String),),
        features=(Field("f", Int64),),
        batch_source=VIEW.batch_source,
    )
    assert [name for name, _ in row_format(found).features] == ["cid", "f"]
    assert to_batch({"cid": ["a"], "f": [1], "ts": [DAY]}, row_format(found)).num_columns == 4


def test_a_view_without_entities_has_no_key_columns() -> None:
    found = FeatureView(
        "v",
        entities=(DUMMY_ENTITY,),
        entity_columns=(Field("__dummy_id", String),),
        features=(Field("f", Int64),),
        batch_source=VIEW.batch_source,
    )
    assert to_batch({"f": [1], "ts": [DAY]}, row_format(found)).to_pydict() == {"f": [1], "ts": [DAY]}


def test_a_view_without_source_or_with_a_wrong_key_is_refused() -> None:
    with pytest.raises(RequestError, match="feature view v has no batch source"):
        row_format(FeatureView("v", entity_columns=(Field("cid", String),)))
    with pytest.raises(EntityError, match="DOUBLE of feature view v"):
        row_format(FeatureView("v", entity_columns=(Field("cid", Float64),), batch_source=VIEW.batch_source))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (5, "got int"),
        ("text", "got str"),
        ([1, 2], "got list"),
        ({"a": [1], "b": [1, 2]}, "same length; got a: 1, b: 2"),
        ({"a": "text"}, "column 'a': a list or array expected, got str"),
        ({"a": 5}, "column 'a': a list or array expected, got int"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "several columns named a"),
    ],
)
def test_other_forms_are_refused(rows: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        columns_of(rows)


@pytest.mark.parametrize(
    ("features", "void"),
    [
        ({"f": [None, None], "g": [None, None]}, True),
        ({"f": [None, 1], "g": [None, None]}, False),
        ({"f": [None, None], "g": [DAY, None]}, False),
        ({"f": [], "g": []}, True),
    ],
)
def test_rows_without_any_feature_are_void(features: dict[str, Any], void: bool) -> None:
    n_rows = len(features["f"])
    form = row_format(view(f=Int64, g=UnixTimestamp))
    assert is_void(to_batch({"cid": ["a"] * n_rows, **features, "ts": [DAY] * n_rows}, form), form) == void


# --- files -----------------------------------------------------------------------------------------------------------


def hours(*numbers: int) -> list[dt.datetime]:
    return [DAY + dt.timedelta(hours=n) for n in numbers]


def table(times: Any, **columns: Any) -> pa.Table:
    n_rows = len(times)
    return pa.table({"cid": [f"c{i}" for i in range(n_rows)], "f": list(range(n_rows)), "ts": times} | columns)


def opened(folder: Path, path: str = "rows.parquet", **source: Any) -> FileRows:
    found = view(DataSource("s", "file", timestamp_field="ts", path=path, **source), f=Int64)
    assert found.batch_source is not None
    return FileRows(row_format(found), found.batch_source, folder)


def rows_of(rows: FileRows, window: tuple[dt.datetime, dt.datetime] = ALWAYS) -> list[int]:
    return [value for batch in rows.batches(*window) for value in batch.column("f").to_pylist()]


TIME_COLUMNS = {
    "us": pa.array(hours(0, 1, 2, 3), pa.timestamp("us", "UTC")),
    "naive": pa.array([t.replace(tzinfo=None) for t in hours(0, 1, 2, 3)], pa.timestamp("ms")),
    "ns": pa.array(hours(0, 1, 2, 3), pa.timestamp("ns", "Asia/Tokyo")),
    "seconds": pa.array(hours(0, 1, 2, 3), pa.timestamp("s")),
    "text": [t.isoformat() for t in hours(0, 1, 2, 3)],
    "number": [int(t.timestamp()) * 10**9 for t in hours(0, 1, 2, 3)],
}


@pytest.mark.parametrize("kind", TIME_COLUMNS)
def test_both_ends_of_the_window_are_in_it(tmp_path: Path, kind: str) -> None:
    pq.write_table(table(TIME_COLUMNS[kind]), tmp_path / "rows.parquet", row_group_size=2)
    rows = opened(tmp_path)
    assert rows.n_rows() == 4
    assert rows_of(rows, (DAY + dt.timedelta(hours=1), DAY + dt.timedelta(hours=2))) == [1, 2]
    inside = (DAY + dt.timedelta(minutes=1), DAY + dt.timedelta(hours=2, minutes=-1))
    assert rows_of(rows, inside) == [1]
    assert rows_of(rows, (DAY - dt.timedelta(days=2), DAY - dt.timedelta(days=1))) == []


def test_dates_are_midnight_in_utc(tmp_path: Path) -> None:
    days = pa.array([dt.date(2026, 1, 1), dt.date(2026, 1, 2), dt.date(2026, 1, 3)])
    pq.write_table(table(days), tmp_path / "rows.parquet")
    assert rows_of(opened(tmp_path), (DAY, DAY + dt.timedelta(hours=23))) == [1]


def test_rows_outside_of_the_window_are_not_looked_at(tmp_path: Path) -> None:
    times = pa.array([*hours(0, 5), None], pa.timestamp("us", "UTC"))
    pq.write_table(table(times, cid=["a", None, None], f=["1", "x", "y"]), tmp_path / "rows.parquet")
    assert rows_of(opened(tmp_path), (DAY, DAY)) == [1]
    with pytest.raises(WriteError, match=r"column 'f', row 1: .*'x'"):
        rows_of(opened(tmp_path))


def test_a_null_key_in_a_file_is_named_with_the_file(tmp_path: Path) -> None:
    pq.write_table(table(hours(0, 1), cid=["a", None]), tmp_path / "rows.parquet")
    with pytest.raises(WriteError, match=r"feature view v: join key 'cid', row 1: .*source s \(rows.parquet\)"):
        rows_of(opened(tmp_path))


def test_a_folder_is_one_source_whatever_the_types_in_its_files(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    pq.write_table(table(hours(0), f=[1]), tmp_path / "rows" / "a.parquet")
    late = pa.array(hours(1), pa.timestamp("ns"))
    pq.write_table(table(late, f=pa.array([2], pa.int16())), tmp_path / "rows" / "b.parquet")
    assert sorted(rows_of(opened(tmp_path, "rows"))) == [1, 2]
    assert rows_of(opened(tmp_path, "rows"), (DAY + dt.timedelta(minutes=1), DAY + dt.timedelta(hours=1))) == [2]


def test_a_partitioned_folder_has_its_path_as_columns(tmp_path: Path) -> None:
    pq.write_to_dataset(table(hours(0, 1), cid=["a", "b"], f=[5, 6]), tmp_path / "rows", partition_cols=["cid"])
    rows = opened(tmp_path, "rows")
    found = {row["cid"]: row["f"] for batch in rows.batches(*ALWAYS) for row in batch.to_pylist()}
    assert found == {"a": 5, "b": 6}


def test_a_uri_names_a_file_system(tmp_path: Path) -> None:
    pq.write_table(table(hours(0)), tmp_path / "rows.parquet")
    assert rows_of(opened(Path("/nowhere"), f"file://{tmp_path}/rows.parquet")) == [0]


def test_parts_have_all_rows_once(tmp_path: Path) -> None:
    pq.write_table(table(hours(*range(10))), tmp_path / "rows.parquet", row_group_size=3)
    rows = opened(tmp_path)
    parts = rows.parts(*ALWAYS)
    assert len(parts) == 4
    assert sorted(v for p in parts for b in rows.batches(*ALWAYS, p) for v in b.column("f").to_pylist()) == [*range(10)]


def test_what_is_wrong_with_a_source_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"feature view v: source s \(rows.parquet\): no such file or folder"):
        opened(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no Parquet files"):
        opened(tmp_path, "empty")
    (tmp_path / "rows.parquet").write_bytes(b"no Parquet")
    with pytest.raises(SourceError, match="cannot be read"):
        opened(tmp_path)
    pq.write_table(pa.table({"cid": ["a"], "x": [1]}), tmp_path / "rows.parquet")
    with pytest.raises(SourceError, match="missing columns: f, ts; it has: cid, x"):
        opened(tmp_path)
    with pytest.raises(NotSupportedError, match="delta source is not supported"):
        opened(tmp_path, file_format="delta")


def test_a_file_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(table(hours(*range(5000))), path, compression="none", use_dictionary=False)
    rows = opened(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match="feature view v: source s"):
        rows_of(rows)
