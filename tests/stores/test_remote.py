"""Requests to a server that does what a test tells it; each once with threads and once on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import RemoteConfig
from fastserve.errors import (
    ConfigError,
    EntityError,
    FeatureViewNotFoundException,
    NotSupportedError,
    StoreError,
    StoreTimeoutError,
)
from fastserve.stores import remote
from fastserve.stores.http_wire import Answer, GarbledAnswer
from fastserve.stores.remote import RemoteStore, Request
from tests.servers import Certificates, free_port
from tests.stores.forks import in_child
from tests.stores.scripted import Peer, ScriptedServer, hang_up, swallow, wait_until
from tests.stores.web import Asked, after_request, answer_bytes, json_bytes, opened, serve, take_request

READ = Request("/get", b"{}", "a/b", repeatable=True)
WRITE = Request("/put", b"{}")

Ask = Callable[[RemoteStore, Request], Answer]


def ask_here(store: RemoteStore, request: Request) -> Answer:
    return store.ask(request)


def ask_on_a_loop(store: RemoteStore, request: Request) -> Answer:
    return asyncio.run(store.ask_async(request))


@pytest.fixture(params=[ask_here, ask_on_a_loop], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.param
    return found


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(remote, "LAST_PAUSE", 0.002)


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_a_request(ask: Ask) -> None:
    asked: list[Asked] = []
    with ScriptedServer(serve(json_bytes({"a": 1}), asked=asked)) as server, opened(server) as store:
        answer = ask(store, READ)
    assert (answer.status, answer.body, answer.media_type) == (200, b'{"a": 1}', "application/json")
    assert asked[0].line == "POST /get HTTP/1.1"
    assert asked[0].body == b"{}"
    assert asked[0].headers["accept"] == "a/b"
    assert asked[0].headers["host"] == store.url.removeprefix("http://")
    assert "authorization" not in asked[0].headers


def test_a_path_before_all_paths() -> None:
    asked: list[Asked] = []
    with ScriptedServer(serve(json_bytes({}), asked=asked)) as server:
        store = RemoteStore(RemoteConfig(path=f"http://127.0.0.1:{server.port}/features/"), 10)
        store.ask(READ)
        store.close()
    assert asked[0].line == "POST /features/get HTTP/1.1"


def test_the_token_is_asked_for_each_time(ask: Ask) -> None:
    asked: list[Asked] = []
    tokens = iter(["one", "two"])
    with ScriptedServer(serve(json_bytes({}), asked=asked)) as server:
        with opened(server, token=lambda: next(tokens)) as store:
            ask(store, READ)
            ask(store, READ)
    assert [request.headers["authorization"] for request in asked] == ["Bearer one", "Bearer two"]


def test_a_token_with_a_line_break_is_refused() -> None:
    with ScriptedServer(swallow) as server, opened(server, token=lambda: "a\r\nX-Evil: 1") as store:
        with pytest.raises(StoreError, match="the token has characters"):
            store.ask(READ)
    assert server.accepted == 0


def test_large_requests_and_answers(ask: Ask) -> None:
    asked: list[Asked] = []
    with ScriptedServer(serve(answer_bytes(b"y" * 3_000_000), asked=asked)) as server, opened(server) as store:
        answer = ask(store, Request("/get", b"x" * 3_000_000))
    assert len(asked[0].body) == len(answer.body) == 3_000_000


# --- connections -----------------------------------------------------------------------------------------------------


def test_one_connection_serves_many_requests() -> None:
    with ScriptedServer(serve(json_bytes({}))) as server, opened(server) as store:
        for _ in range(5):
            store.ask(READ)
        assert server.accepted == 1


def test_one_connection_of_a_loop_serves_many_requests() -> None:
    async def main(store: RemoteStore) -> None:
        for _ in range(5):
            await store.ask_async(READ)

    with ScriptedServer(serve(json_bytes({}))) as server, opened(server) as store:
        asyncio.run(main(store))
        assert server.accepted == 1
        server.wait_until_ended(1)  # with the loop
        asyncio.run(main(store))
        assert server.accepted == 2


def test_a_server_that_closes_after_each_answer(ask: Ask) -> None:
    with ScriptedServer(serve(json_bytes({}, connection="close"))) as server, opened(server) as store:
        for _ in range(3):
            assert ask(store, WRITE).status == 200
        assert server.accepted == 3


def test_an_answer_that_ends_with_the_connection(ask: Ask) -> None:
    script = after_request(lambda peer: peer.send(b"HTTP/1.0 200 OK\r\n\r\nabc"))
    with ScriptedServer(script) as server, opened(server) as store:
        assert ask(store, READ).body == b"abc"


def test_the_number_of_connections_is_limited() -> None:
    release = threading.Event()
    peak: list[int] = []

    def slow(peer: Peer) -> None:
        peak.append(server.accepted)
        release.wait(10)
        peer.send(json_bytes({}))

    with ScriptedServer(after_request(slow)) as server, opened(server, connection_pool_size=2) as store:
        threads = [threading.Thread(target=store.ask, args=(READ,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        wait_until(lambda: server.accepted == 2)
        with pytest.raises(StoreTimeoutError, match="connection_pool_size"):
            store.ask(Request("/get", b"{}", timeout=0.05))
        release.set()
        for thread in threads:
            thread.join()
    assert max(peak[:2]) == 2


def test_the_number_of_connections_of_a_loop_is_limited() -> None:
    answers = serve(json_bytes({}))

    async def main(store: RemoteStore) -> None:
        found = await asyncio.gather(*(store.ask_async(READ) for _ in range(50)))
        assert [answer.status for answer in found] == [200] * 50

    with ScriptedServer(answers) as server, opened(server, connection_pool_size=3) as store:
        asyncio.run(main(store))
        assert server.accepted == 3


def test_a_waiter_that_gives_up_leaves_its_turn_to_the_next() -> None:
    release = threading.Event()

    def slow(peer: Peer) -> None:
        release.wait(10)
        peer.send(json_bytes({}))
        serve(json_bytes({}))(peer)

    async def main(store: RemoteStore) -> None:
        first = asyncio.create_task(store.ask_async(READ))
        await asyncio.sleep(0)
        late = asyncio.create_task(store.ask_async(Request("/get", b"{}", timeout=0.02)))
        cancelled, last = asyncio.create_task(store.ask_async(READ)), asyncio.create_task(store.ask_async(READ))
        with pytest.raises(StoreTimeoutError, match="connection_pool_size"):
            await late
        cancelled.cancel()
        release.set()
        assert (await first).status == (await last).status == 200
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    with ScriptedServer(after_request(slow)) as server, opened(server, connection_pool_size=1) as store:
        asyncio.run(main(store))


def test_a_cancelled_request_takes_its_connection_along() -> None:
    async def main(store: RemoteStore) -> None:
        task = asyncio.create_task(store.ask_async(READ))
        while not server.accepted:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await store.ask_async(READ)).status == 200

    with ScriptedServer(swallow, serve(json_bytes({}))) as server, opened(server) as store:
        asyncio.run(main(store))
        assert server.accepted == 2


def test_idle_connections_are_closed_in_time() -> None:
    with ScriptedServer(serve(json_bytes({}))) as server, opened(server, connection_idle_timeout=1) as store:
        store.ask(READ)
        store._pool._idle[0].idle_since -= 2
        store.ask(READ)
        assert server.accepted == 2
        server.wait_until_ended(1)


def test_idle_connections_of_a_loop_are_closed_in_time() -> None:
    async def main(store: RemoteStore) -> None:
        await store.ask_async(READ)
        (pool,) = store._async_pool._loops.values()
        pool._idle[0].idle_since -= 2
        await store.ask_async(READ)

    with ScriptedServer(serve(json_bytes({}))) as server, opened(server, connection_idle_timeout=1) as store:
        asyncio.run(main(store))
        assert server.accepted == 2


def test_closing_and_going_on(ask: Ask) -> None:
    with ScriptedServer(serve(json_bytes({}))) as server, opened(server) as store:
        ask(store, READ)
        store.close()
        server.wait_until_ended(1)
        ask(store, READ)


def test_closing_from_another_thread_closes_the_connections_of_a_loop() -> None:
    async def main(store: RemoteStore) -> None:
        await store.ask_async(READ)
        await asyncio.to_thread(store.close)
        await asyncio.to_thread(server.wait_until_ended, 1)

    with ScriptedServer(serve(json_bytes({}))) as server, opened(server) as store:
        asyncio.run(main(store))


def test_a_store_that_is_forgotten_closes_its_connections() -> None:
    with ScriptedServer(serve(json_bytes({}))) as server:
        store = RemoteStore(RemoteConfig(path=f"http://127.0.0.1:{server.port}"), 10)
        store.ask(READ)
        del store
        gc.collect()
        server.wait_until_ended(1)


def test_a_forked_child_has_connections_of_its_own() -> None:
    with ScriptedServer(serve(json_bytes({}))) as server, opened(server) as store:
        store.ask(READ)
        assert in_child(lambda: store.ask(READ).status) == 200
        assert server.accepted == 2
        store.ask(READ)
        assert server.accepted == 2


def test_many_threads_at_once() -> None:
    def work() -> None:
        for number in range(50):
            body = str(number).encode()
            assert store.ask(Request("/get", body)).body == body

    def echo(peer: Peer) -> None:
        with contextlib.suppress(EOFError):
            while True:
                peer.send(answer_bytes(take_request(peer).body))

    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as exc:
            failures.append(exc)

    with ScriptedServer(echo) as server, opened(server, connection_pool_size=3) as store:
        threads = [threading.Thread(target=guarded) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert server.accepted <= 3


# --- attempts --------------------------------------------------------------------------------------------------------


def lost(peer: Peer) -> None:
    """Take a request, and end the connection as a crashed server does."""
    after_request(Peer.reset)(peer)


def test_a_read_is_repeated_when_its_connection_is_lost(ask: Ask) -> None:
    with ScriptedServer(lost, lost, serve(json_bytes({}))) as server, opened(server) as store:
        assert ask(store, READ).status == 200
        assert server.accepted == 3


def test_a_write_is_not_repeated_when_its_connection_is_lost(ask: Ask) -> None:
    with ScriptedServer(lost, serve(json_bytes({}))) as server, opened(server) as store:
        with pytest.raises(StoreError, match="whether it was written is not known"):
            ask(store, WRITE)
        assert server.accepted == 1


def test_attempts_are_limited(ask: Ask) -> None:
    with ScriptedServer(lost) as server, opened(server, connection_retries=2) as store:
        with pytest.raises(StoreError, match=f"http://localhost:{server.port}: "):
            ask(store, READ)
        assert server.accepted == 3


def test_a_connection_that_ended_while_idle_costs_no_attempt(ask: Ask) -> None:
    once = after_request(lambda peer: peer.send(json_bytes({})))
    with ScriptedServer(once, once, serve(json_bytes({}))) as server:
        with opened(server, connection_retries=0) as store:
            for number in range(3):
                assert ask(store, WRITE).status == 200
                server.wait_until_ended(min(number + 1, 2))


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_busy_server_is_asked_again(ask: Ask, status: int) -> None:
    answers = serve(json_bytes("busy", status), json_bytes("busy", status, retry_after="0"), json_bytes({}))
    with ScriptedServer(answers, answers, serve(json_bytes({}))) as server, opened(server) as store:
        assert ask(store, READ).status == 200


@pytest.mark.parametrize("request_", [WRITE, READ], ids=["write", "read"])
@pytest.mark.parametrize("status", [400, 404, 422, 500, 503, 504])
def test_how_often_a_failing_server_is_asked(request_: Request, status: int) -> None:
    asked: list[Asked] = []
    with ScriptedServer(serve(json_bytes("no", status), asked=asked)) as server, opened(server) as store:
        with pytest.raises(Exception, match="no"):
            store.ask(request_)
    assert len(asked) == (4 if status == 503 and request_.repeatable else 1)


def test_a_server_that_is_gone_and_comes_back(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(remote, "LAST_PAUSE", 0.1)
    port = free_port()
    store = RemoteStore(RemoteConfig(path=f"http://127.0.0.1:{port}", connection_retries=100), 10)
    later: list[ScriptedServer] = []

    def start() -> None:
        later.append(ScriptedServer(serve(json_bytes({})), port=port).__enter__())

    starter = threading.Timer(0.05, start)
    starter.start()
    try:
        assert ask(store, WRITE).status == 200  # nothing of it was sent before
    finally:
        starter.join()
        store.close()
        later[0].__exit__(None, None, None)


# --- failures --------------------------------------------------------------------------------------------------------


def test_nobody_listens(ask: Ask) -> None:
    store = RemoteStore(RemoteConfig(path=f"http://127.0.0.1:{free_port()}", connection_retries=1), 10)
    with pytest.raises(StoreError, match=r"cannot connect: .*(refused|failed)"):
        ask(store, READ)
    store.close()


def test_an_unknown_host(ask: Ask) -> None:
    store = RemoteStore(RemoteConfig(path="http://nowhere.invalid:1", connection_retries=0), 10)
    with pytest.raises(StoreError, match=r"http://nowhere\.invalid:1: cannot connect"):
        ask(store, READ)
    store.close()


def test_a_server_that_never_answers(ask: Ask) -> None:
    with ScriptedServer(swallow) as server, opened(server, timeout=0.1) as store:
        with pytest.raises(StoreTimeoutError, match=f"http://localhost:{server.port}: no answer in time"):
            ask(store, READ)
        server.wait_until_ended(1)  # the connection is not kept: the answer may still come


def test_a_server_that_answers_too_slowly(ask: Ask) -> None:
    drip = after_request(lambda peer: peer.drip(json_bytes({}), 0.02))
    with ScriptedServer(drip) as server, opened(server, timeout=0.2) as store:
        with pytest.raises(StoreTimeoutError):
            ask(store, READ)


def test_a_server_that_does_not_take_the_connection(ask: Ask) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [_filler(port) for _ in range(4)]
        store = RemoteStore(RemoteConfig(path=f"http://127.0.0.1:{port}"), 0.2)
        with pytest.raises(StoreTimeoutError, match="no connection in time"):
            ask(store, READ)
        store.close()
        for filler in fillers:
            filler.close()


def _filler(port: int) -> socket.socket:
    """A connection that takes a place in the queue of a listener who accepts none."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(("127.0.0.1", port))
    return sock


