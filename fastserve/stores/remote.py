"""Another feature server, ours or Feast's, as the place where features come from: one request per call, over kept
connections."""

from __future__ import annotations

import asyncio
import os
import random
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass

from fastserve._core import Batch, EncodedRows, WritePlan
from fastserve.config import RemoteConfig
from fastserve.errors import NotSupportedError, StoreError
from fastserve.stores.base import OnDone, PendingRead
from fastserve.stores.http_async import AsyncPool
from fastserve.stores.http_wire import Answer, Connection, ConnectionLost, Endpoint, NotConnected
from fastserve.stores.pool import Pool
from fastserve.stores.remote_auth import Token
from fastserve.stores.remote_errors import error_of

__all__ = ["RemoteStore", "Request"]

FIRST_PAUSE, LAST_PAUSE = 0.05, 5.0
"""Seconds before the second and before a late attempt; a random half of it is left out, so that clients part."""

BUSY = frozenset({429, 502, 503})
"""The statuses of a server, or of a proxy before it, that may answer at once another time."""


@dataclass(frozen=True)
class Request:
    """What is asked of a server.

    Attributes:
        path: below the URL of the server.
        body: JSON, or nothing.
        method: of HTTP.
        accept: the media types that the answer may have.
        repeatable: asking twice does no harm, so a request may be sent again when its answer was lost.
        timeout: seconds for all of it, attempts and pauses included; None is as configured.
    """

    path: str
    body: bytes
    accept: str = "application/json"
    repeatable: bool = False
    timeout: float | None = None
    method: str = "POST"


class RemoteStore:
    """Sends requests to one feature server, from all threads and event loops.

    At most `connection_pool_size` connections are open at a time, and as many for each event loop; a request that needs
    one more waits for one to come back, within its deadline.
    """

    def __init__(self, options: RemoteConfig, timeout: float, token: Token | None = None):
        """Args: timeout: seconds that a request may take; token: what gives the token that requests carry."""
        self._endpoint = endpoint = Endpoint.parse(options.path, options.cert)
        self._timeout = timeout
        self._token = token
        self._retries = options.connection_retries
        limit, idle = options.connection_pool_size, float(options.connection_idle_timeout)
        self._pool = Pool(lambda: Connection(endpoint), limit, idle, endpoint.url, "connection_pool_size")
        self._async_pool = AsyncPool(endpoint, limit, idle)
        self._heads: dict[tuple[str, str, str], str] = {}
        _stores.add(self)

    @property
    def url(self) -> str:
        """The URL of the server, as configured."""
        return self._endpoint.url

    # --- requests ---

    def ask(self, request: Request) -> Answer:
        """Send a request and return the answer, which has a status of 2xx.

        Attempts are repeated, `connection_retries` times at most, with growing pauses: always if no connection came
        about; if the connection ended before an answer, or the server is too busy, only when `request.repeatable`.

        Raises:
            FastserveError: the one that the server tells of, as if it had been raised here.
            StoreError: the server is out of reach, or answered nonsense; StoreTimeoutError: it took too long.
        """
        attempts = _Attempts(self, request)
        while True:
            try:
                answer = self._exchange(self._message(request), attempts.deadline)
                pause = attempts.pause_after(answer)
            except (NotConnected, ConnectionLost) as exc:
                answer, pause = None, attempts.pause_after_failure(exc)
            if answer is not None and pause is None:
                return self._checked(answer, request)
            if pause:
                time.sleep(pause)

    async def ask_async(self, request: Request) -> Answer:
        """Do what `ask` does without blocking the event loop."""
        attempts = _Attempts(self, request)
        while True:
            try:
                answer = await self._async_pool.exchange(self._message(request), attempts.deadline)
                pause = attempts.pause_after(answer)
            except (NotConnected, ConnectionLost) as exc:
                answer, pause = None, attempts.pause_after_failure(exc)
            if answer is not None and pause is None:
                return self._checked(answer, request)
            if pause:
                await asyncio.sleep(pause)

    def _exchange(self, message: bytes, deadline: float) -> Answer:
        connection = self._pool.take(deadline)
        reused = connection.is_open
        try:
            if not reused:
                connection.open(deadline)
            answer = connection.exchange(message, deadline)
        except BaseException as exc:
            # An answer may be outstanding: the connection must not be used again.
            self._pool.discard(connection)
            if isinstance(exc, ConnectionLost):
                exc.reused = reused
            raise
        if answer.keep_alive:
            self._pool.give(connection)
        else:
            self._pool.discard(connection)
        return answer

    def _checked(self, answer: Answer, request: Request) -> Answer:
        if 200 <= answer.status < 300:
            return answer
        raise error_of(answer, f"{request.method} {self.url.rstrip('/')}{request.path}")

    def _message(self, request: Request) -> bytes:
        kind = request.method, request.path, request.accept
        head = self._heads.get(kind)
        if head is None:
            head = self._heads[kind] = self._head(request)
        authorization = f"Authorization: Bearer {_checked_token(self._token())}\r\n" if self._token else ""
        return f"{head}{authorization}Content-Length: {len(request.body)}\r\n\r\n".encode("latin-1") + request.body

    def _head(self, request: Request) -> str:
        return (
            f"{request.method} {self._endpoint.prefix}{request.path} HTTP/1.1\r\n"
            f"Host: {self._endpoint.host_header}\r\n"
            "User-Agent: fastserve\r\n"
            f"Accept: {request.accept}\r\n"
            "Content-Type: application/json\r\n"
        )

    # --- as a store ---

    def read(self, batch: Batch) -> None:
        """Refuse: a server takes references of features, not keys of a store."""
        raise NotSupportedError("online_store.type: remote reads by ask(), not batches")

    def submit(
        self, batch: Batch, loop: asyncio.AbstractEventLoop, on_done: OnDone, timeout: float | None = None
    ) -> PendingRead:
        """Refuse likewise."""
        raise NotSupportedError("online_store.type: remote reads by ask_async(), not batches")

    async def read_async(self, batch: Batch, timeout: float | None = None) -> None:
        """Refuse likewise."""
        raise NotSupportedError("online_store.type: remote reads by ask_async(), not batches")

    def write(self, rows: EncodedRows, key_ttl_seconds: int | None = None) -> int:
        """Refuse likewise."""
        raise NotSupportedError("online_store.type: remote writes by ask(), not encoded rows")

    def create(self, plans: Iterable[WritePlan]) -> None:
        """Do nothing: the server's own `apply` does it."""

    def drop(self, plans: Iterable[WritePlan]) -> None:
        """Do nothing: the server's own `apply` does it."""

    def teardown(self, plans: Iterable[WritePlan]) -> None:
        """Do nothing: the rows are the server's."""

    def check(self) -> None:
        """Raise StoreError if the server does not answer, or says that it is not well."""
        self.ask(Request("/health", b"", repeatable=True, method="GET"))

    def usage(self) -> dict[str, int]:
        """See `Store.usage`."""
        found = self._async_pool.usage()
        return {**found, "open": found["open"] + self._pool.n_open, "idle": found["idle"] + self._pool.n_idle}

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()
        self._async_pool.close()

    # Code written for Feast, which has no close(), would otherwise be warned of open sockets.
    def __del__(self) -> None:
        if hasattr(self, "_async_pool"):  # not when the constructor raised
            self.close()

    def _leave_to_parent(self) -> None:
        self._pool.abandon()
        self._async_pool.forget()


