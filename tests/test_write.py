"""Rows of any form become encoded rows, and go to the store in chunks."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from fastserve import FeatureStore
from fastserve._core import EncodedRows
from fastserve.errors import PushSourceNotFoundException, RequestError, WriteError
from fastserve.model import FeatureView
from fastserve.plan import PlanOptions
from fastserve.registry import schema_pb2 as pb
from fastserve.sources import row_format, to_batch
from fastserve.types import Int64, ValueType
from fastserve.write import ViewWriter, compile_writer, encode, prepare, pushed_views, stored_name, write_batches
from fastserve.write_on_demand import on_demand_format
from tests import reference, registries
from tests.bank import amounts, txn
from tests.rows import DAY, view


@pytest.mark.parametrize(
    "rows",
    [{}, [], pd.DataFrame(), txn(amount=None, count=None) | {"avg_amount": [float("nan")]}],
    ids=["dict", "list", "frame", "nulls"],
)
def test_rows_without_a_feature_are_passed_over(
    store: FeatureStore, rows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = amounts(store, "C1")
    store.push("txn_push", rows)
    assert amounts(store, "C1") == before
    assert "feature view txn_7d: no row" in caplog.text


# --- alone -----------------------------------------------------------------------------------------------------------

ROWS = {"cid": ["a", "b", "c"], "f": [1, 2, None], "ts": [DAY, DAY, DAY]}


def writer_of(found: FeatureView | None = None, **options: Any) -> ViewWriter:
    return compile_writer(found or view(f=Int64), PlanOptions("test", **options))


class Chunks:
    """A store that keeps what it was given, and applies all but the first row of each chunk."""

    def __init__(self) -> None:
        self.chunks: list[list[bytes]] = []

    def write(self, rows: EncodedRows, key_ttl_seconds: int | None = None) -> int:
        self.chunks.append(rows.entity_keys())
        return len(rows) - 1


def keys(*customers: str) -> list[bytes]:
    return [reference.serialize_entity_key(["cid"], [customer], [reference.STRING]) for customer in customers]


def test_the_plan_of_a_view() -> None:
    writer = writer_of(key_version=2)
    plan = writer.plan
    assert (plan.view, plan.project, plan.version) == ("v", "test", 2)
    assert (plan.join_keys, plan.features) == (("cid",), ("f",))
    assert (plan.key_types, plan.feature_types) == ((ValueType.STRING,), (ValueType.INT64,))
    assert writer.form == row_format(writer.view)


def test_a_stored_on_demand_view_needs_no_source() -> None:
    found = dataclasses.replace(view(f=Int64), kind="on_demand_feature_view", batch_source=None)
    assert writer_of(found).form == on_demand_format(found)
    with pytest.raises(RequestError, match="feature view v has no batch source"):
        writer_of(dataclasses.replace(found, kind="feature_view"))


@pytest.mark.parametrize(("number", "versioning", "name"), [(0, True, "v"), (2, True, "v_v2"), (2, False, "v")])
def test_versions_are_stored_under_names_of_their_own(number: int, versioning: bool, name: str) -> None:
    found = dataclasses.replace(view(f=Int64), current_version_number=number)
    options = PlanOptions("test", versioning=versioning)
    assert stored_name(found, options) == compile_writer(found, options).plan.view == name


def test_a_push_source_feeds_all_views_that_have_it() -> None:
    def fed(name: str, source: str, kind: int = pb.DataSource.PUSH_SOURCE) -> pb.FeatureView:
        message = registries.view(name, {"f": Int64})
        message.spec.stream_source.name, message.spec.stream_source.type = source, kind
        return message

    views = fed("a", "push"), fed("b", "other"), fed("c", "push"), fed("d", "push", pb.DataSource.STREAM_KAFKA)
    snapshot = registries.snapshot(registries.registry(*views, registries.view("e", {"f": Int64})))
    assert [found.name for found in pushed_views(snapshot, "push")] == ["a", "c"]
    with pytest.raises(PushSourceNotFoundException, match="nothing"):
        pushed_views(snapshot, "nothing")


def test_rows_are_prepared_as_they_are_stored() -> None:
    found = prepare(writer_of(), ROWS)
    assert found is not None
    assert (found.n_rows, found.entity_keys()) == (3, keys("a", "b", "c"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [({}, "no rows"), ({"cid": ["a"], "f": [None], "ts": [DAY]}, "no row has a feature")],
)
def test_nothing_to_write_is_none(rows: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture) -> None:
    assert prepare(writer_of(), rows) is None
    assert caplog.messages == [f"feature view v: {words}, so nothing is written"]


def test_rows_that_count_are_encoded() -> None:
    writer = writer_of()
    batch = to_batch(ROWS, writer.form)
    assert encode(writer, batch).entity_keys() == keys("a", "b", "c")
    assert encode(writer, batch, numbers(2, 0)).entity_keys() == keys("c", "a")


def numbers(*rows: int) -> bytes:
    return struct.pack(f"{len(rows)}q", *rows)


def damaged() -> Any:
    """Return a batch whose second key is no UTF-8, which only the core sees."""
    text = pa.StringArray.from_buffers(2, pa.py_buffer(struct.pack("3i", 0, 1, 3)), pa.py_buffer(b"a\xff\xfe"))
    batch = to_batch({"cid": ["a", "b"], "f": [1, 2], "ts": [DAY, DAY]}, writer_of().form)
    return pa.RecordBatch.from_arrays([text, *batch.columns[1:]], names=batch.schema.names)


def test_a_row_that_cannot_be_encoded_is_named_with_the_view() -> None:
    with pytest.raises(WriteError, match="feature view v: column 'cid', row 1"):
        encode(writer_of(), damaged())


@pytest.mark.parametrize(
    ("rows", "size", "chunks"),
    [
        (None, None, [["a", "b", "c"]]),
        (None, 2, [["a", "b"], ["c"]]),
        (numbers(2, 1, 0), 2, [["c", "b"], ["a"]]),
        (memoryview(numbers(1)), 2, [["b"]]),
        (b"", 2, []),
    ],
)
def test_batches_go_to_the_store_in_chunks(rows: Any, size: int | None, chunks: list[list[str]]) -> None:
    store, writer, told = Chunks(), writer_of(), list[int]()
    batch = to_batch(ROWS, writer.form)
    found: Any = store
    applied = write_batches(found, writer, [(batch, rows)] * 2, chunk_rows=size, on_written=told.append)
    assert store.chunks == [keys(*chunk) for chunk in chunks] * 2
    assert told == [len(chunk) for chunk in chunks] * 2
    assert applied == sum(told) - len(told)


def test_the_chunks_before_a_bad_row_are_written() -> None:
    store, writer = Chunks(), writer_of()
    found: Any = store
    with pytest.raises(WriteError, match="feature view v: column 'cid'"):
        write_batches(found, writer, [(damaged(), None)], chunk_rows=1)
    assert store.chunks == [keys("a")]
