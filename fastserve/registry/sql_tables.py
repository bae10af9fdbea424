"""The tables of the SQL registry, as Feast defines them.

A definition is a row: its name, its project, the second of its last change and its serialised message. Whole seconds
throughout. The message leaves its project out: the column says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.dialects import mysql

from fastserve.registry.lists import LISTS

__all__ = ["HISTORY", "KINDS", "METADATA", "PERMISSIONS", "TABLES", "Kind"]

TABLES = MetaData()

# A BLOB of MySQL ends at 64 kB.
_Blob = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def _table(name: str, *columns: Column[Any], index: str = "") -> Table:
    table = Table(name, TABLES, *columns)
    Index(f"idx_{index or name}_project_id", table.c.project_id)
    return table


def _key(name: str, size: int = 255) -> Column[str]:
    return Column(name, String(size), primary_key=True)


def _seconds(name: str = "last_updated_timestamp") -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _blob(name: str, nullable: bool = False) -> Column[bytes]:
    return Column(name, _Blob, nullable=nullable)


def _definitions(name: str, of: str, *more: Column[Any]) -> Table:
    return _table(name, _key(f"{of}_name"), _key("project_id"), _seconds(), *more, _blob(f"{of}_proto"))


def _views(name: str, *more: Column[Any]) -> Table:
    blobs = (*more, _blob("feature_view_proto"), _blob("user_metadata", nullable=True))
    return _table(name, _key("feature_view_name"), _key("project_id"), _seconds(), *blobs)


_table(
    "projects",
    _key("project_id"),
    Column("project_name", String(255), nullable=False),
    _seconds(),
    _blob("project_proto"),
)
_definitions("entities", "entity")
_definitions("data_sources", "data_source")
_views("feature_views", _blob("materialized_intervals", nullable=True))
_views("stream_feature_views")
_views("on_demand_feature_views")
_views("label_views")
_definitions("feature_services", "feature_service")
_definitions("saved_datasets", "saved_dataset")
_definitions("validation_references", "validation_reference")
_definitions("managed_infra", "infra")
_definitions("permissions", "permission")

HISTORY = _table(
    "feature_view_version_history",
    _key("feature_view_name"),
    _key("project_id"),
    Column("version_number", Integer, primary_key=True, autoincrement=False),
    Column("feature_view_type", String(50), nullable=False),
    _blob("feature_view_proto"),
    _seconds("created_timestamp"),
    Column("description", Text, nullable=True),
    Column("version_id", String(36), nullable=False),
    index="fv_version_history",
)

METADATA = _table(
    "feast_metadata",
    _key("project_id"),
    _key("metadata_key", 50),
    Column("metadata_value", Text, nullable=False),
    _seconds(),
)


class Kind(NamedTuple):
    """One list of a Registry message, and the table that holds its messages."""

    list_name: str
    table: Table
    name: Column[str]
    blob: Column[bytes]


def _kind(list_name: str) -> Kind:
    table = TABLES.tables[list_name]
    blob = next(column for column in table.c if column.name.endswith("_proto"))
    name = table.c.project_name if list_name == "projects" else next(iter(table.c))
    return Kind(list_name, table, name, blob)


KINDS: Mapping[str, Kind] = {list_name: _kind(list_name) for list_name in LISTS}
"""By the name of the list. Tables that are in no list are carried along: fastserve has no use for them."""

PERMISSIONS = _kind("permissions")
"""What is only read."""
