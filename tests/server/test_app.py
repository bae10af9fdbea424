"""The application beyond the recorded pairs."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from fastserve.feature_store import FeatureStore
from fastserve.server.app import create_app
from fastserve.server.openapi import docs_page, openapi_document
from tests import goldens
from tests.server.serving import FeatureServer
from tests.servers import RedisServer

READ = "/get-online-features"
AGE = {"features": ["customer_profile:age"], "entities": {"customer_id": ["C1"]}}


def ask(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    """Ask an application in this process, without its lifespan."""

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


def columns(answer: httpx.Response) -> dict[str, list[Any]]:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return {n: r["values"] for n, r in zip(body["metadata"]["feature_names"], body["results"], strict=True)}


@pytest.fixture
def store(sqlite_repo: Path) -> Iterator[FeatureStore]:
    with FeatureStore(sqlite_repo) as found:
        yield found


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_service_wins_over_features(redis_client: httpx.Client) -> None:
    body = {**AGE, "feature_service": "fraud_svc"}
    assert "txn_count" in columns(redis_client.post(READ, json=body))
    assert list(columns(redis_client.post(READ, json={**body, "feature_service": ""}))) == ["customer_id", "age"]


@pytest.mark.parametrize("flag", [True, 1, 1.0, "true", "YES"])
def test_flags_are_taken_as_feast_takes_them(redis_client: httpx.Client, flag: object) -> None:
    answer = redis_client.post(READ, json={**AGE, "full_feature_names": flag})
    assert list(columns(answer)) == ["customer_id", "customer_profile__age"]


def test_a_fault_in_the_body_is_explained(redis_client: httpx.Client) -> None:
    answer = redis_client.post(READ, json={"features": [1], "entities": {"customer_id": "C1"}})
    assert answer.status_code == 422
    assert [(fault["type"], fault["loc"]) for fault in answer.json()["detail"]] == [
        ("list_type", ["body", "entities", "customer_id"]),
        ("string_type", ["body", "features", 0]),
    ]


def test_unreadable_text_is_a_mistake_of_the_client(redis_client: httpx.Client) -> None:
    answer = redis_client.post(READ, content=b'{"x": "\xff"}', headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()) == (400, {"detail": "There was an error parsing the body"})


def test_rows_keep_their_order_and_duplicates(redis_client: httpx.Client) -> None:
    keys = ["C2", "NOPE", "C1", "C2", "C1"]
    answer = redis_client.post(READ, json={**AGE, "entities": {"customer_id": keys}})
    assert columns(answer) == {"customer_id": keys, "age": [29, None, 41, 29, 41]}


def test_a_singleton_view_runs_once_per_row(redis_client: httpx.Client) -> None:
    body = {"features": ["risk_single:single_sum"], "entities": {"customer_id": ["C1", "C2"], "amount": [1.0, 2.0]}}
    assert columns(redis_client.post(READ, json=body))["single_sum"] == [21.0, 79.5]


def test_some_but_not_all_join_keys_are_a_mistake(redis_client: httpx.Client) -> None:
    answer = redis_client.post(READ, json={"features": ["account_merchant:spend"], "entities": {"account_id": [7]}})
    assert answer.status_code == 422
    assert "missing join key merchant_id" in answer.json()


@pytest.mark.parametrize("value", [7.9, "seven", 2**63, [7], {"a": 1}])
def test_a_value_that_cannot_be_a_key_is_a_mistake(redis_client: httpx.Client, value: object) -> None:
    body = {"features": ["account_balance:balance"], "entities": {"account_id": [7, value]}}
    answer = redis_client.post(READ, json=body)
    assert answer.status_code == 422, answer.text
    assert "account_id" in answer.json()
    assert "row 1" in answer.json()


def test_many_requests_at_once(redis_client: httpx.Client) -> None:
    def read(number: int) -> tuple[int, Any]:
        customer = ["C1", "C2"][number % 2]
        return number, columns(redis_client.post(READ, json={**AGE, "entities": {"customer_id": [customer]}}))["age"]

    with ThreadPoolExecutor(16) as pool:
        assert all(age == [[41], [29]][number % 2] for number, age in pool.map(read, range(400)))


# --- routes ----------------------------------------------------------------------------------------------------------


def test_head_is_allowed_where_get_is(redis_client: httpx.Client) -> None:
    for path in ("/health", "/docs", "/openapi.json"):
        answer = redis_client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_wrong_method_says_which_is_right(redis_client: httpx.Client) -> None:
    answer = redis_client.delete("/health")
    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_a_redirect_that_is_followed_reads(redis_client: httpx.Client) -> None:
    assert columns(redis_client.post(f"{READ}/", json=AGE, follow_redirects=True))["age"] == [41]


def test_openapi_and_docs_are_what_their_module_makes(redis_client: httpx.Client) -> None:
    assert redis_client.get("/openapi.json").json() == json.loads(json.dumps(openapi_document()))
    assert redis_client.get("/docs").text == docs_page()


def test_health_tells_when_the_registry_is_gone(sqlite_repo: Path, tmp_path: Path) -> None:
    repo = shutil.copytree(sqlite_repo, tmp_path / "repo")
    with FeatureStore(repo) as store:
        app = create_app(store)
        assert (ask(app, "GET", "/health").status_code, ask(app, "GET", "/health").content) == (200, b"")
        (repo / "data" / "registry.db").unlink()
        assert ask(app, "GET", "/health").status_code == 503
        assert columns(ask(app, "POST", READ, json=AGE))["age"] == [41]  # from the registry as it was


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_store_that_is_down_is_503(short_folder: Path, tmp_path: Path) -> None:
    with RedisServer.start(short_folder / "down") as redis:
        with redis.client() as client:
            goldens.fill_redis(client)
        repo = goldens.copy_bank(tmp_path, {"type": "redis", "connection_string": redis.connection_string})
        with FeatureServer.start(repo, tmp_path / "serve.log") as server:
            assert columns(server.client.post(READ, json=AGE))["age"] == [41]
            redis.stop()
            answer = server.client.post(READ, json=AGE)
            assert answer.status_code == 503
            assert isinstance(answer.json(), str)
            assert server.client.get("/health").status_code == 200
            log = server.log.read_text()
    assert "StoreError" in log
    assert "Traceback" not in log


def test_damaged_bytes_are_500_and_name_their_place(redis_repo: Path, bank_redis: RedisServer, tmp_path: Path) -> None:
    repo = goldens.copy_bank(tmp_path, {"type": "redis", "connection_string": f"{bank_redis.connection_string},db=1"})
    with bank_redis.client(db=1) as client:
        for name, fields in goldens.redis_hashes().items():
            client.hset(name, mapping=dict.fromkeys(fields, b"\x12\xff"))
    with FeatureStore(repo) as store:
        answer = ask(create_app(store), "POST", READ, json=AGE)
    assert answer.status_code == 500
    assert "customer_profile" in answer.json()


def test_a_bug_is_a_logged_500(store: FeatureStore, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("an accident")

    monkeypatch.setattr(store, "get_online_features_async", broken)
    with caplog.at_level(logging.ERROR, "fastserve.server"):
        answer = ask(create_app(store), "POST", READ, json=AGE)
    assert (answer.status_code, answer.json()) == (500, "an accident")
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def test_a_view_being_materialised_is_served(sqlite_repo: Path, tmp_path: Path) -> None:
    from fastserve.registry import schema_pb2

    repo = shutil.copytree(sqlite_repo, tmp_path / "repo")
    path = repo / "data" / "registry.db"
    registry = schema_pb2.Registry.FromString(path.read_bytes())
    for view in registry.feature_views:
        view.meta.state = schema_pb2.MATERIALIZING
    path.write_bytes(registry.SerializeToString())
    with FeatureStore(repo) as store:
        assert columns(ask(create_app(store), "POST", READ, json=AGE))["age"] == [41]


# --- life ------------------------------------------------------------------------------------------------------------


def run_lifespan(app: Starlette) -> FeatureStore | None:
    async def run() -> FeatureStore | None:
        async with app.router.lifespan_context(app):
            return getattr(app.state, "store", None)

    return asyncio.run(run())


def closed(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> list[FeatureStore]:
    calls: list[FeatureStore] = []
    monkeypatch.setattr(FeatureStore, "close", lambda self: calls.append(self))
    return calls


def test_a_store_that_is_given_stays_open(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = closed(store, monkeypatch)
    assert run_lifespan(create_app(store)) is store
    assert calls == []


def test_a_store_of_its_own_is_closed(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = closed(store, monkeypatch)
    own = run_lifespan(create_app(config=store.config))
    assert own is not None
    assert calls == [own]


def test_without_arguments_the_environment_says_what_is_served(
    sqlite_repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURE_REPO_DIR_ENV_VAR", str(sqlite_repo))
    own = run_lifespan(create_app())
    assert own is not None
    assert own.repo_path == sqlite_repo


def test_can_be_mounted_in_another_application(store: FeatureStore) -> None:
    outer = Starlette(routes=[Mount("/features", create_app(store))])
    assert columns(ask(outer, "POST", f"/features{READ}", json=AGE))["age"] == [41]
    assert ask(outer, "GET", "/features/nope").json() == {"detail": "Not Found"}
