"""What FeatureStore does to the registry, beside applying."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from fastserve import FeatureStore
from fastserve.errors import (
    FeatureServiceNotFoundException,
    FeatureViewNotFoundException,
    FeatureViewUnavailableError,
    NotSupportedError,
    RegistryNotFoundError,
    RequestError,
)
from fastserve.model import FeatureViewState
from tests.repos import registry_of, write_repo


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    found = FeatureStore(write_repo(tmp_path / "shop"))
    found.apply_repo()
    return found


def view_names(store: FeatureStore) -> list[str]:
    return [view.name for view in store.list_all_feature_views()]


def tables(store: FeatureStore) -> list[str]:
    with sqlite3.connect(store.repo_path / "data/online.db") as connection:
        return sorted(name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))


def test_deleting_a_view(store: FeatureStore) -> None:
    store.delete_feature_view("inferred")
    assert "inferred" not in view_names(store)
    assert store.list_feature_view_versions("inferred") == []
    assert tables(store) == ["shop_glob", "shop_pushed", "shop_stats"]
    with pytest.raises(FeatureViewNotFoundException, match="Feature view inferred does not exist in project shop"):
        store.delete_feature_view("inferred")


def test_deleting_a_service(store: FeatureStore) -> None:
    store.delete_feature_service("svc")
    assert store.list_feature_services() == []
    with pytest.raises(FeatureServiceNotFoundException):
        store.delete_feature_service("svc")


def test_deleting_whatever_has_the_name(store: FeatureStore) -> None:
    assert [store.delete_object(name) for name in ("svc", "push", "driver", "glob", "nothing")] == [
        "feature_services",
        "data_sources",
        "entities",
        "feature_views",
        None,
    ]


def test_teardown(store: FeatureStore) -> None:
    store.teardown()
    assert not (store.repo_path / "data/registry.db").exists()
    database = store.repo_path / "data/online.db"
    assert not database.exists() or tables(store) == []
    store.teardown()
    with FeatureStore(store.repo_path) as again, pytest.raises(RegistryNotFoundError):
        again.get_online_features(["stats:rate"], [{"driver_id": 1}])


def test_deleting_a_project(store: FeatureStore) -> None:
    with pytest.raises(NotSupportedError):
        store.delete_project("other")
    store.delete_project("shop")
    assert tables(store) != []
    with pytest.raises(RegistryNotFoundError):
        registry_of(store.repo_path)


def test_disabling_and_enabling(store: FeatureStore) -> None:
    before = store.get_feature_view("stats")
    rows = [{"driver_id": 1}]
    assert [store.disable_feature_view("stats") for _ in range(2)] == [True, False]
    found = store.get_feature_view("stats")
    assert not found.enabled
    assert found.created_timestamp == before.created_timestamp
    assert before.last_updated_timestamp is not None and found.last_updated_timestamp is not None
    assert found.last_updated_timestamp > before.last_updated_timestamp
    with pytest.raises(FeatureViewUnavailableError):
        store.get_online_features(["stats:rate"], rows)
    assert [store.enable_feature_view("stats") for _ in range(2)] == [True, False]
    assert store.get_online_features(["stats:rate"], rows).to_dict()["rate"] == [None]
    with pytest.raises(FeatureViewNotFoundException):
        store.disable_feature_view("nothing")


def test_states(store: FeatureStore) -> None:
    state = FeatureViewState
    steps = (state.CREATED, state.GENERATED, state.MATERIALIZING, state.GENERATED, state.MATERIALIZING)
    for step in (*steps, state.AVAILABLE_ONLINE, state.MATERIALIZING):
        store.set_feature_view_state("stats", step)
        assert store.get_feature_view("stats").state is step
    with pytest.raises(
        RequestError, match=r"cannot go from MATERIALIZING to CREATED; allowed: AVAILABLE_ONLINE, GENERATED"
    ):
        store.set_feature_view_state("stats", state.CREATED)


def test_versions(store: FeatureStore) -> None:
    (version,) = store.list_feature_view_versions("stats")
    assert (version["version"], version["version_number"], version["feature_view_type"]) == ("v0", 0, "feature_view")
    assert version["created_timestamp"].tzinfo is None
    assert len(version["version_id"]) == 36


def test_deleting_a_view_deletes_its_rows_in_redis(redis_bank_repo: Path) -> None:
    references = ["txn_7d:amount_sum", "customer_profile:age"]
    rows = [{"customer_id": "C1"}]
    with FeatureStore(redis_bank_repo) as store:
        before = store.get_online_features(references, rows).to_dict()
        assert None not in (before["amount_sum"][0], before["age"][0])
        message = registry_of(redis_bank_repo)
        store.delete_feature_view("txn_7d")
        assert store.get_online_features(references[1:], rows).to_dict()["age"] == before["age"]
        # Were it defined again, it would start empty.
        store._registry.update(lambda registry: registry.CopyFrom(message))
        store.refresh_registry()
        assert store.get_online_features(references, rows).to_dict() == {**before, "amount_sum": [None]}
