"""Many reads over one connection to Redis, for one event loop.

    Wire     the reads of one loop: those that wait, the connection, deadlines, connecting again
    Link     one connection: commands on their way, first in, first out

The commands of one turn of the loop leave together, those of 32 reads at most. A read that is cancelled or too late
stays in the queue, as its own tombstone, until its replies have come: so no reply is ever taken for another's.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf

from fastserve._core import Batch, UnusualReply, take_replies
from fastserve._core import StoreRead as Read
from fastserve.errors import StoreError, StoreOverloadedError, StoreTimeoutError
from fastserve.stores.base import OnDone

__all__ = ["Link", "Wire"]

BULK_COMMANDS = 16
"""A read with more commands is sent in pieces, others' commands between them."""
READS_PER_WRITE = 32
"""So many reads leave before the turn of the loop is over. Many that are answered together would otherwise be asked for
together again, and Redis and this loop take turns in doing nothing. With fewer the system calls cost more than that."""
PIECE_BYTES = 1 << 13
WHOLE = 1 << 62
"""Bytes: all commands of a read at once."""
PIECES_IN_FLIGHT = 4
"""Of all bulk reads together: so much may be ahead of a small one. Enough for Redis not to run dry meanwhile."""
BACK_OFF_SECONDS = 0.02, 0.5
"""The first pause before connecting again, and the longest."""


