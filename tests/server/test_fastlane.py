"""Both lanes byte by byte: they answer alike, however the bytes of requests come."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.server.raw import AGE, READ, Answer, Raw, age_of, read_request, request
from tests.server.serving import FeatureServer

TWO = {**AGE, "entities": {"customer_id": ["C1", "C2"]}}
LONG = {**AGE, "entities": {"customer_id": ["C1"] * 20_000}}  # more than the kernel hands over at once


@pytest.fixture(scope="module")
def server(
    redis_repo: Path, lane: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FeatureServer]:
    with FeatureServer.start(redis_repo, tmp_path_factory.mktemp("log") / "log", *lane) as found:
        yield found


@pytest.fixture
def client(server: FeatureServer) -> Iterator[Raw]:
    with Raw(server.port) as found:
        yield found


# --- how bytes come --------------------------------------------------------------------------------------------------


def test_again_and_again(client: Raw) -> None:
    first = client.ask(read_request())
    for _ in range(3):
        assert client.ask(read_request())[::2] == first[::2]
        assert age_of(client.ask(read_request(TWO))) == [41, 29]


@pytest.mark.parametrize("repeat", [1, 2])
@pytest.mark.parametrize("size", [1, 7, 200])
def test_in_pieces(client: Raw, size: int, repeat: int) -> None:
    data = read_request(TWO)
    for _ in range(repeat):
        for at in range(0, len(data), size):
            client.send(data[at : at + size])
            if size > 1:
                time.sleep(0.001)  # so that most come by themselves
        assert age_of(client.answer()) == [41, 29]


def test_headers_and_body_apart(client: Raw) -> None:
    head, _, body = read_request().partition(b"\r\n\r\n")
    for _ in range(3):
        client.send(head + b"\r\n\r\n")
        time.sleep(0.01)
        client.send(body)
        assert age_of(client.answer()) == [41]


def test_a_long_body(client: Raw) -> None:
    for _ in range(2):
        assert age_of(client.ask(read_request(LONG))) == [41] * 20_000
    assert age_of(client.ask(read_request())) == [41]


def test_a_body_in_chunks(client: Raw) -> None:
    data = json.dumps(TWO).encode()
    head = request("POST", READ, Content_Type="application/json", Transfer_Encoding="chunked")
    body = b"".join(b"%x\r\n%b\r\n" % (len(data[at : at + 10]), data[at : at + 10]) for at in range(0, len(data), 10))
    for _ in range(2):
        assert age_of(client.ask(head + body + b"0\r\n\r\n")) == [41, 29]


def test_expecting_to_be_told_to_go_on(client: Raw) -> None:
    head, _, body = read_request(Expect="100-continue").partition(b"\r\n\r\n")
    client.send(head + b"\r\n\r\n")
    assert client._input.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert client._input.readline() == b"\r\n"
    assert age_of(client.ask(body)) == [41]


def test_without_keep_alive(client: Raw) -> None:
    answer = client.ask(read_request(Connection="close"))
    assert age_of(answer) == [41]
    assert answer[1]["connection"] == "close"
    assert client.is_closed()


def test_http_1_0(client: Raw) -> None:
    answer = client.ask(read_request().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    assert age_of(answer) == [41]
    assert client.is_closed()


def test_an_upgrade_that_is_not_offered_is_not_made(client: Raw) -> None:
    wanted = read_request(TWO, Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAEAAEAAAAIAAAAB")
    for _ in range(2):
        assert age_of(client.ask(wanted)) == [41, 29]
    client.send(wanted[:-20])
    time.sleep(0.01)
    assert age_of(client.ask(wanted[-20:] + read_request())) == [41, 29]
    assert age_of(client.answer()) == [41]


# --- pipelining ------------------------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(client: Raw) -> None:
    wanted = [read_request(), request("GET", "/nope"), read_request(TWO), request("GET", "/health"), read_request()]
    for _ in range(2):  # with heads that are new, and known ones
        client.send(b"".join(wanted) * 3)
        for _ in range(3):
            assert age_of(client.answer()) == [41]
            assert client.answer()[0] == 404
            assert age_of(client.answer()) == [41, 29]
            assert client.answer()[0] == 200
            assert age_of(client.answer()) == [41]


def test_a_request_that_begins_behind_another(client: Raw) -> None:
    data = read_request()
    for cut in (10, len(data) - 5):
        for _ in range(2):
            client.send(data + data[:cut])
            assert age_of(client.answer()) == [41]
            assert age_of(client.ask(data[cut:])) == [41]


def test_garbage_behind_requests_is_answered_after_them(client: Raw) -> None:
    client.ask(read_request())
    client.send(read_request() + read_request(TWO) + b"\x00garbage\r\n\r\n")
    assert age_of(client.answer()) == [41]
    assert age_of(client.answer()) == [41, 29]
    status, headers, body = client.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert "not a valid HTTP request" in json.loads(body)["detail"]
    assert client.is_closed()


# --- both lanes ------------------------------------------------------------------------------------------------------

MANY = [
    read_request(),
    read_request(TWO),
    read_request({**TWO, "compact": True}),
    read_request(TWO, Accept="application/vnd.apache.arrow.stream"),
    read_request(TWO, Accept="application/x-protobuf, application/json;q=0.5"),
    read_request({"features": ["nope:x"], "entities": {"customer_id": ["C1"]}}),
    read_request({"features": ["risk_py:ratio"], "entities": {"customer_id": ["C1"]}}),
    read_request({"entities": 5}),
    read_request(b"\xff"),
    read_request(b"{}", Content_Type="text/plain"),
    read_request(X_Request_Timeout_Ms="0"),
    request("POST", READ),
]


def test_both_lanes_send_the_same_bytes(redis_repo: Path, tmp_path: Path) -> None:
    def answers(*lane: str) -> list[Answer]:
        with FeatureServer.start(redis_repo, tmp_path / "log", *lane) as server, Raw(server.port) as client:
            return [without_date(client.ask(data)) for data in MANY]

    fast, asgi = answers(), answers("--no-fast-lane")
    assert [status for status, _, _ in fast] == [200, 200, 200, 200, 200, 404, 404, 422, 400, 422, 400, 422]
    for ours, theirs in zip(fast, asgi, strict=True):
        assert ours == theirs
        assert list(ours[1]) == list(theirs[1])


def without_date(answer: Answer) -> Answer:
    """Without the headers that differ from answer to answer."""
    status, headers, body = answer
    assert {"date", "x-request-id"} <= headers.keys()
    return status, {name: value for name, value in headers.items() if name not in ("date", "x-request-id")}, body


def test_only_the_asgi_lane_makes_tasks_of_starlette(server: FeatureServer, lane: tuple[str, ...]) -> None:
    """That the two servers of the suite are two indeed."""
    answer = httpx.post(f"http://127.0.0.1:{server.port}{READ}", json=AGE, trust_env=False)
    assert answer.status_code == 200
    assert Path(f"/proc/{server.process.pid}/cmdline").read_bytes().count(b"--no-fast-lane") == len(lane)


# --- many ------------------------------------------------------------------------------------------------------------


def test_nobody_gets_anothers_answer(server: FeatureServer) -> None:
    def ask_many(number: int) -> None:
        key, age = [("C1", 41), ("C2", 29), (f"nobody {number}", None)][number % 3]
        with Raw(server.port) as client:
            for _ in range(60):
                answer = client.ask(read_request({**AGE, "entities": {"customer_id": [key]}}))
                assert age_of(answer) == [age]
                assert json.loads(answer[2])["results"][0]["values"] == [key]

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask_many, range(12)))


def test_clients_that_leave_early_leave_nothing_behind(server: FeatureServer) -> None:
    folder = Path(f"/proc/{server.process.pid}/fd")
    with Raw(server.port) as client:
        client.ask(read_request())
        before = len(list(folder.iterdir()))
        for cut in (20, 150, len(read_request())):
            for _ in range(30):
                with Raw(server.port) as other:
                    other.send(read_request()[:cut])
        deadline = time.monotonic() + 10
        while len(list(folder.iterdir())) > before + 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(list(folder.iterdir())) <= before + 5
        assert age_of(client.ask(read_request())) == [41]
    assert "Traceback" not in server.log.read_text()
