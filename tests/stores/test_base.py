"""Asynchronous reads of any store, and of those that only know threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from fastserve._core import Batch
from fastserve.errors import StoreError, StoreTimeoutError
from fastserve.stores import Store
from fastserve.stores.base import ThreadedReads
from tests.stores.conftest import Run
from tests.stores.content import Row, View, answer_of, batch_of, expected, plan
from tests.stores.places import Place
from tests.stores.scripted import PATIENCE, batch

VIEW = View("profile", ("age", "income"))
ROWS = [Row((f"C{i}",), {"age": i, "income": None}) for i in range(50)]


def test_every_store_reads_asynchronously(run: Run, place: Place, store: Store) -> None:
    place.write(VIEW, ROWS)
    found = plan([VIEW])

    async def one(names: list[str]) -> None:
        asked = batch_of(found, customer_id=names)
        await store.read_async(asked)
        assert answer_of(asked) == expected([(VIEW, ROWS)], customer_id=names)

    async def main() -> None:
        await asyncio.gather(*(one([f"C{i}", "nobody", f"C{i // 2}"]) for i in range(50)))

    run(main())


class Slow(ThreadedReads):
    """A store that answers when it is told to."""

    def __init__(self, fault: StoreError | None = None):
        self.release = threading.Event()
        self._fault = fault

    def read(self, batch: Batch) -> None:
        assert self.release.wait(PATIENCE)
        if self._fault is not None:
            raise self._fault


def outcome(run: Run, store: Slow, timeout: float | None, *, release: bool = True, cancel: bool = False) -> list[Any]:
    """Return what `on_done` was told of one read."""
    told: list[Any] = []

    async def main() -> None:
        pending = store.submit(batch([1]), asyncio.get_running_loop(), told.append, timeout)
        assert told == []
        if cancel:
            pending.cancel()
        if release:
            store.release.set()
        while not (told or cancel):
            await asyncio.sleep(0.001)
        store.release.set()
        await asyncio.get_running_loop().shutdown_default_executor()  # whatever comes afterwards has come
        await asyncio.sleep(0)

    run(main())
    return told


class TestThreadedReads:
    @pytest.mark.parametrize("timeout", [None, PATIENCE])
    def test_done(self, run: Run, timeout: float | None) -> None:
        assert outcome(run, Slow(), timeout) == [None]

    def test_failed(self, run: Run) -> None:
        fault = StoreError("gone")
        assert outcome(run, Slow(fault), None) == [fault]

    def test_late(self, run: Run) -> None:
        (late,) = outcome(run, Slow(), 0.02, release=False)
        assert isinstance(late, StoreTimeoutError)
        assert str(late) == "Slow: no answer within 0.02 s"

    def test_cancelled(self, run: Run) -> None:
        assert outcome(run, Slow(), None, cancel=True) == []

    def test_an_awaiting_task_that_is_cancelled(self, run: Run) -> None:
        store = Slow()

        async def main() -> None:
            task = asyncio.create_task(store.read_async(batch([1])))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            store.release.set()

        run(main())
