"""FeatureStore on real stores: the SDK as its users call it."""

from __future__ import annotations

import asyncio
import json
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fastserve import FeatureStore, definition, errors
from fastserve._core import Batch, encode_value
from fastserve.config import load_config
from fastserve.model import FeatureService, FeatureViewProjection
from fastserve.registry import schema_pb2 as pb
from fastserve.types import Float64, Int32, String, ValueType
from tests import goldens, reference
from tests.conftest import Rand
from tests.registries import registry, remember, store_with, view, yaml_of
from tests.servers import RedisServer, free_port

AGE = "customer_profile:age"
C1 = [{"customer_id": "C1"}]

ASKED = ["txn_7d:amount_sum", AGE, "fx_rates:asof", "account_balance:history", "stored_odfv:income_k", "risk_py:flag"]
ROWS = [
    {"customer_id": "C2", "account_id": 8, "amount": 100.0},
    {"customer_id": "nobody", "account_id": 7, "amount": 100.0},
    {"customer_id": "C1", "account_id": 8, "amount": 1.0},
    {"customer_id": "C2", "account_id": 8, "amount": 0.0},
]
ANSWER = {
    "customer_id": ["C2", "nobody", "C1", "C2"],
    "account_id": [8, 7, 8, 8],
    "age": [29, None, 41, 29],
    "asof": ["d2"] * 4,
    "history": [[], [1.0, 2.5], [], []],
    "income_k": [None, None, 83.0005, None],
    "flag": [True, False, False, False],
}


@pytest.fixture
def store(redis_bank_repo: Path) -> Iterator[FeatureStore]:
    with FeatureStore(redis_bank_repo) as found:
        yield found


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_mixed_request(bank_repo: Path) -> None:
    """The same from Redis and from SQLite, but for a sum that was pushed to Redis only."""
    with FeatureStore(bank_repo) as found:
        answer = found.get_online_features(ASKED, ROWS).to_dict()
    assert answer.pop("amount_sum") in ([5.5, None, 20.0, 5.5], [77.5, None, 20.0, 77.5])
    assert answer == ANSWER


FORMS: dict[str, Any] = {
    "dicts": [{"customer_id": "C1"}, {"customer_id": "C9"}],
    "lists": {"customer_id": ["C1", "C9"]},
    "NumPy": {"customer_id": np.array(["C1", "C9"])},
    "pandas": {"customer_id": pd.Series(["C1", "C9"])},
    "Arrow": {"customer_id": pa.array(["C1", "C9"])},
    "Values": {"customer_id": [pb.Value(string_val="C1"), pb.Value(string_val="C9")]},
    "RepeatedValue": {"customer_id": pb.RepeatedValue(val=[pb.Value(string_val="C1"), pb.Value(string_val="C9")])},
    "DataFrame": pd.DataFrame({"customer_id": ["C1", "C9"]}),
}


def test_forms_of_entities(store: FeatureStore) -> None:
    expected = {"customer_id": ["C1", "C9"], "txn_count": [2, 1], "age": [41, None]}
    for form, rows in FORMS.items():
        assert store.get_online_features(["txn_7d:txn_count", AGE], rows).to_dict() == expected, form


def test_features_may_be_any_iterable(store: FeatureStore) -> None:
    rows = {"customer_id": ["C1"]}
    expected = {"customer_id": ["C1"], "age": [41], "txn_count": [2]}
    asked = [AGE, "txn_7d:txn_count"]
    forms = (iter(asked), asked, tuple(asked), dict.fromkeys(asked), (text for text in asked), list(asked))
    for features in forms:
        assert store.get_online_features(features, rows).to_dict() == expected
    for number, make in enumerate((iter, list, tuple, dict.fromkeys)):
        shape = [f"all_types:f_{name}" for name in ("int32", "int64", "bool", "string")][number:]
        assert [slot.label for slot in store.plan(make(shape)).outputs] == shape, make


