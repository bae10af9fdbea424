"""What every store does alike. `place` and `store` come once for each kind of store; see places.py."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import pytest

from fastserve._core import ReadPlan, json_response, python_columns
from fastserve.errors import DecodeError, StoreError
from fastserve.stores import Store
from tests.conftest import Rand
from tests.reference import BYTES, INT32, INT64, STRING, UNIX_TIMESTAMP
from tests.stores.conftest import Keep
from tests.stores.content import TIME, Answer, Row, View, batch_of, expected, plan, read
from tests.stores.forks import in_child
from tests.stores.places import Place

PROFILE = View("customer_profile", ("age", "income"))
SPENDING = View("txn_7d", ("total", "count", "largest"))
ACCOUNT = View("account_balance", ("balance",), ("account_id",), (INT64,))
PAIR = View("account_merchant", ("spend", "visits"), ("merchant_id", "account_id"), (STRING, INT64))
RATES = View("fx_rates", ("eur_usd",), (), ())

PROFILES = [
    Row(("C1",), {"age": 41, "income": 83000}, TIME),
    Row(("C2",), {"age": None, "income": -1}, TIME + 60),
    Row(("C3",), {"age": 0}, TIME + 120),
]


class TestRows:
    """Row i of the answer is row i of the request."""

    def test_known_unknown_and_duplicate_entities(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES)
        answer = read(store, plan([PROFILE]), customer_id=["C2", "nobody", "C1", "C2", "C3", "nobody"])
        assert answer.values["customer_profile:income"] == [-1, None, 83000, -1, None, None]
        assert answer.statuses["customer_profile:income"] == [
            "PRESENT", "NOT_FOUND", "PRESENT", "PRESENT", "NOT_FOUND", "NOT_FOUND",
        ]  # fmt: skip
        assert answer.times["customer_profile:income"] == [TIME + 60, 0, TIME, TIME + 60, TIME + 120, 0]

    def test_null_and_absent_features(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES)
        answer = read(store, plan([PROFILE]), customer_id=["C1", "C2", "C3"])
        assert answer.values == {"customer_profile:age": [41, None, 0], "customer_profile:income": [83000, -1, None]}
        assert answer.statuses == {
            "customer_profile:age": ["PRESENT", "NULL_VALUE", "PRESENT"],
            "customer_profile:income": ["PRESENT", "PRESENT", "NOT_FOUND"],
        }

    def test_a_row_without_the_one_feature_asked_for_has_its_event_time(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES)
        new = PROFILE._replace(features=("added_later",))
        assert read(store, plan([new]), customer_id=["C3", "nobody"]) == Answer(
            {"customer_profile:added_later": [None, None]},
            {"customer_profile:added_later": ["NOT_FOUND", "NOT_FOUND"]},
            {"customer_profile:added_later": [TIME + 120, 0]},
        )

    def test_event_time_is_that_of_the_last_write(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES)
        place.write(PROFILE, [Row(("C1",), {"income": 84000}, TIME + 3600)])
        answer = read(store, plan([PROFILE]), customer_id=["C1"])
        assert answer.times == {"customer_profile:age": [TIME + 3600], "customer_profile:income": [TIME + 3600]}

    @pytest.mark.parametrize("time", [0, 1, -1, -2208988800, TIME, 4102444800])
    def test_event_times(self, place: Place, store: Store, time: int) -> None:
        place.write(PROFILE, [Row(("C1",), {"age": 1, "income": 2}, time)])
        assert read(store, plan([PROFILE]), customer_id=["C1"]).times["customer_profile:age"] == [time]

    def test_ttl(self, place: Place, store: Store) -> None:
        now = int(datetime.now(timezone.utc).timestamp())
        place.write(ACCOUNT, [Row((1,), {"balance": 10}, now - 10), Row((2,), {"balance": 20}, now - 7200)])
        answer = read(store, plan([ACCOUNT], ttl=3600), account_id=[1, 2, 3])
        assert answer.values["account_balance:balance"] == [10, 20, None]
        assert answer.statuses["account_balance:balance"] == ["PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"]

    def test_zero_rows(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES)
        assert read(store, plan([PROFILE, ACCOUNT]), customer_id=[], account_id=[]) == expected(
            [(PROFILE, []), (ACCOUNT, [])], 0
        )

    def test_only_unknown_entities(self, place: Place, store: Store) -> None:
        place.write(PROFILE, [])
        answer = read(store, plan([PROFILE]), customer_id=["C1", "C2"])
        assert answer == expected([(PROFILE, [])], customer_id=["C1", "C2"])


class TestViews:
    def test_several_views_of_one_key(self, place: Place, store: Store) -> None:
        spending = [Row(("C2",), {"total": 5, "count": 1, "largest": None}, TIME - 1)]
        place.write(PROFILE, PROFILES)
        place.write(SPENDING, spending)
        keys = {"customer_id": ["C1", "C2", "nobody"]}
        answer = read(store, plan([SPENDING, PROFILE]), **keys)
        assert answer == expected([(SPENDING, spending), (PROFILE, PROFILES)], **keys)

    def test_a_view_without_rows_beside_one_that_has_them(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES)
        place.write(SPENDING, [])
        answer = read(store, plan([PROFILE, SPENDING]), customer_id=["C1"])
        assert answer.values["customer_profile:age"] == [41]
        assert answer.statuses["txn_7d:count"] == ["NOT_FOUND"]
        assert answer.times["txn_7d:count"] == [0]

    def test_views_whose_names_begin_alike(self, place: Place, store: Store) -> None:
        views = [View(name, ("x",)) for name in ("prof", "prof_v1", "prof_v2")]
        for number, view in enumerate(views):
            place.write(view, [Row(("C1",), {"x": number}, TIME + number)])
        answer = read(store, plan(views), customer_id=["C1"])
        assert answer.values == {"prof:x": [0], "prof_v1:x": [1], "prof_v2:x": [2]}
        assert answer.times == {"prof:x": [TIME], "prof_v1:x": [TIME + 1], "prof_v2:x": [TIME + 2]}

    def test_several_groups(self, place: Place, store: Store) -> None:
        accounts = [Row((7,), {"balance": 100}), Row((-8,), {"balance": 0})]
        pairs = [Row(("M1", 7), {"spend": 3, "visits": 1}), Row(("M2", -8), {"spend": None, "visits": 2})]
        rates = [Row((), {"eur_usd": 109})]
        content = [(PROFILE, PROFILES), (ACCOUNT, accounts), (PAIR, pairs), (RATES, rates)]
        for view, rows in content:
            place.write(view, rows)
        keys: dict[str, list[Any]] = {
            "customer_id": ["C1", "C9", "C1", "C2"],
            "account_id": [7, 7, -8, 9],
            "merchant_id": ["M1", "M2", "M2", "M1"],
        }
        for order in (content, content[::-1]):
            assert read(store, plan([view for view, _ in order]), **keys) == expected(order, **keys)

    def test_entityless_view(self, place: Place, store: Store) -> None:
        place.write(RATES, [Row((), {"eur_usd": 109}, TIME + 5)])
        answer = read(store, plan([RATES]), n_rows=3)
        assert answer == Answer(
            {"fx_rates:eur_usd": [109] * 3}, {"fx_rates:eur_usd": ["PRESENT"] * 3}, {"fx_rates:eur_usd": [TIME + 5] * 3}
        )
        assert read(store, plan([RATES]), n_rows=0) == expected([(RATES, [])], 0)

    def test_wide_view(self, place: Place, store: Store) -> None:
        view = View("wide", [f"f{i}" for i in range(400)], ("account_id",), (INT64,))
        rows = [Row((key,), {name: key * 1000 + i for i, name in enumerate(view.features)}) for key in range(5)]
        place.write(view, rows)
        keys = {"account_id": [4, 0, 2]}
        assert read(store, plan([view]), **keys) == expected([(view, rows)], **keys)

    def test_feature_order_is_free(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES)
        turned = PROFILE._replace(features=("income", "age"))
        assert read(store, plan([turned]), customer_id=["C1"]) == expected([(turned, PROFILES)], customer_id=["C1"])

    @pytest.mark.parametrize("name", ['quo"ted', "spa ce", "名:é", "semi;colon--", "per%cent", "*?[x]"])
    def test_names_with_special_characters(self, place: Place, store: Store, name: str) -> None:
        view = View(name, (name, "x"), (name,))
        rows = [Row((name,), {name: 1, "x": 2})]
        place.write(view, rows)
        assert read(store, plan([view]), **{name: [name]}) == expected([(view, rows)], **{name: [name]})


class TestKeys:
    @pytest.mark.parametrize(
        ("value_type", "keys"),
        [
            (STRING, ["", "C1", "é名", "x" * 5000, "a\x00b"]),
            (BYTES, [b"", b"\x00\xff\r\n", b"C1"]),
            (INT32, [0, -1, 2**31 - 1, -(2**31)]),
            (INT64, [0, -1, 2**63 - 1, -(2**63), 7]),
            (UNIX_TIMESTAMP, [0, TIME, -1]),
        ],
    )
    @pytest.mark.parametrize("version", [2, 3])
    def test_types_and_versions(
        self, place: Place, store: Store, value_type: int, keys: list[Any], version: int
    ) -> None:
        view = View("typed", ("x",), ("key",), (value_type,))
        rows = [Row((key,), {"x": number}) for number, key in enumerate(keys)]
        place.write(view, rows, version)
        asked = {"key": [*keys, keys[0]]}
        assert read(store, plan([view], version), **asked) == expected([(view, rows)], **asked)

    @pytest.mark.parametrize("version", [2, 3])
    def test_several_join_keys(self, place: Place, store: Store, version: int) -> None:
        rows = [Row(("M1", 7), {"spend": 1, "visits": 2}), Row(("M2", 7), {"spend": 3})]
        place.write(PAIR, rows, version)
        keys: dict[str, list[Any]] = {"account_id": [7, 7, 8], "merchant_id": ["M2", "M1", "M1"]}
        assert read(store, plan([PAIR], version), **keys) == expected([(PAIR, rows)], **keys)

    def test_rows_of_another_version_are_not_found(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES, version=2)
        assert read(store, plan([PROFILE]), customer_id=["C1"]) == expected([(PROFILE, [])], customer_id=["C1"])

    def test_rows_of_another_project_are_not_found(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES, project="another")
        place.write(PROFILE, PROFILES[:1])
        asked = {"customer_id": ["C1", "C2"]}
        assert read(store, plan([PROFILE]), **asked) == expected([(PROFILE, PROFILES[:1])], **asked)

    def test_keys_of_another_type_are_not_found(self, place: Place, store: Store) -> None:
        text = ACCOUNT._replace(types=(STRING,))
        place.write(text, [Row(("7",), {"balance": 1})])
        assert read(store, plan([ACCOUNT]), account_id=[7]) == expected([(ACCOUNT, [])], account_id=[7])


class TestLargeBatches:
    def test_40_000_keys(self, place: Place, store: Store) -> None:
        rows = [Row((key,), {"balance": key}, TIME + key % 7) for key in range(0, 40_000, 2)]
        place.write(ACCOUNT, rows)
        keys = list(range(40_000))
        assert read(store, plan([ACCOUNT]), account_id=keys) == expected([(ACCOUNT, rows)], account_id=keys)

    def test_20_000_rows_with_duplicates_in_two_groups(self, place: Place, store: Store, rand: Rand) -> None:
        rows = [Row((key,), {"balance": key}) for key in range(6_000)]
        place.write(ACCOUNT, rows)
        place.write(PROFILE, PROFILES)
        keys: dict[str, list[Any]] = {
            "account_id": [rand.randrange(7_000) for _ in range(20_001)],
            "customer_id": [rand.choice(["C1", "C2", "C3", "C4"]) for _ in range(20_001)],
        }
        answer = read(store, plan([ACCOUNT, PROFILE]), **keys)
        assert answer == expected([(ACCOUNT, rows), (PROFILE, PROFILES)], **keys)

    def test_large_values(self, place: Place, store: Store) -> None:
        large = b"\x12" + b"\x80\x80\x80\x01" + b"x" * (1 << 21)
        place.write(ACCOUNT, [Row((key,), {"balance": large}) for key in range(4)])
        assert (
            read(store, plan([ACCOUNT]), account_id=[0, 3]).values["account_balance:balance"] == ["x" * (1 << 21)] * 2
        )


class TestFailures:
    def test_failure_is_an_error_and_never_not_found(self, place: Place, keep: Keep) -> None:
        batch = batch_of(plan([PROFILE]), customer_id=["C1", "C2"])
        with pytest.raises(StoreError):
            keep(place.open_failing()).read(batch)

    def test_nothing_to_ask_for_needs_no_store(self, place: Place, keep: Keep) -> None:
        store = keep(place.open_failing())
        assert read(store, plan([PROFILE]), customer_id=[]) == expected([(PROFILE, [])], 0)
        only_computed = ReadPlan([], [], join_keys={}, required={})
        store.read(batch_of(only_computed, n_rows=3))

    @pytest.mark.parametrize("stored", [b"\xff", b"\x20", b"\x12\x05abc"])
    def test_bytes_that_are_no_value(self, place: Place, store: Store, stored: bytes) -> None:
        place.write(PROFILE, [PROFILES[0], Row(("C5",), {"age": stored, "income": 1})])
        batch = batch_of(plan([PROFILE]), customer_id=["C1", "C5"])
        store.read(batch)
        with pytest.raises(DecodeError) as caught:
            python_columns(batch)
        assert caught.value.field == "customer_profile:age"
        assert caught.value.key == batch.entity_keys(0)[1].hex()

    def test_a_failed_batch_does_not_spoil_the_next(self, place: Place, store: Store) -> None:
        place.write(PROFILE, [PROFILES[0], Row(("C5",), {"age": b"\xff", "income": 1})])
        with pytest.raises(DecodeError):
            read(store, plan([PROFILE]), customer_id=["C5"])
        assert read(store, plan([PROFILE]), customer_id=["C1"]).values["customer_profile:age"] == [41]


class TestLife:
    def test_writes_between_reads_are_seen(self, place: Place, store: Store) -> None:
        for number in range(5):
            place.write(ACCOUNT, [Row((1,), {"balance": number}, TIME + number)])
            answer = read(store, plan([ACCOUNT]), account_id=[1])
            assert answer.values["account_balance:balance"] == [number]
            assert answer.times["account_balance:balance"] == [TIME + number]

    def test_close_then_read(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES)
        store.close()
        for _ in range(2):
            assert read(store, plan([PROFILE]), customer_id=["C1"]).values["customer_profile:age"] == [41]
            store.close()
            store.close()

    def test_a_store_that_nobody_closes_gives_no_warning(self, place: Place) -> None:
        place.write(PROFILE, PROFILES)
        read(place.open(), plan([PROFILE]), customer_id=["C1"])  # a ResourceWarning would fail the test

    def test_threads(self, place: Place, store: Store) -> None:
        rows = [Row((key,), {"balance": key}) for key in range(800)]
        place.write(ACCOUNT, rows)
        accounts = plan([ACCOUNT])
        start = threading.Barrier(8)

        def work(thread: int) -> None:
            start.wait()
            for turn in range(50):
                keys = list(range(thread * 100 + turn, thread * 100 + turn + 5))
                answer = read(store, accounts, account_id=keys)
                assert answer.values["account_balance:balance"] == [key if key < 800 else None for key in keys]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))

    def test_close_while_others_read(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES)

        def work(_: int) -> None:
            for _ in range(50):
                assert read(store, plan([PROFILE]), customer_id=["C1"]).values["customer_profile:age"] == [41]

        with ThreadPoolExecutor(4) as pool:
            reading = pool.map(work, range(4))
            for _ in range(100):
                store.close()
            list(reading)

    def test_fork(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES)

        def ages() -> list[Any]:
            return read(store, plan([PROFILE]), customer_id=["C1", "C2", "C3"]).values["customer_profile:age"]

        assert ages() == [41, None, 0]
        assert in_child(lambda: [ages() for _ in range(20)]) == [[41, None, 0]] * 20
        assert ages() == [41, None, 0]

    def test_fork_of_a_child_and_close_in_it(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES)
        profiles = plan([PROFILE])
        read(store, profiles, customer_id=["C1"])

        def child() -> list[Any]:
            store.close()
            grandchild = in_child(lambda: read(store, profiles, customer_id=["C1"]).values["customer_profile:age"])
            return [grandchild, os.getppid()]

        assert in_child(child) == [[41], os.getpid()]
        assert read(store, profiles, customer_id=["C3"]).values["customer_profile:age"] == [0]


class TestAgreement:
    """All stores say the same, to the byte."""

    def test_random_content(self, places: dict[str, Place], keep: Keep, rand: Rand) -> None:
        views = [PROFILE, SPENDING, ACCOUNT, PAIR, RATES]
        content = [(view, _random_rows(view, rand)) for view in views]
        for kind in places.values():
            for view, rows in content:
                kind.write(view, rows)
        stores = [keep(kind.open()) for kind in places.values()]
        for _ in range(40):
            some = rand.sample(content, rand.randint(1, len(content)))
            keys = _random_keys([view for view, _ in some], rand)
            n_rows = len(next(iter(keys.values()), [None]))
            asked = plan([view for view, _ in some], ttl=rand.choice([0, 86400]))
            answers = []
            for store in stores:
                batch = batch_of(asked, n_rows, **keys)
                store.read(batch)
                answers.append(json_response(batch))
            assert answers[1:] == answers[:-1]
            assert read(stores[0], plan([view for view, _ in some]), n_rows, **keys) == expected(some, n_rows, **keys)


POOLS: dict[str, list[Any]] = {
    "customer_id": ["C1", "C2", "C3", ""],
    "account_id": [0, -1, 2**63 - 1],
    "merchant_id": ["M1", "é"],
}


def _random_rows(view: View, rand: Rand) -> list[Row]:
    """Up to eight rows, later ones newer, some with the key of an earlier one."""
    rows = []
    for i in range(rand.randint(0, 8)):
        key = tuple(rand.choice(POOLS[name]) for name in view.join_keys)
        some = [name for name in view.features if rand.random() < 0.8] or view.features[:1]
        rows.append(Row(key, {name: rand.choice([None, 0, -5, 2**40]) for name in some}, TIME + i))
    return rows


def _random_keys(views: list[View], rand: Rand) -> dict[str, list[Any]]:
    names = {name for view in views for name in view.join_keys}
    n_rows = rand.randint(1, 12)
    return {name: [rand.choice([*POOLS[name], _unknown(name)]) for _ in range(n_rows)] for name in sorted(names)}


def _unknown(name: str) -> Any:
    return 12345 if name == "account_id" else "nobody"


class TestCheck:
    """Whether a store answers, without reading anything of it."""

    def test_one_that_answers(self, place: Place, store: Store) -> None:
        place.write(PROFILE, PROFILES)
        assert not any(store.usage().values())
        store.check()
        read(store, plan([PROFILE]), customer_id=["C1"])
        store.check()
        assert store.usage() == {"open": 1, "idle": 1, "in_flight": 0, "waiting": 0}

    def test_one_that_does_not(self, place: Place, keep: Keep) -> None:
        failing = keep(place.open_failing())
        with pytest.raises(StoreError):
            failing.check()
        assert not any(failing.usage().values())
