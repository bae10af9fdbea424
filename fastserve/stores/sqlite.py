"""SQLite, the embedded store: Feast's own tables, one per feature view, one row per entity key and feature.

    "<project>_<stored view>" (entity_key BLOB, feature_name TEXT, value BLOB, ..., event_ts timestamp, ...)

`entity_key` has no project at its end; `event_ts` is whole seconds since the epoch, true UTC.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from fastserve import fork_gate
from fastserve._core import Batch, EncodedRows, StoredView, WritePlan, encode_timestamp
from fastserve.errors import DecodeError, StoreError
from fastserve.stores import sqlite_write
from fastserve.stores.base import ThreadedReads
from fastserve.stores.sqlite_vectors import SqliteVectors, read_vectors

__all__ = ["SqliteStore"]

# Old SQLites take 999 variables, and the names of features are some of them; more keys at a time are not faster.
KEYS_PER_QUERY = 500
BUSY_TIMEOUT_SECONDS = 5.0

_T = TypeVar("_T")


class SqliteStore(ThreadedReads):
    """Reads batches from an SQLite file and writes rows to it.

    Each read has a connection to itself, which cannot change data; each write opens one that can.
    """

    def __init__(self, path: Path, project: str):
        self._path = Path(path)
        self._project = project
        self._idle: deque[_Connection] = deque()
        _stores.add(self)

    def read(self, batch: Batch) -> None:
        """Fill the batch. See `Store.read`; a file that another process has locked is waited for, up to 5 s.

        Raises:
            DecodeError: a row holds something else than bytes and seconds; names the entity key and the feature.
        """
        if not (batch.n_rows and batch.groups):
            return  # it asks for nothing, so the file need not even be there
        self._over_one(lambda connection: self._read_over(connection, batch))

    def write(self, rows: EncodedRows, key_ttl_seconds: int | None = None) -> int:
        """Write rows in one transaction, see `Store.write`; keys have no time to live here."""
        if not rows.n_rows:
            return 0
        self._identity()
        name = self._table_name(rows.plan)
        return self._change(lambda connection: sqlite_write.write_rows(connection, name, rows))

    def create(self, plans: Iterable[WritePlan]) -> None:
        """Create the views' tables, and the file with its folder if it is not there."""
        names = [self._table_name(plan) for plan in plans]
        if names:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._change(lambda connection: sqlite_write.create_tables(connection, names), create=True)

    def drop(self, plans: Iterable[WritePlan]) -> None:
        """Drop the views' tables."""
        names = [self._table_name(plan) for plan in plans]
        if names and self._path.exists():
            self._change(lambda connection: sqlite_write.drop_tables(connection, names))

    def teardown(self, plans: Iterable[WritePlan]) -> None:
        """Delete the file, with the tables of all projects in it, as Feast does."""
        self.close()
        try:
            sqlite_write.remove_files(self._path)
        except OSError as exc:
            raise StoreError(f"sqlite {self._path}: {exc}") from exc

    def check(self) -> None:
        """Raise StoreError unless the file is there and can be read."""
        self._over_one(lambda connection: connection.execute("SELECT count(*) FROM sqlite_master").fetchone())

    def usage(self) -> dict[str, int]:
        """Return the number of connections, see `Store.usage`; those in use are not counted."""
        return {"open": len(self._idle), "idle": len(self._idle), "in_flight": 0, "waiting": 0}

    def _over_one(self, task: Callable[[_Connection], object]) -> None:
        """Do the task over an idle connection, or a new one."""
        idle = self._idle  # the parent's, if a signal forks in the middle
        try:
            with fork_gate.current():
                connection = self._borrow()
                try:
                    task(connection)
                except BaseException:
                    # A statement that is not at its end would go on locking the file.
                    connection.close()
                    raise
        except (sqlite3.Error, OSError) as exc:
            raise StoreError(f"sqlite {self._path}: {exc}") from exc
        idle.append(connection)

    @property
    def vectors(self) -> SqliteVectors:
        """Where precomputed vectors are kept."""
        return SqliteVectors(self._change, self._path.exists, self._project)

    def _table_name(self, plan: WritePlan) -> str:
        return f"{self._project}_{plan.view}"

    def _change(self, task: Callable[[sqlite3.Connection], _T], *, create: bool = False) -> _T:
        """Do the task over a connection that may write."""
        try:
            with (
                fork_gate.current(),
                contextlib.closing(sqlite_write.open_for_writing(self._path, create=create)) as connection,
            ):
                return task(connection)
        except StoreError as exc:
            raise StoreError(f"sqlite {self._path}: {exc}") from exc
        except (sqlite3.Error, OSError) as exc:
            raise StoreError(f"sqlite {self._path}: {exc}") from exc

    def _read_over(self, connection: _Connection, batch: Batch) -> None:
        for index, group in enumerate(batch.groups):
            if group.vector_format:
                read_vectors(connection, batch, index)
                continue
            keys = batch.entity_keys(index)
            for view in group.views:
                table = _Table(connection, f"{self._project}_{view.name}", view)
                try:
                    _read_view(batch, index, table, keys)
                except sqlite3.OperationalError as exc:
                    if "no such table" not in str(exc):
                        raise
                    reason = f"feature view {view.name} has no table {table.name!r}; was it applied with online=True?"
                    raise StoreError(f"sqlite {self._path}: {reason}") from exc

    def _identity(self) -> tuple[int, int]:
        """Device and inode of the file, which must be there."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            reason = "no such file; apply and materialize the repository first"
            raise StoreError(f"sqlite {self._path}: {reason}") from None
        return status.st_dev, status.st_ino

    def _borrow(self) -> _Connection:
        identity = self._identity()
        while self._idle:
            connection = self._idle.pop()
            if connection.identity == identity:
                return connection
            # Another file is there now: torn down and made anew, or replaced by a rename.
            connection.close()
        return self._open(identity)

    def _open(self, identity: tuple[int, int]) -> _Connection:
        # Not mode=ro: SQLite could not take back what a writer that crashed left half done.
        uri = f"{self._path.resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_TIMEOUT_SECONDS, check_same_thread=False, factory=_Connection
        )
        connection.identity = identity
        connection.execute("PRAGMA query_only = ON")
        return connection

    def close(self) -> None:
        """Close the idle connections."""
        with fork_gate.current():
            self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    # Code written for Feast, which has no close(), would otherwise be warned of open files. It may run anywhere, so it
    # waits for nothing.
    __del__ = _close_idle

    def _leave_to_parent(self) -> None:
        """After a fork: SQLite allows nothing with the parent's connections, not even to close them."""
        _of_parent.append(self._idle)
        self._idle = deque()


