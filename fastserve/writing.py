"""The writing half of `FeatureStore`: pushed rows, rows of any origin, and loading views from their sources."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from fastserve import arrow
from fastserve import materialize as loading
from fastserve.config import Config
from fastserve.errors import RequestError
from fastserve.materialize import Loaded, Settings
from fastserve.materialize_on_demand import OnDemandJob, load_on_demand, plan_on_demand
from fastserve.model import FeatureView
from fastserve.offline import prepend_rows
from fastserve.plan import PlanOptions
from fastserve.precompute import Vectors
from fastserve.progress import Progress, default_progress
from fastserve.registry import RegistrySource, Snapshot
from fastserve.registry import schema_pb2 as pb
from fastserve.write import ViewWriter, compile_writer, prepare, pushed_views
from fastserve.write_on_demand import compute_rows

if TYPE_CHECKING:
    from fastserve.remote import Remote

__all__ = ["MaterializationRunningError", "WritingMixin", "parse_time"]

logger = logging.getLogger(__name__)

ONLINE, OFFLINE = 1, 2
_MODES = {"online": ONLINE, "offline": OFFLINE, "online_and_offline": ONLINE | OFFLINE}
_MODE_NAMES = {number: name for name, number in _MODES.items()}

_LOADING = pb.MATERIALIZING

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class MaterializationRunningError(RequestError):
    """Views are being materialized already.

    Attributes:
        views: their names.
    """

    status = 409

    def __init__(self, views: list[str]):
        names = ", ".join(views)
        super().__init__(f"feature views {names} are being materialized already; use force=true to begin all the same")
        self.views = views


class WritingMixin:
    """What `FeatureStore` does beside reading. It needs the members declared here."""

    config: Config
    _vectors: Vectors
    _remote: Remote | None
    _registry: RegistrySource
    _options: PlanOptions
    _writers: dict[str, ViewWriter]

    def _current_snapshot(self) -> Snapshot:
        raise NotImplementedError

    def refresh_registry(self) -> None:
        """Read the registry now."""
        raise NotImplementedError

    def _adopt(self, snapshot: Snapshot) -> None:
        """Serve what was just written."""
        raise NotImplementedError

    # --- rows ---

    def push(
        self,
        push_source_name: str,
        df: Any,
        allow_registry_cache: bool = True,
        to: Any = ONLINE,
        transform_on_write: bool = True,
    ) -> None:
        """Write rows to all feature views that a push source feeds.

        Args:
            df: a pandas or polars DataFrame, a pyarrow Table or RecordBatch, a dict of columns, or a list of dicts.
                Columns that a view does not need are ignored; times without zone are UTC, numbers nanoseconds since
                1970.
            allow_registry_cache: False reads the registry first.
            to: a PushMode: the online store, the views' Parquet files, or both.
            transform_on_write: has no effect; it is there for code written for Feast.

        Raises:
            PushSourceNotFoundException: no view has such a source.
            WriteError: a column is missing, or a value does not fit; nothing of the call is written.
            RequestError: the rows are of no form that is known.
            StoreError: the store failed; some rows may be in, and pushing them again does no harm.
        """
        mode = _push_mode(to)
        if self._remote is not None:
            self._remote.push(push_source_name, df, not allow_registry_cache, _MODE_NAMES[mode], transform_on_write)
            return
        views = pushed_views(self._snapshot(allow_registry_cache), push_source_name)
        # All views look at the rows before the first one writes.
        ready = [prepare(self._writer(view), df) for view in views] if mode & ONLINE else []
        files = [prepend_rows(view, df, self.config.repo_path) for view in views] if mode & OFFLINE else []
        for rows in ready:
            if rows is not None:
                self._vectors.write(rows)
        for file in files:
            file.write()
        self._build_missing([rows.plan.view for rows in ready if rows is not None])

    async def push_async(
        self,
        push_source_name: str,
        df: Any,
        allow_registry_cache: bool = True,
        to: Any = ONLINE,
        transform_on_write: bool = True,
        **_: Any,
    ) -> None:
        """Do what `push` does on a thread, without blocking the event loop."""
        if self._remote is not None:
            mode = _MODE_NAMES[_push_mode(to)]
            await self._remote.push_async(push_source_name, df, not allow_registry_cache, mode, transform_on_write)
            return
        import asyncio

        await asyncio.to_thread(self.push, push_source_name, df, allow_registry_cache, to, transform_on_write)

    def write_to_online_store(
        self,
        feature_view_name: str,
        df: Any = None,
        inputs: Any = None,
        allow_registry_cache: bool = True,
        transform_on_write: bool = True,
    ) -> None:
        """Write rows of one feature view to the online store.

        Args:
            df: rows, as in `push`.
            inputs: the same; give one of the two.
            allow_registry_cache, transform_on_write: as in `push`.

        Raises:
            FeatureViewNotFoundException: there is no such view; otherwise as `push`.
        """
        if (df is None) == (inputs is None):
            raise RequestError("give the rows either as df or as inputs")
        if self._remote is not None:
            rows = inputs if df is None else df
            self._remote.write(feature_view_name, rows, not allow_registry_cache, transform_on_write)
            return
        view = self._snapshot(allow_registry_cache).get_feature_view(feature_view_name)
        writer, given = self._writer(view), inputs if df is None else df
        if view.kind == "on_demand_feature_view":
            given = self._computed(view.name, writer, given)
        rows = prepare(writer, given)
        if rows is not None:
            self._vectors.write(rows)
            self._build_missing([rows.plan.view])

    def _build_missing(self, written: Sequence[str], progress: Progress | None = None) -> None:
        """Build precomputed services that have one of these stored views, and no vectors yet."""
        if written:
            self._vectors.build_missing(self._current_snapshot(), written, progress)

    def _computed(self, name: str, writer: ViewWriter, rows: Any) -> dict[str, Any]:
        view = self._current_snapshot().get_on_demand_feature_view(name)
        return compute_rows(view, writer.form, rows, self._options.allow_on_demand)

    async def write_to_online_store_async(
        self, feature_view_name: str, df: Any = None, inputs: Any = None, allow_registry_cache: bool = True
    ) -> None:
        """Do what `write_to_online_store` does on a thread, without blocking the event loop."""
        if self._remote is not None and (df is None) != (inputs is None):
            rows = inputs if df is None else df
            await self._remote.write_async(feature_view_name, rows, not allow_registry_cache, True)
            return
        import asyncio

        await asyncio.to_thread(self.write_to_online_store, feature_view_name, df, inputs, allow_registry_cache)

    def write_to_offline_store(
        self, feature_view_name: str, df: Any, allow_registry_cache: bool = True, reorder_columns: bool = True
    ) -> None:
        """Put rows into the Parquet file of a feature view's source.

        Args:
            df: rows with exactly the columns of the file.
            reorder_columns: False refuses columns in another order than the file's.

        Raises:
            WriteError: the columns are not those of the file; SourceError: it cannot be read or written.
        """
        view = self._snapshot(allow_registry_cache).get_feature_view(feature_view_name)
        prepend_rows(view, df, self.config.repo_path, reorder_columns).write()

    def _snapshot(self, allow_registry_cache: bool) -> Snapshot:
        if not allow_registry_cache:
            self.refresh_registry()
        return self._current_snapshot()

    def _writer(self, view: FeatureView) -> ViewWriter:
        known = self._writers.get(view.name)
        if known is None or known.view is not view:  # a new snapshot has new views
            known = self._writers[view.name] = compile_writer(view, self._options)
        return known

    def _settings(self, workers: int = 1) -> Settings:
        return Settings(chunk_rows=self.config.materialization.online_write_batch_size, workers=workers)

    # --- loading ---

    def materialize(
        self,
        start_date: datetime | None,
        end_date: datetime | None,
        feature_views: Sequence[str] | None = None,
        disable_event_timestamp: bool = False,
        full_feature_names: bool = False,
        version: str | None = None,
        force: bool = False,
        run_async: bool = False,
        *,
        workers: int = 1,
        engine: str = "local",
        progress: Progress | None = None,
        stop: threading.Event | None = None,
    ) -> list[Loaded]:
        """Load feature views from their sources into the online store: the latest row of each entity in a window.

        Args:
            start_date, end_date: the window; both ends belong to it. Without zone they are UTC.
            feature_views: names; by default all that are online, enabled and have a source.
            disable_event_timestamp: load all rows up to now, whatever the window.
            version: "vN": the version to load, of the one view that is named.
            workers: how many views are loaded at the same time.
            engine: "local", or "ray" to spread each view over the machines of a Ray cluster.
            stop: set from another thread, it ends the run with an error.
            progress: by default bars on a terminal, log lines otherwise.
            full_feature_names: has no effect; it is there for code written for Feast.
            force, run_async: only where a server does the work (an `online_store` of type remote): do not wait for it;
                begin also if views are being loaded already.

        Returns:
            What was loaded, in the order in which it was done; nothing where a server does the work.

        Raises:
            FeatureViewNotFoundException, RequestError: a view cannot be loaded, or the window is empty; SourceError:
                the files of a view cannot be read: nothing is written.
            WriteError, StoreError, ...: rows do not fit or the store failed, in the middle: what is written is right,
                but the window of that view is not recorded; running again is safe. That goes for KeyboardInterrupt too.
        """
        if self._remote is not None:
            given = (start_date, end_date, feature_views, disable_event_timestamp, version, run_async, force)
            self._remote.materialize(*given)
            return []
        if disable_event_timestamp:
            start_date, end_date = EPOCH, datetime.now(timezone.utc)
        if start_date is None or end_date is None:
            raise RequestError("start and end of the window are required unless disable_event_timestamp is True")
        window = loading.full_window(start_date, end_date)
        return self._load(window, feature_views, version, workers, engine, progress, stop)

    def materialize_incremental(
        self,
        end_date: datetime,
        feature_views: Sequence[str] | None = None,
        full_feature_names: bool = False,
        version: str | None = None,
        force: bool = False,
        run_async: bool = False,
        *,
        workers: int = 1,
        engine: str = "local",
        progress: Progress | None = None,
        stop: threading.Event | None = None,
    ) -> list[Loaded]:
        """Load what came since the last window of each view, up to `end_date`; otherwise as `materialize`.

        A view that was never loaded starts its ttl ago, or 52 weeks without one.
        """
        if self._remote is not None:
            self._remote.materialize_incremental(end_date, feature_views, version, run_async, force)
            return []
        window = loading.incremental_window(end_date)
        return self._load(window, feature_views, version, workers, engine, progress, stop)

    def _load(
        self,
        window: loading.Window,
        names: Sequence[str] | None,
        version: str | None,
        workers: int,
        engine: str,
        progress: Progress | None,
        stop: threading.Event | None,
    ) -> list[Loaded]:
        jobs = self._jobs(self._chosen(names, version), window)
        settings, told = self._settings(workers), progress or default_progress()
        if engine == "ray":
            from fastserve.ray_engine import RayEngine

            load_stored: Any = RayEngine(self.config, self._options, settings, told).load
        elif engine == "local":

            def load_stored(job: loading.Job, stop: threading.Event) -> Loaded:
                return loading.load_view(self._vectors, job, settings, told, stop)

        else:
            raise RequestError(f"engine: 'local' or 'ray' expected, got {engine!r}")

        def load(job: loading.Job | OnDemandJob, stop: threading.Event) -> Loaded:
            if isinstance(job, OnDemandJob):  # its function is run here, whatever the engine
                return load_on_demand(self._vectors, job, settings, told, stop)
            found: Loaded = load_stored(job, stop)
            return found

        loaded = loading.run(jobs, load, self._record, workers, stop)
        self._build_missing([job.writer.plan.view for job in jobs], told)
        return loaded

    def _jobs(self, views: Sequence[FeatureView], window: loading.Window) -> list[loading.Job | OnDemandJob]:
        snapshot, repo_path = self._current_snapshot(), self.config.repo_path
        stored = [view for view in views if view.kind != "on_demand_feature_view"]
        return [
            *loading.plan_jobs(stored, window, self._options, repo_path),
            *(
                plan_on_demand(snapshot, view, window, self._options, repo_path)
                for view in views
                if view.kind == "on_demand_feature_view"
            ),
        ]

    def materializable(self, feature_views: Sequence[str] | None = None, version: str | None = None) -> list[str]:
        """Return the names of the views that `materialize` would load; raises as it does."""
        return [view.name for view in self._chosen(feature_views, version)]

    def reserve(self, feature_views: Sequence[str], force: bool = False) -> dict[str, int]:
        """Mark views in the registry as being materialized, which Feast does not serve meanwhile.

        Returns:
            Name -> state before, for `release`.

        Raises:
            MaterializationRunningError: one of them has that mark already, and `force` is false.
        """
        states: dict[str, int] = {}

        def edit(message: pb.Registry) -> None:
            states.update(loading.set_states(message, self.config.project, dict.fromkeys(feature_views, _LOADING)))
            running = [name for name, state in states.items() if state == _LOADING]
            if running and not force:
                raise MaterializationRunningError(running)

        self._adopt(self._registry.update(edit))
        return {name: pb.GENERATED if state == _LOADING else state for name, state in states.items()}

    def release(self, states: Mapping[str, int]) -> None:
        """Give views that are still marked as being materialized these states."""

        def edit(message: pb.Registry) -> None:
            now = loading.set_states(message, self.config.project, states)
            done = {name: state for name, state in now.items() if state != _LOADING}
            loading.set_states(message, self.config.project, done)

        self._adopt(self._registry.update(edit))

    def _chosen(self, names: Sequence[str] | None, version: str | None) -> list[FeatureView]:
        # Another process may have applied or loaded since the last look.
        snapshot = self._snapshot(allow_registry_cache=False)
        return loading.chosen_views(snapshot, names, _version_number(version), self._options.versioning)

    def _record(self, loaded: Loaded) -> None:
        self._adopt(self._registry.update(lambda message: loading.record(message, self.config.project, loaded)))
        logger.info("%s", loaded)


def parse_time(text: str) -> datetime:
    """Return the aware time of an ISO 8601 text; without zone it is UTC. Raises RequestError."""
    try:
        return arrow.parse_time(text)
    except ValueError as exc:
        raise RequestError(f"Invalid timestamp: {exc}") from exc


def _push_mode(to: Any) -> int:
    mode = _MODES.get(to, 0) if isinstance(to, str) else getattr(to, "value", to)
    if mode not in _MODES.values():
        raise RequestError(f"{to} is not a supported push format; it is one of {', '.join(_MODES)}")
    return int(mode)


def _version_number(version: str | None) -> int | None:
    if version is None or version == "latest":
        return None
    if not re.fullmatch(r"[vV]\d{1,18}", version):
        raise RequestError(f"version: 'vN' expected, got {version!r}")
    return int(version[1:])
