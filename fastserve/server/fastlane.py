"""The fast lane: POST /get-online-features answered from the socket's protocol, past ASGI.

A subclass of uvicorn's httptools protocol. uvicorn keeps the sockets, the parser, TLS and everything that is not a
plain read; of a read, headers become a ReadCycle, the body goes to `Reads`, and the answer is one write. Both lanes
answer the same bytes.

A ReadCycle stands where uvicorn has its own RequestResponseCycle, and has what uvicorn asks of that one; so a request
that comes before the answer to the last one (pipelining) waits in uvicorn's queue, and is answered through ASGI.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from fastserve.server.answers import Answer, answer_of_failure
from fastserve.server.read import READ_PATH, Reads

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = ["READS", "FastLane"]

READS = "fastserve_reads"
"""The key of the lifespan state under which the application gives its Reads to the protocol."""

URL = READ_PATH.encode()
Headers = list[tuple[bytes, bytes]]


class _Unwatched:
    """Stands in for the event that an ASGI application waits on: nobody waits on a ReadCycle."""

    def set(self) -> None:
        pass


UNWATCHED = _Unwatched()


class ReadCycle:
    """A read request of a connection, from its headers to its answer. The attributes are those that uvicorn uses."""

    __slots__ = ("body", "disconnected", "headers", "keep_alive", "more_body", "response_complete", "task")

    message_event = UNWATCHED

    def __init__(self, headers: Headers, keep_alive: bool):
        self.headers = headers
        self.keep_alive = keep_alive
        self.body = bytearray()
        self.more_body = True
        self.response_complete = False
        self.disconnected = False
        self.task: asyncio.Task[Answer] | None = None

    def header(self, name: bytes) -> str | None:
        """Return the first header of a name."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)


class FastLane(HttpToolsProtocol):
    """A connection of a client."""

    cycle: ReadCycle | RequestResponseCycle | None  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.reads: Reads = self.app_state[READS]
        self.expect_100_continue = False

    # --- the parser's calls ---

    def on_message_begin(self) -> None:
        # The scope is made when it is known that ASGI needs one.
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        if self._is_read():
            self.cycle = ReadCycle(self.headers, self.parser.should_keep_alive())
        else:
            self._to_asgi()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if type(self.cycle) is ReadCycle and not self.cycle.response_complete:
            self._start(self.cycle)

    def _is_read(self) -> bool:
        return (
            self.url == URL
            and self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
            and self.parser.get_http_version() == "1.1"
        )

    def _to_asgi(self) -> None:
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)  # the scope has the list itself
        super().on_headers_complete()

    # --- reading ---

    def _start(self, cycle: ReadCycle) -> None:
        cycle.task = self.loop.create_task(self.reads.answer(bytes(cycle.body), cycle.header(b"content-type")))
        self.tasks.add(cycle.task)  # type: ignore[arg-type]
        cycle.task.add_done_callback(self._answer)

    def _answer(self, task: asyncio.Task[Answer]) -> None:
        self.tasks.discard(task)
        cycle = self.cycle
        if task.cancelled() or not isinstance(cycle, ReadCycle) or cycle.disconnected:
            return
        exc = task.exception()
        if exc is None:
            self._send(cycle, task.result())
        elif isinstance(exc, Exception):
            self._send(cycle, answer_of_failure(exc, f"POST {READ_PATH}"))

    def _send(self, cycle: ReadCycle, answer: Answer) -> None:
        """Write an answer, and go on with what came meanwhile."""
        lines = [STATUS_LINE[answer.status]]
        headers = [*self.server_state.default_headers, (b"content-length", b"%d" % len(answer.body))]
        headers += [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        headers += [(b"content-type", answer.media_type.encode())]
        if not cycle.keep_alive:
            headers += [(b"connection", b"close")]
        for name, value in headers:
            lines += [name, b": ", value, b"\r\n"]
        self.transport.write(b"".join([*lines, b"\r\n", answer.body]))
        cycle.response_complete = True
        if self.access_log:
            host, port = self.client or ("", 0)
            self.access_logger.info(
                '%s - "%s %s HTTP/%s" %d', f"{host}:{port}", "POST", READ_PATH, "1.1", answer.status
            )
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        cycle = self.cycle
        super().connection_lost(exc)
        if isinstance(cycle, ReadCycle) and cycle.task is not None:
            cycle.task.cancel()
