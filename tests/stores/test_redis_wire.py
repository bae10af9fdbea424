"""One connection to Redis: replies of every shape, and servers that answer late, wrongly or not at all.

Connecting, passwords and TLS are in test_redis_connect.py.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastserve._core import Batch, python_columns
from fastserve.config import RedisConnection
from fastserve.errors import StoreError, StoreTimeoutError
from fastserve.stores import redis_wire
from fastserve.stores.redis_wire import ConnectionLost
from tests import reference_vector
from tests.conftest import Rand
from tests.core.requests import JOIN_KEY, frame_reply
from tests.core.vectors import PREFIX, key_of, one_view, value, vector_of
from tests.servers import RedisServer
from tests.stores import scripted
from tests.stores.content import write_redis
from tests.stores.scripted import (
    PATIENCE,
    Peer,
    ScriptedServer,
    batch,
    connection_to,
    hang_up,
    numbers,
    numbers_of,
    opened,
    redis_key,
    replies,
    send_and_close,
    send_once,
    swallow,
    wait_until,
)

IDS = [1, 2, 3]
SHORT = 0.3
"""A deadline that a test waits for, in seconds."""


def ask(server: ScriptedServer, ids: list[int], timeout: float = PATIENCE) -> list[int]:
    """Read ids over a new connection."""
    with opened(connection_to(server)) as connection:
        asked = batch(ids)
        connection.read(asked, time.monotonic() + timeout)
        return numbers(asked)


def fault(server: ScriptedServer, ids: list[int] = IDS, timeout: float = PATIENCE) -> StoreError:
    """Read ids over a new connection and return the error, which names the server."""
    with pytest.raises(StoreError) as caught:
        ask(server, ids, timeout)
    assert str(caught.value).startswith(f"redis 127.0.0.1:{server.port}/0: ")
    return caught.value


class TestReplies:
    def test_right_ones(self) -> None:
        with ScriptedServer(scripted.answer) as server:
            assert ask(server, [5, -3, 5, 2**62]) == numbers_of([5, -3, 5, 2**62])
        assert server.accepted == 1

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 30])
    def test_in_pieces(self, size: int) -> None:
        data = replies(IDS)

        def script(peer: Peer) -> None:
            peer.commands(3)
            for start in range(0, len(data), size):
                peer.send(data[start : start + size])
                time.sleep(0.0002)
            peer.wait_for_end()

        with ScriptedServer(script) as server:
            assert ask(server, IDS) == numbers_of(IDS)

    def test_cut_anywhere(self) -> None:
        """Each connection gets the same replies in two pieces, cut one byte later than the last."""
        data = replies(IDS)

        def script(peer: Peer) -> None:
            peer.commands(3)
            peer.send(data[: peer.number + 1])
            time.sleep(0.001)
            peer.send(data[peer.number + 1 :])
            peer.wait_for_end()

        with ScriptedServer(script) as server:
            for _ in range(len(data)):
                assert ask(server, IDS) == numbers_of(IDS)

    def test_two_batches_one_after_the_other(self) -> None:
        with ScriptedServer(scripted.answer) as server, opened(connection_to(server)) as connection:
            for ids in ([1], [2, 3], [4]):
                asked = batch(ids)
                connection.read(asked, time.monotonic() + PATIENCE)
                assert numbers(asked) == numbers_of(ids)
                assert connection.is_quiet()

    def test_more_commands_than_one_write_takes(self, empty_redis: RedisServer) -> None:
        ids = list(range(15_000))
        asked = batch(ids)
        assert len(list(iter(asked.commands, None))) == 2
        asked.rewind()
        with empty_redis.client() as client:
            write_redis(client, scripted.VIEW, scripted.rows(ids))
        with opened(RedisConnection(host="127.0.0.1", port=empty_redis.port)) as connection:
            connection.read(asked, time.monotonic() + PATIENCE)
        assert numbers(asked) == numbers_of(ids)


ERRORS = [
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "CLUSTERDOWN Hash slot not served",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOAUTH Authentication required.",
    "NOPERM this user has no permissions to run the 'hmget' command",
    "BUSY Redis is busy running a script.",
    "ERR max number of clients reached",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
]


class TestErrorReplies:
    @pytest.mark.parametrize("text", ERRORS)
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_error_names_server_command_and_key(self, text: str, place: int) -> None:
        data = replies(IDS[:place]) + b"-%b\r\n" % text.encode() + replies(IDS[place + 1 :])
        with ScriptedServer(send_once(data, 3)) as server:
            key = redis_key(IDS[place]).removesuffix(b"bank").hex()
            assert str(fault(server)).endswith(f"HMGET, entity key {key}: {text}")

    def test_error_in_pieces(self) -> None:
        def script(peer: Peer) -> None:
            peer.commands(3)
            for byte in replies([1]) + b"-OOM no more memory\r\n":
                peer.send(bytes([byte]))
            peer.wait_for_end()

        with ScriptedServer(script) as server:
            assert str(fault(server)).endswith("OOM no more memory")

    def test_error_and_close(self) -> None:
        """As Redis treats one client too many."""
        with ScriptedServer(send_and_close(b"-ERR max number of clients reached\r\n", 0)) as server:
            assert "max number of clients reached" in str(fault(server))

    def test_wrong_type_in_a_real_pipeline(self, empty_redis: RedisServer) -> None:
        with empty_redis.client() as client:
            write_redis(client, scripted.VIEW, scripted.rows(IDS))
            client.delete(redis_key(2))
            client.set(redis_key(2), b"text")
        with opened(RedisConnection(host="127.0.0.1", port=empty_redis.port)) as connection:
            with pytest.raises(StoreError, match=rf"entity key {redis_key(2)[:-4].hex()}: WRONGTYPE"):
                connection.read(batch(IDS), time.monotonic() + PATIENCE)


TIME_FIELD = b"$6\r\n\x08\x80\x97\xd8\xca\x06\r\n"


class TestMalformedReplies:
    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the answer is not RESP"),
            (b"\x00\x01\x02\x03", "the answer is not RESP"),
            (b"*2\r\n!bad", "unexpected reply|not RESP"),
            (b"*x\r\n", "not RESP"),
            (b"*2\r\n$3\r\nabcd\r\n$-1\r\n", "unexpected reply|not RESP"),
            (b"*2\r\n$99999999999999999999\r\n", "not RESP|unexpected reply"),
            (b"*2\r\n$-2\r\n$-1\r\n", "not RESP|unexpected reply"),
            (b"+OK\r\n", "unexpected reply, not an array but bytes"),
            (b":5\r\n", "unexpected reply, not an array but int"),
            (b"$3\r\nabc\r\n", "unexpected reply, not an array but bytes"),
            (b"$-1\r\n", "unexpected reply, not an array but NoneType"),
            (b"*-1\r\n", "unexpected reply, not an array but NoneType"),
            (b"_\r\n", "unexpected reply, not an array but NoneType"),
            (b"%1\r\n+a\r\n+b\r\n", "unexpected reply, not an array but dict"),
            (b"*0\r\n", "unexpected reply, an array of 0"),
            (b"*1\r\n$-1\r\n", "unexpected reply, an array of 1"),
            (b"*3\r\n$-1\r\n$-1\r\n$-1\r\n", "unexpected reply, an array of 3"),
            (b"*2\r\n*1\r\n$-1\r\n$-1\r\n", "unexpected reply, an array of 1"),
            (b"*2\r\n:1\r\n:2\r\n", "unexpected reply, not an array but int"),
        ],
    )
    @pytest.mark.parametrize("place", [0, 2])
    def test_error_tells_the_shape(self, data: bytes, text: str, place: int) -> None:
        padding = b"" if data.startswith(b"HTTP") else replies(IDS)
        with ScriptedServer(send_once(replies(IDS[:place]) + data + padding, 3)) as server:
            error = fault(server)
        key = redis_key(IDS[place])[:-4].hex()
        assert any(part in str(error) for part in text.split("|"))
        assert f"HMGET, entity key {key}: " in str(error)

    def test_values_are_not_in_the_error(self) -> None:
        with ScriptedServer(send_once(b"*1\r\n$6\r\nsecret\r\n", 3)) as server:
            assert "secret" not in str(fault(server))

    @pytest.mark.parametrize("data", [b"*2\r\n$-1\r\n$-1\r\n", b"+OK\r\n", b"-ERR late\r\n"])
    def test_too_many_replies(self, data: bytes) -> None:
        with ScriptedServer(send_once(replies(IDS) + data, 3)) as server:
            assert "HMGET" in str(fault(server))

    def test_too_few_replies(self) -> None:
        with ScriptedServer(send_once(replies(IDS[:2]), 3)) as server:
            assert isinstance(fault(server, timeout=SHORT), StoreTimeoutError)

    def test_an_extra_reply_that_comes_later_is_noticed(self) -> None:
        has_read = threading.Event()

        def script(peer: Peer) -> None:
            peer.commands(3)
            peer.send(replies(IDS))
            assert has_read.wait(PATIENCE)
            peer.send(replies([9]))
            peer.wait_for_end()

        with ScriptedServer(script) as server, opened(connection_to(server)) as connection:
            connection.read(batch(IDS), time.monotonic() + PATIENCE)
            assert connection.is_quiet()
            has_read.set()
            wait_until(lambda: not connection.is_quiet())

    def test_random_garbage(self, rand: Rand) -> None:
        """Whatever comes, it is the right answer or StoreError, within the deadline."""
        good = replies(IDS)

        def script(peer: Peer) -> None:
            peer.commands(3)
            data = bytearray(good)
            for _ in range(rand.randint(1, 3)):
                at = rand.randrange(len(data))
                data[at : at + rand.randint(0, 3)] = rand.randbytes(rand.randint(0, 3))
            peer.send(bytes(data))

        with ScriptedServer(script) as server:
            for _ in range(150):
                try:
                    with opened(connection_to(server)) as connection:
                        connection.read(batch(IDS), time.monotonic() + PATIENCE)
                except StoreError as exc:
                    assert not isinstance(exc, StoreTimeoutError)


class TestClosedConnections:
    def test_closed_before_the_command(self) -> None:
        with ScriptedServer(hang_up) as server:
            assert isinstance(fault(server), ConnectionLost)

    def test_closed_before_the_reply(self) -> None:
        with ScriptedServer(send_and_close(b"", 3)) as server:
            error = fault(server)
        assert isinstance(error, ConnectionLost)
        assert "the server closed the connection" in str(error)

    def test_closed_in_the_middle(self) -> None:
        """One connection for each place at which the replies may break off."""
        data = replies(IDS)

        def script(peer: Peer) -> None:
            peer.commands(3)
            peer.send(data[: peer.number + 1])

        with ScriptedServer(script) as server:
            for _ in range(len(data) - 1):
                error = fault(server)
                assert not isinstance(error, ConnectionLost)
                assert "the server closed the connection, in the middle of its answer" in str(error)

    def test_closed_in_the_middle_of_an_error(self) -> None:
        with ScriptedServer(send_and_close(b"-ERR half of the tex", 3)) as server:
            error = fault(server)
        assert not isinstance(error, ConnectionLost)
        assert "while answering HMGET, entity key" in str(error)

    @pytest.mark.parametrize("data", [b"", replies(IDS)[:20]])
    def test_reset(self, data: bytes) -> None:
        def script(peer: Peer) -> None:
            peer.commands(3)
            peer.send(data)
            # Received bytes that were never read would turn FIN into RST anyway; this is the same without luck.
            time.sleep(0.05)
            peer.reset()

        with ScriptedServer(script) as server:
            error = fault(server)
        assert isinstance(error, ConnectionLost) is not bool(data)

    def test_closed_while_commands_are_sent(self) -> None:
        """The reason must be an error of ours, whichever system call notices first."""
        with ScriptedServer(lambda peer: peer.commands(3)) as server:
            assert isinstance(fault(server, list(range(100_000))), ConnectionLost)


class Ignore:
    """A script that neither reads nor writes."""

    def __init__(self) -> None:
        self.done = threading.Event()

    def __call__(self, peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert self.done.wait(PATIENCE)


class TestDeadlines:
    """Bounds are generous: what counts is that the deadline ends the wait, not how promptly a busy machine wakes up."""

    def slow(self, server: ScriptedServer, ids: list[int] = IDS) -> None:
        start = time.monotonic()
        error = fault(server, ids, SHORT)
        assert isinstance(error, StoreTimeoutError)
        assert "no answer within the deadline" in str(error)
        assert time.monotonic() - start < 3 * SHORT + 1

    def test_no_answer(self) -> None:
        with ScriptedServer(swallow) as server:
            self.slow(server)

    def test_half_an_answer(self) -> None:
        with ScriptedServer(send_once(replies(IDS)[:-1], 3)) as server:
            self.slow(server)

    def test_half_an_error(self) -> None:
        with ScriptedServer(send_once(b"-ERR no end", 3)) as server:
            self.slow(server)

    def test_one_byte_at_a_time(self) -> None:
        def script(peer: Peer) -> None:
            peer.commands(3)
            peer.drip(replies(IDS), 0.05)

        with ScriptedServer(script) as server:
            self.slow(server)

    def test_an_error_one_byte_at_a_time(self) -> None:
        def script(peer: Peer) -> None:
            peer.commands(3)
            peer.drip(b"-ERR " + b"x" * 200, 0.05)

        with ScriptedServer(script) as server:
            self.slow(server)

    def test_server_that_does_not_read(self) -> None:
        """Where the system's buffers are small, it is sending that waits."""
        with ScriptedServer(ignore := Ignore()) as server:
            try:
                with opened(connection_to(server)) as connection:
                    connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                    asked = batch(list(range(15_000)))
                    start = time.monotonic()
                    with pytest.raises(StoreTimeoutError, match="no answer within the deadline"):
                        connection._send(asked.commands() or b"", start + SHORT)
                    assert time.monotonic() - start < 3 * SHORT + 1
            finally:
                ignore.done.set()

    def test_deadline_that_has_passed(self) -> None:
        with ScriptedServer(swallow) as server:
            assert isinstance(fault(server, timeout=-1.0), StoreTimeoutError)

    def test_paused_redis(self, empty_redis: RedisServer) -> None:
        with opened(RedisConnection(host="127.0.0.1", port=empty_redis.port)) as connection:
            empty_redis.process.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(StoreTimeoutError):
                    connection.read(batch(IDS), time.monotonic() + SHORT)
            finally:
                empty_redis.process.send_signal(signal.SIGCONT)


