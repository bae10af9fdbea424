"""The connections to a SQL registry's database: transactions, locks, and what tells that something has changed.

Transactions that write wait for one another: on SQLite the database has one writer, on PostgreSQL an advisory lock does
it. Others are told by `Conflict` that somebody was faster.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import Connection, Engine, NullPool, Table, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from fastserve import fork_gate
from fastserve.errors import RegistryError, RegistryNotFoundError
from fastserve.registry.sql_rows import Conflict
from fastserve.registry.sql_tables import HISTORY, KINDS, METADATA, TABLES

__all__ = ["Database"]

WAIT_SECONDS = 30
"""How long a writer waits for the others."""

_WATCHED = (*(kind.table for kind in KINDS.values()), HISTORY, METADATA)
# Serialisation failure, deadlock, and what two that make the same table at once get: trying again helps.
_RETRY_STATES = frozenset({"40001", "40P01", "42P07", "23505"})


class Database:
    """A database with a registry in it; nothing is connected until it is used.

    Args:
        url: SQLAlchemy's. `postgresql://` means psycopg 3, as in Feast.
        options: more arguments of `sqlalchemy.create_engine`.
        folder: where a relative path of SQLite starts.

    Attributes:
        name: how errors call it; without user and password.

    Raises:
        RegistryError: the URL cannot be used, or its driver is not installed.
    """

    def __init__(self, url: str, options: Mapping[str, Any], folder: Path):
        self._url = _parse_url(url, folder)
        self.name = _name(self._url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._is_postgres = self._url.get_backend_name() == "postgresql"
        self._complete = False
        self._engine = self._make_engine(dict(options))
        self._watcher = _SqliteWatcher(str(self._url.database)) if self.is_sqlite else None
        self._close = weakref.finalize(self, self._engine.dispose)
        _all.add(self)

    # ---- transactions ----

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database. Raises RegistryError."""
        with self._translated():
            self.expect()
            if self.is_sqlite:
                with self._sqlite("BEGIN") as connection:
                    yield connection
            else:
                options: dict[str, Any] = {"isolation_level": "REPEATABLE READ"}
                if self._is_postgres:
                    options["postgresql_readonly"] = True
                with self._engine.connect().execution_options(**options) as connection, connection.begin():
                    yield connection

    @contextlib.contextmanager
    def writing(self, lock: str) -> Iterator[Connection]:
        """A transaction that writes; it is rolled back if the body raises.

        Args:
            lock: transactions with the same one wait for one another.

        Raises:
            RegistryError: the database cannot be reached or written to, or others took more than 30 s.
            Conflict: others have written the same rows; try again.
        """
        with self._translated(writing=True):
            if self.is_sqlite:
                with self._sqlite("BEGIN IMMEDIATE") as connection:
                    yield connection
            else:
                with self._engine.begin() as connection:
                    self._lock(connection, lock)
                    yield connection

    @contextlib.contextmanager
    def _sqlite(self, begin: str) -> Iterator[Connection]:
        # By hand: Python's module opens no transaction for reading, and begins one for writing too late.
        with (
            fork_gate.current(),
            self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        ):
            connection.exec_driver_sql(begin)
            try:
                yield connection
            except BaseException:
                # SQLite itself may have rolled back, after a failure of the disk.
                with contextlib.suppress(SQLAlchemyError):
                    connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    def _lock(self, connection: Connection, name: str) -> None:
        if self._is_postgres:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
            digest = hashlib.sha256(f"fastserve registry {name}".encode()).digest()
            connection.execute(select(func.pg_advisory_xact_lock(int.from_bytes(digest[:8], "big", signed=True))))

    @contextlib.contextmanager
    def _translated(self, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as exc:
            state = _state(exc)
            if writing and (isinstance(exc, IntegrityError) or state in _RETRY_STATES):
                raise Conflict from exc
            raise RegistryError(f"registry {self.name}: {_reason(exc)}") from exc

    # ---- tables ----

    def tables(self, connection: Connection) -> frozenset[str]:
        """Return the names of the registry's tables that are there."""
        if not self._complete:
            found = frozenset(sqlalchemy.inspect(connection).get_table_names()) & frozenset(TABLES.tables)
            self._complete = len(found) == len(TABLES.tables)
            return found
        return frozenset(TABLES.tables)

    def look_for_tables(self) -> frozenset[str]:
        """Return the same of a database that may not even be there. Raises RegistryError when it is out of reach."""
        if self.is_sqlite and not os.path.exists(str(self._url.database)):
            return frozenset()
        with self.reading() as connection:
            return self.tables(connection)

    def create_tables(self) -> None:
        """Create those that are missing, and the folder of a SQLite file. Raises RegistryError or Conflict."""
        if self.is_sqlite:
            self._make_folder(os.path.dirname(str(self._url.database)))
        with self.writing("tables") as connection:
            TABLES.create_all(connection)

    def _make_folder(self, path: str) -> None:
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as exc:
            raise RegistryError(f"registry {self.name}: {path} cannot be made: {exc.strerror}") from exc

    def expect(self) -> None:
        """Raise RegistryError if the file of a SQLite registry is not there: to connect would make it."""
        if self.is_sqlite and not os.path.exists(str(self._url.database)):
            raise self.missing()

    def missing(self) -> RegistryError:
        """Return the error for a registry that is not there."""
        return RegistryNotFoundError(
            f"registry {self.name} does not exist; run `fastserve apply`, or correct registry.path in the configuration"
        )

    # ---- changes ----

    def mark(self, project: str, connection: Connection | None = None) -> object:
        """Return what is another object after each change of the project's rows, whoever made it.

        On other databases than SQLite and PostgreSQL it misses a change in the same second to the same length.

        Args:
            connection: of a transaction, so that what it has written counts. Not on SQLite: there a transaction has to
                ask before it writes, lest it wait for itself.
        """
        if self._watcher is not None:
            self.expect()
            return self._sqlite_mark(self._watcher)
        if connection is not None:
            return self._fingerprint(connection, project)
        with self._translated(), self._engine.connect() as reader:
            return self._fingerprint(reader, project)

    def _sqlite_mark(self, watcher: _SqliteWatcher) -> object:
        try:
            return watcher.mark()
        except (sqlite3.Error, OSError) as exc:
            raise RegistryError(f"registry {self.name}: {exc}") from exc

    def _fingerprint(self, connection: Connection, project: str) -> object:
        tables = self.tables(connection)
        queries = [self._sums_of(table) for table in _WATCHED if table.name in tables]
        if not queries:
            return ()
        # As text: to put the statement together takes longer than to answer it.
        rows = connection.execute(text(" UNION ALL ".join(queries)), {"project": project})
        return tuple(sorted(tuple(row) for row in rows))

    def _sums_of(self, table: Table) -> str:
        seconds = "created_timestamp" if table is HISTORY else "last_updated_timestamp"
        blob = next((column.name for column in table.c if column.name.endswith("_proto")), "metadata_value")
        # The number of the transaction that wrote a row tells what whole seconds do not.
        wrote = "sum(CAST(CAST(xmin AS text) AS bigint))" if self._is_postgres else f"sum(length({blob}))"
        where = "" if table.name == "projects" else " WHERE project_id = :project"
        sums = f"count(*), coalesce(max({seconds}), 0), coalesce({wrote}, 0)"
        return f"SELECT '{table.name}', {sums} FROM {table.name}{where}"

    # ---- the engine ----

    def _make_engine(self, options: dict[str, Any]) -> Engine:
        if self.is_sqlite:
            options["connect_args"] = {"timeout": WAIT_SECONDS, **options.get("connect_args", {})}
            if not any(name.startswith("pool") for name in options):
                options["poolclass"] = NullPool  # a file opens fast, and a pool's connections would not survive a fork
        else:
            options.setdefault("pool_pre_ping", True)
        try:
            return sqlalchemy.create_engine(self._url, **options)
        except (NoSuchModuleError, ModuleNotFoundError) as exc:
            raise RegistryError(f"registry {self.name}: its driver is not installed: {exc}") from exc
        except (TypeError, ArgumentError) as exc:
            raise RegistryError(f"registry {self.name}: registry.sqlalchemy_config_kwargs: {exc}") from exc

    def _after_fork(self) -> None:
        # The parent goes on using its connections: the child must neither use nor close them.
        self._close.detach()
        _of_parent.append(self._engine.pool)
        self._engine.dispose(close=False)
        self._close = weakref.finalize(self, self._engine.dispose)
        if self._watcher is not None:
            self._watcher.after_fork()


class _Version(NamedTuple):
    connection: int
    version: int


class _SqliteWatcher:
    """Asks SQLite whether a file has changed. It counts what other connections do, so this one does nothing."""

    def __init__(self, path: str):
        self._path = path
        self._lock = threading.Lock()
        self._number = 0
        self._file: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None
        self._close: weakref.finalize[..., Any] | None = None

    def mark(self) -> _Version:
        with self._lock, fork_gate.current():
            stat = os.stat(self._path)
            if self._file != (stat.st_dev, stat.st_ino):
                self._connect()
                self._file = (stat.st_dev, stat.st_ino)
            assert self._connection is not None
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            return _Version(self._number, version)

    def _connect(self) -> None:
        if self._close is not None:
            self._close()
        self._connection = sqlite3.connect(self._path, WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        self._close = weakref.finalize(self, self._connection.close)
        # Counts of two connections say nothing about one another.
        self._number += 1

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        if self._close is not None:
            self._close.detach()
            self._close = None
        _of_parent.append(self._connection)
        self._connection, self._file = None, None


def _parse_url(given: str, folder: Path) -> URL:
    try:
        url = make_url(given)
    except ArgumentError:
        # Its reason quotes the whole text, with the password.
        raise RegistryError("registry.path is not a database URL, such as postgresql://user@host/database") from None
    if url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite":
        return url
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise RegistryError(f"registry {_name(url)}: a registry in SQLite is a file: sqlite:///path")
    return url.set(database=str(folder / url.database))


def _name(url: URL) -> str:
    host = f"{url.host}:{url.port}" if url.port else url.host or ""
    return f"{url.get_backend_name()}://{host}/{url.database or ''}"


def _state(exc: SQLAlchemyError) -> str | None:
    """Return the SQLSTATE of an error of PostgreSQL; psycopg 2 has another name for it."""
    cause = getattr(exc, "orig", None)
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def _reason(exc: SQLAlchemyError) -> str:
    # Not the whole text: it has the statement and its values in it.
    reason = " ".join(str(exc.orig if isinstance(exc, DBAPIError) else exc).split())
    if _state(exc) == "55P03" or reason == "database is locked":
        return f"another writer has held it for {WAIT_SECONDS} s; try again later"
    return reason or type(exc).__name__


_all: weakref.WeakSet[Database] = weakref.WeakSet()
_of_parent: list[object] = []


def _after_fork_in_child() -> None:
    for database in list(_all):
        database._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