class _Attempts:
    """What to do after each attempt of one request."""

    def __init__(self, store: RemoteStore, request: Request):
        timeout = store._timeout if request.timeout is None else request.timeout
        self.deadline = time.monotonic() + timeout
        self._repeatable = request.repeatable
        self._left = store._retries
        self._pause = FIRST_PAUSE

    def pause_after(self, answer: Answer) -> float | None:
        """Seconds to wait before another attempt; None if this answer is the last word."""
        if answer.status not in BUSY or not self._repeatable:
            return None
        return self._next_pause(answer.headers.get("retry-after", ""))

    def pause_after_failure(self, error: StoreError) -> float:
        """Seconds to wait before another attempt. Raises the error if there is to be none."""
        if isinstance(error, ConnectionLost):
            if not self._repeatable:
                raise StoreError(f"{error}; whether it was written is not known") from error
            if error.reused:
                return 0.0  # it had ended while it lay idle, as far as can be known; the next one is new or likewise
        pause = self._next_pause()
        if pause is None:
            raise error
        return pause

    def _next_pause(self, wished: str = "") -> float | None:
        pause = self._pause * random.uniform(0.5, 1)
        if wished.isascii() and wished.isdigit():
            pause = max(pause, min(float(wished), LAST_PAUSE))
        if not self._left or time.monotonic() + pause >= self.deadline:
            return None
        self._left -= 1
        self._pause = min(2 * self._pause, LAST_PAUSE)
        return pause


def _checked_token(token: str) -> str:
    # A line break would begin another header.
    if not token.isascii() or not token.isprintable():
        raise StoreError("auth: the token has characters that no header may have")
    return token


_stores: weakref.WeakSet[RemoteStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_stores):
        store._leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)
