"""Writing to Redis: what stands in its hashes, and everything that can happen to the script and to the connection."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve._core import WritePlan, encode_rows, encode_timestamp
from fastserve.config import RedisConnection
from fastserve.errors import StoreError, StoreTimeoutError
from fastserve.stores.redis import RedisStore
from tests import goldens, reference
from tests.core.arrow import batch_of
from tests.core.strategies import varint, wire_field
from tests.reference import INT64, STRING
from tests.servers import RedisServer
from tests.stores.conftest import Keep
from tests.stores.content import TIME, Row, View, entity_key
from tests.stores.scripted import Peer, ScriptedServer, connection_to
from tests.stores.writing import MICROS, rows_of, write_plan

PROFILE = View("customer_profile", ("age", "income"))
SPENDING = View("txn_7d", ("total",))
KEY = entity_key(PROFILE, ("C1",)) + b"bank"
AGE, INCOME = (reference.field_id("customer_profile", name) for name in PROFILE.features)
CLOCK = b"_ts:customer_profile"


def open_store(server: RedisServer, keep: Keep, **options: Any) -> RedisStore:
    store = RedisStore(RedisConnection(host="127.0.0.1", port=server.port), **options)
    keep(store)
    return store


@pytest.fixture
def store(empty_redis: RedisServer, keep: Keep) -> RedisStore:
    return open_store(empty_redis, keep)


@pytest.fixture
def client(empty_redis: RedisServer) -> Any:
    with empty_redis.client() as client:
        yield client


def one(age: int | None, time: float = TIME, key: str = "C1") -> Row:
    return Row((key,), {"age": age, "income": 0}, time)  # type: ignore[arg-type]


def age_of(client: Any) -> bytes:
    return bytes(client.hget(KEY, AGE))


# --- what is stored --------------------------------------------------------------------------------------------------


def test_what_feast_wrote(store: RedisStore, client: Any) -> None:
    """The recorded write leaves the recorded hashes, with their time to live."""
    golden = goldens.load("redis_commands")["write"]
    plan = WritePlan("txn_7d", ["customer_id"], [STRING], ["amount_sum", "txn_count", "avg_amount"], [5, 4, 6], "bank")
    start = 1780272000  # 2026-06-01T00:00:00Z
    times = [(start + int(row["event_timestamp"][-3:-1])) * MICROS for row in golden["call"]["rows"]]
    columns = [[row[name] for row in golden["call"]["rows"]] for name in plan.columns]
    store.write(encode_rows(plan, batch_of(plan, columns, times)), golden["call"]["key_ttl_seconds"])
    wanted = [list(map(bytes.fromhex, command[1:])) for command in golden["commands"] if command[0] == "HSET"]
    assert len(client.keys()) == len(wanted) == 2
    for key, *pairs in wanted:
        assert client.hgetall(key) == dict(zip(pairs[::2], pairs[1::2], strict=True))
        assert 3500 < client.ttl(key) <= 3600


def test_time_to_live(client: Any, empty_redis: RedisServer, keep: Keep) -> None:
    store = open_store(empty_redis, keep, key_ttl_seconds=100)
    store.write(rows_of(PROFILE, [one(1)]))
    assert 90 < client.ttl(KEY) <= 100
    store.write(rows_of(PROFILE, [one(1)]), 5000)
    assert client.ttl(KEY) <= 100, "a row that was not applied renewed it"
    store.write(rows_of(PROFILE, [one(1, TIME + 1)]), 0)
    assert client.ttl(KEY) <= 100, "no time to live leaves the old one alone"
    store.write(rows_of(SPENDING, [Row(("C1",), {"total": 1})]), 5000)
    assert 4990 < client.ttl(KEY) <= 5000, "another view's row renews it"
    client.hdel(KEY, AGE)
    store.write(rows_of(PROFILE, [one(1, TIME + 1)]), 9000)
    assert client.ttl(KEY) > 8990, "filling in is a write"


def test_skip_dedup(client: Any, empty_redis: RedisServer, keep: Keep) -> None:
    store = open_store(empty_redis, keep, skip_dedup=True)
    rows = [one(1, TIME), one(2, TIME - 5), one(3, TIME - 9)]
    assert store.write(rows_of(PROFILE, rows)) == 3
    assert client.hget(KEY, AGE) == b"\x20\x03"
    assert client.hget(KEY, CLOCK) == encode_timestamp(TIME - 9)


def test_microseconds_count(store: RedisStore, client: Any) -> None:
    assert store.write(rows_of(PROFILE, [one(1, TIME + 0.5)])) == 1
    assert store.write(rows_of(PROFILE, [one(2, TIME + 0.499999)])) == 0
    assert store.write(rows_of(PROFILE, [one(3, TIME)])) == 0
    assert store.write(rows_of(PROFILE, [one(4, TIME + 0.500001)])) == 1
    assert age_of(client) == b"\x20\x04"


@pytest.mark.parametrize("features", [0, 63, 999, 1000, 1001, 5000])
def test_wide_views(store: RedisStore, client: Any, features: int) -> None:
    """Lua's stack ends at some 8000 arguments."""
    view = View("wide", [f"f{i}" for i in range(features)])
    rows = [Row((f"C{k}",), {name: i + k for i, name in enumerate(view.features)}) for k in range(3)]
    assert store.write(rows_of(view, rows)) == 3
    found = client.hgetall(entity_key(view, ("C2",)) + b"bank")
    assert len(found) == features + 1
    for i in range(0, features, 97):
        assert found[reference.field_id("wide", f"f{i}")] == reference.Value(int64_val=i + 2).SerializeToString()
    if features:
        client.hdel(entity_key(view, ("C1",)) + b"bank", reference.field_id("wide", f"f{features - 1}"))
        assert store.write(rows_of(view, rows)) == 1
    assert store.write(rows_of(view, rows)) == 0