@pytest.mark.parametrize("garbage", [b"+PONG\r\n", b"\x15\x03\x03\x00\x02\x02\x46", b"HTTP/1.1 200 OK\r\nx\r\n\r\n"])
def test_a_server_that_speaks_something_else(ask: Ask, garbage: bytes) -> None:
    script = after_request(lambda peer: peer.send(garbage))
    with ScriptedServer(script) as server, opened(server) as store:
        with pytest.raises(GarbledAnswer, match=f"http://localhost:{server.port}: "):
            ask(store, READ)
        assert server.accepted == 1


def test_an_answer_that_breaks_off(ask: Ask) -> None:
    script = after_request(lambda peer: peer.send(json_bytes({"a": 1})[:-2]))
    with ScriptedServer(script) as server, opened(server) as store:
        with pytest.raises(StoreError, match="in the middle of its answer"):
            ask(store, READ)
        assert server.accepted == 1


def test_bytes_that_nobody_asked_for(ask: Ask) -> None:
    def chatty(peer: Peer) -> None:
        after_request(lambda peer: peer.send(json_bytes({})))(peer)
        peer.send(answer_bytes(b"late", 408))
        sent.set()
        peer.wait_for_end()

    sent = threading.Event()
    with ScriptedServer(chatty, serve(json_bytes({}))) as server, opened(server) as store:
        ask(store, WRITE)
        sent.wait(10)
        assert ask(store, WRITE).body == b"{}"
        assert server.accepted == 2


