"""The fast lane: POST /get-online-features answered from the socket's protocol, past ASGI.

Of a read, the headers become a Head, the body goes to `Reads`, and the answer is one write; everything else goes to the
ASGI application. Both lanes answer the same bytes.

A client that asks again and again sends the same headers each time. A head that uvicorn's parser has taken is kept with
what it says; the same bytes at the start of a later request need no parser, and what follows them is the body. Of that
too all but the entities is mostly the same: the core's Lane makes the Batch, and the response, of a request whose like
was answered before, without any step of what else is in this module.

A ReadCycle stands where uvicorn has its own RequestResponseCycle, and has what uvicorn asks of that one; so a request
that comes before the answer to the last one (pipelining) waits in uvicorn's queue, and is answered through ASGI. The
core's LaneRead has the same attributes.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fastserve._core import Batch, KnownHead, LaneRead, ReadTimer
from fastserve.errors import BodyTooLargeError, VectorError
from fastserve.server.answers import Answer, answer_of_failure
from fastserve.server.body import GetOnlineFeaturesRequest
from fastserve.server.hooks import LEFT
from fastserve.server.protocol import ANSWERING, BODY, IDLE, HttpProtocol
from fastserve.server.read import ARROW, READ_PATH, Head, Reads
from fastserve.stores.base import PendingRead

__all__ = ["READS", "FastLane"]

READS = "fastserve_reads"
"""The key of the lifespan state under which the application gives its Reads to the protocol."""

URL = READ_PATH.encode()
KNOWN_HEADS = 1000
HEAD_BYTES = 2048
"""Of a head that is worth keeping."""

END = b"\r\n\r\n"


class _Unwatched:
    """Stands in for the event that an ASGI application waits on: nobody waits on a ReadCycle."""

    def set(self) -> None:
        pass


class ReadCycle:
    """A read request of a connection, from its headers to its answer. Some attributes are those that uvicorn uses.

    Attributes:
        is_counted: as one of the requests at hand.
        pending: what can be cancelled.
        timer: of the metrics.
    """

    __slots__ = (
        *("batch", "body", "disconnected", "exchange", "head", "is_counted", "keep_alive", "more_body"),
        *("pending", "protocol", "request", "response_complete", "timer"),
    )

    message_event = _Unwatched()

    request: GetOnlineFeaturesRequest
    batch: Batch
    timer: ReadTimer

    def __init__(self, protocol: FastLane, head: Head, keep_alive: bool):
        self.protocol = protocol
        self.head = head
        self.exchange = protocol.hooks.begin("POST", READ_PATH, head, protocol.client_address)
        self.keep_alive = keep_alive
        self.body = bytearray()
        self.more_body = True
        self.response_complete = False
        self.disconnected = False
        self.is_counted = False
        self.pending: PendingRead | asyncio.Task[Answer] | None = None

    def filled(self, exc: BaseException | None) -> None:
        """Take the batch back from the store."""
        self.protocol.finish(self, exc)


class FastLane(HttpProtocol):
    """A connection of a client."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.reads: Reads = self.app_state[READS]
        self.known: dict[bytes, KnownHead] = self.reads.known_heads
        self.lane = self.reads.lane
        self.raw_head = b""
        self.awaited: KnownHead | None = None

    # --- what comes ---

    def data_received(self, data: bytes) -> None:
        if self.phase == IDLE:
            if self.lane is not None and self._take_quickly(data):
                return
            end = data.find(END) + 4
            known = self.known.get(data[:end])
            if known is not None and not self.is_one_too_many:
                self.cycle = self.running = ReadCycle(self, known.head, keep_alive=True)
                self._take(known, data[end:])
            else:
                self.raw_head = data[:end] if 4 < end <= HEAD_BYTES else b""
                super().data_received(data)
        elif self.awaited is not None and self.phase == BODY:
            self._take(self.awaited, data)
        else:
            super().data_received(data)

    def _take_quickly(self, data: bytes) -> bool:
        """Begin to read what a whole request asks for, if its like was there before; return whether it was."""
        life, store = self.life, self.reads.store
        if life.in_flight >= life.most or self.is_one_too_many:
            return False
        cycle = self.lane.begin(self, data, store.plans_epoch)
        if cycle is None:
            return False
        self.cycle = self.running = cycle
        self.phase = ANSWERING
        life.in_flight += 1
        try:
            cycle.pending = store.submit_read(cycle.batch, self.loop, cycle, self.limits.timeout or None)
        except Exception as exc:
            self.fail(cycle, exc)
        return True

    def _take(self, known: KnownHead, data: bytes) -> None:
        """Take bytes behind a known head; they may be a part of the body, or reach into the next request."""
        if self.awaited is not None or len(data) < known.length:
            self._collect(known, data)
        elif len(data) == known.length:
            self.phase = ANSWERING
            self._start(self.cycle, data)
        else:
            self.phase = ANSWERING
            self._start(self.cycle, data[: known.length])
            super().data_received(data[known.length :])

    def _collect(self, known: KnownHead, data: bytes) -> None:
        """Take a part of the body."""
        if self.awaited is None:
            self.awaited, self.receiving = known, self.cycle
            self.enter(BODY)
        body = self.cycle.body
        body += data
        if len(body) >= known.length:
            self.awaited = self.receiving = None
            self.cycle.body = bytearray()
            self._take(known, bytes(body))

    def begin(self) -> None:
        raw, self.raw_head = self.raw_head, b""
        if not self._is_read():
            super().begin()
            return
        head = Head(self.headers)
        self.cycle = self.running = ReadCycle(self, head, self.parser.should_keep_alive())
        if raw and self.cycle.keep_alive and (length := head.get(b"content-length")):
            self._remember(raw, KnownHead(raw, head, int(length), head.quick_form))

    def _is_read(self) -> bool:
        return (
            self.url == URL
            and self.parser.get_method() == b"POST"
            and not self.is_answering
            and not self.expect_100_continue
            and self.parser.get_http_version() == "1.1"
        )

    def _remember(self, raw: bytes, known: KnownHead) -> None:
        # Where a line may end in another way, the parser may have seen the end of the head earlier.
        if not raw.startswith(b"POST ") or raw.count(b"\n") != raw.count(b"\r\n"):
            return
        if known.head.get(b"transfer-encoding") is not None:
            return
        if len(self.known) >= KNOWN_HEADS:
            self.known.clear()
        self.known[raw] = known

    def on_body(self, body: bytes) -> None:
        if type(self.cycle) is not ReadCycle:
            super().on_body(body)
        elif self.phase == BODY:
            self.cycle.body += body
            if len(self.cycle.body) > self.limits.body_bytes > 0:
                self.refuse(413, str(BodyTooLargeError(self.limits.body_bytes)))

    def on_message_complete(self) -> None:
        super().on_message_complete()
        cycle = self.cycle
        if type(cycle) is ReadCycle and self.phase == ANSWERING:
            self._start(cycle, bytes(cycle.body))

    # --- what is answered ---

    def _start(self, cycle: ReadCycle, body: bytes) -> None:
        """Begin to read."""
        reads = self.reads
        cycle.timer = self.hooks.meters.read.begin()
        try:
            self.hooks.check(cycle.exchange, cycle.head)
            self.life.enter()
            cycle.is_counted = True
            epoch = reads.store.plans_epoch
            cycle.request = request = reads.parse(body, cycle.head)
            timeout = self.limits.deadline(cycle.head.timeout)
            if cycle.head.wanted == ARROW or not reads.store.reads_in_steps:
                self._take_a_task(cycle)
                return
            cycle.batch = batch = reads.begin(request)
            if batch.plan.transforms or cycle.head.wanted == ARROW:
                self._take_a_task(cycle)
            else:
                cycle.timer.sent()
                cycle.pending = reads.store.submit_read(batch, self.loop, cycle.filled, timeout)
                reads.learn(body, request, batch.plan, epoch)
        except VectorError:
            self._take_a_task(cycle)
        except Exception as exc:
            self.fail(cycle, exc)

    def finish(self, cycle: ReadCycle, fault: BaseException | None) -> None:
        """Answer with what was read, or with what went wrong."""
        cycle.pending = None
        cycle.timer.answered()
        if fault is not None:
            self.fail(cycle, fault)
            return
        try:
            answer = self.reads.finish(cycle.request, cycle.batch, cycle.head)
        except VectorError:
            # There may be others by now.
            self._take_a_task(cycle)
        except Exception as exc:
            self.fail(cycle, exc)
        else:
            cycle.timer.done(cycle.batch)
            self.send(cycle, answer)

    def filled(self, cycle: LaneRead, fault: BaseException | None) -> None:
        """Answer with what the store says to a read that was begun quickly; called by it."""
        cycle.pending = None
        if fault is not None:
            self.fail(cycle, fault)
            return
        is_last = self.is_last or self.life.draining or not cycle.keep_alive
        try:
            response = cycle.response(self.server_state.default_headers, is_last)
        except VectorError:
            response = None
        except Exception as exc:
            self.fail(cycle, exc)
            return
        if response is None:
            self._take_a_task(cycle)
        else:
            self._send_quickly(cycle, response, is_last)

    def _send_quickly(self, cycle: LaneRead, response: bytes, is_last: bool) -> None:
        self.life.in_flight -= 1
        cycle.is_counted = False
        self.transport.write(response)
        cycle.response_complete = True
        if self.hooks.access_log is not None:
            self.hooks.log(cycle, 200, len(response) - response.index(END) - len(END))
        if is_last:
            self.transport.close()
        if is_last or self.phase != ANSWERING or self.pipeline or self.flow.read_paused:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.phase = IDLE
            self.since = self.loop.time()

    def _take_a_task(self, cycle: ReadCycle | LaneRead) -> None:
        """Answer a read that needs more than the store: somebody's code, pyarrow, other vectors, another server."""
        cycle.pending = task = self.loop.create_task(self.reads.answer_request(cycle.request, cycle.head, cycle.timer))
        self.tasks.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(partial(self._ended, cycle))

    def _ended(self, cycle: ReadCycle | LaneRead, task: asyncio.Task[Answer]) -> None:
        """Take the answer of a read that took a task."""
        if task.cancelled():
            return
        exc = task.exception()
        if exc is None:
            self.send(cycle, task.result())
        else:
            self.fail(cycle, exc)

    def fail(self, cycle: ReadCycle | LaneRead, exc: BaseException) -> None:
        """Answer with what went wrong."""
        if not isinstance(exc, Exception):
            raise exc
        cycle.timer.failed()
        with self.hooks.about(cycle.exchange):
            self.send(cycle, answer_of_failure(exc, f"POST {READ_PATH}"))

    def send(self, cycle: ReadCycle | LaneRead, answer: Answer) -> None:
        """Write an answer, and go on with what came meanwhile."""
        self._uncount(cycle)
        if cycle.disconnected:
            return
        is_last = self.is_last or self.life.draining or not cycle.keep_alive
        self.transport.write(self.headed(answer, is_last, cycle.exchange.headers))
        cycle.response_complete = True
        self.hooks.end(cycle.exchange, answer.status, len(answer.body))
        if is_last:
            self.transport.close()
        self.on_response_complete()

    def _uncount(self, cycle: ReadCycle | LaneRead) -> None:
        if cycle.is_counted:
            cycle.is_counted = False
            self.life.leave()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        cycle = self.running
        if isinstance(cycle, (ReadCycle, LaneRead)) and cycle.pending is not None:
            cycle.pending.cancel()
            cycle.pending = None
            self._uncount(cycle)
            cycle.timer.left()
            self.hooks.end(cycle.exchange, LEFT, 0)
