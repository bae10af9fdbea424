"""Loading views from their sources: which views, which window, and the run itself.

Everything that can be wrong is found before the first row is written: the views, their sources' files and columns. Then
each view is read, reduced to the latest row of each key and written; only when all of it is written the registry learns
of it. So a run that fails or is stopped leaves rows that are right but a window that is not recorded, and running again
is safe.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

from fastserve.errors import (
    FastserveError,
    NotSupportedError,
    RegistryError,
    RequestError,
)
from fastserve.latest import BUDGET_BYTES, LatestRows
from fastserve.model import FeatureView
from fastserve.parquet import FileRows
from fastserve.plan import PlanOptions
from fastserve.progress import Progress, ViewProgress
from fastserve.registry import Snapshot
from fastserve.registry import schema_pb2 as pb
from fastserve.stores.base import RowWriter
from fastserve.write import ViewWriter, compile_writer, write_batches

__all__ = [
    "WRITING",
    "Job",
    "Loaded",
    "Settings",
    "Stopped",
    "chosen_views",
    "full_window",
    "incremental_window",
    "load_view",
    "plan_jobs",
    "record",
    "run",
    "set_states",
]

logger = logging.getLogger(__name__)

WINDOW_WITHOUT_TTL = timedelta(weeks=52)

WRITING = "writing the latest row of each entity"

T = TypeVar("T")
J = TypeVar("J")
Window = Callable[[FeatureView], tuple[datetime, datetime]]


@dataclass(frozen=True)
class Settings:
    """How a run is done.

    Args:
        chunk_rows: `materialization.online_write_batch_size`.
        workers: how many views are loaded at the same time.
        budget: bytes of Arrow data that each of them holds in memory.
        folder: for temporary files; by default the system's.
    """

    chunk_rows: int | None = None
    workers: int = 1
    budget: int = BUDGET_BYTES
    folder: Path | None = None


@dataclass(frozen=True)
class Job:
    """One view, with the window [start, end] to load."""

    writer: ViewWriter
    rows: FileRows
    start: datetime
    end: datetime

    @property
    def name(self) -> str:
        """The view's name."""
        return self.writer.view.name


@dataclass(frozen=True)
class Loaded:
    """What became of a job.

    Attributes:
        n_rows: rows in the window.
        n_written: latest rows, all of which are in the store now, or were superseded.
        n_applied: those of them that were newer than what was stored.
    """

    view: str
    start: datetime
    end: datetime
    n_rows: int
    n_written: int
    n_applied: int

    def __str__(self) -> str:
        return (
            f"{self.view}: {self.n_rows} rows in the window, the latest of each of {self.n_written} entities; "
            f"{self.n_applied} of these were newer than what was stored and were written"
        )


# --- which views -----------------------------------------------------------------------------------------------------


def chosen_views(
    snapshot: Snapshot, names: Sequence[str] | None, version: int | None = None, versioning: bool = False
) -> list[FeatureView]:
    """Return the views to load: the named ones, or all that are online, enabled and have a batch source.

    Args:
        version: the version to load, of the one view that is named.
    Raises:
        FeatureViewNotFoundException, FeatureViewVersionNotFound: there is no such view or version.
        RequestError: a named view is not online, or disabled; or `version` is given for other than one view,
            or versions are not enabled.
        NotSupportedError: a named view cannot be loaded from a source.
    """
    if version is not None:
        return [_version(snapshot, names, version, versioning)]
    if names:
        return [_named(snapshot, name) for name in dict.fromkeys(names)]
    return [view for view in snapshot.feature_views.values() if _can_be_loaded(snapshot, view)]


def _version(snapshot: Snapshot, names: Sequence[str] | None, version: int, versioning: bool) -> FeatureView:
    if names is None or len(names) != 1:
        raise RequestError("a version can be materialized of exactly one feature view; name it")
    if not versioning:
        raise RequestError(
            "versions are not enabled; set 'enable_online_feature_view_versioning: true' under 'registry'"
        )
    _named(snapshot, names[0])
    return snapshot.get_feature_view_version(names[0], version)


