"""Rows of any form become one batch of canonical types; what does not fit is named."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from fastserve._core import encode_rows
from fastserve.errors import EntityError, RequestError, WriteError
from fastserve.model import DUMMY_ENTITY, DataSource, FeatureView, Field
from fastserve.sources import columns_of, is_void, row_format, to_batch
from fastserve.types import (
    Array,
    Bool,
    Float32,
    Float64,
    Int64,
    String,
    UnixTimestamp,
)
from tests.rows import DAY, UTC, view

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
    with pytest.raises(WriteError, match="feature view v: join key 'id', row 0: it must not be null"):
        to_batch(rows | {"id": pa.array([float("nan"), 7.9])}, row_format(found))


def test_a_value_that_does_not_fit_is_named_with_the_view() -> None:
    with pytest.raises(WriteError, match="feature view v: column 'count', row 1: INT64 expected"):
        to_batch(COLUMNS | {"count": [1, "x"]}, row_format(VIEW))
    with pytest.raises(WriteError, match="feature view v: column 'ts', row 1: 'yesterday' is not a time"):
        to_batch(COLUMNS | {"ts": [DAY, "yesterday"]}, row_format(VIEW))


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
