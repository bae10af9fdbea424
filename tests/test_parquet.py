"""Parquet files and folders of them become batches of a window."""

from __future__ import annotations

import datetime as dt
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastserve.errors import NotSupportedError, SourceError, WriteError
from fastserve.model import DataSource
from fastserve.parquet import FileRows, read_schema, resolve
from fastserve.sources import row_format
from fastserve.types import Int64
from tests.rows import ALWAYS, DAY, UTC, view


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


def test_rows_can_be_read_in_another_process(tmp_path: Path) -> None:
    pq.write_table(table(hours(0, 1)), tmp_path / "rows.parquet", row_group_size=1)
    rows = opened(tmp_path)
    again, parts = pickle.loads(pickle.dumps((rows, rows.parts(*ALWAYS))))
    assert rows_of(again) == [0, 1]
    assert [b.column("f").to_pylist() for part in parts for b in again.batches(*ALWAYS, part)] == [[0], [1]]


def test_row_groups_outside_of_the_window_are_not_read(tmp_path: Path) -> None:
    pq.write_table(table(hours(*range(10))), tmp_path / "rows.parquet", row_group_size=2)
    rows = opened(tmp_path)
    assert len(rows.parts(DAY + dt.timedelta(hours=3), DAY + dt.timedelta(hours=4))) == 2
    assert rows.parts(DAY - dt.timedelta(hours=3), DAY - dt.timedelta(hours=1)) == []


def test_rows_without_event_time_are_in_no_window(tmp_path: Path) -> None:
    for times in (pa.array([None, DAY], pa.timestamp("us", "UTC")), [None, DAY.isoformat()]):
        pq.write_table(table(times), tmp_path / "rows.parquet")
        assert rows_of(opened(tmp_path)) == [1]


def test_a_text_that_is_no_time_is_named_with_the_file(tmp_path: Path) -> None:
    pq.write_table(table([DAY.isoformat(), "yesterday"]), tmp_path / "rows.parquet")
    with pytest.raises(WriteError, match=r"view v: event time 'ts', row 1: .*, in source s \(rows.parquet\)"):
        rows_of(opened(tmp_path))


def test_columns_of_files_may_be_called_otherwise(tmp_path: Path) -> None:
    found = table(hours(0, 1)).rename_columns(["cid", "raw", "when"])
    pq.write_table(found, tmp_path / "rows.parquet")
    rows = opened(tmp_path, field_mapping={"raw": "f", "when": "ts", "absent": "cid"})
    assert (rows.columns, rows.event_time) == (["cid", "raw", "when"], "when")
    assert rows_of(rows, (DAY, DAY)) == [0]


def test_only_the_columns_of_the_view_are_read(tmp_path: Path) -> None:
    pq.write_table(table(hours(0), more=["x"]), tmp_path / "rows.parquet")
    (batch,) = opened(tmp_path).batches(*ALWAYS)
    assert batch.schema.names == ["cid", "f", "ts"]


def test_a_column_that_only_other_files_have_is_null(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    pq.write_table(table(hours(0)), tmp_path / "rows" / "a.parquet")
    pq.write_table(table(hours(1)).drop_columns(["f"]), tmp_path / "rows" / "b.parquet")
    assert rows_of(opened(tmp_path, "rows")) == [0, None]


def test_a_file_that_went_away_is_an_error(tmp_path: Path) -> None:
    pq.write_table(table(hours(0)), tmp_path / "rows.parquet")
    for ask in (rows_of, FileRows.n_rows, lambda rows: rows.parts(*ALWAYS)):
        rows = opened(tmp_path)
        (tmp_path / "rows.parquet").rename(tmp_path / "gone")
        with pytest.raises(SourceError, match=r"feature view v: source s \(rows.parquet\): no such file or folder"):
            ask(rows)
        (tmp_path / "gone").rename(tmp_path / "rows.parquet")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_window_beyond_what_a_type_of_times_can_say(tmp_path: Path, unit: str) -> None:
    pq.write_table(table(pa.array(hours(0, 1), pa.timestamp(unit))), tmp_path / "rows.parquet")
    forever = dt.datetime(1, 1, 1, tzinfo=UTC), dt.datetime(9999, 12, 31, tzinfo=UTC)
    assert rows_of(opened(tmp_path), forever) == [0, 1]


# --- schemas and places ----------------------------------------------------------------------------------------------


def test_the_schema_of_a_file_and_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    expected = table(hours(0)).schema
    pq.write_table(table(hours(0)), tmp_path / "rows" / "a.parquet")
    for path in ("rows/a.parquet", "rows", f"file://{tmp_path}/rows/a.parquet"):
        assert read_schema(DataSource("s", "file", path=path), tmp_path).equals(expected)
    with pytest.raises(FileNotFoundError):
        read_schema(DataSource("s", "file", path="nothing"), tmp_path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data/rows.parquet", "/repo/data/rows.parquet"),
        ("/elsewhere/rows.parquet", "/elsewhere/rows.parquet"),
        ("c://rows", "/repo/c:/rows"),  # a drive of Windows, no scheme
    ],
)
def test_a_path_starts_at_the_repository(path: str, expected: str) -> None:
    assert resolve(DataSource("s", "file", path=path), Path("/repo")) == (None, expected)


def test_an_object_store_at_another_address() -> None:
    fs = pytest.importorskip("pyarrow.fs")
    if not hasattr(fs, "S3FileSystem"):
        pytest.skip("this pyarrow has no S3")
    source = DataSource("s", "file", path="s3://bucket/rows", s3_endpoint_override="http://localhost:1")
    filesystem, path = resolve(source, Path("/repo"))
    assert (type(filesystem).__name__, path) == ("S3FileSystem", "bucket/rows")
