"""The processes of a server: replaced when they die, and ended with what they have begun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests import goldens
from tests.server.raw import AGE, READ, Raw, age_of, read_request, request
from tests.server.serving import FeatureServer
from tests.server.test_run import age, children
from tests.servers import RedisServer


def wait_until(is_so: Callable[[], bool]) -> bool:
    """Wait until something is so; whether it came to that."""
    deadline = time.monotonic() + 20
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def slow_redis(short_folder: Path) -> Iterator[RedisServer]:
    """A Redis that the tests of this module pause."""
    with RedisServer.start(short_folder / "slow") as server, server.client() as client:
        goldens.fill_redis(client)
        yield server


@pytest.fixture
def slow_repo(slow_redis: RedisServer, tmp_path: Path) -> Path:
    store = {"type": "redis", "connection_string": slow_redis.connection_string}
    return goldens.copy_bank(tmp_path / "repo", store)


def pause(redis: RedisServer, milliseconds: int) -> None:
    with redis.client() as client:
        client.client_pause(milliseconds)


# --- one that is told to end before it has begun ---------------------------------------------------------------------


TOLD_EARLY = """
import os, signal, socket, time
import uvicorn
from fastserve.server.limits import Life, Limits
from fastserve.server.workers import Server, Workers

async def app(scope, receive, send): pass

def work():
    os.kill(os.getppid(), signal.SIGTERM)
    while signal.SIGTERM not in signal.sigpending():
        time.sleep(0.01)
    Server(uvicorn.Config(app, lifespan="off"), Life(Limits()), 0.0).run([listener])

