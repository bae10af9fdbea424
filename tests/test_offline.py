"""Rows put into the Parquet file of a view's source."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastserve import FeatureStore, PushMode
from fastserve.errors import NotSupportedError, RequestError, SourceError, WriteError
from fastserve.model import DataSource
from fastserve.offline import prepend_rows
from fastserve.types import Int64
from tests.bank import LATER, amounts, txn
from tests.rows import DAY, view


def offline(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: column for name, column in rows.items() if name != "more"}


@pytest.mark.parametrize("to", ["offline", PushMode.OFFLINE, 2])
def test_rows_pushed_offline_come_first_in_the_file(store: FeatureStore, to: Any) -> None:
    path = store.repo_path / "data" / "txn.parquet"
    before, online = pq.read_table(path), amounts(store, "C1")
    store.push("txn_push", offline(txn(time="2026-03-01T00:00:00")), to=to)
    after = pq.read_table(path)
    assert after.schema.equals(before.schema) and after.slice(1).equals(before)
    assert after.to_pylist()[0]["amount_sum"] == 500.5 and after.to_pylist()[0]["event_timestamp"] == LATER
    assert amounts(store, "C1") == online


def test_both_stores_at_once(store: FeatureStore) -> None:
    store.push("txn_push", offline(txn()), to=PushMode.ONLINE_AND_OFFLINE)
    assert amounts(store, "C1") == [500.5]
    assert pq.read_table(store.repo_path / "data" / "txn.parquet").num_rows == 5


def test_offline_rows_have_the_columns_of_the_file(store: FeatureStore) -> None:
    with pytest.raises(WriteError, match=r"missing: \[\], extra: \['more'\]"):
        store.write_to_offline_store("txn_7d", txn())
    turned = dict(reversed(offline(txn()).items()))
    with pytest.raises(WriteError, match="columns must be those"):
        store.write_to_offline_store("txn_7d", turned, reorder_columns=False)
    with pytest.raises(WriteError, match="column 'txn_count'"):
        store.write_to_offline_store("txn_7d", turned | {"txn_count": ["many"]})
    store.write_to_offline_store("txn_7d", turned)
    assert sorted(p.name for p in (store.repo_path / "data").iterdir() if "txn" in p.name) == ["txn.parquet"]


def test_offline_without_a_file_is_an_error(store: FeatureStore) -> None:
    (store.repo_path / "data" / "txn.parquet").unlink()
    with pytest.raises(SourceError, match="feature view txn_7d"):
        store.write_to_offline_store("txn_7d", offline(txn()))
    (store.repo_path / "data" / "txn.parquet").mkdir()
    with pytest.raises(NotSupportedError, match="single local Parquet file"):
        store.write_to_offline_store("txn_7d", offline(txn()))


# --- one file --------------------------------------------------------------------------------------------------------

SCHEMA = pa.schema([("cid", pa.string()), ("f", pa.int64()), ("ts", pa.timestamp("ms"))])
OLD = pa.table([["a"], [1], [DAY.replace(tzinfo=None)]], schema=SCHEMA)
ROWS: dict[str, list[Any]] = {"cid": ["b", "c"], "f": [2, None], "ts": ["2026-01-02", DAY]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pq.write_table(OLD, tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


@pytest.mark.parametrize(
    "form", [dict, lambda rows: [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]]
)
def test_rows_take_the_types_of_the_file(path: Path, form: Any) -> None:
    prepend_rows(view(f=Int64), form(ROWS), path.parent).write()
    found = pq.read_table(path)
    assert found.schema.equals(SCHEMA)
    day = DAY.replace(tzinfo=None)
    assert found.to_pydict() == {"cid": ["b", "c", "a"], "f": [2, None, 1], "ts": [day] * 3}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"f": [1, "many"]}, "feature view v: column 'f': "),
        ({"f": [1.0, 1.5]}, "feature view v: column 'f': "),
        ({"ts": [DAY, "yesterday"]}, "feature view v: column 'ts': column 'ts', row 1: 'yesterday' is not a time"),
        ({"more": [1, 2]}, r"extra: \['more'\]"),
    ],
)
def test_rows_that_do_not_fit_leave_the_file(path: Path, change: dict[str, Any], words: str) -> None:
    before = path.read_bytes()
    with pytest.raises(WriteError, match=words):
        prepend_rows(view(f=Int64), ROWS | change, path.parent).write()
    assert path.read_bytes() == before
    assert [*path.parent.iterdir()] == [path]


def test_a_file_that_is_no_parquet_is_named(path: Path) -> None:
    path.write_bytes(b"no Parquet")
    with pytest.raises(SourceError, match=r"feature view v: .*rows\.parquet: "):
        prepend_rows(view(f=Int64), ROWS, path.parent).write()
    assert path.read_bytes() == b"no Parquet"


def test_only_a_local_parquet_file_takes_rows(path: Path) -> None:
    for source in (
        DataSource("s", "warehouse", timestamp_field="ts"),
        DataSource("s", "file", timestamp_field="ts", path="rows.parquet", file_format="delta"),
        DataSource("s", "file", timestamp_field="ts", path=f"file://{path}"),
    ):
        with pytest.raises(NotSupportedError, match=r"feature view v: source s: .*single local Parquet file"):
            prepend_rows(view(source, f=Int64), ROWS, path.parent).write()
    with pytest.raises(RequestError, match="feature view v has no batch source"):
        prepend_rows(dataclasses.replace(view(f=Int64), batch_source=None), ROWS, path.parent).write()