def test_a_server_that_refuses_before_it_has_read_all() -> None:
    def refuse(peer: Peer) -> None:
        peer.sock.recv(100)
        peer.send(json_bytes("too much", 413, connection="close"))
        peer.sock.shutdown(socket.SHUT_WR)
        peer.wait_for_end()

    with ScriptedServer(refuse) as server, opened(server) as store:
        with pytest.raises(Exception, match="413: too much"):
            store.ask(Request("/put", b"x" * 1_000_000))


def test_the_error_that_the_server_tells_of(ask: Ask) -> None:
    detail = '{"module": "feast.errors", "class": "FeatureViewNotFoundException", "message": "no view x"}'
    key = json_bytes("bad key", 422, x_fastserve_error="EntityError", x_fastserve_error_fields='{"row": 3}')
    with ScriptedServer(serve(json_bytes(detail, 404), key)) as server, opened(server) as store:
        with pytest.raises(FeatureViewNotFoundException, match=r"^no view x$"):
            ask(store, READ)
    with ScriptedServer(serve(key)) as server, opened(server) as store:
        with pytest.raises(EntityError, match=r"^bad key$") as caught:
            ask(store, READ)
        assert caught.value.row == 3


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    return context


def test_a_certificate_of_a_known_authority(ask: Ask, secure: ssl.SSLContext, certificates: Certificates) -> None:
    asked: list[Asked] = []
    with ScriptedServer(serve(json_bytes({}), asked=asked), tls=secure) as server:
        with opened(server, scheme="https", cert=str(certificates.ca)) as store:
            assert ask(store, READ).status == 200
            assert ask(store, READ).status == 200
    assert len(asked) == 2


