"""Precomputed vectors in the making: built of what is stored, and kept up to date with what is written.

A build is announced in the service's marker before the first key is read, so that from then on whoever writes rows
merges them into its vectors too; when all keys were read it becomes the current one in one step. A writer works with
the markers as it knows them: the store refuses to merge vectors of a marker that is another by now, and after the rows
themselves are written the writer looks whether a marker has come or gone meanwhile, and if so begins again. Merging is
by event time, segment by segment, so it may be done twice and in any order.

Rows are written before they are merged, so that a build which begins meanwhile reads nothing older than what readers
have seen already. But a vector is there before: of an entity that is new, an empty one.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fastserve._core import (
    EncodedRows,
    EncodedVectors,
    ReadPlan,
    WritePlan,
    batch_of_keys,
    encode_value,
    pack_batch,
    pack_feast,
    pack_rows,
)
from fastserve.errors import (
    EncodeError,
    NotSupportedError,
    VectorBuildReplacedError,
    VectorError,
    VectorVersionError,
)
from fastserve.model import DUMMY_JOIN_KEY, FeatureService
from fastserve.plan import PlanOptions, feast_obstacle, is_precomputed, plan_of_hashes, service_groups
from fastserve.progress import NoProgress, Progress, ViewProgress
from fastserve.registry import Snapshot
from fastserve.registry import schema_pb2 as pb
from fastserve.stores.base import Store
from fastserve.stores.vector_store import FROM_HASHES, FROM_ROWS, OVERWRITING, VectorStore, vector_store
from fastserve.types import ValueType
from fastserve.vectors import (
    FEAST,
    FEAST_FEATURE,
    Build,
    Group,
    Marker,
    feast_view,
    label_of,
    new_build,
    places,
    united,
)

if TYPE_CHECKING:  # who does not build need not load it
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Vectors", "forget_views"]

logger = logging.getLogger(__name__)

BATCH_SIZE = 1000
DUMMY = (DUMMY_JOIN_KEY,)

T = TypeVar("T")


@dataclass(frozen=True)
class _Target:
    """One group of one build, whose vectors are made, and the marker that the store must still have."""

    marker: Marker
    build: Build
    group: Group

    @property
    def name(self) -> tuple[str, str, tuple[str, ...]]:
        return self.marker.service, self.build.generation, self.group.join_keys


class _Maker:
    """Makes vectors of what is stored."""

    def __init__(self, store: Store, options: PlanOptions):
        self._store, self._options = store, options
        self._plans: dict[tuple[tuple[str, ...], object], ReadPlan] = {}

    @property
    def vectors(self) -> VectorStore:
        """Where they go. Raises NotSupportedError: the store keeps none."""
        found = vector_store(self._store)
        if found is None:
            raise NotSupportedError(f"{type(self._store).__name__} keeps no precomputed vectors")
        return found

    def make(self, target: _Target, keys: Sequence[bytes]) -> int | None:
        """Make the vectors of entity keys, and return how many there are; None if the marker is another by now.

        Raises:
            VectorError: a stored value does not fit its feature's type.
        """
        made = 0
        for start in range(0, len(keys), BATCH_SIZE):
            page = list(keys[start : start + BATCH_SIZE])
            found = self._make_feast(target, page) if target.build.format == FEAST else self._make_packed(target, page)
            if found is None:
                return None
            made += found
        return made

    def _make_packed(self, target: _Target, keys: list[bytes]) -> int | None:
        made = vectors = self._packed(target, keys)
        if not self.vectors.always_overwrites:
            return None if self.merge(target, made, FROM_HASHES) is None else made.n_rows
        # No event time says which of two vectors is later, so this must have been made of what is stored afterwards.
        while vectors.n_rows:
            if self.merge(target, vectors, OVERWRITING) is None:
                return None
            before = dict(vectors.items())
            changed = [key for key, vector in self._packed(target, list(before)).items() if before[key] != vector]
            vectors = self._packed(target, changed)
        return made.n_rows

    def _packed(self, target: _Target, keys: list[bytes]) -> EncodedVectors:
        batch = batch_of_keys(self.plan(target.group), keys)
        self._store.read(batch)
        try:
            return pack_batch(target.group.layout, batch, 0)
        except EncodeError as exc:
            raise VectorError(f"{label_of(target.marker.service)}: no vector can be made: {exc}") from exc

    def merge(self, target: _Target, vectors: EncodedVectors, source: int) -> Sequence[int] | None:
        """Merge vectors into the target's; see `VectorStore.merge`."""
        assert target.marker.data is not None
        return self.vectors.merge(target.marker.service, target.marker.data, target.group.prefix, vectors, source)

    def _make_feast(self, target: _Target, keys: list[bytes]) -> int | None:
        """Write vectors in Feast's format, and again those that were made of rows which are not the latest by now."""
        assert target.marker.data is not None
        now = time.time_ns() // 1000
        found = wanted = self._feast_vectors(target, keys, now)
        while wanted:
            values = [(key, encode_value(vector, ValueType.BYTES)) for key, vector in wanted.items()]
            service = target.marker.service
            if not self.vectors.put_feast(service, target.marker.data, feast_view(service), values, now):
                return None
            after = self._feast_vectors(target, list(wanted), now)
            wanted = {key: vector for key, vector in after.items() if wanted[key] != vector}
        return len(found)

    def _feast_vectors(self, target: _Target, keys: list[bytes], now: int) -> dict[bytes, bytes]:
        batch = batch_of_keys(self.plan(target.group), keys)
        self._store.read(batch)
        found = dict(pack_feast(batch, 0, *places(target.build, _fields(batch.plan)), now))
        # Feast makes one of each key of the same join keys, and fails a whole request for want of one.
        nothing = _empty_feast(target.build, now)
        return {key: found.get(key, nothing) for key in keys}

    def plan(self, group: Group) -> ReadPlan:
        """Return the plan of all that the vectors of a group are made of."""
        key = group.join_keys, group.views
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = plan_of_hashes(group, self._options)
        return plan


