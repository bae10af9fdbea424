"""A connection of a client: what is wrong on the level of HTTP gets an answer, and slow clients get an end.

uvicorn's httptools protocol, with these differences:

    not HTTP, a bad URL                   400   uvicorn: plain text, and earlier requests of the connection are dropped
    slow headers or body                  408   uvicorn: waits for ever
    a body over the limit                 413   before it is read, where its length is announced
    headers over the limit                431   uvicorn: reads on
    more connections than a worker takes  503   with Retry-After

These answers are JSON, close the connection, and come after the answers to the requests before. What a client sends
behind them is read and dropped for a while, since closing at once would make the kernel take the answer back.

Times are looked at a few times a second for all connections together, instead of a timer for each request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, cast

import httptools
import msgspec
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from fastserve.errors import BodyTooLargeError
from fastserve.server.answers import JSON, RETRY_AFTER_SECONDS, Answer
from fastserve.server.hooks import OTHER, Hooks
from fastserve.server.limits import Life

__all__ = ["LIFE", "HttpProtocol"]

logger = logging.getLogger("fastserve.server")

LIFE = "fastserve_life"
HOOKS = "fastserve_hooks"
"""The keys of the lifespan state under which the application gives its Life and its Hooks to the protocol."""

IDLE, HEAD, BODY, ANSWERING, OVER = range(5)
"""What a connection waits for: a request, the rest of its headers, of its body, our answer, or its own end."""

SWEEP_SECONDS = 0.25
LINGER_SECONDS = 5.0
STALL_SECONDS = 60.0
"""How long a client may leave answers unread."""

HEADER_BYTES = 64 << 10

Cycle = Any
"""uvicorn's RequestResponseCycle, or what stands in its place."""