def _named(snapshot: Snapshot, name: str) -> FeatureView:
    if name not in snapshot.feature_views and name in snapshot.on_demand_feature_views:
        raise RequestError(f"on-demand feature view {name} is not stored, so there is nothing to materialize")
    view = snapshot.get_feature_view(name)
    if not view.online:
        raise RequestError(f"FeatureView {name} is not configured to be served online.")
    if not view.enabled:
        raise RequestError(f"FeatureView {name} is disabled; enable it to materialize it.")
    if view.kind == "label_view":
        raise RequestError(f"LabelView {name} cannot be materialized; its rows are pushed.")
    reason = _obstacle(snapshot, view)
    if reason:
        raise NotSupportedError(f"feature view {name} cannot be materialized: {reason}")
    return view


def _can_be_loaded(snapshot: Snapshot, view: FeatureView) -> bool:
    """Whether a view that nobody named is loaded."""
    if not (view.online and view.enabled) or view.kind == "label_view":
        return False
    reason = _obstacle(snapshot, view)
    if reason:
        logger.warning("feature view %s is passed over: %s", view.name, reason)
    return not reason


def _obstacle(snapshot: Snapshot, view: FeatureView) -> str:
    """Return why a view's rows cannot be taken from its source, or ""."""
    if view.kind == "on_demand_feature_view":
        return _on_demand_obstacle(snapshot, view)
    if view.batch_source is None:
        return "it has no batch source"
    spec: Any = _message(snapshot.message, snapshot.project, view.name).spec
    if spec.HasField("feature_transformation"):
        return "its rows are made by a transformation, which is not supported"
    return ""


def _on_demand_obstacle(snapshot: Snapshot, view: FeatureView) -> str:
    """Return why the rows of a stored on-demand view cannot be computed from its sources, or ""."""
    found = snapshot.get_on_demand_feature_view(view.name)
    if found.request_sources:
        return "it needs request data; its rows are computed when they are written"
    if not found.source_projections:
        return "it has no source views"
    for projection in found.source_projections.values():
        source = snapshot.get_feature_view(projection.name)
        if set(source.join_keys) != set(view.join_keys):
            return f"the join keys of its source {source.name} are not its own"
        if source.batch_source is None:
            return f"its source {source.name} has no batch source"
    return ""


# --- which window ----------------------------------------------------------------------------------------------------


def full_window(start: datetime, end: datetime) -> Window:
    """Return the same window for all views; times without zone are UTC. Raises RequestError: it ends before it
    starts.
    """
    first, last = _aware(start), _aware(end)
    if first > last:
        raise RequestError(f"the window is empty: its start ({first}) is after its end ({last})")
    return lambda view: (first, last)


def incremental_window(end: datetime, now: datetime | None = None) -> Window:
    """Return the window from where the last one ended to `end`; the first goes back by the ttl, or by 52 weeks."""
    last = _aware(end)
    moment = now or datetime.now(timezone.utc)

    def window(view: FeatureView) -> tuple[datetime, datetime]:
        first = view.most_recent_end_time or moment - (view.ttl or WINDOW_WITHOUT_TTL)
        if first > last:
            raise RequestError(
                f"feature view {view.name}: the window is empty: it would start at {first}, "
                f"up to which the view is loaded, and end at {last}"
            )
        return first, last

    return window


def _aware(time: datetime) -> datetime:
    return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)


# --- the run ---------------------------------------------------------------------------------------------------------


def plan_jobs(views: Iterable[FeatureView], window: Window, options: PlanOptions, repo_path: Path) -> list[Job]:
    """Open the sources of the views; nothing is written.

    Raises:
        SourceError: a source's files are not there, or lack a column; NotSupportedError: it is not of files.
        RequestError: a window is empty, a view has no source.
    """
    jobs = []
    for view in views:
        start, end = window(view)
        writer = compile_writer(view, options)
        assert view.batch_source is not None  # or there would be no writer
        jobs.append(Job(writer, FileRows(writer.form, view.batch_source, repo_path), start, end))
    return jobs