def _empty_feast(build: Build, now: int) -> bytes:
    """Return the vector in Feast's format of an entity that none of the service's views has a row of."""
    vector = pb.PrecomputedFeatureVector()
    for alias, _, feature in build.names:
        vector.feature_names.append(f"{alias}__{feature}")
        vector.values.add()
    for alias in dict.fromkeys(alias for alias, _, _ in build.names):
        vector.fv_timestamps.add(feature_view_name=alias).event_timestamp.SetInParent()
    vector.precomputed_at.FromMicroseconds(now)
    return vector.SerializeToString()


def _fields(plan: ReadPlan) -> dict[tuple[str, str | None], int]:
    (group,) = plan.groups
    return {
        (view.name, feature): view.start + i for view in group.views for i, feature in enumerate((*view.features, None))
    }


# --- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """The markers as a writer knows them."""

    epoch: int
    markers: Mapping[str, Marker]


class _Pending:
    """Rows on their way into vectors.

    Attributes:
        unresolved: of each target the rows whose vectors must be made of what is stored.
    """

    def __init__(self, rows: EncodedRows):
        self.rows = rows
        self.unresolved: dict[tuple[str, str, tuple[str, ...]], set[int]] = {}
        self._keys: list[bytes] = []

    def keys(self) -> list[bytes]:
        """Return the entity keys of all rows."""
        self._keys = self._keys or self.rows.entity_keys()
        return self._keys

    def add(self, target: _Target, rows: Iterable[int]) -> None:
        self.unresolved.setdefault(target.name, set()).update(rows)


