"""A registry as plain data, read with Feast's messages and with nothing of either side's reading. Runs beside Feast.

Of a file: its message. Of a database: all rows of all tables, the messages in them parsed.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from interop.exchange import Json

__all__ = ["parsed"]

KINDS = {
    "projects": "Project",
    "entities": "Entity",
    "data_sources": "DataSource",
    "feature_views": "FeatureView",
    "stream_feature_views": "StreamFeatureView",
    "on_demand_feature_views": "OnDemandFeatureView",
    "label_views": "LabelView",
    "feature_services": "FeatureService",
    "saved_datasets": "SavedDataset",
    "validation_references": "ValidationReference",
    "permissions": "Permission",
}
MODULES = {
    "LabelView": "feast.protos.feast.core.LabelView_pb2",
    "ValidationReference": "feast.protos.feast.core.ValidationProfile_pb2",
}


def parsed(repo: Path) -> Json:
    """Return the registry of a repository: list or table -> name -> what it says."""
    from feast.repo_config import load_repo_config

    config = load_repo_config(repo, repo / "feature_store.yaml").registry
    return of_database(config.path) if config.registry_type == "sql" else of_file(repo / config.path)


def as_json(message: Message) -> Json:
    """Return a message; what Feast does not know of is there as bytes."""
    return {**MessageToDict(message, preserving_proto_field_name=True), **unknown(message)}


def unknown(message: Message) -> Json:
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    size = len(message.SerializeToString()) - len(known.SerializeToString())
    return {"unknown bytes": size} if size else {}


def message_of(kind: str, data: bytes) -> Json:
    """Parse a message by the name of its kind."""
    module = import_module(MODULES.get(kind, f"feast.protos.feast.core.{kind}_pb2"))
    return as_json(getattr(module, kind).FromString(data))


# --- a file ----------------------------------------------------------------------------------------------------------


def of_file(path: Path) -> Json:
    from feast.protos.feast.core.Registry_pb2 import Registry

    message = Registry.FromString(path.read_bytes())
    found: Json = {"registry": {"": as_json(message)}}
    for kind in [*KINDS, "project_metadata"]:
        found["registry"][""].pop(kind, None)
        found[kind] = by_name(as_json(item) for item in getattr(message, kind))
    history = found["registry"][""].pop("feature_view_version_history", {})
    records = message.feature_view_version_history.records
    assert len(records) == len(history.get("records", ()))
    found["feature_view_version_history"] = {
        f"{r.feature_view_name} {r.version_number}": {
            **as_json(r),
            "feature_view_proto": view_of(r.feature_view_type, r.feature_view_proto),
        }
        for r in records
    }
    return found


def view_of(kind: str, data: bytes) -> Json:
    names = {"".join(word.title() for word in KINDS[name].split("_")).lower(): KINDS[name] for name in KINDS}
    return message_of(names[kind.replace("_", "").lower()], data)


def by_name(items: Iterable[Json]) -> dict[str, Json]:
    named = [
        (item.get("spec", item).get("name") or item.get("name") or item.get("project", ""), item) for item in items
    ]
    assert len(dict(named)) == len(named), f"names that occur twice: {[name for name, _ in named]}"
    return dict(named)


# --- a database ------------------------------------------------------------------------------------------------------


def of_database(url: str) -> Json:
    from sqlalchemy import MetaData, create_engine, text

    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        found = {
            name: [dict(row._mapping) for row in connection.execute(text(f'SELECT * FROM "{name}"'))]
            for name in sorted(tables.tables)
        }
    engine.dispose()
    return {name: {key_of(tables.tables[name], row): of_row(name, row) for row in rows} for name, rows in found.items()}


def key_of(table: Any, row: Json) -> str:
    return " ".join(str(row[column.name]) for column in table.primary_key if column.name != "project_id")


def of_row(table: str, row: Json) -> Json:
    return {name: cell(table, row, name) for name in row}


def cell(table: str, row: Json, name: str) -> Any:
    value = row[name]
    if not isinstance(value, (bytes, memoryview)):
        return value
    data = bytes(value)
    if not name.endswith("_proto"):
        return data.hex()
    if table == "feature_view_version_history":
        return view_of(row["feature_view_type"], data)
    return message_of(KINDS[table], data) if table in KINDS else data.hex()
