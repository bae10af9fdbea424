"""A lock between processes, and between the threads of one: a file beside the thing that is locked.

The file is there only while somebody holds the lock, or waits for it. The kernel frees the lock of a process that died.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from fastserve.errors import RegistryError

__all__ = ["hold"]

POLL_SECONDS = 0.01


@contextlib.contextmanager
def hold(path: str, wait_seconds: float) -> Iterator[None]:
    """Hold the lock of the file `path`, which is made and at the end removed.

    Raises:
        RegistryError: it was not free within `wait_seconds`; the text names the process that has it.
        OSError: the file cannot be made.
    """
    descriptor = _take(path, time.monotonic() + wait_seconds)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        # Who waits has this file open: `_is_current` tells it that the lock is another file now.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        # Closing would not do: a child forked meanwhile has the file open too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _take(path: str, deadline: float) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_current(descriptor, path):
                return descriptor
        except BlockingIOError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace")
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise RegistryError(f"{path} is held by another writer (process {holder or 'unknown'}); try again later")
        time.sleep(POLL_SECONDS)


def _is_current(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
