"""Redis for asyncio: a Wire for each event loop that reads, and how its connections are made."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import AsyncGenerator
from typing import Any, cast

import hiredis

from fastserve._core import Batch
from fastserve.config import RedisConnection
from fastserve.errors import StoreError, StoreTimeoutError
from fastserve.stores.redis_multiplex import Link, Wire
from fastserve.stores.redis_wire import masked, reason, refusal, tls_context

__all__ = ["Wires"]


class Wires:
    """The wires of all event loops of the process.

    Attributes:
        by_loop: a Wire refers to its loop, so weak keys would not let go of it. A loop that ends as `asyncio.run` ends
            it takes its Wire along; of one that is just closed, the Wire goes when the next loop comes.
    """

    def __init__(self, options: RedisConnection, max_in_flight: int, max_waiting: int):
        self.by_loop: dict[asyncio.AbstractEventLoop, Wire] = {}
        self._options = options
        self._limits = max_in_flight, max_waiting
        self._ends: dict[Wire, AsyncGenerator[None, None]] = {}
        self._lock = threading.Lock()

    def add(self, loop: asyncio.AbstractEventLoop) -> Wire:
        """Make the Wire of a loop, which is running; nothing is connected before it reads."""
        wire = _new_wire(self._options, loop, *self._limits)
        with self._lock:
            for closed in [known for known in self.by_loop if known.is_closed()]:
                self._ends.pop(self.by_loop.pop(closed))
            self.by_loop[loop] = wire
            self._ends[wire] = end = self._end_with_loop(wire)
        with contextlib.suppress(StopIteration):
            end.asend(None).send(None)  # up to its `yield`, so that the loop knows of it
        return wire

    async def _end_with_loop(self, wire: Wire) -> AsyncGenerator[None, None]:
        """Close the Wire when the loop shuts its asynchronous generators down, of which this is one."""
        try:
            yield
        finally:
            self.by_loop.pop(wire.loop, None)
            self._ends.pop(wire, None)
            if not wire.is_closed:
                wire.close()
                await asyncio.sleep(0)  # the transport closes its socket in the next turn

    def usage(self) -> dict[str, int]:
        """Return numbers of all loops' connections and reads, see `Store.usage`."""
        wires = list(self.by_loop.values())
        links = [wire.link for wire in wires if wire.link is not None]
        in_flight = [len(link.in_flight) + len(link.bulk) for link in links]
        return {
            "open": len(links),
            "idle": in_flight.count(0),
            "in_flight": sum(in_flight),
            "waiting": sum(len(wire.waiting) for wire in wires),
        }

    def close(self) -> None:
        """End all connections; those of other threads' loops in the next turn of each."""
        with self._lock:
            wires = list(self.by_loop.values())
            self.by_loop.clear()
        for wire in wires:
            if _is_current(wire.loop):
                self._close(wire)
            else:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    wire.loop.call_soon_threadsafe(self._close, wire)

    def _close(self, wire: Wire) -> None:
        wire.close()
        end = self._ends.pop(wire, None)
        if end is not None:
            with contextlib.suppress(StopAsyncIteration):
                end.asend(None).send(None)

    def leave_to_parent(self) -> None:
        """After a fork: forget the loops of the parent.

        Nothing of them is closed or collected, for that would tell the parent's selector. Only the child's copies of
        the sockets are given up, so that the server sees the connection end when the parent's ends.
        """
        _of_parent.append((self.by_loop, self._ends))
        for wire in self.by_loop.values():
            if wire.link is not None:
                _detach(wire.link)


_of_parent: list[object] = []


def _detach(link: Link) -> None:
    sock = link.transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, sock.fileno())
        os.close(nothing)


def _is_current(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _new_wire(options: RedisConnection, loop: asyncio.AbstractEventLoop, max_in_flight: int, max_waiting: int) -> Wire:
    async def connect(link: Link) -> None:
        await _connect(options, loop, link)

    def refused(batch: Batch) -> StoreError:
        assert batch.refusal is not None
        text, key = batch.refusal
        return refusal(options.name, batch, key, text.decode("utf-8", "replace"))

    return Wire(options.name, loop, connect, options.socket_timeout, refused, max_in_flight, max_waiting)


async def _connect(options: RedisConnection, loop: asyncio.AbstractEventLoop, link: Link) -> None:
    """Connect, authenticate and select the database, all within `socket_connect_timeout`.

    Raises:
        StoreError: naming the server: refused, unknown host, wrong password, failed TLS handshake.
        StoreTimeoutError: no answer in time.
    """
    timeout = options.socket_connect_timeout
    greeting = _Greeting(options, loop)
    try:
        await asyncio.wait_for(_greet(options, loop, greeting), timeout)
    except BaseException as exc:
        if greeting.transport is not None:
            greeting.transport.abort()
        if isinstance(exc, StoreError):
            raise
        if isinstance(exc, (asyncio.TimeoutError, TimeoutError)):  # two classes before Python 3.11
            raise StoreTimeoutError(f"{options.name}: no connection within {timeout:g} s") from exc
        if isinstance(exc, (OSError, ValueError)):
            raise StoreError(f"{options.name}: cannot connect: {_why(exc)}") from exc
        raise
    transport = greeting.transport
    if transport is None or transport.is_closing():  # the link would never hear of it
        raise StoreError(f"{options.name}: the server closed the connection")
    link.transport, link.is_open = transport, True
    transport.set_protocol(link)


async def _greet(options: RedisConnection, loop: asyncio.AbstractEventLoop, greeting: _Greeting) -> None:
    if options.unix_socket_path:
        await loop.create_unix_connection(lambda: greeting, options.unix_socket_path)
    else:
        tls: dict[str, Any] = {"ssl": tls_context(options), "server_hostname": options.host} if options.ssl else {}
        transport, _ = await loop.create_connection(lambda: greeting, options.host, options.port, **tls)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if options.username or options.password:
        user = [options.username] if options.username else []
        await greeting.call("AUTH", *user, options.password or "")
    if options.db:
        await greeting.call("SELECT", str(options.db))


class _Greeting(asyncio.Protocol):
    """The connection until it is ready for reads: one command at a time."""

    transport: asyncio.Transport | None = None

    def __init__(self, options: RedisConnection, loop: asyncio.AbstractEventLoop):
        self._options = options
        self._loop = loop
        self._reader = hiredis.Reader()
        self._reply: asyncio.Future[Any] | None = None

    async def call(self, *words: str) -> None:
        """Send a command and wait for its reply. An error reply raises StoreError."""
        assert self.transport is not None
        self._reply = self._loop.create_future()
        self.transport.write(hiredis.pack_command(words))  # type: ignore[arg-type]
        reply = await self._reply
        if isinstance(reply, hiredis.ReplyError):
            raise StoreError(f"{self._options.name}: {words[0]}: {masked(self._options, str(reply))}")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            reply = self._reader.gets()
        except hiredis.ProtocolError as exc:
            reply = hiredis.ReplyError(f"the answer is not RESP: {exc}")
        if reply is not False and self._reply is not None and not self._reply.done():
            self._reply.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reply is not None and not self._reply.done():
            lost = StoreError(f"{self._options.name}: {exc or 'the server closed the connection'}")
            self._reply.set_exception(lost)


def _why(exc: OSError | ValueError) -> str:
    """asyncio's own texts name the address again, which the error has already."""
    if isinstance(exc, OSError) and exc.errno and not isinstance(exc, (ssl.SSLError, socket.gaierror)):
        return os.strerror(exc.errno)
    return reason(exc)
