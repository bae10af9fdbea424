"""Precomputed vectors in SQLite: one table for them and for their markers.

fastserve_vectors (key BLOB PRIMARY KEY, value BLOB)

fsv:<tag>:<entity key>              a vector
fsv:marker:<project>:<service>      what is kept of a service, as JSON (`fastserve.vectors.Marker`)
fsv:epoch:<project>                 counts the changes of markers
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from fastserve._core import Batch, EncodedVectors, VectorLayout, WritePlan, merge_vectors
from fastserve.errors import NotSupportedError
from fastserve.stores.sqlite_write import quoted
from fastserve.stores.vector_store import FROM_ROWS, Markers

__all__ = ["SqliteVectors", "read_vectors"]

TABLE = "fastserve_vectors"
KEYS_PER_QUERY = 500
KEYS_PER_PAGE = 5000

T = TypeVar("T")


class _Change(Protocol):
    def __call__(self, task: Callable[[sqlite3.Connection], T], *, create: bool = False) -> T: ...


class SqliteVectors:
    """The `VectorStore` of an SQLite file.

    Args:
        change: does a task over a connection that may write.
        exists: whether the file is there.
    """

    always_overwrites = False
    keeps_feast = False
    builders = 1
    keys_expire = False

    def __init__(self, change: _Change, exists: Callable[[], bool], project: str):
        self._change, self._exists, self._project = change, exists, project
        self._marker = f"fsv:marker:{project}:".encode()
        self._epoch = f"fsv:epoch:{project}".encode()

    # --- markers ---

    def read_marker(self, service: str) -> bytes | None:
        """See `VectorStore.read_marker`."""
        key = self._marker + service.encode()
        found: bytes | None = self._read(lambda connection: _get(connection, key), None)
        return found

    def read_markers(self) -> Markers:
        """See `VectorStore.read_markers`."""
        return self._read(self._markers, Markers(0, {}))

    def _markers(self, connection: sqlite3.Connection) -> Markers:
        size = len(self._marker)
        found = dict(_beginning_with(connection, self._marker))
        return Markers(int(_get(connection, self._epoch) or 0), {k[size:].decode(): v for k, v in found.items()})

    def epoch(self) -> int:
        """See `VectorStore.epoch`."""
        return int(self._read(lambda connection: _get(connection, self._epoch), None) or 0)

    def swap_marker(self, service: str, old: bytes | None, new: bytes | None) -> bool:
        """See `VectorStore.swap_marker`."""
        key = self._marker + service.encode()

        def task(connection: sqlite3.Connection) -> bool:
            if _get(connection, key) != old:
                return False
            _put(connection, key, new)
            _put(connection, self._epoch, b"%d" % (int(_get(connection, self._epoch) or 0) + 1))
            return True

        return self._write(task)

    def _read(self, task: Callable[[sqlite3.Connection], T], default: T) -> T:
        """Do a task that changes nothing; without file or table, return the default."""

        def guarded(connection: sqlite3.Connection) -> T:
            return task(connection) if _has_table(connection) else default

        return self._change(guarded) if self._exists() else default

    def _write(self, task: Callable[[sqlite3.Connection], T]) -> T:
        """Do a task in one transaction."""

        def transaction(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (key BLOB PRIMARY KEY, value BLOB)")
                result = task(connection)
                connection.execute("COMMIT")
                return result
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

        return self._change(transaction)

    # --- vectors ---

    def reserve(
        self, service: str, marker: bytes, prefix: bytes, keys: Sequence[bytes], empty: bytes
    ) -> Sequence[int] | None:
        """See `VectorStore.reserve`."""
        name = self._marker + service.encode()
        statement = f"INSERT OR IGNORE INTO {TABLE} VALUES (?, ?)"

        def task(connection: sqlite3.Connection) -> Sequence[int] | None:
            if _get(connection, name) != marker:
                return None
            return [
                i for i, key in enumerate(keys) if connection.execute(statement, [prefix + key, empty]).rowcount > 0
            ]

        return self._write(task)

    def merge(
        self, service: str, marker: bytes, prefix: bytes, vectors: EncodedVectors, source: int
    ) -> Sequence[int] | None:
        """See `VectorStore.merge`; all of it is one transaction."""
        key = self._marker + service.encode()

        def task(connection: sqlite3.Connection) -> Sequence[int] | None:
            if _get(connection, key) != marker:
                return None
            items = list(enumerate(vectors.items()))
            if source == FROM_ROWS:
                items = _as_in_tables(items, vectors.layout)
            return [
                row
                for row, (entity_key, vector) in items
                if _merge(connection, vectors.layout, prefix + entity_key, vector, source)
            ]

        return self._write(task) if vectors.n_rows else ()

    def touch(self, prefix: bytes, keys: Sequence[bytes]) -> None:
        """Do nothing: keys have no time to live here."""

    def count(self, prefix: bytes) -> int:
        """See `VectorStore.count`."""
        query = f"SELECT count(*) FROM {TABLE} WHERE key >= ? AND key < ?"
        return self._read(lambda connection: int(connection.execute(query, _range(prefix)).fetchone()[0]), 0)

    def drop(self, prefixes: Iterable[bytes]) -> None:
        """See `VectorStore.drop`."""
        wanted = list(prefixes)

        def task(connection: sqlite3.Connection) -> None:
            for prefix in wanted:
                connection.execute(f"DELETE FROM {TABLE} WHERE key >= ? AND key < ?", _range(prefix))

        if wanted and self._exists():
            self._write(task)

    def put_feast(
        self, service: str, marker: bytes, view: str, values: Sequence[tuple[bytes, bytes]], event_time: int
    ) -> bool:
        """Raise NotSupportedError: Feast has vectors in Redis only."""
        raise NotSupportedError("vectors in Feast's format are kept in Redis only")

    # --- rows ---

    def estimate(self, plans: Sequence[WritePlan]) -> int:
        """See `VectorStore.estimate`."""
        query = f"SELECT count(*) FROM ({self._keys_after(plans)})"
        return self._change(lambda connection: int(connection.execute(query, {"after": b""}).fetchone()[0]))

    def entity_keys(self, plans: Sequence[WritePlan]) -> Iterator[list[bytes]]:
        """See `VectorStore.entity_keys`; none comes twice."""
        query, after = f"{self._keys_after(plans)} ORDER BY 1 LIMIT {KEYS_PER_PAGE}", b""

        def page(connection: sqlite3.Connection) -> list[bytes]:
            return [row[0] for row in connection.execute(query, {"after": after})]

        while keys := self._change(page):
            after = keys[-1]
            yield [key for key in keys if plans[0].owns(key + plans[0].suffix)]

    def _keys_after(self, plans: Sequence[WritePlan]) -> str:
        """Return the query for the keys behind `:after` of the tables of some views."""
        tables = [quoted(f"{self._project}_{plan.view}") for plan in plans]
        return " UNION ".join(f"SELECT entity_key FROM {table} WHERE entity_key > :after" for table in tables)


def read_vectors(connection: sqlite3.Connection, batch: Batch, index: int) -> None:
    """Read the vectors of one group of a batch; without the table there are none."""
    prefix, keys = batch.groups[index].vector_prefix, batch.entity_keys(index)
    if not _has_table(connection):
        return
    for start in range(0, len(keys), KEYS_PER_QUERY):
        entities = {prefix + key: start + i for i, key in enumerate(keys[start : start + KEYS_PER_QUERY])}
        query = f"SELECT key, value FROM {TABLE} WHERE key IN ({', '.join('?' * len(entities))})"
        for key, value in connection.execute(query, [*entities]):
            batch.put(index, entities[key], 0, value)


_Item = tuple[int, tuple[bytes, bytes]]


def _as_in_tables(items: list[_Item], layout: VectorLayout) -> list[_Item]:
    """Return vectors of one segment with its event time in whole seconds, as in Feast's tables, the newest first.

    Of rows in the same second the others then come too late, as they do for their table.
    """
    at = len(layout.head) + 4 * layout.n_segments

    def micros(item: _Item) -> int:
        return int.from_bytes(item[1][1][at : at + 8], "little", signed=True)

    def cut(item: _Item) -> _Item:
        row, (key, vector) = item
        seconds = (micros(item) // 1_000_000 * 1_000_000).to_bytes(8, "little", signed=True)
        return row, (key, vector[:at] + seconds + vector[at + 8 :])

    return [cut(item) for item in sorted(items, key=micros, reverse=True)]


def _merge(connection: sqlite3.Connection, layout: VectorLayout, key: bytes, given: bytes, source: int) -> bool:
    """Merge one vector; return whether it must be made of what is stored of its views."""
    stored = _get(connection, key)
    merged, is_unresolved = merge_vectors(layout, stored, given, source)
    if merged != stored:
        _put(connection, key, merged)
    return is_unresolved


def _has_table(connection: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, [TABLE]).fetchone() is not None


def _get(connection: sqlite3.Connection, key: bytes) -> Any:
    row = connection.execute(f"SELECT value FROM {TABLE} WHERE key = ?", [key]).fetchone()
    return row and row[0]


def _put(connection: sqlite3.Connection, key: bytes, value: bytes | None) -> None:
    if value is None:
        connection.execute(f"DELETE FROM {TABLE} WHERE key = ?", [key])
    else:
        connection.execute(f"INSERT OR REPLACE INTO {TABLE} VALUES (?, ?)", [key, value])


def _beginning_with(connection: sqlite3.Connection, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    yield from connection.execute(f"SELECT key, value FROM {TABLE} WHERE key >= ? AND key < ?", _range(prefix))


def _range(prefix: bytes) -> tuple[bytes, bytes]:
    """Return from where up to where keys begin with a prefix, which ends with no 0xFF."""
    return prefix, prefix[:-1] + bytes([prefix[-1] + 1])
