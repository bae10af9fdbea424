"""Writes a small bank's feature repository: feature_store.yaml, a registry and an SQLite online store.

The files are in Feast's formats, so that Feast 0.67 could serve them too.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from fastserve import _core
from fastserve.registry import schema_pb2 as schema
from fastserve.types import Bool, FeastType, Float64, Int64, String, UnixTimestamp

PROJECT = "bank"
UTC = timezone.utc

CONFIG = """\
project: bank
provider: local
registry: data/registry.db
online_store:
  type: sqlite
  path: data/online_store.db
"""


@dataclass(frozen=True)
class View:
    """A feature view with its rows: key -> (event time, values in the order of the features)."""

    name: str
    features: dict[str, FeastType]
    rows: dict[str, tuple[datetime, list[Any]]]
    ttl: timedelta = timedelta(0)


def views() -> list[View]:
    """Return the views; the last customer has no transactions, and one of them are old."""
    now = datetime.now(UTC).replace(microsecond=0)
    profile = View(
        "customer_profile",
        {"segment": String, "income": Float64, "is_vip": Bool, "customer_since": UnixTimestamp},
        {
            "C1": (now, ["gold", 83000.5, True, datetime(2011, 5, 2, tzinfo=UTC)]),
            "C2": (now, ["silver", None, False, datetime(2019, 11, 30, tzinfo=UTC)]),
            "C3": (now, ["basic", 41250.0, False, datetime(2025, 1, 7, tzinfo=UTC)]),
        },
    )
    transactions = View(
        "transactions_7d",
        {"count": Int64, "amount_sum": Float64},
        {"C1": (now - timedelta(hours=2), [14, 1290.75]), "C2": (now - timedelta(days=40), [2, 77.5])},
        ttl=timedelta(days=7),
    )
    return [profile, transactions]


def write_repository(folder: Path) -> None:
    """Write the whole repository into `folder`, which is made if it does not exist."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text(CONFIG)
    (folder / "data/registry.db").write_bytes(registry(views()).SerializeToString())
    write_online_store(folder / "data/online_store.db", views())


def registry(views: list[View]) -> schema.Registry:
    """Return the registry's message: one entity, the views, and a service of all features."""
    message = schema.Registry(registry_schema_version="1", version_id="demo")
    message.projects.add().spec.name = PROJECT
    customer = message.entities.add().spec
    customer.name, customer.join_key, customer.project = "customer", "customer_id", PROJECT
    customer.value_type = String.value_type
    service = message.feature_services.add().spec
    service.name, service.project = "fraud_model", PROJECT
    for view in views:
        add_view(message.feature_views.add().spec, view)
        projection = service.features.add(feature_view_name=view.name)
        add_fields(projection.feature_columns, view.features)
    return message


def add_view(spec: Any, view: View) -> None:
    spec.name, spec.project, spec.online = view.name, PROJECT, True
    spec.entities.append("customer")
    spec.ttl.FromTimedelta(view.ttl)
    add_fields(spec.entity_columns, {"customer_id": String})
    add_fields(spec.features, view.features)


def add_fields(columns: Any, fields: dict[str, FeastType]) -> None:
    for name, dtype in fields.items():
        columns.add(name=name, value_type=dtype.value_type)


def write_online_store(path: Path, views: list[View]) -> None:
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as store:
        for view in views:
            store.execute(
                f'CREATE TABLE "{PROJECT}_{view.name}" (entity_key BLOB, feature_name TEXT, value BLOB, '
                "value_text TEXT, vector_value BLOB, event_ts timestamp, created_ts timestamp, "
                "PRIMARY KEY (entity_key, feature_name))"
            )
            store.executemany(
                f'INSERT INTO "{PROJECT}_{view.name}" (entity_key, feature_name, value, event_ts) VALUES (?, ?, ?, ?)',
                stored_rows(view),
            )
    store.close()


def stored_rows(view: View) -> list[tuple[bytes, str, bytes, int]]:
    return [
        (
            _core.serialize_entity_key(["customer_id"], [key], [String.value_type]),
            name,
            _core.encode_value(value, dtype.value_type),
            int(event_time.timestamp()),
        )
        for key, (event_time, values) in view.rows.items()
        for (name, dtype), value in zip(view.features.items(), values, strict=True)
    ]
