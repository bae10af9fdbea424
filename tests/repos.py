"""Repositories that tests write: a feature_store.yaml, Parquet files, and Python files with definitions."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastserve.config import load_config
from fastserve.registry import open_registry
from fastserve.registry import schema_pb2 as pb

CONFIG = """\
project: shop
provider: local
registry: {registry}
online_store: {{type: sqlite, path: data/online.db}}
entity_key_serialization_version: 3
"""

DEFINITIONS = """\
from datetime import timedelta
from fastserve import Entity, FeatureService, FeatureView, Field, FileSource, PushSource
from fastserve.types import Array, Bool, Float64, Int32, Int64, String

driver = Entity(name="driver", join_keys=["driver_id"], description="who drives", tags={"a": "b"})
src = FileSource(
    name="src", path="data/d.parquet", timestamp_field="event_timestamp", created_timestamp_column="created"
)
push = PushSource(name="push", batch_source=src)
stats = FeatureView(
    name="stats",
    entities=[driver],
    ttl=timedelta(days=1),
    source=src,
    schema=[Field(name="rate", dtype=Float64), Field(name="trips", dtype=Int32)],
    tags={"team": "x"},
)
inferred = FeatureView(name="inferred", entities=[driver], source=src)
glob = FeatureView(name="glob", source=FileSource(path="data/g.parquet"))
pushed = FeatureView(name="pushed", entities=[driver], source=push, schema=[Field(name="name", dtype=String)])
svc = FeatureService(name="svc", features=[stats[["rate"]], glob])
"""

NOW = datetime(2025, 1, 2, tzinfo=timezone.utc)


def write_repo(folder: Path, definitions: str = DEFINITIONS, registry: str = "data/registry.db") -> Path:
    """Write a repository and return its folder."""
    (folder / "data").mkdir(parents=True)
    (folder / "feature_store.yaml").write_text(CONFIG.format(registry=registry))
    (folder / "features.py").write_text(definitions)
    times = pa.array([NOW, NOW], pa.timestamp("us", "UTC"))
    columns: dict[str, Any] = {
        "driver_id": pa.array([1, 2], pa.int64()),
        "rate": [0.5, 0.6],
        "trips": pa.array([3, 4], pa.int32()),
        "name": ["a", "b"],
        "flag": [True, False],
        "vals": pa.array([[1, 2], [3]], pa.list_(pa.int64())),
    }
    pq.write_table(pa.table({**columns, "event_timestamp": times, "created": times}), folder / "data/d.parquet")
    pq.write_table(pa.table({"x": [0.5, 0.6], "ts": times}), folder / "data/g.parquet")
    return folder


def change(folder: Path, old: str, new: str) -> None:
    """Replace a piece of features.py."""
    file = folder / "features.py"
    text = file.read_text()
    assert old in text, old
    file.write_text(text.replace(old, new))
    # Python takes a source of the same second and size for unchanged.
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)


def registry_of(folder: Path) -> pb.Registry:
    """Return the registry's message."""
    return open_registry(load_config(folder)).load().message
