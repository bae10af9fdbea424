"""Stored on-demand views are computed from the files of their sources."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastserve import FeatureStore
from fastserve.errors import NotSupportedError, TransformError
from fastserve.materialize import Stopped
from tests.registries import yaml_of
from tests.repos import CONFIG

UTC = dt.timezone.utc
DAY = dt.timedelta(days=1)
START, END = dt.datetime(2025, 3, 1, tzinfo=UTC), dt.datetime(2025, 3, 31, tzinfo=UTC)

DEFINITIONS = """\
from datetime import timedelta
from fastserve import Entity, FeatureView, Field, FileSource, RequestSource
from fastserve.on_demand_feature_view import on_demand_feature_view
from fastserve.types import Array, Int64, String

shop = Entity(name="shop", join_keys=["shop_id"])
key = Field(name="shop_id", dtype=Int64)

def view(name, days, *fields):
    source = FileSource(path=f"data/{name}.parquet", timestamp_field="at")
    return FeatureView(name=name, entities=[shop], ttl=timedelta(days=days), source=source, schema=[key, *fields])

sales = view("sales", 0, Field(name="sold", dtype=Int64), Field(name="parts", dtype=Array(Int64)))
staff = view("staff", 3, Field(name="people", dtype=Int64))

@on_demand_feature_view(
    sources=[sales[["sold", "parts"]], staff], entities=[shop], write_to_online_store=True, mode="python",
    schema=[key, Field(name="each", dtype=Int64), Field(name="text", dtype=String)],
)
def load(inputs):
    pairs = list(zip(inputs["sold"], inputs["staff__people"]))
    return {
        "each": [None if a is None or not b else a // b for a, b in pairs],
        "text": [f"{a} {b} {c}" for (a, b), c in zip(pairs, inputs["parts"])],
    }

@on_demand_feature_view(
    sources=[sales, RequestSource(name="asked", schema=[Field(name="n", dtype=Int64)])], entities=[shop],
    write_to_online_store=True, mode="python", schema=[key, Field(name="more", dtype=Int64)],
)
def asked(inputs):
    return {"more": inputs["n"]}
"""


def write_rows(path: Path, rows: list[tuple[int, int, dt.datetime]], name: str) -> None:
    """Write rows of shop, number and time."""
    columns = {
        "shop_id": [row[0] for row in rows],
        name: [row[1] for row in rows],
        "at": pa.array([row[2] for row in rows], pa.timestamp("us", "UTC")),
    }
    if name == "sold":
        columns["parts"] = [[row[1], 1] for row in rows]
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    (tmp_path / "data").mkdir()
    (tmp_path / "feature_store.yaml").write_text(CONFIG.format(registry="data/registry.db"))
    (tmp_path / "features.py").write_text(DEFINITIONS)
    old, last = START - 9 * DAY, END - DAY
    write_rows(
        tmp_path / "data/sales.parquet",
        [(1, 10, START), (1, 90, last), (2, 40, old), (3, 50, old), (4, 70, END + DAY), (5, 8, last)],
        "sold",
    )
    write_rows(
        tmp_path / "data/staff.parquet", [(1, 9, last - DAY), (2, 4, last), (3, 5, old), (5, 2, START)], "people"
    )
    found = FeatureStore(tmp_path)
    found.apply_repo()
    return found


def answers(store: FeatureStore) -> list[tuple[object, ...]]:
    rows = {"shop_id": [1, 2, 3, 4, 5]}
    found = store.get_online_features(["load:each", "load:text"], rows).to_dict()
    return list(zip(*found.values(), strict=True))


def test_the_latest_rows_of_all_sources_are_put_together(store: FeatureStore) -> None:
    (loaded,) = store.materialize(START, END, ["load"])
    assert (loaded.view, loaded.n_written, loaded.n_applied) == ("load", 3, 3)
    assert answers(store) == [
        (1, 10, "90 9 [90, 1]"),
        (2, 10, "40 4 [40, 1]"),  # an old row counts, since another of the key is in the window
        (3, None, None),  # nothing in the window
        (4, None, None),  # only after it
        (5, None, "8 None [8, 1]"),  # older than its ttl, seen from the newest row
    ]


def test_in_small_parts_and_beside_the_others(store: FeatureStore, caplog: pytest.LogCaptureFixture) -> None:
    yaml = yaml_of(store.repo_path) | {"materialization": {"online_write_batch_size": 1}}
    with FeatureStore(store.repo_path, yaml) as small:
        found = small.materialize(START, END)
    assert [loaded.n_written for loaded in found if loaded.view == "load"] == [3]
    assert sorted(loaded.view for loaded in found) == ["load", "sales", "staff"]
    assert answers(store)[1] == (2, 10, "40 4 [40, 1]")
    assert "asked is passed over: it needs request data" in caplog.text


def test_the_first_incremental_window_is_as_long_as_the_longest_ttl(store: FeatureStore) -> None:
    now = dt.datetime.now(UTC)
    (loaded,) = store.materialize_incremental(now, ["load"])
    assert dt.timedelta(days=2) < loaded.end - loaded.start < dt.timedelta(days=4)


def test_what_cannot_be_loaded(store: FeatureStore) -> None:
    with pytest.raises(NotSupportedError, match="asked cannot be materialized: it needs request data"):
        store.materialize(START, END, ["asked"])


def test_a_function_that_fails(store: FeatureStore) -> None:
    path = store.repo_path / "features.py"
    path.write_text(path.read_text().replace("a // b", "a // 0"))
    store.apply_repo()
    with pytest.raises(TransformError, match="load: ZeroDivisionError"):
        store.materialize(START, END, ["load"])
    assert answers(store)[0] == (1, None, None)


def test_a_run_can_be_stopped(store: FeatureStore) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        store.materialize(START, END, ["load"], stop=stop)
