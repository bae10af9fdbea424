"""The same requests without a thread: connections of one event loop, each for one request at a time.

A loop has connections of its own. They end with the loop: `asyncio.run` closes the asynchronous generators that are
left over, and one of those holds the connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, TypeVar, cast

from fastserve.errors import StoreError, StoreTimeoutError
from fastserve.stores.http_wire import Answer, AnswerReader, ConnectionLost, Endpoint, GarbledAnswer, NotConnected
from fastserve.stores.sockets import reason_of

__all__ = ["AsyncPool"]

T = TypeVar("T")


class AsyncConnection(asyncio.Protocol):
    """A connection of an event loop.

    Attributes:
        idle_since: when it was last given back, of `time.monotonic`.
    """

    _transport: asyncio.Transport | None = None

    def __init__(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop):
        self.idle_since = 0.0
        self._url = endpoint.url
        self._loop = loop
        self._reader: AnswerReader | None = None
        self._done: asyncio.Future[Answer] | None = None

    def exchange(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request; the answer to it, or the error, becomes the future's result."""
        assert self._transport is not None
        self._reader = AnswerReader()
        self._done = self._loop.create_future()
        self._transport.write(request)
        return self._done

    @property
    def is_quiet(self) -> bool:
        """Whether it can be used: it still stands, and nobody waits for an answer over it."""
        return self._transport is not None and not self._transport.is_closing() and self._done is None

    def abort(self) -> None:
        """Close the connection, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    # --- the loop's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._reader is None or self._done is None:
            self.abort()  # nobody asked for it
            return
        try:
            answer = self._reader.feed(data)
        except GarbledAnswer as exc:
            self._settle(GarbledAnswer(f"{self._url}: {exc}"))
            self.abort()
            return
        if answer is not None:
            self._settle(answer)

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reader is None:
            return
        answer = self._reader.end()
        if answer is not None:
            self._settle(answer)
            return
        reason = reason_of(exc) if exc else "the server closed the connection"
        if self._reader.started:
            self._settle(StoreError(f"{self._url}: {reason}, in the middle of its answer"))
        else:
            self._settle(ConnectionLost(f"{self._url}: {reason}"))

    def _settle(self, result: Answer | StoreError) -> None:
        done, self._done, self._reader = self._done, None, None
        if done is None or done.done():
            return
        if isinstance(result, Answer):
            done.set_result(result)
        else:
            done.set_exception(result)


class _LoopPool:
    """The connections of one loop, which must be the running one; the most recently used first."""

    def __init__(self, endpoint: Endpoint, limit: int, idle_timeout: float):
        self._endpoint = endpoint
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._idle: deque[AsyncConnection] = deque()
        self._n_taken = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._keeper: AsyncGenerator[None, None] | None = None

    async def exchange(self, request: bytes, deadline: float) -> Answer:
        """Send a request over a connection and return the answer. Raises as `Connection.exchange`."""
        if self._n_taken < self._limit and not self._waiters:
            self._n_taken += 1
        else:
            await self._wait_for_place(deadline)
        connection = self._pop_idle()
        is_new = connection is None
        try:
            if connection is None:
                connection = await self._connect(deadline)
            late = StoreTimeoutError(f"{self._endpoint.url}: no answer in time")
            answer = await _until(deadline, connection.exchange(request), late)
            if answer.keep_alive and connection.is_quiet:
                connection.idle_since = time.monotonic()
                self._idle.append(connection)
                connection = None
            return answer
        except ConnectionLost as exc:
            exc.reused = not is_new
            raise
        finally:
            # After any error, also when the caller was cancelled, an answer may be outstanding.
            if connection is not None:
                connection.abort()
            self._free_place()

    async def _wait_for_place(self, deadline: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        url, limit = self._endpoint.url, self._limit
        late = StoreTimeoutError(
            f"{url}: all {limit} connections (connection_pool_size) were in use until the deadline"
        )
        try:
            await _until(deadline, turn, late)
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free_place()  # it was given, and nobody takes it
            raise

    def _free_place(self) -> None:
        """Give the place to the one who has waited longest."""
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._n_taken -= 1

    def _pop_idle(self) -> AsyncConnection | None:
        if self._idle_timeout:
            oldest = time.monotonic() - self._idle_timeout
            while self._idle and self._idle[0].idle_since < oldest:
                self._idle.popleft().abort()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_quiet:
                return connection
            connection.abort()
        return None

    async def _connect(self, deadline: float) -> AsyncConnection:
        url = self._endpoint.url
        if self._keeper is None:
            self._keeper = self._keep()
            await self._keeper.__anext__()
        try:
            return await _connected(self._endpoint, deadline)
        except TimeoutError as exc:
            raise StoreTimeoutError(f"{url}: no connection in time") from exc
        except (OSError, ValueError) as exc:  # ValueError: a host name that the resolver does not even take
            raise NotConnected(f"{url}: cannot connect: {reason_of(exc)}") from exc

    async def _keep(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.close()
            await asyncio.sleep(0)  # the transports say good-bye in the loop's next turn

    @property
    def usage(self) -> tuple[int, int, int]:
        """How many connections are idle, how many requests are under way, and how many wait for a place."""
        return len(self._idle), self._n_taken, sum(not turn.done() for turn in self._waiters)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().abort()


async def _until(deadline: float, done: asyncio.Future[T], late: StoreError) -> T:
    """Return a future's result, or raise `late` at the deadline."""
    timer = done.get_loop().call_later(deadline - time.monotonic(), _fail, done, late)
    try:
        return await done
    finally:
        timer.cancel()