class Vectors:
    """The vectors of a project's services: keeps them up to date, builds and drops them. One object for all threads.

    Args:
        store: of the rows.
        vector_format: of what is built, as configured.
    """

    def __init__(self, store: Store, options: PlanOptions, vector_format: str = "auto"):
        self._store, self._options, self._format = store, options, vector_format
        self._maker = _Maker(store, options)
        self._known: _Known | None = None

    @property
    def are_kept(self) -> bool:
        """Whether the store keeps vectors at all."""
        return vector_store(self._store) is not None

    def write(self, rows: EncodedRows, key_ttl_seconds: int | None = None) -> int:
        """Write rows as `Store.write` does, and bring the vectors of their entities up to date.

        Raises:
            StoreError: some rows, and vectors, may be in; writing all of them again is safe.
        """
        if not rows.n_rows or not self.are_kept:
            return self._store.write(rows, key_ttl_seconds)
        pending = _Pending(rows)
        self._reserve(pending)
        applied = self._store.write(rows, key_ttl_seconds)
        while not self._is_settled(pending):
            self._known = None
        return applied

    def _markers(self) -> _Known:
        known = self._known
        if known is None:
            found = self._maker.vectors.read_markers()
            markers = {service: Marker.parse(service, data) for service, data in found.found.items()}
            known = self._known = _Known(found.epoch, markers)
        return known

    def _reserve(self, pending: _Pending) -> None:
        """Let each entity have a vector before its rows; a new one must be made of all that is stored."""
        for target in self._targets(pending.rows.plan):
            if target.build.format != FEAST:
                service, data = target.marker.service, target.marker.data
                assert data is not None
                keys = pending.keys()
                created = self._maker.vectors.reserve(service, data, target.group.prefix, keys, target.group.empty)
                pending.add(target, created or ())

    def _is_settled(self, pending: _Pending) -> bool:
        """Merge the rows into all vectors, and return whether the markers are still those that this went by."""
        known = self._markers()
        for target in self._targets(pending.rows.plan):
            if not self._merge(pending, target):
                return False
        self._touch(pending)
        return self._maker.vectors.epoch() == known.epoch

    def _merge(self, pending: _Pending, target: _Target) -> bool:
        """Bring the vectors of the rows' entities up to date; False if the marker is another by now."""
        rows = pending.rows
        unresolved: Sequence[int] = range(rows.n_rows)
        if target.build.format != FEAST:
            found = self._maker.merge(target, pack_rows(target.group.layout, rows.plan.view, rows), FROM_ROWS)
            if found is None:
                return False
            pending.add(target, unresolved if self._maker.vectors.always_overwrites else found)
            unresolved = sorted(pending.unresolved[target.name])
        keys = pending.keys() if unresolved else []
        return self._maker.make(target, [keys[row] for row in unresolved]) is not None

    def _targets(self, plan: WritePlan) -> Iterator[_Target]:
        """Yield what rows of a view are merged into."""
        types = dict(zip(plan.features, plan.feature_types, strict=True))
        for target in self._all_targets():
            features = target.group.features_of(plan.view)
            if features and target.group.join_keys == _join_keys(plan) and _fit(target, plan.view, features, types):
                yield target

    def _all_targets(self) -> Iterator[_Target]:
        for marker in self._markers().markers.values():
            for build in marker.builds:
                for group in build.groups:
                    yield _Target(marker, build, group)

    def _touch(self, pending: _Pending) -> None:
        """Keep vectors as long as the hashes of their entities, which live on from a write of any view."""
        if not self._maker.vectors.keys_expire:
            return
        for target in self._all_targets():
            if target.group.tag and target.group.join_keys == _join_keys(pending.rows.plan):
                self._maker.vectors.touch(target.group.prefix, pending.keys())

    # --- building ---

    def build_missing(self, snapshot: Snapshot, written: Iterable[str], progress: Progress | None = None) -> None:
        """Build the services that have one of some views, given by their stored names, and no vectors yet.

        Raises:
            as `build`.
        """
        if not self.are_kept:
            return
        names = set(written)
        for service in snapshot.feature_services.values():
            if is_precomputed(snapshot, service) and service.name not in self._markers().markers:
                groups, _ = service_groups(snapshot, self._options, service)
                if not names.isdisjoint(name for group in groups for name, _ in group.views):
                    # Another writer may begin the same at this moment; its build has this one's rows too.
                    with suppress(VectorBuildReplacedError):
                        self.build(snapshot, service, progress)

    def build(
        self,
        snapshot: Snapshot,
        service: FeatureService,
        progress: Progress | None = None,
        batch_size: int = BATCH_SIZE,
        planned: Snapshot | None = None,
    ) -> int:
        """Build the vectors of all entities of a service beside those that are there, replace these, and delete them.

        Args:
            batch_size: how many entities are read at a time.
            planned: the state of the registry that is about to be applied: the vectors then serve the service as it is
                and as it will be.
        Returns:
            The number of vectors.
        Raises:
            NotSupportedError: the service cannot be precomputed, or not in the configured format.
            RequestError, FeastObjectNotFoundException: the service cannot be read at all.
            VectorError: a stored value does not fit its feature's type, or another build has begun meanwhile.
            StoreError: it failed. After any error the vectors that were there are still read.
        """
        build = self._new_build(snapshot, service, planned)
        if planned is not None:
            # Of a view that is new nothing is stored, but there must be a place to look.
            self._store.create([plan for group in build.groups for plan in _write_plans(group, self._options)])
        before = self._announce(service.name, build)
        self._discard(service.name, before.building)
        with closing((progress or NoProgress()).view(service.name)) as told:
            count = sum(self._fill(service.name, build, group, told, batch_size) for group in build.groups)
        finished = build.finished(count)
        replaced = self._change(service.name, build, lambda marker: replace(marker, current=finished, building=None))
        if replaced.current is None or (replaced.current.format, build.format) != (FEAST, FEAST):
            self._discard(service.name, replaced.current)
        return count

    def _new_build(self, snapshot: Snapshot, service: FeatureService, planned: Snapshot | None) -> Build:
        if not is_precomputed(snapshot, replace(service, precompute_online=True)):
            raise NotSupportedError(f"{label_of(service.name)} has views that are computed when they are read")
        groups, names = service_groups(snapshot, self._options, service)
        if planned is not None:
            later = planned.get_feature_service(service.name)
            groups = united(groups, service_groups(planned, self._options, later)[0])
        if self._format != FEAST:
            return new_build(self._options.project, service.name, "packed", groups, names)
        obstacle = (
            feast_obstacle(service, groups) if self._maker.vectors.keeps_feast else "Feast has them in Redis only"
        )
        if planned is not None:
            obstacle = obstacle or "only the features of the service as it is; build after the change"
        if obstacle:
            raise NotSupportedError(f"{label_of(service.name)} cannot have vectors in Feast's format: {obstacle}")
        return new_build(self._options.project, service.name, "feast", groups, names)

    def _announce(self, service: str, build: Build) -> Marker:
        """Put the build into the marker, in place of one that was not completed; return the marker before."""
        while True:
            before = self.marker(service)
            if _swap(self._maker.vectors, before, replace(before, building=build)):
                return before

    def _change(self, service: str, build: Build, edit: Callable[[Marker], Marker]) -> Marker:
        """Change the marker, and return the one before. Raises VectorError if the build is not in it any more."""
        while True:
            before = self._marker_of(service, build)
            if _swap(self._maker.vectors, before, edit(before)):
                return before

    def _marker_of(self, service: str, build: Build) -> Marker:
        marker = self.marker(service)
        if marker.building is None or marker.building.generation != build.generation:
            raise VectorBuildReplacedError(
                f"{label_of(service)}: another build of its vectors has begun, or they were dropped"
            )
        return marker

    def _fill(self, service: str, build: Build, group: Group, told: ViewProgress, batch_size: int) -> int:
        """Make the vectors of all entity keys of a group; return how many there are."""
        from concurrent.futures import ThreadPoolExecutor

        plans, made = _write_plans(group, self._options), 0
        told.stage("building", self._maker.vectors.estimate(plans))
        parts = _parts(self._maker.vectors.entity_keys(plans), batch_size)
        # While the store works for one part, the next is packed.
        with ThreadPoolExecutor(self._maker.vectors.builders, thread_name_prefix="fastserve-vectors") as pool:
            fill = partial(self._fill_part, service, build, group)
            for n_keys, found in _in_order(pool, fill, parts, 2 * self._maker.vectors.builders):
                made += found
                told.advance(n_keys)
        return made

    def _fill_part(self, service: str, build: Build, group: Group, keys: list[bytes]) -> tuple[int, int]:
        """Make the vectors of some entity keys; return how many keys there are, and how many vectors."""
        while True:
            made = self._maker.make(_Target(self._marker_of(service, build), build, group), keys)
            if made is not None:
                return len(keys), made

    # --- what there is ---

    def marker(self, service: str) -> Marker:
        """Return what is kept of a service now. Raises VectorError: it cannot be read."""
        return Marker.parse(service, self._maker.vectors.read_marker(service))

    def count(self, build: Build) -> int:
        """Return about how many vectors there are now. Everything in the store is walked."""
        if build.format == FEAST:
            return build.count
        return sum(self._maker.vectors.count(group.prefix) for group in build.groups)

    def drop(self, service: str) -> bool:
        """Delete the vectors of a service, and what is kept of it; return whether there was anything.

        Vectors that Feast has built, and nobody here since, are left to Feast.
        """
        if not self.are_kept:
            return False
        while (data := self._maker.vectors.read_marker(service)) is not None:
            builds = _builds_of(service, data)
            if self._maker.vectors.swap_marker(service, data, None):
                for build in builds:
                    self._discard(service, build)
                return True
        return False

    def services(self) -> list[str]:
        """Return the services that there are vectors of, whether the registry has them or not."""
        return list(self._maker.vectors.read_markers().found) if self.are_kept else []

    def _discard(self, service: str, build: Build | None) -> None:
        """Delete the vectors of a build that no marker names any more."""
        if build is None:
            return
        if build.format != FEAST:
            self._maker.vectors.drop([group.prefix for group in build.groups])
            return
        for group in build.groups:
            self._store.drop([_feast_plan(service, group, self._options)])


