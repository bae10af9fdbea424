"""A TCP server that does what a test tells it, for everything that a real Redis does too seldom.

    with ScriptedServer(answer, hang_up) as server:        # what happens on the first connection, on the second ...
        RedisStore(connection_to(server)).read(batch([1, 2]))
    assert server.accepted == 1

Scripts are functions of a `Peer`; the connection is closed when they return. An exception in one fails the test.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from fastserve._core import Batch, python_columns
from fastserve.config import RedisConnection
from fastserve.stores.redis_wire import Connection
from tests import reference
from tests.reference import INT64
from tests.stores import content

PATIENCE = 10.0
"""Seconds after which a script, or a wait for one, gives up: only a failing test comes near them."""


class Peer:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket, number: int):
        self.sock = sock
        self.number = number
        """How many connections came before."""
        self.received = b""

    def commands(self, count: int = 1) -> list[list[bytes]]:
        """Wait for `count` whole commands and return their words.

        Raises:
            EOFError: the client closed the connection.
        """
        while True:
            with contextlib.suppress(ValueError, IndexError):
                return self._take(count)
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError
            self.received += data

    def _take(self, count: int) -> list[list[bytes]]:
        taken, at = [], 0
        for _ in range(count):
            words, at = reference.parse_reply(self.received, at)
            if at > len(self.received):
                raise ValueError("the last word is not all there")
            taken.append(words)
        self.received = self.received[at:]
        return taken

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes, pause: float) -> None:
        """Send one byte at a time until the client has enough of it."""
        with contextlib.suppress(OSError):
            for byte in data:
                self.sock.sendall(bytes([byte]))
                time.sleep(pause)

    def wait_for_end(self) -> None:
        """Wait until the client closes the connection; TimeoutError if it does not."""
        with contextlib.suppress(ConnectionError):
            while self.sock.recv(1 << 16):
                pass

    def reset(self) -> None:
        """End the connection as a crashed server does: with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Script = Callable[[Peer], object]


class ScriptedServer:
    """A listener on 127.0.0.1, each connection on a thread of its own; a context manager.

    Args:
        scripts: of the first connection, of the second, ...; later ones get the last.
        port: a free one by default.
        tls: makes it a TLS server.
    """

    def __init__(self, *scripts: Script, port: int = 0, tls: ssl.SSLContext | None = None):
        self._scripts = scripts
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.02)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._errors: list[BaseException] = []
        self.accepted = 0
        self.ended = 0
        """Scripts that are through."""

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                sock, _ = self._listener.accept()
                sock.settimeout(PATIENCE)
                script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
                thread = threading.Thread(target=self._run, args=(script, Peer(sock, self.accepted)), daemon=True)
                self.accepted += 1
                self._threads.append(thread)
                thread.start()

    def _run(self, script: Script, peer: Peer) -> None:
        try:
            if self._shook_hands(peer):
                script(peer)
        except BaseException as exc:
            self._errors.append(exc)
        finally:
            peer.sock.close()
            self.ended += 1

    def _shook_hands(self, peer: Peer) -> bool:
        if self._tls is not None:
            try:
                peer.sock = self._tls.wrap_socket(peer.sock, server_side=True)
            except OSError:  # the point of some tests
                return False
        return True

    def __enter__(self) -> ScriptedServer:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()
        if error is None:
            assert not any(thread.is_alive() for thread in self._threads), "a script did not end"
            if self._errors:
                raise self._errors[0]

    def wait_until_ended(self, count: int) -> None:
        """Wait until `count` scripts are through."""
        wait_until(lambda: self.ended >= count)


def wait_until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds; fail if it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


# --- scripts ---------------------------------------------------------------------------------------------------------


def answer(peer: Peer) -> None:
    """Answer every command rightly until the client closes."""
    with contextlib.suppress(EOFError):
        while True:
            peer.send(reply_to(peer.commands()[0]))


def hang_up(peer: Peer) -> None:
    """Close at once."""


def swallow(peer: Peer) -> None:
    """Read, and never answer."""
    peer.wait_for_end()


def send_once(data: bytes, count: int = 1) -> Script:
    """Return a script that sends `data` after `count` commands, and then waits for the client to close."""

    def script(peer: Peer) -> None:
        peer.commands(count)
        peer.send(data)
        peer.wait_for_end()

    return script


def send_and_close(data: bytes, count: int = 1) -> Script:
    """Return a script that sends `data` after `count` commands, and closes the connection."""

    def script(peer: Peer) -> None:
        peer.commands(count)
        peer.send(data)

    return script


# --- one small view, whose numbers follow from the keys --------------------------------------------------------------

VIEW = content.View("numbers", ("number",), ("id",), (INT64,))
PLAN = content.plan([VIEW])


def batch(ids: list[int]) -> Batch:
    """Return a batch that asks for the numbers of some ids: one HMGET with two fields for each distinct one."""
    return content.batch_of(PLAN, id=ids)


def numbers(filled: Batch) -> list[Any]:
    """Return the answer of such a batch."""
    return python_columns(filled)["numbers:number"]


def numbers_of(ids: list[int]) -> list[int]:
    """Return what the answer must be."""
    return [_number(redis_key(one)) for one in ids]


def redis_key(one: int) -> bytes:
    """Return the key of an id's hash."""
    return content.entity_key(VIEW, [one]) + content.PROJECT.encode()


def rows(ids: list[int]) -> list[content.Row]:
    """Return the rows for a real store."""
    return [content.Row((one,), {"number": _number(redis_key(one))}) for one in ids]


def replies(ids: list[int]) -> bytes:
    """Return the right replies to the batch's commands."""
    return b"".join(reply_to([b"HMGET", redis_key(one), b"abcd", b"_ts:numbers"]) for one in ids)


def reply_to(command: list[bytes]) -> bytes:
    """Return the right reply to AUTH, SELECT or HMGET."""
    if command[0] != b"HMGET":
        return b"+OK\r\n"
    number, moment = content.stored(_number(command[1])), reference.encode_timestamp(content.TIME)
    values = [moment if field.startswith(b"_ts:") else number for field in command[2:]]
    return b"*%d\r\n" % len(values) + b"".join(b"$%d\r\n%b\r\n" % (len(value), value) for value in values)


def _number(key: bytes) -> int:
    return reference.murmur3_32(key)


@contextlib.contextmanager
def opened(options: RedisConnection) -> Iterator[Connection]:
    """Open a connection, and close it in the end."""
    connection = Connection(options)
    try:
        connection.open()
        yield connection
    finally:
        connection.close()


def connection_to(server: ScriptedServer, **options: Any) -> RedisConnection:
    """Return how to reach the server; without other options its timeouts are long."""
    limits = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
    return RedisConnection(**{"host": "127.0.0.1", "port": server.port, **limits, **options})
