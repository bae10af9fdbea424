"""Building vectors and keeping them up to date, on Redis and on SQLite; what is read is what the views would answer."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastserve import FeatureStore
from fastserve._core import EncodedRows
from fastserve.config import SqliteConfig
from fastserve.errors import (
    NotSupportedError,
    RequestError,
    StoreError,
    VectorError,
    VectorMissingError,
    VectorStaleError,
)
from fastserve.precompute import Vectors
from fastserve.stores.vector_store import vector_store
from fastserve.vectors import Marker
from tests.repos import change
from tests.servers import RedisServer
from tests.vector_repos import (
    DEFINITIONS,
    MORE_SERVICES,
    USERS,
    answers,
    at,
    plainly,
    rows_a,
    rows_b,
    users,
    write_config,
    write_file,
    write_vector_repo,
)

END = at(1000)


@pytest.fixture(params=["redis", "sqlite"])
def place(request: pytest.FixtureRequest) -> dict[str, Any]:
    """An empty online store."""
    if request.param == "sqlite":
        return {"type": "sqlite", "path": "data/online.db"}
    server: RedisServer = request.getfixturevalue("empty_redis")
    return {"type": "redis", "connection_string": server.connection_string}


@pytest.fixture
def redis_place(empty_redis: RedisServer) -> dict[str, Any]:
    return {"type": "redis", "connection_string": empty_redis.connection_string}


@pytest.fixture
def repo(place: dict[str, Any], tmp_path: Path) -> Path:
    """An applied repository with the service `one`; nothing is loaded."""
    return applied(write_vector_repo(tmp_path / "repo", place))


def applied(folder: Path) -> Path:
    with FeatureStore(folder) as store:
        store.apply_repo()
    return folder


@pytest.fixture
def store(repo: Path) -> Iterator[FeatureStore]:
    with FeatureStore(repo) as found:
        yield found


def load(store: FeatureStore, *views: str) -> None:
    store.materialize(at(-10), END, list(views) or None)


def agrees(store: FeatureStore, service: str, rows: list[dict[str, Any]]) -> None:
    assert answers(store, service, rows) == plainly(store, service, rows)
    assert store.plan(store.get_feature_service(service), True).has_vectors


def has_none(store: FeatureStore) -> None:
    """There are no vectors: in Redis Feast's are missed; in SQLite, where it can build none, the views answer."""
    if isinstance(store.config.online_store, SqliteConfig):
        assert answers(store, "one", users("u1")) == plainly(store, "one", users("u1"))
        return
    with pytest.raises(
        VectorMissingError, match=r"feature service one: no precomputed vectors.*; .* vectors build one"
    ):
        answers(store, "one", users("u1"))


# --- building --------------------------------------------------------------------------------------------------------


def test_the_first_materialization_builds_all(store: FeatureStore) -> None:
    load(store, "a")
    load(store, "b")
    agrees(store, "one", users("u3", "u1", "nobody", "u3", "u0"))


def test_before_that_there_are_none(store: FeatureStore) -> None:
    load(store)
    store.drop_vectors("one")
    has_none(store)


def test_the_first_push_builds_all(store: FeatureStore) -> None:
    store.push("a_push", rows_a(["u1", "new"], 7, 5))
    agrees(store, "one", users("u1", "new", "u2"))
    marker = store.vector_status("one").marker
    store.push("b_push", rows_b(["u1"], 0.5, 6))
    assert store.vector_status("one").marker == marker, "built once"
    agrees(store, "one", users("u1", "new"))


def test_written_rows_reach_the_vectors(store: FeatureStore) -> None:
    load(store)
    store.write_to_online_store("b", rows_b(["u1", "u9"], 0.75, 100))
    store.push("a_push", rows_a(["u1"], 8, 100, None))
    agrees(store, "one", users("u1", "u9", "u2"))
    load(store, "b")
    agrees(store, "one", users(*USERS, "u9"))


def test_older_rows_change_nothing_and_equal_ones_fill_in(store: FeatureStore, repo: Path) -> None:
    load(store)
    before = answers(store, "one", users("u1"))
    store.push("a_push", rows_a(["u1"], 99, -5))
    store.push("a_push", rows_a(["u1"], 99, 1))  # the time of what is stored
    assert answers(store, "one", users("u1")) == before
    change(
        repo,
        'Field(name="text", dtype=String), ttl',
        'Field(name="text", dtype=String), Field(name="n", dtype=Int64), ttl',
    )
    store.apply_repo()
    store.precompute_feature_service("one")
    store.push("a_push", {**rows_a(["u1"], 99, 1), "n": [5]})
    agrees(store, "one", users("u1", "u2"))
    assert b'"n"' in answers(store, "one", users("u1"), full_feature_names=False)