ROWS = 600
VECTOR_PLAN = one_view([("a", 4)])
VECTORS = {
    PREFIX + key_of(f"C{i}"): vector_of(VECTOR_PLAN, reference_vector.Row(1, {"a": value(int64_val=i)}))
    for i in range(0, ROWS, 2)
}


class TestPieces:
    """Large reads of vectors, whose commands go to a near server piece by piece."""

    def batch(self) -> Batch:
        return Batch(VECTOR_PLAN, {JOIN_KEY: [f"C{i}" for i in range(ROWS)]}, ROWS, None, True)

    def answer(self, keys: list[bytes]) -> bytes:
        return frame_reply([VECTORS.get(key) for key in keys])

    def read(self, server: ScriptedServer) -> list[int | None]:
        batch = self.batch()
        with opened(connection_to(server)) as connection:
            connection.read(batch, time.monotonic() + PATIENCE)
            assert connection.is_quiet()
        batch.unpack_vectors()
        values: list[int | None] = python_columns(batch)["a"]
        return values

    @pytest.fixture(params=[True, False], ids=["near", "far"])
    def near(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
        """Whether every server is taken for a near one, or none."""
        monkeypatch.setattr(redis_wire, "NEAR_SECONDS", 10 if request.param else 0)
        return bool(request.param)

    def test_all_is_read(self, near: bool) -> None:
        def script(peer: Peer) -> None:
            asked = 0
            while asked < ROWS:
                ((_, *keys),) = peer.commands()
                asked += len(keys)
                peer.send(self.answer(keys))
            peer.wait_for_end()

        with ScriptedServer(script) as server:
            assert self.read(server) == [i if i % 2 == 0 else None for i in range(ROWS)]

    def test_two_pieces_are_under_way(self, near: bool) -> None:
        """A server that has answered nothing has two pieces if it is near, and everything if not."""

        def script(peer: Peer) -> None:
            sent = peer.commands(2)
            with contextlib.suppress(TimeoutError):
                peer.sock.settimeout(0.1)
                while True:
                    sent += peer.commands()
            peer.sock.settimeout(PATIENCE)
            assert (sum(len(keys) - 1 for keys in sent) < ROWS) is near
            for _, *keys in sent:
                peer.send(self.answer(keys))
            answer_rest(peer, self.answer)

        with ScriptedServer(script) as server:
            assert self.read(server)[-2:] == [ROWS - 2, None]

    def test_the_end_in_the_middle(self, near: bool) -> None:
        def script(peer: Peer) -> None:
            ((_, *keys),) = peer.commands()
            peer.send(self.answer(keys))

        with ScriptedServer(script) as server, pytest.raises(StoreError, match="in the middle of its answer") as caught:
            self.read(server)
        assert not isinstance(caught.value, ConnectionLost), "some of it was answered, so it is not asked again"

    def test_an_error_in_the_middle(self, near: bool) -> None:
        def script(peer: Peer) -> None:
            ((_, *keys),) = peer.commands()
            peer.send(self.answer(keys))
            peer.commands()
            peer.send(b"-LOADING not yet\r\n")
            peer.wait_for_end()

        with ScriptedServer(script) as server, pytest.raises(StoreError, match="LOADING not yet"):
            self.read(server)

    def test_silence_in_the_middle(self, near: bool) -> None:
        def script(peer: Peer) -> None:
            ((_, *keys),) = peer.commands()
            peer.send(self.answer(keys)[:-1])
            peer.wait_for_end()

        with ScriptedServer(script) as server, opened(connection_to(server)) as connection:
            with pytest.raises(StoreTimeoutError):
                connection.read(self.batch(), time.monotonic() + SHORT)

    def test_a_unix_socket_is_near(self, short_folder: Path) -> None:
        path = str(short_folder / "redis.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            with opened(RedisConnection(host="", port=0, unix_socket_path=path)) as connection:
                assert connection._is_near()


def answer_rest(peer: Peer, answer: Callable[[list[bytes]], bytes]) -> None:
    """Answer MGETs until the client ends the connection."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            ((_, *keys),) = peer.commands()
            peer.send(answer(keys))
