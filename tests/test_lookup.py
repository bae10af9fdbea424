"""What the SDK says about the registry, with Feast's arguments."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fastserve import FeatureStore, errors
from fastserve.registry import open_registry
from fastserve.registry import schema_pb2 as pb


@pytest.fixture
def store(sqlite_bank_repo: Path) -> FeatureStore:
    return FeatureStore(sqlite_bank_repo)


def test_lists(store: FeatureStore) -> None:
    names = [
        "customer_profile", "txn_7d", "account_balance", "account_merchant", "fx_rates", "offline_only", "all_types"
    ]  # fmt: skip
    on_demand = ["risk_py", "risk_pd", "risk_single", "stored_odfv"]
    assert sorted(entity.name for entity in store.list_entities()) == ["account", "customer", "merchant"]
    assert sorted(v.name for v in store.list_feature_views()) == sorted(names)
    assert store.list_batch_feature_views() == store.list_feature_views()
    assert sorted(v.name for v in store.list_on_demand_feature_views()) == sorted(on_demand)
    assert sorted(v.name for v in store.list_all_feature_views()) == sorted(names + on_demand)
    assert store.list_stream_feature_views() == store.list_label_views() == store.list_permissions() == []
    services = ["fraud_pre", "fraud_svc", "odfv_svc", "transfer_svc"]
    assert sorted(s.name for s in store.list_feature_services()) == services
    assert [project.name for project in store.list_projects()] == ["bank"]
    assert {"profile_src", "txn_push", "txn_req"} <= {source.name for source in store.list_data_sources()}


def test_tags(store: FeatureStore) -> None:
    assert [view.name for view in store.list_feature_views(tags={"team": "crm"})] == ["customer_profile"]
    assert store.list_all_feature_views(True, {"team": "crm", "other": "x"}) == []
    assert [service.name for service in store.list_feature_services({"tier": "1"})] == ["fraud_svc"]
    assert [entity.name for entity in store.list_entities(allow_cache=True, tags={"pii": "yes"})] == ["customer"]
    assert [project.name for project in store.list_projects(tags={"domain": "payments"})] == ["bank"]


def test_gets(store: FeatureStore) -> None:
    assert store.get_entity("customer").join_key == "customer_id"
    assert store.get_feature_view("txn_7d").ttl == timedelta(days=1)
    assert store.get_feature_view("stored_odfv").kind == "on_demand_feature_view"
    assert store.get_on_demand_feature_view("risk_py").mode == "python"
    assert store.get_feature_service("fraud_svc").name == "fraud_svc"
    assert store.get_data_source("txn_push").kind == "push"
    assert store.get_project(None) == store.get_project("bank")
    for get, error in [
        (store.get_entity, errors.EntityNotFoundException),
        (store.get_feature_view, errors.FeatureViewNotFoundException),
        (store.get_stream_feature_view, errors.FeatureViewNotFoundException),
        (store.get_label_view, errors.FeatureViewNotFoundException),
        (store.get_on_demand_feature_view, errors.FeatureViewNotFoundException),
        (store.get_feature_service, errors.FeatureServiceNotFoundException),
        (store.get_data_source, errors.DataSourceNotFoundException),
        (store.get_project, errors.ProjectObjectNotFoundException),
        (store.get_permission, errors.PermissionObjectNotFoundException),
    ]:
        with pytest.raises(error, match=r"nothing does not exist"):
            get("nothing")  # type: ignore[operator]


def test_a_view_of_another_kind(store: FeatureStore) -> None:
    for get in (store.get_stream_feature_view, store.get_label_view):
        with pytest.raises(errors.FeatureViewNotFoundException, match="txn_7d does not exist in project bank"):
            get("txn_7d")


def add_objects(message: pb.Registry) -> None:
    service = message.feature_services.add()
    service.spec.name, service.spec.project = "new", "bank"
    permission = message.permissions.add()
    permission.spec.name, permission.spec.project = "readers", "bank"
    permission.spec.tags["a"] = "b"


def test_what_is_not_known_is_looked_for_once_more(store: FeatureStore) -> None:
    open_registry(store.config).update(add_objects)
    with pytest.raises(errors.FeatureServiceNotFoundException):
        store.get_feature_service("new", allow_cache=True)
    assert store.get_feature_service("new").name == "new"
    assert store.get_permission("readers").spec.name == "readers"
    assert [found.spec.name for found in store.list_permissions(tags={"a": "b"})] == ["readers"]
    assert store.list_permissions(tags={"a": "c"}) == []
