"""The registry: where a repository's definitions are kept.

path            what
file.py         the file registry; lock.py is how its writers wait for one another
lists.py        the lists of a Registry message
snapshot.py     Snapshot: one state of the registry, for one project
sql.py          the SQL registry, with sql_tables.py, sql_rows.py and database.py
refresh.py      Refresher: a new Snapshot in the background when the registry changes
convert.py      messages -> objects of fastserve.model
schema.proto    the messages; schema_pb2 is generated from it by tools/gen_schema.sh
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fastserve.config import Config, RemoteConfig
from fastserve.errors import NotSupportedError, RegistryError, RegistryNotFoundError
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.file import FileRegistry
from fastserve.registry.refresh import Refresher
from fastserve.registry.snapshot import Snapshot

__all__ = ["Refresher", "RegistrySource", "Snapshot", "open_registry"]


class RegistrySource(Protocol):
    """A registry that can be read again and again, and changed."""

    def mark(self) -> object:
        """Return, cheaply, something unequal to an earlier mark if the registry has changed. Raises RegistryError."""

    def load(self) -> Snapshot:
        """Read the registry. Raises RegistryError when it is missing or damaged; the text says what to do."""

    def update(self, edit: Callable[[pb.Registry], None], *, create: bool = False) -> Snapshot:
        """Run `edit` on the newest state, all others locked out, and write the result as a whole or not at all.

        `edit` changes the message in place; it may be run more than once, each time on a newer state. If it raises, or
        changes nothing, nothing is written. With `create` a registry that is not there starts empty. Returns the new
        state. Raises RegistryError.
        """

    def teardown(self) -> None:
        """Remove everything of the project. Raises RegistryError."""


def open_registry(config: Config) -> RegistrySource:
    """Return the registry of a configuration; nothing is read yet.

    Raises:
        NotSupportedError: a registry of this type cannot be read. Where features come from another server that is no
            error until the registry itself is asked for: the server has its own.
        RegistryError: the path's scheme is not supported, or what its database needs is not installed.
    """
    try:
        return _open(config)
    except NotSupportedError as exc:
        if isinstance(config.online_store, RemoteConfig):
            return _AbsentRegistry(str(exc))
        raise


class _AbsentRegistry:
    """Stands in for a registry that cannot be read, and need not be."""

    def __init__(self, reason: str):
        self._reason = reason

    def mark(self) -> object:
        raise RegistryNotFoundError(self._reason)

    def load(self) -> Snapshot:
        raise RegistryNotFoundError(self._reason)

    def update(self, edit: Callable[[pb.Registry], None], *, create: bool = False) -> Snapshot:
        raise RegistryNotFoundError(self._reason)

    def teardown(self) -> None:
        raise RegistryNotFoundError(self._reason)


def _open(config: Config) -> RegistrySource:
    registry = config.registry
    if registry.registry_type == "sql":
        return _open_sql(config)
    if registry.registry_type != "file":
        raise NotSupportedError(
            f"registry.registry_type: {registry.registry_type} is not supported; fastserve knows file and sql"
        )
    if registry.registry_store_type not in (None, "FileRegistryStore"):
        raise NotSupportedError(
            f"registry.registry_store_type: {registry.registry_store_type} is not supported; only local files are"
        )
    return FileRegistry(registry.path, config.project)


def _open_sql(config: Config) -> RegistrySource:
    try:
        import sqlalchemy  # noqa: F401
    except ImportError as exc:
        raise RegistryError(
            f"registry.registry_type: sql needs SQLAlchemy: pip install 'fastserve[sql]' ({exc})"
        ) from exc
    from fastserve.registry.sql import SqlRegistry

    return SqlRegistry(config.registry, config.project, config.repo_path)
