"""The script that merges vectors, beside a slow twin of it; markers; and what of the keys is found and deleted."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from fastserve.stores.redis_vectors import FEAST_SCRIPT, MERGE_SCRIPT
from tests.conftest import Rand
from tests.reference import Value
from tests.reference_vector import Row, fingerprint, pack, unpack
from tests.servers import RedisServer

VIEWS = [("a", [("x", 4), ("y", 2), ("z", 7)]), ("b", [(f"f{i}", 5) for i in range(9)]), ("c", [("t", 2)])]
NAMES = dict(VIEWS)
MARKER_KEY, MARKER = b"fsv:marker:p:s", b'{"marker": 1}'
ROWS, HASH, OVERWRITE = 0, 1, 2

Rows = dict[str, Row]


def head(views: Sequence[Any] = VIEWS) -> bytes:
    return struct.pack("<BBH", 0xF5, 1, len(views)) + fingerprint(views)


def bitmap_sizes(views: Sequence[Any] = VIEWS) -> bytes:
    return b"".join(struct.pack("<H", (len(features) + 7) // 8) for _, features in views)


def value(value_type: int, seed: int) -> bytes:
    made = {2: Value(string_val=f"text {seed}"), 4: Value(int64_val=seed), 5: Value(double_val=seed / 7)}
    return bytes(made.get(value_type, Value(bool_val=bool(seed % 2))).SerializeToString())


def row(view: str, time: int, seed: int = 0, without: Sequence[str] = ()) -> Row:
    """Return a row of a view with different values for each seed; of one in five features a null."""
    features = [(name, number) for name, number in NAMES[view] if name not in without]
    return Row(time, {name: b"" if (seed + i) % 5 == 4 else value(n, seed + i) for i, (name, n) in enumerate(features)})


def merge(stored: Rows | None, given: Rows, mode: int) -> tuple[Rows, bool]:
    """The rule, slowly: what is stored afterwards, and whether it must be made of the hash instead."""
    result, lacking = dict(stored or {}), stored is None and len(VIEWS) > 1
    for name, new in given.items():
        old = result.get(name)
        absent = len(NAMES[name]) - len(new.values)
        if old is None or new.event_time > old.event_time or mode == OVERWRITE:
            result[name] = new
        elif new.event_time == old.event_time:
            old_absent = len(NAMES[name]) - len(old.values)
            if mode == HASH and absent <= old_absent:
                result[name] = new
            absent = old_absent or new != old
        else:
            absent = 0
        lacking = lacking or absent > 0
    return result, lacking and mode == ROWS


def call(
    client: Any,
    vectors: dict[bytes, bytes],
    mode: int = ROWS,
    ttl: int = 0,
    marker: bytes = MARKER,
) -> Any:
    """Run the script over vectors by key."""
    keys = [MARKER_KEY, *vectors]
    given = (marker, ttl, mode, head(), bitmap_sizes(), *vectors.values())
    return client.eval(MERGE_SCRIPT.decode(), len(keys), *keys, *given)


@pytest.fixture
def client(empty_redis: RedisServer) -> Any:
    with empty_redis.client() as found:
        found.set(MARKER_KEY, MARKER)
        yield found


TIMES = [-5, 0, 1, 2**32 - 1, 2**32, 1767323045678901, 1767323045678902, 253402300799 * 10**6 + 999999]


def random_rows(rand: Rand, n_views: int) -> Rows:
    names = rand.sample(list(NAMES), n_views)
    # In the order of the layout, as `unpack` gives them.
    return {
        name: row(
            name,
            rand.choice(TIMES),
            rand.randrange(50),
            rand.sample([f for f, _ in NAMES[name]], rand.choice([0, 0, 1])),
        )
        for name in NAMES
        if name in names
    }


def test_merging_is_as_its_twin_says(client: Any, rand: Rand) -> None:
    for _ in range(25):
        stored = {b"k%d" % i: random_rows(rand, rand.randint(0, 3)) for i in range(20)}
        client.delete(*stored)
        kept = {key: rows for key, rows in stored.items() if rows}
        for key, rows in kept.items():
            client.set(key, pack(VIEWS, rows))
        mode = rand.choice([ROWS, HASH, OVERWRITE])
        given = {key: random_rows(rand, 1 if mode == ROWS else rand.randint(1, 3)) for key in stored}
        unresolved = call(client, {key: pack(VIEWS, rows) for key, rows in given.items()}, mode)
        expected = {key: merge(kept.get(key), rows, mode) for key, rows in given.items()}
        found = {key: unpack(VIEWS, client.get(key)) for key in given}
        assert found == {key: rows for key, (rows, _) in expected.items()}
        assert unresolved == [i for i, (_, lacking) in enumerate(expected.values(), 1) if lacking]


def test_nothing_is_written_under_another_marker(client: Any) -> None:
    vector = pack(VIEWS, {"a": row("a", 5)})
    assert call(client, {b"k": vector}, marker=b"older") == [-1]
    client.delete(MARKER_KEY)
    assert call(client, {b"k": vector}) == [-1]
    assert not client.exists("k")


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"text",
        pack([("a", [("x", 4)])], {}),
        pack(VIEWS, {"a": row("a", 9)})[:-1],
        pack(VIEWS, {"a": row("a", 9)}) + b"!",
        head() + struct.pack("<3I", 30, 29, 28) + bytes(20),
        head() + struct.pack("<3I", 25, 25, 25) + bytes(1),
        b"\xf5\x02" + pack(VIEWS, {"a": row("a", 9)})[2:],
    ],
)
def test_what_is_no_vector_of_the_layout_is_replaced(client: Any, stored: bytes) -> None:
    client.set("k", stored)
    vector = pack(VIEWS, {"b": row("b", 5)})
    assert call(client, {b"k": vector}) == [1]
    assert client.get("k") == vector


def test_a_vector_that_is_given_must_be_one(client: Any) -> None:
    good = pack(VIEWS, {"a": row("a", 9)})
    call(client, {b"k": good, b"l": good})
    with pytest.raises(redis.ResponseError, match="row 2 of the call"):
        call(client, {b"k": good, b"l": good[:-1]})


def test_a_single_view_needs_no_hash(client: Any) -> None:
    views = [VIEWS[0]]
    for given, unresolved in ((row("a", 9), []), (row("a", 10, without=["y"]), [1])):
        vector = pack(views, {"a": given})
        keys = [MARKER_KEY, b"fresh%d" % len(unresolved)]
        arguments = (MARKER, 0, ROWS, head(views), bitmap_sizes(views), vector)
        assert client.eval(MERGE_SCRIPT.decode(), 2, *keys, *arguments) == unresolved


def test_times_to_live(client: Any) -> None:
    older, newer = (pack(VIEWS, {"a": row("a", time)}) for time in (1, 2))
    call(client, {b"k": newer}, ttl=100)
    assert 0 < client.ttl("k") <= 100
    client.expire("k", 50)
    call(client, {b"k": older}, ttl=1000)
    assert client.ttl("k") <= 50, "what is not written is not renewed"
    call(client, {b"k": pack(VIEWS, {"a": row("a", 3)})})
    assert 0 < client.ttl("k") <= 50, "without a time to live of its own a write keeps that of the key"
    call(client, {b"k": pack(VIEWS, {"a": row("a", 4)})}, ttl=1000)
    assert client.ttl("k") > 50


def test_writers_in_any_order_leave_the_same(client: Any) -> None:
    rand = random.Random(3)
    steps = [(name, row(name, time, time)) for name in NAMES for time in range(1, 8)]
    expected = {name: row(name, 7, 7) for name in NAMES}
    for number in range(5):
        rand.shuffle(steps)
        for name, given in steps:
            call(client, {b"k%d" % number: pack(VIEWS, {name: given})})
        assert unpack(VIEWS, client.get(f"k{number}")) == expected


def test_feast_vectors_are_put_where_there_is_a_hash(client: Any) -> None:
    client.hset("there", "f", "v")
    client.expire("there", 100)
    keys, given = [MARKER_KEY, b"there", b"gone"], [MARKER, b"field", b"clock", b"time", b"one", b"two"]
    assert client.eval(FEAST_SCRIPT.decode(), 3, *keys, *given) == 1
    assert client.hgetall("there") == {b"f": b"v", b"field": b"one", b"clock": b"time"}
    assert client.ttl("there") > 0
    assert not client.exists("gone")
    assert client.eval(FEAST_SCRIPT.decode(), 3, *keys, b"older", *given[1:]) == 0