def forget_views(store: Store, names: Iterable[str]) -> None:
    """Let the vectors in a store forget views, given by their stored names, whose rows are about to be deleted.

    Raises:
        VectorError: a marker cannot be read. StoreError: the store failed.
    """
    vectors, gone = vector_store(store), set(names)
    if vectors is None or not gone:
        return
    for service, data in vectors.read_markers().found.items():
        marker = Marker.parse(service, data)
        while _has_any(marker, gone):
            current, building = (build and build.without_views(gone) for build in (marker.current, marker.building))
            if _swap(vectors, marker, replace(marker, current=current, building=building)):
                break
            marker = Marker.parse(service, vectors.read_marker(service))


def _builds_of(service: str, data: bytes) -> list[Build]:
    """Return what a marker names; nothing if it is damaged. Raises VectorVersionError: it is not ours to delete."""
    try:
        return Marker.parse(service, data).builds
    except VectorVersionError:
        raise
    except VectorError as exc:
        logger.warning("%s; its vectors cannot be found, and stay", exc)
        return []


def _swap(vectors: VectorStore, before: Marker, after: Marker) -> bool:
    return vectors.swap_marker(before.service, before.data, after.to_bytes() if after.builds else None)


def _parts(pages: Iterable[list[bytes]], size: int) -> Iterator[list[bytes]]:
    for page in pages:
        keys = list(dict.fromkeys(page))
        yield from (keys[start : start + size] for start in range(0, len(keys), size))


