"""The administrating half of `FeatureStore`: applying definitions, deleting them, and the life of views.

What applying needs is loaded by the methods that apply: a process that only reads does without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from fastserve.config import Config
from fastserve.errors import (
    FeatureServiceNotFoundException,
    FeatureViewNotFoundException,
    NotSupportedError,
    RegistryNotFoundError,
    RequestError,
)
from fastserve.model import FeatureViewState
from fastserve.registry import RegistrySource, Snapshot
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.lists import LISTS, VIEWS, name_of, project_of
from fastserve.registry.snapshot import build_snapshot
from fastserve.stores.base import Store

if TYPE_CHECKING:
    from fastserve.apply import Key, Options
    from fastserve.changes import Change
    from fastserve.definition import Definition
    from fastserve.precompute import Vectors
    from fastserve.repo import RepoContents

__all__ = ["AdministrationMixin"]

_NEXT_STATES = {
    FeatureViewState.STATE_UNSPECIFIED: [FeatureViewState.CREATED],
    FeatureViewState.CREATED: [FeatureViewState.GENERATED],
    FeatureViewState.GENERATED: [FeatureViewState.MATERIALIZING],
    FeatureViewState.MATERIALIZING: [FeatureViewState.AVAILABLE_ONLINE, FeatureViewState.GENERATED],
    FeatureViewState.AVAILABLE_ONLINE: [FeatureViewState.MATERIALIZING],
}


class AdministrationMixin:
    """What `FeatureStore` does to the registry. It needs the members declared here."""

    config: Config
    _store: Store
    _vectors: Vectors
    _registry: RegistrySource

    def _current_snapshot(self) -> Snapshot:
        raise NotImplementedError

    def _adopt(self, snapshot: Snapshot) -> None:
        """Serve what was just written."""
        raise NotImplementedError

    def _settle_vectors(self, snapshot: Snapshot, changes: list[Change]) -> list[Change]:
        """Drop the vectors of services that have none any more, and note in changes what is to be built."""
        raise NotImplementedError

    # --- applying ---

    def apply(
        self,
        objects: Definition | Iterable[Definition] | RepoContents,
        objects_to_delete: Iterable[Definition] | None = None,
        partial: bool = True,
        skip_feature_view_validation: bool = False,
        no_promote: bool = False,
    ) -> list[Change]:
        """Create or update definitions, in the registry and in the online store: all of them or none.

        Args:
            objects: definitions, or one; sources inside views are taken too.
            objects_to_delete: what is to go; only with `partial=False`, as in Feast.
            partial: False deletes `objects_to_delete`.
            skip_feature_view_validation: do not look at the rules that definitions must keep.
            no_promote: new versions of views are recorded, but do not become the active ones.

        Returns:
            What was changed, also what was not, by kind.

        Raises:
            DefinitionError: a rule is broken, or something left out cannot be found out; the text names the object.
            RequestError: `objects_to_delete` without `partial=False`.
            RegistryError, StoreError: it cannot be written; the registry is then as it was.
        """
        from fastserve.apply import Options
        from fastserve.repo import collect

        doomed = collect(objects_to_delete or (), nested=False)
        if partial and doomed.objects():
            raise RequestError("apply deletes objects_to_delete only with partial=False")
        options = Options(delete=_keys(doomed), promote=not no_promote, validate=not skip_feature_view_validation)
        return self._apply(_contents(objects), options)

    def apply_repo(
        self,
        skip_source_validation: bool = False,
        skip_feature_view_validation: bool = False,
        no_promote: bool = False,
        dry_run: bool = False,
    ) -> list[Change]:
        """Bring the registry to what the repository's Python files define; what they do not define is deleted.

        Args:
            skip_source_validation: do not look whether the files of the sources are there.
            dry_run: change nothing.
            others: as in `apply`.

        Raises:
            RepositoryError: a file cannot be imported.
            SourceError: a source cannot be read.
            others: as in `apply`.
        """
        from fastserve.apply import Options
        from fastserve.repo import load_repo

        options = Options(
            full=True,
            promote=not no_promote,
            check_sources=not skip_source_validation,
            validate=not skip_feature_view_validation,
        )
        contents = load_repo(self.config.repo_path)
        return self._plan(contents, options) if dry_run else self._apply(contents, options)

    def _apply(self, contents: RepoContents, options: Options) -> list[Change]:
        from fastserve.apply import apply

        changes, snapshot = apply(self._registry, self._store, self.config, contents, options)
        self._adopt(snapshot)
        return self._settle_vectors(snapshot, changes)

    def _plan(self, contents: RepoContents, options: Options) -> list[Change]:
        from fastserve.apply import plan_changes

        return plan_changes(self._registry, self.config, contents, options)

    # --- deleting ---

    def delete_feature_view(self, name: str) -> None:
        """Delete a view of any kind, its history, and its rows in the online store.

        Raises:
            FeatureViewNotFoundException: there is none.
            RegistryError, StoreError: it cannot be written.
        """
        keys = [(kind, name) for kind, _ in self._named(name, VIEWS)]
        if not keys:
            raise FeatureViewNotFoundException(name, self.config.project)
        self._remove(keys)

    def delete_feature_service(self, name: str) -> None:
        """Delete a feature service. Raises FeatureServiceNotFoundException."""
        if not self._named(name, ("feature_services",)):
            raise FeatureServiceNotFoundException(name, self.config.project)
        self._remove([("feature_services", name)])

    def delete_object(self, name: str) -> str | None:
        """Delete the first definition of that name, whatever its kind; return the list that it was in, or None."""
        order = ("entities", *VIEWS, "feature_services", "data_sources")
        for kind, _ in self._named(name, order):
            self._remove([(kind, name)])
            return kind
        return None

    def _remove(self, keys: Iterable[Key]) -> None:
        from fastserve.apply import remove

        snapshot, changes = remove(self._registry, self._store, self.config, keys)
        self._adopt(snapshot)
        self._settle_vectors(snapshot, changes)

    def _named(self, name: str, kinds: Iterable[str]) -> list[tuple[str, Any]]:
        """Return list name and message of the project's definitions of a name, in the order of `kinds`."""
        message = self._registry.load().message
        return [(kind, item) for kind in kinds for item in self._items(message, kind) if name_of(item) == name]

    def _items(self, message: pb.Registry, kind: str) -> list[Any]:
        return [item for item in getattr(message, kind) if project_of(item) == self.config.project]

    def teardown(self) -> None:
        """Delete everything of the project: its rows in the online store, and its definitions.

        Raises:
            RegistryError, StoreError: it cannot be written.
        """
        from fastserve.stored import store_plans

        with contextlib.suppress(RegistryNotFoundError):
            for service in self._vectors.services():
                self._vectors.drop(service)
            self._store.teardown(store_plans(self.config, self._registry.load().message).values())
        self._forget()

    def _forget(self) -> None:
        self._registry.teardown()
        self._adopt(build_snapshot(pb.Registry(), self.config.project, None))

    def delete_project(self, name: str, commit: bool = True) -> None:
        """Delete this project's definitions; its rows in the online store stay. Raises NotSupportedError for others."""
        if name != self.config.project or not commit:
            raise NotSupportedError(
                f"only the project of the repository, {self.config.project}, can be deleted, at once"
            )
        self._forget()

    # --- the life of a view ---

    def enable_feature_view(self, name: str) -> bool:
        """Let a view be served and loaded again; return False if it is enabled already.

        Raises:
            FeatureViewNotFoundException: there is none.
            NotSupportedError: views of its kind cannot be disabled.
        """
        return self._set_disabled(name, False)

    def disable_feature_view(self, name: str) -> bool:
        """Keep a view from being served and loaded; return False if it is disabled already. Raises as enabling."""
        return self._set_disabled(name, True)

    def _set_disabled(self, name: str, disabled: bool) -> bool:
        changed: list[bool] = []

        def edit(view: Any) -> None:
            if "disabled" not in view.spec.DESCRIPTOR.fields_by_name:
                raise NotSupportedError(f"view {name} is a {type(view).__name__}; only others can be disabled")
            changed[:] = [view.spec.disabled != disabled]
            view.spec.disabled = disabled

        self._edit_view(name, edit)
        return changed[0]

    def set_feature_view_state(self, name: str, state: FeatureViewState) -> None:
        """Set how far a view is on its way to being served.

        Args:
            state: CREATED, GENERATED, MATERIALIZING or AVAILABLE_ONLINE, one step on from the present one; or back from
                MATERIALIZING to GENERATED, or from AVAILABLE_ONLINE to MATERIALIZING.

        Raises:
            FeatureViewNotFoundException: there is no such view.
            RequestError: the step is not allowed.
        """

        def edit(view: Any) -> None:
            if "state" not in view.meta.DESCRIPTOR.fields_by_name:
                raise NotSupportedError(f"view {name} is a {type(view).__name__}, which has no state")
            old = FeatureViewState(view.meta.state)
            if state not in _NEXT_STATES[old]:
                allowed = ", ".join(step.name for step in _NEXT_STATES[old])
                step = f"from {old.name} to {FeatureViewState(state).name}"
                raise RequestError(f"feature view {name} cannot go {step}; allowed: {allowed}")
            view.meta.state = int(state)

        self._edit_view(name, edit)

    def _edit_view(self, name: str, edit: Callable[[Any], None]) -> None:
        """Change the message of a view; its time stamp is renewed if that changes something."""

        def edit_registry(message: pb.Registry) -> None:
            for kind in VIEWS:
                for view in self._items(message, kind):
                    if name_of(view) == name:
                        before = view.SerializeToString(deterministic=True)
                        edit(view)
                        if view.SerializeToString(deterministic=True) != before:
                            view.meta.last_updated_timestamp.FromDatetime(datetime.now(timezone.utc))
                        return
            raise FeatureViewNotFoundException(name, self.config.project)

        self._adopt(self._registry.update(edit_registry))

    def list_feature_view_versions(self, name: str) -> list[dict[str, Any]]:
        """Return the version history of a view, oldest first: [] if it has none.

        Each is a dict of `version` ("v0"), `version_number`, `feature_view_type`, `created_timestamp` (UTC, without a
        zone, as Feast has it) and `version_id`.
        """
        records = [
            record
            for record in self._current_snapshot().message.feature_view_version_history.records
            if (record.feature_view_name, record.project_id) == (name, self.config.project)
        ]
        return [_version(record) for record in sorted(records, key=lambda record: record.version_number)]


def _version(record: pb.FeatureViewVersionRecord) -> dict[str, Any]:
    return {
        "version": f"v{record.version_number}",
        "version_number": record.version_number,
        "feature_view_type": record.feature_view_type,
        "created_timestamp": record.created_timestamp.ToDatetime(),
        "version_id": record.version_id,
    }


def _contents(objects: Definition | Iterable[Definition] | RepoContents) -> RepoContents:
    from fastserve.definition import Definition
    from fastserve.repo import RepoContents, collect

    if isinstance(objects, RepoContents):
        return objects
    return collect([objects] if isinstance(objects, Definition) else objects)


def _keys(contents: RepoContents) -> frozenset[Key]:
    return frozenset((kind, item.name) for kind in LISTS for item in getattr(contents, kind, ()))
