"""Writing to SQLite: Feast's tables, and the one statement that decides whether a row is applied.

An event time is kept in whole seconds, as Feast keeps it: two writes within a second are equally new.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path

from fastserve._core import EncodedRows, decode_value
from fastserve.errors import StoreError

__all__ = ["create_tables", "drop_tables", "open_for_writing", "remove_files", "write_rows"]

FEATURES_PER_STATEMENT = 200  # old SQLites take 999 variables
BUSY_TIMEOUT_SECONDS = 5.0

TEXT_TYPES = frozenset({2, 3, 4, 5, 6, 7})
"""ValueTypes of which Feast keeps a text beside the value: STRING, INT32, INT64, DOUBLE, FLOAT, BOOL."""


def open_for_writing(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Return a new connection without implicit transactions, with the write-ahead log on if nobody is in the way.

    With the log, readers and a writer do not wait for one another; Feast reads such files too.
    """
    uri = f"{path.resolve().as_uri()}?mode={'rwc' if create else 'rw'}"
    # No wait for the log: whoever is reading would hold up a write that can do without it.
    connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as exc:
        if "locked" not in str(exc):
            connection.close()
            raise
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_SECONDS * 1000)}")
    return connection


def create_tables(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Create views' tables as Feast does; to one that is there, add the column that older versions of Feast lack."""
    with _transaction(connection):
        for name in names:
            _create_table(connection, name)


def _create_table(connection: sqlite3.Connection, name: str) -> None:
    table, index = quoted(name), quoted(f"{name}_ek")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table} (entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT, "
        "vector_value BLOB, event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
    )
    connection.execute(f"CREATE INDEX IF NOT EXISTS {index} ON {table} (entity_key)")
    if "value_text" not in _columns(connection, name):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN value_text TEXT")


def drop_tables(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Drop views' tables, if they are there."""
    with _transaction(connection):
        for name in names:
            connection.execute(f"DROP TABLE IF EXISTS {quoted(name)}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # At once, not when something is written: two who have read cannot both wait to write.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def remove_files(path: Path) -> None:
    """Delete the file, and first its log: that of a file that is gone would be taken for the next one's."""
    for suffix in ("-wal", "-shm", "-journal", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def quoted(name: str) -> str:
    """Return an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def write_rows(connection: sqlite3.Connection, name: str, rows: EncodedRows) -> int:
    """Write all rows to a view's table in one transaction; return how many were applied.

    Raises:
        StoreError: there is no such table.
        sqlite3.Error: nothing was written.
    """
    with _transaction(connection):
        return _write(connection, name, rows)


def _write(connection: sqlite3.Connection, name: str, rows: EncodedRows) -> int:
    columns = _columns(connection, name)
    if not columns:
        reason = f"feature view {rows.plan.view} has no table {name!r}; was it applied with online=True?"
        raise StoreError(reason)
    statements = list(_statements(name, rows.plan.features, "value_text" in columns))
    has_text = [number in TEXT_TYPES for number in rows.plan.feature_types]
    applied = 0
    # The newest first: of rows in the same second, the others then come too late.
    for key, event_time, created_time, values in sorted(rows.records(), key=itemgetter(1), reverse=True):
        times = (key, event_time // 1_000_000, None if created_time is None else created_time // 1_000_000)
        texts = [_text(value) if wanted else None for value, wanted in zip(values, has_text, strict=True)]
        changed = 0
        for statement, part in statements:
            cells = [cell for pair in zip(values[part], texts[part], strict=True) for cell in pair]
            changed += connection.execute(statement, (*times, *cells)).rowcount
        applied += changed > 0
    return applied


def _text(value: bytes) -> str | None:
    return str(decode_value(value)) if value else None


def _columns(connection: sqlite3.Connection, name: str) -> set[str]:
    """Return the names of a table's columns; none if there is no such table."""
    return {row[1] for row in connection.execute(f"PRAGMA table_info({quoted(name)})")}


def _statements(name: str, features: tuple[str, ...], has_text: bool) -> Iterator[tuple[str, slice]]:
    """Yield the statements that write a row, each with the features that it writes.

    Their variables: 1 entity key, 2 event time, 3 created time, then value and text of each feature.
    """
    for start in range(0, len(features), FEATURES_PER_STATEMENT):
        part = slice(start, start + FEATURES_PER_STATEMENT)
        yield _statement(quoted(name), features[part], has_text), part


def _statement(table: str, features: tuple[str, ...], has_text: bool) -> str:
    """Nothing is written where something newer is stored of the row, be it of another feature, nor over equal times."""
    cells = ", ".join(f"({_literal(feature)}, ?{4 + 2 * i}, ?{5 + 2 * i})" for i, feature in enumerate(features))
    text = ("value_text, ", "value_text = excluded.value_text, ") if has_text else ("", "")
    return (
        f"INSERT INTO {table} (entity_key, feature_name, value, {text[0]}event_ts, created_ts) "
        f"WITH cells(feature_name, value, value_text) AS (VALUES {cells}) "
        f"SELECT ?1, feature_name, value, {text[0]}?2, ?3 FROM cells "
        f"WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE entity_key = ?1 AND event_ts > ?2) "
        f"ON CONFLICT (entity_key, feature_name) DO UPDATE SET value = excluded.value, {text[1]}"
        f"event_ts = excluded.event_ts, created_ts = excluded.created_ts WHERE excluded.event_ts > {table}.event_ts"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