def _in_order(
    pool: ThreadPoolExecutor, task: Callable[[list[bytes]], T], parts: Iterator[list[bytes]], limit: int
) -> Iterator[T]:
    """Yield what the task returns for each part; at most `limit` of them are under way."""
    running: deque[Future[T]] = deque()
    for part in parts:
        running.append(pool.submit(task, part))
        if len(running) == limit:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _join_keys(plan: WritePlan) -> tuple[str, ...]:
    return plan.join_keys or DUMMY


def _fit(target: _Target, view: str, features: Mapping[str, int], types: Mapping[str, int]) -> bool:
    """Whether rows can go into vectors; if not, services that are defined as the rows are find them stale."""
    changed = [name for name, number in features.items() if types.get(name, number) != number]
    if changed:
        service = target.marker.service
        logger.warning(
            "%s: its vectors were built when %s:%s had another type, so they are not kept up to date; build them "
            "again: fastserve vectors build %s",
            label_of(service),
            view,
            changed[0],
            service,
        )
    return not changed


def _has_any(marker: Marker, names: set[str]) -> bool:
    return any(group.features_of(name) for build in marker.builds for group in build.groups for name in names)


def _write_plans(group: Group, options: PlanOptions) -> list[WritePlan]:
    """Return the plans of the views of a group, as far as looking for entity keys needs them."""
    types = [0] * len(group.join_keys)
    return [
        WritePlan(view, group.join_keys, types, [], [], options.project, options.key_version) for view, _ in group.views
    ]


def _feast_plan(service: str, group: Group, options: PlanOptions) -> WritePlan:
    """Return the plan of the vectors in Feast's format, which are stored like rows of a view."""
    types, project = [0] * len(group.join_keys), options.project
    vector = int(ValueType.BYTES)
    return WritePlan(
        feast_view(service), group.join_keys, types, [FEAST_FEATURE], [vector], project, options.key_version
    )
