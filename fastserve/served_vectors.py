"""Precomputed vectors as readers see them: which ones a service is read from, and what it means that one is missing.

A marker is read when the first plan of its service is compiled, again in the background as often as the registry is
looked at, and when a read has failed for want of a vector.
"""

from __future__ import annotations

import logging
from itertools import groupby
from operator import itemgetter
from typing import Literal

from fastserve._core import Batch, KeyGroup, ReadPlan, StoredView, batch_of_keys, rows_of_entities, stored_entities
from fastserve.errors import FastserveError, VectorMissingError
from fastserve.model import FeatureService
from fastserve.plan import PlanOptions, feast_obstacle, is_precomputed, service_groups
from fastserve.registry import Snapshot
from fastserve.stores.base import Store
from fastserve.stores.vector_store import vector_store
from fastserve.vectors import Build, Marker, label_of

__all__ = ["ServedVectors", "VectorsNotFound"]

logger = logging.getLogger(__name__)


class ServedVectors:
    """The vectors that a store serves. One object for all threads.

    Args:
        vector_format: as configured; "packed" takes no vectors of Feast's that nobody has built here.
    """

    def __init__(self, store: Store, options: PlanOptions, vector_format: str = "auto"):
        self._store, self._options, self._format = store, options, vector_format
        self._markers: dict[str, Marker] = {}
        self._logged = ""

    def of(self, snapshot: Snapshot, features: object) -> Build | None:
        """Return the vectors to read a service from; None if it is read from its views.

        So are mere references, and with the format "auto" a service of which nobody has built vectors in SQLite.

        Raises:
            VectorMissingError: it has none yet. VectorError: its marker cannot be read.
            StoreError: the store failed.
        """
        if not isinstance(features, FeatureService) or not is_precomputed(snapshot, features):
            return None
        vectors = vector_store(self._store)
        if vectors is None:
            return None
        current = self._marker(features.name).current
        if current is not None:
            return current
        source = self.unbuilt(snapshot, features)
        if source == "error":
            raise VectorMissingError(features.name)
        groups, names = service_groups(snapshot, self._options, features)
        return Build("feast", "", tuple(groups), names) if source == "feast" else None

    def unbuilt(self, snapshot: Snapshot, service: FeatureService) -> Literal["views", "feast", "error"]:
        """Return what a service is read from while nobody has built vectors here: its views, or Feast's vectors."""
        vectors = vector_store(self._store)
        if vectors is None or not is_precomputed(snapshot, service):
            return "views"
        if self._format == "auto" and not vectors.keeps_feast:
            return "views"  # Feast can build none there
        groups, _ = service_groups(snapshot, self._options, service)
        if self._format == "packed" or not vectors.keeps_feast or feast_obstacle(service, groups):
            return "error"
        return "feast"

    def _marker(self, service: str) -> Marker:
        found = self._markers.get(service)
        return self._read(service) if found is None else found

    def _read(self, service: str) -> Marker:
        vectors = vector_store(self._store)
        assert vectors is not None  # or nothing would be read from it
        marker = self._markers[service] = Marker.parse(service, vectors.read_marker(service))
        return marker

    def renew(self, service: str) -> bool:
        """Read a marker that was read before; return whether it has changed. Raises as `of`."""
        before = self._markers.get(service)
        return before is not None and self._read(service).current != before.current

    def look(self) -> list[str]:
        """Read all markers that were read before; return the services whose vectors are others now. Never raises."""
        try:
            changed = [service for service in list(self._markers) if self.renew(service)]
        except FastserveError as exc:
            text = f"{type(exc).__name__}: {exc}"
            if text != self._logged:
                self._logged = text
                logger.warning("the markers of precomputed vectors cannot be read, the old ones stay in use: %s", text)
            return []
        self._logged = ""
        return changed

    def rows_lost(self, error: VectorsNotFound) -> list[int]:
        """Return the rows of a request whose entities have no vector, but data: they should have one.

        Raises:
            StoreError: the store failed.
        """
        lost: set[int] = set()
        for index, pairs in groupby(sorted(error.missing), itemgetter(0)):
            entities = [entity for _, entity in pairs]
            group, keys = error.batch.groups[index], error.batch.entity_keys(index)
            found = batch_of_keys(_plan_of_rows(group), [keys[entity] for entity in entities])
            self._store.read(found)
            with_data = [entities[i] for i in stored_entities(found, 0)]
            lost.update(rows_of_entities(error.batch, index, with_data))
        return sorted(lost)


class VectorsNotFound(VectorMissingError):
    """Vectors are not there: of entities that are not known, or they are lost.

    Attributes:
        batch: what was read; the features of these entities are NOT_FOUND.
        missing: (group, entity), as from `Batch.unpack_vectors`.
    """

    def __init__(self, batch: Batch, missing: list[tuple[int, int]]):
        super().__init__(batch.groups[missing[0][0]].vector_label.removeprefix(label_of("")))
        self.batch, self.missing = batch, missing


def _plan_of_rows(group: KeyGroup) -> ReadPlan:
    """Return the plan that reads the views of a group of vectors themselves."""
    views = [StoredView(view.name, view.features, view.start) for view in group.views]
    plain = KeyGroup(group.join_keys, (), (), views, group.suffix.decode(), group.version)
    return ReadPlan([plain], [], join_keys={}, required={})
