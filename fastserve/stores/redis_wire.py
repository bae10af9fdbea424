"""One thin connection to Redis: connect, handshake, send commands, read replies, never past the deadline.

Replies that have the expected shape go into the batch as raw bytes; hiredis parses everything else.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterable
from typing import Any

import hiredis

from fastserve._core import Batch, EncodedRows, EncodedVectors, KeyGroup, UnusualReply
from fastserve.config import RedisConnection
from fastserve.errors import StoreError, StoreTimeoutError

__all__ = ["Connection", "ConnectionLost", "ScriptLost", "masked", "reason", "refusal", "tls_context"]

FIRST_BYTES = 1 << 11
"""So much of a large request is sent before the rest is framed, for the server to work on. Any socket takes as much at
once, so no time passes while it is sent."""
REST_BYTES = 1 << 20
"""So much is sent at once of what is left."""
PIECE_BYTES = 4000
"""The same where the server is near and its answers are large, as vectors are: Redis executes up to 16 KB of commands
before it answers the first of them, and meanwhile the client would have nothing to do."""
NEAR_SECONDS = 0.00015
"""A round trip to a server that is near. To another, waiting before the next piece would cost more than it gains."""
MIN_RTT_AT = 148  # of tcpi_min_rtt, u32 in us, in Linux's struct tcp_info (linux/tcp.h)
RECEIVE_BYTES = 1 << 16


class ConnectionLost(StoreError):
    """The connection ended before anything was answered."""


class ScriptLost(StoreError):
    """The server no longer knows a script that this connection had loaded."""


class Connection:
    """A connection, closed at first. Not thread-safe; after any error, also in `open`, it must be closed.

    Attributes:
        name: what errors call the server.
        scripts: hashes of the scripts that were loaded.
        trusted_until: the time of `time.monotonic` up to which the pool does not ask whether it is quiet.
    """

    _sock: socket.socket
    _poll: select.poll

    def __init__(self, options: RedisConnection):
        self.name = options.name
        self.is_open = False
        self.scripts: set[bytes] = set()
        self.trusted_until = 0.0
        self._options = options
        self._buffer = bytearray(RECEIVE_BYTES)
        self._patience = 0.0  # the time-out of the socket at this moment

    def open(self) -> float:
        """Connect, authenticate and select the database, all within `socket_connect_timeout`; return the seconds taken.

        The time to look up the name of a host is not limited: the system's resolver decides.

        Raises:
            StoreError: naming the server: refused, unknown host, wrong password, failed TLS handshake.
            StoreTimeoutError: no answer in time.
        """
        start = time.monotonic()
        timeout = self._options.socket_connect_timeout
        try:
            self._sock = _connect(self._options, start + timeout)
        except TimeoutError as exc:
            raise StoreTimeoutError(f"{self.name}: no connection within {timeout:g} s") from exc
        except (OSError, ValueError) as exc:  # ValueError: a host name that the resolver does not even take
            raise StoreError(f"{self.name}: cannot connect: {reason(exc)}") from exc
        self.is_open = True
        self._poll = select.poll()
        self._poll.register(self._sock.fileno(), select.POLLIN)
        self._handshake(start + timeout)
        return time.monotonic() - start

    def _handshake(self, deadline: float) -> None:
        if self._options.username or self._options.password:
            self._authenticate(deadline)
        if self._options.db:
            self.call(deadline, "SELECT", self._options.db)

    def _authenticate(self, deadline: float) -> None:
        user = [self._options.username] if self._options.username else []
        self.call(deadline, "AUTH", *user, self._options.password or "")

    def is_quiet(self) -> bool:
        """Whether the connection still stands, and no reply has come that nobody asked for."""
        return not self._poll.poll(0)

    def call(self, deadline: float, command: str, *arguments: str | int | bytes) -> Any:
        """Send one command and return its reply, bytes for text. An error reply raises StoreError."""
        words: Any = (command, *arguments)
        self._send(hiredis.pack_command(words), deadline)
        reply = self._parsed_reply(hiredis.Reader(), deadline, command)
        if isinstance(reply, hiredis.ReplyError):
            raise StoreError(f"{self.name}: {command}: {masked(self._options, str(reply))}")
        return reply

    def read(self, batch: Batch, deadline: float) -> None:
        """Send the batch's commands and feed it the replies.

        Raises:
            ConnectionLost: closed before the first byte of a reply.
            StoreTimeoutError: not done at `deadline` (of `time.monotonic`).
            StoreError: Redis answered with an error, or the connection broke.
        """
        if (commands := batch.commands(FIRST_BYTES)) is None:
            return
        self._send(commands, deadline)
        commands, piece = None, REST_BYTES
        if batch.unsent:
            if batch.plan.has_vectors and self._is_near():
                piece = PIECE_BYTES
            self._ask_more(batch, piece, deadline)
            commands = batch.commands(piece)
        size = self._receive()
        try:
            if commands is not None:
                self._send(commands, deadline)
            if not self._feed(batch, size, False, deadline):
                self._read_on(batch, piece, deadline)
        except ConnectionLost as exc:
            raise StoreError(f"{exc}, in the middle of its answer") from exc

    def _ask_more(self, batch: Batch, piece: int, deadline: float) -> None:
        if (commands := batch.commands(piece)) is not None:
            self._send(commands, deadline)

    def _read_on(self, batch: Batch, piece: int, deadline: float) -> None:
        """Read what is still to come; send, piece by piece, what is still to be asked for."""
        done = False
        while not done:
            commands = batch.commands(piece)  # framed while the server works on those before
            self._limit(deadline)
            size = self._receive(batch)
            if commands is not None:
                self._send(commands, deadline)
            done = self._feed(batch, size, True, deadline)

    def _is_near(self) -> bool:
        """Whether a round trip to the server takes next to no time."""
        if self._sock.family == socket.AF_UNIX:
            return True
        if not hasattr(socket, "TCP_INFO"):
            return False
        info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, MIN_RTT_AT + 4)
        return len(info) > MIN_RTT_AT and int.from_bytes(info[MIN_RTT_AT:], sys.byteorder) < NEAR_SECONDS * 1e6

    def write(self, rows: EncodedRows | EncodedVectors, pieces: Iterable[bytes], timeout: float) -> None:
        """Send the rows' calls piece by piece and let the rows count the replies; each may take `timeout` seconds.

        While the server works on one piece, the next is encoded and sent.

        Raises:
            ConnectionLost: closed before the first byte of a reply.
            ScriptLost: SCRIPT FLUSH was called.
            StoreTimeoutError: a piece was not sent, or the one before not answered, in time.
            StoreError: Redis answered with an error, or the connection broke. Some rows may have been applied.
        """
        calls = 0
        try:
            for piece in pieces:
                deadline = time.monotonic() + timeout
                before, calls = calls, rows.handed_out
                self._send(piece, deadline)
                self._take_replies(rows, before, deadline)
            self._take_replies(rows, calls, time.monotonic() + timeout)
        except ConnectionLost as exc:
            if rows.answered:
                raise StoreError(f"{exc}, in the middle of its answer") from exc
            raise

    def _take_replies(self, rows: EncodedRows | EncodedVectors, calls: int, deadline: float) -> None:
        """Receive until that many calls are answered."""
        while rows.answered < calls:
            self._limit(deadline)
            size = self._receive()
            try:
                rows.feed(self._buffer, size)
            except UnusualReply as exc:
                raise self._refusal(rows, exc, deadline) from None

    def _refusal(self, rows: EncodedRows | EncodedVectors, exc: UnusualReply, deadline: float) -> StoreError:
        """The error that says what is wrong with the answer to a call, and about which key if that can be known."""
        reader = hiredis.Reader()
        reader.feed(exc.rest)
        reply = self._parsed_reply(reader, deadline, "EVALSHA")
        text = str(reply) if isinstance(reply, hiredis.ReplyError) else f"not a number but {type(reply).__name__}"
        if text.startswith("NOSCRIPT"):
            return ScriptLost(f"{self.name}: EVALSHA: {text}")
        if place := re.search(r" \(row (\d+) of the call\)", text):
            key = rows.entity_key(rows.first_unanswered + int(place[1]) - 1)
            text = f"{text[: place.start()]}{text[place.end() :]}, entity key {key.hex()}"
        what = rows.plan.view if isinstance(rows, EncodedRows) else "vectors"
        return StoreError(f"{self.name}: writing {what}: {text}")

    def _feed(self, batch: Batch, size: int, in_batch: bool, deadline: float) -> bool:
        """Let the batch take what was received, there or into the buffer."""
        try:
            return batch.feed_received(size) if in_batch else batch.feed(self._buffer, size)
        except UnusualReply as exc:
            reader = hiredis.Reader()
            reader.feed(exc.rest)
            reply = self._parsed_reply(reader, deadline, _read_place(batch, exc.key))
            raise refusal(self.name, batch, exc.key, _fault(reply)) from None

    def _parsed_reply(self, reader: hiredis.Reader, deadline: float, command: str) -> Any:
        """Return the reply, or the ReplyError that it is."""
        try:
            while (reply := reader.gets()) is False:
                self._limit(deadline)
                reader.feed(bytes(self._buffer[: self._receive()]))
        except hiredis.ProtocolError as exc:
            raise StoreError(f"{self.name}: {command}: the answer is not RESP: {exc}") from exc
        except ConnectionLost as exc:
            raise ConnectionLost(f"{exc}, while answering {command}") from exc
        return reply

    def _send(self, data: bytes, deadline: float) -> None:
        try:
            self._limit(deadline)
            sent = self._sock.send(data)
            while sent < len(data):
                self._limit(deadline)
                sent += self._sock.send(memoryview(data)[sent:])
        except (TimeoutError, BlockingIOError) as exc:
            raise self._timeout() from exc
        except OSError as exc:
            raise ConnectionLost(f"{self.name}: {reason(exc)}") from exc

    def _receive(self, room: Any = None) -> int:
        """Read what has come into the buffer, or into a Batch; return how many bytes, at least one.

        It takes no longer than the limit set last.
        """
        try:
            size = self._sock.recv_into(self._buffer if room is None else room)
        except (TimeoutError, BlockingIOError) as exc:
            raise self._timeout() from exc
        except OSError as exc:
            raise ConnectionLost(f"{self.name}: {reason(exc)}") from exc
        if not size:
            raise ConnectionLost(f"{self.name}: the server closed the connection")
        return size

    def _limit(self, deadline: float) -> None:
        """Let the next operation on the socket take no longer than what is left, give or take a twentieth."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._timeout()
        if not self._patience * 0.95 <= left <= self._patience * 1.05:
            self._set_patience(left)

    def _set_patience(self, seconds: float) -> None:
        """Set the time-out of all later operations.

        The kernel keeps it: with Python's own time-outs each operation would take a second system call to wait. Under
        TLS an operation is more than one call, so there it is Python's.
        """
        if isinstance(self._sock, ssl.SSLSocket):
            self._sock.settimeout(seconds)
        else:
            self._sock.settimeout(None)
            value = _timeval(seconds)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
        self._patience = seconds

    def _timeout(self) -> StoreTimeoutError:
        return StoreTimeoutError(f"{self.name}: no answer within the deadline (socket_timeout)")

    def bare(self) -> socket.socket:
        """Return the socket of an open connection, for measurements; its operations may take `socket_timeout` each."""
        self._set_patience(self._options.socket_timeout)
        return self._sock

    def close(self) -> None:
        """Close the socket; whatever the server still sends is lost."""
        if self.is_open:
            self._sock.close()


