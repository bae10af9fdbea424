"""Asynchronous reads: the same answers over one connection for each event loop, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fastserve.config import RedisConnection
from fastserve.stores.redis import RedisStore
from tests.servers import RedisServer
from tests.stores.conftest import Keep
from tests.stores.content import write_redis
from tests.stores.scripted import VIEW, batch, numbers, numbers_of, rows

IDS = list(range(200))


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine in a new event loop; a test that takes it runs once in each kind of loop."""
    if request.param == "asyncio":
        return asyncio.run
    return pytest.importorskip("uvloop").run


@pytest.fixture
def store(empty_redis: RedisServer, keep: Keep) -> RedisStore:
    with empty_redis.client() as client:
        write_redis(client, VIEW, rows(IDS))
    store = RedisStore(RedisConnection(host="127.0.0.1", port=empty_redis.port))
    keep(store)
    return store


async def ask(store: RedisStore, ids: list[int], timeout: float | None = None) -> list[int]:
    asked = batch(ids)
    await store.read_async(asked, timeout)
    return numbers(asked)


def test_one_read(store: RedisStore, run: Any) -> None:
    assert run(ask(store, [3, 1, 3])) == numbers_of([3, 1, 3])


def test_many_at_once_over_one_connection(store: RedisStore, run: Any, empty_redis: RedisServer) -> None:
    async def main() -> None:
        found = await asyncio.gather(*(ask(store, [i, i + 1]) for i in range(100)))
        assert found == [numbers_of([i, i + 1]) for i in range(100)]
        with empty_redis.client() as client:
            assert len(client.client_list()) == 2

    run(main())


def test_usage_tells_of_connections_and_reads(store: RedisStore, run: Any) -> None:
    async def read_and_look() -> list[dict[str, int]]:
        await ask(store, [1])
        found = [store.usage()]
        reads = [asyncio.create_task(ask(store, [number])) for number in (1, 2, 3)]
        await asyncio.sleep(0)  # they have begun; no turn of the loop has received anything
        found.append(store.usage())
        await asyncio.gather(*reads)
        return [*found, store.usage()]

    idle, busy, after = run(read_and_look())
    assert idle == after == {"open": 1, "idle": 1, "in_flight": 0, "waiting": 0}
    assert busy == {"open": 1, "idle": 0, "in_flight": 3, "waiting": 0}