def test_rows_of_the_same_second(store: FeatureStore) -> None:
    load(store)
    rows = {"user_id": ["u1", "u1", "u1"], "x": [1, 2, 3], "text": ["", "", ""], "ts": [at(20.1), at(20.5), at(20.3)]}
    store.push("a_push", rows)
    agrees(store, "one", users("u1"))
    store.push("a_push", rows_a(["u1"], 4, 20.9))  # on SQLite the second counts
    agrees(store, "one", users("u1"))


def test_join_keys_of_several_kinds(place: dict[str, Any], tmp_path: Path) -> None:
    folder = applied(write_vector_repo(tmp_path / "repo", place, DEFINITIONS + MORE_SERVICES))
    rows = [
        {"user_id": u, "shop_id": s, "payer_id": p, "payee_id": q}
        for u, s, p, q in [
            ("u1", 1, "u2", "u3"),
            ("u1", 0, "u2", "nobody"),
            ("u4", 0, "u3", "u2"),
            ("u1", 1, "u5", "u1"),
        ]
    ]
    with FeatureStore(folder) as store:
        load(store)
        agrees(store, "mixed", rows)
        store.push("c_push", {"user_id": ["u1"], "shop_id": [1], "z": [77], "ts": [at(50)]})
        store.push("g_push", {"w": [9.5], "ts": [at(50)]})
        store.push("a_push", rows_a(["u2"], 66, 50))
        agrees(store, "mixed", rows)
        current = store.vector_status("mixed").marker.current
        assert current is not None
        assert len(current.groups) == 3


@pytest.mark.parametrize("mode", ["status", "enforce", "ignore"])
def test_age_counts_as_for_rows(place: dict[str, Any], tmp_path: Path, mode: str) -> None:
    folder = applied(write_vector_repo(tmp_path / "repo", place, ttl_mode=mode))
    with FeatureStore(folder) as store:
        now = dt.datetime.now(dt.timezone.utc)
        load(store)
        store.push("a_push", {**rows_a(["u1"], 5, 0), "ts": [now]})
        agrees(store, "one", users("u1", "u2"))


def test_all_forms_of_an_answer(store: FeatureStore) -> None:
    load(store)
    names = users("u3", "nobody", "u1", "u3")
    service = store.get_feature_service("one")
    references = [f"{p.name}:{f.name}" for p in service.feature_view_projections for f in p.features]
    found, plain = store.get_online_features(service, names), store.get_online_features(references, names)
    assert found.to_dict(True) == plain.to_dict(True)
    assert found.to_arrow() == plain.to_arrow()
    assert found.proto == plain.proto
    assert found.to_numpy()["y"].tolist()[:1] == [0.75]
    assert found.to_df().equals(plain.to_df())


def test_asynchronous_reads(store: FeatureStore) -> None:
    load(store)
    service = store.get_feature_service("one")

    async def read() -> bytes:
        return (await store.get_online_features_async(service, users("u1", "nobody"), True)).to_json()

    assert asyncio.run(read()) == plainly(store, "one", users("u1", "nobody"))
    store.drop_vectors("one")
    store.precompute_feature_service("one")
    assert asyncio.run(read()) == plainly(store, "one", users("u1", "nobody"))


def test_a_service_is_built_by_name_or_all_of_them(store: FeatureStore) -> None:
    load(store)
    assert store.precompute_feature_service("one", batch_size=2) == len(USERS)
    assert store.precompute_feature_service() == len(USERS)
    with pytest.raises(LookupError, match="nope"):
        store.precompute_feature_service("nope")


def test_without_rows_there_are_no_vectors(store: FeatureStore) -> None:
    assert store.precompute_feature_service("one") == 0
    agrees(store, "one", users("u1"))


# --- what a push costs -----------------------------------------------------------------------------------------------


