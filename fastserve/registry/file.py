"""The file registry: one serialised `Registry` message in a local file.

Feast rewrites the file in place, so a reader may find it empty or cut off. `load` therefore accepts only what was read
from a file that was quiet before and after, and tries again for a moment before it reports a damaged one.

`update` writes aside and renames, so nobody ever sees half of it. Our own writers wait for one another by a lock file.
Feast knows nothing of that lock: what it writes while an edit runs is noticed, and the edit made again on top of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from google.protobuf.message import DecodeError

from fastserve.errors import RegistryError, RegistryNotFoundError
from fastserve.registry import lock
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.damage import parse_registry
from fastserve.registry.lists import add_project, content, remove_project
from fastserve.registry.snapshot import Snapshot, build_snapshot

__all__ = ["FileMark", "FileRegistry"]

ATTEMPTS = 6
PAUSE_SECONDS = 0.06
"""Also how long a file must have been left alone: file systems stamp changes by a clock that ticks every few ms."""
LOCK_SECONDS = 30.0
"""How long a writer waits for the others."""


class FileMark(NamedTuple):
    """What of a file's attributes tells that it has changed."""

    modified_ns: int
    size: int
    inode: int


class _Found(NamedTuple):
    """What was read. Args: damaged: see `parse_registry`; mark: None if there is no file yet."""

    message: pb.Registry
    damaged: bytes
    mark: FileMark | None

    def serialized(self) -> bytes:
        return self.message.SerializeToString() + self.damaged


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
        found = self._read_patiently()
        return build_snapshot(found.message, self.project, found.mark)

    def update(self, edit: Callable[[pb.Registry], None], *, create: bool = False) -> Snapshot:
        """Change the registry: run `edit` on its newest state and write the result, as a whole or not at all.

        Updates from any number of threads and processes come one after the other. If something else than fastserve
        changes the file meanwhile, `edit` is run again on that state.

        Args:
            edit: changes the message in place. If it raises, nothing is written; if it changes nothing, likewise.
            create: a registry that is not there starts empty.

        Returns:
            The new state.

        Raises:
            RegistryError: the registry is missing or damaged, its folder cannot be written to, or other writers took
                more than 30 s.
        """
        with self._locked(make_folder=create):
            for _ in range(ATTEMPTS):
                found = self._start(create)
                message, _, mark = found
                before = content(message)
                edit(message)
                if mark is not None and content(message) == before:
                    return build_snapshot(message, self.project, mark)
                add_project(message, self.project)
                _stamp(message)
                # Built before it is written: a state that cannot be read again must not become the registry.
                snapshot = build_snapshot(message, self.project, mark)
                written = self._replace(found.serialized(), mark)
                if written is not None:
                    return replace(snapshot, mark=written)
        raise RegistryError(f"registry {self.path} is being changed by others all the time; try again later")

    def teardown(self) -> None:
        """Remove the project's objects, and the file with them if it has no other project; it may be gone already.

        What fastserve does not know, such as the project's saved datasets, stays in a file that stays.
        """
        if not os.path.exists(self.path):
            return
        with self._locked():
            found = self._read_patiently()
            remove_project(found.message, self.project)
            if found.message.projects:
                _stamp(found.message)
                self._replace(found.serialized(), self.mark())
            else:
                with self._writing():
                    os.unlink(self._real_path)

    @property
    def _real_path(self) -> str:
        # A link stays what it is: what it leads to is replaced.
        return os.path.realpath(self.path)

    @contextlib.contextmanager
    def _locked(self, make_folder: bool = False) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            with self._writing():
                if make_folder:
                    os.makedirs(os.path.dirname(self._real_path), exist_ok=True)
                stack.enter_context(lock.hold(f"{self._real_path}.lock", LOCK_SECONDS))
            yield

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as exc:  # the folder
            raise self._unreadable(exc) from exc
        except OSError as exc:
            raise RegistryError(f"registry {self.path} cannot be written: {exc.strerror or exc}") from exc

    def _start(self, create: bool) -> _Found:
        """Return what an edit starts from."""
        if create and not os.path.exists(self.path):
            return _Found(pb.Registry(registry_schema_version="1"), b"", None)
        return self._read_patiently()

    def _replace(self, data: bytes, mark: FileMark | None) -> FileMark | None:
        """Write the file, unless it is no longer the one with this mark; return the new mark, or None."""
        path = self._real_path
        aside = f"{path}.new"
        with self._writing(), _cleared(aside):
            written = _write(aside, data, like=path)
            if self._current_mark() != mark:
                return None
            os.replace(aside, path)
            _sync_folder(path)
            return written

    def _current_mark(self) -> FileMark | None:
        try:
            return _mark(os.stat(self.path))
        except FileNotFoundError:
            return None

    def _read_patiently(self) -> _Found:
        for attempt in range(1, ATTEMPTS + 1):
            found = self._read(patient=attempt < ATTEMPTS)
            if found is not None:
                return found
            if attempt < ATTEMPTS:
                time.sleep(PAUSE_SECONDS)
        raise RegistryError(
            f"registry {self.path} is damaged (cut off, or not a registry file); write it again with `fastserve "
            "apply`, or put a copy back"
        )

    def _read(self, patient: bool) -> _Found | None:
        """Return the registry, or None when another attempt may have better luck."""
        try:
            with open(self.path, "rb") as file:
                before = _mark(os.fstat(file.fileno()))
                data = file.read()
                after = _mark(os.fstat(file.fileno()))
        except OSError as exc:
            raise self._unreadable(exc) from exc
        if before != after or (patient and _is_fresh(after)):
            return None
        return _parse(data, after)

    def _unreadable(self, exc: OSError) -> RegistryError:
        if isinstance(exc, FileNotFoundError):
            return RegistryNotFoundError(
                f"registry {self.path} does not exist; run `fastserve apply`, or correct registry.path in the "
                "configuration"
            )
        return RegistryError(f"registry {self.path} cannot be read: {exc.strerror or exc}")


def _mark(stat: os.stat_result) -> FileMark:
    return FileMark(stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _is_fresh(mark: FileMark) -> bool:
    return 0 <= time.time_ns() - mark.modified_ns < PAUSE_SECONDS * 1e9


def _parse(data: bytes, mark: FileMark) -> _Found | None:
    try:
        message, damaged = parse_registry(data)
    except DecodeError:
        return None
    # An empty file, and most other files too, are a message without a field that we know.
    return _Found(message, damaged, mark) if message.ListFields() else None


def _stamp(message: pb.Registry) -> None:
    message.registry_schema_version = message.registry_schema_version or "1"
    message.version_id = str(uuid.uuid4())
    message.last_updated.GetCurrentTime()


@contextlib.contextmanager
def _cleared(path: str) -> Iterator[None]:
    """See to it that a file is not there, before and after."""
    # Before, since a writer that was killed may have left it: whoever holds the lock may clear it away.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _write(path: str, data: bytes, like: str) -> FileMark:
    """Write a new file, safe on the disk, with mode and owner of `like` if that exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        with contextlib.suppress(FileNotFoundError):
            _take_after(os.stat(like), descriptor)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
        return _mark(os.fstat(descriptor))


def _take_after(model: os.stat_result, descriptor: int) -> None:
    # Only root may give a file away; others keep at least the group, if they are in it.
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, -1, model.st_gid)
        os.fchown(descriptor, model.st_uid, -1)
    os.fchmod(descriptor, stat.S_IMODE(model.st_mode))


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