# --- what other writers left -----------------------------------------------------------------------------------------

STAMPS = st.tuples(
    st.integers(-62135596800, 253402300799) | st.integers(TIME - 2, TIME + 2), st.sampled_from([0, 1, 999_999_999])
)


@st.composite
def any_timestamp(draw: st.DrawFn) -> tuple[bytes, tuple[int, int]]:
    """The bytes of a Timestamp as any writer may have it, and what it means."""
    seconds, nanos = draw(STAMPS)
    padding = draw(st.sampled_from([0, 0, 3, 9]))
    parts = [b"\x08" + varint(seconds, padding)] if seconds or draw(st.booleans()) else []
    parts += [b"\x10" + varint(nanos, padding)] if nanos or draw(st.booleans()) else []
    for wire_type, size in [(0, 0), (1, 8), (2, 3), (5, 4)]:
        if draw(st.integers(0, 7)) == 0:
            parts.append(wire_field(7, wire_type, b"\x01" if size == 0 else b"x" * size))
    return b"".join(draw(st.permutations(parts))), (seconds, nanos)


@settings(max_examples=200)
@given(
    stored=any_timestamp(), time=st.integers(TIME * MICROS - 3, TIME * MICROS + 3) | STAMPS.map(lambda s: s[0] * MICROS)
)
def test_any_stored_timestamp_is_understood(redis_server: RedisServer, stored: Any, time: int) -> None:
    raw, (seconds, nanos) = stored
    age = (time // MICROS, time % MICROS * 1000)
    plan = write_plan(PROFILE)
    store = RedisStore(RedisConnection(host="127.0.0.1", port=redis_server.port))
    with redis_server.client() as client:
        client.delete(KEY)
        client.hset(KEY, mapping={CLOCK: raw, AGE: b"\x20\x07", INCOME: b""})  # type: ignore[arg-type]
        applied = store.write(encode_rows(plan, batch_of(plan, [["C1"], [8], [9]], [time])))
        assert applied == (age > (seconds, nanos))
        assert age_of(client) == (b"\x20\x08" if applied else b"\x20\x07")
    store.close()


@pytest.mark.parametrize(
    "raw", [b"\xff", b"\x08", b"\x08\x80", b"junk", b"\x0b", b"\x12\x05a", b"\x09123", b"\x08" + b"\xff" * 10 + b"\x01"]
)
def test_what_is_no_timestamp_is_overwritten(store: RedisStore, client: Any, raw: bytes) -> None:
    client.hset(KEY, mapping={CLOCK: raw, AGE: b"\x20\x07"})
    assert store.write(rows_of(PROFILE, [one(1, -1000)])) == 1
    assert client.hget(KEY, CLOCK) == encode_timestamp(-1000)


def test_a_key_of_another_type(store: RedisStore, client: Any) -> None:
    wrong = entity_key(PROFILE, ("C70",))
    client.set(wrong + b"bank", "text")
    with pytest.raises(StoreError, match=rf"writing customer_profile: WRONGTYPE [^,]*, entity key {wrong.hex()}$"):
        store.write(rows_of(PROFILE, [one(i, key=f"C{i}") for i in range(100)]))
    assert store.write(rows_of(PROFILE, [one(1)])) == 0, "the call before had been applied"


def test_a_server_without_memory(short_folder: Any, keep: Keep) -> None:
    with RedisServer.start(short_folder / "small", "--maxmemory", "1mb") as server:
        store = open_store(server, keep)
        with pytest.raises(StoreError, match="OOM"):
            store.write(rows_of(PROFILE, [one(i, key=f"C{i}") for i in range(10_000)]))


# --- script and connection -------------------------------------------------------------------------------------------


def test_the_script_is_loaded_once(store: RedisStore, client: Any) -> None:
    client.config_resetstat()
    for i in range(3):
        store.write(rows_of(PROFILE, [one(i, TIME + i)]))
    stats = client.info("commandstats")
    assert stats["cmdstat_script|load"]["calls"] == 1
    assert stats["cmdstat_evalsha"]["calls"] == 3


def test_a_script_that_was_flushed(store: RedisStore, client: Any) -> None:
    store.write(rows_of(PROFILE, [one(1)]))
    client.script_flush()
    assert store.write(rows_of(PROFILE, [one(2, TIME + 1)])) == 1
    assert age_of(client) == b"\x20\x02"


def test_a_server_that_was_restarted(short_folder: Any, keep: Keep) -> None:
    with RedisServer.start(short_folder / "r1") as first:
        store = open_store(first, keep)
        store.write(rows_of(PROFILE, [one(1)]))
    with pytest.raises(StoreError):
        store.write(rows_of(PROFILE, [one(1)]))


def load_script(peer: Peer) -> None:
    [words] = peer.commands()
    assert words[:2] == [b"SCRIPT", b"LOAD"]
    peer.send(b"$40\r\n%b\r\n" % (b"a" * 40))


def die_in_the_middle(peer: Peer) -> None:
    load_script(peer)
    peer.commands(2)
    peer.send(b":64\r\n")


def test_a_connection_that_dies_in_the_middle() -> None:
    rows = rows_of(PROFILE, [one(i, key=f"C{i}") for i in range(1000)])
    with ScriptedServer(die_in_the_middle) as server:
        store = RedisStore(connection_to(server))
        with pytest.raises(StoreError):
            store.write(rows)
        store.close()
        assert server.accepted == 1


def apply_all(peer: Peer) -> None:
    """Answer like Redis, once: then close."""
    load_script(peer)
    [words] = peer.commands()
    peer.send(b":" + words[2] + b"\r\n")


def test_a_connection_that_ended_while_idle_is_replaced() -> None:
    with ScriptedServer(apply_all) as server:
        store = RedisStore(connection_to(server))
        assert store.write(rows_of(PROFILE, [one(1)])) == 1
        server.wait_until_ended(1)
        assert store.write(rows_of(PROFILE, [one(1)])) == 1
        store.close()
        assert server.accepted == 2


def test_a_server_that_does_not_answer() -> None:
    def swallow(peer: Peer) -> None:
        load_script(peer)
        peer.wait_for_end()

    with ScriptedServer(swallow) as server:
        store = RedisStore(connection_to(server, socket_timeout=0.2))
        with pytest.raises(StoreTimeoutError):
            store.write(rows_of(PROFILE, [one(1)]))


def test_an_answer_that_is_no_number() -> None:
    def script(peer: Peer) -> None:
        load_script(peer)
        peer.commands()
        peer.send(b"+OK\r\n")

    with ScriptedServer(script) as server:
        store = RedisStore(connection_to(server))
        with pytest.raises(StoreError, match="not a number but bytes"):
            store.write(rows_of(PROFILE, [one(1)]))


def test_many_pieces(store: RedisStore, client: Any) -> None:
    """More than fits the buffers of the socket; and reads on other threads go on meanwhile."""
    n = 60_000
    plan = write_plan(PROFILE)
    ids = [f"customer {i}" for i in range(n)]
    rows = encode_rows(plan, batch_of(plan, [ids, range(n), range(n)], [TIME * MICROS] * n))
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(store.write(rows)))
    thread.start()
    while thread.is_alive():
        store.write(rows_of(SPENDING, [Row(("C1",), {"total": 1})]))
        thread.join(0.01)
    assert results == [n]
    assert client.dbsize() == n + 1


