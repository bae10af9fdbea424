"""Cells: where a process keeps what it counts, so that any process can read it, also after the first one has died.

A folder holds for each process a file of cells and a file that says what is in them:

    <pid>-<time>.cells    numbers, int64 each, mapped into the memory of the process that adds to them
    <pid>-<time>.names    a line of JSON per series: [name, {label: value}, index of the first cell, number of cells]
    dead.json             the sums of processes that have ended, and which: {"files": [...], "series": [...]}
    lock                  held while files are made, read together, or summed up

A process holds a lock on its file of names as long as it lives; that is how the others know. Files of the dead are
summed up when there are many of them. Without a folder the cells are in private memory: for a server of one process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Cells", "Series", "make_folder", "read_folder", "remove_folder"]

CHUNK_BYTES = 1 << 16
"""So much is added to a file of cells at a time."""
MANY_DEAD = 8

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Series:
    """The cells of one metric with one set of labels.

    Attributes:
        labels: (name, value) in the order in which the metric has them.
        pid: the process; 0 for the sum of processes that have ended.
        is_alive: whether the process still runs.
    """

    name: str
    labels: Labels
    values: tuple[int, ...]
    pid: int
    is_alive: bool


class Cells:
    """The cells of this process.

    Args:
        folder: shared with the other processes of the server; None for private memory.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self._chunks: list[mmap.mmap] = []
        self._used = CHUNK_BYTES // 8  # of the last chunk: there is none yet
        self._series: list[tuple[str, Labels, int, int]] = []
        self._cells_fd = self._names_fd = -1
        self._lock = threading.Lock()
        if folder is not None:
            self._open(folder)

    def _open(self, folder: Path) -> None:
        stem = folder / f"{os.getpid()}-{time.time_ns()}"
        with _locked(folder):
            _sum_up_dead(folder)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._cells_fd = os.open(f"{stem}.cells", flags, 0o600)
            self._names_fd = os.open(f"{stem}.names", flags | os.O_APPEND, 0o600)
            fcntl.flock(self._names_fd, fcntl.LOCK_EX)

    def series(self, name: str, labels: Labels, n: int) -> tuple[mmap.mmap, int]:
        """Return `n` new cells, all 0: a buffer and the index of the first one in it."""
        with self._lock:
            return self._new_series(name, labels, n)

    def _new_series(self, name: str, labels: Labels, n: int) -> tuple[mmap.mmap, int]:
        if self._used + n > CHUNK_BYTES // 8:
            self._chunks.append(self._new_chunk())
            self._used = 0
        first = self._used
        self._used += n
        in_file = (len(self._chunks) - 1) * (CHUNK_BYTES // 8) + first
        self._series.append((name, labels, in_file, n))
        if self._names_fd >= 0:
            os.write(self._names_fd, json.dumps([name, dict(labels), in_file, n]).encode() + b"\n")
        return self._chunks[-1], first

    def _new_chunk(self) -> mmap.mmap:
        if self._cells_fd < 0:
            return mmap.mmap(-1, CHUNK_BYTES)
        start = len(self._chunks) * CHUNK_BYTES
        if hasattr(os, "posix_fallocate"):
            # A full disk is an error here, and not a SIGBUS at some later addition.
            os.posix_fallocate(self._cells_fd, start, CHUNK_BYTES)
        else:
            os.ftruncate(self._cells_fd, start + CHUNK_BYTES)
        return mmap.mmap(self._cells_fd, CHUNK_BYTES, offset=start)

    def read(self) -> list[Series]:
        """Return all series: of this process, or with a folder those of all its processes."""
        if self.folder is not None:
            return read_folder(self.folder)
        data = b"".join(bytes(chunk) for chunk in self._chunks)
        return [_series(entry, data, os.getpid(), True) for entry in self._series]

    def close(self) -> None:
        """Let go of the files; what they hold stays, as that of a process that has ended."""
        for fd in (self._cells_fd, self._names_fd):
            if fd >= 0:
                os.close(fd)
        self._cells_fd = self._names_fd = -1


def make_folder() -> Path:
    """Return a new folder for the processes of one server: in memory if the system has such a file system."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    return Path(tempfile.mkdtemp(prefix="fastserve-metrics-", dir=memory if usable else None))


def remove_folder(folder: Path) -> None:
    """Delete a folder of cells; whoever still counts there goes on, unread."""
    for path in [*folder.glob("*.cells"), *folder.glob("*.names"), folder / "dead.json", folder / "lock"]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def read_folder(folder: Path) -> list[Series]:
    """Return the series of all processes, and one sum per series of those that were summed up."""
    with _locked(folder):
        dead = _load_dead(folder)
        found = [Series(name, _labels(labels), tuple(values), 0, False) for name, labels, values in dead["series"]]
        for path in _files(folder, dead):
            found += _read_file(path, _is_alive(path))
    return found


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _is_alive(path: Path) -> bool:
    """Whether the process that adds to a file still runs: then it holds the lock."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _files(folder: Path, dead: dict[str, Any]) -> list[Path]:
    """The files of names that are not in the sums."""
    return [path for path in sorted(folder.glob("*.names")) if path.name not in dead["files"]]


def _read_file(path: Path, is_alive: bool) -> list[Series]:
    # The names first: what they say of the cells is true by the time the cells are read.
    lines = path.read_bytes().split(b"\n")[:-1]
    data = path.with_suffix(".cells").read_bytes()
    pid = int(path.name.partition("-")[0])
    entries = ((name, _labels(labels), first, n) for name, labels, first, n in map(json.loads, lines))
    return [_series(entry, data, pid, is_alive) for entry in entries]


def _labels(labels: dict[str, str]) -> Labels:
    return tuple(labels.items())


def _series(entry: tuple[str, Labels, int, int], data: bytes, pid: int, is_alive: bool) -> Series:
    name, labels, first, n = entry
    values = memoryview(data)[first * 8 : (first + n) * 8].cast("q")
    return Series(name, labels, tuple(values), pid, is_alive)


# --- the dead --------------------------------------------------------------------------------------------------------


def _load_dead(folder: Path) -> dict[str, Any]:
    try:
        dead: dict[str, Any] = json.loads((folder / "dead.json").read_bytes())
        return dead
    except FileNotFoundError:
        return {"files": [], "series": []}


def _sum_up_dead(folder: Path) -> None:
    """Replace the files of processes that have ended by sums, when there are many: workers are recycled for weeks."""
    dead = _load_dead(folder)
    ended = [path for path in _files(folder, dead) if not _is_alive(path)]
    if len(ended) < MANY_DEAD:
        return
    sums = {(name, _labels(labels)): values for name, labels, values in dead["series"]}
    for series in (series for path in ended for series in _read_file(path, False)):
        key = series.name, series.labels
        sums[key] = _added(sums.get(key, ()), series.values)
    # In this order nothing is lost or counted twice, wherever it is interrupted.
    _replace(folder / "dead.json", {"files": [path.name for path in ended], "series": _entries(sums)})
    for path in ended:
        path.unlink()
        path.with_suffix(".cells").unlink(missing_ok=True)


def _added(first: Iterable[int], second: tuple[int, ...]) -> list[int]:
    known = list(first) or [0] * len(second)
    return [a + b for a, b in zip(known, second, strict=True)]


def _entries(sums: dict[tuple[str, Labels], list[int]]) -> list[Any]:
    return [[name, dict(labels), values] for (name, labels), values in sums.items()]


def _replace(path: Path, content: object) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(content))
    aside.replace(path)