listener = socket.create_server(("127.0.0.1", 0))
print(Workers(work, 1).run())
"""


def test_a_worker_that_is_told_to_end_while_it_starts_ends_as_any_other() -> None:
    done = subprocess.run([sys.executable, "-c", TOLD_EARLY], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "0\n"
    assert "Finished server process" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


# --- one that dies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=["SIGKILL", "SIGSEGV"])
def test_a_worker_that_dies_is_replaced(sqlite_repo: Path, tmp_path: Path, number: signal.Signals) -> None:
    with FeatureServer.start(sqlite_repo, tmp_path / "log", "-w", "2", "--no-access-log") as server:
        before = children(server.process.pid)
        victim = min(before)
        os.kill(victim, number)
        assert wait_until(lambda: len(children(server.process.pid) - {victim}) == 2)
        assert len(before & children(server.process.pid)) == 1
        for _ in range(20):
            with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, timeout=20) as client:
                assert age(client) == [41]
        assert server.stop() == 0
    assert f"worker {victim} ended (signal {number.name}), another one starts" in server.log.read_text()


def test_workers_end_with_the_process_that_keeps_them(sqlite_repo: Path, tmp_path: Path) -> None:
    with FeatureServer.start(sqlite_repo, tmp_path / "log", "-w", "2") as server:
        workers = children(server.process.pid)
        assert len(workers) == 2
        server.stop(signal.SIGKILL)
        assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_a_hang_up_is_an_end(sqlite_repo: Path, tmp_path: Path) -> None:
    with FeatureServer.start(sqlite_repo, tmp_path / "log", "-w", "2") as server:
        workers = children(server.process.pid)
        assert server.stop(signal.SIGHUP) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_is_begun_is_finished_and_connections_are_closed(
    slow_redis: RedisServer, slow_repo: Path, tmp_path: Path, lane: tuple[str, ...], workers: str
) -> None:
    with FeatureServer.start(slow_repo, tmp_path / "log", "-w", workers, *lane) as server, Raw(server.port) as client:
        assert age_of(client.ask(read_request())) == [41]
        pause(slow_redis, 800)
        client.send(read_request())
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        answer = client.answer()
        assert age_of(answer) == [41]
        assert answer[1]["connection"] == "close"
        assert client.is_closed()
        assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def test_not_ready_while_what_is_begun_is_finished(slow_redis: RedisServer, slow_repo: Path, tmp_path: Path) -> None:
    with FeatureServer.start(slow_repo, tmp_path / "log") as server, Raw(server.port) as client:
        for _ in range(2):
            assert age_of(client.ask(read_request())) == [41]
        pause(slow_redis, 1500)
        client.send(read_request())
        assert server.client.get("/livez").status_code == 200  # which came later than the read
        server.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: not_ready(server.port))
        assert age_of(client.answer()) == [41]
        assert server.stop() == 0


def not_ready(port: int) -> bool:
    with Raw(port) as client:
        status, _, body = client.ask(request("GET", "/readyz"))
        return status == 503 and json.loads(body)["draining"] is True


def test_a_request_that_comes_in_slowly_is_finished_too(sqlite_repo: Path, tmp_path: Path) -> None:
    with FeatureServer.start(sqlite_repo, tmp_path / "log") as server, Raw(server.port) as client:
        client.send(read_request()[:-5])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert age_of(client.ask(read_request()[-5:])) == [41]
        assert client.is_closed()
        assert server.stop() == 0


def test_a_server_that_drains_still_answers(sqlite_repo: Path, tmp_path: Path) -> None:
    with FeatureServer.start(sqlite_repo, tmp_path / "log", "--drain-seconds", "2") as server:
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        with Raw(server.port) as client:  # a new connection, to which the answer is the last
            answer = client.ask(read_request())
            assert age_of(answer) == [41]
            assert answer[1]["connection"] == "close"
            assert client.is_closed()
        with Raw(server.port) as client:
            status, headers, _ = client.ask(request("GET", "/health"))
            assert (status, headers["connection"]) == (200, "close")
        assert server.process.wait(15) == 0


# --- too much --------------------------------------------------------------------------------------------------------


def test_more_at_hand_than_allowed_is_503(
    slow_redis: RedisServer, slow_repo: Path, tmp_path: Path, lane: tuple[str, ...]
) -> None:
    with FeatureServer.start(slow_repo, tmp_path / "log", "--max-in-flight", "2", *lane) as server:
        connections = [Raw(server.port) for _ in range(3)]
        for client in connections:
            assert age_of(client.ask(read_request())) == [41]
        pause(slow_redis, 1000)
        for client in connections[:2]:
            client.send(read_request())
        time.sleep(0.3)
        status, headers, body = connections[2].ask(read_request())
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"2 requests at hand" in body
        assert [age_of(client.answer()) for client in connections[:2]] == [[41], [41]]
        assert age_of(connections[2].ask(read_request())) == [41]
        for client in connections:
            client.close()


@pytest.mark.parametrize("by", ["option", "header"])
def test_no_answer_in_time_is_504(
    slow_redis: RedisServer, slow_repo: Path, tmp_path: Path, lane: tuple[str, ...], by: str
) -> None:
    options = ("--timeout", "0.25") if by == "option" else ()
    hurry = {"X_Request_Timeout_Ms": "250"} if by == "header" else {}
    with FeatureServer.start(slow_repo, tmp_path / "log", *options, *lane) as server, Raw(server.port) as client:
        assert age_of(client.ask(read_request(**hurry))) == [41]
        pause(slow_redis, 1000)
        status, _, body = client.ask(read_request(**hurry))
        assert status == 504
        assert b"no answer within" in body
        time.sleep(1)
        assert age_of(client.ask(read_request(**hurry))) == [41]  # on the same connection to Redis


def test_redis_gone_and_back(short_folder: Path, tmp_path: Path, lane: tuple[str, ...]) -> None:
    folder = short_folder / f"gone{len(lane)}"
    with RedisServer.start(folder) as redis:
        with redis.client() as client:
            goldens.fill_redis(client)
        repo = goldens.copy_bank(tmp_path / "repo", {"type": "redis", "connection_string": redis.connection_string})
        with FeatureServer.start(repo, tmp_path / "log", *lane) as server, ThreadPoolExecutor(4) as pool:
            assert age(server.client) == [41]
            redis.process.kill()
            redis.process.wait()
            for answer in pool.map(lambda _: server.client.post(READ, json=AGE), range(20)):
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "1"
                assert isinstance(answer.json(), str)
            with RedisServer.start(folder, port=redis.port) as again, again.client() as client:
                goldens.fill_redis(client)
                assert wait_until(lambda: server.client.post(READ, json=AGE).status_code == 200)
                assert age(server.client) == [41]


# --- for long --------------------------------------------------------------------------------------------------------

REQUESTS = int(os.environ.get("FASTSERVE_FLAT_REQUESTS", "1500"))
GROWTH = 3 << 20
"""Bytes that a worker may grow by, once a third of the requests is answered."""

ODD = [
    read_request({**AGE, "entities": {"customer_id": ["C\u0301", "C1\n"]}}),
    read_request({**AGE, "entities": {"customer_id": [None]}}),
    read_request({"feature_service": "nope", "entities": {"customer_id": ["C1"]}}),
    read_request(b'{"features": '),
    request("GET", "/nope"),
    request("DELETE", READ),
]


def test_memory_and_descriptors_stay(redis_repo: Path, tmp_path: Path, lane: tuple[str, ...]) -> None:
    """The suite makes few requests; FASTSERVE_FLAT_REQUESTS=200000 makes more."""
    with FeatureServer.start(redis_repo, tmp_path / "log", "--no-access-log", *lane) as server:
        process = Path(f"/proc/{server.process.pid}")
        ask_many(server.port, REQUESTS // 3)
        before, descriptors = resident(process), len(list((process / "fd").iterdir()))
        ask_many(server.port, REQUESTS - REQUESTS // 3)
        assert wait_until(lambda: len(list((process / "fd").iterdir())) <= descriptors)
        assert resident(process) - before < GROWTH


def ask_many(port: int, count: int) -> None:
    """Make requests over ever new connections: good ones, odd ones, and some whose client leaves."""
    for start in range(0, count, 100):
        with Raw(port) as client:
            for number in range(start, min(start + 100, count)):
                if number % 10 == 9:
                    assert client.ask(ODD[number // 10 % len(ODD)])[0] in (200, 404, 405, 422)
                else:
                    assert age_of(client.ask(read_request())) == [41]
            client.send(read_request())


def resident(process: Path) -> int:
    return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_redis_dies_under_load(short_folder: Path, tmp_path: Path, lane: tuple[str, ...]) -> None:
    """Whatever is answered is right, or says 503 or 504; and all is well again when Redis is back, with its data."""
    folder = short_folder / f"load{len(lane)}"
    with RedisServer.start(folder) as redis, redis.client() as client:
        goldens.fill_redis(client)
        client.save()
        repo = goldens.copy_bank(tmp_path / "repo", {"type": "redis", "connection_string": redis.connection_string})
        with FeatureServer.start(repo, tmp_path / "log", *lane) as server, ThreadPoolExecutor(4) as pool:
            found: Counter[int] = Counter()
            is_over = threading.Event()
            askers = [pool.submit(ask_until, is_over, server.port, found) for _ in range(4)]
            try:
                for _ in range(2):
                    assert wait_until(lambda seen=found[200]: found[200] > seen + 200)  # type: ignore[misc]
                    redis.process.kill()
                    redis.process.wait()
                    assert wait_until(lambda seen=found[503]: found[503] > seen + 20)  # type: ignore[misc]
                    redis = RedisServer.start(folder, port=redis.port)
                assert wait_until(lambda seen=found[200]: found[200] > seen + 200)  # type: ignore[misc]
            finally:
                is_over.set()
                redis.stop()
            for asker in askers:
                asker.result()
    assert set(found) <= {200, 503, 504}


def ask_until(is_over: threading.Event, port: int, found: Counter[int]) -> None:
    """Ask again and again on one connection, and check each answer."""
    asked = {"C1": 41, "C2": 29}
    with Raw(port) as client:
        while not is_over.is_set():
            for key, age in asked.items():
                answer = client.ask(read_request({**AGE, "entities": {"customer_id": [key]}}))
                found[answer[0]] += 1
                if answer[0] == 200:
                    assert age_of(answer) == [age]
                else:
                    assert isinstance(json.loads(answer[2]), str), answer
