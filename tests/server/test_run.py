"""`fastserve serve` as a process: start, workers, certificates, end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from fastserve.errors import FastserveError, RequestError
from fastserve.feature_store import FeatureStore
from fastserve.server.run import ServeOptions, serve
from tests import goldens
from tests.server.serving import FeatureServer, environment
from tests.servers import Certificates, RedisServer, free_port

READ = "/get-online-features"
AGE = {"features": ["customer_profile:age"], "entities": {"customer_id": ["C1"]}}


def age(client: httpx.Client) -> object:
    answer = client.post(READ, json=AGE)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][1]["values"]


def children(pid: int) -> set[int]:
    """Return the worker processes of a server: its children, less the helper of multiprocessing."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in found if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()}


def failed_start(*arguments: str, **variables: str) -> str:
    """Run `fastserve ...`, which must end with status 1 and one line; return the line."""
    command = [sys.executable, "-m", "fastserve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**variables), timeout=60)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    return lines[0]


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": -2},
        {"worker_connections": 0},
        {"port": -1},
        {"max_requests": -1},
        {"max_requests_jitter": -1},
        {"keep_alive_timeout": -1},
        {"registry_ttl_sec": -0.5},
    ],
    ids=str,
)
def test_an_option_out_of_range_is_named(options: dict[str, int]) -> None:
    with pytest.raises(RequestError, match=next(iter(options))):
        ServeOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"tls_key_path": "k"}, {"tls_cert_path": "c"}], ids=str)
def test_key_and_certificate_belong_together(options: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="--key and -c/--cert"):
        ServeOptions(**options)  # type: ignore[arg-type]


def test_minus_one_worker_is_twice_the_cpus_and_one() -> None:
    assert ServeOptions(workers=-1).process_count == 2 * (os.cpu_count() or 1) + 1
    assert ServeOptions(workers=3).process_count == 3


# --- failed starts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_taken_port_is_one_line(sqlite_repo: Path, workers: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = failed_start("-c", str(sqlite_repo), "serve", "-p", str(port), "-w", workers)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in line


@pytest.mark.parametrize("options", [("-h", "no.such.host.invalid"), ("-p", "70000")], ids=str)
def test_an_address_that_is_none_is_one_line(sqlite_repo: Path, options: tuple[str, ...]) -> None:
    assert "cannot listen on " in failed_start("-c", str(sqlite_repo), "serve", "-p", str(free_port()), *options)


def test_a_bad_registry_is_one_line_with_any_number_of_workers(sqlite_repo: Path, tmp_path: Path) -> None:
    repo = shutil.copytree(sqlite_repo, tmp_path / "repo")
    (repo / "data" / "registry.db").write_bytes(b"\xff not a registry")
    assert "registry.db" in failed_start("-c", str(repo), "serve", "-p", str(free_port()))
    (repo / "data" / "registry.db").unlink()
    assert "registry.db" in failed_start("-c", str(repo), "serve", "-p", str(free_port()), "-w", "2")


def test_a_bad_configuration_is_one_line(tmp_path: Path) -> None:
    assert "feature_store.yaml" in failed_start("-c", str(tmp_path), "serve")


@pytest.mark.parametrize("kind", ["missing", "folder", "not PEM", "encrypted", "of another key"])
def test_a_certificate_that_cannot_be_used_is_one_line(
    sqlite_repo: Path, certificates: Certificates, tmp_path: Path, kind: str
) -> None:
    key = certificates.client_key if kind == "of another key" else tmp_path / "key.pem"
    if kind == "folder":
        key.mkdir()
    elif kind == "not PEM":
        key.write_text("not PEM")
    elif kind == "encrypted":
        command = ["openssl", "rsa", "-in", str(certificates.key), "-aes128", "-passout", "pass:x", "-out", str(key)]
        if b"BEGIN EC" in certificates.key.read_bytes():
            command[1] = "ec"
        subprocess.run(command, check=True, capture_output=True)
    line = failed_start("-c", str(sqlite_repo), "serve", "-k", str(key), "--cert", str(certificates.cert))
    assert str(key) in line


@pytest.mark.parametrize("missing", ["uvicorn", "starlette"])
def test_a_missing_extra_says_what_to_install(sqlite_repo: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == missing or name == "fastserve.server.app"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with FeatureStore(sqlite_repo) as store, pytest.raises(FastserveError, match=r"pip install 'fastserve\[server\]'"):
        serve(store.config, ServeOptions(port=free_port()))


# --- serving ---------------------------------------------------------------------------------------------------------


def test_workers_share_the_port(sqlite_repo: Path, tmp_path: Path) -> None:
    with FeatureServer.start(sqlite_repo, tmp_path / "log", "-w", "2", "--no-access-log") as server:
        workers = children(server.process.pid)
        assert len(workers) == 2
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda _: age(server.client), range(100))) == [[41]] * 100
        assert server.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_end_is_quiet(sqlite_repo: Path, tmp_path: Path, number: int, workers: str) -> None:
    with FeatureServer.start(sqlite_repo, tmp_path / "log", "-w", workers) as server:
        assert age(server.client) == [41]
        assert server.stop(number) == 0
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "Error" not in log


