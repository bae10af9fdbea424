"""Answers in HTTP/1.1, whole and in pieces, good and bad; and where a server is."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastserve.errors import ConfigError
from fastserve.stores.http_wire import Answer, AnswerReader, Endpoint, GarbledAnswer

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "length": (OK + b"content-length: 3\r\n\r\nabc", b"abc"),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n", b"abc"),
    "trailer": (OK + b"transfer-encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n", b"0123456789"),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 1\r\n\r\nx", b"x"),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length:1\r\n\r\nx", b"x"),
}
ALL = pytest.mark.parametrize(("data", "body"), ANSWERS.values(), ids=ANSWERS)


def read(*pieces: bytes) -> Answer | None:
    reader = AnswerReader()
    found = None
    for piece in pieces:
        assert found is None
        found = reader.feed(piece)
    return found


@ALL
def test_an_answer_in_one_piece(data: bytes, body: bytes) -> None:
    found = read(data)
    assert found is not None and found.body == body and found.keep_alive


@ALL
def test_an_answer_cut_anywhere(data: bytes, body: bytes) -> None:
    for cut in range(1, len(data)):
        found = read(data[:cut], data[cut:])
        assert found is not None and found.body == body
    found = read(*(bytes([byte]) for byte in data))
    assert found is not None and found.body == body


def test_what_an_answer_says() -> None:
    found = read(
        b"HTTP/1.1 404 Not Found\r\nContent-Type: Application/JSON; charset=x\r\nX-A:  b \r\n",
        b"content-length: 2\r\n\r\n{}",
    )
    assert found is not None
    assert (found.status, found.media_type) == (404, "application/json")
    assert found.headers["x-a"] == "b"


@pytest.mark.parametrize(
    ("first", "option", "kept"),
    [("1.1", "", True), ("1.1", "Close", False), ("1.0", "", False), ("1.0", "Keep-Alive", True)],
)
def test_whether_the_connection_is_kept(first: str, option: str, kept: bool) -> None:
    line = f"connection: {option}\r\n" if option else ""
    found = read(f"HTTP/{first} 200 OK\r\n{line}content-length: 0\r\n\r\n".encode())
    assert found is not None and found.keep_alive is kept


@pytest.mark.parametrize("name", ["length", "empty", "chunks", "trailer", "no body"])
def test_what_follows_an_answer_is_left_out(name: str) -> None:
    data, body = ANSWERS[name]
    found = read(data + b"HTTP/1.1 408 Late\r\n\r\n")
    assert found is not None and found.body == body
    assert not found.keep_alive


def test_a_body_that_ends_with_the_connection() -> None:
    reader = AnswerReader()
    assert reader.feed(OK + b"\r\nab") is None
    assert reader.feed(b"c") is None
    found = reader.end()
    assert found is not None and (found.body, found.keep_alive) == (b"abc", False)


@pytest.mark.parametrize("data", [b"", b"HTT", OK, OK + b"content-length: 3\r\n\r\nab", ANSWERS["chunks"][0][:-3]])
def test_a_connection_that_ends_too_early(data: bytes) -> None:
    reader = AnswerReader()
    assert not data or reader.feed(data) is None
    assert reader.end() is None
    assert reader.started is bool(data)


@pytest.mark.parametrize(
    "data",
    [
        b"+PONG\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nname : x\r\n\r\n",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"content-length: 1_0\r\n\r\n",
        OK + "content-length: ٣\r\n\r\n".encode(),
        OK + b"content-length: 99999999999999999999\r\n\r\n",
        OK + b"transfer-encoding: gzip\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n1\r\nabc\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\nfffffffff\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n" + b"1" * 5000,
        OK + b"a: " + b"b" * 70_000,
    ],
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(GarbledAnswer):
        read(data)


def test_a_large_answer_in_many_chunks() -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (1000, b"x" * 1000) for _ in range(2000))
    found = read(
        OK + b"transfer-encoding: chunked\r\n\r\n",
        *(chunks[i : i + 4096] for i in range(0, len(chunks), 4096)),
        b"0\r\n\r\n",
    )
    assert found is not None and len(found.body) == 2_000_000


# --- endpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host", "port", "header", "prefix"),
    [
        ("http://features:6566", "features", 6566, "features:6566", ""),
        ("http://features/", "features", 80, "features", ""),
        ("http://features:1/a/b/", "features", 1, "features:1", "/a/b"),
        ("http://[::1]:6566", "::1", 6566, "[::1]:6566", ""),
    ],
)
def test_parts_of_an_address(url: str, host: str, port: int, header: str, prefix: str) -> None:
    found = Endpoint.parse(url, "")
    assert (found.host, found.port, found.host_header, found.prefix) == (host, port, header, prefix)
    assert found.tls is None


def test_https() -> None:
    found = Endpoint.parse("https://features", "")
    assert found.port == 443 and found.tls is not None


@pytest.mark.parametrize(
    "url", ["", "features:6566", "ftp://features", "http://", "http://features:x", "http://f?a=b", "http://[::1"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match=r"online_store\.path"):
        Endpoint.parse(url, "")


def test_a_password_in_the_address_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match="section auth") as caught:
        Endpoint.parse("http://me:s3cret@features", "")
    assert "s3cret" not in str(caught.value)


def test_certificates_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"online_store\.cert: .*nowhere\.pem: No such file"):
        Endpoint.parse("https://features", str(tmp_path / "nowhere.pem"))
