"""Running a function in a forked child."""

from __future__ import annotations

import os
import pickle
import traceback
import warnings
from collections.abc import Callable
from typing import Any


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
    os.waitpid(child, 0)
    result, error = pickle.loads(data)
    assert error is None, f"in the child:\n{error}"
    return result


def _run(function: Callable[[], Any], writing: int) -> None:
    try:
        outcome = function(), None
    except BaseException:
        outcome = None, traceback.format_exc()  # type: ignore[assignment]
    os.write(writing, pickle.dumps(outcome))
    os._exit(0)
