"""The registry: where a repository's definitions are kept.

path            what
file.py         the file registry
snapshot.py     Snapshot: one state of the registry, for one project
refresh.py      Refresher: a new Snapshot in the background when the registry changes
convert.py      messages -> objects of fastserve.model
schema.proto    the messages; schema_pb2 is generated from it by tools/gen_schema.sh
"""

from __future__ import annotations

from typing import Protocol

from fastserve.config import Config
from fastserve.errors import NotSupportedError
from fastserve.registry.file import FileRegistry
from fastserve.registry.refresh import Refresher
from fastserve.registry.snapshot import Snapshot

__all__ = ["Refresher", "RegistrySource", "Snapshot", "open_registry"]


class RegistrySource(Protocol):
    """A registry that can be read again and again."""

    def mark(self) -> object:
        """Return, cheaply, something unequal to an earlier mark if the registry has changed. Raises RegistryError."""

    def load(self) -> Snapshot:
        """Read the registry. Raises RegistryError when it is missing or damaged; the text says what to do."""


def open_registry(config: Config) -> RegistrySource:
    """Return the registry of a configuration; nothing is read yet.

    Raises:
        NotSupportedError: a registry of this type cannot be read.
        RegistryError: the path's scheme is not supported.
    """
    registry = config.registry
    if registry.registry_type != "file":
        raise NotSupportedError(
            f"registry.registry_type: {registry.registry_type} is not supported; fastserve reads file registries"
        )
    if registry.registry_store_type not in (None, "FileRegistryStore"):
        raise NotSupportedError(
            f"registry.registry_store_type: {registry.registry_store_type} is not supported; only local files are"
        )
    return FileRegistry(registry.path, config.project)
