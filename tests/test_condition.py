"""What a server's operator asks of a FeatureStore."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from fastserve import FeatureStore, errors
from tests import goldens
from tests.registries import bank, named
from tests.servers import free_port

C1 = [{"customer_id": "C1"}]


def write_registry(repo: Path, message: object) -> None:
    (repo / "data/registry.db").write_bytes(message.SerializeToString())  # type: ignore[attr-defined]


def test_a_store_that_answers(redis_bank_repo: Path) -> None:
    with FeatureStore(redis_bank_repo) as store:
        store.check_store()
        assert store.figures().store == {"open": 1, "idle": 1, "in_flight": 0, "waiting": 0}


def test_a_store_that_does_not_answer(tmp_path: Path) -> None:
    section = {"type": "redis", "connection_string": f"127.0.0.1:{free_port()}"}
    with FeatureStore(goldens.copy_bank(tmp_path / "repo", section)) as store:
        with pytest.raises(errors.StoreError, match="cannot connect"):
            store.check_store()
        assert not any(store.figures().store.values())


def test_plans_of_services_are_compiled_and_stay_so(redis_bank_repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FeatureStore(redis_bank_repo) as store:
        assert (store.figures().plans, store.figures().compilations) == (0, 0)
        store.warm_plans()
        warm = store.figures()
        assert warm.plans == warm.compilations > len(store.list_feature_services())
        assert store.broken_services == {}

        message = bank()
        service = message.feature_services.add()
        service.CopyFrom(named(message.feature_services, "fraud_svc"))
        service.spec.name = "another"
        write_registry(redis_bank_repo, message)
        store.refresh_registry()
        again = store.figures()
        assert again.plans == warm.plans + 2
        assert again.compilations == warm.compilations + again.plans

        def refuse(*_: object) -> None:
            raise AssertionError("compiled in a request")

        monkeypatch.setattr("fastserve.feature_store.compile_plan", refuse)
        found = store.get_online_features(store.get_feature_service("another"), C1)
        assert found.to_dict()["customer_id"] == ["C1"]


def test_a_service_that_cannot_be_compiled_is_told(redis_bank_repo: Path) -> None:
    message = bank()
    named(message.feature_services, "fraud_svc").spec.features[0].feature_view_name = "none"
    write_registry(redis_bank_repo, message)
    with FeatureStore(redis_bank_repo) as store:
        store.warm_plans()
        assert list(store.broken_services) == ["fraud_svc"]
        assert "none" in store.broken_services["fraud_svc"]
        assert store.figures().plans > 0
        write_registry(redis_bank_repo, bank())
        store.refresh_registry()
        assert store.broken_services == {}


def test_there_may_be_no_registry_yet(redis_bank_repo: Path) -> None:
    registry = redis_bank_repo / "data/registry.db"
    content = registry.read_bytes()
    registry.unlink()
    with FeatureStore(redis_bank_repo) as store:
        assert not store.has_registry
        store.warm_plans()
        registry.write_bytes(content)
        store.refresh_registry()
        assert store.has_registry
        assert store.figures().plans > 0


def test_failed_looks_at_the_registry_are_counted(redis_bank_repo: Path) -> None:
    with FeatureStore(redis_bank_repo) as store:
        (redis_bank_repo / "data/registry.db").write_bytes(b"\xff")
        store._refresher.look()
        assert store.figures().refresh_failures == 1


def test_freshness_is_the_end_of_the_latest_window(redis_bank_repo: Path) -> None:
    message = bank()
    view = named(message.feature_views, "customer_profile")
    for day in (3, 5, 4):
        interval = view.meta.materialization_intervals.add()
        interval.start_time.FromDatetime(datetime(2030, 1, 1))
        interval.end_time.FromDatetime(datetime(2030, 1, day))
    write_registry(redis_bank_repo, message)
    with FeatureStore(redis_bank_repo) as store:
        assert store.figures().freshness["customer_profile"] == datetime(2030, 1, 5, tzinfo=timezone.utc)
