"""Many reads over one connection: tombstones, deadlines, refusals, lost connections, large reads beside small ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from fastserve._core import Batch, json_response
from fastserve.errors import StoreError, StoreOverloadedError, StoreTimeoutError
from fastserve.stores import redis_multiplex
from fastserve.stores.redis import RedisStore
from tests.conftest import Rand
from tests.core import vectors
from tests.core.requests import JOIN_KEY
from tests.servers import RedisServer, free_port
from tests.stores.conftest import Keep, Run
from tests.stores.content import write_redis
from tests.stores.scripted import (
    PATIENCE,
    VIEW,
    Peer,
    Script,
    ScriptedServer,
    answer,
    batch,
    connection_to,
    hang_up,
    numbers,
    numbers_of,
    redis_key,
    replies,
    reply_to,
    rows,
    send_and_close,
    send_once,
    wait_until,
)

SHORT = 0.2
"""A deadline that a test waits for, in seconds."""
NEVER = PATIENCE


async def ask(store: RedisStore, ids: list[int], timeout: float | None = None) -> list[int]:
    asked = batch(ids)
    await store.read_async(asked, timeout)
    return numbers(asked)


class Held:
    """A script that reads commands from the start and answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.release = False
        self.sent = 0

    def __call__(self, peer: Peer) -> None:
        peer.sock.settimeout(0.01)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                command = peer.commands()[0]
            except TimeoutError:
                command = None
            except (EOFError, ConnectionError):
                return
            if command is not None:
                self.asked.append(command[1])
            while self.release and self.sent < len(self.asked):
                peer.send(reply_to([b"HMGET", self.asked[self.sent], b"abcd", b"_ts:numbers"]))
                self.sent += 1

    async def until_asked(self, count: int) -> None:
        await asyncio.to_thread(wait_until, lambda: len(self.asked) >= count)


def serve(
    run: Run, keep: Keep, main: Any, *scripts: Script, limits: Mapping[str, int] | None = None, **options: Any
) -> ScriptedServer:
    """Run `main(store)` with a store that reads from the scripts."""
    with ScriptedServer(*scripts) as server:
        store = RedisStore(connection_to(server, **options), **(limits or {}))
        keep(store)

        async def closing() -> None:
            try:
                await main(store)
            finally:
                store.close()
                await asyncio.sleep(0.01)

        run(closing())
    return server