def test_vectors_of_feast_are_left_as_they_are(store: RedisStore, client: Any) -> None:
    vector = {reference.field_id("__precomputed__s", "vector"): b"v", b"_ts:__precomputed__s": encode_timestamp(1)}
    client.hset(KEY, mapping=vector)
    store.write(rows_of(PROFILE, [one(1)]))
    found = client.hgetall(KEY)
    assert found.keys() == {*vector, AGE, INCOME, CLOCK}
    assert found.items() >= vector.items()


# --- deleting --------------------------------------------------------------------------------------------------------


def test_drop_deletes_only_the_views_fields(store: RedisStore, client: Any) -> None:
    both = [one(1, key="C1"), one(2, key="C2")]
    store.write(rows_of(PROFILE, both))
    store.write(rows_of(SPENDING, [Row(("C1",), {"total": 5})]))
    store.write(rows_of(PROFILE, both, project="nk"))
    store.write(rows_of(PROFILE, both, project="nbank"))
    client.hset(KEY, "unknown", "stays")
    store.drop([write_plan(PROFILE)])
    assert set(client.hgetall(KEY)) == {reference.field_id("txn_7d", "total"), b"_ts:txn_7d", b"unknown"}
    others = {entity_key(PROFILE, (key,)) + project for key in ("C1", "C2") for project in (b"nk", b"nbank")}
    assert set(client.keys()) == {KEY, *others}


