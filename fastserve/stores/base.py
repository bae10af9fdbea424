"""What an online store is to the rest of fastserve."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from fastserve._core import Batch, EncodedRows, WritePlan
from fastserve.errors import StoreTimeoutError

if TYPE_CHECKING:  # who reads without an event loop need not load it
    from asyncio import AbstractEventLoop, Future

__all__ = ["AwaitableReads", "OnDone", "PendingRead", "RowWriter", "Store", "ThreadedReads"]

OnDone = Callable[[BaseException | None], object]
"""Is called with None when the batch is filled, otherwise with the error."""


class PendingRead(Protocol):
    """A read that was submitted."""

    def cancel(self) -> object:
        """Nobody wants the answer any more: `on_done` will not be called. The batch must not be used again."""


class RowWriter(Protocol):
    """Takes rows."""

    def write(self, rows: EncodedRows, key_ttl_seconds: int | None = None) -> int:
        """Write rows, as `Store.write`."""


class Store(Protocol):
    """Fills batches and takes rows. One object serves all threads and all event loops.

    One that also keeps precomputed vectors has an attribute `vectors`, a `VectorStore`.
    """

    def read(self, batch: Batch) -> None:
        """Read everything that the batch asks for.

        Raises:
            StoreError: the store is out of reach, or answered with an error; the batch is then of no use.
            StoreTimeoutError: it did not answer within the deadline.
        """

    def submit(
        self, batch: Batch, loop: AbstractEventLoop, on_done: OnDone, timeout: float | None = None
    ) -> PendingRead:
        """Begin to read what the batch asks for, without blocking; to be called in a turn of `loop`, by its thread.

        Args:
            on_done: called once, in a later turn of the loop, with what `read` would raise (or StoreOverloadedError:
                too many reads are waiting already), or with None. It must not raise.
            timeout: seconds; by default as configured.
        """

    async def read_async(self, batch: Batch, timeout: float | None = None) -> None:
        """Read what the batch asks for, without blocking the event loop; raises as `read`, and StoreOverloadedError."""

    def write(self, rows: EncodedRows, key_ttl_seconds: int | None = None) -> int:
        """Write rows and return how many were applied.

        A row is applied if nothing is stored under its entity key, or something strictly older; at an equal event time
        it only fills in the features that are absent, and counts if there were any. That is decided and done in one
        step in the store, whatever other writers do.

        Args:
            rows: written from the first one on, also if they were written before.
            key_ttl_seconds: how long Redis keeps the keys that are written, 0 for ever; None is as configured.
        Raises:
            StoreError: some rows may have been applied, none of them in part; writing all of them again is safe.
            StoreTimeoutError: likewise.
        """

    def create(self, plans: Iterable[WritePlan]) -> None:
        """Make room for feature views; one that is there already keeps its rows."""

    def drop(self, plans: Iterable[WritePlan]) -> None:
        """Delete everything that is stored of feature views. Others', and other projects', rows stay."""

    def teardown(self, plans: Iterable[WritePlan]) -> None:
        """Delete everything that is stored of the project; `plans` are all of its views."""

    def check(self) -> None:
        """Raise StoreError if the store does not answer at this moment."""

    def usage(self) -> dict[str, int]:
        """Return how many connections are `open`, how many of them `idle`, and how many asynchronous reads are
        `in_flight` or `waiting` for a place; no I/O."""

    def close(self) -> None:
        """Close all connections. A later read opens new ones."""


class AwaitableReads:
    """`read_async` for a store that has `submit`."""

    def submit(
        self, batch: Batch, loop: AbstractEventLoop, on_done: OnDone, timeout: float | None = None
    ) -> PendingRead:
        """See `Store.submit`."""
        raise NotImplementedError

    async def read_async(self, batch: Batch, timeout: float | None = None) -> None:
        """See `Store.read_async`. A read that is cancelled leaves nothing behind."""
        import asyncio

        loop = asyncio.get_running_loop()
        future: Future[None] = loop.create_future()

        def settle(exc: BaseException | None) -> None:
            if future.done():
                return
            if exc is None:
                future.set_result(None)
            else:
                future.set_exception(exc)

        pending = self.submit(batch, loop, settle, timeout)
        try:
            await future
        except asyncio.CancelledError:
            pending.cancel()
            raise


class ThreadedReads(AwaitableReads):
    """The asynchronous reads of a store that only has `read`: in the loop's threads."""

    def read(self, batch: Batch) -> None:
        """See `Store.read`."""
        raise NotImplementedError

    def submit(
        self, batch: Batch, loop: AbstractEventLoop, on_done: OnDone, timeout: float | None = None
    ) -> PendingRead:
        """See `Store.submit`. After the time-out the thread goes on, unheard."""
        pending = _ThreadedRead(on_done)
        future = loop.run_in_executor(None, self.read, batch)
        future.add_done_callback(lambda done: pending.settle(done.exception()))
        if timeout is not None:
            late = StoreTimeoutError(f"{type(self).__name__}: no answer within {timeout:g} s")
            timer = loop.call_later(timeout, pending.settle, late)
            future.add_done_callback(lambda _: timer.cancel())
        return pending


class _ThreadedRead:
    def __init__(self, on_done: OnDone):
        self._on_done: OnDone | None = on_done

    def settle(self, exc: BaseException | None) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(exc)

    def cancel(self) -> None:
        self._on_done = None