class TestOrder:
    @pytest.mark.parametrize(("reads", "writes"), [(20, [20]), (32, [32]), (50, [32, 18]), (70, [32, 32, 6])])
    def test_commands_of_a_turn_leave_together(
        self, run: Run, keep: Keep, monkeypatch: pytest.MonkeyPatch, reads: int, writes: list[int]
    ) -> None:
        sent: list[int] = []
        flush = redis_multiplex.Link._flush

        def counting(link: redis_multiplex.Link) -> None:
            if link._outbox:
                sent.append(len(link._outbox))
            flush(link)

        async def main(store: RedisStore) -> None:
            await ask(store, [0])  # so that it is connected
            monkeypatch.setattr(redis_multiplex.Link, "_flush", counting)
            found = await asyncio.gather(*(ask(store, [one]) for one in range(reads)))
            assert found == [numbers_of([one]) for one in range(reads)]

        serve(run, keep, main, answer)
        assert sent == writes

    def test_replies_in_any_pieces(self, run: Run, keep: Keep, rand: Rand) -> None:
        def script(peer: Peer) -> None:
            peer.commands(30)
            data = replies([*range(20), *range(10)])
            while data:
                size = rand.randint(1, 200)
                peer.send(data[:size])
                data = data[size:]
            peer.wait_for_end()

        async def main(store: RedisStore) -> None:
            reads = [ask(store, [one]) for one in range(20)]
            found = await asyncio.gather(*reads, ask(store, list(range(10))))
            assert found == [*(numbers_of([one]) for one in range(20)), numbers_of(list(range(10)))]

        serve(run, keep, main, script)

    def test_a_cancelled_read_leaves_a_tombstone(self, run: Run, keep: Keep) -> None:
        held = Held()

        async def main(store: RedisStore) -> None:
            tasks = [asyncio.create_task(ask(store, [one])) for one in range(9)]
            await held.until_asked(9)
            for task in tasks[::2]:
                task.cancel()
            later = asyncio.create_task(ask(store, [9]))
            await held.until_asked(10)
            held.release = True
            assert await asyncio.gather(*tasks[1::2], later) == [numbers_of([one]) for one in (1, 3, 5, 7, 9)]
            assert all(task.cancelled() for task in tasks[::2])

        assert serve(run, keep, main, held).accepted == 1

    def test_a_late_read_leaves_a_tombstone(self, run: Run, keep: Keep) -> None:
        held = Held()

        async def main(store: RedisStore) -> None:
            patient = asyncio.create_task(ask(store, [2]))
            with pytest.raises(StoreTimeoutError, match="no answer within the deadline"):
                await ask(store, [1], SHORT)
            await held.until_asked(2)
            held.release = True
            assert await patient == numbers_of([2])
            assert await ask(store, [3]) == numbers_of([3])

        assert serve(run, keep, main, held).accepted == 1

    def test_cancelled_before_it_was_sent(self, run: Run, keep: Keep) -> None:
        async def main(store: RedisStore) -> None:
            loop, told = asyncio.get_running_loop(), []
            for one in range(4):
                pending = store.submit(batch([one]), loop, told.append)
                if one % 2:
                    pending.cancel()
            while len(told) < 2:
                await asyncio.sleep(0.001)
            assert await ask(store, [5]) == numbers_of([5])
            assert told == [None, None]

        serve(run, keep, main, answer)

    def test_on_done_that_raises_harms_nobody(self, run: Run, keep: Keep) -> None:
        faults: list[Any] = []

        async def main(store: RedisStore) -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: faults.append(context))
            store.submit(batch([1]), loop, lambda _: 1 / 0)
            assert await asyncio.gather(ask(store, [2]), ask(store, [3])) == [numbers_of([2]), numbers_of([3])]

        serve(run, keep, main, answer)
        assert [type(fault["exception"]) for fault in faults] == [ZeroDivisionError]

    def test_on_done_may_read_again(self, run: Run, keep: Keep) -> None:
        async def main(store: RedisStore) -> None:
            loop, done = asyncio.get_running_loop(), asyncio.Event()
            seen: list[Batch] = []

            def again(exc: BaseException | None) -> None:
                assert exc is None
                if len(seen) == 20:
                    done.set()
                    return
                seen.append(batch([len(seen)]))
                store.submit(seen[-1], loop, again)

            again(None)
            await done.wait()
            assert [numbers(one) for one in seen] == [numbers_of([i]) for i in range(20)]

        serve(run, keep, main, answer)

    def test_on_done_may_close_the_store(self, run: Run, keep: Keep) -> None:
        async def main(store: RedisStore) -> None:
            loop = asyncio.get_running_loop()
            told: list[object] = []
            store.submit(batch([1]), loop, lambda _: store.close())
            store.submit(batch([2]), loop, told.append)
            while not told:
                await asyncio.sleep(0.001)
            assert told[0] is None or "closed" in str(told[0])
            assert await ask(store, [3]) == numbers_of([3])

        serve(run, keep, main, answer)


class TestDeadlines:
    def test_different_ones(self, run: Run, keep: Keep) -> None:
        held = Held()

        async def main(store: RedisStore) -> None:
            loop, told = asyncio.get_running_loop(), {}
            for timeout in (0.3, 0.1, NEVER, 0.2):
                store.submit(batch([1]), loop, lambda exc, timeout=timeout: told.setdefault(timeout, exc), timeout)
            while len(told) < 3:
                await asyncio.sleep(0.01)
            assert list(told) == [0.1, 0.2, 0.3]
            assert all(isinstance(exc, StoreTimeoutError) for exc in told.values())
            held.release = True
            while len(told) < 4:
                await asyncio.sleep(0.01)
            assert told[NEVER] is None

        serve(run, keep, main, held)

    def test_a_connection_that_does_not_answer_is_given_up(self, run: Run, keep: Keep) -> None:
        """The read that waited behind it is tried again over a new one."""
        held = Held()

        async def main(store: RedisStore) -> None:
            with pytest.raises(StoreTimeoutError):
                await ask(store, [1])
            held.asked.clear()
            first = asyncio.create_task(ask(store, [1]))
            await held.until_asked(1)
            await asyncio.sleep(SHORT / 2)
            second = asyncio.create_task(ask(store, [2], NEVER))
            with pytest.raises(StoreTimeoutError):
                await first
            assert await second == numbers_of([2])

        assert serve(run, keep, main, held, held, answer, socket_timeout=SHORT).accepted == 3

    def test_while_there_is_no_connection(self, run: Run) -> None:
        async def main() -> None:
            store = RedisStore(connection_to(type("Nowhere", (), {"port": free_port()})))  # type: ignore[arg-type]
            for _ in range(6):  # the pauses between attempts grow
                with pytest.raises(StoreError, match="cannot connect: Connection refused"):
                    await ask(store, [1])
            with pytest.raises(StoreTimeoutError, match=r"deadline \(redis .*: cannot connect: Connection refused\)"):
                await ask(store, [1], 0.05)
            store.close()

        run(main())


