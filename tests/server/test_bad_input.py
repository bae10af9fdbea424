"""Whatever a client sends gets an answer in JSON that says what is wrong; the server lives on, without traceback."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.raw import AGE, READ, Answer, Raw, age_of, read_request, request
from tests.server.serving import FeatureServer

BODY_BYTES = 100_000
ENTITIES = 500
OPTIONS = ("--max-body-bytes", str(BODY_BYTES), "--max-entities", str(ENTITIES), "--header-timeout", "0.6")
PACE = ("--body-timeout", "0.6", "--keep-alive-timeout", "2", "--no-access-log")


@pytest.fixture(scope="module")
def server(
    redis_repo: Path, lane: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FeatureServer]:
    with FeatureServer.start(redis_repo, tmp_path_factory.mktemp("log") / "log", *OPTIONS, *PACE, *lane) as found:
        yield found


@pytest.fixture(autouse=True)
def client(server: FeatureServer) -> Iterator[Raw]:
    """A connection; afterwards the server must answer as ever."""
    with Raw(server.port) as found:
        yield found
    with Raw(server.port) as after:
        assert age_of(after.ask(read_request())) == [41]
    assert server.process.poll() is None
    assert "Traceback" not in server.log.read_text()


def detail(answer: Answer, status: int) -> Any:
    found, headers, body = answer
    assert found == status, body
    assert headers["content-type"] == "application/json"
    said = json.loads(body)
    return said["detail"] if isinstance(said, dict) else said


# --- not HTTP --------------------------------------------------------------------------------------------------------

GARBAGE = {
    "nul": b"\x00\x00\x00\x00\r\n\r\n",
    "text": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "RESP": b"*1\r\n$4\r\nPING\r\n",
    "method": b"YEET /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "version": b"GET /health HTTP/9.9\r\nHost: a\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "header": b"GET /health HTTP/1.1\r\nHo st: a\r\n\r\n",
    "folded header": b"GET /health HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n",
    "length": b"POST /push HTTP/1.1\r\nContent-Length: five\r\n\r\n",
    "negative length": b"POST /push HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    "two lengths": b"POST /push HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "length and chunks": b"POST /push HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk": b"POST /push HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "chunk of a read": f"POST {READ} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n".encode(),
    "URL": b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "URL bytes": b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage(client: Raw, name: str) -> None:
    assert "not a valid HTTP request" in detail(client.ask(GARBAGE[name]), 400)
    assert client.is_closed()


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_behind_a_read(client: Raw, name: str) -> None:
    client.send(read_request() + GARBAGE[name])
    assert age_of(client.answer()) == [41]
    assert "not a valid HTTP request" in detail(client.answer(), 400)
    assert client.is_closed()


def test_any_bytes_get_an_answer(server: FeatureServer) -> None:
    rand = random.Random(5)
    data = read_request()
    for _ in range(150):
        bad = bytearray(data)
        for _ in range(rand.randrange(1, 6)):
            bad[rand.randrange(len(bad))] = rand.randrange(256)
        with Raw(server.port) as client:
            client.send(bytes(bad))
            client.socket.shutdown(socket.SHUT_WR)
            rest = client._input.read()
            # A length that has grown waits for more, which does not come; then there is nobody to answer.
            assert rest == b"" or rest.startswith(b"HTTP/1.1 "), (bad, rest)


def test_connect_is_refused(client: Raw) -> None:
    assert "CONNECT" in detail(client.ask(b"CONNECT example.org:443 HTTP/1.1\r\nHost: a\r\n\r\n"), 405)


@pytest.mark.parametrize("path", ["/nope", "/get-online-features/x", "/%ff", "/..", "*", "//"])
def test_unknown_paths(client: Raw, path: str) -> None:
    assert detail(client.ask(request("GET", path)), 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_wrong_methods(client: Raw, method: str) -> None:
    assert detail(client.ask(request(method, READ)), 405) == "Method Not Allowed"


# --- not a body ------------------------------------------------------------------------------------------------------

BODIES: dict[str, tuple[bytes, int]] = {
    "lists": (b"[" * 40_000, 400),
    "objects": (b'{"a":' * 15_000, 400),
    "closed lists": (b'{"entities":{"customer_id":[' + b"[" * 30_000 + b"]" * 30_000 + b"]}}", 400),
    "deep request data": (b'{"entities":{"customer_id":["C1"],"x":[' + b"[" * 900 + b"]" * 900 + b"]}}", 400),
    "large number": (b'{"entities":{"customer_id":[' + b"9" * 50_000 + b"]}}", 400),
    "NUL": (b'{"entities":{"customer_id":["C\x001"]}}', 422),
    "cut off": (json.dumps(AGE).encode()[:-3], 422),
    "two": (json.dumps(AGE).encode() * 2, 422),
    "UTF-32 cut off": (json.dumps(AGE).encode("utf-32")[:-2], 400),
    "not UTF-8": (b'{"entities":{"customer_id":["\xff"]}}', 400),
    "number": (b"5", 422),
    "null": (b"null", 422),
    "list": (b"[]", 422),
    "key of a wrong type": (b'{"features":["customer_profile:age"],"entities":{"customer_id":[{}]}}', 422),
    "features of a wrong type": (b'{"features":{},"entities":{"customer_id":["C1"]}}', 422),
    "no join key": (b'{"features":["customer_profile:age"],"entities":{"x":[1]}}', 422),
    "odd reference": (b'{"features":["::"],"entities":{"customer_id":["C1"]}}', 400),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("path", [READ, "/push", "/write-to-online-store", "/materialize-incremental"])
def test_bodies(client: Raw, path: str, name: str) -> None:
    body, status = BODIES[name]
    answer = client.ask(request("POST", path, body))
    if path == READ:
        assert detail(answer, status)
    else:
        assert detail(answer, answer[0])
        assert 400 <= answer[0] < 500
    assert age_of(client.ask(read_request())) == [41]  # on the same connection


@pytest.mark.parametrize("path", [READ, "/push"])
def test_an_announced_body_over_the_limit(client: Raw, path: str) -> None:
    client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES + 1}\r\n\r\n".encode())
    assert str(BODY_BYTES) in detail(client.answer(), 413)
    client.send(b"x" * BODY_BYTES)  # whoever writes first and reads then is not cut off
    assert client.is_closed()


@pytest.mark.parametrize("path", [READ, "/push"])
def test_a_body_in_chunks_over_the_limit(client: Raw, path: str) -> None:
    client.send(request("POST", path, Content_Type="application/json", Transfer_Encoding="chunked"))
    for _ in range(2 * BODY_BYTES // 10_000):
        client.send(b"2710\r\n" + b" " * 10_000 + b"\r\n")
    assert str(BODY_BYTES) in detail(client.answer(), 413)


def test_a_body_at_the_limit(client: Raw) -> None:
    body = json.dumps(AGE).encode()
    assert age_of(client.ask(read_request(body + b" " * (BODY_BYTES - len(body))))) == [41]


def test_too_many_entities(client: Raw) -> None:
    enough = {**AGE, "entities": {"customer_id": ["C1"] * ENTITIES}}
    assert age_of(client.ask(read_request(enough))) == [41] * ENTITIES
    enough["entities"]["customer_id"].append("C1")
    assert f"{ENTITIES + 1} entity rows" in detail(client.ask(read_request(enough)), 413)


@pytest.mark.parametrize("milliseconds", ["0", "-1", "1.5", "soon", "", "9" * 5000, "²"])
def test_a_time_out_that_is_none(client: Raw, milliseconds: str) -> None:
    assert "X-Request-Timeout-Ms" in detail(client.ask(read_request(X_Request_Timeout_Ms=milliseconds)), 400)


def test_headers_without_end(client: Raw) -> None:
    client.send(b"GET /health HTTP/1.1\r\n")
    for number in range(9):
        client.send(b"X-%d: " % number + b"x" * 8000 + b"\r\n")
        time.sleep(0.01)
    assert "headers are longer" in detail(client.answer(), 431)


# --- slow ------------------------------------------------------------------------------------------------------------


def test_slow_headers(client: Raw) -> None:
    for byte in read_request()[:40]:
        client.send(bytes([byte]))
        time.sleep(0.005)
    assert "headers did not come within 0.6 seconds" in detail(client.answer(), 408)
    assert client.is_closed()


@pytest.mark.parametrize("path", [READ, "/push"])
@pytest.mark.parametrize("repeat", [False, True])
def test_slow_bodies(client: Raw, path: str, repeat: bool) -> None:
    data = request("POST", path, AGE)
    if repeat:  # with a head that is known
        client.ask(data)
    client.send(data[:-1])
    assert "body did not come within 0.6 seconds" in detail(client.answer(), 408)
    assert client.is_closed()


def test_a_slow_request_behind_a_good_one(client: Raw) -> None:
    client.send(read_request() + read_request()[:60])
    assert age_of(client.answer()) == [41]
    assert detail(client.answer(), 408)


def test_idle_connections_are_closed(client: Raw) -> None:
    client.ask(read_request())
    assert client.is_closed()


def test_a_client_that_never_reads_cannot_fill_the_memory(server: FeatureServer) -> None:
    def resident() -> int:
        fields = Path(f"/proc/{server.process.pid}/statm").read_text().split()
        return int(fields[1]) * 4096

    many = read_request({**AGE, "entities": {"customer_id": ["C1"] * ENTITIES}})
    before = resident()
    with Raw(server.port) as client:
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            for _ in range(20_000):
                client.send(many)
    assert resident() - before < 30_000_000


# --- too many --------------------------------------------------------------------------------------------------------


def test_leaving_in_the_middle(server: FeatureServer) -> None:
    for data in (read_request()[:50], read_request()[:-5], read_request(), request("POST", "/push", AGE)[:-2]):
        for _ in range(10):
            with Raw(server.port) as client:
                client.send(data)
