"""Rows -> the online store.

A `ViewWriter` says everything about the rows of a view that does not depend on them. `prepare` turns rows of any form
into rows that are known to be good, so that a call writes either all of its rows or, at an error in them, none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fastserve._core import EncodedRows, WritePlan, encode_rows
from fastserve.errors import EncodeError, PushSourceNotFoundException, WriteError
from fastserve.model import FeatureView
from fastserve.plan import PlanOptions
from fastserve.registry import Snapshot
from fastserve.sources import RowFormat, is_void, row_format, to_batch
from fastserve.stores.base import RowWriter
from fastserve.types import ValueType
from fastserve.write_on_demand import on_demand_format

__all__ = ["ViewWriter", "compile_writer", "encode", "prepare", "pushed_views", "second_columns", "write_batches"]

logger = logging.getLogger(__name__)

CHUNK_ROWS = 1 << 16


@dataclass(frozen=True)
class ViewWriter:
    """What is needed to write rows of one version of a view.

    Attributes:
        form: what a row consists of.
        plan: how it is encoded.
    """

    view: FeatureView
    form: RowFormat
    plan: WritePlan


def compile_writer(view: FeatureView, options: PlanOptions) -> ViewWriter:
    """Return the writer of a view.

    Raises:
        RequestError: the view has no source that tells the column of the event time.
        EntityError: a join key's type cannot be a key.
    """
    form = on_demand_format(view) if view.kind == "on_demand_feature_view" else row_format(view)
    return ViewWriter(view, form, write_plan(form, stored_name(view, options), options.project, options.key_version))


def stored_name(view: FeatureView, options: PlanOptions) -> str:
    """Return the name by which the store knows the rows of a view."""
    number = view.current_version_number
    return f"{view.name}_v{number}" if options.versioning and number else view.name


def write_plan(form: RowFormat, name: str, project: str, key_version: int) -> WritePlan:
    """Return the plan of rows that are stored under `name`."""
    return WritePlan(
        name,
        [key for key, _ in form.join_keys],
        [int(value_type) for _, value_type in form.join_keys],
        [feature for feature, _ in form.features],
        [int(value_type) for _, value_type in form.features],
        project,
        key_version,
    )


def pushed_views(snapshot: Snapshot, source: str) -> list[FeatureView]:
    """Return the views that a push source feeds.

    Raises:
        PushSourceNotFoundException: there is none.
    """
    views = [
        view
        for view in snapshot.feature_views.values()
        if view.stream_source is not None and view.stream_source.kind == "push" and view.stream_source.name == source
    ]
    if not views:
        raise PushSourceNotFoundException(source)
    return views


def second_columns(views: Iterable[FeatureView]) -> set[str]:
    """Return the columns of rows that hold UNIX_TIMESTAMPs, by their names in the source too."""
    found: set[str] = set()
    for view in views:
        columns = {c.name for c in (*view.entity_columns, *view.features) if c.value_type in _SECONDS}
        mapping = view.batch_source.field_mapping if view.batch_source is not None else {}
        found.update(columns, (given for given, name in mapping.items() if name in columns))
    return found


_SECONDS = (ValueType.UNIX_TIMESTAMP, ValueType.UNIX_TIMESTAMP_LIST)


def prepare(writer: ViewWriter, rows: Any) -> EncodedRows | None:
    """Return rows of any form ready to be written; None when there is nothing to write.

    As with Feast, that is so when there are no rows, or nothing but nulls in all features.

    Raises:
        WriteError, RequestError: as `sources.to_batch`.
    """
    if hasattr(rows, "__len__") and len(rows) == 0:
        logger.warning("feature view %s: no rows, so nothing is written", writer.view.name)
        return None
    batch = to_batch(rows, writer.form)
    if is_void(batch, writer.form):
        logger.warning("feature view %s: no row has a feature, so nothing is written", writer.view.name)
        return None
    return encode(writer, batch)


def encode(writer: ViewWriter, batch: Any, rows: bytes | memoryview | None = None) -> EncodedRows:
    """Return rows of a batch in the form that stores take.

    Args:
        rows: int64 numbers of those that count; all of them without it.
    Raises:
        WriteError: a row cannot be written; the text names the view, the column and the row of the batch.
    """
    try:
        return encode_rows(writer.plan, batch, bool(writer.form.created), rows)
    except EncodeError as exc:
        raise WriteError(writer.form.view, str(exc)) from exc


def write_batches(
    store: RowWriter,
    writer: ViewWriter,
    batches: Iterable[tuple[Any, bytes | memoryview | None]],
    *,
    chunk_rows: int | None = None,
    on_written: Callable[[int], None] | None = None,
) -> int:
    """Write batches that `sources` has checked, and return the number of rows that the store has applied.

    Args:
        batches: (RecordBatch, the rows of it that count) as for `encode`.
        chunk_rows: how many rows to give to the store at once.
        on_written: is told the number of rows of each chunk that is done, applied or not.
    Raises:
        WriteError: a row cannot be encoded; the chunks before it are written.
        StoreError: the store failed; some rows may be in, and writing them again does no harm.
    """
    applied = 0
    for batch, rows in batches:
        for chunk in _chunks(writer, batch, rows, chunk_rows or CHUNK_ROWS):
            applied += store.write(chunk)
            if on_written is not None:
                on_written(chunk.n_rows)
    return applied


def _chunks(writer: ViewWriter, batch: Any, rows: bytes | memoryview | None, size: int) -> Iterator[EncodedRows]:
    if rows is None:
        for start in range(0, batch.num_rows, size):
            yield encode(writer, batch.slice(start, size))
        return
    numbers = memoryview(rows).cast("B").cast("q")
    for start in range(0, len(numbers), size):
        yield encode(writer, batch, numbers[start : start + size])