class TestRefusals:
    def test_only_the_read_it_belongs_to_fails(self, run: Run, empty_redis: RedisServer, keep: Keep) -> None:
        with empty_redis.client() as client:
            write_redis(client, VIEW, rows(list(range(40))))
            client.set(redis_key(7), "text")
        store = RedisStore(connection_to(empty_redis))  # type: ignore[arg-type]
        keep(store)

        async def main() -> None:
            several = [ask(store, [one]) for one in range(40)]
            large = ask(store, list(range(40)))
            small = ask(store, [6, 7, 8])
            found = await asyncio.gather(*several, large, small, return_exceptions=True)
            for wrong in (found.pop(), found.pop(), found.pop(7)):
                assert isinstance(wrong, StoreError)
                assert f"HMGET, entity key {redis_key(7)[:-4].hex()}: WRONGTYPE" in str(wrong)
            assert found == [numbers_of([one]) for one in range(40) if one != 7]

        run(main())

    @pytest.mark.parametrize(
        "garbage",
        [b"x", b"+OK\r\n", b"*3\r\n", b"*2\r\n:1\r\n", b"$-1\r\n", b"*-1\r\n", b">2\r\n", b"-" + bytes(70_000)],
    )
    def test_garbage_fails_all_in_flight(self, run: Run, keep: Keep, garbage: bytes) -> None:
        async def main(store: RedisStore) -> None:
            found = await asyncio.gather(*(ask(store, [one]) for one in range(5)), return_exceptions=True)
            assert found[0] == numbers_of([0])
            assert all(type(one) is StoreError and "not what was asked for" in str(one) for one in found[1:])
            assert await ask(store, [9]) == numbers_of([9])

        server = serve(run, keep, main, send_once(replies([0]) + garbage, count=5), answer)
        assert server.accepted == 2

    def test_a_reply_that_nobody_asked_for(self, run: Run, keep: Keep) -> None:
        def script(peer: Peer) -> None:
            peer.send(reply_to(peer.commands()[0]) + replies([8]))
            peer.wait_for_end()

        async def main(store: RedisStore) -> None:
            assert await ask(store, [1]) == numbers_of([1])
            assert await ask(store, [2]) == numbers_of([2])

        assert serve(run, keep, main, script, answer).accepted == 2


class TestLostConnections:
    @pytest.mark.parametrize("sent", [b"", replies([1])[:9], replies([1])])
    def test_what_is_not_answered_is_asked_again(self, run: Run, keep: Keep, sent: bytes) -> None:
        async def main(store: RedisStore) -> None:
            assert await asyncio.gather(*(ask(store, [one]) for one in (1, 2, 3))) == [
                numbers_of([one]) for one in (1, 2, 3)
            ]

        assert serve(run, keep, main, send_and_close(sent, count=3), answer).accepted == 2

    def test_but_only_once(self, run: Run, keep: Keep) -> None:
        async def main(store: RedisStore) -> None:
            with pytest.raises(StoreError, match="closed the connection"):
                await ask(store, [1])

        server = serve(run, keep, main, *[send_and_close(b"")] * 3)
        assert server.accepted == 2

    def test_reset(self, run: Run, keep: Keep) -> None:
        def script(peer: Peer) -> None:
            peer.commands()
            peer.reset()

        async def main(store: RedisStore) -> None:
            assert await ask(store, [1]) == numbers_of([1])
            await asyncio.sleep(0)

        assert serve(run, keep, main, script, answer).accepted == 2

    def test_cancelled_reads_are_not_asked_again(self, run: Run, keep: Keep) -> None:
        held = Held()
        asked: list[int] = []

        def second(peer: Peer) -> None:
            asked.append(len(peer.commands()))
            peer.send(replies([2]))
            peer.wait_for_end()

        def first(peer: Peer) -> None:
            held.asked.extend(command[1] for command in peer.commands(2))
            wait_until(lambda: held.release)

        async def main(store: RedisStore) -> None:
            gone, stays = asyncio.create_task(ask(store, [1])), asyncio.create_task(ask(store, [2]))
            await held.until_asked(2)
            gone.cancel()
            await asyncio.sleep(0)
            held.release = True
            assert await stays == numbers_of([2])

        serve(run, keep, main, first, second)
        assert asked == [1]

    def test_hung_up_while_idle(self, run: Run, keep: Keep) -> None:
        async def main(store: RedisStore) -> None:
            assert await ask(store, [1]) == numbers_of([1])
            await asyncio.sleep(0.02)
            assert await ask(store, [2]) == numbers_of([2])

        assert serve(run, keep, main, send_and_close(replies([1])), answer).accepted == 2

    def test_a_server_that_hangs_up_at_once_is_not_hammered(self, run: Run, keep: Keep) -> None:
        spent: list[float] = []

        async def main(store: RedisStore) -> None:
            start = time.monotonic()
            for _ in range(2):
                with pytest.raises(StoreError):
                    await ask(store, [1])
            spent.append(time.monotonic() - start)

        server = serve(run, keep, main, hang_up)
        assert spent[0] >= redis_multiplex.BACK_OFF_SECONDS[0] / 2 * (server.accepted - 1)


