"""Fixtures of all tests. What they return is described in `servers.py` and `goldens.py`."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from fastserve import FeatureStore
from tests import goldens
from tests.commands import Cli
from tests.servers import Certificates, PostgresServer, RedisServer

settings.register_profile("fastserve", deadline=None, print_blob=True, max_examples=100)
settings.load_profile("fastserve")

PASSWORD = "s3cret"


class Rand(random.Random):
    """Random numbers whose `repr`, which pytest prints when a test fails, tells how to get them again."""

    def __init__(self, seed: int):
        super().__init__(seed)
        self.first_seed = seed

    def __repr__(self) -> str:
        return f"Rand({self.first_seed}); to repeat: FASTSERVE_TEST_SEED={self.first_seed}"


@pytest.fixture
def rand() -> Rand:
    """Random numbers, different in each run unless FASTSERVE_TEST_SEED is set."""
    return Rand(int(os.environ.get("FASTSERVE_TEST_SEED") or random.SystemRandom().getrandbits(32)))


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A temporary folder with a path short enough for unix sockets, which pytest's own is not everywhere."""
    folder = Path(tempfile.mkdtemp(prefix="fs", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def redis_server(short_folder: Path) -> Iterator[RedisServer]:
    """An open redis-server for the whole session. Its content is nobody's: fill what you need."""
    with RedisServer.start(short_folder / "open") as server:
        yield server


@pytest.fixture(scope="session")
def certificates(short_folder: Path) -> Certificates:
    """Certificates for `localhost` by an authority that nobody else trusts."""
    return Certificates.make(short_folder / "tls")


@pytest.fixture(scope="session")
def secure_redis(short_folder: Path, certificates: Certificates) -> Iterator[RedisServer]:
    """A redis-server with password, unix socket and TLS port, for the whole session."""
    with RedisServer.start(short_folder / "secure", password=PASSWORD, tls=certificates) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL for the whole session: make a database of your own in it."""
    with PostgresServer.start() as server:
        yield server


@pytest.fixture
def empty_redis(redis_server: RedisServer) -> RedisServer:
    """The open redis-server with all its databases emptied."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server


@pytest.fixture
def redis_bank(empty_redis: RedisServer) -> RedisServer:
    """The open redis-server with the recorded data of the bank in database 0."""
    with empty_redis.client() as client:
        goldens.fill_redis(client)
    return empty_redis


@pytest.fixture
def redis_bank_repo(redis_bank: RedisServer, tmp_path: Path) -> Path:
    """The bank repository reading `redis_bank`."""
    store = {"type": "redis", "connection_string": redis_bank.connection_string}
    return goldens.copy_bank(tmp_path / "bank", store)


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable says which repository the command line is about."""
    for variable in ("FEATURE_REPO_DIR_ENV_VAR", "FEATURE_STORE_YAML_BASE64", "FEAST_FS_YAML_FILE_PATH"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def on_redis(redis_bank_repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line over `redis_bank_repo`."""
    return Cli(redis_bank_repo, capsys, monkeypatch)


@pytest.fixture
def sqlite_bank_repo(tmp_path: Path) -> Path:
    """The bank repository reading its recorded SQLite tables from `data/online.db`."""
    folder = goldens.copy_bank(tmp_path / "bank", {"type": "sqlite", "path": "data/online.db"})
    goldens.build_sqlite(folder / "data" / "online.db")
    return folder


@pytest.fixture(params=["redis", "sqlite"])
def bank_repo(request: pytest.FixtureRequest) -> Path:
    """The bank repository; a test that takes it runs once on Redis and once on SQLite.

    The recorded SQLite store lacks what the Redis dump has beyond a first materialisation: the views `all_types`, the
    pre-computed vectors and the customer C9.
    """
    folder: Path = request.getfixturevalue(f"{request.param}_bank_repo")
    return folder


@pytest.fixture
def store(bank_repo: Path) -> Iterator[FeatureStore]:
    """The SDK over `bank_repo`; tests that need another store have a fixture `store` of their own."""
    with FeatureStore(bank_repo) as found:
        yield found
