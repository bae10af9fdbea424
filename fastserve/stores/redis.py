"""Redis, standalone: a pool of thin connections, and batches read over them."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque

from fastserve._core import Batch
from fastserve.config import RedisConnection
from fastserve.errors import StoreTimeoutError
from fastserve.stores.redis_wire import Connection, ConnectionLost

__all__ = ["RedisStore"]


class RedisStore:
    """Reads batches from one Redis server.

    At most `max_connections` connections are open at a time, the most recently used first; a read that needs one more
    waits for one to come back, within its deadline.
    """

    def __init__(self, options: RedisConnection):
        self._options = options
        self._forget()
        _stores.add(self)

    def read(self, batch: Batch) -> None:
        """Fill the batch, see `Store.read`; within `socket_timeout`, and `socket_connect_timeout` more to connect."""
        if not (batch.n_rows and batch.groups):
            return  # it asks for nothing, so the server need not even be there
        deadline = time.monotonic() + self._options.socket_timeout
        while not self._read_once(batch, deadline):
            batch.rewind()

    def _read_once(self, batch: Batch, deadline: float) -> bool:
        """Read over one connection; False if it had ended while it lay idle, so that asking again is safe."""
        connection = self._pop_idle() or self._take_place(deadline)
        is_new = not connection.is_open
        try:
            if is_new:
                deadline += connection.open()
            connection.read(batch, deadline)
        except BaseException as exc:
            # Replies may be outstanding: the connection must not be used again.
            self._discard(connection)
            if isinstance(exc, ConnectionLost) and not is_new:
                return False
            raise
        self._idle.append(connection)
        if self._waiting:
            with self._lock:
                self._changed.notify()
        return True

    def _pop_idle(self) -> Connection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_quiet():
                return connection
            self._discard(connection)

    def _take_place(self, deadline: float) -> Connection:
        """Return a connection that is yet to be opened; at the limit, wait for an idle one instead."""
        with self._lock:
            # Announced before looking: whoever gives a connection back afterwards will notify.
            self._waiting += 1
            try:
                while (connection := self._pop_idle()) is None:
                    if len(self._counted) < self._options.max_connections:
                        connection = Connection(self._options)
                        self._counted.add(connection)
                        break
                    self._wait(deadline)
                return connection
            finally:
                self._waiting -= 1

    def _wait(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            limit, timeout = self._options.max_connections, self._options.socket_timeout
            raise StoreTimeoutError(
                f"{self._options.name}: all {limit} connections (max_connections) were in use for {timeout:g} s"
            )
        self._changed.wait(left)

    def _discard(self, connection: Connection) -> None:
        connection.close()
        with self._lock:
            self._counted.discard(connection)
            self._changed.notify()

    def close(self) -> None:
        """Close the idle connections."""
        while (connection := self._pop_idle()) is not None:
            self._discard(connection)

    # Code written for Feast, which has no close(), would otherwise be warned of open sockets.
    __del__ = close

    def _forget(self) -> None:
        """Start with no connection."""
        self._idle: deque[Connection] = deque()
        # Weak, so that a connection whose thread an exception hit between two lines still gives its place back.
        self._counted: weakref.WeakSet[Connection] = weakref.WeakSet()
        # `with` the lock, never the condition: an exception from a signal could hit the latter's Python code and leave
        # it locked. The lock may be taken twice, by one who drops a dead connection while looking for a live one.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0

    def _leave_to_parent(self) -> None:
        """After a fork: close this process's copies of the sockets, which does not end the parent's connections."""
        for connection in list(self._counted):
            connection.close()
        self._forget()


_stores: weakref.WeakSet[RedisStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_stores):
        store._leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)
