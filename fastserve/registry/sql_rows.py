"""Rows of the SQL registry <-> a Registry message.

`read` assembles the message of one project, `write` brings what an edit did to it into the tables: only rows that
differ are written, and a row only if it still is as it was read. So nothing is lost that Feast, which knows nothing of
our locks, has written meanwhile.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    Table,
    and_,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from fastserve.errors import RegistryError
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.lists import content, name_of, project_of
from fastserve.registry.sql_tables import HISTORY, KINDS, METADATA, PERMISSIONS, TABLES, Kind

__all__ = ["Conflict", "State", "read", "remove", "write"]

logger = logging.getLogger(__name__)

_Key = tuple[Any, ...]
_Rows = dict[_Key, dict[str, Any]]

_UUID_KEY = "project_uuid"
_UPDATED_KEY = "last_updated_timestamp"
_UPDATED = "last_updated_timestamp"
_HISTORY_TEXTS = ("feature_view_name", "project_id", "feature_view_type", "description", "version_id")


class Conflict(Exception):
    """A row is no longer as it was read."""


@dataclass
class State:
    """What was read.

    Attributes:
        message: the definitions of one project, and all projects.
        blobs: table name -> primary key -> the bytes in the row, which say the same as the message, maybe otherwise.
    """

    message: pb.Registry
    blobs: dict[str, dict[_Key, bytes]] = field(default_factory=dict)


# ---- reading ----


def read(connection: Connection, project: str, tables: Collection[str]) -> State:
    """Read the definitions of a project.

    Args:
        tables: names of those that are there; older versions of Feast have fewer.

    Raises:
        RegistryError: a row is damaged.
    """
    state = State(pb.Registry(registry_schema_version="1"))
    for kind in (*KINDS.values(), PERMISSIONS):
        if kind.table.name in tables:
            _read_kind(connection, kind, project, state)
    if HISTORY.name in tables:
        _read_history(connection, project, state)
    if METADATA.name in tables:
        _read_metadata(connection, state.message)
    return state


def _read_kind(connection: Connection, kind: Kind, project: str, state: State) -> None:
    query = select(kind.name, kind.table.c.project_id, kind.blob)
    if kind.list_name != "projects":
        query = query.where(kind.table.c.project_id == project)
    items = getattr(state.message, kind.list_name)
    blobs = state.blobs[kind.table.name] = {}
    for name, project_id, blob in sorted(map(tuple, connection.execute(query))):  # a table has no order of its own
        try:
            item = _parse(items.add(), blob, kind.table, name)
        except RegistryError:
            if kind is not PERMISSIONS:
                raise
            logger.warning("permission %s in the registry is damaged; it is left out, nothing is decided by it", name)
            del items[-1]
            continue
        _set_project(item, project_id)
        blobs[_key(kind.table, name, project_id)] = blob


def _parse(item: Any, blob: bytes, table: Table, name: str) -> Any:
    try:
        item.ParseFromString(blob)
    except DecodeError as exc:
        raise _damaged(table, name) from exc
    if name_of(item) != name:
        raise _damaged(table, name)
    return item


def _damaged(table: Table, name: str) -> RegistryError:
    return RegistryError(f"row {name} of the registry's table {table.name} is damaged; write it again with apply")


def _key(table: Table, name: str, project_id: str) -> _Key:
    return (project_id,) if table.name == "projects" else (name, project_id)


def _set_project(item: Any, project: str) -> None:
    if isinstance(item, pb.DataSource):
        item.project = project
    elif not isinstance(item, pb.Project):
        item.spec.project = project


def _read_history(connection: Connection, project: str, state: State) -> None:
    query = select(HISTORY).where(HISTORY.c.project_id == project).order_by(*HISTORY.primary_key)
    blobs = state.blobs[HISTORY.name] = {}
    for row in connection.execute(query).mappings():
        record = state.message.feature_view_version_history.records.add(
            **{name: row[name] or "" for name in _HISTORY_TEXTS},
            version_number=row["version_number"],
            feature_view_proto=row["feature_view_proto"],
        )
        record.created_timestamp.FromSeconds(row["created_timestamp"])
        blobs[tuple(row[column.name] for column in HISTORY.primary_key)] = record.feature_view_proto


def _read_metadata(connection: Connection, message: pb.Registry) -> None:
    for project, key, value, seconds in connection.execute(select(METADATA).order_by(METADATA.c.project_id)):
        if key == _UUID_KEY:
            message.project_metadata.add(project=project, project_uuid=value)
        elif key == _UPDATED_KEY and seconds > message.last_updated.seconds:
            message.last_updated.FromSeconds(seconds)


# ---- writing ----


def write(connection: Connection, state: State, edited: pb.Registry, project: str, *, metadata: bool) -> bool:
    """Bring what an edit did to a state into the tables.

    Args:
        metadata: whether the project's rows of `feast_metadata` are kept, too.

    Returns:
        Whether there was anything to write.

    Raises:
        RegistryError: an object is there twice, or is another project's; nothing was written.
        Conflict: a row has changed since it was read; the transaction has to be rolled back.
    """
    before, after = _tables_of(state.message, project), _tables_of(edited, project)
    differing = [table for table in TABLES.sorted_tables if before.get(table.name) != after.get(table.name)]
    now = int(time.time())
    for table in differing:
        _write_table(connection, table, before[table.name], after[table.name], state.blobs.get(table.name, {}), now)
    if differing and metadata:
        _write_metadata(connection, edited, project, now)
    return bool(differing)


def _tables_of(message: pb.Registry, project: str) -> dict[str, _Rows]:
    """Return the rows, without the time of their last change, by table and primary key."""
    found = {kind.table.name: _rows(kind, getattr(message, kind.list_name), project) for kind in KINDS.values()}
    found[HISTORY.name] = _history_rows(message.feature_view_version_history.records, project)
    return found


def _rows(kind: Kind, items: Iterable[Any], project: str) -> _Rows:
    rows: _Rows = {}
    for item in items:
        name, owner = name_of(item), project_of(item)
        if owner != project and kind.list_name != "projects":
            raise RegistryError(f"{name} in {kind.list_name} is of project {owner!r}; this registry is of {project!r}")
        row = {kind.name.name: name, "project_id": owner, kind.blob.name: _blob(item)}
        _add(rows, _key(kind.table, name, owner), row, kind.table)
    return rows


def _blob(item: Any) -> bytes:
    bare = type(item)()
    bare.CopyFrom(item)
    _set_project(bare, "")
    return content(bare)


def _add(rows: _Rows, key: _Key, row: dict[str, Any], table: Table) -> None:
    if key in rows:
        raise RegistryError(f"{key[0]} is twice in {table.name}")
    rows[key] = row


def _history_rows(records: Iterable[pb.FeatureViewVersionRecord], project: str) -> _Rows:
    rows: _Rows = {}
    for record in records:
        row: dict[str, Any] = {name: getattr(record, name) for name in _HISTORY_TEXTS}
        row |= {"version_number": record.version_number, "feature_view_proto": record.feature_view_proto}
        row["created_timestamp"] = record.created_timestamp.seconds
        if record.project_id != project:
            raise RegistryError(f"a version of {record.feature_view_name} is of project {record.project_id!r}")
        _add(rows, tuple(row[column.name] for column in HISTORY.primary_key), row, HISTORY)
    return rows


def _write_table(
    connection: Connection, table: Table, before: _Rows, after: _Rows, blobs: Mapping[_Key, bytes], now: int
) -> None:
    removed = [_old(table, key, blobs[key]) for key in before if key not in after]
    changed = [key for key in before if key in after and after[key] != before[key]]
    updates = [_complete(table, after[key], now) | _old(table, key, blobs[key]) for key in changed]
    added = [_complete(table, after[key], now) for key in after if key not in before]
    # Removed rows first: a new one may differ from them in nothing but case, which some databases take for equal.
    _execute_each(connection, delete(table).where(_is_still(table)), removed)
    if updates:
        values: dict[str, Any] = {name: bindparam(name) for name in updates[0] if name in table.c}
        _execute_each(connection, update(table).where(_is_still(table)).values(values), updates)
    if added:
        connection.execute(insert(table), added)


def _blob_column(table: Table) -> Column[Any]:
    return next(column for column in table.c if column.name.endswith("_proto"))


def _is_still(table: Table) -> ColumnElement[bool]:
    """Return the condition that a row has the key and the bytes that `_old` gives."""
    columns = (*table.primary_key, _blob_column(table))
    return and_(*(column == bindparam(f"old {column.name}", type_=column.type) for column in columns))


def _old(table: Table, key: _Key, blob: bytes) -> dict[str, Any]:
    names = [column.name for column in (*table.primary_key, _blob_column(table))]
    return {f"old {name}": value for name, value in zip(names, (*key, blob), strict=True)}


def _execute_each(connection: Connection, statement: Executable, rows: list[dict[str, Any]]) -> None:
    """Execute a statement for each of some rows; Conflict unless it finds them all."""
    together = connection.dialect.supports_sane_multi_rowcount
    for batch in [rows] if together and rows else [[row] for row in rows]:
        if connection.execute(statement, batch).rowcount != len(batch):
            raise Conflict


def _complete(table: Table, row: dict[str, Any], now: int) -> dict[str, Any]:
    if table is not HISTORY:
        return row | {_UPDATED: now}
    return row | {
        "version_id": row["version_id"] or str(uuid.uuid4()),
        "created_timestamp": row["created_timestamp"] or now,
    }


def _where(table: Table, key: _Key) -> Iterator[ColumnElement[bool]]:
    return (column == value for column, value in zip(table.primary_key, key, strict=True))


def _write_metadata(connection: Connection, message: pb.Registry, project: str, now: int) -> None:
    given = [item.project_uuid for item in message.project_metadata if item.project == project]
    if not _update_metadata(connection, project, _UPDATED_KEY, str(now), now):
        _insert_metadata(connection, project, _UPDATED_KEY, str(now), now)
    query = select(METADATA.c.metadata_value).where(*_where(METADATA, (project, _UUID_KEY)))
    if connection.execute(query).first() is None:
        _insert_metadata(connection, project, _UUID_KEY, (given or [str(uuid.uuid4())])[0], now)


def _update_metadata(connection: Connection, project: str, key: str, value: str, now: int) -> bool:
    statement = update(METADATA).where(*_where(METADATA, (project, key)))
    return bool(connection.execute(statement.values(metadata_value=value, last_updated_timestamp=now)).rowcount)


def _insert_metadata(connection: Connection, project: str, key: str, value: str, now: int) -> None:
    row = {"project_id": project, "metadata_key": key, "metadata_value": value, _UPDATED: now}
    connection.execute(insert(METADATA), [row])


def remove(connection: Connection, project: str, tables: Collection[str]) -> None:
    """Delete all rows of a project, in all of these tables."""
    for table in TABLES.sorted_tables:
        if table.name in tables:
            connection.execute(delete(table).where(table.c.project_id == project))