class TestLimits:
    def test_too_many_wait(self, run: Run, keep: Keep) -> None:
        held = Held()

        async def main(store: RedisStore) -> None:
            connected = asyncio.create_task(ask(store, [0]))
            await held.until_asked(1)
            tasks = [asyncio.create_task(ask(store, [one])) for one in range(1, 9)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(StoreOverloadedError, match="4 reads are waiting already"):
                await asyncio.gather(*tasks[6:])
            tasks[4].cancel()  # gives its place back
            await asyncio.sleep(0)
            instead = asyncio.create_task(ask(store, [5]))
            held.release = True
            found = await asyncio.gather(connected, *tasks[:4], tasks[5], instead)
            assert found == [numbers_of([one]) for one in (0, 1, 2, 3, 4, 6, 5)]

        serve(run, keep, main, held, limits={"max_in_flight": 3, "max_waiting": 4})

    def test_a_server_that_does_not_read(self, run: Run, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
        """What cannot be sent waits where it can time out or be refused."""
        monkeypatch.setattr(redis_multiplex, "BULK_COMMANDS", 10_000)
        waiting: list[int] = []

        async def main(store: RedisStore) -> None:
            loop = asyncio.get_running_loop()
            for _ in range(150):  # 9 MB, more than any socket takes
                store.submit(batch(list(range(1000))), loop, lambda _: None, SHORT)
            with pytest.raises(StoreTimeoutError):
                await ask(store, [1], SHORT)
            later = asyncio.create_task(ask(store, [2]))
            await asyncio.sleep(0)
            assert store._wires is not None
            waiting.extend(len(wire.waiting) for wire in store._wires.by_loop.values())
            assert await later == numbers_of([2])

        serve(run, keep, main, lambda _: wait_until(lambda: waiting), answer)
        assert waiting == [1]


class TestLargeReads:
    def test_pieces(self, run: Run, keep: Keep, empty_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(redis_multiplex, "PIECE_BYTES", 300)
        ids = list(range(300))
        with empty_redis.client() as client:
            write_redis(client, VIEW, rows(ids))
        store = RedisStore(connection_to(empty_redis))  # type: ignore[arg-type]
        keep(store)

        async def main() -> None:
            parts = [ids[:17], ids[:100], ids, ids[50:], ids[:1], ids[10:26]]
            assert await asyncio.gather(*(ask(store, part) for part in parts)) == [numbers_of(part) for part in parts]

        run(main())

    def test_a_small_read_goes_between_the_pieces(self, run: Run, keep: Keep) -> None:
        held = Held()

        async def main(store: RedisStore) -> None:
            await_connection = asyncio.create_task(ask(store, [999]))
            await held.until_asked(1)
            large = [asyncio.create_task(ask(store, list(range(first, first + 2000)))) for first in (0, 5000)]
            await asyncio.sleep(0)
            small = asyncio.create_task(ask(store, [4000]))
            await asyncio.to_thread(wait_until, lambda: redis_key(4000) in held.asked)
            ahead.append(held.asked.index(redis_key(4000)))
            held.release = True
            assert await asyncio.gather(await_connection, small) == [numbers_of([999]), numbers_of([4000])]
            assert await asyncio.gather(*large) == [numbers_of(list(range(f, f + 2000))) for f in (0, 5000)]
            firsts = [held.asked.index(redis_key(one)) for one in (0, 5000)]
            assert abs(firsts[0] - firsts[1]) < 1000, "the large ones take turns"

        ahead: list[int] = []
        serve(run, keep, main, held)
        commands_of_a_piece = redis_multiplex.PIECE_BYTES // 60
        assert ahead[0] <= redis_multiplex.PIECES_IN_FLIGHT * commands_of_a_piece

    def test_cancelled_in_the_middle(self, run: Run, keep: Keep) -> None:
        """What is left of it is not sent."""
        held = Held()

        async def main(store: RedisStore) -> None:
            large = asyncio.create_task(ask(store, list(range(5000))))
            await held.until_asked(10)
            large.cancel()
            await asyncio.sleep(0)
            held.release = True
            assert await ask(store, [7000]) == numbers_of([7000])

        serve(run, keep, main, held)
        assert len(held.asked) < 2000

    def test_lost_in_the_middle(self, run: Run, keep: Keep) -> None:
        ids = list(range(1000))

        async def main(store: RedisStore) -> None:
            found = await asyncio.gather(ask(store, ids), ask(store, [5]))
            assert found == [numbers_of(ids), numbers_of([5])]

        assert serve(run, keep, main, send_and_close(replies([0, 1]), count=3), answer).accepted == 2


class TestVectors:
    def test_packed_vectors_beside_other_reads(self, run: Run, keep: Keep, empty_redis: RedisServer) -> None:
        request = vectors.all_types()
        expected, packed = vectors.packed(request)
        plan = vectors.vector_plan(request.plan, vectors.layout_of(request))
        with empty_redis.client() as client:
            client.mset({vectors.PREFIX + key: value for key, value in packed.items()})
            write_redis(client, VIEW, rows(list(range(40))))
        store = RedisStore(connection_to(empty_redis))  # type: ignore[arg-type]
        keep(store)

        async def whole() -> None:
            entities = request.entities * 20
            asked = Batch(plan, {JOIN_KEY: request.entities}, len(request.entities))
            await store.read_async(asked)
            assert asked.unpack_vectors() == []
            assert json_response(asked, True) == json_response(expected, True)
            many = Batch(plan, {JOIN_KEY: [f"none {i}" for i in range(300)] + entities}, 300 + len(entities))
            await store.read_async(many)
            assert many.unpack_vectors() == [(0, i) for i in range(300)]

        async def main() -> None:
            await asyncio.gather(*(whole() for _ in range(10)), *(ask(store, [one]) for one in range(40)))

        run(main())


class TestRecovery:
    def test_killed_and_restarted_under_load(self, run: Run, short_folder: Any, keep: Keep, rand: Rand) -> None:
        """No answer is wrong; each failure is a StoreError; it works again as soon as Redis does."""
        ids = list(range(50))
        port = free_port()

        def start() -> RedisServer:
            server = RedisServer.start(short_folder / "killed", port=port)
            with server.client() as client:
                write_redis(client, VIEW, rows(ids))
            return server

        expected = dict(zip(ids, numbers_of(ids), strict=True))
        counts = {"right": 0, "failed": 0}
        stop: list[bool] = []

        async def reader(store: RedisStore) -> None:
            while not stop:
                asked = rand.choices(ids, k=rand.choice([1, 1, 1, 40]))
                try:
                    found = await ask(store, asked)
                except StoreError:
                    counts["failed"] += 1
                else:
                    # A server that has just started is still empty.
                    assert all(number in (None, expected[one]) for one, number in zip(asked, found, strict=True))
                    counts["right"] += 1

        async def main() -> None:
            server = await asyncio.to_thread(start)
            store = RedisStore(connection_to(type("At", (), {"port": port})))  # type: ignore[arg-type]
            keep(store)
            readers = [asyncio.create_task(reader(store)) for _ in range(20)]
            for _ in range(2):
                await asyncio.sleep(0.2)
                server.process.kill()
                server.process.wait()
                await asyncio.sleep(0.1)
                server = await asyncio.to_thread(start)
                assert await ask(store, [1], timeout=1.0) == [expected[1]]
            stop.append(True)
            await asyncio.gather(*readers)
            store.close()
            server.stop()

        run(main())
        assert counts["right"] > 100
        assert counts["failed"] > 0
