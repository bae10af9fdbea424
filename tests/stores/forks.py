"""Running a function in a forked child."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
import warnings
from collections.abc import Callable
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
