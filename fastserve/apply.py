"""What a repository defines -> the registry and the online store.

    changes = plan_changes(registry, config, contents)      # what would change
    changes = apply(registry, store, config, contents)      # changes it, as a whole or not at all

Everything is looked at before anything is written: the definitions by themselves, beside one another, and beside what
stays in the registry. Views are dropped from the store only when nothing can be wrong any more, and the registry is
written last.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from fastserve.changes import KIND_NAMES, Change, FieldChange, differences, is_same
from fastserve.config import Config
from fastserve.definition import FeatureService, Project, dummy_entity
from fastserve.definition.validate import Registered, validate
from fastserve.errors import DefinitionError, FeastObjectNotFoundException, RegistryNotFoundError
from fastserve.infer import check_sources, infer
from fastserve.model import DUMMY_ENTITY
from fastserve.plan import feast_obstacle, is_precomputed, plan_options, service_groups
from fastserve.precompute import forget_views
from fastserve.registry import RegistrySource, Snapshot, messages
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.lists import name_of, project_of
from fastserve.registry.snapshot import build_snapshot
from fastserve.repo import RepoContents
from fastserve.stored import store_plans
from fastserve.stores.base import Store
from fastserve.versions import VERSIONED, Versions

__all__ = ["DELETED_BY_FULL_APPLY", "Key", "Options", "apply", "plan_changes", "planned_snapshot", "remove"]

Key = tuple[str, str]
"""List of the Registry message, and name: one definition."""

DEFINABLE = (
    "projects",
    "entities",
    "data_sources",
    "feature_views",
    "stream_feature_views",
    "on_demand_feature_views",
    "label_views",
    "feature_services",
)
"""The lists that a repository fills, in the order in which they are written."""

DELETED_BY_FULL_APPLY = frozenset(DEFINABLE) - {"projects"}


@dataclass(frozen=True)
class Options:
    """How to apply.

    Args:
        full: delete what the contents do not have; else only `delete`.
        delete: what to delete in any case.
        promote: new versions of views become the active ones.
        check_sources: fail if a file source cannot be read.
        validate: look at the rules of `fastserve.definition.validate`.
    """

    full: bool = False
    delete: frozenset[Key] = frozenset()
    promote: bool = True
    check_sources: bool = False
    validate: bool = True


def plan_changes(
    registry: RegistrySource, config: Config, contents: RepoContents, options: Options = Options()
) -> list[Change]:
    """Return what `apply` would do; nothing is written. Raises as `apply`."""
    return _planned(registry, config, contents, options)[0]


def planned_snapshot(registry: RegistrySource, config: Config, contents: RepoContents, options: Options) -> Snapshot:
    """Return the state that `apply` would bring about; nothing is written. Raises as `apply`."""
    return build_snapshot(_planned(registry, config, contents, options)[1], config.project, None)


def _planned(
    registry: RegistrySource, config: Config, contents: RepoContents, options: Options
) -> tuple[list[Change], pb.Registry]:
    wanted = _complete(contents, config, options)
    message = pb.Registry()
    try:
        message.CopyFrom(registry.load().message)
    except RegistryNotFoundError:
        pass  # it would be made
    changes = _Edit(message, config, wanted, options).run()
    _check_vectors(message, config)
    return changes, message


def apply(
    registry: RegistrySource, store: Store | None, config: Config, contents: RepoContents, options: Options = Options()
) -> tuple[list[Change], Snapshot]:
    """Bring registry and online store to what a repository defines.

    Args:
        store: None if the configuration has none.

    Returns:
        What was changed, by kind and then in the order of the contents, and the registry's new state.

    Raises:
        DefinitionError: a rule is broken, or something that was left out cannot be found out.
        SourceError: a source cannot be read; only with `check_sources`.
        RegistryError, StoreError: it cannot be read, or written; the registry is then as it was.
    """
    wanted = _complete(contents, config, options)
    changes: list[Change] = []

    def edit(message: pb.Registry) -> None:
        before = store_plans(config, message)
        changes[:] = _Edit(message, config, wanted, options).run()
        _check_vectors(message, config)
        if store is not None:
            after = store_plans(config, message)
            store.create(list(after.values()))
            gone = {name: plan for name, plan in before.items() if name not in after}
            forget_views(store, gone)
            store.drop(list(gone.values()))

    return changes, registry.update(edit, create=True)


def remove(
    registry: RegistrySource, store: Store | None, config: Config, keys: Iterable[Key]
) -> tuple[Snapshot, list[Change]]:
    """Delete definitions, and what the store has of them. Raises RegistryError, StoreError."""
    options = Options(delete=frozenset(keys), validate=False)
    changes, snapshot = apply(registry, store, config, RepoContents(), options)
    return snapshot, changes


def _check_vectors(message: pb.Registry, config: Config) -> None:
    """Raise DefinitionError for a service that the configured format of precomputed vectors cannot hold."""
    if config.fastserve.vector_format != "feast":
        return
    snapshot = build_snapshot(message, config.project, None)
    for service in snapshot.feature_services.values():
        if is_precomputed(snapshot, service):
            obstacle = feast_obstacle(service, service_groups(snapshot, plan_options(config), service)[0])
            if obstacle:
                rule = f"precompute_online with 'fastserve.vector_format: feast': {obstacle}"
                raise DefinitionError("FeatureService", service.name, rule)


def _complete(contents: RepoContents, config: Config, options: Options) -> RepoContents:
    """Return the contents with the project, and with all that can be found out from the sources."""
    completed = infer(contents, config.repo_path)
    if options.check_sources:
        check_sources(completed, config.repo_path)
    completed.projects = _projects(contents, config.project)
    return completed


def _projects(contents: RepoContents, name: str) -> list[Project]:
    for project in contents.projects:
        if project.name != name:
            raise DefinitionError("Project", project.name, f"feature_store.yaml names the project {name}")
    return contents.projects


# --- the registry ----------------------------------------------------------------------------------------------------


class _Edit:
    """One run over a Registry message, which is changed in place."""

    def __init__(self, message: pb.Registry, config: Config, contents: RepoContents, options: Options):
        self._message = message
        self._project = config.project
        self._contents = contents
        self._options = options
        self._now = Timestamp()
        self._now.GetCurrentTime()
        self._now.nanos -= self._now.nanos % 1000  # as exact as a datetime
        self._versions = Versions(message, config.project, self._now, options.promote)
        self._sources: dict[str, pb.DataSource] = {}
        self._changes: list[Change] = []

    def run(self) -> list[Change]:
        self._delete(self._to_delete())
        services = self._check()
        for kind in DEFINABLE:
            self._put_all(kind, services if kind == "feature_services" else getattr(self._contents, kind))
        order = list(KIND_NAMES.values())
        return sorted(self._changes, key=lambda change: order.index(change.kind))

    # --- what goes ---

    def _to_delete(self) -> set[Key]:
        defined = {(kind, item.name) for kind in DEFINABLE for item in getattr(self._contents, kind)}
        gone = set(self._options.delete)
        if self._options.full:
            gone |= {(kind, name) for kind in DELETED_BY_FULL_APPLY for name in self._mine(kind)}
        return gone - defined - {("entities", DUMMY_ENTITY)}

    def _delete(self, keys: set[Key]) -> None:
        for kind in KIND_NAMES:
            names = {name for list_name, name in keys if list_name == kind}
            if not names:
                continue
            items: Any = getattr(self._message, kind)
            kept = [item for item in items if not (name_of(item) in names and project_of(item) == self._project)]
            found = [name for name in self._mine(kind) if name in names]
            self._changes += [Change(KIND_NAMES[kind], name, "deleted") for name in found]
            del items[:]
            items.extend(kept)
            for name in found if kind in VERSIONED else ():
                self._versions.remove(name)

    # --- the rules ---

    def _check(self) -> list[Any]:
        """Look at the rules; return the services, complete with what the registry knows of their views."""
        kept = build_snapshot(self._not_defined(), self._project, None)
        known: dict[str, Any] = {**kept.on_demand_feature_views, **kept.feature_views}
        services = [copy.copy(service) for service in self._contents.feature_services]
        for service in services:
            service.infer_features({**known, **self._pinned(service)})
        if self._options.validate:
            registered: list[Registered] = [*kept.entities.values(), *kept.data_sources.values()]
            registered += [*kept.feature_services.values(), *known.values()]
            validate(replace(self._contents, feature_services=services).objects(), registered)
        return services

    def _pinned(self, service: FeatureService) -> dict[str, Any]:
        """Return the versions of views that a service names, such as `txn@v1`."""
        found: dict[str, Any] = {}
        for projection in service.feature_view_projections:
            name, number = projection.name, projection.version_tag
            if number is None or projection.features:
                continue
            before = build_snapshot(self._message, self._project, None)
            on_demand = name in before.on_demand_feature_views
            read = before.get_on_demand_feature_view_version if on_demand else before.get_feature_view_version
            try:
                found[f"{name}@v{number}"] = read(name, number)
            except FeastObjectNotFoundException as exc:
                raise DefinitionError("FeatureService", service.name, f"it names {name}@v{number}: {exc}") from exc
        return found

    def _not_defined(self) -> pb.Registry:
        """Return what stays in the registry beside the contents."""
        kept = pb.Registry()
        for kind in KIND_NAMES:
            defined = {item.name for item in getattr(self._contents, kind, ())}
            getattr(kept, kind).extend(item for name, item in self._mine(kind).items() if name not in defined)
        return kept

    # --- what comes ---

    def _mine(self, kind: str) -> dict[str, Any]:
        """Return the project's messages of a kind, by name."""
        return {name_of(item): item for item in getattr(self._message, kind) if project_of(item) == self._project}

    def _put_all(self, kind: str, definitions: Iterable[Any]) -> None:
        if kind == "projects":
            definitions = definitions or ([] if self._mine(kind) else [Project(name=self._project)])
        if kind == "entities":
            definitions = [dummy_entity(), *definitions]
        known = self._mine(kind)
        if kind == "data_sources":  # what is behind a push source may come after it
            self._sources = {definition.name: self._dated(known.get(definition.name)) for definition in definitions}
        # The rules allow a definition to be there twice, if both say the same.
        for definition in {item.name: item for item in definitions}.values():
            change = self._put(kind, known.get(definition.name), messages.to_message(definition, self._project))
            if definition.name != DUMMY_ENTITY:
                self._changes.append(change)

    def _dated(self, old: Any | None) -> Any:
        """Return the source that is there, or else one with the time stamps of a new one."""
        meta = pb.DataSource.SourceMeta(created_timestamp=self._now, last_updated_timestamp=self._now)
        return pb.DataSource(meta=meta) if old is None else old

    def _put(self, kind: str, old: Any | None, new: Any) -> Change:
        """Add a message, or put it into the place of the old one."""
        name = name_of(new)
        if kind == "feature_services":
            self._add_sources(new)
        self._settle_sources(new)
        if old is None:
            new.meta.created_timestamp.CopyFrom(self._now)
            new.meta.last_updated_timestamp.CopyFrom(self._now)
            version = self._versions.start(kind, new) if kind in VERSIONED else None
            getattr(self._message, kind).append(new)
            if kind == "projects":
                self._message.project_metadata.add(project=name, project_uuid=str(uuid.uuid4()))
            change = Change(KIND_NAMES[kind], name, "created", version=version)
        else:
            change = self._replace(kind, old, new)
        if kind == "data_sources":
            self._sources[name] = new if old is None else old
        return change

    def _replace(self, kind: str, old: Any, new: Any) -> Change:
        name = name_of(new)
        if getattr(getattr(old, "spec", None), "disabled", False):
            new.spec.disabled = True  # an apply does not undo `feature-views disable`
        if is_same(old, new):
            return self._remember(kind, old) or Change(KIND_NAMES[kind], name, "unchanged")
        new.meta.CopyFrom(old.meta)
        new.meta.last_updated_timestamp.CopyFrom(self._now)
        found, version = self._versions.advance(kind, old, new) if kind in VERSIONED else (new, None)
        note = f"version v{version} is recorded, but not active" if found is old else ""
        fields = differences(old, new if found is old else found)
        old.CopyFrom(found)
        return Change(KIND_NAMES[kind], name, "updated", fields, version, note)

    def _remember(self, kind: str, view: Any) -> Change | None:
        """Make the version active again that a view is."""
        number = self._versions.forgotten(view) if kind in VERSIONED else None
        if number is None:
            return None
        view.meta.current_version_number = number
        view.meta.last_updated_timestamp.CopyFrom(self._now)
        fields = (FieldChange("active version", "v0", f"v{number}"),)
        return Change(KIND_NAMES[kind], view.spec.name, "updated", fields, note="the registry had forgotten it")

    def _add_sources(self, service: pb.FeatureService) -> None:
        """Repeat the sources of versions that a service names, as Feast does for all of its views."""
        for projection in service.spec.features:
            if projection.HasField("version_tag") and not projection.HasField("batch_source"):
                view = self._versions.recorded(projection.feature_view_name, projection.version_tag)
                if isinstance(view, (pb.FeatureView, pb.StreamFeatureView)) and view.spec.HasField("batch_source"):
                    projection.batch_source.CopyFrom(view.spec.batch_source)

    def _settle_sources(self, message: Any) -> None:
        """Give the sources inside a message the time stamps that they have by themselves."""
        for source in _sources_in(message):
            known = self._sources.get(source.name)
            if known is not None:
                source.meta.CopyFrom(known.meta)


def _sources_in(message: Any) -> Iterator[pb.DataSource]:
    spec = getattr(message, "spec", message)
    if isinstance(spec, pb.OnDemandFeatureViewSpec):
        yield from _sources_on_demand(spec)
        return
    for part in (spec, *(spec.features if isinstance(spec, pb.FeatureServiceSpec) else ())):
        for name in ("batch_source", "stream_source", "source"):
            if name in part.DESCRIPTOR.fields_by_name and part.HasField(name):
                found = getattr(part, name)
                yield found
                yield from _sources_in(found)


def _sources_on_demand(spec: pb.OnDemandFeatureViewSpec) -> Iterator[pb.DataSource]:
    for source in spec.sources.values():
        if source.HasField("request_data_source"):
            yield source.request_data_source
        elif source.feature_view_projection.HasField("batch_source"):
            yield source.feature_view_projection.batch_source
            yield from _sources_in(source.feature_view_projection.batch_source)