def run(
    jobs: Sequence[J],
    load: Callable[[J, threading.Event], Loaded],
    done: Callable[[Loaded], None],
    workers: int = 1,
    stop: threading.Event | None = None,
) -> list[Loaded]:
    """Load views, several at a time, and report each as soon as all of it is written.

    Args:
        load: loads one; it looks at the event now and then, and gives up when it is set.
        done: called for each view that is written, in this thread.
        stop: set it to end the run.
    Raises:
        What `load` and `done` raise: the first failure, after the other views have given up; also KeyboardInterrupt.
    """
    stop = stop or threading.Event()
    loaded: list[Loaded] = []
    with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="fastserve-materialize") as pool:
        waiting = {pool.submit(load, job, stop) for job in jobs}
        try:
            while waiting:
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                # What is complete is reported even if another view failed at the same moment.
                for future in sorted(ready, key=lambda future: future.exception() is not None):
                    loaded.append(future.result())
                    done(loaded[-1])
        except BaseException:
            stop.set()
            for future in waiting:
                future.cancel()
            raise
    return loaded


class Stopped(FastserveError):
    """Another view failed, or the run was interrupted."""


def load_view(store: RowWriter, job: Job, settings: Settings, progress: Progress, stop: threading.Event) -> Loaded:
    """Load one view here: read, reduce, write.

    Raises:
        SourceError, WriteError, StoreError; Stopped: `stop` was set.
    """
    logger.info("%s: materializing from %s to %s", job.name, job.start.isoformat(), job.end.isoformat())
    with closing(progress.view(job.name)) as told, _latest(job, settings) as latest:
        told.stage("reading", job.rows.n_rows())
        n_rows = 0
        for batch in _until(stop, job.rows.batches(job.start, job.end)):
            latest.add(batch)
            n_rows += batch.num_rows
            told.advance(batch.num_rows)
        told.stage(WRITING, latest.count())
        n_written, n_applied = _write_latest(store, job, settings, told, _until(stop, latest.rows()), stop)
    return Loaded(job.name, job.start, job.end, n_rows, n_written, n_applied)


def _latest(job: Job, settings: Settings) -> LatestRows:
    return LatestRows(job.writer.plan, bool(job.writer.form.created), settings.budget, settings.folder)


def _until(stop: threading.Event, batches: Iterator[T]) -> Iterator[T]:
    for batch in batches:
        if stop.is_set():
            raise Stopped("stopped")
        yield batch


def _write_latest(
    store: RowWriter, job: Job, settings: Settings, told: ViewProgress, batches: Iterator[Any], stop: threading.Event
) -> tuple[int, int]:
    written = 0

    def count(n_rows: int) -> None:
        nonlocal written
        written += n_rows
        told.advance(n_rows)
        if stop.is_set():
            raise Stopped("stopped")

    applied = write_batches(
        store,
        job.writer,
        batches,
        chunk_rows=settings.chunk_rows,
        on_written=count,
    )
    return written, applied


# --- the registry ----------------------------------------------------------------------------------------------------


def record(message: pb.Registry, project: str, loaded: Loaded) -> None:
    """Note in a registry message that a window of a view is in the store, and that the view can be served.

    Raises:
        RegistryError: the view is not there any more.
    """
    meta = _meta(message, project, loaded.view)
    if isinstance(meta, pb.OnDemandFeatureViewMeta):
        return  # it has no place for intervals
    interval = meta.materialization_intervals.add()
    interval.start_time.FromDatetime(loaded.start)
    interval.end_time.FromDatetime(loaded.end)
    meta.last_updated_timestamp.FromDatetime(datetime.now(timezone.utc))
    meta.state = pb.AVAILABLE_ONLINE


def set_states(message: pb.Registry, project: str, states: Mapping[str, int]) -> dict[str, int]:
    """Set the states of views in a registry message, and return the old ones. Raises RegistryError."""
    old = {}
    for name, state in states.items():
        meta = _meta(message, project, name)
        old[name], meta.state = int(meta.state), state  # type: ignore[assignment]
    return old


def _meta(message: pb.Registry, project: str, name: str) -> pb.FeatureViewMeta | pb.OnDemandFeatureViewMeta:
    return _message(message, project, name).meta


_Message = pb.FeatureView | pb.StreamFeatureView | pb.OnDemandFeatureView


def _message(message: pb.Registry, project: str, name: str) -> _Message:
    views: list[_Message] = [*message.feature_views, *message.stream_feature_views, *message.on_demand_feature_views]
    for view in views:
        if view.spec.name == name and view.spec.project == project:
            return view
    raise RegistryError(f"feature view {name} is not in the registry any more; was it deleted meanwhile?")
