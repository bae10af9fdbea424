"""Redis, standalone: a pool of thin connections, and batches read and rows written over them."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from fastserve._core import Batch, EncodedRows, WritePlan
from fastserve.config import RedisConnection
from fastserve.errors import StoreTimeoutError
from fastserve.stores import redis_write
from fastserve.stores.base import AwaitableReads, OnDone, PendingRead
from fastserve.stores.redis_vectors import RedisVectors
from fastserve.stores.redis_wire import Connection, ConnectionLost, ScriptLost

if TYPE_CHECKING:  # who reads without an event loop need not load it
    from asyncio import AbstractEventLoop

    from fastserve.stores.redis_async import Wires

__all__ = ["RedisStore"]

T = TypeVar("T")

TRUST_SECONDS = 0.003
"""So long after its last use a connection is taken without a look: that takes a system call. If it has ended since, the
first read over it tells, and is repeated over another."""


class RedisStore(AwaitableReads):
    """Reads batches from one Redis server, and writes rows to it.

    At most `max_connections` connections are open at a time, the most recently used first; a read that needs one more
    waits for one to come back, within its deadline. Beside them each event loop that reads has one, for all its reads.
    """

    _wires: Wires | None

    def __init__(
        self,
        options: RedisConnection,
        *,
        key_ttl_seconds: int = 0,
        skip_dedup: bool = False,
        full_scan_for_deletion: bool = True,
        project: str = "",
        max_in_flight: int = 1024,
        max_waiting: int = 8192,
    ):
        """Args: as in `RedisConfig`; the project, which keys of precomputed vectors name; and of each event loop, as
        `async_...` in `FastserveConfig`, how many reads may be on their way and how many may wait.
        """
        self._options = options
        self._project = project
        self._key_ttl_seconds = key_ttl_seconds
        self._skip_dedup = skip_dedup
        self._full_scan_for_deletion = full_scan_for_deletion
        self._limits = max_in_flight, max_waiting
        self._forget()
        _stores.add(self)

    def read(self, batch: Batch) -> None:
        """Fill the batch, see `Store.read`; within `socket_timeout`, and `socket_connect_timeout` more to connect."""
        if not (batch.n_rows and batch.groups):
            return  # it asks for nothing, so the server need not even be there
        deadline = time.monotonic() + self._options.socket_timeout
        while not self._once(Connection.read, batch, deadline):
            batch.rewind()

    def submit(
        self, batch: Batch, loop: AbstractEventLoop, on_done: OnDone, timeout: float | None = None
    ) -> PendingRead:
        """Begin to read, see `Store.submit`; the time-out, by default `socket_timeout`, includes connecting."""
        if not batch.unsent:
            return loop.call_soon(on_done, None)
        wire = (self._wires or self._new_wires()).by_loop.get(loop) or self._new_wires().add(loop)
        return wire.submit(batch, on_done, self._options.socket_timeout if timeout is None else timeout)

    def _new_wires(self) -> Wires:
        from fastserve.stores.redis_async import Wires

        with self._lock:
            if self._wires is None:
                self._wires = Wires(self._options, *self._limits)
            return self._wires

    def write(self, rows: EncodedRows, key_ttl_seconds: int | None = None) -> int:
        """Write rows, see `Store.write`; every 256 KB of them may take `socket_timeout`."""
        ttl = self._key_ttl_seconds if key_ttl_seconds is None else key_ttl_seconds

        def task(connection: Connection, rows: EncodedRows, _: float) -> None:
            redis_write.write_rows(connection, rows, ttl, self._skip_dedup, self._options.socket_timeout)

        rows.rewind()
        if rows.n_rows:
            while not self._once(task, rows, time.monotonic() + self._options.socket_timeout):
                rows.rewind()
        return rows.applied

    def create(self, plans: Iterable[WritePlan]) -> None:
        """Do nothing: a hash comes into being with its first field."""

    def drop(self, plans: Iterable[WritePlan]) -> None:
        """Delete what is stored of the plans' views, see `Store.drop`.

        All keys are walked; with `full_scan_for_deletion` off, nothing is deleted.
        """
        if self._full_scan_for_deletion:
            self._for_each(plans, redis_write.delete_view)

    def teardown(self, plans: Iterable[WritePlan]) -> None:
        """Delete all keys of the plans' project that have the join keys of one of the plans."""
        self._for_each({plan.prefix: plan for plan in plans}.values(), redis_write.delete_keys)

    def check(self) -> None:
        """Raise StoreError unless the server answers PING within `socket_timeout`: one that loads its data does not."""

        def task(connection: Connection, command: str, deadline: float) -> None:
            connection.call(deadline, command)

        deadline = time.monotonic() + self._options.socket_timeout
        while not self._once(task, "PING", deadline):
            pass

    def usage(self) -> dict[str, int]:
        """Return numbers of connections and of asynchronous reads, see `Store.usage`."""
        found = {"open": len(self._counted), "idle": len(self._idle), "in_flight": 0, "waiting": 0}
        if self._wires is not None:
            for name, count in self._wires.usage().items():
                found[name] += count
        return found

    @property
    def vectors(self) -> RedisVectors:
        """Where precomputed vectors are kept."""
        timeout, scan = self._options.socket_timeout, self._full_scan_for_deletion
        return RedisVectors(self._over, self._project, self._key_ttl_seconds, timeout, scan, self._skip_dedup)

    def _over(self, task: Callable[[Connection, float], T]) -> T:
        """Do a task over a connection, within `socket_timeout`, and return what it returns."""
        results: list[T] = []

        def collect(connection: Connection, task: Callable[[Connection, float], T], deadline: float) -> None:
            results.append(task(connection, deadline))

        while not self._once(collect, task, time.monotonic() + self._options.socket_timeout):
            pass
        return results[0]

    def _for_each(self, plans: Iterable[WritePlan], delete: Callable[[Connection, WritePlan, float], None]) -> None:
        timeout = self._options.socket_timeout

        def task(connection: Connection, plan: WritePlan, _: float) -> None:
            delete(connection, plan, timeout)

        for plan in plans:
            while not self._once(task, plan, time.monotonic() + timeout):
                pass  # what was deleted before the connection ended is gone already

    def _once(self, task: Callable[[Connection, T, float], None], subject: T, deadline: float) -> bool:
        """Do the task over one connection; False if that had ended while it lay idle, so that trying again is safe."""
        connection = self._pop_idle() or self._take_place(deadline)
        is_new = not connection.is_open
        try:
            if is_new:
                deadline += connection.open()
            task(connection, subject, deadline)
        except BaseException as exc:
            # Replies may be outstanding: the connection must not be used again.
            self._discard(connection)
            if isinstance(exc, (ConnectionLost, ScriptLost)) and not is_new:
                return False
            raise
        connection.trusted_until = time.monotonic() + TRUST_SECONDS
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
            if connection.trusted_until > time.monotonic() or connection.is_quiet():
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
        """Close the idle connections, and those of the event loops, whose unanswered reads fail."""
        while (connection := self._pop_idle()) is not None:
            self._discard(connection)
        if self._wires is not None:
            self._wires.close()

    # Code written for Feast, which has no close(), would otherwise be warned of open sockets.
    __del__ = close

    def _forget(self) -> None:
        """Start with no connection."""
        self._wires = None
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
        if self._wires is not None:
            self._wires.leave_to_parent()
        self._forget()


_stores: weakref.WeakSet[RedisStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_stores):
        store._leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)