def test_a_list_that_is_changed_between_requests(store: FeatureStore) -> None:
    asked = [AGE, "txn_7d:txn_count"]
    for change in (lambda: None, lambda: None, asked.reverse, asked.pop, lambda: asked.insert(0, "fx_rates:asof")):
        change()
        answer = store.get_online_features(asked, C1).to_dict()
        assert list(answer) == ["customer_id", *(text.partition(":")[2] for text in asked)]
        assert list(store.get_online_features(asked, C1, full_feature_names=True).to_dict())[1:] == [
            text.replace(":", "__") for text in asked
        ]


def test_services(store: FeatureStore) -> None:
    fraud = store.get_feature_service("fraud_svc")
    answer = store.get_online_features(fraud, [{"customer_id": "C1"}], full_feature_names=True).to_dict()
    assert answer == {
        "customer_id": ["C1"],
        "txn_7d__amount_sum": [20.0],
        "txn_7d__txn_count": [2],
        "txn_7d__avg_amount": [10.0],
        "customer_profile__age": [41],
        "customer_profile__segment": ["gold"],
    }
    transfer = store.get_feature_service("transfer_svc")
    rows = {"payer_id": ["C1", "C2"], "payee_id": ["C2", "C2"]}
    assert store.get_online_features(transfer, rows, full_feature_names=True).to_dict() == {
        **rows,
        "payer__age": [41, 29],
        "payee__age": [29, 29],
    }
    risk = store.get_feature_service("odfv_svc")
    answer = store.get_online_features(risk, [{"customer_id": "C1", "amount": 30}]).to_dict()
    assert answer == {"customer_id": ["C1"], "amount_sum": [20.0], "ratio": [1.5], "flag": [True]}


def test_a_service_made_by_hand(store: FeatureStore) -> None:
    """Its content counts, not its name: Feast answers from what it remembers under the name."""
    features = store.get_feature_view("customer_profile").features
    rows = {"customer_id": ["C1"]}
    for chosen in (features[:1], features[:2]):
        made = FeatureService("fraud_svc", (FeatureViewProjection("customer_profile", features=chosen),))
        answer = store.get_online_features(made, rows).to_dict()
        assert list(answer) == ["customer_id", *(f.name for f in chosen)]


def test_versions_metadata(store: FeatureStore) -> None:
    response = store.get_online_features([AGE], {"customer_id": ["C1"]}, include_feature_view_version_metadata=True)
    metadata = json.loads(response.to_json())["metadata"]
    assert metadata["feature_view_metadata"] == [{"name": "customer_profile"}]
    assert (
        "feature_view_metadata"
        not in json.loads(store.get_online_features([AGE], [{"customer_id": "C1"}]).to_json())["metadata"]
    )


def test_one_command_per_entity(store: FeatureStore, redis_bank: RedisServer) -> None:
    features = [AGE, "txn_7d:txn_count", "stored_odfv:income_k", "customer_profile:segment", "account_balance:balance"]
    with redis_bank.client() as client:
        client.config_resetstat()
        rows = [{"customer_id": f"C{i % 3}", "account_id": i % 2} for i in range(20)]
        store.get_online_features(features, rows)
        calls: Any = client.info("commandstats")
    assert calls["cmdstat_hmget"]["calls"] == 3 + 2


def test_the_deprecation_warning_points_at_the_caller(store: FeatureStore) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer = store.get_online_features([AGE], [{"customer": "C1"}]).to_dict()
    assert answer == {"customer_id": ["C1"], "age": [41]}
    assert [(w.category, w.filename) for w in caught] == [(DeprecationWarning, __file__)]


def test_async(store: FeatureStore) -> None:
    async def ask() -> list[dict[str, list[Any]]]:
        asked = [store.get_online_features_async(ASKED, ROWS[i : i + 1], True) for i in range(4)]
        return [response.to_dict() for response in await asyncio.gather(*asked)]

    expected = [store.get_online_features(ASKED, ROWS[i : i + 1], True).to_dict() for i in range(4)]
    assert asyncio.run(ask()) == expected