def test_a_push_touches_one_vector(redis_place: dict[str, Any], empty_redis: RedisServer, tmp_path: Path) -> None:
    folder = applied(write_vector_repo(tmp_path / "repo", redis_place))
    with FeatureStore(folder) as store, empty_redis.client() as client:
        load(store)
        store.push("a_push", rows_a(["u0"], 1, 99))
        before = {key: client.dump(key) for key in client.scan_iter("*")}
        client.config_resetstat()
        store.push("a_push", rows_a(["u1"], 7, 100))
        counted: Any = client.info("commandstats")
        calls = {name: found["calls"] for name, found in counted.items()}
        # From us: that there is a vector, the row, the vector, and whether the markers are still the same. The rest are
        # the scripts' own.
        assert (calls.pop("cmdstat_eval"), calls.pop("cmdstat_evalsha")) == (1, 2)
        assert calls.pop("cmdstat_set") == 2  # one of them only if there were no vector
        assert calls.pop("cmdstat_hset") == 1
        assert calls.pop("cmdstat_get") == 4  # marker, marker and vector in the scripts; the epoch
        assert calls.keys() <= {"cmdstat_hget", "cmdstat_pttl", "cmdstat_config|resetstat"}, calls
        changed = [key for key, data in before.items() if client.dump(key) != data]
        assert len(changed) == 2, "a hash and a vector"


# --- errors ----------------------------------------------------------------------------------------------------------


def vector_keys(client: Any) -> list[bytes]:
    return [key for key in client.scan_iter("fsv:*") if key.count(b":") == 2 and b"user_id" in key]


def test_a_lost_vector_names_the_rows(redis_place: dict[str, Any], empty_redis: RedisServer, tmp_path: Path) -> None:
    folder = applied(write_vector_repo(tmp_path / "repo", redis_place))
    with FeatureStore(folder) as store, empty_redis.client() as client:
        load(store)
        client.delete(*[key for key in vector_keys(client) if key.endswith((b"u1", b"u2"))])
        with pytest.raises(VectorMissingError, match="rows 0, 2, 3 of the request") as raised:
            answers(store, "one", users("u1", "u3", "u2", "u1", "nobody"))
        assert raised.value.rows == (0, 2, 3)
        assert raised.value.status == 500
        store.push("a_push", rows_a(["u1"], 3, 500))
        agrees(store, "one", users("u1", "u3"))  # made of all that is stored, not of the row alone


def test_a_new_feature_makes_vectors_stale_until_they_are_built(store: FeatureStore, repo: Path) -> None:
    load(store)
    more = 'Field(name="text", dtype=String), Field(name="n", dtype=Int64), ttl'
    change(repo, 'Field(name="text", dtype=String), ttl', more)
    notes = {change.name: change.note for change in store.apply_repo()}
    told = "feature a:n was added"
    assert told in notes["one"]
    assert "fastserve vectors build one" in notes["one"]
    with pytest.raises(VectorStaleError, match=told):
        answers(store, "one", users("u1"))
    assert store.vector_status("one").lacking == (told,)
    store.precompute_feature_service("one")
    agrees(store, "one", users("u1", "nobody"))


def test_a_change_that_is_built_ahead_is_never_stale(store: FeatureStore, repo: Path) -> None:
    load(store)
    names = users("u1", "u2", "nobody")
    change(repo, 'Field(name="text", dtype=String), ttl', 'Field(name="n", dtype=Int64), ttl')
    with FeatureStore(repo) as reader:
        before = answers(reader, "one", names)
        store.precompute_feature_service("one", ahead=True)
        assert answers(reader, "one", names) == before
        store.push("a_push", rows_a(["u1"], 5, 50))  # by the old definition
        agrees(reader, "one", names)
        assert {found.name: found.note for found in store.apply_repo()}["one"] == ""
        reader.refresh_registry()
        agrees(reader, "one", names)
        store.push("a_push", {**rows_a(["u1"], 6, 60), "n": [7]})
        agrees(reader, "one", names)
    change(repo, 'Field(name="n", dtype=Int64), ttl', 'Field(name="n", dtype=String), ttl')
    with pytest.raises(RequestError, match="feature a:n is of two types, INT64 and STRING"):
        store.precompute_feature_service("one", ahead=True)


