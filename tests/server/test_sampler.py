"""Gauges that are looked at now and then."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from fastserve import FeatureStore
from fastserve.server import sampler
from fastserve.server.cells import Cells
from fastserve.server.exposition import metrics_text
from fastserve.server.metrics import Meters
from fastserve.server.sampler import Sampler
from tests.registries import bank, named


def values(meters: Meters) -> dict[str, float]:
    lines = [line for line in metrics_text(meters.cells.read()).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_all_gauges_are_filled(redis_bank_repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = bank()
    interval = named(message.feature_views, "customer_profile").meta.materialization_intervals.add()
    interval.end_time.FromSeconds(4_000_000_000)
    (redis_bank_repo / "data/registry.db").write_bytes(message.SerializeToString())
    monkeypatch.setattr(sampler, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(sampler, "SLOW_TICKS", 2)
    meters = Meters(Cells())
    refreshed = []

    async def run(store: FeatureStore) -> None:
        looking = Sampler(meters, store, lambda: refreshed.append(len(refreshed)))
        looking.start()
        assert values(meters)["fastserve_workers"] == 1
        store.warm_plans()
        store.check_store()
        while len(refreshed) < 3:
            await asyncio.sleep(0.001)
        looking.stop()
        seen = len(refreshed)
        await asyncio.sleep(0.01)
        assert len(refreshed) == seen

    with FeatureStore(redis_bank_repo) as store:
        asyncio.run(run(store))
        found = values(meters)
        pid = f'{{pid="{os.getpid()}"}}'
        assert found["fastserve_plan_cache_size"] == store.figures().plans > 0
        assert found["fastserve_plan_compilations_total"] == store.figures().compilations
        assert found["fastserve_registry_refresh_failures_total"] == 0
        assert found['fastserve_store_connections{state="open"}'] == 1
        assert found["fastserve_event_loop_lag_seconds_count"] >= 6
        assert 10 << 20 < found[f"fastserve_worker_resident_bytes{pid}"] < 10 << 30
        assert 0 < found[f"feast_feature_server_memory_usage{pid}"] < 100
        assert found[f"feast_feature_server_cpu_usage{pid}"] >= 0
        fresh = 'feast_feature_freshness_seconds{feature_view="customer_profile",project="bank"}'
        assert found[fresh] < 0  # the window ends in the future


def test_a_blocked_loop_is_late(sqlite_bank_repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "TICK_SECONDS", 0.001)
    meters = Meters(Cells())

    async def run(store: FeatureStore) -> None:
        looking = Sampler(meters, store)
        looking.start()
        import time

        time.sleep(0.03)
        while not values(meters).get("fastserve_event_loop_lag_seconds_count"):
            await asyncio.sleep(0.001)
        looking.stop()

    with FeatureStore(sqlite_bank_repo) as store:
        asyncio.run(run(store))
    found = values(meters)
    assert (
        found['fastserve_event_loop_lag_seconds_bucket{le="0.025"}'] < found["fastserve_event_loop_lag_seconds_count"]
    )