def test_threads(store: FeatureStore, rand: Rand) -> None:
    """8 threads x 500 requests of many shapes: each gets the answer that it gets alone."""
    print(rand)
    features = [
        *ASKED,
        "txn_7d:txn_count",
        "customer_profile:segment",
        "account_balance:balance",
        "risk_single:single_sum",
    ]
    names = ["C1", "C2", "C3", "C9", "nobody"]
    requests: list[tuple[Any, Any, bool]] = []
    for _ in range(60):
        rows = [{"customer_id": rand.choice(names), "account_id": rand.choice([7, 8, -1]), "amount": rand.random()}
                for _ in range(rand.choice([0, 1, 1, 3, 30]))]  # fmt: skip
        asked: Any = rand.sample(features, rand.randint(1, 6))
        requests.append((asked, rows, rand.random() < 0.5))
    requests.append((store.get_feature_service("fraud_svc"), {"customer_id": names}, False))
    expected = [store.get_online_features(*request).to_dict() for request in requests]
    orders = [[rand.randrange(len(requests)) for _ in range(500)] for _ in range(8)]
    start = threading.Barrier(8)

    def work(order: list[int]) -> list[int]:
        start.wait()
        return [i for i in order if store.get_online_features(*requests[i]).to_dict() != expected[i]]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, orders)) == [[]] * 8


# --- versions and key versions ---------------------------------------------------------------------------------------


def test_versions(redis_bank: RedisServer, tmp_path: Path) -> None:
    """Three versions of a view side by side, as Feast wrote them."""
    with redis_bank.client() as client:
        goldens.fill_redis(client, "redis_versioned")
    features = {"age": Int32, "income": Float64, "segment": String}
    history = [view("prof", dict(list(features.items())[: n + 1]), number=n) for n in range(3)]
    message = registry(history[2])
    for item in (*history, *message.feature_views, *message.entities):
        item.spec.project = "ver"
    for number, item in enumerate(history):
        remember(message, number, item)
    (tmp_path / "registry.db").write_bytes(message.SerializeToString())
    config = {
        "project": "ver",
        "provider": "local",
        "registry": {"path": "registry.db", "enable_online_feature_view_versioning": True},
        "online_store": {"type": "redis", "connection_string": redis_bank.connection_string},
        "entity_key_serialization_version": 3,
    }
    asked = ["prof:segment", "prof@v0:age", "prof@v1:income", "prof@v2:age"]
    with FeatureStore(tmp_path, config) as found:
        answer = found.get_online_features(asked, {"customer_id": ["C1", "C2", "C3", "C4"]}, True).to_dict()
        assert answer == {
            "customer_id": ["C1", "C2", "C3", "C4"],
            "prof__segment": ["gold", "", None, None],
            "prof@v0__age": [41, 29, None, None],
            "prof@v1__income": [83000.5, None, 12.25, None],
            "prof@v2__age": [41, 29, None, None],
        }
        response = found.get_online_features(["prof@v1:age", "prof:age"], [{"customer_id": "C1"}], True, True)
        metadata = json.loads(response.to_json())["metadata"]["feature_view_metadata"]
        assert metadata == [{"name": "prof", "version": 1}, {"name": "prof", "version": 2}]
        with pytest.raises(errors.FeatureViewVersionNotFound, match="v7"):
            found.get_online_features(["prof@v7:age"], [{"customer_id": "C1"}])


def test_key_version_2(empty_redis: RedisServer, tmp_path: Path) -> None:
    with empty_redis.client() as client:
        goldens.fill_redis(client, "redis_entity_key_v2")
    online = {"type": "redis", "connection_string": empty_redis.connection_string}
    repo = goldens.copy_bank(tmp_path / "bank", online, entity_key_serialization_version=2)
    with FeatureStore(repo) as found:
        rows = [{"customer_id": "C1", "account_id": 7, "merchant_id": "M42"}]
        answer = found.get_online_features([AGE, "txn_7d:amount_sum", "account_merchant:visits"], rows).to_dict()
    assert {name: answer[name] for name in ("age", "amount_sum", "visits")} == {
        "age": [41],
        "amount_sum": [20.0],
        "visits": [3],
    }


