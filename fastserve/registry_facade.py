"""`FeatureStore.registry`: Feast's registry object, for code that asks it instead of the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastserve.errors import NotSupportedError
from fastserve.registry import schema_pb2 as pb

if TYPE_CHECKING:
    from fastserve.feature_store import FeatureStore

__all__ = ["RegistryFacade"]

_OTHER_NAMES = {"get_any_feature_view": "get_feature_view"}


class RegistryFacade:
    """Feast's methods of these forms, as far as the store has methods of these names:

        get_...(name, project, allow_cache)    list_...(project, allow_cache, tags)
        apply_...(object, project)             delete_...(name, project)

    Raises:
        NotSupportedError: the project is not the store's, or there is no such method.
    """

    def __init__(self, store: FeatureStore):
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = name.partition("_")[0]
        if verb == "apply":
            return self._applying
        method = getattr(self._store, _OTHER_NAMES.get(name, name), None) if verb in ("get", "list", "delete") else None
        if method is None:
            raise AttributeError(f"the registry has no {name}")
        return self._listing(method) if verb == "list" else self._naming(method)

    def _check(self, project: str | None) -> None:
        if project not in (None, self._store.project):
            raise NotSupportedError(f"the store is of the project {self._store.project}, not of {project}")

    def _naming(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(name: str, project: str | None = None, allow_cache: bool = False, **_: Any) -> Any:
            self._check(project)
            return method(name)

        return call

    def _listing(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(
            project: str | None = None, allow_cache: bool = False, tags: dict[str, str] | None = None, **_: Any
        ) -> Any:
            self._check(project)
            return method(tags=tags) if tags else method()

        return call

    def _applying(self, definition: Any, project: str | None = None, commit: bool = True, **_: Any) -> None:
        self._check(project)
        self._store.apply([definition])

    def get_feature_view_by_version(
        self, name: str, project: str | None, version_number: int, allow_cache: bool = False
    ) -> Any:
        """Return a version of a stored view. Raises FeatureViewVersionNotFound."""
        self._check(project)
        return self._store._current_snapshot().get_feature_view_version(name, version_number)

    def list_feature_view_versions(self, name: str, project: str | None = None) -> list[dict[str, Any]]:
        """Return the version history of a view."""
        self._check(project)
        return self._store.list_feature_view_versions(name)

    def refresh(self, project: str | None = None) -> None:
        """Read the registry now."""
        self._check(project)
        self._store.refresh_registry()

    def proto(self) -> pb.Registry:
        """Return the registry's message; of no effect if it is changed."""
        copy = pb.Registry()
        copy.CopyFrom(self._store._current_snapshot().message)
        return copy

    @property
    def cached_registry_proto(self) -> pb.Registry:
        """The same."""
        return self.proto()

    def commit(self) -> None:
        """Do nothing: every change is written at once."""

    def teardown(self) -> None:
        """Delete the project from the registry; its rows in the online store stay."""
        self._store.delete_project(self._store.project)
