"""How far a materialization is: bars with rows/s and time left on a terminal, plain log lines otherwise."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any, Protocol

__all__ = ["LogProgress", "NoProgress", "Progress", "ViewProgress", "default_progress"]

logger = logging.getLogger(__name__)

LOG_SECONDS = 10.0


class ViewProgress(Protocol):
    """One view's; called from the threads that load it."""

    def stage(self, name: str, total: int) -> None:
        """Begin a stage, such as "reading", of so many rows; of at most so many where that is not known beforehand."""

    def advance(self, n_rows: int) -> None:
        """So many more rows are done."""

    def close(self) -> None:
        """It has ended, well or not."""


class Progress(Protocol):
    """Of a run."""

    def view(self, name: str) -> ViewProgress:
        """Begin one view."""


def default_progress() -> Progress:
    """Return bars if stderr is a terminal and tqdm is installed, else log lines."""
    if sys.stderr is None or not sys.stderr.isatty():
        return LogProgress()
    try:
        import tqdm  # noqa: F401
    except ImportError:
        return LogProgress()
    return BarProgress()


class NoProgress:
    """Says nothing."""

    def view(self, name: str) -> ViewProgress:
        return _Silent()


class _Silent:
    def stage(self, name: str, total: int) -> None:
        pass

    def advance(self, n_rows: int) -> None:
        pass

    def close(self) -> None:
        pass


class BarProgress:
    """A bar for each view that is being loaded, one below the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: set[int] = set()

    def view(self, name: str) -> ViewProgress:
        with self._lock:
            line = next(number for number in range(len(self._lines) + 1) if number not in self._lines)
            self._lines.add(line)
        return _Bar(name, line, self)

    def release(self, line: int) -> None:
        with self._lock:
            self._lines.discard(line)


class _Bar:
    def __init__(self, name: str, line: int, owner: BarProgress):
        self._name, self._line, self._owner = name, line, owner
        self._bar: Any = None

    def stage(self, name: str, total: int) -> None:
        from tqdm import tqdm

        self._end()
        text = f"{self._name}: {name}"
        self._bar = tqdm(desc=text, total=total, unit=" rows", unit_scale=True, position=self._line, file=sys.stderr)

    def advance(self, n_rows: int) -> None:
        self._bar.update(n_rows)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def close(self) -> None:
        self._end()
        self._owner.release(self._line)


class LogProgress:
    """A line at the begin of each stage, every ten seconds, and at the end."""

    def view(self, name: str) -> ViewProgress:
        return _Lines(name)


class _Lines:
    def __init__(self, name: str):
        self._name, self._stage = name, ""
        self._done = self._total = 0
        self._start = self._said = time.monotonic()

    def stage(self, name: str, total: int) -> None:
        self.close()
        self._stage, self._done, self._total = name, 0, total
        self._start = self._said = time.monotonic()
        logger.info("%s: %s: at most %d rows", self._name, name, total)

    def advance(self, n_rows: int) -> None:
        self._done += n_rows
        now = time.monotonic()
        if now - self._said >= LOG_SECONDS:
            self._said = now
            rate = self._done / (now - self._start)
            left = max(self._total - self._done, 0) / rate if rate else 0.0
            message = "%s: %s: %d of %d rows, %.0f rows/s, %.0f s left"
            logger.info(message, self._name, self._stage, self._done, self._total, rate, left)

    def close(self) -> None:
        if self._stage:
            seconds = time.monotonic() - self._start
            logger.info("%s: %s: ended after %d rows, %.1f s", self._name, self._stage, self._done, seconds)
            self._stage = ""
