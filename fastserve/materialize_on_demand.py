"""Loading stored on-demand feature views: the latest rows of their sources, by key, go through the view's function.

The latest rows of all sources are held in memory while the function runs, on some thousand keys at a time. A key is
written if one of its sources has a row in the window; a source whose row is older than its ttl, seen from the newest
row of the key, gives nulls, as in Feast.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from fastserve.latest import LatestRows
from fastserve.materialize import WRITING, Loaded, Settings, Stopped, Window
from fastserve.model import FeatureView, OnDemandFeatureView
from fastserve.parquet import FileRows
from fastserve.plan import PlanOptions
from fastserve.progress import Progress, ViewProgress
from fastserve.registry import Snapshot
from fastserve.stores.base import RowWriter
from fastserve.write import ViewWriter, compile_writer, prepare
from fastserve.write_on_demand import compute_rows

__all__ = ["OnDemandJob", "load_on_demand", "plan_on_demand"]

logger = logging.getLogger(__name__)

EPOCH = datetime(1, 1, 1, tzinfo=timezone.utc)
CHUNK_KEYS = 1 << 14
EVENT_TIME = "event_timestamp"

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Source:
    """One view that an on-demand view takes features from.

    Attributes:
        features: their names.
        writer: tells what the latest row is.
    """

    view: FeatureView
    features: tuple[str, ...]
    writer: ViewWriter
    rows: FileRows


@dataclass(frozen=True)
class OnDemandJob:
    """One stored on-demand view, with the window [start, end] to load."""

    view: OnDemandFeatureView
    writer: ViewWriter
    sources: tuple[Source, ...]
    start: datetime
    end: datetime
    allowed: bool

    @property
    def name(self) -> str:
        """The view's name."""
        return self.view.name


def plan_on_demand(
    snapshot: Snapshot, view: FeatureView, window: Window, options: PlanOptions, repo_path: Path
) -> OnDemandJob:
    """Open the sources of a stored on-demand view; nothing is written.

    Args:
        view: the stored form, which `materialize.chosen_views` has chosen.
    Raises:
        SourceError: a source's files are not there, or lack a column; NotSupportedError: it is not of files.
        RequestError: the window is empty.
    """
    found = snapshot.get_on_demand_feature_view(view.name)
    sources = tuple(
        _source(snapshot.get_feature_view(projection.name), [f.name for f in projection.features], options, repo_path)
        for projection in found.source_projections.values()
    )
    # The first incremental window goes back by the longest ttl of the sources.
    start, end = window(replace(view, ttl=max((source.view.ttl for source in sources), default=timedelta(0))))
    return OnDemandJob(found, compile_writer(view, options), sources, start, end, options.allow_on_demand)


def _source(view: FeatureView, features: list[str], options: PlanOptions, repo_path: Path) -> Source:
    writer = compile_writer(view, options)
    assert view.batch_source is not None  # or there would be no writer
    chosen = tuple(name for name in features if name not in view.join_keys)
    return Source(view, chosen, writer, FileRows(writer.form, view.batch_source, repo_path))


def load_on_demand(
    store: RowWriter, job: OnDemandJob, settings: Settings, progress: Progress, stop: threading.Event
) -> Loaded:
    """Load one view: read its sources, put them together, run its function, write.

    Raises:
        SourceError, WriteError, StoreError; TransformError: the function failed; Stopped: `stop` was set.
    """
    logger.info("%s: materializing from %s to %s", job.name, job.start.isoformat(), job.end.isoformat())
    told = progress.view(job.name)
    try:
        told.stage("reading", sum(source.rows.n_rows() for source in job.sources))
        tables = [_latest(job, source, settings, told, stop) for source in job.sources]
        keys = _in_window(job, tables)
        told.stage(WRITING, len(keys))
        applied = 0
        for start in range(0, len(keys), settings.chunk_rows or CHUNK_KEYS):
            _look(stop)
            chunk = keys[start : start + (settings.chunk_rows or CHUNK_KEYS)]
            applied += _write(store, job, tables, chunk)
            told.advance(len(chunk))
    finally:
        told.close()
    return Loaded(job.name, job.start, job.end, sum(table.num_rows for table in tables), len(keys), applied)