def _fail(done: asyncio.Future[Any], error: StoreError) -> None:
    if not done.done():
        done.set_exception(error)


async def _connected(endpoint: Endpoint, deadline: float) -> AsyncConnection:
    """Return a new connection of the running loop. Raises OSError, of which TimeoutError is one."""
    loop = asyncio.get_running_loop()
    name = endpoint.host if endpoint.tls else None
    connecting = loop.create_task(
        loop.create_connection(
            lambda: AsyncConnection(endpoint, loop),
            endpoint.host,
            endpoint.port,
            ssl=endpoint.tls,
            server_hostname=name,
        )
    )
    is_late: list[bool] = []

    def give_up() -> None:
        is_late.append(True)
        connecting.cancel()

    timer = loop.call_later(deadline - time.monotonic(), give_up)
    try:
        _, connection = await connecting
        return connection
    except asyncio.CancelledError:
        connecting.add_done_callback(_abandon)
        if is_late:
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()


def _abandon(connecting: asyncio.Task[tuple[asyncio.Transport, AsyncConnection]]) -> None:
    """Close a connection that came about when nobody waited for it any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result()[1].abort()


class AsyncPool:
    """The connections of all loops of the process.

    Args:
        limit: how many connections a loop has at most.
        idle_timeout: seconds after which an unused one is closed, at the next use of the pool; 0 is never.
    """

    def __init__(self, endpoint: Endpoint, limit: int, idle_timeout: float):
        self._endpoint = endpoint
        self._limit = limit
        self._idle_timeout = idle_timeout
        self.forget()

    def forget(self) -> None:
        """Start with no connection: after a fork no loop of the parent's runs."""
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopPool] = weakref.WeakKeyDictionary()

    async def exchange(self, request: bytes, deadline: float) -> Answer:
        """Send a request over a connection of the running loop; until `deadline` (of `time.monotonic`).

        Raises:
            NotConnected, ConnectionLost, GarbledAnswer, StoreTimeoutError, StoreError: as `Connection`.
        """
        loop = asyncio.get_running_loop()
        pool = self._loops.get(loop)
        if pool is None:
            for other in list(self._loops):
                if other.is_closed():
                    del self._loops[other]
            pool = self._loops[loop] = _LoopPool(self._endpoint, self._limit, self._idle_timeout)
        return await pool.exchange(request, deadline)

    def usage(self) -> dict[str, int]:
        """See `Store.usage`."""
        each = [pool.usage for loop, pool in list(self._loops.items()) if not loop.is_closed()]
        idle, taken, waiting = (sum(numbers) for numbers in zip(*each, strict=True)) if each else (0, 0, 0)
        return {"open": idle + taken, "idle": idle, "in_flight": taken, "waiting": waiting}

    def close(self) -> None:
        """Close the idle connections of all loops; those of another thread's loop in its next turn."""
        for loop, pool in list(self._loops.items()):
            if not loop.is_closed():
                with contextlib.suppress(RuntimeError):  # it was closed this moment
                    loop.call_soon_threadsafe(pool.close)