def test_a_kept_connection_under_tls(secure: ssl.SSLContext, certificates: Certificates) -> None:
    with ScriptedServer(serve(json_bytes({})), tls=secure) as server:
        with opened(server, scheme="https", cert=str(certificates.ca)) as store:
            for _ in range(4):
                store.ask(READ)
            assert server.accepted == 1


def test_a_certificate_of_an_unknown_authority(ask: Ask, secure: ssl.SSLContext) -> None:
    with ScriptedServer(swallow, tls=secure) as server:
        with opened(server, scheme="https", connection_retries=0) as store:
            with pytest.raises(StoreError, match="certificate verify failed"):
                ask(store, READ)


def test_a_certificate_for_another_host(ask: Ask, certificates: Certificates) -> None:
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.load_cert_chain(certificates.client_cert, certificates.client_key)
    with ScriptedServer(swallow, tls=other) as server:
        with opened(server, scheme="https", cert=str(certificates.ca), connection_retries=0) as store:
            with pytest.raises(StoreError, match="certificate verify failed"):
                ask(store, READ)


def test_a_plain_server_where_tls_is_expected(ask: Ask) -> None:
    with ScriptedServer(hang_up) as server, opened(server, scheme="https", connection_retries=0) as store:
        with pytest.raises(StoreError, match="cannot connect"):
            ask(store, READ)