class Link(asyncio.Protocol):
    """One connection, greeted already.

    Not a BufferedProtocol: it was no faster, neither with 60 small replies in what is received nor with a large one.

    Attributes:
        in_flight: (read, how far this piece of it reaches, whether more pieces may follow, when it was sent).
        bulk: large reads with commands left to send, in turn.
        is_open: whether commands may be sent: it is connected, and takes more.
        is_lost: whether it has ended.
        has_answered: whether it was of any use.
    """

    transport: asyncio.Transport

    def __init__(self, wire: Wire):
        self.in_flight: deque[tuple[Read, int, bool, float]] = deque()
        self.bulk: deque[Read] = deque()
        self.is_open = False
        self.is_lost = False
        self.has_answered = False
        self._wire = wire
        self._loop = wire.loop
        self._outbox: list[bytes] = []
        self._pieces_in_flight = 0
        self._fault: StoreError | None = None

    # --- sending ---

    def send(self, read: Read, now: float) -> None:
        """Send a read in this turn of the loop, or begin to."""
        batch = read.batch
        if batch.unsent > BULK_COMMANDS:
            self.bulk.append(read)
            self.send_bulk()
            return
        commands = batch.commands(WHOLE)
        assert commands is not None
        self.in_flight.append((read, batch.asked, False, now))
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(commands)
        if len(self._outbox) >= READS_PER_WRITE:
            self._flush()

    def send_bulk(self) -> None:
        """Send pieces of the large reads, in turn, as far as they may."""
        while self.bulk and self._pieces_in_flight < PIECES_IN_FLIGHT and self.is_open:
            read = self.bulk.popleft()
            if read.on_done is None or (piece := read.batch.commands(PIECE_BYTES)) is None:
                continue
            self.in_flight.append((read, read.batch.asked, True, self._loop.time()))
            self._pieces_in_flight += 1
            if not self._outbox:
                self._loop.call_soon(self._flush)
            self._outbox.append(piece)
            if read.batch.unsent:
                self.bulk.append(read)

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        if outbox and not self.is_lost:
            self.transport.write(outbox[0] if len(outbox) == 1 else b"".join(outbox))

    def pause_writing(self) -> None:
        """Redis does not read: let reads wait where they can be refused."""
        self.is_open = False

    def resume_writing(self) -> None:
        """Redis reads again."""
        self.is_open = not self.is_lost
        self._wire.pump()

    # --- receiving ---

    def data_received(self, data: bytes) -> None:
        """Hand the replies to their reads."""
        self.has_answered = True
        at = 0
        try:
            while (at := take_replies(self.in_flight, data, at)) >= 0:
                if not self.in_flight:
                    if not self.is_lost:  # one who was told has closed the store
                        self._garbage("a reply that nobody asked for")
                    return
                at = self._take_piece(data, at)
                if at < 0:
                    break
        except UnusualReply as exc:
            place = f", entity key {exc.key.hex()}" if exc.key else ""
            self._garbage(f"an answer that is not what was asked for{place}")
            return
        if self._wire.waiting or self.bulk:
            self._wire.pump()

    def _take_piece(self, data: bytes, at: int) -> int:
        """Take the replies to a piece of a large read; return where the next begin, or -1 if more are wanted."""
        read, until, _, _ = self.in_flight[0]
        at = read.batch.feed_from(data, at, len(data), until)
        if at >= 0:
            self.in_flight.popleft()
            self._piece_taken(read, until)
        return at

    def _piece_taken(self, read: Read, until: int) -> None:
        self._pieces_in_flight -= 1
        batch = read.batch
        if batch.refusal is not None:
            read.settle(self._wire.refused(batch))
        elif until == batch.asked and not batch.unsent:
            read.settle(None)

    # --- the end ---

    def _garbage(self, what: str) -> None:
        # Whatever comes now may be anybody's: no read that is in flight is tried again.
        self.abort(StoreError(f"{self._wire.name}: {what}; the connection was closed"))

    def abort(self, fault: StoreError | None = None) -> None:
        """End the connection at once; with a fault, all reads in flight fail with it, otherwise as if it were lost."""
        self._fault = fault
        self.transport.abort()
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed."""
        self._end(exc)

    def _end(self, exc: Exception | None) -> None:
        if self.is_lost:
            return
        self.is_lost, self.is_open = True, False
        reads = list(dict.fromkeys([*(read for read, *_ in self.in_flight), *self.bulk]))
        self.in_flight.clear()
        self.bulk.clear()
        self._wire.lost(self, reads, self._fault, exc)


class Wire:
    """The reads of one event loop; all methods are for its thread.

    Args:
        name: what errors call the server.
        connect: makes a greeted connection out of the Link that it is given. Raises StoreError.
        patience: seconds that the server may take for one piece before the connection is given up.
        refused: makes an error of a batch that the server refused.
        max_in_flight: pieces and waiting bulk reads of a connection, beyond which reads wait.
        max_waiting: reads that wait; further ones fail.

    Attributes:
        waiting: reads that are not begun, in order; some may be cancelled.
        cancelled: how many reads were cancelled since `waiting` was last cleared of them.
    """

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        connect: Callable[[Link], Awaitable[None]],
        patience: float,
        refused: Callable[[Batch], StoreError],
        max_in_flight: int,
        max_waiting: int,
    ):
        self.name = name
        self.loop = loop
        self.link: Link | None = None
        self.waiting: deque[Read] = deque()
        self.cancelled = 0
        self.is_closed = False
        self.refused = refused
        self._connect_link = connect
        self._patience = patience
        self._max_in_flight = max_in_flight
        self._max_waiting = max_waiting
        self._connecting: asyncio.Task[None] | None = None
        self._failures = 0
        self._last_failure = ""
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._sweep_at = inf

    def submit(self, batch: Batch, on_done: OnDone, timeout: float) -> Read | asyncio.Handle:
        """See `Store.submit`."""
        now = self.loop.time()
        read = Read(self, batch, on_done, now + timeout)
        link = self.link
        if link is not None and link.is_open and not self.waiting and len(link.in_flight) < self._max_in_flight:
            link.send(read, now)
        elif len(self.waiting) < self._max_waiting or self._clear_cancelled():
            self.waiting.append(read)
            self.pump()
        else:
            return self.loop.call_soon(read.settle, self._overloaded())
        if read.deadline < self._sweep_at:
            self._sweep_by(read.deadline)
        return read

    def _overloaded(self) -> StoreOverloadedError:
        return StoreOverloadedError(f"{self.name}: {len(self.waiting)} reads are waiting already")

    def _clear_cancelled(self) -> bool:
        """Forget reads that were cancelled while they waited; return whether there is room now."""
        if self.cancelled:
            self.cancelled = 0
            self.waiting = deque(read for read in self.waiting if read.on_done is not None)
        return len(self.waiting) < self._max_waiting

    def pump(self) -> None:
        """Send what may be sent of the reads that wait; connect if there is no connection."""
        link = self.link
        if link is None:
            if self.waiting and self._connecting is None:
                self._connecting = self.loop.create_task(self._connect())
            return
        if link.bulk:
            link.send_bulk()
        now = self.loop.time()
        while self.waiting and link.is_open and len(link.in_flight) + len(link.bulk) < self._max_in_flight:
            read = self.waiting.popleft()
            if read.on_done is not None:
                link.send(read, now)

    # --- deadlines ---

    def _sweep_by(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._sweep_at = moment
        self._timer = self.loop.call_at(moment, self._sweep)

    def _sweep(self) -> None:
        """Fail the reads whose deadline has passed. One timer serves all: it is set to the earliest."""
        self._timer, self._sweep_at = None, inf
        now, link, earliest = self.loop.time(), self.link, inf
        reads = [*self.waiting]
        if link is not None:
            reads += [*(read for read, *_ in link.in_flight), *link.bulk]
        late = []
        for read in reads:
            if read.deadline <= now:
                late.append(read)
            elif read.on_done is not None and read.deadline < earliest:
                earliest = read.deadline
        if late:
            self.waiting = deque(read for read in self.waiting if read.deadline > now)
        for read in late:
            read.settle(self._too_late())
        if link is not None and link.in_flight:
            # Replies come in order, so nothing has come of what was asked for so long ago, nor of anything since.
            stuck_at = link.in_flight[0][3] + self._patience
            if stuck_at <= now:
                link.abort()
            else:
                earliest = min(earliest, stuck_at)
        if earliest < self._sweep_at:
            self._sweep_by(earliest)

    def _too_late(self) -> StoreTimeoutError:
        why = f" ({self._last_failure})" if self.link is None and self._last_failure else ""
        return StoreTimeoutError(f"{self.name}: no answer within the deadline{why}")

    # --- connecting ---

    async def _connect(self) -> None:
        link = Link(self)
        try:
            pause = self._not_before - self.loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            await self._connect_link(link)
            if link.is_lost:
                raise StoreError(f"{self.name}: the server closed the connection")
        except StoreError as exc:
            self._connecting = None
            self._last_failure = str(exc)
            self._back_off()
            self._fail_waiting(exc)
        except BaseException as exc:
            self._connecting = None
            self._fail_waiting(StoreError(f"{self.name}: cannot connect: {type(exc).__name__} {exc}".rstrip()))
            raise
        else:
            self._connecting, self.link, self._last_failure = None, link, ""
            self.pump()

    def _back_off(self) -> None:
        first, longest = BACK_OFF_SECONDS
        # Jitter, so that all clients of a server that comes back do not come at once.
        pause = min(first * 2**self._failures, longest) * random.uniform(0.5, 1.0)
        self._failures = min(self._failures + 1, 16)
        self._not_before = self.loop.time() + pause

    def _fail_waiting(self, exc: StoreError) -> None:
        reads, self.waiting = self.waiting, deque()
        for read in reads:
            read.settle(exc)

    def lost(self, link: Link, reads: list[Read], fault: StoreError | None, cause: Exception | None) -> None:
        """A connection has ended with these reads in flight. Each is tried once more, unless `fault` says why not."""
        if self.link is link:
            self.link = None
        if link.has_answered:
            self._failures = 0
        elif fault is None:
            self._back_off()
        again = []
        for read in reads:
            if read.on_done is None:
                continue
            if fault is None and not read.is_retried:
                read.is_retried = True
                read.batch.rewind()
                again.append(read)
            else:
                read.settle(fault or self._ended(cause))
        self.waiting.extendleft(reversed(again))
        self.pump()

    def _ended(self, cause: Exception | None) -> StoreError:
        reason = f"{cause}" if cause else "the server closed the connection"
        return StoreError(f"{self.name}: {reason}")

    def close(self) -> None:
        """End the connection; reads that are not answered fail. The Wire cannot be used again."""
        self.is_closed = True
        closed = StoreError(f"{self.name}: the store was closed")
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._sweep_at = None, inf
        if self._connecting is not None:
            self._connecting.cancel()
        self._fail_waiting(closed)
        if self.link is not None:
            self.link.abort(closed)
