"""The SDK's half of precomputed vectors: building and dropping them, and what `apply` has to say about them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastserve.config import Config
from fastserve.errors import FastserveError, StoreError, VectorError
from fastserve.model import FeatureService
from fastserve.plan import PlanOptions, is_precomputed, service_groups
from fastserve.precompute import Vectors
from fastserve.progress import Progress, default_progress
from fastserve.registry import RegistrySource, Snapshot
from fastserve.served_vectors import ServedVectors
from fastserve.vectors import Marker, differences

if TYPE_CHECKING:
    from fastserve.changes import Change

__all__ = ["VectorStatus", "VectorsMixin"]

logger = logging.getLogger(__name__)

SERVICE = "feature service"  # a value of `changes.KIND_NAMES`


@dataclass(frozen=True)
class VectorStatus:
    """What there is of a service's vectors.

    Args:
        marker: what is kept of it.
        stored: about how many vectors there are now.
        lacking: what the service has, as it is now, that the vectors have not.
        is_read: whether the service is read from its vectors, if they are built.
        unbuilt: what it is read from otherwise: "views", "feast" (Feast's vectors), or nothing, which is an "error".
    """

    marker: Marker
    stored: int
    lacking: tuple[str, ...]
    is_read: bool
    unbuilt: str


class VectorsMixin:
    """What `FeatureStore` does to precomputed vectors. It needs the members declared here."""

    config: Config
    _registry: RegistrySource
    _vectors: Vectors
    _served_vectors: ServedVectors
    _options: PlanOptions

    def _current_snapshot(self) -> Snapshot:
        raise NotImplementedError

    def refresh_registry(self) -> None:
        """Read the registry now."""
        raise NotImplementedError

    def precompute_feature_service(
        self,
        feature_service_name: str | None = None,
        batch_size: int = 1000,
        *,
        ahead: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """Build the precomputed vectors of a feature service anew, for all entities that are stored.

        Reads go on with the old vectors until all new ones are there.

        Args:
            feature_service_name: any service; by default all that have `precompute_online=True`, one after the other.
            batch_size: how many entities are read at a time.
            ahead: also for the repository's Python files, which are about to be applied, so that the service can be
                read before and after that.
            progress: by default bars on a terminal, log lines otherwise.

        Returns:
            The number of vectors.

        Raises:
            FeatureServiceNotFoundException: there is no such service.
            NotSupportedError: it has views that are computed when they are read, or vectors in Feast's format are
                configured, which cannot hold it.
            VectorError: a stored value is not of its feature's type, or another build has begun meanwhile.
            StoreError: the store failed; the old vectors, if there are any, are still read.
        """
        self.refresh_registry()
        snapshot = self._current_snapshot()
        name = feature_service_name
        services = [snapshot.get_feature_service(name)] if name is not None else _precomputed(snapshot)
        told = progress or default_progress()
        planned = self._planned() if ahead else None
        return sum(self._vectors.build(snapshot, service, told, batch_size, planned) for service in services)

    def _planned(self) -> Snapshot:
        from fastserve.apply import Options, planned_snapshot
        from fastserve.repo import load_repo

        contents = load_repo(self.config.repo_path)
        return planned_snapshot(self._registry, self.config, contents, Options(full=True))

    def vector_status(self, name: str) -> VectorStatus:
        """Return what there is of a service's vectors. Everything in the store is walked.

        Raises:
            FeatureServiceNotFoundException, VectorError, StoreError.
        """
        snapshot = self._current_snapshot()
        service = snapshot.get_feature_service(name)
        marker = self._vectors.marker(name)
        current = marker.current
        groups, _ = service_groups(snapshot, self._options, service)
        lacking = differences(groups, current) if current is not None else []
        stored = self._vectors.count(current) if current is not None else 0
        unbuilt = self._served_vectors.unbuilt(snapshot, service)
        return VectorStatus(marker, stored, tuple(lacking), is_precomputed(snapshot, service), unbuilt)

    def drop_vectors(self, name: str) -> bool:
        """Delete the vectors of a service, which may be deleted itself; return whether there were any.

        Vectors that Feast has built, and nobody here since, are left to Feast.
        """
        return self._vectors.drop(name)

    # --- after an apply ---

    def _settle_vectors(self, snapshot: Snapshot, changes: list[Change]) -> list[Change]:
        """Drop the vectors of services that have none any more, and note in changes what is to be built."""
        if not self._vectors.are_kept or not (_precomputed(snapshot) or any(_has_gone(change) for change in changes)):
            return changes
        try:
            self._drop_orphans(snapshot)
            return [self._with_note(snapshot, change) if change.kind == SERVICE else change for change in changes]
        except (StoreError, VectorError) as exc:
            logger.warning("the precomputed vectors could not be looked at: %s", exc)
            return changes

    def _drop_orphans(self, snapshot: Snapshot) -> None:
        kept = {service.name for service in _precomputed(snapshot)}
        for service in self._vectors.services():
            if service not in kept:
                self._vectors.drop(service)

    def _with_note(self, snapshot: Snapshot, change: Change) -> Change:
        service = snapshot.feature_services.get(change.name)
        if service is None or not is_precomputed(snapshot, service):
            return change
        note = self._note(snapshot, service)
        return replace(change, note="; ".join(filter(None, (change.note, note))))

    def _note(self, snapshot: Snapshot, service: FeatureService) -> str:
        current = self._vectors.marker(service.name).current
        if current is None:
            return f"its vectors are built when rows are written next, or by: fastserve vectors build {service.name}"
        try:
            lacking = differences(service_groups(snapshot, self._options, service)[0], current)
        except FastserveError:
            return ""
        build = f"its vectors are to be built again: fastserve vectors build {service.name}"
        return f"{'; '.join(lacking)}; {build}" if lacking else ""


def _precomputed(snapshot: Snapshot) -> list[FeatureService]:
    return [service for service in snapshot.feature_services.values() if is_precomputed(snapshot, service)]


def _has_gone(change: Change) -> bool:
    """Whether a precomputed service may have been deleted, or is one no more."""
    return change.kind == SERVICE and change.action in ("updated", "deleted")
