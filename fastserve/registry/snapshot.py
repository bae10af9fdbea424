"""One state of the registry, for one project: what requests are compiled from.

A Snapshot never changes, so whoever holds one may read it from any thread; a refresh makes a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from fastserve.errors import (
    DataSourceNotFoundException,
    EntityNotFoundException,
    FeatureServiceNotFoundException,
    FeatureViewNotFoundException,
    FeatureViewVersionNotFound,
    RegistryError,
)
from fastserve.model import (
    DUMMY_ENTITY,
    DataSource,
    Entity,
    FeatureService,
    FeatureView,
    OnDemandFeatureView,
    Project,
)
from fastserve.registry import convert
from fastserve.registry import schema_pb2 as pb

__all__ = ["Snapshot", "build_snapshot"]


M = TypeVar(
    "M", pb.Entity, pb.FeatureView, pb.StreamFeatureView, pb.LabelView, pb.OnDemandFeatureView, pb.FeatureService
)
T = TypeVar("T", Entity, FeatureView, OnDemandFeatureView, FeatureService, DataSource, Project)
V = TypeVar("V", FeatureView, OnDemandFeatureView)
_Reader = Callable[[bytes, Mapping[str, Entity]], V | None]


@dataclass(frozen=True, eq=False, repr=False)
class Snapshot:
    """The objects of one project, by name, in the registry's order.

    Attributes:
        mark: what the source said of the state that was read; compares unequal after a change.
        message: the whole registry as it was read, with all projects and with fields that this version does not know.
        entities: without Feast's `__dummy`.
        join_keys: join key -> entity, likewise.
        feature_views: everything that is read from the online store: also stream and label views, and on-demand views
            that are stored.
        on_demand_feature_views: all of them, stored or not.
        projects: of the whole registry.
    """

    project: str
    mark: object
    message: pb.Registry
    entities: Mapping[str, Entity]
    join_keys: Mapping[str, Entity]
    feature_views: Mapping[str, FeatureView]
    on_demand_feature_views: Mapping[str, OnDemandFeatureView]
    feature_services: Mapping[str, FeatureService]
    data_sources: Mapping[str, DataSource]
    projects: Mapping[str, Project]

    def __repr__(self) -> str:
        return f"<Snapshot of {self.project}, {len(self.feature_views)} views, mark {self.mark}>"

    def get_entity(self, name: str) -> Entity:
        """Return the entity, or raise EntityNotFoundException."""
        try:
            return self.entities[name]
        except KeyError:
            raise EntityNotFoundException(name, self.project) from None

    def get_feature_view(self, name: str) -> FeatureView:
        """Return a view that is read from the online store, or raise FeatureViewNotFoundException."""
        try:
            return self.feature_views[name]
        except KeyError:
            raise FeatureViewNotFoundException(name, self.project) from None

    def get_on_demand_feature_view(self, name: str) -> OnDemandFeatureView:
        """Return an on-demand view, stored or not, or raise FeatureViewNotFoundException."""
        try:
            return self.on_demand_feature_views[name]
        except KeyError:
            raise FeatureViewNotFoundException(name, self.project) from None

    def get_feature_service(self, name: str) -> FeatureService:
        """Return the service, or raise FeatureServiceNotFoundException."""
        try:
            return self.feature_services[name]
        except KeyError:
            raise FeatureServiceNotFoundException(name, self.project) from None

    def get_data_source(self, name: str) -> DataSource:
        """Return the source, or raise DataSourceNotFoundException."""
        try:
            return self.data_sources[name]
        except KeyError:
            raise DataSourceNotFoundException(name, self.project) from None

    def get_feature_view_version(self, name: str, number: int) -> FeatureView:
        """Return version `number` (from 0) of a view that is read from the online store.

        Raises:
            FeatureViewNotFoundException: there is no such view.
            FeatureViewVersionNotFound: its history has no such version, or the view was not stored then.
            RegistryError: the history is damaged.
        """
        self.get_feature_view(name)
        return replace(self._version(name, number, _STORED), current_version_number=number)

    def get_on_demand_feature_view_version(self, name: str, number: int) -> OnDemandFeatureView:
        """Return version `number` (from 0) of an on-demand view; raises as `get_feature_view_version`."""
        self.get_on_demand_feature_view(name)
        return replace(self._version(name, number, _ON_DEMAND), current_version_number=number)

    def _version(self, name: str, number: int, readers: Mapping[str, _Reader[V]]) -> V:
        record = self._history.get((name, number))
        reader = readers.get(record.feature_view_type or "feature_view") if record else None
        if record is None or reader is None:
            raise FeatureViewVersionNotFound(name, number, self.project)
        try:
            view = reader(record.feature_view_proto, self.entities)
        except (ValueError, OverflowError, DecodeError) as exc:
            raise RegistryError(f"version v{number} of feature view {name} in the registry is damaged: {exc}") from exc
        if view is None:
            raise FeatureViewVersionNotFound(name, number, self.project)
        return view

    @cached_property
    def _history(self) -> Mapping[tuple[str, int], pb.FeatureViewVersionRecord]:
        records = self.message.feature_view_version_history.records
        return {(r.feature_view_name, r.version_number): r for r in records if r.project_id == self.project}


def build_snapshot(message: pb.Registry, project: str, mark: object) -> Snapshot:
    """Return the snapshot of one project of a parsed registry.

    Raises:
        RegistryError: an object of the project cannot be read; the text names it.
    """
    all_entities = _collect("entity", _of(project, message.entities), convert.entity)
    entities = {name: entity for name, entity in all_entities.items() if name != DUMMY_ENTITY}
    sources = [source for source in message.data_sources if source.project == project]
    return Snapshot(
        project=project,
        mark=mark,
        message=message,
        entities=MappingProxyType(entities),
        join_keys=MappingProxyType({entity.join_key: entity for entity in entities.values()}),
        feature_views=_stored_views(message, project, all_entities),
        on_demand_feature_views=_collect(
            "on-demand feature view",
            _of(project, message.on_demand_feature_views),
            partial(convert.on_demand_feature_view, entities=all_entities),
        ),
        feature_services=_collect("feature service", _of(project, message.feature_services), convert.feature_service),
        data_sources=_collect("data source", sources, convert.data_source),
        projects=_projects(message),
    )


def _stored_views(message: pb.Registry, project: str, entities: Mapping[str, Entity]) -> Mapping[str, FeatureView]:
    on_demand = [view for view in _of(project, message.on_demand_feature_views) if view.spec.write_to_online_store]
    streams = _of(project, message.stream_feature_views)
    # The order in which Feast looks a name up; it matters in damaged registries only, where two kinds share a name.
    kinds = (
        _collect("feature view", _of(project, message.feature_views), partial(convert.feature_view, entities=entities)),
        _collect("stream feature view", streams, partial(convert.stream_feature_view, entities=entities)),
        _collect(
            "on-demand feature view", on_demand, partial(convert.stored_on_demand_feature_view, entities=entities)
        ),
        _collect("label view", _of(project, message.label_views), partial(convert.label_view, entities=entities)),
    )
    views: dict[str, FeatureView] = {}
    for kind in kinds:
        for name, view in kind.items():
            views.setdefault(name, view)
    return MappingProxyType(views)


def _projects(message: pb.Registry) -> Mapping[str, Project]:
    known = _collect("project", message.projects, convert.project)
    # Registries of old Feasts have projects in the deprecated list only.
    old = {found.project: Project(found.project) for found in message.project_metadata if found.project not in known}
    return MappingProxyType({**known, **old})


def _of(project: str, messages: Iterable[M]) -> list[M]:
    return [message for message in messages if message.spec.project == project]


def _collect(kind: str, messages: Iterable[Message], convert_one: Callable[[Any], T]) -> Mapping[str, T]:
    found: dict[str, T] = {}
    for message in messages:
        try:
            item = convert_one(message)
        except (ValueError, OverflowError) as exc:
            spec: Any = getattr(message, "spec", message)
            raise RegistryError(f"{kind} {spec.name} in the registry cannot be read: {exc}") from exc
        found.setdefault(item.name, item)
    return MappingProxyType(found)


def _feature_view(data: bytes, entities: Mapping[str, Entity]) -> FeatureView:
    return convert.feature_view(pb.FeatureView.FromString(data), entities)


def _stream_feature_view(data: bytes, entities: Mapping[str, Entity]) -> FeatureView:
    return convert.stream_feature_view(pb.StreamFeatureView.FromString(data), entities)


def _label_view(data: bytes, entities: Mapping[str, Entity]) -> FeatureView:
    return convert.label_view(pb.LabelView.FromString(data), entities)


def _stored_on_demand_view(data: bytes, entities: Mapping[str, Entity]) -> FeatureView | None:
    message = pb.OnDemandFeatureView.FromString(data)
    return convert.stored_on_demand_feature_view(message, entities) if message.spec.write_to_online_store else None


def _on_demand_view(data: bytes, entities: Mapping[str, Entity]) -> OnDemandFeatureView:
    return convert.on_demand_feature_view(pb.OnDemandFeatureView.FromString(data), entities)


# The type text of a version record -> what reads its bytes.
_STORED: Mapping[str, _Reader[FeatureView]] = {
    "feature_view": _feature_view,
    "stream_feature_view": _stream_feature_view,
    "label_view": _label_view,
    "on_demand_feature_view": _stored_on_demand_view,
}
_ON_DEMAND: Mapping[str, _Reader[OnDemandFeatureView]] = {"on_demand_feature_view": _on_demand_view}
