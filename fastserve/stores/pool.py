"""Connections that are kept for the next request: the most recently used first, never more than a limit."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from fastserve.errors import StoreTimeoutError

__all__ = ["Pool", "Pooled"]


class Pooled(Protocol):
    """What a pool keeps.

    Attributes:
        idle_since: when it was last given back, of `time.monotonic`.
    """

    idle_since: float

    def is_quiet(self) -> bool:
        """Whether it can be used: it still stands, and nothing has come that nobody asked for."""

    def close(self) -> None:
        """Close it; it may be closed already."""


C = TypeVar("C", bound=Pooled)


class Pool(Generic[C]):
    """Serves all threads.

    Args:
        make: returns a connection that is yet to be opened.
        limit: how many there are at most.
        idle_timeout: seconds after which an unused one is closed, at the next use of the pool; 0 is never.
        name: how errors call the other end.
        limit_name: how errors call the setting of the limit.
    """

    def __init__(self, make: Callable[[], C], limit: int, idle_timeout: float, name: str, limit_name: str):
        self._make = make
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._name = name
        self._limit_name = limit_name
        self.forget()

    def forget(self) -> None:
        """Start with no connection; those there are stay as they are."""
        self._idle: deque[C] = deque()
        # Weak, so that a connection whose thread an exception hit between two lines still gives its place back.
        self._counted: weakref.WeakSet[C] = weakref.WeakSet()
        # `with` the lock, never the condition: an exception from a signal could hit the latter's Python code and leave
        # it locked. The lock may be taken twice, by one who drops a dead connection while looking for a live one.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0

    def take(self, deadline: float) -> C:
        """Return a connection that nobody else uses; at the limit, wait for one. Raises StoreTimeoutError."""
        return self._pop_idle() or self._take_place(deadline)

    def give(self, connection: C) -> None:
        """Take a connection back that can be used again."""
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self._idle_timeout:
            self._drop_stale(connection.idle_since)
        if self._waiting:
            with self._lock:
                self._changed.notify()

    def discard(self, connection: C) -> None:
        """Close a connection and free its place."""
        connection.close()
        with self._lock:
            self._counted.discard(connection)
            self._changed.notify()

    @property
    def n_open(self) -> int:
        """How many connections there are."""
        return len(self._counted)

    @property
    def n_idle(self) -> int:
        """How many of them nobody uses."""
        return len(self._idle)

    def close(self) -> None:
        """Close the idle connections."""
        while (connection := self._pop_idle()) is not None:
            self.discard(connection)

    def abandon(self) -> None:
        """After a fork: close this process's copies of the sockets, which does not end the parent's connections."""
        for connection in list(self._counted):
            connection.close()
        self.forget()

    def _pop_idle(self) -> C | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not self._is_stale(connection, time.monotonic()) and connection.is_quiet():
                return connection
            self.discard(connection)

    def _is_stale(self, connection: C, now: float) -> bool:
        return bool(self._idle_timeout) and now - connection.idle_since > self._idle_timeout

    def _drop_stale(self, now: float) -> None:
        """Close what has lain at the bottom for too long."""
        try:
            while self._is_stale(self._idle[0], now):
                self.discard(self._idle.popleft())
        except IndexError:
            pass  # there is none, or another thread has taken it

    def _take_place(self, deadline: float) -> C:
        with self._lock:
            # Announced before looking: whoever gives a connection back afterwards will notify.
            self._waiting += 1
            try:
                while (connection := self._pop_idle()) is None:
                    if len(self._counted) < self._limit:
                        connection = self._make()
                        self._counted.add(connection)
                        break
                    self._wait(deadline)
                return connection
            finally:
                self._waiting -= 1

    def _wait(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise StoreTimeoutError(
                f"{self._name}: all {self._limit} connections ({self._limit_name}) were in use until the deadline"
            )
        self._changed.wait(left)