def _timeval(seconds: float) -> bytes:
    """C's struct timeval; never 0, which would mean to wait for ever."""
    whole = int(seconds)
    return struct.pack("ll", whole, max(int((seconds - whole) * 1_000_000), 0 if whole else 1))


def reason(exc: Exception) -> str:
    """What went wrong, in the words of the system."""
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)


def masked(options: RedisConnection, text: str) -> str:
    """A server that does not know a command repeats its arguments, which may be the password."""
    return text.replace(options.password, "***") if options.password else text


def refusal(name: str, batch: Batch, key: bytes, fault: str) -> StoreError:
    """The error for a read that the server did not answer as it must; `key` is the entity key it was about."""
    return StoreError(f"{name}: {_read_place(batch, key)}: {fault}")


def _command(group: KeyGroup) -> str:
    if group.vector_format == "packed":
        return "MGET"
    return "HGETALL" if group.whole_hash else "HMGET"


def _read_place(batch: Batch, key: bytes) -> str:
    command = " or ".join(sorted({_command(group) for group in batch.groups}))
    return f"{command}, entity key {key.hex()}"


def _fault(reply: Any) -> str:
    """What is wrong with a reply; not what is in it, for values are nobody's business but the caller's."""
    if isinstance(reply, hiredis.ReplyError):
        return str(reply)
    shape = f"an array of {len(reply)}" if isinstance(reply, list) else f"not an array but {type(reply).__name__}"
    return f"unexpected reply, {shape}"