def test_a_type_that_changed_is_named(store: FeatureStore, repo: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(store)
    change(repo, 'Field(name="y", dtype=Float64)', 'Field(name="y", dtype=Int64)')
    store.apply_repo()
    with pytest.raises(VectorStaleError, match="b:y is INT64, and was DOUBLE when they were built"):
        answers(store, "one", users("u1"))
    with caplog.at_level(logging.WARNING):
        store.push("b_push", {**rows_b(["u1"], 1, 900), "y": [3]})
    assert "b:y had another type" in caplog.text
    with pytest.raises(VectorError, match=r"feature service one: no vector can be made: .*b:y"):
        store.precompute_feature_service("one")  # of the other users there are still the old values


def test_a_feature_less_needs_no_build(store: FeatureStore, repo: Path) -> None:
    load(store)
    change(repo, "features=[a, b]", 'features=[b, a[["text"]].with_name("alias")]')
    assert {found.name: found.note for found in store.apply_repo()}["one"] == ""
    agrees(store, "one", users("u1", "u2"))
    assert b"alias__text" in answers(store, "one", users("u1"))


def test_a_view_that_was_deleted_and_made_anew_is_stale(store: FeatureStore, repo: Path) -> None:
    load(store)
    definition = 'b = view("b", [user], key, Field(name="y", dtype=Float64), Field(name="many", dtype=Array(Int64)))\n'
    change(repo, definition, "")
    change(repo, "features=[a, b]", "features=[a]")
    store.apply_repo()
    agrees(store, "one", users("u1"))
    change(repo, 'c = view("c"', definition + 'c = view("c"')
    change(repo, "features=[a]", "features=[a, b]")
    store.apply_repo()
    with pytest.raises(VectorStaleError, match="view b was deleted and made anew"):
        answers(store, "one", users("u1"))
    load(store, "b")
    store.precompute_feature_service("one")
    agrees(store, "one", users("u1"))


def test_damaged_markers_are_told(store: FeatureStore) -> None:
    load(store)
    vectors = vector_store(store._store)
    assert vectors is not None
    assert vectors.swap_marker("one", store.vector_status("one").marker.data, b"{")
    with pytest.raises(VectorError, match="feature service one: its marker in the online store is damaged"):
        with FeatureStore(store.repo_path) as other:
            answers(other, "one", users("u1"))
    assert store.drop_vectors("one")
    assert vectors.swap_marker("one", None, b'{"version": 2}')
    with pytest.raises(VectorError, match="version 2"):
        store.drop_vectors("one")
    with pytest.raises(VectorError, match="version 2 of the format; this fastserve reads version 1"):
        store.push("a_push", rows_a(["u1"], 3, 500))


# --- while others write, build and read ------------------------------------------------------------------------------


class Between:
    """A store that does something before, or after, it writes rows; or once, after it has read some."""

    def __init__(
        self,
        store: Any,
        before: Callable[[], object] = int,
        after: Callable[[], object] = int,
        after_read: Callable[[], object] = int,
    ):
        self._store, self._before, self._after = store, before, after
        self._after_read = iter([after_read])

    def read(self, batch: Any) -> None:
        self._store.read(batch)
        next(self._after_read, int)()

    def write(self, rows: EncodedRows, key_ttl_seconds: int | None = None) -> int:
        self._before()
        applied: int = self._store.write(rows, key_ttl_seconds)
        self._after()
        return applied

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_build_in_the_middle_of_a_write_is_noticed(store: FeatureStore, moment: str) -> None:
    load(store)
    with FeatureStore(store.repo_path) as other:
        once = iter([lambda: other.precompute_feature_service("one")])
        between = Between(store._store, **{moment: lambda: next(once, int)()})
        writer = Vectors(between, store._options)
        store._vectors = writer
        store.push("a_push", rows_a(["u1", "new"], 5, 50))
        agrees(other, "one", users("u1", "new", "u2"))
        assert answers(store, "one", users("new")) == answers(other, "one", users("new"))


def test_of_two_rows_of_one_time_the_vector_has_that_of_the_hash(store: FeatureStore) -> None:
    load(store)
    with FeatureStore(store.repo_path) as other:
        # The second to write is the first to merge.
        between = Between(store._store, after=lambda: other.push("a_push", rows_a(["u1", "new"], 2, 50, "second")))
        store._vectors = Vectors(between, store._options)
        store.push("a_push", rows_a(["u1", "new"], 1, 50, "first"))
        agrees(other, "one", users("u1", "new"))
        assert b'"values":[1,1]' in answers(other, "one", users("u1", "new")), "the first one stands"


def test_of_two_rows_that_overwrite_one_another_the_vector_has_that_of_the_hash(
    redis_place: dict[str, Any], tmp_path: Path
) -> None:
    folder = applied(write_vector_repo(tmp_path / "repo", {**redis_place, "skip_dedup": True}))
    with FeatureStore(folder) as store, FeatureStore(folder) as other:
        load(store)
        # What the first one has read is old when it makes the vector.
        between = Between(store._store, after_read=lambda: other.push("a_push", rows_a(["u1"], 2, 50)))
        store._vectors = Vectors(between, store._options)
        store.push("a_push", rows_a(["u1"], 1, 50))
        agrees(other, "one", users("u1"))
        assert b'"values":[2]' in answers(other, "one", users("u1"))


BUILDS_UNTIL_KILLED = """\
import sys, threading
from fastserve import FeatureStore
from fastserve.progress import NoProgress

class Stuck(NoProgress):
    def view(self, name):
        found = super().view(name)
        found.advance = lambda count: (print("at work", flush=True), threading.Event().wait())
        return found

FeatureStore(sys.argv[1]).precompute_feature_service("one", batch_size=1, progress=Stuck())
"""


def test_a_build_that_is_killed_leaves_the_old_vectors(store: FeatureStore) -> None:
    load(store)
    before = store.vector_status("one").marker
    command = [sys.executable, "-c", BUILDS_UNTIL_KILLED, str(store.repo_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "at work\n"
        builder.kill()
    assert builder.returncode == -signal.SIGKILL
    marker = store.vector_status("one").marker
    assert (marker.current, marker.building is None) == (before.current, False)
    with FeatureStore(store.repo_path) as reader:
        agrees(reader, "one", users(*USERS))
        store.push("b_push", rows_b(["u1", "new"], 3.5, 60))
        agrees(reader, "one", users(*USERS, "new"))
        assert store.precompute_feature_service("one") == len(USERS) + 1
        assert store.vector_status("one").marker.building is None
        agrees(reader, "one", users(*USERS, "new"))


def test_a_view_that_is_new_is_built_ahead(store: FeatureStore, repo: Path) -> None:
    load(store)
    new = 'd = view("d", [user], key, Field(name="q", dtype=Int64))\n'
    change(repo, "\none = ", f"\n{new}one = ")
    change(repo, "features=[a, b]", "features=[a, b, d, c]")
    write_file(repo, "d", {"user_id": USERS, "q": list(range(len(USERS)))})
    assert store.precompute_feature_service("one", ahead=True) == 2 * len(USERS)
    rows = [{"user_id": "u1", "shop_id": 1}, {"user_id": "nobody", "shop_id": 2}]
    agrees(store, "one", users("u1", "nobody"))
    store.push("a_push", rows_a(["u1"], 5, 50))
    assert {found.name: found.note for found in store.apply_repo()}["one"] == ""
    agrees(store, "one", rows)
    store.push("d_push", {"user_id": ["u1"], "q": [7], "ts": [at(60)]})
    agrees(store, "one", rows)
    assert b'"values":[7,null]' in answers(store, "one", rows)


def test_a_build_that_is_interrupted_leaves_the_old_vectors(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(store)
    before = store.vector_status("one").marker
    reads: list[object] = []
    whole = type(store._store).read

    def failing(self: Any, batch: Any) -> None:
        reads.append(batch)
        if len(reads) == 2:
            raise StoreError("went away")
        whole(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(type(store._store), "read", failing)
        with pytest.raises(StoreError, match="went away"):
            store.precompute_feature_service("one", batch_size=2)
    marker = store.vector_status("one").marker
    assert marker.current == before.current
    assert marker.building is not None
    store.push("b_push", rows_b(["u1"], 3.5, 60))
    agrees(store, "one", users("u1", "u2"))
    store.precompute_feature_service("one")
    assert store.vector_status("one").marker.building is None
    agrees(store, "one", users("u1", "u2"))


def test_of_two_builds_the_later_one_stands(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    load(store)
    with FeatureStore(store.repo_path) as other:
        builder = store._vectors
        fill = builder._fill

        def slow(*arguments: Any) -> int:
            count = fill(*arguments)
            assert other.precompute_feature_service("one") == len(USERS)
            return count

        monkeypatch.setattr(builder, "_fill", slow)
        with pytest.raises(VectorError, match="another build"):
            store.precompute_feature_service("one")
        agrees(store, "one", users("u1"))
        assert store.vector_status("one").stored == len(USERS)


def test_a_reader_follows_to_other_vectors(store: FeatureStore) -> None:
    load(store)
    with FeatureStore(store.repo_path) as reader:
        agrees(reader, "one", users("u1"))
        for x in range(3):
            store.push("a_push", rows_a(["u1"], x, 100 + x))
            store.precompute_feature_service("one")
            assert answers(reader, "one", users("u1", "nobody")) == plainly(store, "one", users("u1", "nobody"))
        store.drop_vectors("one")
        has_none(reader)


def test_the_background_finds_other_vectors(store: FeatureStore) -> None:
    load(store)
    with FeatureStore(store.repo_path) as reader:
        plan = reader.plan(reader.get_feature_service("one"))
        reader._refresher.look()
        assert reader.plan(reader.get_feature_service("one")) is plan
        store.precompute_feature_service("one")
        reader._refresher.look()
        assert reader.plan(reader.get_feature_service("one")) is not plan


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["drop", "delete", "flag", "teardown"])
def test_nothing_is_left(redis_place: dict[str, Any], empty_redis: RedisServer, tmp_path: Path, way: str) -> None:
    folder = applied(write_vector_repo(tmp_path / "repo", redis_place))
    with FeatureStore(folder) as store, empty_redis.client() as client:
        load(store)
        assert len(vector_keys(client)) == len(USERS)
        if way == "drop":
            store.drop_vectors("one")
        elif way == "delete":
            store.delete_feature_service("one")
        elif way == "flag":
            change(folder, ", precompute_online=True", "")
            store.apply_repo()
            assert answers(store, "one", users("u1")) == plainly(store, "one", users("u1"))
        else:
            store.teardown()
        assert set(client.scan_iter("fsv:*")) == {b"fsv:epoch:p"}


def test_sqlite_forgets_vectors_too(tmp_path: Path) -> None:
    folder = applied(write_vector_repo(tmp_path / "repo", {"type": "sqlite", "path": "data/online.db"}))
    with FeatureStore(folder) as store:
        load(store)
        store.precompute_feature_service("one")
        assert store.vector_status("one").stored == len(USERS)
        store.delete_feature_service("one")
        assert store._vectors.services() == []
        store.teardown()
        assert store._vectors.services() == []


def test_keys_that_expire_take_their_vectors_with_them(
    redis_place: dict[str, Any], empty_redis: RedisServer, tmp_path: Path
) -> None:
    folder = applied(write_vector_repo(tmp_path / "repo", {**redis_place, "key_ttl_seconds": 1000}, DEFINITIONS))
    with FeatureStore(folder) as store, empty_redis.client() as client:
        load(store)
        assert all(0 < client.ttl(key) <= 1000 for key in vector_keys(client))
        (key,) = [key for key in vector_keys(client) if key.endswith(b"u1")]
        client.expire(key, 10)
        store.push("b_push", rows_b(["u2"], 1.5, 70))
        assert client.ttl(key) <= 10
        change(folder, "features=[a, b]", "features=[a]")
        store.apply_repo()
        store.precompute_feature_service("one")
        (key,) = [key for key in vector_keys(client) if key.endswith(b"u1")]
        client.expire(key, 10)
        store.push("b_push", rows_b(["u1"], 1.5, 70))
        assert client.ttl(key) > 10, "the hash lives on, so the vector must"


def test_rows_that_overwrite_newer_ones(redis_place: dict[str, Any], tmp_path: Path) -> None:
    folder = applied(write_vector_repo(tmp_path / "repo", {**redis_place, "skip_dedup": True}))
    with FeatureStore(folder) as store:
        load(store)
        store.push("a_push", rows_a(["u1"], 55, -9))
        agrees(store, "one", users("u1", "u2"))


def test_views_computed_when_read_have_no_vectors(bank_repo: Path) -> None:
    with FeatureStore(bank_repo) as store:
        with pytest.raises(NotSupportedError, match="odfv_svc has views that are computed when they are read"):
            store.precompute_feature_service("odfv_svc")


# --- formats ---------------------------------------------------------------------------------------------------------


def test_feasts_format_is_refused_where_it_cannot_be(place: dict[str, Any], tmp_path: Path) -> None:
    folder = write_vector_repo(tmp_path / "repo", place, DEFINITIONS + MORE_SERVICES, vector_format="feast")
    with FeatureStore(folder) as store:
        for dry_run in (True, False):
            with pytest.raises(
                ValueError, match=r"FeatureService mixed: precompute_online .* different join keys: user_id"
            ):
                store.apply_repo(dry_run=dry_run)
        assert store.list_feature_services() == []
        change(folder, MORE_SERVICES, "")
        store.apply_repo()
        write_config(folder, place)
    applied(folder)


def test_a_marker_is_what_was_written(store: FeatureStore) -> None:
    load(store)
    marker = store.vector_status("one").marker
    assert Marker.parse("one", marker.to_bytes()) == marker
    assert marker.current is not None
    assert marker.current.count == len(USERS)
