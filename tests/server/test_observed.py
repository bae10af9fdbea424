"""Real servers, seen from outside: metrics, health, logs and keys."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests import goldens
from tests.server.raw import Raw, request
from tests.server.serving import FeatureServer, environment
from tests.server.test_run import children
from tests.servers import RedisServer, free_port

READ = "/get-online-features"
AGE = {"features": ["customer_profile:age"], "entities": {"customer_id": ["C1", "nobody"]}}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
DEADLINE_SECONDS = 20.0


def figures(client: httpx.Client, path: str = "/metrics") -> dict[str, float]:
    """Return name with labels -> value."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


def ask(server: FeatureServer, count: int, body: Any = AGE) -> None:
    """Send reads over as many new connections as there are workers and more, so that all of them get some."""

    def some(number: int) -> None:
        with httpx.Client(base_url=server.client.base_url, trust_env=False, timeout=20) as client:
            for _ in range(number):
                assert client.post(READ, json=body).status_code == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(some, [count // 10] * 10))


def reads(found: dict[str, float]) -> tuple[float, ...]:
    """Return what all counts of reads say: requests, successes, latencies, present and absent values."""
    latency = "feast_feature_server_request_latency_seconds_count"
    labels = f'{{endpoint="{READ}",feature_count="1-10",feature_view_count="1"}}'
    view = 'feast_online_features_status_total{feature_view="customer_profile",status="%s"}'
    return (
        found["feast_online_features_request_total"],
        found[f'feast_feature_server_request_total{{endpoint="{READ}",status="success"}}'],
        found[f'fastserve_http_responses_total{{endpoint="{READ}",code="200"}}'],
        found[latency + labels],
        found[view % "present"],
        found[view % "not_found"],
    )


@pytest.fixture(scope="module")
def server(
    redis_repo: Path, lane: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FeatureServer]:
    with FeatureServer.start(
        redis_repo, tmp_path_factory.mktemp("log") / "log", "--log-format", "json", *lane
    ) as server:
        wait_until(lambda: server.client.get("/readyz").status_code == 200)
        yield server


# --- metrics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--no-fast-lane",)], ids=["fast", "asgi"])
def test_one_scrape_shows_all_workers(redis_repo: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Also what workers counted that were killed since."""
    with FeatureServer.start(redis_repo, tmp_path / "log", "-w", "3", "--no-access-log", *options) as server:
        ask(server, 100)
        for _ in range(5):  # whichever worker answers
            with httpx.Client(base_url=server.client.base_url, trust_env=False) as client:
                assert reads(figures(client)) == (100,) * 6
        wait_until(lambda: figures(server.client)["fastserve_workers"] == 3)
        assert figures(server.client)["fastserve_requests_in_flight"] == 0
        pids = children(server.process.pid)
        shown = {int(pid) for pid in re.findall(r'cpu_usage{pid="(\d+)"}', " ".join(figures(server.client)))}
        assert shown == pids

        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not pids & children(server.process.pid) and len(children(server.process.pid)) == 3)
        server.client.close()
        server.client = httpx.Client(base_url=server.client.base_url, trust_env=False, timeout=20)
        ask(server, 50)
        assert reads(figures(server.client)) == (150,) * 6
        wait_until(lambda: figures(server.client)["fastserve_workers"] == 3)
        assert server.stop() == 0


def test_workers_that_are_recycled_lose_no_counts(redis_repo: Path, tmp_path: Path) -> None:
    options = ("-w", "2", "--max-requests", "10", "--max-requests-jitter", "0", "--no-access-log")
    asked = 0
    each_anew = httpx.Limits(max_keepalive_connections=0)
    with (
        FeatureServer.start(redis_repo, tmp_path / "log", *options) as server,
        httpx.Client(base_url=server.client.base_url, trust_env=False, limits=each_anew) as client,
    ):
        first = children(server.process.pid)
        replaced: set[int] = set()
        while len(replaced) < 12:  # files of more dead workers than are kept apart
            try:
                asked += client.post(READ, json=AGE).status_code == 200
            except httpx.TransportError:
                continue  # of a worker that ends
            replaced |= children(server.process.pid) - first
        found = figures(client)
        assert found["feast_online_features_request_total"] == asked
        assert found["fastserve_decode_seconds_count"] == asked


def test_nothing_is_left_behind(sqlite_repo: Path, tmp_path: Path) -> None:
    def folders() -> set[Path]:
        return {*Path("/dev/shm").glob("fastserve-metrics-*"), *Path("/tmp").glob("fastserve-metrics-*")}

    before = folders()
    with FeatureServer.start(sqlite_repo, tmp_path / "log", "-w", "2") as server:
        workers = children(server.process.pid)  # one of them answered, so it counts; the other may just be starting
        mine = {folder for folder in folders() - before for worker in workers if list(folder.glob(f"{worker}-*"))}
        assert len(mine) == 1
        assert server.stop() == 0
    assert not mine & folders()


@pytest.mark.parametrize("by_option", [True, False])
def test_metrics_have_a_port_of_their_own(sqlite_repo: Path, tmp_path: Path, by_option: bool) -> None:
    repo = shutil.copytree(sqlite_repo, tmp_path / "repo")
    section = yaml.safe_load((repo / "feature_store.yaml").read_text())
    section["auth"] = {"type": "api_key", "keys": ["k"]}
    section["feature_server"] = {"metrics": {"enabled": not by_option, "freshness": False}}
    (repo / "feature_store.yaml").write_text(yaml.safe_dump(section))
    port = free_port()
    options = ["--metrics-port", str(port), "-w", "2", *(["-m"] if by_option else [])]
    with FeatureServer.start(repo, tmp_path / "log", *options) as server:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for path in ("/", "/metrics"):
                found = figures(client, path)
                assert found['fastserve_http_responses_total{endpoint="/health",code="200"}'] >= 1
                assert not any("freshness" in name for name in found)
            assert server.stop() == 0
            with pytest.raises(httpx.ConnectError):
                client.get("/")


def test_a_taken_metrics_port_is_one_line(sqlite_repo: Path, tmp_path: Path) -> None:
    with FeatureServer.start(sqlite_repo, tmp_path / "log") as server:
        command = [sys.executable, "-m", "fastserve", "-c", str(sqlite_repo), "serve", "-p", "0", "-m"]
        command += ["--metrics-port", str(server.port)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"Error: cannot listen on 127.0.0.1:{server.port}: Address already in use\n"


def test_failures_are_counted(server: FeatureServer) -> None:
    before = figures(server.client)
    assert server.client.post(READ, json={"features": ["no:f"], "entities": {"customer_id": ["C1"]}}).status_code == 404
    assert server.client.post(READ, json={"features": []}).status_code == 422
    assert server.client.get("/no/such").status_code == 404
    after = figures(server.client)

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown(f'feast_feature_server_request_total{{endpoint="{READ}",status="error"}}') == 2
    assert grown(f'fastserve_http_responses_total{{endpoint="{READ}",code="404"}}') == 1
    assert grown(f'fastserve_http_responses_total{{endpoint="{READ}",code="422"}}') == 1
    assert grown('fastserve_http_responses_total{endpoint="other",code="404"}') == 1
    assert after["fastserve_requests_in_flight"] == 0


def test_what_is_no_http_is_counted(server: FeatureServer) -> None:
    name = 'fastserve_http_responses_total{endpoint="other",code="400"}'
    before = figures(server.client).get(name, 0)
    with Raw(server.port) as client:
        status, _, _ = client.ask(b"nonsense\r\n\r\n")
    assert status == 400
    assert figures(server.client)[name] == before + 1


def test_on_demand_views_are_timed(server: FeatureServer) -> None:
    name = 'feast_feature_server_transformation_duration_seconds_count{odfv_name="risk_py",mode="python"}'
    before = figures(server.client).get(name, 0)
    body = {"features": ["risk_py:ratio"], "entities": {"customer_id": ["C1"], "amount": [1.0]}}
    assert server.client.post(READ, json=body).status_code == 200
    assert figures(server.client)[name] == before + 1


def test_who_leaves_is_not_in_flight(short_folder: Path, tmp_path: Path) -> None:
    """In the fast lane; an ASGI server finishes what it has begun."""
    with RedisServer.start(short_folder / "leave") as redis, redis.client() as client:
        goldens.fill_redis(client)
        repo = goldens.copy_bank(tmp_path / "repo", {"type": "redis", "connection_string": redis.connection_string})
        with FeatureServer.start(repo, tmp_path / "log") as server:
            ask(server, 10)
            client.client_pause(3000)
            with Raw(server.port) as raw:
                body = json.dumps(AGE).encode()
                raw.send(request("POST", READ, body))
                wait_until(lambda: figures(server.client)["fastserve_requests_in_flight"] == 1)
            wait_until(lambda: figures(server.client)["fastserve_requests_in_flight"] == 0)
            found = figures(server.client)
            assert found[f'fastserve_http_responses_total{{endpoint="{READ}",code="499"}}'] == 1
            assert found["feast_online_features_request_total"] == 10
        assert re.search(rf'POST {READ} HTTP/1.1" 499 0 ', server.log.read_text())


def test_writes_are_counted(sqlite_repo: Path, tmp_path: Path) -> None:
    repo = shutil.copytree(sqlite_repo, tmp_path / "repo")
    row = {"customer_id": ["C1"], "amount_sum": [1.0], "txn_count": [1], "avg_amount": [1.0]}
    row |= {"event_timestamp": ["2030-03-01T00:00:00"], "created": ["2030-03-01T00:00:00"]}
    balance = {"account_id": [7], "balance": [1.25], "history": [[1.0]]}
    balance |= {"event_timestamp": ["2030-03-01T00:00:00"], "created": ["2030-03-01T00:00:00"]}
    with FeatureServer.start(repo, tmp_path / "log") as server:
        client = server.client
        assert client.post("/push", json={"push_source_name": "txn_push", "df": row}).status_code == 200
        assert client.post("/push", json={"push_source_name": "none", "df": row}).status_code == 422
        body = {"feature_view_name": "account_balance", "df": balance}
        assert client.post("/write-to-online-store", json=body).status_code == 200
        window = {"start_ts": "2025-01-01T00:00:00", "end_ts": "2026-02-01T00:00:00"}
        failed = client.post("/materialize", json={**window, "feature_views": ["customer_profile"]}).status_code >= 400
        found = figures(client)
    assert found['feast_push_request_total{push_source="txn_push",mode="online"}'] == 1
    assert found['feast_feature_server_request_total{endpoint="/push",status="success"}'] == 1
    assert found['feast_feature_server_request_total{endpoint="/push",status="error"}'] == 1
    assert found['feast_feature_server_request_total{endpoint="/write-to-online-store",status="success"}'] == 1
    outcome = "failure" if failed else "success"
    labels = f'{{feature_view="customer_profile",status="{outcome}"}}'
    assert found[f"feast_materialization_result_total{labels}"] == 1
    assert found['feast_materialization_duration_seconds_count{feature_view="customer_profile"}'] == 1


# --- health ----------------------------------------------------------------------------------------------------------


def test_alive_and_ready(server: FeatureServer) -> None:
    assert server.client.get("/livez").status_code == 200
    answer = server.client.get("/readyz")
    assert answer.json() == {"ready": True, "registry": "loaded", "store": "answers", "plans": "warm"}


def test_ready_again_when_the_store_is_back(short_folder: Path, tmp_path: Path) -> None:
    port = free_port()
    section = {"type": "redis", "connection_string": f"127.0.0.1:{port}"}
    with FeatureServer.start(goldens.copy_bank(tmp_path / "repo", section), tmp_path / "log") as server:
        answer = server.client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["store"] == f"redis 127.0.0.1:{port}/0: cannot connect: Connection refused"
        assert server.client.get("/livez").status_code == 200
        assert server.client.get("/health").status_code == 200
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as redis:
            try:
                wait_until(lambda: server.client.get("/readyz").status_code == 200)
            finally:
                redis.terminate()


# --- ids and logs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [READ, "/health", "/no/such"])
def test_answers_carry_the_id_and_the_trace(server: FeatureServer, path: str) -> None:
    given = {"X-Request-Id": "mine-1", "traceparent": TRACE}
    method = "POST" if path == READ else "GET"
    body = AGE if path == READ else None
    answer = server.client.request(method, path, json=body, headers=given)
    assert (answer.headers["x-request-id"], answer.headers["traceparent"]) == ("mine-1", TRACE)
    first, second = (server.client.request(method, path, json=body).headers["x-request-id"] for _ in range(2))
    assert first != second
    assert "traceparent" not in server.client.get(path).headers


def entries(server: FeatureServer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def test_requests_are_logged_as_json(server: FeatureServer) -> None:
    answer = server.client.post(READ, json=AGE, headers={"X-Request-Id": "logged-1", "traceparent": TRACE})
    server.client.get("/livez", headers={"X-Request-Id": "logged-2"})
    wait_until(lambda: any(entry.get("request_id") == "logged-2" for entry in entries(server)))
    first, second = (
        next(entry for entry in entries(server) if entry.get("request_id") == name) for name in ("logged-1", "logged-2")
    )
    assert (first["method"], first["path"], first["status"]) == ("POST", READ, 200)
    assert first["bytes"] == len(answer.content)
    assert (first["trace_id"], first["span_id"]) == (TRACE[3:35], TRACE[36:52])
    assert 0 < first["duration_ms"] < 20_000
    assert (second["path"], second["status"]) == ("/livez", 200)
    assert any(entry["logger"] == "uvicorn.error" for entry in entries(server))


@pytest.mark.parametrize("lane", [(), ("--no-fast-lane",)], ids=["fast", "asgi"])
def test_a_failure_is_logged_with_its_request(tmp_path: Path, lane: tuple[str, ...]) -> None:
    section = {"type": "redis", "connection_string": f"127.0.0.1:{free_port()}"}
    options = ("--log-format", "json", "--no-access-log", *lane)
    with FeatureServer.start(goldens.copy_bank(tmp_path / "repo", section), tmp_path / "log", *options) as server:
        answer = server.client.post(READ, json=AGE, headers={"X-Request-Id": "failed-1"})
        assert answer.status_code == 503
        assert answer.headers["x-request-id"] == "failed-1"
    (entry,) = (entry for entry in entries(server) if entry.get("request_id") == "failed-1")
    assert entry["level"] == "error"
    assert "cannot connect" in entry["message"]
    assert not any(entry["logger"] == "fastserve.access" for entry in entries(server))


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keyed(redis_repo: Path, lane: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureServer]:
    """A server that wants keys."""
    folder = tmp_path_factory.mktemp("keyed")
    repo = shutil.copytree(redis_repo, folder / "repo")
    section = yaml.safe_load((repo / "feature_store.yaml").read_text())
    section["auth"] = {"type": "api_key", "keys": ["all", {"name": "web", "key": "r3ad", "allow": ["read"]}]}
    (repo / "feature_store.yaml").write_text(yaml.safe_dump(section))
    with FeatureServer.start(repo, folder / "log", *lane) as server:
        yield server


@pytest.mark.parametrize("path", [READ, "/push", "/materialize", "/metrics"])
def test_without_a_key_nothing_is_answered(keyed: FeatureServer, path: str) -> None:
    method = "GET" if path == "/metrics" else "POST"
    for headers, text in [
        ({}, "Missing authentication token"),
        ({"Authorization": "Bearer wrong"}, "Invalid or expired access token"),
        ({"X-API-Key": "wrong"}, "Invalid or expired access token"),
    ]:
        answer = keyed.client.request(method, path, headers=headers, content=b"not even JSON")
        assert (answer.status_code, answer.json()) == (401, {"detail": text})
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer r3ad"}, {"X-API-Key": "r3ad"}], ids=str)
def test_a_key_opens_what_it_allows(keyed: FeatureServer, headers: dict[str, str]) -> None:
    for _ in range(2):  # the second time the fast lane knows the headers
        assert keyed.client.post(READ, json=AGE, headers=headers).status_code == 200
    answer = keyed.client.post("/push", json={}, headers=headers)
    assert answer.status_code == 403
    assert json.loads(answer.json()) == {
        "module": "feast.errors",
        "class": "FeastPermissionError",
        "message": "web may not write: /push",
    }
    assert keyed.client.get("/metrics", headers=headers).status_code == 200


def test_health_needs_no_key(keyed: FeatureServer) -> None:
    for path in ("/health", "/livez", "/readyz", "/openapi.json"):
        assert keyed.client.get(path).status_code in (200, 503)


def test_the_log_names_the_key_and_does_not_show_it(keyed: FeatureServer) -> None:
    keyed.client.post(READ, json=AGE, headers={"Authorization": "Bearer r3ad", "X-Request-Id": "who-1"})
    wait_until(lambda: "who-1" in keyed.log.read_text())
    assert re.search(r"who-1 web$", keyed.log.read_text(), re.MULTILINE)
    assert "r3ad" not in keyed.log.read_text()


@pytest.mark.parametrize(
    ("auth", "text"),
    [
        ({"type": "oidc", "auth_discovery_url": "https://h"}, "auth.type: oidc: fastserve does not check such tokens"),
        ({"type": "api_key", "keys_env": "NO_SUCH"}, "nobody could ask the server"),
    ],
    ids=["oidc", "no key"],
)
def test_a_server_that_could_not_check_keys_does_not_start(
    sqlite_repo: Path, tmp_path: Path, auth: dict[str, Any], text: str
) -> None:
    repo = shutil.copytree(sqlite_repo, tmp_path / "repo")
    section = yaml.safe_load((repo / "feature_store.yaml").read_text())
    (repo / "feature_store.yaml").write_text(yaml.safe_dump({**section, "auth": auth}))
    command = [sys.executable, "-m", "fastserve", "-c", str(repo), "serve", "-p", str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