def test_requests_at_hand_are_finished(short_folder: Path, tmp_path: Path) -> None:
    with RedisServer.start(short_folder / "pause") as redis, redis.client() as client:
        goldens.fill_redis(client)
        repo = goldens.copy_bank(tmp_path / "repo", {"type": "redis", "connection_string": redis.connection_string})
        with FeatureServer.start(repo, tmp_path / "log") as server, ThreadPoolExecutor(1) as pool:
            assert age(server.client) == [41]
            client.client_pause(1500)
            waiting = pool.submit(age, server.client)
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            assert waiting.result() == [41]
            assert server.process.wait(15) == 0


def test_the_access_log_can_be_left_out(sqlite_repo: Path, tmp_path: Path) -> None:
    with FeatureServer.start(sqlite_repo, tmp_path / "with") as server:
        age(server.client)
    assert f"POST {READ}" in server.log.read_text()
    with FeatureServer.start(sqlite_repo, tmp_path / "without", "--no-access-log") as server:
        age(server.client)
    log = server.log.read_text()
    assert READ not in log
    assert f"project bank on http://127.0.0.1:{server.port}" in log


def test_port_0_takes_a_free_one_and_tells(sqlite_repo: Path, tmp_path: Path) -> None:
    with FeatureServer.start(sqlite_repo, tmp_path / "log") as server:
        command = [sys.executable, "-m", "fastserve", "-c", str(sqlite_repo), "serve", "-p", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as process:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "http://" in line)
            address = next(word for word in line.split() if word.startswith("http://")).rstrip(",")
            assert httpx.get(f"{address}/health", trust_env=False).status_code == 200
            assert not address.endswith(f":{server.port}")
            process.terminate()
            process.stderr.read()


def test_https(sqlite_repo: Path, certificates: Certificates, tmp_path: Path) -> None:
    options = ("--key", str(certificates.key), "--cert", str(certificates.cert))
    with FeatureServer.start(sqlite_repo, tmp_path / "log", *options, authority=certificates.ca) as server:
        assert age(server.client) == [41]
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://localhost:{server.port}/health", trust_env=False)


def test_a_worker_is_replaced_after_its_last_request(sqlite_repo: Path, tmp_path: Path) -> None:
    options = ("--max-requests", "5", "--max-requests-jitter", "0")
    with FeatureServer.start(sqlite_repo, tmp_path / "log", *options) as server:
        first = children(server.process.pid)
        assert len(first) == 1
        answers: list[httpx.Response] = []
        deadline = time.monotonic() + 60
        while len(answers) < 12 and time.monotonic() < deadline:
            # Between two workers the socket waits; the old worker may close a connection.
            with contextlib.suppress(httpx.TransportError):
                answers.append(
                    httpx.post(f"http://127.0.0.1:{server.port}{READ}", json=AGE, trust_env=False, timeout=20)
                )
        assert [answer.status_code for answer in answers] == [200] * 12
        assert not first & children(server.process.pid)


def test_workers_are_not_replaced_unless_asked(sqlite_repo: Path, tmp_path: Path) -> None:
    with FeatureServer.start(sqlite_repo, tmp_path / "log", "--no-access-log") as server:
        assert [age(server.client) for _ in range(1100)] == [[41]] * 1100
        assert server.process.poll() is None


def test_more_connections_than_a_worker_takes_are_503(sqlite_repo: Path, tmp_path: Path) -> None:
    with FeatureServer.start(sqlite_repo, tmp_path / "log", "--worker-connections", "2") as server:
        address = f"http://127.0.0.1:{server.port}/health"
        with httpx.Client(trust_env=False) as second, httpx.Client(trust_env=False) as third:
            assert server.client.get("/health").status_code == 200
            assert second.get(address).status_code == 200
            assert third.get(address).status_code == 503


@pytest.mark.parametrize(("ttl", "is_seen"), [("0.1", True), ("0", False)])
def test_the_registry_is_looked_at_as_often_as_asked(
    sqlite_repo: Path, tmp_path: Path, ttl: str, is_seen: bool
) -> None:
    from fastserve.registry.schema_pb2 import Registry

    repo = shutil.copytree(sqlite_repo, tmp_path / "repo")
    path = repo / "data" / "registry.db"
    with FeatureServer.start(repo, tmp_path / "log", "-r", ttl) as server:
        assert age(server.client) == [41]
        registry = Registry.FromString(path.read_bytes())
        del registry.feature_views[:]
        (tmp_path / "new").write_bytes(registry.SerializeToString())
        (tmp_path / "new").replace(path)
        deadline = time.monotonic() + (20 if is_seen else 1.5)
        statuses = {200}
        while statuses == {200} and time.monotonic() < deadline:
            time.sleep(0.05)
            statuses.add(server.client.post(READ, json=AGE).status_code)
    assert statuses == ({200, 404} if is_seen else {200})


def test_nothing_is_connected_before_the_workers_split(short_folder: Path, tmp_path: Path) -> None:
    with RedisServer.start(short_folder / "idle") as redis, redis.client() as client:
        goldens.fill_redis(client)
        repo = goldens.copy_bank(tmp_path / "repo", {"type": "redis", "connection_string": redis.connection_string})
        with FeatureServer.start(repo, tmp_path / "log", "-w", "2") as server:
            assert age(server.client) == [41]
            parent = Path(f"/proc/{server.process.pid}")
            assert len(list((parent / "task").iterdir())) == 1
            own = {os.readlink(file) for file in (parent / "fd").iterdir()}
            connected = sockets_to(redis.port)
            assert connected and not own & connected


def sockets_to(port: int) -> set[str]:
    """The sockets of this machine that are connected to a port, as links in /proc name them."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{port:04X}")}
