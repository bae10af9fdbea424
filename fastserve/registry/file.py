"""The file registry: one serialised `Registry` message in a local file.

Feast rewrites the file in place, so a reader may find it empty or cut off. `load` therefore accepts only what was read
from a file that was quiet before and after, and tries again for a moment before it reports a damaged one.
"""

from __future__ import annotations

import os
import re
import time
from typing import NamedTuple

from google.protobuf.message import DecodeError

from fastserve.errors import RegistryError
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.snapshot import Snapshot, build_snapshot

__all__ = ["FileMark", "FileRegistry"]

ATTEMPTS = 6
PAUSE_SECONDS = 0.06
"""Also how long a file must have been left alone: file systems stamp changes by a clock that ticks every few ms."""


class FileMark(NamedTuple):
    """What of a file's attributes tells that it has changed."""

    modified_ns: int
    size: int
    inode: int


class FileRegistry:
    """A registry in a local file.

    Args:
        path: absolute.
        project: whose objects the snapshots have.

    Raises:
        RegistryError: the path is a URI of another scheme.
    """

    def __init__(self, path: str, project: str):
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", path)
        if scheme:
            raise RegistryError(
                f"registry {path}: scheme not supported: {scheme[1]}; fastserve reads local files, so copy the file to "
                "this machine or mount its folder"
            )
        self.path = path
        self.project = project

    def __repr__(self) -> str:
        return f"<FileRegistry {self.path}, project {self.project}>"

    def mark(self) -> FileMark:
        """Return the file's modification time, size and inode; RegistryError if there is none."""
        try:
            return _mark(os.stat(self.path))
        except OSError as exc:
            raise self._unreadable(exc) from exc

    def load(self) -> Snapshot:
        """Read the file.

        Takes up to 0.3 s when the file is being written, or is damaged.

        Raises:
            RegistryError: there is no file, it cannot be read, or it is not a registry.
        """
        for attempt in range(1, ATTEMPTS + 1):
            found = self._read(patient=attempt < ATTEMPTS)
            if found is not None:
                message, mark = found
                return build_snapshot(message, self.project, mark)
            if attempt < ATTEMPTS:
                time.sleep(PAUSE_SECONDS)
        raise RegistryError(
            f"registry {self.path} is damaged (cut off, or not a registry file); write it again with `feast apply`, or "
            "put a copy back"
        )

    def _read(self, patient: bool) -> tuple[pb.Registry, FileMark] | None:
        """Return the registry and its mark, or None when another attempt may have better luck."""
        try:
            with open(self.path, "rb") as file:
                before = _mark(os.fstat(file.fileno()))
                data = file.read()
                after = _mark(os.fstat(file.fileno()))
        except OSError as exc:
            raise self._unreadable(exc) from exc
        if before != after or (patient and _is_fresh(after)):
            return None
        message = _parse(data)
        return None if message is None else (message, after)

    def _unreadable(self, exc: OSError) -> RegistryError:
        if isinstance(exc, FileNotFoundError):
            return RegistryError(
                f"registry {self.path} does not exist; run `feast apply`, or correct registry.path in the configuration"
            )
        return RegistryError(f"registry {self.path} cannot be read: {exc.strerror or exc}")


def _mark(stat: os.stat_result) -> FileMark:
    return FileMark(stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _is_fresh(mark: FileMark) -> bool:
    return 0 <= time.time_ns() - mark.modified_ns < PAUSE_SECONDS * 1e9


def _parse(data: bytes) -> pb.Registry | None:
    try:
        message = pb.Registry.FromString(data)
    except DecodeError:
        return None
    # An empty file, and most other files too, are a message without a field that we know.
    return message if message.ListFields() else None