class HttpProtocol(HttpToolsProtocol):
    """A connection. Attributes beside uvicorn's:

    phase: see IDLE.
    since: the loop's time when that began.
    receiving: the request whose body is coming in.
    running: the request that is being answered; `cycle` is the newest, which may wait behind it.
    is_last: the server ends; no request follows the ones at hand.
    """

    cycle: Cycle

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.life: Life = self.app_state[LIFE]
        self.hooks: Hooks = self.app_state[HOOKS]
        self.limits = self.life.limits
        self.phase = IDLE
        self.since = self.loop.time()
        self.stalled: float | None = None
        self.head_bytes = 0
        self.receiving: Cycle | None = None
        self.running: Cycle | None = None
        self.last_words = b""
        self.is_last = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if not self.life.is_swept:
            self.life.is_swept = True
            self.loop.call_later(SWEEP_SECONDS, _sweep, self.loop, self.life, self.connections)
        super().connection_made(transport)
        self.flow = _Flow(self)

    @property
    def client_address(self) -> str:
        """The client's address and port, or nothing for a unix socket."""
        return f"{self.client[0]}:{self.client[1]}" if self.client else ""

    @property
    def is_answering(self) -> bool:
        """Whether a request has been begun and has no answer yet; others may wait behind it."""
        return bool(self.running is not None and not self.running.response_complete)

    @property
    def is_one_too_many(self) -> bool:
        """Whether the worker has more connections than it takes."""
        return bool(len(self.connections) > self.limits.connections > 0)

    # --- what comes ---

    def data_received(self, data: bytes) -> None:
        if self.phase == OVER:
            return
        if self.phase == IDLE:
            self.enter(HEAD)
        self.head_bytes += len(data)
        self._parse(data)
        if self.phase == HEAD and self.head_bytes > HEADER_BYTES:
            self.refuse(431, f"the headers are longer than {HEADER_BYTES} bytes")

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as exc:
                data = self._without_upgrade(data[exc.args[0] :])
            except httptools.HttpParserError as exc:
                self.refuse(400, f"not a valid HTTP request: {exc.__context__ or exc}")
                return

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Return a request, and what follows, without its wish for another protocol: no server has to grant it, but the
        parser would. Java's client asks for HTTP/2 with every request.
        """
        if self.parser.get_method() == b"CONNECT":
            self.refuse(405, "CONNECT is for proxies")
            return b""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in (b"upgrade", b"connection")]
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*lines, b"", rest])

    def enter(self, phase: int) -> None:
        """Wait for something else from now on."""
        self.phase = phase
        self.since = self.loop.time()
        if phase == HEAD:
            self.head_bytes = 0

    def on_message_begin(self) -> None:
        # The scope is made when it is known that ASGI needs one.
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        if self.phase not in (OVER, HEAD):
            self.enter(HEAD)

    def on_headers_complete(self) -> None:
        if self.phase == OVER or self.parser.should_upgrade():
            return
        limits = self.limits
        if self.is_one_too_many:
            self.refuse(503, f"this worker has {limits.connections} connections already", retry=True)
        elif self._announced() > limits.body_bytes > 0:
            self.refuse(413, str(BodyTooLargeError(limits.body_bytes)))
        else:
            self.begin()
            self.receiving = self.cycle
            self.enter(BODY)

    def _announced(self) -> int:
        length = next((value for name, value in self.headers if name == b"content-length"), b"0")
        return int(length) if length.isdigit() else 0

    def begin(self) -> None:
        """Begin the request whose headers came: hand it to the ASGI application."""
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)  # the scope has the list itself
        super().on_headers_complete()
        if self.is_last or self.life.draining:
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        if self.phase == BODY:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.phase == BODY:
            super().on_message_complete()
            self.receiving = None
            self.enter(ANSWERING if self.is_answering else IDLE)

    # --- what is answered ---

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.phase == OVER:
            self._say_last_words()
        elif self.phase == ANSWERING:
            self.enter(IDLE)
        self.flow.resume_reading()

    def headed(self, answer: Answer, is_last: bool, more: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
        """Return an answer as it is sent, its headers in the order in which Starlette and uvicorn send them."""
        parts = [self._start_of(answer.status)]
        parts += [b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in answer.headers.items()]
        parts.append(b"content-length: %d\r\ncontent-type: %b\r\n" % (len(answer.body), answer.media_type.encode()))
        parts += [b"%b: %b\r\n" % header for header in more]
        parts.append(b"connection: close\r\n\r\n" if is_last else b"\r\n")
        parts.append(answer.body)
        return b"".join(parts)

    def _start_of(self, status: int) -> bytes:
        """Return the status line and the headers that stay for a second; uvicorn then has a new list of them."""
        defaults = self.server_state.default_headers
        known = self.life.starts.get(status)
        if known is None or known[0] is not defaults:
            text = b"".join([STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in defaults)])
            self.life.starts[status] = known = (defaults, text)
        return known[1]

    def refuse(self, status: int, text: str, retry: bool = False) -> None:
        """Answer the request that is coming in, or what should be one, and end the connection."""
        logger.warning("%s: %s", self.client_address or "a client", text)
        self.hooks.meters.answered(OTHER, status)
        headers = {"retry-after": RETRY_AFTER_SECONDS} if retry else {}
        answer = Answer(msgspec.json.encode({"detail": text}), status, JSON, headers)
        self.last_words = self.headed(answer, is_last=True)
        self.enter(OVER)
        if self.receiving is not None:
            self._drop(self.receiving)
        if not self.is_answering:
            self._say_last_words()

    def _drop(self, cycle: Cycle) -> None:
        """Forget the request whose body was coming in."""
        queued = next((entry for entry in self.pipeline if entry[0] is cycle), None)
        if queued is not None:
            self.pipeline.remove(queued)
            return  # the one before it is being answered, and speaks the last words
        if getattr(cycle, "response_started", False):
            self.last_words = b""
        cycle.disconnected = True
        cycle.message_event.set()
        cycle.response_complete = True

    def _say_last_words(self) -> None:
        self.since = self.loop.time()
        if self.transport.is_closing():
            return
        self.transport.write(self.last_words)
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # uvicorn tells the newest alone, and the others write to nobody.
        for cycle in (self.running, *(queued for queued, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()

    # --- time ---

    def check_time(self, now: float) -> None:
        """End what takes too long."""
        limits, waited = self.limits, now - self.since
        if self.stalled is not None and now - self.stalled > STALL_SECONDS:
            self.transport.abort()
        elif self.phase == IDLE and waited > limits.keep_alive:
            self.transport.close()
        elif self.phase == HEAD and waited > limits.header_timeout > 0:
            self.refuse(408, f"the headers did not come within {limits.header_timeout:g} seconds")
        elif self.phase == BODY and waited > limits.body_timeout > 0:
            self.refuse(408, f"the body did not come within {limits.body_timeout:g} seconds")
        elif self.phase == OVER and not self.is_answering and waited > LINGER_SECONDS:
            self.transport.abort()

    def pause_writing(self) -> None:
        # Whoever does not read answers gets to ask nothing more.
        super().pause_writing()
        self.flow.pause_reading()
        self.stalled = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.resume_reading()
        self.stalled = None

    def shutdown(self) -> None:
        """Called by uvicorn when the server ends: what is begun is finished."""
        self.is_last = True
        if self.is_answering:
            self.cycle.keep_alive = False
        elif self.receiving is None and self.phase != HEAD:
            self.transport.close()


class _Flow(FlowControl):
    """Reads no further while requests wait in the queue, or answers for the client to read them: uvicorn's would, and
    whoever asks on and on without reading would fill the memory.
    """

    def __init__(self, protocol: HttpProtocol):
        super().__init__(protocol.transport)
        self._protocol = protocol

    def resume_reading(self) -> None:
        if not (self._protocol.pipeline or self.write_paused or self._transport.is_closing()):
            super().resume_reading()


def _sweep(loop: asyncio.AbstractEventLoop, life: Life, connections: set[Any]) -> None:
    now = loop.time()
    for connection in list(connections):
        cast(HttpProtocol, connection).check_time(now)
    life.is_swept = bool(connections)
    if connections:
        loop.call_later(SWEEP_SECONDS, _sweep, loop, life, connections)
