"""Repositories with precomputed feature services, for the tests of vectors.

write_vector_repo(folder, store, ...)   writes one
rows(...)                               rows to be pushed
answers(store, service, ...)            what a service answers, with event times and statuses
plainly(store, service, ...)            what its features answer when they are asked for one by one
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fastserve import FeatureStore
from fastserve.model import FeatureService

DEFINITIONS = """\
from datetime import timedelta
from fastserve import Entity, FeatureService, FeatureView, Field, FileSource, PushSource
from fastserve.types import Array, Float64, Int64, String
from fastserve.value_type import ValueType

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.INT64)

def view(name, entities, *fields, ttl=0):
    file = FileSource(name=f"{name}_file", path=f"data/{name}.parquet", timestamp_field="ts")
    source = PushSource(name=f"{name}_push", batch_source=file)
    return FeatureView(name=name, entities=entities, source=source, schema=fields, ttl=timedelta(days=ttl))

key, shop_key = Field(name="user_id", dtype=String), Field(name="shop_id", dtype=Int64)
a = view("a", [user], key, Field(name="x", dtype=Int64), Field(name="text", dtype=String), ttl=1)
b = view("b", [user], key, Field(name="y", dtype=Float64), Field(name="many", dtype=Array(Int64)))
c = view("c", [user, shop], key, shop_key, Field(name="z", dtype=Int64))
g = view("g", [], Field(name="w", dtype=Float64))

one = FeatureService(name="one", features=[a, b], precompute_online=True)
"""

MORE_SERVICES = """
mixed = FeatureService(name="mixed", features=[
    a[["x"]].with_name("payer").with_join_key_map({"user_id": "payer_id"}), b, c, g,
    a[["x"]].with_name("payee").with_join_key_map({"user_id": "payee_id"}),
], precompute_online=True)
"""

DAY = dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc)
USERS = [f"u{i}" for i in range(7)]


def at(seconds: float) -> dt.datetime:
    """Return a time so many seconds after DAY."""
    return DAY + dt.timedelta(seconds=seconds)


def write_vector_repo(folder: Path, store: Mapping[str, Any], definitions: str = DEFINITIONS, **fastserve: Any) -> Path:
    """Write a repository and its files; `fastserve` is that section of feature_store.yaml."""
    (folder / "data").mkdir(parents=True)
    write_config(folder, store, **fastserve)
    (folder / "features.py").write_text(definitions)
    numbers = list(range(len(USERS)))
    columns: dict[str, dict[str, Any]] = {
        "a": {"user_id": USERS, "x": numbers, "text": [f"t{i}" if i % 3 else None for i in numbers]},
        "b": {"user_id": USERS, "y": [i / 4 for i in numbers], "many": [[i] * i for i in numbers]},
        "c": {"user_id": USERS, "shop_id": [i % 2 for i in numbers], "z": numbers},
        "g": {"w": [i / 2 for i in numbers]},
    }
    for name, found in columns.items():
        write_file(folder, name, found)
    return folder


def write_file(folder: Path, view: str, columns: Mapping[str, Any]) -> None:
    """Write the file of a view: a row for each of USERS, a second after another."""
    times = pa.array([at(i) for i in range(len(USERS))], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({**columns, "ts": times}), folder / f"data/{view}.parquet")


def write_config(folder: Path, store: Mapping[str, Any], **fastserve: Any) -> None:
    """Write feature_store.yaml."""
    config = {
        "project": "p",
        "provider": "local",
        "registry": {"path": "data/registry.db"},
        "online_store": dict(store),
        "entity_key_serialization_version": 3,
        "fastserve": fastserve,
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))


def rows_a(users: Sequence[str], x: int, seconds: float, text: str | None = "pushed") -> dict[str, list[Any]]:
    """Return rows of the view `a`."""
    n = len(users)
    return {"user_id": list(users), "x": [x] * n, "text": [text] * n, "ts": [at(seconds)] * n}


def rows_b(users: Sequence[str], y: float, seconds: float) -> dict[str, list[Any]]:
    """Return rows of the view `b`."""
    n = len(users)
    return {"user_id": list(users), "y": [y] * n, "many": [[1, 2]] * n, "ts": [at(seconds)] * n}


def answers(
    store: FeatureStore, service: str, rows: Sequence[Mapping[str, Any]], full_feature_names: bool = True
) -> bytes:
    """Return the answer of a service, as JSON."""
    found = store.get_online_features(store.get_feature_service(service), [dict(r) for r in rows], full_feature_names)
    return found.to_json()


def plainly(store: FeatureStore, service: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return what the views of a service answer, without vectors."""
    found = store.get_feature_service(service)
    plain = FeatureService("plain", feature_view_projections=found.feature_view_projections)
    return store.get_online_features(plain, [dict(r) for r in rows], True).to_json()


def users(*names: str) -> list[dict[str, str]]:
    """Return the rows of a request."""
    return [{"user_id": name} for name in names]
