"""FeatureStore: the SDK."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve import online
from fastserve._core import Batch, ReadPlan, same_items
from fastserve.administration import AdministrationMixin
from fastserve.condition import ConditionMixin
from fastserve.config import Config, RemoteConfig, load_config, parse_config
from fastserve.errors import (
    FastserveError,
    FeatureReferenceError,
    NotSupportedError,
    RegistryNotFoundError,
    RequestError,
    VectorError,
    VectorMissingError,
)
from fastserve.lookup import LookupMixin
from fastserve.model import FeatureService
from fastserve.offline_half import OfflineHalfMixin
from fastserve.plan import PlanOptions, as_service, compile_plan, plan_options
from fastserve.precompute import Vectors
from fastserve.registry import Refresher, Snapshot, open_registry
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.snapshot import build_snapshot
from fastserve.registry_facade import RegistryFacade
from fastserve.response import OnlineResponse
from fastserve.served_vectors import ServedVectors, VectorsNotFound
from fastserve.stores import open_store
from fastserve.stores.base import OnDone, PendingRead
from fastserve.vector_admin import VectorsMixin
from fastserve.writing import WritingMixin

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from fastserve.remote import Remote

__all__ = ["FeatureStore"]

Features = FeatureService | Iterable[str]
PAUSES = 0.0, 0.02
"""Seconds before a service is read again whose vectors were not there."""
PlanKey = tuple[str | tuple[str, ...], bool]


class _Serving:
    """A snapshot and the plans compiled from it: replaced as one reference when the registry changes."""

    is_applied = True

    def __init__(self, snapshot: Snapshot, options: PlanOptions, max_plans: int, vectors: ServedVectors):
        self.snapshot = snapshot
        self._options = options
        self._vectors = vectors
        self._max_plans = max_plans
        self._plans: dict[PlanKey, tuple[Features, ReadPlan]] = {}
        self._lock = threading.Lock()
        self._last: tuple[tuple[str, ...], bool, ReadPlan | None] = ((), False, None)
        self.compilations = 0
        self.keeps_warm = False
        self.broken_services: dict[str, str] = {}

    @property
    def n_plans(self) -> int:
        return len(self._plans)

    def plan(self, features: Features, full_feature_names: bool) -> ReadPlan:
        last, last_full_feature_names, plan = self._last
        if plan is not None and full_feature_names == last_full_feature_names and same_items(features, last):
            return plan
        if not isinstance(features, FeatureService):
            service = self._service(features)
            if service is None:
                return self._plan_of_references(features, full_feature_names)
            features = service
        # Looked up by name and then compared: hashing all that a service consists of takes longer than a read.
        known = self._plans.get((features.name, full_feature_names))
        if known is not None and (known[0] is features or known[0] == features):
            return known[1]
        return self._compile((features.name, full_feature_names), features)

    def _service(self, features: Any) -> FeatureService | None:
        """Return the service that is meant by its name, or by an object of another package; None for references."""
        if isinstance(features, str):
            if ":" in features:
                raise FeatureReferenceError(f"a list of references expected, got the text {features!r}")
            return self.snapshot.get_feature_service(features)
        if not hasattr(features, "feature_view_projections"):
            return None
        service = as_service(features)
        known_later = not all(projection.features for projection in service.feature_view_projections)
        return self.snapshot.get_feature_service(service.name) if known_later else service

    def _plan_of_references(self, features: Iterable[str], full_feature_names: bool) -> ReadPlan:
        try:
            references = tuple(features)
            known = self._plans.get((references, full_feature_names))
        except TypeError as exc:
            raise FeatureReferenceError(f"a list of references, or a FeatureService, expected: {exc}") from exc
        plan = known[1] if known is not None else self._compile((references, full_feature_names), references)
        # Most programs ask with the same list again and again: comparing its pointers beats hashing its texts.
        self._last = references, full_feature_names, plan
        return plan

    def _compile(self, key: PlanKey, features: Features) -> ReadPlan:
        vectors = self._vectors.of(self.snapshot, features)
        plan = compile_plan(self.snapshot, self._options, features, key[1], vectors)
        with self._lock:
            self.compilations += 1
            while len(self._plans) >= self._max_plans:
                del self._plans[next(iter(self._plans))]  # the oldest
            self._plans[key] = features, plan
        return plan

    def warm(self) -> None:
        """Compile the plans of all services, as far as there is room for them."""
        broken: dict[str, str] = {}
        for service in list(self.snapshot.feature_services.values())[: self._max_plans // 2]:
            with contextlib.suppress(FastserveError):
                self.plan(service, False)  # may have to be asked for with full names
            try:
                self.plan(service, True)
            except FastserveError as exc:
                broken[service.name] = str(exc)
        self.broken_services = broken

    def renewed(self, snapshot: Snapshot) -> _Serving:
        """Return the successor for a new snapshot, its plans compiled; what fails to compile is left out."""
        successor = _Serving(snapshot, self._options, self._max_plans, self._vectors)
        for (_, full_feature_names), (features, _) in list(self._plans.items()):
            if isinstance(features, FeatureService):
                features = snapshot.feature_services.get(features.name, features)
            try:
                successor.plan(features, full_feature_names)
            except FastserveError:
                continue  # the next request for it gets the error
        successor.compilations += self.compilations
        successor.keeps_warm = self.keeps_warm
        if self.keeps_warm:
            successor.warm()
        return successor

    def forget(self, service: str) -> None:
        """Compile a service anew when it is asked for next."""
        with self._lock:
            for full_feature_names in (False, True):
                self._plans.pop((service, full_feature_names), None)


class _Unapplied(_Serving):
    """Stands in as long as there is no registry: there is nothing in it, and nothing can be read."""

    is_applied = False

    def __init__(self, reason: str, options: PlanOptions, max_plans: int, vectors: ServedVectors):
        super().__init__(build_snapshot(pb.Registry(), options.project, None), options, max_plans, vectors)
        self._reason = reason

    def _compile(self, key: PlanKey, features: Features) -> ReadPlan:
        raise RegistryNotFoundError(self._reason)


class FeatureStore(VectorsMixin, LookupMixin, WritingMixin, AdministrationMixin, ConditionMixin, OfflineHalfMixin):
    """Reads features of entities, now; and writes them.

    Args:
        repo_path: the folder of feature_store.yaml; the current one if nothing is given.
        config: a Config, or a mapping with the contents of feature_store.yaml; instead of `repo_path`.
        fs_yaml_file: the path of the file, if it is not `<repo_path>/feature_store.yaml`.
        embedding_provider: only None; Feast's other values are for vector search.

    Raises:
        NotSupportedError: there is an `embedding_provider`.
        ConfigError: the configuration is wrong, or both `config` and `fs_yaml_file` are given.
        RegistryError: the registry cannot be read. If there is none yet, only reading features fails, until `apply`.

    One object serves all threads. The registry is checked for changes in the background; no request waits for that.

    Attributes:
        plans_epoch: another object whenever the plan of a request may have become another.
    """

    def __init__(
        self,
        repo_path: str | Path | None = None,
        config: Config | dict[str, Any] | None = None,
        fs_yaml_file: str | Path | None = None,
        embedding_provider: None = None,
    ):
        if embedding_provider is not None:
            raise NotSupportedError("fastserve makes no embeddings; leave embedding_provider out")
        self.config = _config(repo_path, config, fs_yaml_file)
        self._store = open_store(self.config)
        self._remote = self._open_remote()
        self._registry = open_registry(self.config)
        self._options = plan_options(self.config)
        vector_format = self.config.fastserve.vector_format
        self._served_vectors = ServedVectors(self._store, self._options, vector_format)
        self._vectors = Vectors(self._store, self._options, vector_format)
        self._serving = self._first_state()
        self.plans_epoch = object()
        self._writers = {}
        interval = self.config.registry_refresh_interval
        self._refresher = Refresher(
            self._registry, interval, self._renew, mark=self._serving.snapshot.mark, on_look=self._look_at_vectors
        )
        self._started = False
        self._lock = threading.Lock()

    def _open_remote(self) -> Remote | None:
        if not isinstance(self.config.online_store, RemoteConfig):
            return None
        from fastserve.remote import Remote  # for those who need it
        from fastserve.remote_client import KnownHere

        store: Any = self._store
        return Remote(store, KnownHere(self._current_snapshot), self.config.fastserve.max_cached_plans)

    def _first_state(self) -> _Serving:
        limit = self.config.fastserve.max_cached_plans
        try:
            return _Serving(self._registry.load(), self._options, limit, self._served_vectors)
        except RegistryNotFoundError as exc:
            return _Unapplied(str(exc), self._options, limit, self._served_vectors)

    @property
    def project(self) -> str:
        """The name of the project."""
        return self.config.project

    @property
    def repo_path(self) -> Path:
        """The folder that relative paths of the configuration start from."""
        return self.config.repo_path

    # --- reading ---

    def get_online_features(
        self,
        features: Features,
        entity_rows: object,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Return the latest features of some entities.

        Args:
            features: references `view:feature`, or `view@vN:feature` for a version; or a feature service: its name, or
                an object of fastserve's or of Feast's.
            entity_rows: a list of dicts, one per row, from join key (and request data) to value; or a mapping from join
                key to a column: a list, array, Series, or protobuf Values; or a DataFrame.
            full_feature_names: name features `view__feature` in the answer.
            include_feature_view_version_metadata: add the versions of the views to `to_json` and `proto`.

        Raises:
            RequestError: the request is wrong (with EntityError, FeatureReferenceError, FeatureNameCollisionError).
            FeastObjectNotFoundException: a view, feature, service or version does not exist.
            VectorError: a precomputed service has no vectors, or none of entities that have data (VectorMissingError),
                or they are of another schema (VectorStaleError).
            StoreError: the online store failed; StoreTimeoutError: it was too slow.
        """
        if self._remote is not None:
            version_metadata = include_feature_view_version_metadata
            batch = self._remote.read(features, entity_rows, full_feature_names, version_metadata)
            return OnlineResponse(batch, version_metadata)
        try:
            batch = self.begin_read(features, entity_rows, full_feature_names, lazy=True)
            self._store.read(batch)
            return self.finish_read(batch, include_feature_view_version_metadata)
        except VectorError as exc:
            batch = self._read_again(exc, features, entity_rows, full_feature_names)
        return OnlineResponse(batch, include_feature_view_version_metadata)

    def _read_again(
        self, error: VectorError, features: Features, entity_rows: object, full_feature_names: bool
    ) -> Batch:
        """Read a service from other vectors, if others were built; and see whether those that are missing are lost.

        An entity has a vector before it has rows: once these were seen, it is there, or it is lost. (In Feast's format
        it comes shortly after them.)
        """
        service = str(getattr(features, "name", features))  # what else is read from vectors?
        for pause in PAUSES:
            if isinstance(error, VectorsNotFound) and not self._served_vectors.rows_lost(error):
                return error.batch
            if not self._renew_vectors(service) and not isinstance(error, VectorsNotFound):
                raise error
            time.sleep(pause)
            try:
                batch = self.begin_read(features, entity_rows, full_feature_names)
                self._store.read(batch)
                self.finish_read(batch)
                return batch
            except VectorError as exc:
                error = exc
        if isinstance(error, VectorsNotFound):
            if not (lost := self._served_vectors.rows_lost(error)):
                return error.batch
            raise VectorMissingError(service, lost)
        raise error

    def _renew_vectors(self, service: str) -> bool:
        changed = self._served_vectors.renew(service)
        if changed:
            self._forget_plans(service)
        return changed

    def _forget_plans(self, service: str) -> None:
        self._serving.forget(service)
        self.plans_epoch = object()

    async def get_online_features_async(
        self,
        features: Features,
        entity_rows: object,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Do what `get_online_features` does, without blocking the event loop.

        All reads of a loop share one connection to Redis. Cancelling the call leaves nothing behind.

        Raises:
            StoreOverloadedError: too many reads are waiting already; otherwise as `get_online_features`.
        """
        if self._remote is not None:
            version_metadata = include_feature_view_version_metadata
            batch = await self._remote.read_async(features, entity_rows, full_feature_names, version_metadata)
            return OnlineResponse(batch, version_metadata)
        try:
            batch = self.begin_read(features, entity_rows, full_feature_names)
            await self._store.read_async(batch)
            if batch.plan.transforms:
                import asyncio

                # Somebody's code, which may take its time.
                return await asyncio.to_thread(self.finish_read, batch, include_feature_view_version_metadata)
            return self.finish_read(batch, include_feature_view_version_metadata)
        except VectorError as exc:
            import asyncio

            batch = await asyncio.to_thread(self._read_again, exc, features, entity_rows, full_feature_names)
        return OnlineResponse(batch, include_feature_view_version_metadata)

    # The same in steps, for servers.

    @property
    def reads_in_steps(self) -> bool:
        """Whether the methods below can be used: not where another server answers."""
        return self._remote is None

    def begin_read(
        self, features: Features, entity_rows: object, full_feature_names: bool = False, lazy: bool = False
    ) -> Batch:
        """Return what is to be read; no I/O. Arguments and errors as those of `get_online_features`; `lazy` as in
        `online.begin`."""
        serving = self._serving
        if not self._started:
            self._start_refresher()
        return online.begin(serving.plan(features, full_feature_names), entity_rows, lazy)

    def submit_read(
        self, batch: Batch, loop: AbstractEventLoop, on_done: OnDone, timeout: float | None = None
    ) -> PendingRead:
        """Begin to read a Batch, in a turn of the loop; neither a task nor a future is made.

        Args:
            on_done: called once, in a later turn of the loop, with the error, or with None when `finish_read` may
                be called. It must not raise.
            timeout: seconds; by default as configured for the store.

        Returns:
            Something with a method `cancel`, after which `on_done` will not be called.
        """
        return self._store.submit(batch, loop, on_done, timeout)

    def finish_read(self, batch: Batch, include_feature_view_version_metadata: bool = False) -> OnlineResponse:
        """Return the answer of a Batch that was read.

        On-demand feature views are computed here, which may take long; without any, `batch.plan.transforms` is empty.

        Raises:
            TransformError, DecodeError.
            VectorError: precomputed vectors do not answer this, or not by themselves: `get_online_features`, or the
                asynchronous one, finds out whether an entity is unknown or its vector lost, or other vectors are there.
        """
        missing = online.finish(batch)
        if missing:
            raise VectorsNotFound(batch, missing)
        return OnlineResponse(batch, include_feature_view_version_metadata)

    def plan(self, features: Features, full_feature_names: bool = False) -> ReadPlan:
        """Return what will be read for a request shape; compiled on first use. Raises as `get_online_features`.

        What Feast's `plan` does is `apply_repo(dry_run=True)`.
        """
        return self._serving.plan(features, full_feature_names)

    @property
    def registry(self) -> RegistryFacade:
        """What Feast's code calls the registry; the methods of this object do the same."""
        return RegistryFacade(self)

    def set_current_project(self, project: str) -> str:
        """Return a token for `reset_current_project`. Raises NotSupportedError: a store serves one project."""
        if project != self.project:
            raise NotSupportedError(f"the store is of the project {self.project}; make another store for {project}")
        return project

    def reset_current_project(self, token: str) -> None:
        """Do nothing: the project is always the store's own."""

    def _state(self) -> _Serving:
        return self._serving

    def _current_snapshot(self) -> Snapshot:
        return self._serving.snapshot

    # --- life ---

    def serve(
        self,
        host: str,
        port: int,
        type_: str = "http",
        no_access_log: bool = True,
        workers: int = 1,
        worker_connections: int = 1000,
        max_requests: int = 0,
        max_requests_jitter: int = 50,
        metrics: bool = False,
        keep_alive_timeout: int = 30,
        tls_key_path: str = "",
        tls_cert_path: str = "",
        registry_ttl_sec: float | None = None,
    ) -> None:
        """Answer over HTTP until SIGTERM or Ctrl-C, as `fastserve serve` with the options of these names does.

        Raises:
            RequestError: an option is out of range. NotSupportedError: `type_` is not "http".
        """
        from fastserve.server import run  # the server is made of a FeatureStore; nothing else needs it here

        if type_ != "http":
            raise NotSupportedError(f"serve: type {type_!r} is not supported; it must be 'http'")
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "access_log": not no_access_log,
            "workers": workers,
            "worker_connections": worker_connections,
            "max_requests": max_requests,
            "max_requests_jitter": max_requests_jitter,
            "keep_alive_timeout": keep_alive_timeout,
            "tls_key_path": tls_key_path,
            "tls_cert_path": tls_cert_path,
            "registry_ttl_sec": registry_ttl_sec,
        }
        if metrics:
            options["metrics"] = True
        run.serve(self.config, run.ServeOptions(**options))

    def refresh_registry(self) -> None:
        """Read the registry now. Raises RegistryError; the old state then stays."""
        self._refresher.refresh_now()

    def check_registry(self) -> None:
        """Raise RegistryError if the registry is out of reach at this moment; what is loaded is served all the same."""
        self._registry.mark()

    def _adopt(self, snapshot: Snapshot) -> None:
        self._refresher.adopt(snapshot)

    def _renew(self, snapshot: Snapshot) -> None:
        self._serving = self._serving.renewed(snapshot)
        self.plans_epoch = object()

    def _look_at_vectors(self) -> None:
        for service in self._served_vectors.look():
            self._forget_plans(service)

    def _start_refresher(self) -> None:
        # The thread starts with the first read, so that a process may fork after it made the store.
        with self._lock:
            if not self._started:
                self._refresher.start()
                self._started = True

    async def initialize(self) -> None:
        """Do nothing: connections are made when they are needed."""

    def close(self) -> Closed:
        """Stop the background refresh and close the connections of the online store. A later read starts them again.

        Returns:
            What can be awaited and need not be: Feast's `close` must be.
        """
        with self._lock:
            self._refresher.stop()
            self._started = False
        self._store.close()
        return Closed()

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Closed:
    """The result of `FeatureStore.close`."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


def _config(
    repo_path: str | Path | None, config: Config | dict[str, Any] | None, fs_yaml_file: str | Path | None
) -> Config:
    if config is None:
        return load_config(repo_path, fs_yaml_file)
    if fs_yaml_file is not None:
        raise RequestError("give either config or fs_yaml_file, not both")
    return config if isinstance(config, Config) else parse_config(config, repo_path or ".")
