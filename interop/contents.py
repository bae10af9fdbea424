"""What is in an online store, all of it; and in what two of them differ."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve._core import field_id
from fastserve.registry.schema_pb2 import Value

__all__ = ["Redis", "Sqlite", "differing_redis", "differing_sqlite", "of_redis", "of_sqlite"]

OURS = b"fsv:"
Redis = dict[bytes, dict[bytes, bytes]]
"""Key -> field -> value."""


def of_redis(client: Any) -> Redis:
    """Return all hashes of a database; but for packed vectors, nothing in it may be anything else, or expire."""
    with client:
        found = {}
        for key in client.scan_iter(count=1000):
            if key.startswith(OURS):
                continue
            assert client.type(key) == b"hash", key
            assert client.ttl(key) == -1, f"{key} expires"
            found[key] = client.hgetall(key)
        return found


def ours(name: str) -> bool:
    """Whether a table or index of SQLite is of packed vectors, which only fastserve has."""
    return "fastserve_vectors" in name


Rows = dict[tuple[bytes, str], dict[str, Any]]
"""Entity key and feature -> the other columns."""


@dataclass
class Sqlite:
    """A file.

    Attributes:
        tables: name -> what made it.
        rows: by table.
    """

    tables: dict[str, str]
    rows: dict[str, Rows]


def of_sqlite(path: Path) -> Sqlite:
    """Return all tables of a file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        made = {name: sql for name, sql in connection.execute("SELECT name, sql FROM sqlite_master") if not ours(name)}
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        names = [name for (name,) in tables if not ours(name)]
        rows = {name: [dict(row) for row in connection.execute(f'SELECT * FROM "{name}"')] for name in names}
    return Sqlite(
        made,
        {name: {(row.pop("entity_key"), row.pop("feature_name")): row for row in rows[name]} for name in names},
    )


# --- comparing -------------------------------------------------------------------------------------------------------

VECTOR_TIME = b"_ts:__precomputed__"
NULL_TIME = Value(unix_timestamp_val=-(2**63)).SerializeToString()


def differing_redis(ours: Redis, theirs: Redis, named: Counter[str]) -> list[str]:
    """Return in what two databases differ, but for what has a name, which is counted.

    - vectors: only Feast keeps them in the hashes, unless its format is configured; who wrote them last knew most.
    - maps, null_times: as `same_value`.
    """
    faults = [f"{key!r} is in one of them only" for key in ours.keys() ^ theirs.keys()]
    for key in ours.keys() & theirs.keys():
        vectors = {field for found in (ours[key], theirs[key]) for field in vector_fields(found)}
        named["vectors"] += bool(vectors)
        faults += [f"{key!r} {field!r} is missing" for field in theirs[key].keys() - ours[key].keys() - vectors]
        for field, value in ours[key].items():
            if field in vectors:
                continue
            wanted = theirs[key].get(field)
            if wanted is None or not same_value(value, wanted, named):
                faults.append(f"{key!r} {field!r}: {wanted!r} expected, {value!r} found")
    return faults


def vector_fields(fields: dict[bytes, bytes]) -> list[bytes]:
    """Return the fields of a hash that are a vector in Feast's format, and its time."""
    views = [field.removeprefix(b"_ts:").decode() for field in fields if field.startswith(VECTOR_TIME)]
    return [name for view in views for name in (b"_ts:" + view.encode(), field_id(view, "vector"))]


def differing_sqlite(ours: Sqlite, theirs: Sqlite, named: Counter[str]) -> list[str]:
    """Return in what two files differ, but for what has a name, which is counted.

    - older_rows: with Feast the row that comes last is stored, with fastserve the newest.
    - early_tables: those of stored on-demand views, which `feast apply` does not make.
    - maps, null_times: as `same_value`.
    """
    early = {name for name in ours.tables.keys() - theirs.tables.keys() if not ours.rows.get(name)}
    named["early_tables"] += len(early)
    faults = [f"{name} is in one of them only" for name in (ours.tables.keys() ^ theirs.tables.keys()) - early]
    for name in ours.tables.keys() & theirs.tables.keys():
        made, wanted = plain(ours.tables[name]), plain(theirs.tables[name])
        faults += [f"{name}: {wanted} expected, {made} found"] if made != wanted else []
    for name in ours.rows.keys() & theirs.rows.keys():
        faults += [f"{name}: {fault}" for fault in differing_rows(ours.rows[name], theirs.rows[name], named)]
    return faults


def differing_rows(ours: Rows, theirs: Rows, named: Counter[str]) -> Iterator[str]:
    for key in ours.keys() ^ theirs.keys():
        yield f"{key} is in one of them only"
    for key in ours.keys() & theirs.keys():
        found, wanted = dict(ours[key]), dict(theirs[key])
        if wanted["event_ts"] < found["event_ts"]:
            named["older_rows"] += 1
            continue
        same = same_value(found.pop("value"), wanted.pop("value"), named)
        if not same or found != wanted:
            yield f"{key}: {theirs[key]} expected, {ours[key]} found"


def same_value(found: bytes, wanted: bytes, named: Counter[str]) -> bool:
    """Whether the bytes are equal; or else

    - maps: are the same entries in another order, which protobuf leaves open, and changes from process to process;
    - null_times: are a null time as Feast writes it from a DataFrame, and as it writes it value by value, as
      `feast_side` has to for rows that fit into no DataFrame.
    """
    if found == wanted:
        return True
    if (found, wanted) == (NULL_TIME, b""):
        named["null_times"] += 1
        return True
    same = Value.FromString(found) == Value.FromString(wanted)
    named["maps"] += same
    return same


def plain(statement: str | None) -> str | None:
    """Return SQL without its layout: as SQLite itself, spaces and quotes make no difference."""
    return None if statement is None else re.sub(r"\s*([(),])\s*", r"\1", " ".join(statement.replace('"', "").split()))
