"""The SDK against a server of ours answers as the SDK against the store itself: every feature, form and error."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fastserve import FeatureStore, remote
from fastserve.errors import (
    ConfigError,
    FastserveError,
    FeatureViewNotFoundException,
    PushSourceNotFoundException,
    RegistryNotFoundError,
    RequestError,
    StoreError,
    WriteError,
)
from fastserve.model import FeatureService
from tests import goldens
from tests.bank import END, LATER, START, VIEWS, amounts, txn
from tests.goldens import same
from tests.rows import UTC
from tests.server.serving import FeatureServer
from tests.servers import Certificates, RedisServer
from tests.stores.scripted import ScriptedServer, wait_until
from tests.stores.web import answer_bytes, json_bytes, serve

pytestmark = pytest.mark.xdist_group("remote SDK")  # one server for all

CUSTOMERS = [{"customer_id": customer} for customer in ("C1", "C2", "NOPE", "C1")]
PAIRS = [{"account_id": 7, "merchant_id": "M1"}, {"account_id": 8, "merchant_id": "M42"}]
AMOUNTS = [{"customer_id": "C1", "amount": 100.0}, {"customer_id": "C2", "amount": 1.0}]
TRANSFERS = [{"payer_id": "C1", "payee_id": "C2"}]

QUESTIONS: dict[str, tuple[Any, Any]] = {
    "every type": ("all_types", CUSTOMERS),
    "one view": ("customer_profile", CUSTOMERS),
    "two join keys": ("account_merchant", PAIRS),
    "no entity": ("fx_rates", [{"customer_id": "C1"}]),
    "on demand": (["risk_py:ratio", "risk_py:flag", "risk_pd:double_amount", "txn_7d:txn_count"], AMOUNTS),
    "columns": (["txn_7d:amount_sum"], {"customer_id": np.array(["C1", "C2"])}),
    "a frame": (["txn_7d:amount_sum"], pd.DataFrame({"customer_id": ["C1"]})),
    "no rows": (["txn_7d:amount_sum"], []),
    "a key that no view uses": (["txn_7d:amount_sum"], [{"customer_id": "C1", "account_id": 7}]),
    "a service": (FeatureService("fraud_svc", ()), CUSTOMERS),
    "a service by its name": ("fraud_svc", CUSTOMERS),
    "a service with aliases": (FeatureService("transfer_svc", ()), TRANSFERS),
    "a service with an on-demand view": (FeatureService("odfv_svc", ()), AMOUNTS),
}


@pytest.fixture(scope="module")
def redis(short_folder: Path) -> Iterator[RedisServer]:
    with RedisServer.start(short_folder / "remote") as server:
        with server.client() as client:
            goldens.fill_redis(client)
        yield server


@pytest.fixture(scope="module")
def repo(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = {"type": "redis", "connection_string": redis.connection_string}
    return goldens.copy_bank(tmp_path_factory.mktemp("remote_bank"), store)


@pytest.fixture(scope="module", params=[(), ("--no-fast-lane",)], ids=["fast", "asgi"])
def server(
    request: pytest.FixtureRequest, repo: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FeatureServer]:
    with FeatureServer.start(repo, tmp_path_factory.mktemp("log") / "serve.log", *request.param) as found:
        yield found


@pytest.fixture(scope="module")
def one_server(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureServer]:
    """For what does not depend on the lane."""
    with FeatureServer.start(repo, tmp_path_factory.mktemp("log") / "serve.log") as found:
        yield found


@pytest.fixture
def local(repo: Path) -> Iterator[FeatureStore]:
    with FeatureStore(repo) as store:
        yield store


def settings(url: str, **more: Any) -> dict[str, Any]:
    """A feature_store.yaml of a client that has no registry of its own."""
    registry = {"registry_type": "remote", "path": "localhost:6570"}
    return {"project": "bank", "provider": "local", "registry": registry, "online_store": store_of(url), **more}


def store_of(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "remote", "path": url, **more}


def url_of(server: FeatureServer | ScriptedServer) -> str:
    return f"http://localhost:{server.port}"


@pytest.fixture
def client(server: FeatureServer) -> Iterator[FeatureStore]:
    with FeatureStore(config=settings(url_of(server))) as store:
        yield store


@pytest.fixture
def one_client(one_server: FeatureServer) -> Iterator[FeatureStore]:
    with FeatureStore(config=settings(url_of(one_server))) as store:
        yield store


def asked(local: FeatureStore, features: Any) -> Any:
    """What to ask the local store for: a view stands for all of its features, a service for itself."""
    if isinstance(features, FeatureService):
        return local.get_feature_service(features.name)
    return features if features == "fraud_svc" or isinstance(features, list) else all_of(local, features)


def all_of(local: FeatureStore, view: str) -> list[str]:
    return [f"{view}:{feature.name}" for feature in local.get_feature_view(view).features]


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full_feature_names", [False, True])
@pytest.mark.parametrize(("features", "rows"), QUESTIONS.values(), ids=QUESTIONS)
def test_every_form_of_an_answer(
    client: FeatureStore, local: FeatureStore, features: Any, rows: Any, full_feature_names: bool
) -> None:
    question = asked(local, features)
    full_feature_names = full_feature_names or features == FeatureService("transfer_svc", ())  # names that collide
    mine = local.get_online_features(question, rows, full_feature_names, True)
    theirs = client.get_online_features(
        features if isinstance(features, FeatureService) else question, rows, full_feature_names, True
    )
    assert same(theirs.to_dict(True), mine.to_dict(True))
    assert theirs.to_json() == mine.to_json()
    assert theirs.proto == mine.proto
    assert theirs.statuses == mine.statuses
    assert theirs.to_arrow(True).schema == mine.to_arrow(True).schema
    assert same(theirs.to_arrow(True).to_pydict(), mine.to_arrow(True).to_pydict())
    pd.testing.assert_frame_equal(theirs.to_df(True), mine.to_df(True))
    for name, column in mine.to_numpy(True).items():
        assert same(theirs.to_numpy(True)[name].tolist(), column.tolist())
        assert theirs.to_numpy(True)[name].dtype == column.dtype


def test_asynchronous_reads(client: FeatureStore, local: FeatureStore) -> None:
    features = all_of(local, "customer_profile")

    async def main() -> list[Any]:
        return await asyncio.gather(*(client.get_online_features_async(features, [row]) for row in CUSTOMERS * 20))

    answers = asyncio.run(main())
    for row, answer in zip(CUSTOMERS * 20, answers, strict=True):
        assert same(answer.to_dict(), local.get_online_features(features, [row]).to_dict())


def test_one_request_for_many_views(one_client: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []
    store: Any = one_client._store
    monkeypatch.setattr(
        store, "_exchange", lambda message, end, ask=store._exchange: requests.append(1) or ask(message, end)
    )
    features = ["customer_profile:age", "txn_7d:txn_count", "risk_py:flag", "fx_rates:eur_usd"]
    one_client.get_online_features(features, AMOUNTS)
    assert len(requests) == 1


def test_the_same_list_with_other_contents(one_client: FeatureStore) -> None:
    features = ["customer_profile:age"]
    for wanted in ("age", "segment", "age"):
        features[0] = f"customer_profile:{wanted}"
        found = one_client.get_online_features(features, CUSTOMERS).to_dict()
        assert list(found) == ["customer_id", wanted]
    assert list(one_client.get_online_features(features, CUSTOMERS, True).to_dict())[1] == "customer_profile__age"


def test_shapes_that_are_kept_are_limited(one_server: FeatureServer) -> None:
    limits = {"fastserve": {"max_cached_plans": 2}}
    with FeatureStore(config=settings(url_of(one_server), **limits)) as store:
        for name in ("age", "segment", "income", "age"):
            store.get_online_features([f"customer_profile:{name}"], CUSTOMERS)
        assert store._remote is not None
        assert len(store._remote._heads) == len(store._remote._plans) == 2


def test_values_of_entities(one_client: FeatureStore, local: FeatureStore) -> None:
    rows = {"account_id": np.array([7, 8], "int32")}
    found = one_client.get_online_features(["account_balance:balance"], rows).to_dict()
    assert found == local.get_online_features(["account_balance:balance"], rows).to_dict()


def test_the_numbers_that_json_lacks_as_request_data(one_client: FeatureStore, local: FeatureStore) -> None:
    rows = [{"customer_id": "C1", "amount": float("nan")}, {"customer_id": "C2", "amount": float("inf")}]
    theirs = one_client.get_online_features(["risk_py:ratio"], rows)
    assert same(theirs.to_dict(), local.get_online_features(["risk_py:ratio"], rows).to_dict())


# --- errors ----------------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[Any, Any]] = {
    "unknown view": (["nope:x"], CUSTOMERS),
    "unknown feature": (["txn_7d:nope"], CUSTOMERS),
    "unknown service": (FeatureService("nope", ()), CUSTOMERS),
    "unknown service by its name": ("nope", CUSTOMERS),
    "bad reference": (["txn_7d"], CUSTOMERS),
    "no features": ([], CUSTOMERS),
    "twice": (["customer_profile:age", "customer_profile:age"], CUSTOMERS),
    "no key": (["txn_7d:txn_count"], [{"other": 1}]),
    "null key": (["txn_7d:txn_count"], [{"customer_id": "C1"}, {"customer_id": None}]),
    "bad key": (["account_balance:balance"], [{"account_id": "x"}]),
    "no request data": (["risk_py:ratio"], CUSTOMERS),
    "not text": ([5], CUSTOMERS),
    "a text": ("txn_7d:txn_count", CUSTOMERS),
    "not iterable": (5, CUSTOMERS),
    "no rows": (["txn_7d:txn_count"], 5),
    "ragged": (["txn_7d:txn_count"], {"customer_id": ["C1"], "account_id": [1, 2]}),
}


@pytest.mark.parametrize(("features", "rows"), MISTAKES.values(), ids=MISTAKES)
def test_errors_are_those_of_the_store(client: FeatureStore, local: FeatureStore, features: Any, rows: Any) -> None:
    with pytest.raises(FastserveError) as mine:
        local.get_online_features(asked_or_missing(local, features), rows)
    with pytest.raises(FastserveError) as theirs:
        client.get_online_features(features, rows)
    assert type(theirs.value) is type(mine.value)
    assert str(theirs.value) == str(mine.value)
    assert vars(theirs.value) == vars(mine.value)


def asked_or_missing(local: FeatureStore, features: Any) -> Any:
    return local.get_feature_service(features.name) if isinstance(features, FeatureService) else features


def test_an_error_of_an_asynchronous_read(one_client: FeatureStore) -> None:
    with pytest.raises(FeatureViewNotFoundException, match="nope"):
        asyncio.run(one_client.get_online_features_async(["nope:x"], CUSTOMERS))


def test_a_store_that_is_gone_behind_the_server(tmp_path: Path, short_folder: Path) -> None:
    with RedisServer.start(short_folder / "gone") as redis:
        store = {"type": "redis", "connection_string": redis.connection_string}
        repo = goldens.copy_bank(tmp_path / "bank", store)
        with FeatureServer.start(repo, tmp_path / "log") as server:
            redis.stop()
            config = settings(url_of(server))
            config["online_store"]["connection_retries"] = 0
            with FeatureStore(config=config) as client, pytest.raises(StoreError, match=f"127.0.0.1:{redis.port}"):
                client.get_online_features(["txn_7d:txn_count"], CUSTOMERS)


@pytest.mark.parametrize(
    "answer",
    [
        answer_bytes(b"\xff\xff", content_type="application/x-protobuf"),
        answer_bytes(b"", content_type="application/x-protobuf"),
        answer_bytes(b"{", content_type="application/json"),
        json_bytes({"results": [], "metadata": {"feature_names": ["a"]}}),
        json_bytes([1]),
        answer_bytes(b"<html>", content_type="text/html"),
    ],
)
def test_answers_of_something_else(answer: bytes) -> None:
    with ScriptedServer(serve(answer)) as server, FeatureStore(config=settings(url_of(server))) as client:
        with pytest.raises(StoreError, match=f"the answer of http://localhost:{server.port} is not one of a feature"):
            client.get_online_features(["a:b"], [{"c": 1}])


# --- a server that answers JSON --------------------------------------------------------------------------------------

UNTYPED = {"sm_map", "z_ts"}
"""Of those JSON has less than the store: keys that are no text, and names of zones."""


@pytest.mark.parametrize("name", ["every type", "one view", "on demand", "a service", "two join keys"])
def test_json_with_the_types_of_the_client_s_registry(
    one_server: FeatureServer,
    repo: Path,
    local: FeatureStore,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(remote, "ACCEPT", "application/json")
    features, rows = QUESTIONS[name]
    question = asked(local, features)
    if isinstance(question, list):
        question = [reference for reference in question if reference.partition(":")[2] not in UNTYPED]
    mine = local.get_online_features(question, rows)
    folder = goldens.copy_bank(tmp_path / "client", store_of(url_of(one_server)))
    with FeatureStore(folder) as client:
        theirs = client.get_online_features(question, rows)
        assert same(theirs.to_dict(True), mine.to_dict(True))
        assert theirs.statuses == mine.statuses
        assert theirs.to_arrow().schema == mine.to_arrow().schema


def test_json_without_a_registry(
    one_client: FeatureStore, local: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "ACCEPT", "application/json")
    features = [
        "customer_profile:age",
        "customer_profile:segment",
        "customer_profile:labels",
        "customer_profile:income",
    ]
    mine = local.get_online_features(features, CUSTOMERS)
    assert one_client.get_online_features(features, CUSTOMERS).to_dict(True) == mine.to_dict(True)


# --- writing ---------------------------------------------------------------------------------------------------------


def test_pushing(one_client: FeatureStore, local: FeatureStore) -> None:
    one_client.push("txn_push", txn("R1", 1.5, LATER))
    assert amounts(local, "R1") == [1.5]
    asyncio.run(one_client.push_async("txn_push", pd.DataFrame(txn("R1", 2.5, LATER + dt.timedelta(seconds=1)))))
    assert amounts(local, "R1") == [2.5]
    one_client.push("txn_push", txn("R1", 0.5, LATER))  # older
    assert amounts(local, "R1") == [2.5]


def test_writing(one_client: FeatureStore, local: FeatureStore) -> None:
    balance = {"account_id": [907], "balance": [1.25], "history": [[1.0, float("inf")]], "event_timestamp": [LATER]}
    one_client.write_to_online_store("account_balance", pa.table(balance))
    read = ["account_balance:balance", "account_balance:history"]
    found = local.get_online_features(read, [{"account_id": 907}]).to_dict()
    assert found == {"account_id": [907], "balance": [1.25], "history": [[1.0, float("inf")]]}
    rows = [{"account_id": 908, "balance": 2.5, "history": [], "event_timestamp": LATER}]
    asyncio.run(one_client.write_to_online_store_async("account_balance", inputs=rows))
    assert local.get_online_features(read[:1], [{"account_id": 908}]).to_dict()["balance"] == [2.5]


def test_every_type_goes_over_and_comes_back(one_client: FeatureStore, local: FeatureStore) -> None:
    """All but those whose JSON is ambiguous; all_types has no source, so a view with one stands in."""
    moment = dt.datetime(2026, 7, 1, 9, 0, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    row = {"customer_id": ["R2"], "age": [41], "income": [1e300], "segment": ["“ñ”\n"], "is_vip": [True]}
    row |= {"opened_at": [moment], "labels": [["a", ""]], "event_timestamp": [moment], "created": [LATER]}
    one_client.write_to_online_store("customer_profile", row)
    found = local.get_online_features(all_of(local, "customer_profile"), [{"customer_id": "R2"}]).to_dict(True)
    assert found["opened_at"] == [moment.astimezone(UTC).replace(microsecond=0)]
    assert (found["income"], found["segment"], found["labels"]) == ([1e300], ["“ñ”\n"], [["a", ""]])
    assert found["age__ts"] == [int(moment.timestamp())]


def test_errors_of_writes(one_client: FeatureStore) -> None:
    with pytest.raises(PushSourceNotFoundException, match="nope"):
        one_client.push("nope", txn())
    with pytest.raises(FeatureViewNotFoundException, match="nope"):
        one_client.write_to_online_store("nope", txn())
    with pytest.raises(WriteError, match="missing columns: txn_count, avg_amount") as caught:
        one_client.push("txn_push", {"customer_id": ["C1"], "amount_sum": [1.0], "event_timestamp": [LATER]})
    assert caught.value.view == "txn_7d"
    with pytest.raises(RequestError, match="not a supported push format"):
        one_client.push("txn_push", txn(), to="sideways")
    with pytest.raises(RequestError, match="either as df or as inputs"):
        one_client.write_to_online_store("txn_7d")
    with pytest.raises(RequestError, match="either as df or as inputs"):
        asyncio.run(one_client.write_to_online_store_async("txn_7d"))


def test_materializing(one_client: FeatureStore, local: FeatureStore, repo: Path) -> None:
    assert one_client.materialize(START, END, feature_views=["fx_rates"]) == []
    local.refresh_registry()
    assert local.get_feature_view("fx_rates").materialization_intervals[-1][1] == END
    one_client.materialize_incremental(END + dt.timedelta(days=1), feature_views=["fx_rates"])
    local.refresh_registry()
    assert local.get_feature_view("fx_rates").materialization_intervals[-1][1] == END + dt.timedelta(days=1)
    one_client.materialize(START, END, feature_views=VIEWS[-1:], run_async=True, force=True)

    def is_loaded() -> bool:
        local.refresh_registry()
        return local.get_feature_view(VIEWS[-1]).state.name == "AVAILABLE_ONLINE"

    wait_until(is_loaded)
    with pytest.raises(RequestError, match="force=True needs run_async=True"):
        one_client.materialize(START, END, force=True)
    with pytest.raises(FeatureViewNotFoundException, match="nope"):
        one_client.materialize(START, END, feature_views=["nope"])


def test_the_events_of_asynchronous_writes(one_client: FeatureStore) -> None:
    with pytest.raises(PushSourceNotFoundException):
        asyncio.run(one_client.push_async("nope", txn()))


# --- the rest --------------------------------------------------------------------------------------------------------


def test_without_a_registry_only_what_needs_it_fails(one_client: FeatureStore) -> None:
    assert one_client.list_feature_views() == []
    with pytest.raises(RegistryNotFoundError, match="registry_type: remote is not supported"):
        one_client.refresh_registry()


def test_a_registry_that_was_never_applied(one_server: FeatureServer, tmp_path: Path) -> None:
    config = settings(url_of(one_server), registry=str(tmp_path / "registry.db"))
    with FeatureStore(config=config) as client:
        assert client.get_online_features(["txn_7d:txn_count"], CUSTOMERS).to_dict()["txn_count"][0] is not None


def test_tls_with_an_authority_of_our_own(repo: Path, certificates: Certificates, tmp_path: Path) -> None:
    options = ("-k", str(certificates.key), "-c", str(certificates.cert))
    with FeatureServer.start(repo, tmp_path / "log", *options, authority=certificates.ca) as server:
        config = settings(f"https://localhost:{server.port}")
        config["online_store"]["cert"] = str(certificates.ca)
        with FeatureStore(config=config) as client:
            assert client.get_online_features(["txn_7d:txn_count"], CUSTOMERS).to_dict()["customer_id"][0] == "C1"
            asyncio.run(client.get_online_features_async(["txn_7d:txn_count"], CUSTOMERS))
        config["online_store"]["cert"] = ""
        with FeatureStore(config=config) as client, pytest.raises(StoreError, match="certificate verify failed"):
            client.get_online_features(["txn_7d:txn_count"], CUSTOMERS)


def test_the_watch_over_a_server(one_client: FeatureStore) -> None:
    one_client.check_store()
    one_client.get_online_features(["txn_7d:txn_count"], CUSTOMERS)
    assert one_client.figures().store["open"] == 1


def test_a_password_is_no_part_of_the_address() -> None:
    with pytest.raises(ConfigError, match=r"online_store\.path: user and password"):
        FeatureStore(config=settings("http://me:s3cret@localhost:1"))


def test_calls_leave_nothing_behind(one_client: FeatureStore) -> None:
    """A short form of bench/remote_flat.py."""
    features = ["txn_7d:txn_count"]

    def state() -> tuple[int, int]:
        size = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        return len(os.listdir("/proc/self/fd")), size

    for _ in range(500):
        one_client.get_online_features(features, CUSTOMERS).to_dict()
    files, size = state()
    for _ in range(1500):
        one_client.get_online_features(features, CUSTOMERS).to_dict()
    files_after, size_after = state()
    assert files_after <= files
    assert size_after - size < 2_000_000


def test_json_of_a_request_is_that_of_feast() -> None:
    """Members and their names; golden/remote_client_pairs.json has Feast's own."""
    sent: list[Any] = []
    with ScriptedServer(serve(json_bytes("no", 400), asked=sent)) as server:
        with FeatureStore(config=settings(url_of(server))) as client:
            with pytest.raises(RequestError):
                client.get_online_features(["a:b"], [{"c": 1}, {"c": 2}], True)
            with pytest.raises(RequestError):
                client.get_online_features(FeatureService("svc", ()), {"c": ["x"]})
    bodies = [json.loads(request.body) for request in sent]
    flags = {"full_feature_names": True, "include_feature_view_version_metadata": False}
    assert bodies[0] == {"entities": {"c": [1, 2]}, "features": ["a:b"], **flags}
    assert bodies[1] == {"entities": {"c": ["x"]}, "feature_service": "svc", **flags, "full_feature_names": False}