def test_full_scan_for_deletion_off(empty_redis: RedisServer, client: Any, keep: Keep) -> None:
    store = open_store(empty_redis, keep, full_scan_for_deletion=False)
    store.write(rows_of(PROFILE, [one(1)]))
    store.drop([write_plan(PROFILE)])
    assert client.exists(KEY)
    store.teardown([write_plan(PROFILE)])
    assert not client.exists(KEY)


def test_drop_of_old_keys(store: RedisStore, client: Any) -> None:
    store.write(rows_of(PROFILE, [one(1)], version=2))
    store.write(rows_of(PROFILE, [one(1)]))
    store.drop([write_plan(PROFILE, version=2)])
    assert client.keys() == [KEY]


@pytest.mark.parametrize("length", [42, 63, 91, 92, 93, 94])
def test_bytes_that_patterns_would_take_for_wildcards(store: RedisStore, client: Any, length: int) -> None:
    """The length of a join key's name stands in the key: *, ?, [ and \\ among others."""
    view = View("v", ("f",), ("k" * length,), (INT64,))
    other = View("v", ("f",), ("k" * (length - 1) + "x",), (INT64,))
    for some in (view, other):
        store.write(rows_of(some, [Row((i,), {"f": i}) for i in range(3)], project="p*[?]\\^-"))
    store.drop([write_plan(view, project="p*[?]\\^-")])
    assert len(client.keys()) == 3
    store.teardown([write_plan(other, project="p*[?]\\^-")])
    assert client.keys() == []


def test_teardown_keeps_what_is_not_ours(store: RedisStore, client: Any) -> None:
    client.set("somebody's", "data")
    store.write(rows_of(PROFILE, [one(i, key=f"C{i}") for i in range(2500)]))
    store.write(rows_of(SPENDING, [Row(("C1",), {"total": 5})]))
    store.write(rows_of(PROFILE, [one(1)], project="xbank"))
    store.teardown([write_plan(PROFILE), write_plan(SPENDING)])
    assert sorted(client.keys()) == sorted([b"somebody's", entity_key(PROFILE, ("C1",)) + b"xbank"])