class _Connection(sqlite3.Connection):
    identity: tuple[int, int]
    """Device and inode of the file."""


class _Table:
    """The table of one feature view."""

    def __init__(self, connection: sqlite3.Connection, name: str, view: StoredView):
        self.name = name
        self.view = view
        self._connection = connection
        self._quoted = '"' + name.replace('"', '""') + '"'

    def values(self, keys: Collection[bytes]) -> Iterator[Any]:
        """Yield (entity key, feature, value, event time) of the features that are to be read."""
        query = (
            f"SELECT entity_key, feature_name, value, event_ts FROM {self._quoted} "
            f"WHERE entity_key IN ({_marks(keys)}) AND feature_name IN ({_marks(self.view.features)})"
        )
        return self._connection.execute(query, [*keys, *self.view.features])

    def event_times(self, keys: Collection[bytes]) -> Iterator[Any]:
        """Yield (entity key, event time), of whatever features."""
        query = f"SELECT entity_key, max(event_ts) FROM {self._quoted} WHERE entity_key IN ({_marks(keys)}) GROUP BY 1"
        return self._connection.execute(query, [*keys])


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))


def _read_view(batch: Batch, group: int, table: _Table, keys: list[bytes]) -> None:
    fields = {feature: table.view.start + i for i, feature in enumerate(table.view.features)}
    for start in range(0, len(keys), KEYS_PER_QUERY):
        entities = {key: start + i for i, key in enumerate(keys[start : start + KEYS_PER_QUERY])}
        times: dict[bytes, int] = {}
        for key, feature, value, event_ts in table.values(entities):
            if not isinstance(value, bytes) or not isinstance(event_ts, int):
                kinds = f"value is {type(value).__name__}, event_ts is {type(event_ts).__name__}"
                raise _misfit(f"{kinds}; bytes and an integer expected", key, f"{table.view.name}:{feature}")
            batch.put(group, entities[key], fields[feature], value)
            times[key] = max(event_ts, times.get(key, event_ts))
        # A row may be there without the features asked for, which came later; as in Redis, it has an event time.
        if without := entities.keys() - times:
            times.update(table.event_times(without))
        for key, event_ts in times.items():
            batch.put(group, entities[key], table.view.event_time, _timestamp(event_ts, key, table.view))


def _timestamp(event_ts: object, key: bytes, view: StoredView) -> bytes:
    try:
        return encode_timestamp(event_ts)  # type: ignore[arg-type]
    except (TypeError, ValueError) as exc:
        raise _misfit(f"event_ts: {exc}", key, view.name) from None


def _misfit(reason: str, key: bytes, field: str) -> DecodeError:
    return DecodeError(reason, key=key.hex(), field=field)


_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()
_of_parent: list[deque[_Connection]] = []


def _after_fork() -> None:
    for store in list(_stores):
        store._leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)
