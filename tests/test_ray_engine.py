"""Loading views on a Ray cluster of this machine."""

from __future__ import annotations

import datetime as dt
import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastserve import FeatureStore
from fastserve.config import parse_config
from fastserve.errors import ConfigError, WriteError
from fastserve.materialize import Settings, Stopped
from fastserve.plan import PlanOptions
from fastserve.progress import NoProgress
from fastserve.ray_engine import MAX_PARTS, ROWS_PER_PART, RayEngine, _parts
from tests import goldens
from tests.bank import END, START, intervals
from tests.rows import UTC
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def ray_cluster(short_folder: Path) -> Iterator[None]:
    """A cluster of this machine with two CPUs."""
    import ray

    paths = {"PYTHONPATH": str(Path(__file__).parents[1])}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
        _temp_dir=str(short_folder / "ray"),
        runtime_env={"env_vars": paths},
    )
    yield
    ray.shutdown()


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
# Ray leaves files and sockets to the garbage collector.
quiet_ray = pytest.mark.filterwarnings("ignore")


@needs_ray
@quiet_ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_loads_the_same(redis_bank: RedisServer, tmp_path: Path) -> None:
    repo = goldens.copy_bank(tmp_path / "bank", {"type": "redis", "connection_string": redis_bank.connection_string})
    path = repo / "data" / "txn.parquet"
    pq.write_table(pq.read_table(path), path, row_group_size=1)
    with redis_bank.client() as client, FeatureStore(repo) as store:
        client.flushall()
        store.materialize(START, END, ["txn_7d"], progress=NoProgress())
        expected = {key: client.hgetall(key) for key in client.scan_iter(_type="hash")}
        client.flushall()
        loaded = store.materialize(START, END, ["txn_7d"], engine="ray", progress=NoProgress())
        assert {key: client.hgetall(key) for key in client.scan_iter(_type="hash")} == expected
        assert (loaded[0].n_rows, loaded[0].n_written, loaded[0].n_applied) == (4, 2, 2)
        assert len(intervals(store, "txn_7d")) >= 2


@needs_ray
@quiet_ray
@pytest.mark.usefixtures("ray_cluster")
def test_an_error_on_ray_is_that_of_the_row(sqlite_bank_repo: Path) -> None:
    path = sqlite_bank_repo / "data" / "txn.parquet"
    found = pq.read_table(path)
    pq.write_table(found.set_column(2, "txn_count", pa.array(["1", "2", "many", "4"])), path)
    with FeatureStore(sqlite_bank_repo) as store:
        before = intervals(store, "txn_7d")
        with pytest.raises(WriteError, match="feature view txn_7d: column 'txn_count', row 2"):
            store.materialize(START, END, ["txn_7d"], engine="ray", progress=NoProgress())
        assert intervals(store, "txn_7d") == before


@needs_ray
@quiet_ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_window_without_rows_on_ray(sqlite_bank_repo: Path) -> None:
    window = dt.datetime(2031, 1, 1, tzinfo=UTC), dt.datetime(2031, 1, 2, tzinfo=UTC)
    with FeatureStore(sqlite_bank_repo) as store:
        loaded = store.materialize(*window, ["txn_7d"], engine="ray", progress=NoProgress())
        assert (loaded[0].n_rows, intervals(store, "txn_7d")[-1]) == (0, window)


# --- without a cluster -----------------------------------------------------------------------------------------------


def engine() -> RayEngine:
    config = parse_config({"project": "test", "provider": "local", "registry": "data/registry.db"})
    return RayEngine(config, PlanOptions("test"), Settings(), NoProgress())


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"engine ray needs the package ray: pip install 'fastserve\[ray\]'"):
        engine()


@needs_ray
@quiet_ray
def test_nothing_begins_after_a_stop() -> None:
    stop, job = threading.Event(), object()  # a job that cannot even be looked at
    stop.set()
    found: Any = engine()
    with pytest.raises(Stopped):
        found.load(job, stop)


@pytest.mark.parametrize(
    ("n_rows", "parts"),
    [
        (0, 4),
        (3 * ROWS_PER_PART, 4),
        (4 * ROWS_PER_PART, 8),
        (100 * ROWS_PER_PART, 128),
        (10**15, MAX_PARTS),
    ],
)
def test_parts_are_a_power_of_two_and_not_too_large(n_rows: int, parts: int) -> None:
    assert _parts(n_rows) == parts
