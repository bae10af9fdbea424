"""What `fastserve bench` measures: not how long, but that it is of the read that it says, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastserve import FeatureStore
from fastserve.benchmark import STAGES, Amount, Latency, measure
from fastserve.config import RedisConfig
from fastserve.errors import FeastObjectNotFoundException, NotSupportedError
from tests.servers import RedisServer

FEW = Amount(calls=6, warm_up=1, rounds=2, workers=2, seconds=0.02)
ROWS = [{"customer_id": "C1"}, {"customer_id": "C2"}, {"customer_id": "NOPE"}]


def test_a_read_is_measured(store: FeatureStore) -> None:
    service = store.get_feature_service("fraud_svc")
    found = measure(store, "fraud_svc", service, ROWS, FEW)
    assert (found.name, found.rows, found.n_features) == ("fraud_svc", 3, 5)
    assert len(found.taken) == FEW.calls
    assert found.taken[0] <= found.read.p50 <= found.read.p95 <= found.read.p99 <= found.taken[-1]
    assert list(found.stages) == list(STAGES)
    assert min(found.stages.values()) >= 0 < found.stages["wait"]
    assert 0 < found.present < 1  # nobody is NOPE
    assert found.rate is not None and found.rate > 0
    assert "taken" not in found.as_dict()


def test_redis_has_a_floor_and_sqlite_none(store: FeatureStore) -> None:
    found = measure(store, "x", ["customer_profile:age"], ROWS, FEW)
    assert (found.floor is not None) == isinstance(store.config.online_store, RedisConfig)


def test_a_precomputed_service_is_measured(redis_bank_repo: Path) -> None:
    with FeatureStore(redis_bank_repo) as store:
        found = measure(store, "fraud_pre", store.get_feature_service("fraud_pre"), ROWS[:1], FEW)
    assert found.floor is not None
    assert found.present > 0


def test_nothing_is_written(redis_bank_repo: Path, redis_bank: RedisServer) -> None:
    with redis_bank.client() as client:
        before = {key: client.dump(key) for key in client.keys()}
        with FeatureStore(redis_bank_repo) as store:
            measure(store, "fraud_svc", "fraud_svc", ROWS, FEW)
        assert before == {key: client.dump(key) for key in client.keys()}


def test_workers_can_be_left_out(store: FeatureStore) -> None:
    few = Amount(calls=2, warm_up=0, rounds=1, workers=0)
    assert measure(store, "x", ["customer_profile:age"], ROWS, few).rate is None


def test_names_may_be_full(store: FeatureStore) -> None:
    few = Amount(calls=2, warm_up=0, rounds=1, workers=0, full_feature_names=True)
    assert measure(store, "transfer_svc", "transfer_svc", _transfers(store), few).n_features


def _transfers(store: FeatureStore) -> list[dict[str, object]]:
    return [dict.fromkeys(store.plan("transfer_svc", True).required, "C1")]


def test_errors_are_those_of_a_read(store: FeatureStore) -> None:
    with pytest.raises(FeastObjectNotFoundException):
        measure(store, "x", ["nope:age"], ROWS, FEW)


def test_another_server_is_not_measured_from_here(tmp_path: Path) -> None:
    config = {
        "project": "p",
        "provider": "local",
        "registry": str(tmp_path / "registry.db"),
        "online_store": {"type": "remote", "path": "http://127.0.0.1:1"},
        "entity_key_serialization_version": 3,
    }
    with FeatureStore(config=config) as store, pytest.raises(NotSupportedError, match="where the server"):
        measure(store, "x", ["a:b"], ROWS, FEW)


def test_latency_of_calls() -> None:
    found = Latency.of([4.0, 1.0, 2.0, 3.0])
    assert (found.p50, found.p95, found.p99, found.mean) == (3.0, 4.0, 4.0, 2.5)
