"""The part of `FeatureStore` that says what the registry holds: `get_...` and `list_...`.

All of it answers from the registry as it is served, which a background thread keeps up to date; what a `get_...` does
not find there is looked for once more in the registry as it is now, unless the caller allows what is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

from fastserve.config import Config
from fastserve.errors import (
    FeastObjectNotFoundException,
    FeatureViewNotFoundException,
    PermissionObjectNotFoundException,
    ProjectObjectNotFoundException,
)
from fastserve.model import DUMMY_ENTITY, DataSource, Entity, FeatureService, FeatureView, OnDemandFeatureView, Project
from fastserve.registry import Snapshot
from fastserve.registry import schema_pb2 as pb

__all__ = ["LookupMixin"]

T = TypeVar("T")


class _Tagged(Protocol):
    @property
    def tags(self) -> Mapping[str, str]: ...


G = TypeVar("G", bound=_Tagged)
Tags = Mapping[str, str] | None


class LookupMixin:
    """Finds definitions. It needs the members declared here.

    Args of all methods:
        allow_cache, allow_registry_cache: True does not look into the registry again for what is not known.
        tags: only what has all of these.
    """

    config: Config

    def _current_snapshot(self) -> Snapshot:
        raise NotImplementedError

    def refresh_registry(self) -> None:
        """Read the registry now."""
        raise NotImplementedError

    def _found(self, find: Callable[[Snapshot], T], allow_cache: bool) -> T:
        try:
            return find(self._current_snapshot())
        except FeastObjectNotFoundException:
            if allow_cache:
                raise
        self.refresh_registry()
        return find(self._current_snapshot())

    # --- one ---

    def get_entity(self, name: str, allow_registry_cache: bool = False) -> Entity:
        """Return an entity. Raises EntityNotFoundException."""
        return self._found(lambda snapshot: snapshot.get_entity(name), allow_registry_cache)

    def get_feature_view(self, name: str, allow_registry_cache: bool = False) -> FeatureView:
        """Return a stored feature view of any kind. Raises FeatureViewNotFoundException."""
        return self._found(lambda snapshot: snapshot.get_feature_view(name), allow_registry_cache)

    def get_stream_feature_view(self, name: str, allow_registry_cache: bool = False) -> FeatureView:
        """Return a stream feature view. Raises FeatureViewNotFoundException."""
        return self._found(lambda snapshot: _of_kind(snapshot, name, "stream_feature_view"), allow_registry_cache)

    def get_label_view(self, name: str, allow_registry_cache: bool = False) -> FeatureView:
        """Return a label view. Raises FeatureViewNotFoundException."""
        return self._found(lambda snapshot: _of_kind(snapshot, name, "label_view"), allow_registry_cache)

    def get_on_demand_feature_view(self, name: str, allow_registry_cache: bool = False) -> OnDemandFeatureView:
        """Return an on-demand feature view. Raises FeatureViewNotFoundException."""
        return self._found(lambda snapshot: snapshot.get_on_demand_feature_view(name), allow_registry_cache)

    def get_feature_service(self, name: str, allow_cache: bool = False) -> FeatureService:
        """Return a feature service. Raises FeatureServiceNotFoundException."""
        return self._found(lambda snapshot: snapshot.get_feature_service(name), allow_cache)

    def get_data_source(self, name: str) -> DataSource:
        """Return a data source. Raises DataSourceObjectNotFoundException."""
        return self._found(lambda snapshot: snapshot.get_data_source(name), False)

    def get_project(self, name: str | None) -> Project:
        """Return a project of the registry; None is the store's own. Raises ProjectObjectNotFoundException."""
        wanted = name or self.config.project

        def find(snapshot: Snapshot) -> Project:
            if wanted not in snapshot.projects:
                raise ProjectObjectNotFoundException(wanted)
            return snapshot.projects[wanted]

        return self._found(find, False)

    def get_permission(self, name: str) -> pb.Permission:
        """Return the message of a permission; nothing is decided by it. Raises PermissionObjectNotFoundException."""

        def find(snapshot: Snapshot) -> pb.Permission:
            for permission in self.list_permissions():
                if permission.spec.name == name:
                    return permission
            raise PermissionObjectNotFoundException(name, self.config.project)

        return self._found(find, False)

    # --- all ---

    def list_entities(self, allow_cache: bool = False, tags: Tags = None) -> list[Entity]:
        """Return the entities of the project."""
        return _tagged((e for e in self._current_snapshot().entities.values() if e.name != DUMMY_ENTITY), tags)

    def list_feature_views(self, allow_cache: bool = False, tags: Tags = None) -> list[FeatureView]:
        """Return the feature views, without stream, label and on-demand views."""
        return _tagged(self._views("feature_view"), tags)

    def list_batch_feature_views(self, allow_cache: bool = False, tags: Tags = None) -> list[FeatureView]:
        """Return what `list_feature_views` returns, as Feast does."""
        return self.list_feature_views(allow_cache, tags)

    def list_stream_feature_views(self, allow_cache: bool = False, tags: Tags = None) -> list[FeatureView]:
        """Return the stream feature views."""
        return _tagged(self._views("stream_feature_view"), tags)

    def list_label_views(self, allow_cache: bool = False, tags: Tags = None) -> list[FeatureView]:
        """Return the label views."""
        return _tagged(self._views("label_view"), tags)

    def list_on_demand_feature_views(self, allow_cache: bool = False, tags: Tags = None) -> list[OnDemandFeatureView]:
        """Return the on-demand feature views, stored or not."""
        return _tagged(self._current_snapshot().on_demand_feature_views.values(), tags)

    def list_all_feature_views(
        self, allow_cache: bool = False, tags: Tags = None
    ) -> list[FeatureView | OnDemandFeatureView]:
        """Return the views of every kind."""
        stored = [v for v in self._current_snapshot().feature_views.values() if v.kind != "on_demand_feature_view"]
        return [*_tagged(stored, tags), *self.list_on_demand_feature_views(allow_cache, tags)]

    def list_feature_services(self, tags: Tags = None) -> list[FeatureService]:
        """Return the feature services."""
        return _tagged(self._current_snapshot().feature_services.values(), tags)

    def list_data_sources(self, allow_cache: bool = False, tags: Tags = None) -> list[DataSource]:
        """Return the data sources."""
        return _tagged(self._current_snapshot().data_sources.values(), tags)

    def list_projects(self, allow_cache: bool = False, tags: Tags = None) -> list[Project]:
        """Return the projects of the registry."""
        return _tagged(self._current_snapshot().projects.values(), tags)

    def list_permissions(self, allow_cache: bool = False, tags: Tags = None) -> list[pb.Permission]:
        """Return the messages of the project's permissions; nothing is decided by them."""
        found = [p for p in self._current_snapshot().message.permissions if p.spec.project == self.config.project]
        return [permission for permission in found if _has_tags(permission.spec.tags, tags)]

    def _views(self, kind: str) -> list[FeatureView]:
        return [view for view in self._current_snapshot().feature_views.values() if view.kind == kind]


def _of_kind(snapshot: Snapshot, name: str, kind: str) -> FeatureView:
    view = snapshot.get_feature_view(name)
    if view.kind != kind:
        raise FeatureViewNotFoundException(name, snapshot.project)
    return view


def _tagged(items: Iterable[G], tags: Tags) -> list[G]:
    return [item for item in items if _has_tags(item.tags, tags)]


def _has_tags(tags: Mapping[str, str], wanted: Tags) -> bool:
    return not wanted or all(tags.get(name) == value for name, value in wanted.items())