def test_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"online_store\.cert"):
        RemoteStore(RemoteConfig(path="https://localhost", cert=str(tmp_path / "ca.pem")), 10)


# --- as a store ------------------------------------------------------------------------------------------------------


def test_what_a_server_does_itself() -> None:
    store = RemoteStore(RemoteConfig(path="http://127.0.0.1:1"), 10)
    store.create([])
    store.drop([])
    store.teardown([])
    nothing: Any = None
    with pytest.raises(NotSupportedError, match="reads by ask"):
        store.read(nothing)
    with pytest.raises(NotSupportedError, match="writes by ask"):
        store.write(nothing)
    store.close()


def test_asking_whether_it_is_well() -> None:
    asked: list[Asked] = []
    with ScriptedServer(serve(answer_bytes(b""), json_bytes("no", 500), asked=asked)) as server:
        with opened(server) as store:
            store.check()
            with pytest.raises(StoreError, match="/health answered 500: no"):
                store.check()
    assert [request.line for request in asked] == ["GET /health HTTP/1.1"] * 2


def test_figures() -> None:
    async def main(store: RemoteStore) -> dict[str, int]:
        pending = [asyncio.create_task(store.ask_async(READ)) for _ in range(3)]
        await asyncio.sleep(0)
        found = store.usage()
        await asyncio.gather(*pending)
        assert store.usage() == {"open": 3, "idle": 3, "in_flight": 0, "waiting": 0}
        return found

    with ScriptedServer(serve(json_bytes({}))) as server, opened(server, connection_pool_size=2) as store:
        assert store.usage() == {"open": 0, "idle": 0, "in_flight": 0, "waiting": 0}
        store.ask(READ)
        assert asyncio.run(main(store)) == {"open": 3, "idle": 1, "in_flight": 2, "waiting": 1}
        assert store.usage()["open"] == 1


def test_sockets_do_not_add_up() -> None:
    with ScriptedServer(serve(json_bytes({}))) as server, opened(server) as store:
        store.ask(READ)
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        for _ in range(500):
            store.ask(READ)
        for _ in range(5):
            asyncio.run(store.ask_async(READ))
        wait_until(lambda: server.ended == 5)
        after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after <= before + 1
