"""The pool: connections are kept, counted, shared out, thrown away after any error, and never shared with a child."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import RedisConnection
from fastserve.errors import StoreError, StoreTimeoutError
from fastserve.stores.redis import RedisStore
from tests.conftest import Rand
from tests.servers import RedisServer, free_port
from tests.stores import scripted
from tests.stores.content import write_redis
from tests.stores.forks import in_child, sockets_to
from tests.stores.scripted import (
    PATIENCE,
    Peer,
    Script,
    ScriptedServer,
    answer,
    batch,
    connection_to,
    hang_up,
    numbers,
    numbers_of,
    replies,
    reply_to,
    send_and_close,
    send_once,
    swallow,
    wait_until,
)

IDS = [1, 2, 3]
SHORT = 0.3


def ask(store: RedisStore, ids: list[int] = IDS) -> None:
    """Read ids; the answer must be right."""
    asked = batch(ids)
    store.read(asked)
    assert numbers(asked) == numbers_of(ids)


@contextlib.contextmanager
def store_of(options: RedisConnection) -> Iterator[RedisStore]:
    with contextlib.closing(RedisStore(options)) as store:
        yield store


@pytest.fixture(scope="module")
def server(short_folder: Path) -> Iterator[RedisServer]:
    """A server that nobody else uses, so that its clients can be counted, with the ids 0 to 999."""
    with RedisServer.start(short_folder / "pool") as server:
        with server.client() as client:
            write_redis(client, scripted.VIEW, scripted.rows(list(range(1000))))
        yield server


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    with store_of(to(server)) as store:
        yield store


def to(server: RedisServer, **options: Any) -> RedisConnection:
    return RedisConnection(host="127.0.0.1", port=server.port, **options)


class Clients:
    """The connections that a server has, except the one that looks."""

    def __init__(self, server: RedisServer):
        self._client = server.client()

    def __enter__(self) -> Clients:
        self._opened_before = self.opened
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def ids(self) -> set[str]:
        found: Any = self._client.client_list()
        return {client["id"] for client in found} - {str(self._client.client_id())}

    @property
    def opened(self) -> int:
        """How many were ever opened."""
        info: Any = self._client.info("stats")
        return int(info["total_connections_received"])

    @property
    def new(self) -> int:
        """How many were opened since the beginning of the `with`."""
        return self.opened - self._opened_before

    def kill(self) -> None:
        """End the idle connections, as a timeout of the server does."""
        for client in self.ids:
            self._client.client_kill_filter(_id=client)


class TestReuse:
    def test_one_connection_serves_one_thread(self, server: RedisServer, store: RedisStore) -> None:
        with Clients(server) as clients:
            for one in range(100):
                ask(store, [one])
            assert clients.new == len(clients.ids) == 1

    def test_nothing_is_connected_before_the_first_read(self, server: RedisServer) -> None:
        with Clients(server) as clients, store_of(to(server)) as store:
            assert clients.new == 0
            store.read(batch([]))
            assert clients.new == 0

    def test_close_ends_idle_connections(self, server: RedisServer, store: RedisStore) -> None:
        with Clients(server) as clients:
            ask(store)
            store.close()
            wait_until(lambda: not clients.ids)
            ask(store)
            assert clients.new == 2

    def test_the_connection_used_last_is_used_next(self, store: RedisStore) -> None:
        first, second = store._take_place(time.monotonic()), store._take_place(time.monotonic())
        for connection in (first, second):
            connection.open()
            store._idle.append(connection)
        assert [store._pop_idle(), store._pop_idle()] == [second, first]
        store._idle.extend([first, second])

    def test_a_dropped_store_ends_its_connections(self, server: RedisServer) -> None:
        with Clients(server) as clients:
            ask(RedisStore(to(server)))
            gc.collect()
            wait_until(lambda: not clients.ids)

    def test_expiring_keys_read_alike(self, server: RedisServer, store: RedisStore) -> None:
        """`key_ttl_seconds` only concerns writers."""
        with server.client() as client:
            client.expire(scripted.redis_key(5), 3600)
            ask(store, [5])
            assert client.ttl(scripted.redis_key(5)) > 3000
            client.persist(scripted.redis_key(5))


FAILURES: dict[str, Script] = {
    "no answer": swallow,
    "half an answer": send_once(replies(IDS)[:-1], 3),
    "LOADING": send_once(b"-LOADING Redis is loading the dataset in memory\r\n" * 3, 3),
    "READONLY": send_once(b"-READONLY You can't write against a read only replica.\r\n" * 3, 3),
    "OOM": send_once(b"-OOM command not allowed\r\n" * 3, 3),
    "WRONGTYPE in the middle": send_once(replies([1]) + b"-WRONGTYPE wrong kind\r\n" + replies([3]), 3),
    "MOVED": send_once(b"-MOVED 1 127.0.0.1:1\r\n" * 3, 3),
    "garbage": send_once(b"HTTP/1.1 400 Bad Request\r\n\r\n", 3),
    "too few elements": send_once(b"*1\r\n$-1\r\n" * 3, 3),
    "too many elements": send_once(b"*3\r\n$-1\r\n$-1\r\n$-1\r\n" * 3, 3),
    "too many replies": send_once(replies([1, 2, 3, 4]), 3),
    "closed in the middle": send_and_close(replies(IDS)[:30], 3),
    "closed at once": hang_up,
}


class TestErrors:
    @pytest.mark.parametrize("failure", FAILURES)
    def test_a_connection_is_closed_after_any_error(self, failure: str) -> None:
        """The scripts end only when the client closes, so that one left open would fail the test."""
        with ScriptedServer(FAILURES[failure], answer) as server:
            with store_of(connection_to(server, socket_timeout=SHORT)) as store:
                with pytest.raises(StoreError, match=rf"^redis 127\.0\.0\.1:{server.port}/0: "):
                    store.read(batch(IDS))
                server.wait_until_ended(1)
                for ids in (IDS, [4], [5, 6]):
                    ask(store, ids)
            assert server.accepted == 2

    @pytest.mark.parametrize("failure", sorted(set(FAILURES) - {"closed at once"}))
    def test_nor_is_one_that_worked_before(self, failure: str) -> None:
        def script(peer: Peer) -> None:
            for _ in range(2):
                peer.send(reply_to(peer.commands()[0]))
            FAILURES[failure](peer)

        with ScriptedServer(script, answer) as server:
            with store_of(connection_to(server, socket_timeout=SHORT)) as store:
                ask(store, [8])
                ask(store, [9])
                with pytest.raises(StoreError):
                    store.read(batch(IDS))
                server.wait_until_ended(1)
                ask(store)
            assert server.accepted == 2

    def test_errors_give_their_places_back(self) -> None:
        with ScriptedServer(FAILURES["OOM"]) as server:
            with store_of(connection_to(server, max_connections=1, socket_timeout=1.0)) as store:
                for _ in range(5):
                    with pytest.raises(StoreError, match="OOM"):
                        store.read(batch(IDS))
            assert server.accepted == 5

    def test_failures_to_connect_give_their_places_back(self) -> None:
        port = free_port()
        options = RedisConnection(host="127.0.0.1", port=port, max_connections=1, socket_timeout=1.0)
        with store_of(options) as store:
            for _ in range(5):
                with pytest.raises(StoreError, match="Connection refused"):
                    store.read(batch(IDS))
            with ScriptedServer(answer, port=port):
                ask(store)
                store.close()

    def test_refused_handshakes_give_their_places_back(self) -> None:
        with ScriptedServer(send_once(b"-WRONGPASS invalid\r\n")) as server:
            options = connection_to(server, max_connections=1, socket_timeout=1.0, password="s3cret")
            with store_of(options) as store:
                for _ in range(5):
                    with pytest.raises(StoreError, match="WRONGPASS"):
                        store.read(batch(IDS))
            server.wait_until_ended(5)
            assert server.accepted == 5

    def test_too_many_clients(self, server: RedisServer) -> None:
        with server.client() as client, store_of(to(server)) as store:
            clients: Any = client.info("clients")["connected_clients"]  # type: ignore[index]
            limit: Any = client.config_get("maxclients")
            client.config_set("maxclients", int(clients))
            try:
                with pytest.raises(StoreError, match="max number of clients reached"):
                    store.read(batch(IDS))
            finally:
                client.config_set("maxclients", limit["maxclients"])
            ask(store)

    def test_replica_without_its_master(self, server: RedisServer, store: RedisStore) -> None:
        ask(store)
        with server.client() as client:
            client.config_set("replica-serve-stale-data", "no")
            client.execute_command("REPLICAOF", "127.0.0.1", free_port())
            try:
                with pytest.raises(StoreError, match="MASTERDOWN"):
                    store.read(batch(IDS))
            finally:
                client.execute_command("REPLICAOF", "NO", "ONE")
        ask(store)


class TestIdleConnections:
    def test_killed(self, server: RedisServer, store: RedisStore) -> None:
        with Clients(server) as clients:
            for _ in range(3):
                ask(store)
                clients.kill()
                wait_until(lambda: not clients.ids)
            ask(store)
            assert clients.new == 4

    def test_all_of_many_killed(self, server: RedisServer, store: RedisStore) -> None:
        with Clients(server) as clients:
            at_once(8, lambda _: ask(store))
            clients.kill()
            wait_until(lambda: not clients.ids)
            ask(store)
            wait_until(lambda: len(clients.ids) == 1)

    def test_timeout_of_the_server(self, server: RedisServer, store: RedisStore) -> None:
        with Clients(server) as clients, server.client() as client:
            ask(store)
            client.config_set("timeout", 1)
            try:
                wait_until(lambda: not clients.ids & before if (before := clients.ids) else True)
            finally:
                client.config_set("timeout", 0)
            ask(store)

    @pytest.mark.parametrize("end", [lambda peer: None, Peer.reset])
    def test_closed_when_it_is_used(self, end: Callable[[Peer], None]) -> None:
        """The end comes after the command was sent, so that only asking again helps."""

        def script(peer: Peer) -> None:
            peer.send(reply_to(peer.commands()[0]))
            peer.commands(3)
            end(peer)

        with ScriptedServer(script, answer) as server, store_of(connection_to(server)) as store:
            ask(store, [7])
            ask(store)
            assert server.accepted == 2

    def test_half_an_answer_is_not_asked_again(self) -> None:
        def script(peer: Peer) -> None:
            peer.send(reply_to(peer.commands()[0]))
            peer.commands(3)
            peer.send(replies(IDS)[:-1])

        with ScriptedServer(script, answer) as server, store_of(connection_to(server)) as store:
            ask(store, [7])
            with pytest.raises(StoreError, match="in the middle of its answer"):
                store.read(batch(IDS))
            assert server.accepted == 1

    def test_asking_again_fails_too(self) -> None:
        def script(peer: Peer) -> None:
            peer.send(reply_to(peer.commands()[0]))
            peer.commands()

        with ScriptedServer(script, hang_up) as server, store_of(connection_to(server)) as store:
            ask(store, [7])
            with pytest.raises(StoreError, match=r"closed the connection|reset by peer"):
                store.read(batch([8]))
            assert server.accepted == 2

    def test_a_reply_that_nobody_asked_for_is_nobodys(self) -> None:
        """The wrong answer would have the right shape."""
        go_on = threading.Event()

        def script(peer: Peer) -> None:
            peer.send(reply_to(peer.commands()[0]))
            assert go_on.wait(PATIENCE)
            peer.send(replies([1000]))
            peer.wait_for_end()

        with ScriptedServer(script, answer) as server, store_of(connection_to(server)) as store:
            ask(store, [7])
            go_on.set()
            wait_until(lambda: not store._idle[0].is_quiet())
            store._idle[0].trusted_until = 0.0
            ask(store, [8])
            assert server.accepted == 2

    def test_deadline_covers_all_tries(self) -> None:
        """Each idle connection ends only after a while; the deadline does not start anew with the next."""

        def script(peer: Peer) -> None:
            peer.send(reply_to(peer.commands()[0]))
            with contextlib.suppress(EOFError):
                peer.commands(3)
                time.sleep(SHORT * 0.6)

        with ScriptedServer(script, script, script, script, swallow) as server:
            with store_of(connection_to(server, socket_timeout=SHORT)) as store:
                connections = [store._take_place(time.monotonic()) for _ in range(4)]
                for connection in connections:
                    connection.open()
                    connection.read(batch([7]), time.monotonic() + PATIENCE)
                store._idle.extend(connections)
                start = time.monotonic()
                with pytest.raises(StoreTimeoutError):
                    store.read(batch(IDS))
                assert time.monotonic() - start < 3 * SHORT + 1
                store.close()


class TestLimit:
    def test_16_threads_on_4_connections(self, server: RedisServer, rand: Rand) -> None:
        with Clients(server) as clients, store_of(to(server, max_connections=4)) as store:
            plans = [[[rand.randrange(1000) for _ in range(rand.randint(1, 9))] for _ in range(200)] for _ in range(16)]
            at_once(16, lambda thread: [ask(store, ids) for ids in plans[thread]])
            assert clients.new <= 4
            assert len(clients.ids) <= 4

    def test_waits_and_gives_up(self, server: RedisServer) -> None:
        with store_of(to(server, max_connections=1, socket_timeout=SHORT)) as store:
            only = store._take_place(time.monotonic())
            start = time.monotonic()
            with pytest.raises(StoreTimeoutError) as caught:
                store.read(batch(IDS))
            assert SHORT <= time.monotonic() - start < 3 * SHORT + 1
            name = f"redis 127.0.0.1:{server.port}/0"
            assert str(caught.value) == f"{name}: all 1 connections (max_connections) were in use for {SHORT:g} s"
            store._discard(only)
            ask(store)

    def test_waits_and_gets_the_connection_given_back(self) -> None:
        with ScriptedServer(held := Held()) as server:
            with store_of(connection_to(server, max_connections=1)) as store, in_thread(lambda: ask(store)):
                wait_until(lambda: held.asked)
                with in_thread(lambda: ask(store, [4])):
                    wait_until(lambda: store._waiting)
                    held.release.set()
            assert server.accepted == 1

    def test_waits_and_opens_a_new_one_where_the_other_failed(self) -> None:
        with ScriptedServer(failing := Held(b"-OOM no memory\r\n"), answer) as server:
            with store_of(connection_to(server, max_connections=1)) as store:
                with in_thread(lambda: self._fail(store)):
                    wait_until(lambda: failing.asked)
                    with in_thread(lambda: ask(store, [4])):
                        wait_until(lambda: store._waiting)
                        failing.release.set()
            assert server.accepted == 2

    def _fail(self, store: RedisStore) -> None:
        with pytest.raises(StoreError, match="OOM"):
            store.read(batch(IDS))

    def test_everyone_who_waits_gets_a_turn(self, server: RedisServer) -> None:
        with Clients(server) as clients, store_of(to(server, max_connections=1)) as store:
            at_once(32, lambda thread: ask(store, [thread, thread + 1]))
            assert clients.new == 1


class Held:
    """A script that answers when `release` is set: rightly, or with the same bytes always."""

    def __init__(self, data: bytes = b""):
        self.release = threading.Event()
        self.asked = 0
        self._data = data

    def __call__(self, peer: Peer) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                command = peer.commands()[0]
                self.asked += 1
                while not self.release.wait(0.01):
                    peer.sock.settimeout(0.01)
                    with contextlib.suppress(TimeoutError):
                        if not peer.sock.recv(1, socket.MSG_PEEK):
                            return
                peer.sock.settimeout(PATIENCE)
                peer.send(self._data or reply_to(command))


class TestInterruptions:
    """An exception that comes from outside, such as KeyboardInterrupt, while a read is under way."""

    def test_signal_while_waiting_for_the_answer(self) -> None:
        class Interrupted(Exception):
            pass

        def interrupt(*_: object) -> None:
            raise Interrupted

        def script(peer: Peer) -> None:
            peer.commands(3)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            peer.wait_for_end()

        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            with ScriptedServer(script, answer) as server:
                with store_of(connection_to(server, max_connections=1)) as store:
                    with pytest.raises(Interrupted):
                        store.read(batch(IDS))
                    server.wait_until_ended(1)
                    ask(store, [4, 5, 6])
                assert server.accepted == 2
        finally:
            signal.signal(signal.SIGUSR1, before)

    @pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
    def test_exceptions_at_any_moment(self, server: RedisServer, rand: Rand) -> None:
        """A thread reads; another throws exceptions into it. Each answer is right, and no place is lost."""

        class Thrown(Exception):
            pass

        caught, answers = [0], [0]
        done = threading.Event()
        wrong: list[object] = []

        def work(store: RedisStore) -> None:
            while not done.is_set():
                ids = [rand.randrange(1000) for _ in range(3)]
                try:
                    ask(store, ids)
                    answers[0] += 1
                except Thrown:
                    caught[0] += 1
                except BaseException as exc:
                    wrong.append(exc)

        def guarded(store: RedisStore) -> None:
            while not done.is_set():
                with contextlib.suppress(Thrown):
                    work(store)

        pauses = [rand.random() * 0.002 for _ in range(300)]
        with Clients(server) as clients, store_of(to(server, max_connections=2, socket_timeout=2.0)) as store:
            thread = threading.Thread(target=guarded, args=(store,), daemon=True)
            thread.start()
            wait_until(lambda: answers[0])
            for pause in pauses:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Thrown))
                time.sleep(pause)
            done.set()
            thread.join(PATIENCE)
            assert not thread.is_alive(), "".join(traceback.format_stack(sys._current_frames()[thread.ident or 0]))
            assert not wrong
            assert caught[0] > 0
            wrong.clear()
            gc.collect()
            wait_until(lambda: len(clients.ids) <= 2)
            at_once(2, lambda thread: [ask(store, [thread, turn]) for turn in range(20)])


class TestFork:
    def test_child_has_its_own_connection(self, server: RedisServer, store: RedisStore) -> None:
        with Clients(server) as clients:
            ask(store)
            (own,) = clients.ids

            def child() -> int:
                for one in range(50):
                    ask(store, [one])
                return len(store._counted)

            assert in_child(child) == 1
            for one in range(50):
                ask(store, [one])
            assert clients.ids == {own}
            assert clients.new == 2

    def test_both_read_at_once(self, server: RedisServer, store: RedisStore) -> None:
        ask(store)
        with in_thread(lambda: [ask(store, [one]) for one in range(300)]):
            children = [in_child(lambda: [ask(store, [one]) for one in range(100)] and None) for _ in range(3)]
        assert children == [None] * 3

    def test_fork_during_a_read(self) -> None:
        """The child knows nothing of the read and keeps no copy of its socket."""
        with ScriptedServer(held := Held(), answer) as server:
            with store_of(connection_to(server, max_connections=1)) as store, in_thread(lambda: ask(store)):
                wait_until(lambda: held.asked)
                assert in_child(lambda: ask(store, [4])) is None
                assert in_child(lambda: sockets_to(server.port)) == 0
                held.release.set()

    def test_no_warning_in_the_child(self, store: RedisStore) -> None:
        """Warnings are errors here, but one from a destructor could only be printed."""
        ask(store)

        def child() -> list[str]:
            unraisable: list[str] = []
            sys.unraisablehook = lambda hooked: unraisable.append(str(hooked.exc_value))
            ask(store)
            gc.collect()
            return unraisable

        assert in_child(child) == []


# --- threads ---------------------------------------------------------------------------------------------------------


def at_once(count: int, work: Callable[[int], object]) -> None:
    """Call `work(0)` ... `work(count - 1)` on threads that start together; their exceptions fail the test."""
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait(PATIENCE)
        work(number)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, range(count)))


@contextlib.contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    """Run `work` beside the body; its exception fails the test."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        yield
        future.result(PATIENCE)
