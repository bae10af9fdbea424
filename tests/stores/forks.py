"""Running a function in a forked child."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 60
"""Seconds after which a child that does not come to its end is ended."""


def in_child(function: Callable[[], Any]) -> Any:
    """Fork, call `function` in the child and return what it returned there; an exception fails the test."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on, a fork beside other threads is warned of.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _run(function, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    assert data, f"the child said nothing; its wait status is {status} ({signal.SIGALRM}: it took over {PATIENCE} s)"
    result, error = pickle.loads(data)
    assert error is None, f"in the child:\n{error}"
    return result


def _run(function: Callable[[], Any], writing: int) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)
    try:
        outcome = function(), None
    except BaseException:
        outcome = None, traceback.format_exc()  # type: ignore[assignment]
    os.write(writing, pickle.dumps(outcome))
    os._exit(0)


def sockets_to(port: int) -> int:
    """The number of this process's sockets that are connected to a port of this machine."""
    found = 0
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if file.readlink().name.startswith("socket:"):
                with socket.socket(fileno=int(file.name)) as sock:
                    with contextlib.suppress(OSError):
                        found += sock.getpeername()[1:2] == (port,)  # that of a unix socket is a text
                    sock.detach()
    return found