@pytest.mark.parametrize(
    ("mode", "statuses", "values"),
    [
        ("status", ["OUTSIDE_MAX_AGE", "PRESENT"], [7, 7]),
        ("enforce", ["OUTSIDE_MAX_AGE", "PRESENT"], [None, 7]),
        ("ignore", ["PRESENT", "PRESENT"], [7, 7]),
    ],
)
def test_ttl_modes(redis_bank: RedisServer, redis_bank_repo: Path, mode: str, statuses: list[str], values: Any) -> None:
    now = datetime.now(timezone.utc)
    with redis_bank.client() as client:
        for name, age in [("C1", timedelta(days=2)), ("C2", timedelta(hours=2))]:
            key = reference.serialize_entity_key(["customer_id"], [name], [reference.STRING]) + b"bank"
            stamp = reference.encode_timestamp(int((now - age).timestamp()))
            client.hset(key, reference.timestamp_field("txn_7d"), stamp)  # type: ignore[arg-type]
            client.hset(key, reference.field_id("txn_7d", "txn_count"), encode_value(7, 4))  # type: ignore[arg-type]
    with store_with(redis_bank_repo, ttl_mode=mode) as found:
        response = found.get_online_features(["txn_7d:txn_count"], {"customer_id": ["C1", "C2"]})
        assert response.statuses["txn_count"] == statuses
        assert response.to_dict()["txn_count"] == values


# --- plans -----------------------------------------------------------------------------------------------------------


def test_plans_are_kept(store: FeatureStore) -> None:
    plan = store.plan([AGE])
    assert store.plan((AGE,)) is plan
    assert store.plan(iter([AGE])) is plan
    assert store.plan([AGE], full_feature_names=True) is not plan
    assert store.plan([AGE, "txn_7d:txn_count"]) is not store.plan(["txn_7d:txn_count", AGE])
    fraud = store.plan(store.get_feature_service("fraud_svc"))
    assert store.plan(store.get_feature_service("fraud_svc")) is fraud
    store.get_online_features([AGE], [{"customer_id": "C1"}])
    assert store.plan([AGE]) is plan
    with pytest.raises(AttributeError):
        plan.outputs = ()


def test_the_oldest_plan_goes_first(redis_bank_repo: Path) -> None:
    shapes = [[f"txn_7d:{name}"] for name in ("amount_sum", "txn_count", "avg_amount")] + [[AGE]]
    with store_with(redis_bank_repo, max_cached_plans=3) as found:
        plans = [found.plan(shape) for shape in shapes]
        assert [found.plan(shape) is plan for shape, plan in zip(shapes[1:], plans[1:], strict=True)] == [True] * 3
        assert found.plan(shapes[0]) is not plans[0]
        assert found.plan(shapes[3]) is plans[3]
        assert found.plan(shapes[1]) is not plans[1]


