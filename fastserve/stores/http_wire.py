"""HTTP/1.1 as a client of a feature server speaks it: the bytes of answers, and one connection.

A request is one POST with a body of known length. An answer's body ends by its Content-Length, by its last chunk, or
with the connection. Nothing is asked before the last answer is in (no pipelining).
"""

from __future__ import annotations

import select
import socket
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastserve.errors import ConfigError, StoreError, StoreTimeoutError
from fastserve.stores.sockets import Patience, connect_tcp, reason_of, time_left

__all__ = ["Answer", "AnswerReader", "Connection", "ConnectionLost", "Endpoint", "GarbledAnswer", "NotConnected"]

RECEIVE_BYTES = 1 << 16
MAX_HEAD_BYTES = 1 << 16
MAX_LINE_BYTES = 4096
NO_BODY = frozenset({204, 304})


class NotConnected(StoreError):
    """There is no connection to the server, so it knows nothing of the request."""


class ConnectionLost(StoreError):
    """The connection ended before anything was answered; the server may have done what it was asked for.

    Attributes:
        reused: it had lain idle before, so it may have ended without regard to this request.
    """

    reused = False


class GarbledAnswer(StoreError):
    """What the server answered is not HTTP."""


@dataclass(frozen=True)
class Endpoint:
    """Where a feature server is.

    Attributes:
        url: as configured, for errors; without user and password.
        host, port: to connect to.
        host_header: the value of the header Host.
        prefix: what all paths begin with.
        tls: how to check its certificate, or None for plain HTTP.
    """

    url: str
    host: str
    port: int
    host_header: str
    prefix: str
    tls: ssl.SSLContext | None = field(repr=False)

    @classmethod
    def parse(cls, url: str, cert: str | None) -> Endpoint:
        """Return the endpoint of a URL.

        Args:
            cert: a file with certificates of authorities, or "" for the system's.
        Raises:
            ConfigError: it is not a URL of http or https; the certificates cannot be read.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise ConfigError(f"online_store.path: not a URL: {exc}") from None
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise ConfigError("online_store.path: a URL like http://host:6566 expected")
        if parts.username is not None or parts.password is not None:
            raise ConfigError("online_store.path: user and password do not belong into the URL; see the section auth")
        secure = parts.scheme == "https"
        return cls(
            url=url,
            host=host,
            port=port or (443 if secure else 80),
            host_header=parts.netloc,
            prefix=parts.path.rstrip("/"),
            tls=_context(cert) if secure else None,
        )


def _context(cert: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=cert or None)
    except OSError as exc:
        raise ConfigError(f"online_store.cert: {cert}: {reason_of(exc)}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


# --- answers ---------------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """An answer.

    Attributes:
        headers: name in lower case -> value; of several with one name the last.
        keep_alive: the connection can be used again.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    keep_alive: bool

    @property
    def media_type(self) -> str:
        """The Content-Type without parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class AnswerReader:
    """Takes the bytes of one answer as they come.

    Attributes:
        started: something has come.
    """

    def __init__(self) -> None:
        self.started = False
        self._beginning = b""
        self._head: Answer | None = None
        self._mode = ""
        self._pieces: list[bytes] = []
        self._missing = 0
        self._rest = bytearray()

    def feed(self, data: bytes) -> Answer | None:
        """Take bytes; return the answer when it is complete. Raises GarbledAnswer."""
        self.started = True
        if self._head is None:
            return self._read_head(self._beginning + data if self._beginning else data)
        if self._mode == "length":
            return self._take(data)
        self._rest += data
        return self._read_chunks() if self._mode == "chunked" else None

    def end(self) -> Answer | None:
        """Tell that the connection has ended; return the answer if that was to end its body."""
        if self._head is None or self._mode != "end":
            return None
        self._head.body = bytes(self._rest)
        return self._head

    def _read_head(self, data: bytes) -> Answer | None:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > MAX_HEAD_BYTES or not b"HTTP/1.".startswith(data[:7]):
                raise GarbledAnswer("not an answer in HTTP/1.1")
            self._beginning = data
            return None
        found = _parse_head(data[:end])
        if found.status < 200:  # an interim answer
            self._beginning = b""
            return self._read_head(data[end + 4 :]) if len(data) > end + 4 else None
        self._head = found
        return self._begin_body(found, data[end + 4 :])

    def _begin_body(self, head: Answer, data: bytes) -> Answer | None:
        coding = head.headers.get("transfer-encoding")
        length = "0" if head.status in NO_BODY else head.headers.get("content-length")
        if coding is not None:
            if coding.lower() != "chunked":
                raise GarbledAnswer(f"transfer-encoding {coding!r}")
            self._mode, self._rest = "chunked", bytearray(data)
            return self._read_chunks()
        if length is None:
            self._mode, self._rest, head.keep_alive = "end", bytearray(data), False
            return None
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            raise GarbledAnswer(f"content-length {length!r}")
        self._mode, self._missing = "length", int(length)
        return self._take(data)

    def _take(self, data: bytes) -> Answer | None:
        assert self._head is not None
        if len(data) > self._missing:
            data = data[: self._missing]
            self._head.keep_alive = False  # what follows belongs to no request
        self._missing -= len(data)
        self._pieces.append(data)
        if self._missing:
            return None
        self._head.body = data if len(self._pieces) == 1 else b"".join(self._pieces)
        return self._head

    def _read_chunks(self) -> Answer | None:
        assert self._head is not None
        while True:
            size, after = self._chunk_size()
            if size < 0:
                return None
            if size == 0:
                return self._read_trailer(after)
            if len(self._rest) < after + size + 2:
                return None
            if self._rest[after + size : after + size + 2] != b"\r\n":
                raise GarbledAnswer("a chunk is longer than it says")
            self._pieces.append(bytes(self._rest[after : after + size]))
            del self._rest[: after + size + 2]

    def _chunk_size(self) -> tuple[int, int]:
        """Return the size of the next chunk and where it starts; -1 when that has not come."""
        end = self._rest.find(b"\r\n")
        if end < 0:
            if len(self._rest) > MAX_LINE_BYTES:
                raise GarbledAnswer("a chunk without size")
            return -1, 0
        text = self._rest[:end].partition(b";")[0].strip()
        try:
            size = int(text, 16)
        except ValueError:
            size = -1
        if size < 0 or len(text) > 8:
            raise GarbledAnswer(f"chunk size {text[:20]!r}")
        return size, end + 2

    def _read_trailer(self, start: int) -> Answer | None:
        assert self._head is not None
        rest = self._rest[start:]
        if rest.startswith(b"\r\n"):
            end = 2
        else:
            end = rest.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(rest) > MAX_HEAD_BYTES:
                    raise GarbledAnswer("an endless trailer")
                return None
        if len(rest) > end:
            self._head.keep_alive = False
        self._head.body = b"".join(self._pieces)
        return self._head


def _parse_head(head: bytes) -> Answer:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (code.isascii() and code.isdigit()) or rest[3:4] not in ("", " "):
        raise GarbledAnswer(f"status line {first[:60]!r}")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise GarbledAnswer(f"header {line[:60]!r}")
        headers[name.lower()] = value.strip()
    option = headers.get("connection", "").lower()
    return Answer(int(code), headers, b"", option != "close" if version == "HTTP/1.1" else option == "keep-alive")


# --- one connection --------------------------------------------------------------------------------------------------


class Connection:
    """A connection, closed at first. Not thread-safe; after any error, also in `open`, it must be closed."""

    _sock: socket.socket
    _patience: Patience
    _poll: select.poll

    def __init__(self, endpoint: Endpoint):
        self.is_open = False
        self.idle_since = 0.0
        self._endpoint = endpoint

    def open(self, deadline: float) -> None:
        """Connect, until `deadline` (of `time.monotonic`). Raises NotConnected, StoreTimeoutError."""
        url = self._endpoint.url
        try:
            self._sock = _connect(self._endpoint, deadline)
        except TimeoutError as exc:
            raise StoreTimeoutError(f"{url}: no connection in time") from exc
        except (OSError, ValueError) as exc:  # ValueError: a host name that the resolver does not even take
            raise NotConnected(f"{url}: cannot connect: {reason_of(exc)}") from exc
        self.is_open = True
        self._patience = Patience(self._sock)
        self._poll = select.poll()
        self._poll.register(self._sock.fileno(), select.POLLIN)

    def is_quiet(self) -> bool:
        """Whether the connection still stands, and nothing has come that nobody asked for."""
        return not self._poll.poll(0)

    def exchange(self, request: bytes, deadline: float) -> Answer:
        """Send a request and return the answer to it.

        Raises:
            ConnectionLost: the connection ended before the first byte of an answer.
            GarbledAnswer: what came is not HTTP.
            StoreTimeoutError: the answer is not complete at `deadline`.
            StoreError: the connection broke in the middle of the answer.
        """
        reader = AnswerReader()
        try:
            self._send(request, deadline)
            while True:
                data = self._sock.recv(RECEIVE_BYTES)
                answer = reader.feed(data) if data else reader.end()
                if answer is not None:
                    return answer
                if not data:
                    raise EOFError("the server closed the connection")
                self._patience.limit(deadline)
        except (TimeoutError, BlockingIOError) as exc:
            raise StoreTimeoutError(f"{self._endpoint.url}: no answer in time") from exc
        except GarbledAnswer as exc:
            raise GarbledAnswer(f"{self._endpoint.url}: {exc}") from exc
        except (OSError, EOFError) as exc:
            raise self._broken(reader, exc) from exc

    def _broken(self, reader: AnswerReader, exc: Exception) -> StoreError:
        if reader.started:
            return StoreError(f"{self._endpoint.url}: {reason_of(exc)}, in the middle of its answer")
        return ConnectionLost(f"{self._endpoint.url}: {reason_of(exc)}")

    def _send(self, request: bytes, deadline: float) -> None:
        rest = memoryview(request)
        try:
            while rest:
                self._patience.limit(deadline)
                rest = rest[self._sock.send(rest) :]
        except (BrokenPipeError, ConnectionResetError):
            pass  # a server that refuses a request need not read all of it: its answer may be there

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self.is_open:
            self.is_open = False
            self._sock.close()


def _connect(endpoint: Endpoint, deadline: float) -> socket.socket:
    sock = connect_tcp(endpoint.host, endpoint.port, deadline)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if endpoint.tls is None:
            return sock
        sock.settimeout(time_left(deadline))
        return endpoint.tls.wrap_socket(sock, server_hostname=endpoint.host)
    except BaseException:
        sock.close()
        raise
