"""The places of the contract tests: an empty store of each kind, to be written by the oracle and read by fastserve.

Another store joins by a class here and a fixture in conftest.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from fastserve.config import RedisConnection
from fastserve.stores import Store
from fastserve.stores.redis import RedisStore
from fastserve.stores.sqlite import SqliteStore
from tests.servers import RedisServer, free_port
from tests.stores.content import PROJECT, Row, View, write_redis, write_sqlite


class Place(Protocol):
    """Somewhere to keep rows."""

    def write(self, view: View, rows: Iterable[Row], version: int = 3, project: str = PROJECT) -> None:
        """Write rows; without any, make the view known."""

    def open(self) -> Store:
        """Return a new store that reads from here; the caller closes it."""

    def open_failing(self) -> Store:
        """Return a new store that is configured well, but whose server or file is not there."""


class RedisPlace:
    """The session's redis-server, emptied."""

    def __init__(self, server: RedisServer):
        self._server = server

    def write(self, view: View, rows: Iterable[Row], version: int = 3, project: str = PROJECT) -> None:
        with self._server.client() as client:
            write_redis(client, view, rows, version, project)

    def open(self) -> Store:
        return RedisStore(RedisConnection(host="127.0.0.1", port=self._server.port))

    def open_failing(self) -> Store:
        return RedisStore(RedisConnection(host="127.0.0.1", port=free_port()))


class SqlitePlace:
    """A new file."""

    def __init__(self, folder: Path):
        self._path = folder / "online.db"
        self._path.touch()

    def write(self, view: View, rows: Iterable[Row], version: int = 3, project: str = PROJECT) -> None:
        write_sqlite(self._path, view, rows, version, project)

    def open(self) -> Store:
        return SqliteStore(self._path, PROJECT)

    def open_failing(self) -> Store:
        return SqliteStore(self._path.with_name("missing.db"), PROJECT)
