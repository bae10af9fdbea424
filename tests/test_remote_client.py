"""What a client's own registry knows about the columns of answers and rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastserve import FeatureStore
from fastserve.model import FeatureService
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.snapshot import build_snapshot
from fastserve.remote_client import KnownHere
from fastserve.types import ValueType
from tests import goldens


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    online = {"type": "remote", "path": "http://127.0.0.1:1"}
    with FeatureStore(goldens.copy_bank(tmp_path_factory.mktemp("client"), online)) as found:
        yield found


@pytest.fixture
def known(store: FeatureStore) -> KnownHere:
    return KnownHere(store._current_snapshot)


def test_types_of_references(known: KnownHere) -> None:
    features = ["customer_profile:age", "txn_7d@latest:avg_amount", "risk_py:flag", "nope:x", "txn_7d:nope"]
    types = known.column_types(features, False)
    assert {name: types.get(name) for name in ("age", "avg_amount", "flag", "x", "nope")} == {
        "age": ValueType.INT32,
        "avg_amount": ValueType.FLOAT,
        "flag": ValueType.BOOL,
        "x": None,
        "nope": None,
    }
    assert (types["customer_id"], types["account_id"]) == (ValueType.STRING, ValueType.INT64)
    assert known.column_types(features, True)["customer_profile__age"] == ValueType.INT32


def test_a_join_key_of_several_types_has_that_of_the_views_asked_for(store: FeatureStore) -> None:
    message = pb.Registry()
    message.CopyFrom(store._current_snapshot().message)
    (view,) = (view for view in message.feature_views if view.spec.name == "txn_7d")
    view.spec.entity_columns[0].value_type = pb.ValueType.INT64
    known = KnownHere(lambda: build_snapshot(message, store.project, None))

    def key_type(*features: str) -> int | None:
        return known.column_types(features, False).get("customer_id")

    assert key_type("txn_7d:avg_amount") == ValueType.INT64
    assert key_type("customer_profile:age") == ValueType.STRING
    assert key_type("customer_profile:age", "txn_7d:avg_amount") is None
    assert key_type("risk_py:flag") is None


@pytest.mark.parametrize("service", ["transfer_svc", FeatureService("transfer_svc", ())], ids=["name", "object"])
def test_types_of_a_service(known: KnownHere, service: str | FeatureService) -> None:
    assert known.column_types(service, True)["payer__age"] == ValueType.INT32


def test_what_is_not_known_is_no_error(known: KnownHere) -> None:
    assert "age" not in known.column_types(["no reference"], False)
    assert "age" not in known.column_types("no_service", False)
    assert not known.second_columns_of_source("nope")
    assert not known.second_columns_of_view("nope")


def test_columns_of_seconds(known: KnownHere) -> None:
    assert known.second_columns_of_view("customer_profile") == {"opened_at"}
    assert known.second_columns_of_view("txn_7d") == known.second_columns_of_source("txn_push") == set()


def test_a_new_snapshot_is_asked(store: FeatureStore, tmp_path: Path) -> None:
    snapshots = [store._current_snapshot()]
    known = KnownHere(lambda: snapshots[-1])
    empty = {"project": "bank", "provider": "local", "registry": str(tmp_path / "none.db")}
    with FeatureStore(config={**empty, "online_store": {"type": "remote", "path": "http://127.0.0.1:1"}}) as other:
        snapshots.append(other._current_snapshot())
        assert known.column_types(["customer_profile:age"], False) == {}
