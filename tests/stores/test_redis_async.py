"""Asynchronous reads from Redis: each event loop has a connection, made as options say, that ends with the loop.

What happens on a connection is in test_redis_multiplex.py.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import RedisConnection
from fastserve.errors import StoreError, StoreTimeoutError
from fastserve.stores import Store
from fastserve.stores.redis import RedisStore
from tests.conftest import PASSWORD
from tests.servers import Certificates, RedisServer, free_port
from tests.stores.conftest import Keep, Run
from tests.stores.content import write_redis
from tests.stores.forks import in_child, sockets_to
from tests.stores.scripted import (
    PATIENCE,
    VIEW,
    Peer,
    ScriptedServer,
    batch,
    connection_to,
    hang_up,
    numbers,
    numbers_of,
    rows,
    send_once,
    swallow,
    wait_until,
)

IDS = list(range(40))


@pytest.fixture
def server(empty_redis: RedisServer) -> RedisServer:
    with empty_redis.client() as client:
        write_redis(client, VIEW, rows(IDS))
    return empty_redis


@pytest.fixture
def store(server: RedisServer, keep: Keep) -> RedisStore:
    return kept(keep, to(server))


@pytest.fixture
def locked(secure_redis: RedisServer) -> Iterator[RedisServer]:
    """A server with password and TLS; the rows are in database 3."""
    with secure_redis.client(db=3) as client:
        write_redis(client, VIEW, rows(IDS))
        yield secure_redis
        client.flushall()


def to(server: RedisServer, **options: Any) -> RedisConnection:
    return RedisConnection(**{"host": "127.0.0.1", "port": server.port, **options})


def kept(keep: Keep, options: RedisConnection) -> RedisStore:
    store = RedisStore(options)
    keep(store)
    return store


async def ask(store: Store, ids: list[int]) -> None:
    """Read ids; the answer must be right."""
    asked = batch(ids)
    await store.read_async(asked)
    assert numbers(asked) == numbers_of(ids)


def fault(run: Run, options: RedisConnection) -> StoreError:
    """Read over a new connection and return the error, which names the server."""

    async def main() -> StoreError:
        store = RedisStore(options)
        with pytest.raises(StoreError) as caught:
            await ask(store, IDS)
        store.close()
        await asyncio.sleep(0)
        return caught.value

    error: StoreError = run(main())
    assert str(error).startswith(f"{options.name}: ")
    return error


def clients(server: RedisServer) -> int:
    """The number of connections beside the one that asks."""
    with server.client() as client:
        return len(client.client_list()) - 1


class TestConnecting:
    @pytest.mark.parametrize("db", [3, 1])
    def test_password_and_database(self, run: Run, locked: RedisServer, keep: Keep, db: int) -> None:
        store = kept(keep, to(locked, password=PASSWORD, db=db))
        asked = batch([1])
        run(store.read_async(asked))
        assert numbers(asked) == (numbers_of([1]) if db == 3 else [None])

    def test_unix_socket(self, run: Run, locked: RedisServer, keep: Keep) -> None:
        options = RedisConnection(unix_socket_path=str(locked.unix_socket), username="default", password=PASSWORD, db=3)
        run(ask(kept(keep, options), IDS))

    def test_tls(self, run: Run, locked: RedisServer, certificates: Certificates, keep: Keep) -> None:
        options = to(locked, password=PASSWORD, db=3, ssl=True, ssl_ca_certs=str(certificates.ca), port=locked.tls_port)
        store = kept(keep, options)

        async def main() -> None:
            await asyncio.gather(*(ask(store, [one]) for one in IDS))
            await ask(store, IDS * 50)

        run(main())

    def test_unknown_authority(self, run: Run, locked: RedisServer) -> None:
        options = to(locked, password=PASSWORD, ssl=True, port=locked.tls_port)
        assert "certificate verify failed" in str(fault(run, options))

    def test_missing_authority_file(self, run: Run, locked: RedisServer, tmp_path: Path) -> None:
        options = to(locked, ssl=True, port=locked.tls_port, ssl_ca_certs=str(tmp_path / "none.pem"))
        assert "ssl_ca_certs" in str(fault(run, options))

    def test_wrong_password(self, run: Run, locked: RedisServer) -> None:
        assert ": AUTH: WRONGPASS" in str(fault(run, to(locked, password="guess")))

    def test_no_password(self, run: Run, locked: RedisServer) -> None:
        assert ": HMGET, entity key " in str(error := fault(run, to(locked)))
        assert str(error).endswith(": NOAUTH Authentication required.")

    def test_password_that_the_server_repeats(self, run: Run) -> None:
        text = b"-ERR unknown command 'AUTH', with args beginning with: 'top-secret' \r\n"
        with ScriptedServer(send_once(text)) as server:
            assert "'***'" in str(fault(run, connection_to(server, password="top-secret")))

    def test_database_that_does_not_exist(self, run: Run, server: RedisServer) -> None:
        assert ": SELECT: ERR DB index is out of range" in str(fault(run, to(server, db=99)))

    def test_refused(self, run: Run) -> None:
        options = RedisConnection(host="127.0.0.1", port=free_port())
        assert str(fault(run, options)).endswith(": cannot connect: Connection refused")

    def test_unknown_host(self, run: Run) -> None:
        assert ": cannot connect: " in str(fault(run, RedisConnection(host="no.such.host.invalid")))

    def test_missing_unix_socket(self, run: Run, tmp_path: Path) -> None:
        options = RedisConnection(unix_socket_path=str(tmp_path / "none.sock"))
        assert str(fault(run, options)).endswith(": cannot connect: No such file or directory")

    def test_hung_up(self, run: Run) -> None:
        with ScriptedServer(hang_up) as server:
            fault(run, connection_to(server, password=PASSWORD))

    def test_answer_that_is_not_resp(self, run: Run) -> None:
        with ScriptedServer(send_once(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
            assert "the answer is not RESP" in str(fault(run, connection_to(server, password=PASSWORD)))

    @pytest.mark.parametrize("options", [{"password": PASSWORD}, {"ssl": True}])
    def test_no_answer_to_the_greeting(self, run: Run, options: dict[str, Any]) -> None:
        with ScriptedServer(swallow) as server:
            error = fault(run, connection_to(server, socket_connect_timeout=0.2, **options))
        assert isinstance(error, StoreTimeoutError)
        assert "no connection within 0.2 s" in str(error)

    def test_a_greeting_that_comes_in_pieces(self, run: Run, keep: Keep) -> None:
        def script(peer: Peer) -> None:
            peer.commands()
            peer.drip(b"+OK\r\n", 0.001)
            peer.commands()
            peer.drip(b"+OK\r\n", 0.001)
            peer.commands()
            peer.wait_for_end()

        async def main(store: RedisStore) -> None:
            with pytest.raises(StoreTimeoutError):
                await store.read_async(batch([1]), 0.2)

        with ScriptedServer(script) as server:
            run(main(kept(keep, connection_to(server, password=PASSWORD, db=3))))

    def test_tls_server_that_hangs_up(self, run: Run, certificates: Certificates) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.cert, certificates.key)
        with ScriptedServer(hang_up, tls=context) as server:
            fault(run, connection_to(server, ssl=True, ssl_ca_certs=str(certificates.ca), host="localhost"))


class TestLoops:
    def test_one_connection_for_all_reads_of_a_loop(self, run: Run, store: RedisStore, server: RedisServer) -> None:
        async def main() -> None:
            await asyncio.gather(*(ask(store, [one, one + 1]) for one in IDS[:-1]))
            assert clients(server) == 1

        run(main())

    def test_it_ends_with_the_loop(self, run: Run, store: RedisStore, server: RedisServer) -> None:
        """No warning of an open socket either: warnings are errors here."""
        for _ in range(3):
            run(ask(store, IDS))
            gc.collect()
            wait_until(lambda: clients(server) == 0)

    def test_loops_that_are_just_closed_are_forgotten(self, store: RedisStore, server: RedisServer) -> None:
        for _ in range(3):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(ask(store, IDS))
            assert clients(server) == 1
            store.close()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
        assert store._wires is not None
        assert not store._wires.by_loop

    def test_several_at_once(self, run: Run, store: RedisStore) -> None:
        async def main(first: int) -> None:
            for one in range(first, first + 50):
                await asyncio.gather(*(ask(store, [one % 40, i]) for i in range(5)))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda first: run(main(first)), range(4)))

    def test_beside_threads_that_read(self, run: Run, store: RedisStore, server: RedisServer) -> None:
        async def main() -> None:
            asked = [batch(IDS) for _ in range(20)]
            threads = [asyncio.to_thread(store.read, one) for one in asked]
            await asyncio.gather(*threads, *(ask(store, IDS) for _ in range(20)))
            assert all(numbers(one) == numbers_of(IDS) for one in asked)

        run(main())

    def test_usage_tells_of_connections_and_reads(self, store: RedisStore, run: Run) -> None:
        async def read_and_look() -> list[dict[str, int]]:
            await ask(store, [1])
            found = [store.usage()]
            reads = [asyncio.create_task(ask(store, [number])) for number in (1, 2, 3)]
            await asyncio.sleep(0)  # they have begun; no turn of the loop has received anything
            found.append(store.usage())
            await asyncio.gather(*reads)
            return [*found, store.usage()]

        idle, busy, after = run(read_and_look())
        assert idle == after == {"open": 1, "idle": 1, "in_flight": 0, "waiting": 0}
        assert busy == {"open": 1, "idle": 0, "in_flight": 3, "waiting": 0}

    def test_nothing_is_asked_for(self, run: Run) -> None:
        store = RedisStore(RedisConnection(port=free_port()))
        run(ask(store, []))

    def test_nothing_asked_for_and_cancelled(self, run: Run) -> None:
        store, told = RedisStore(RedisConnection(port=free_port())), []

        async def main() -> None:
            store.submit(batch([]), asyncio.get_running_loop(), told.append).cancel()
            store.submit(batch([]), asyncio.get_running_loop(), told.append)
            assert told == []
            await asyncio.sleep(0.01)

        run(main())
        assert told == [None]


class TestClose:
    def test_from_the_loop(self, run: Run, store: RedisStore, server: RedisServer) -> None:
        async def main() -> None:
            await ask(store, IDS)
            store.close()
            await asyncio.to_thread(wait_until, lambda: clients(server) == 0)
            await ask(store, IDS)  # a later read opens a new one

        run(main())

    def test_from_another_thread(self, run: Run, store: RedisStore, server: RedisServer) -> None:
        async def main() -> None:
            await ask(store, IDS)
            await asyncio.to_thread(store.close)
            await asyncio.to_thread(wait_until, lambda: clients(server) == 0)
            await ask(store, IDS)

        run(main())

    def test_reads_under_way_fail(self, run: Run, keep: Keep) -> None:
        asked = threading.Event()

        def script(peer: Peer) -> None:
            peer.commands()
            asked.set()
            peer.wait_for_end()

        async def main(store: RedisStore) -> None:
            reads = [asyncio.create_task(store.read_async(batch(ids))) for ids in ([1], IDS)]
            await asyncio.to_thread(asked.wait, PATIENCE)
            store.close()
            for read in reads:
                with pytest.raises(StoreError, match="the store was closed"):
                    await read

        with ScriptedServer(script) as server:
            run(main(kept(keep, connection_to(server))))

    def test_while_connecting(self, run: Run, keep: Keep) -> None:
        async def main(store: RedisStore) -> None:
            read = asyncio.create_task(store.read_async(batch([1])))
            await asyncio.sleep(0.05)
            store.close()
            with pytest.raises(StoreError, match="the store was closed"):
                await read

        with ScriptedServer(swallow) as server:
            run(main(kept(keep, connection_to(server, password=PASSWORD))))

    def test_a_program_that_ends_in_the_middle(self, run: Run, keep: Keep) -> None:
        """asyncio.run cancels what is left; nothing hangs, and nothing is complained of."""

        async def main(store: RedisStore) -> None:
            asyncio.create_task(store.read_async(batch([1])))  # noqa: RUF006
            await asyncio.sleep(0.05)

        for script in (swallow, hang_up):
            with ScriptedServer(script) as server:
                run(main(kept(keep, connection_to(server))))
                gc.collect()


class TestForks:
    def test_a_child_has_its_own_connection(self, run: Run, store: RedisStore, server: RedisServer) -> None:
        def child() -> None:
            asyncio.run(ask(store, IDS))

        async def main() -> None:
            await ask(store, IDS)
            await asyncio.gather(*(ask(store, [one]) for one in IDS), asyncio.to_thread(in_child, child))
            await ask(store, IDS)
            assert clients(server) == 1

        run(main())

    def test_a_child_keeps_no_copy_of_the_socket(self, run: Run, store: RedisStore, server: RedisServer) -> None:
        async def main() -> None:
            await ask(store, IDS)
            assert in_child(lambda: sockets_to(server.port)) == 0
            await ask(store, IDS)
            assert clients(server) == 1

        run(main())