def _latest(job: OnDemandJob, source: Source, settings: Settings, told: ViewProgress, stop: threading.Event) -> Any:
    """Return the latest row of each key up to the end of the window, as a Table."""
    import pyarrow as pa

    form = source.writer.form
    names = [*(name for name, _ in form.join_keys), *source.features, form.event_time]
    found = []
    with LatestRows(source.writer.plan, bool(form.created), settings.budget, settings.folder) as latest:
        for batch in source.rows.batches(EPOCH, job.end):
            _look(stop)
            latest.add(batch)
            told.advance(batch.num_rows)
        for batch, rows in latest.rows():
            found.append(batch.select(names).take(pa.array(memoryview(rows).cast("B").cast("q"))))
    return pa.Table.from_batches(found) if found else None


def _look(stop: threading.Event) -> None:
    if stop.is_set():
        raise Stopped("stopped")


# --- putting together ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """What is known of one key: the time of its newest row, and its row in the table of each source."""

    key: Key
    time: datetime
    rows: tuple[int | None, ...]


def _in_window(job: OnDemandJob, tables: list[Any]) -> list[_Found]:
    """Return the keys that have a row in the window."""
    rows: dict[Key, list[int | None]] = {}
    times = []
    for number, (source, table) in enumerate(zip(job.sources, tables, strict=True)):
        times.append([] if table is None else _times(table.column(source.writer.form.event_time)))
        for row, key in enumerate(_keys(job, table)):
            rows.setdefault(key, [None] * len(tables))[number] = row
    found = (_found(job, key, places, times) for key, places in rows.items())
    return [one for one in found if one is not None]


def _keys(job: OnDemandJob, table: Any) -> Iterator[Key]:
    if table is not None:
        yield from zip(*(table.column(name).to_pylist() for name, _ in job.writer.form.join_keys), strict=True)


def _times(column: Any) -> list[datetime]:
    import pyarrow as pa

    return column.cast(pa.timestamp("us", "UTC"), safe=False).to_pylist()  # type: ignore[no-any-return]


def _found(job: OnDemandJob, key: Key, rows: list[int | None], times: list[list[datetime]]) -> _Found | None:
    known = [None if row is None else times[number][row] for number, row in enumerate(rows)]
    newest = max((time for time in known if time is not None), default=EPOCH)
    if newest < job.start:
        return None
    ttls = [source.view.ttl for source in job.sources]
    fresh = [time is not None and (not ttl or time >= newest - ttl) for time, ttl in zip(known, ttls, strict=True)]
    return _Found(key, newest, tuple(row if ok else None for row, ok in zip(rows, fresh, strict=True)))


def _write(store: RowWriter, job: OnDemandJob, tables: list[Any], chunk: list[_Found]) -> int:
    columns = dict(_columns(job, tables, chunk))
    rows = prepare(job.writer, compute_rows(job.view, job.writer.form, columns, job.allowed))
    return 0 if rows is None else store.write(rows)


def _columns(job: OnDemandJob, tables: list[Any], chunk: list[_Found]) -> Iterator[tuple[str, Any]]:
    """Yield name and values: join keys, time, and each feature as when it is read, by its name and its full name."""
    import pyarrow as pa

    for number, (name, _) in enumerate(job.writer.form.join_keys):
        yield name, [found.key[number] for found in chunk]
    yield EVENT_TIME, [found.time for found in chunk]
    for number, (source, table) in enumerate(zip(job.sources, tables, strict=True)):
        places = pa.array([found.rows[number] for found in chunk], pa.int64())
        for name in source.features:
            column = pa.nulls(len(chunk)) if table is None else table.column(name).take(places)
            yield name, column
            yield f"{source.view.name}__{name}", column
