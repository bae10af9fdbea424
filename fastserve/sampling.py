"""Entities to measure with: some of those that an online store holds, or those of a file. Nothing is written.

Redis is walked with SCAN, a table of SQLite is read up to so many keys. What a key's bytes say is turned back into the
values of the join keys that it was made of.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sqlite3
import struct
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastserve._core import KeyGroup, ReadPlan
from fastserve.config import Config, RedisConfig, SqliteConfig
from fastserve.errors import NotSupportedError, RequestError, StoreError
from fastserve.stores.redis_wire import Connection
from fastserve.stores.redis_write import KEYS_PER_SCAN, escaped
from fastserve.stores.sqlite_write import quoted

__all__ = ["rows_of_file", "rows_of_store", "values_of_key"]

SECONDS = 20.0
"""So long a database is walked for keys of one kind."""

BYTES, STRING, INT32, INT64, UNIX_TIMESTAMP = 1, 2, 3, 4, 8
NUMBERS = {4: "<i", 8: "<q"}

Row = dict[str, Any]


def rows_of_store(config: Config, plan: ReadPlan, count: int) -> list[Row]:
    """Return rows of a request for entities that the store holds, `count` or as many as there are.

    Where views have different join keys, rows are put together of what each has: not every pair need be stored.

    Raises:
        RequestError: the store has no entity with the join keys of a view.
        NotSupportedError: a store of this kind cannot be walked.
        StoreError: it failed.
    """
    columns: dict[str, list[Any]] = {}
    # Those with more join keys first: a pair that is stored stays together.
    for group in sorted(plan.groups, key=lambda group: -len(group.columns)):
        if set(group.columns) <= columns.keys():
            continue
        found = _sampled(config, group, count)
        if not found:
            keys = ", ".join(group.columns)
            raise RequestError(f"the online store holds no entity of {keys}: load some, or give entities in a file")
        for column, values in zip(group.columns, zip(*found, strict=True), strict=True):
            columns.setdefault(column, list(values))
    n_rows = min((len(values) for values in columns.values()), default=1)
    return [{name: values[i] for name, values in columns.items()} for i in range(n_rows)]


def _sampled(config: Config, group: KeyGroup, count: int) -> list[list[Any]]:
    found: dict[bytes, list[Any]] = {}
    for key in _keys(config, group, count):
        values = values_of_key(group, key)
        if values is not None:
            found[key] = values
        if len(found) == count:
            break
    return list(found.values())


def values_of_key(group: KeyGroup, key: bytes) -> list[Any] | None:
    """Return the values of an entity key (without the project); None if it has other names, or is no key."""
    at, values = len(group.prefix), []
    if not key.startswith(group.prefix):
        return None
    with contextlib.suppress(struct.error, UnicodeDecodeError, KeyError, OverflowError):
        for _ in group.join_keys:
            kind, size = struct.unpack_from("<II", key, at)
            at += 8 + size
            values.append(_value(kind, key[at - size : at]))
        return values if at == len(key) else None
    return None


def _value(kind: int, data: bytes) -> Any:
    if kind == STRING:
        return data.decode()
    if kind == BYTES:
        return data
    (number,) = struct.unpack(NUMBERS[len(data)], data)
    return datetime.fromtimestamp(number, timezone.utc) if kind == UNIX_TIMESTAMP else number


# --- where keys come from --------------------------------------------------------------------------------------------


def _keys(config: Config, group: KeyGroup, count: int) -> Iterator[bytes]:
    store = config.online_store
    if isinstance(store, RedisConfig):
        return _redis_keys(store, group)
    if isinstance(store, SqliteConfig):
        return iter(_sqlite_keys(store, config.project, group, count))
    raise NotSupportedError("entities cannot be taken from a store of this type: give them in a file")


def _redis_keys(store: RedisConfig, group: KeyGroup) -> Iterator[bytes]:
    pattern = escaped(group.prefix) + b"*" + escaped(group.suffix)
    cursor, end, timeout = b"0", time.monotonic() + SECONDS, store.connection.socket_timeout
    connection = Connection(store.connection)
    try:
        connection.open()
        while time.monotonic() < end:
            deadline = time.monotonic() + timeout
            cursor, page = connection.call(deadline, "SCAN", cursor, "MATCH", pattern, "COUNT", KEYS_PER_SCAN)
            yield from (key[: len(key) - len(group.suffix)] for key in page)
            if cursor == b"0":
                return
    finally:
        connection.close()


def _sqlite_keys(store: SqliteConfig, project: str, group: KeyGroup, count: int) -> list[bytes]:
    path = Path(store.path)
    table = quoted(f"{project}_{group.views[0].name}")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            query = f"SELECT DISTINCT entity_key FROM {table} LIMIT ?"
            return [row[0] for row in connection.execute(query, [count])]
    except sqlite3.Error as exc:
        raise StoreError(f"sqlite {path}: {exc}") from exc


# --- a file ----------------------------------------------------------------------------------------------------------


def rows_of_file(path: Path) -> list[Row]:
    """Return the rows of a file: CSV with a head line; JSON, a list of objects or an object of columns; or JSON lines.

    Raises:
        RequestError: it cannot be read, is none of these, or has no rows.
    """
    try:
        rows = list(_parsed(path))
    except (OSError, ValueError, TypeError) as exc:
        raise RequestError(f"{path}: {exc}") from exc
    if not rows or not all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows):
        raise RequestError(f"{path}: rows expected, all with the same columns")
    return rows


def _parsed(path: Path) -> Iterable[Row]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        return csv.DictReader(text.splitlines())
    if path.suffix == ".json":
        found = json.loads(text)
        return found if isinstance(found, list) else _rows_of_columns(found)
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _rows_of_columns(columns: dict[str, list[Any]]) -> list[Row]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