def test_one_plan_may_be_enough(redis_bank_repo: Path) -> None:
    with store_with(redis_bank_repo, max_cached_plans=1) as found:
        for _ in range(3):
            for feature in (AGE, "txn_7d:txn_count"):
                assert found.get_online_features([feature], [{"customer_id": "C2"}]).to_dict()["customer_id"] == ["C2"]


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "rows", "error", "match"),
    [
        ([], C1, errors.RequestError, "No features"),
        (["age"], C1, errors.FeatureReferenceError, "'age'"),
        (AGE, C1, errors.FeatureReferenceError, "reference"),
        (None, C1, errors.FeatureReferenceError, "list of references"),
        (5, C1, errors.FeatureReferenceError, "list of references"),
        ([[AGE]], C1, errors.FeatureReferenceError, "list of references"),
        ([AGE, None], C1, errors.FeatureReferenceError, "text"),
        (["nothing:age"], C1, errors.FeatureViewNotFoundException, "Feature view nothing .*project bank"),
        (["customer_profile:nothing"], C1, errors.FeatureNotFoundException, "nothing.*customer_profile"),
        ([AGE, "offline_only:age"], C1, errors.FeatureNameCollisionError, "age"),
        ([AGE], [{}], errors.EntityError, r"customer_id \(of customer_profile\)"),
        ([AGE], [{"customer_id": None}], errors.EntityError, "'customer_id', row 0: the value is null"),
        ([AGE], {"customer_id": ["C1"], "account_id": []}, errors.EntityError, "same length"),
        (["account_balance:balance"], [{"account_id": "x"}], errors.EntityError, "'account_id', row 0"),
        (
            ["account_balance:balance"],
            [{"account_id": 2**70}],
            errors.EntityError,
            "'account_id', row 0.*out of the range",
        ),
        (["risk_py:ratio"], C1, errors.RequestDataNotFoundInEntityRowsException, "amount"),
        (["txn_7d@v1:txn_count"], C1, errors.FeatureReferenceError, "versioning"),
    ],
)
def test_wrong_requests(store: FeatureStore, features: Any, rows: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        store.get_online_features(features, rows)
    assert isinstance(caught.value, errors.FastserveError)
    assert 400 <= caught.value.status < 500
    assert store.get_online_features([AGE], C1).to_dict() == {"customer_id": ["C1"], "age": [41]}


def test_on_demand_views_may_be_forbidden(redis_bank_repo: Path) -> None:
    with store_with(redis_bank_repo, allow_on_demand=False) as found:
        with pytest.raises(errors.NotSupportedError, match="risk_py"):
            found.get_online_features(["risk_py:ratio"], [{"customer_id": "C1", "amount": 1.0}])
        assert found.get_online_features([AGE], C1).to_dict()["age"] == [41]


def test_damaged_values_in_the_store(store: FeatureStore, redis_bank: RedisServer) -> None:
    key = reference.serialize_entity_key(["customer_id"], ["C2"], [reference.STRING])
    with redis_bank.client() as client:
        client.hset(key + b"bank", reference.field_id("customer_profile", "age"), b"\x18")  # type: ignore[arg-type]
    response = store.get_online_features([AGE], {"customer_id": ["C1", "C2"]})
    with pytest.raises(errors.DecodeError, match=AGE) as caught:
        response.to_dict()
    assert caught.value.key == key.hex()


def test_a_key_that_is_no_hash(store: FeatureStore, redis_bank: RedisServer) -> None:
    """An error in the middle of the replies: nothing is half answered, and the next request is right."""
    key = reference.serialize_entity_key(["customer_id"], ["text"], [reference.STRING]) + b"bank"
    with redis_bank.client() as client:
        client.set(key, "text")
    for _ in range(3):
        with pytest.raises(errors.StoreError, match="WRONGTYPE"):
            store.get_online_features([AGE], {"customer_id": ["C1", "text", "C2"]})
        assert store.get_online_features([AGE], {"customer_id": ["C1", "C2"]}).to_dict()["age"] == [41, 29]


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    port = free_port()
    online = {"type": "redis", "connection_string": f"127.0.0.1:{port}"}
    with FeatureStore(goldens.copy_bank(tmp_path / "bank", online)) as found:
        with pytest.raises(errors.StoreError, match=str(port)):
            found.get_online_features([AGE], C1)
        with pytest.raises(errors.EntityError):  # what is wrong with the request is told first
            found.get_online_features([AGE], [{}])
        assert found.get_online_features([AGE], []).to_dict() == {"customer_id": [], "age": []}


# --- opening and closing ---------------------------------------------------------------------------------------------


def test_ways_to_open(redis_bank_repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yaml_file = redis_bank_repo / "feature_store.yaml"
    other = yaml_file.rename(redis_bank_repo / "other.yaml")
    ways: list[dict[str, Any]] = [{"repo_path": redis_bank_repo, "fs_yaml_file": other}, {"fs_yaml_file": str(other)}]
    other_mapping = other.read_text()
    yaml_file.write_text(other_mapping)
    ways += [
        {"repo_path": redis_bank_repo},
        {"repo_path": str(redis_bank_repo)},
        {"config": load_config(redis_bank_repo)},
        {"config": yaml_of(redis_bank_repo), "repo_path": redis_bank_repo},
        {},
    ]
    monkeypatch.chdir(redis_bank_repo)
    for way in ways:
        with FeatureStore(**way) as found:
            assert (found.project, found.repo_path) == ("bank", redis_bank_repo)
            assert found.get_online_features([AGE], C1).to_dict()["age"] == [41]


def test_wrong_ways_to_open(tmp_path: Path, redis_bank_repo: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"feature_store\.yaml"):
        FeatureStore(tmp_path)
    with pytest.raises(errors.FastserveError, match="either"):
        FeatureStore(config=load_config(redis_bank_repo), fs_yaml_file=redis_bank_repo / "feature_store.yaml")
    (redis_bank_repo / "data/registry.db").unlink()
    # Before the first apply there is nothing to read.
    with FeatureStore(redis_bank_repo) as found:
        assert found.list_all_feature_views() == []
        with pytest.raises(errors.RegistryNotFoundError, match=r"registry\.db does not exist; run `fastserve apply`"):
            found.get_online_features([AGE], C1)


def test_a_closed_store_opens_again(redis_bank_repo: Path) -> None:
    found = FeatureStore(redis_bank_repo)
    for _ in range(2):
        assert found.get_online_features([AGE], C1).to_dict()["age"] == [41]
        found.close()
        found.close()


def test_no_thread_before_the_first_read(redis_bank_repo: Path) -> None:
    """So that a server may fork its workers after it has made the store."""
    before = set(threading.enumerate())
    with FeatureStore(redis_bank_repo) as found:
        found.plan([AGE])
        found.list_entities()
        assert set(threading.enumerate()) == before
        found.get_online_features([AGE], C1)
        assert [thread.name for thread in set(threading.enumerate()) - before] == ["fastserve-registry"]
    assert set(threading.enumerate()) == before


# --- looking up ------------------------------------------------------------------------------------------------------


def test_services_in_all_forms(store: FeatureStore) -> None:
    """By name, as an object of the registry, of a definition, or of another package with the same attributes."""
    wanted = store.get_online_features(store.get_feature_service("fraud_svc"), C1).to_dict()
    assert list(wanted) == ["customer_id", "amount_sum", "txn_count", "avg_amount", "age", "segment"]
    profile = store.get_feature_view("customer_profile")
    age = [feature for feature in profile.features if feature.name == "age"]
    chosen = definition.FeatureViewProjection("customer_profile", name_alias="person", features=age)
    renamed = definition.FeatureService(name="mine", features=[chosen])
    later = definition.FeatureService(name="fraud_svc", features=["txn_7d", "customer_profile"])
    foreign = SimpleNamespace(name="fraud_svc", feature_view_projections=[chosen])
    for _ in range(2):  # the second time from what was compiled
        assert store.get_online_features("fraud_svc", C1).to_dict() == wanted
        assert store.get_online_features(later, C1).to_dict() == wanted
        for service in (renamed, foreign):
            found = store.get_online_features(service, C1, full_feature_names=True).to_dict()
            assert found == {"customer_id": ["C1"], "person__age": wanted["age"]}
    with pytest.raises(errors.FeatureServiceNotFoundException, match="nobody does not exist in project bank"):
        store.get_online_features("nobody", C1)
    with pytest.raises(errors.FeatureReferenceError, match="a list of references expected, got the text"):
        store.get_online_features(AGE, C1)


def test_one_store_has_one_project(store: FeatureStore) -> None:
    store.reset_current_project(store.set_current_project("bank"))
    with pytest.raises(errors.NotSupportedError, match="the store is of the project bank; make another store for x"):
        store.set_current_project("x")


def test_feasts_life_cycle(store: FeatureStore) -> None:
    async def use() -> dict[str, Any]:
        await store.initialize()
        found = await store.get_online_features_async([AGE], C1)
        await store.close()
        return found.to_dict()

    assert asyncio.run(use()) == store.get_online_features([AGE], C1).to_dict()
    with pytest.raises(errors.NotSupportedError, match="type 'grpc' is not supported"):
        store.serve("127.0.0.1", 0, "grpc")


def test_the_batch_is_what_stores_fill(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of one's own needs nothing but `read` and `close`."""
    asked: list[list[bytes]] = []

    def read(batch: Batch) -> None:
        asked.append(batch.entity_keys(0))
        batch.put(0, 0, 0, encode_value(5, ValueType.INT32))

    monkeypatch.setattr(store._store, "read", read)
    assert store.get_online_features([AGE], C1 * 2).to_dict() == {"customer_id": ["C1", "C1"], "age": [5, 5]}
    assert asked == [[reference.serialize_entity_key(["customer_id"], ["C1"], [reference.STRING])]]
