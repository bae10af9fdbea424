"""Servers of the recorded bank, one for each test module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import goldens
from tests.server.serving import FeatureServer
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def bank_redis(short_folder: Path, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A redis-server of this module alone, with the recorded data of the bank."""
    with RedisServer.start(short_folder / request.module.__name__.rpartition(".")[2]) as server:
        with server.client() as client:
            goldens.fill_redis(client)
        yield server


@pytest.fixture(scope="module")
def redis_repo(bank_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bank repository reading `bank_redis`."""
    store = {"type": "redis", "connection_string": bank_redis.connection_string}
    return goldens.copy_bank(tmp_path_factory.mktemp("redis_bank"), store)


@pytest.fixture(scope="module")
def sqlite_repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bank repository reading its recorded SQLite tables."""
    folder = goldens.copy_bank(tmp_path_factory.mktemp("sqlite_bank"), {"type": "sqlite", "path": "data/online.db"})
    goldens.build_sqlite(folder / "data" / "online.db")
    return folder


@pytest.fixture(scope="module", params=[(), ("--no-fast-lane",)], ids=["fast", "asgi"])
def lane(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options of a server that answers reads through one lane or the other."""
    options: tuple[str, ...] = request.param
    return options


@pytest.fixture(scope="module")
def redis_client(
    redis_repo: Path, lane: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Asks a `fastserve serve` of `redis_repo`, through either lane."""
    with FeatureServer.start(redis_repo, tmp_path_factory.mktemp("log") / "serve.log", *lane) as server:
        yield server.client


@pytest.fixture(scope="module")
def sqlite_client(
    sqlite_repo: Path, lane: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Asks a `fastserve serve` of `sqlite_repo`, through either lane."""
    with FeatureServer.start(sqlite_repo, tmp_path_factory.mktemp("log") / "serve.log", *lane) as server:
        yield server.client
