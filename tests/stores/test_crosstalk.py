"""Nobody gets another's answer, whatever is cancelled, late, delayed, split or cut.

The suite makes few reads; `make crosstalk` makes two millions, or as many as FASTSERVE_CROSSTALK_READS says.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fastserve.config import RedisConnection
from fastserve.errors import StoreError, StoreTimeoutError
from fastserve.stores.redis import RedisStore
from tests.conftest import Rand
from tests.servers import RedisServer
from tests.stores.conftest import Run
from tests.stores.content import write_redis
from tests.stores.proxy import ChaosProxy
from tests.stores.scripted import VIEW, batch, numbers, numbers_of, rows

READS = int(os.environ.get("FASTSERVE_CROSSTALK_READS", "16000"))
READERS = 64
IDS = range(1000)
STORED = dict(zip(IDS, numbers_of(list(IDS)), strict=True))
"""Each id has a number of its own, so a wrong answer shows."""
CANCELLED, LATE = 0.30, 0.05
MOMENT = 0.003
"""A read is cancelled, or late, after at most so many seconds: about as long as it takes."""


class Reads:
    """Many reads, and what became of them."""

    def __init__(self, store: RedisStore, rand: Rand, count: int):
        self.store = store
        self.rand = rand
        self.left = count
        self.outcomes: Counter[str] = Counter()

    async def run(self) -> Counter[str]:
        await asyncio.gather(*(self._reader(way) for way in [self._await, self._submit] * (READERS // 2)))
        return self.outcomes

    async def _reader(self, way: Callable[[list[int], float | None], Coroutine[Any, Any, str]]) -> None:
        while self.left > 0:
            self.left -= 1
            ids = self.rand.choices(IDS, k=self.rand.choice([1, 1, 1, 1, 2, 7, 60, 300]))
            timeout = self.rand.uniform(0, MOMENT) if self.rand.random() < LATE else None
            try:
                self.outcomes[await way(ids, timeout)] += 1
            except StoreTimeoutError:
                self.outcomes["late"] += 1
            except StoreError:
                self.outcomes["failed"] += 1

    async def _await(self, ids: list[int], timeout: float | None) -> str:
        asked = batch(ids)
        task = asyncio.ensure_future(self.store.read_async(asked, timeout))
        if self.rand.random() < CANCELLED:
            asyncio.get_running_loop().call_later(self.rand.uniform(0, MOMENT), task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        return verdict(ids, asked)

    async def _submit(self, ids: list[int], timeout: float | None) -> str:
        loop, asked = asyncio.get_running_loop(), batch(ids)
        done: asyncio.Future[None] = loop.create_future()

        def settle(exc: BaseException | None) -> None:
            assert not done.done(), "told twice, or after cancel"
            done.set_exception(exc) if exc else done.set_result(None)

        pending = self.store.submit(asked, loop, settle, timeout)
        if self.rand.random() < CANCELLED:
            await asyncio.wait([done], timeout=self.rand.uniform(0, MOMENT))
            if not done.done():
                pending.cancel()
                done.cancel()
                return "cancelled"
        await done
        return verdict(ids, asked)


def verdict(ids: list[int], asked: Any) -> str:
    return "right" if numbers(asked) == [STORED[one] for one in ids] else "wrong"


@pytest.mark.timeout(60 + READS / 100)
def test_nobody_gets_anothers_answer(run: Run, empty_redis: RedisServer, rand: Rand) -> None:
    with empty_redis.client() as client:
        write_redis(client, VIEW, rows(list(IDS)))

    async def main(port: int) -> Counter[str]:
        store = RedisStore(RedisConnection(host="127.0.0.1", port=port, socket_timeout=2.0))
        try:
            return await Reads(store, rand, READS // 2).run()
        finally:
            store.close()
            await asyncio.sleep(0.01)

    with ChaosProxy(empty_redis.port, rand) as proxy:
        outcomes = run(main(proxy.port))
    print(dict(outcomes), "connections cut:", proxy.cut)
    assert outcomes["wrong"] == 0
    assert sum(outcomes.values()) == READS // 2
    assert proxy.cut
    # What the test is about has happened.
    assert all(outcomes[kind] > READS / 200 for kind in ("right", "cancelled", "late"))
