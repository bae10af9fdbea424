"""`store.registry`, for code that asks it instead of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastserve import Entity, FeatureStore, errors
from fastserve.types import ValueType


@pytest.fixture
def store(sqlite_bank_repo: Path) -> FeatureStore:
    return FeatureStore(sqlite_bank_repo)


def test_looking_up(store: FeatureStore) -> None:
    registry = store.registry
    assert registry.get_feature_view("txn_7d", "bank") == store.get_feature_view("txn_7d")
    assert registry.get_any_feature_view("txn_7d", project="bank", allow_cache=True).name == "txn_7d"
    assert registry.list_entities("bank") == store.list_entities()
    assert [e.name for e in registry.list_entities("bank", allow_cache=True, tags={"pii": "yes"})] == ["customer"]
    assert registry.list_feature_view_versions("txn_7d", "bank") == store.list_feature_view_versions("txn_7d")
    assert registry.get_feature_view_by_version("txn_7d", "bank", 0).current_version_number == 0
    with pytest.raises(errors.EntityNotFoundException):
        registry.get_entity("nobody", "bank")


def test_changing(store: FeatureStore) -> None:
    registry = store.registry
    registry.apply_entity(Entity(name="branch", value_type=ValueType.INT64), "bank")
    registry.commit()
    assert store.get_entity("branch").join_key == "branch"
    registry.delete_feature_service("fraud_svc", "bank")
    assert "fraud_svc" not in {service.name for service in store.list_feature_services()}
    registry.refresh()
    assert registry.proto().entities == registry.cached_registry_proto.entities
    registry.proto().ClearField("entities")
    assert store.list_entities()
    registry.teardown()
    assert store.list_entities() == []


def test_what_it_has_not(store: FeatureStore) -> None:
    with pytest.raises(errors.NotSupportedError, match="the store is of the project bank, not of other"):
        store.registry.list_entities("other")
    for name in ("get_infra", "nonsense", "list_everything"):
        with pytest.raises(AttributeError, match=f"the registry has no {name}"):
            getattr(store.registry, name)
