"""Fixtures of the store tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastserve.stores import Store
from tests.servers import RedisServer
from tests.stores.places import Place, RedisPlace, SqlitePlace

Keep = Callable[[Store], Store]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in an event loop of its own; a test that takes it runs once in each kind of loop."""
    if request.param == "asyncio":
        return asyncio.run
    import uvloop

    return uvloop.run


@pytest.fixture
def keep() -> Iterator[Keep]:
    """A function that returns the store it is given, and closes it after the test."""
    kept: list[Store] = []

    def remember(store: Store) -> Store:
        kept.append(store)
        return store

    yield remember
    for store in kept:
        store.close()


@pytest.fixture
def redis_place(empty_redis: RedisServer) -> Place:
    return RedisPlace(empty_redis)


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    return SqlitePlace(tmp_path)


@pytest.fixture(params=["redis", "sqlite"])
def place(request: pytest.FixtureRequest) -> Place:
    """An empty place; a test that takes it runs once for each kind of store."""
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture
def places(redis_place: Place, sqlite_place: Place) -> dict[str, Place]:
    """An empty place of each kind."""
    return {"redis": redis_place, "sqlite": sqlite_place}


@pytest.fixture
def store(place: Place, keep: Keep) -> Store:
    """A store that reads from `place`."""
    return keep(place.open())