# --- connecting ------------------------------------------------------------------------------------------------------


def _connect(options: RedisConnection, deadline: float) -> socket.socket:
    if options.unix_socket_path:
        return _connected(socket.AF_UNIX, options.unix_socket_path, _left(deadline))
    sock = _connect_tcp(options, deadline)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not options.ssl:
            return sock
        context = tls_context(options)
        sock.settimeout(_left(deadline))
        return context.wrap_socket(sock, server_hostname=options.host)
    except BaseException:
        sock.close()
        raise


def _connect_tcp(options: RedisConnection, deadline: float) -> socket.socket:
    """Try the addresses of the host in turn; each may take its share of the time that is left."""
    addresses = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    for untried, (family, *_, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            return _connected(family, address, _left(deadline) / untried)
        except OSError:
            if untried == 1:
                raise
    raise OSError("the host has no address")


def _connected(family: int, address: Any, timeout: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
        return sock
    except BaseException:
        sock.close()
        raise


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def tls_context(options: RedisConnection) -> ssl.SSLContext:
    """Return what a TLS connection needs. Raises OSError naming the option whose file is at fault."""
    context = _trusting(options)
    if options.ssl_cert_reqs == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.check_hostname = options.ssl_check_hostname
        context.verify_mode = ssl.CERT_OPTIONAL if options.ssl_cert_reqs == "optional" else ssl.CERT_REQUIRED
    if options.ssl_certfile:
        try:
            # With no password given, OpenSSL would ask for that of an encrypted key on the terminal.
            context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile, password="")
        except OSError as exc:
            files = f"ssl_certfile {options.ssl_certfile}, ssl_keyfile {options.ssl_keyfile}"
            raise OSError(f"{files}: {reason(exc)}") from exc
    return context


def _trusting(options: RedisConnection) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=options.ssl_ca_certs)
    except OSError as exc:
        raise OSError(f"ssl_ca_certs {options.ssl_ca_certs}: {reason(exc)}") from exc
