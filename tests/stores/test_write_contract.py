"""What every store does alike when it is written to. `place` and `store` come once for each kind of store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fastserve.errors import StoreError
from fastserve.stores import Store
from tests.conftest import Rand
from tests.reference import INT64, STRING
from tests.stores.conftest import Keep
from tests.stores.content import TIME, Answer, Row, View, expected, plan, read
from tests.stores.forks import in_child
from tests.stores.places import Place
from tests.stores.writing import rows_of, write_plan

PROFILE = View("customer_profile", ("age", "income"))
SPENDING = View("txn_7d", ("total",))
PAIR = View("account_merchant", ("spend", "visits"), ("merchant_id", "account_id"), (STRING, INT64))
RATES = View("fx_rates", ("eur_usd",), (), ())

PROFILES = [
    Row(("C1",), {"age": 41, "income": 83000}, TIME),
    Row(("C2",), {"age": None, "income": -1}, TIME + 60),
]


@pytest.fixture(autouse=True)
def created(store: Store) -> None:
    store.create([write_plan(view) for view in (PROFILE, SPENDING, PAIR, RATES)])


def profile(store: Store, *ids: str) -> Answer:
    return read(store, plan([PROFILE]), customer_id=list(ids))


def one(age: int | None, income: int | None, time: int) -> list[Row]:
    return [Row(("C1",), {"age": age, "income": income}, time)]


def test_what_is_written_is_read(store: Store) -> None:
    assert store.write(rows_of(PROFILE, PROFILES)) == 2
    assert profile(store, "C2", "nobody", "C1") == expected([(PROFILE, PROFILES)], customer_id=["C2", "nobody", "C1"])


def test_several_join_keys_and_none(store: Store) -> None:
    pairs = [Row(("M1", 7), {"spend": 1, "visits": 2}), Row(("M2", -7), {"spend": None, "visits": 3})]
    assert store.write(rows_of(PAIR, pairs)) == 2
    asked = {"merchant_id": ["M2", "M1", "M1"], "account_id": [-7, 7, -7]}
    assert read(store, plan([PAIR]), **asked) == expected([(PAIR, pairs)], **asked)
    rates = [Row((), {"eur_usd": 109})]
    assert store.write(rows_of(RATES, rates)) == 1
    assert read(store, plan([RATES]), 2) == expected([(RATES, rates)], 2)


def test_views_of_one_entity_do_not_touch_one_another(store: Store) -> None:
    spending = [Row(("C1",), {"total": 5}, TIME - 1000)]
    store.write(rows_of(PROFILE, PROFILES))
    store.write(rows_of(SPENDING, spending))
    answer = read(store, plan([PROFILE, SPENDING]), customer_id=["C1", "C2"])
    assert answer == expected([(PROFILE, PROFILES), (SPENDING, spending)], customer_id=["C1", "C2"])


def test_only_what_is_newer_is_applied(store: Store) -> None:
    assert store.write(rows_of(PROFILE, one(1, 1, TIME))) == 1
    assert store.write(rows_of(PROFILE, one(2, 2, TIME - 1))) == 0
    assert store.write(rows_of(PROFILE, one(3, 3, TIME))) == 0
    assert profile(store, "C1") == expected([(PROFILE, one(1, 1, TIME))], customer_id=["C1"])
    assert store.write(rows_of(PROFILE, one(None, 4, TIME + 1))) == 1
    assert profile(store, "C1") == expected([(PROFILE, one(None, 4, TIME + 1))], customer_id=["C1"])


@pytest.mark.parametrize("first, second", [(-5, -4), (-1, 0), (0, 1), (-62135596800, 253402300799), (2**31, 2**35)])
def test_any_time_is_older_than_a_later_one(store: Store, first: int, second: int) -> None:
    assert store.write(rows_of(PROFILE, one(1, 1, first))) == 1
    assert store.write(rows_of(PROFILE, one(2, 2, second))) == 1
    assert store.write(rows_of(PROFILE, one(3, 3, first))) == 0
    assert profile(store, "C1").values["customer_profile:age"] == [2]


def test_absent_features_are_filled_in_at_an_equal_time(store: Store) -> None:
    old = PROFILE._replace(features=("age",))
    store.write(rows_of(old, [Row(("C1",), {"age": 1}, TIME)]))
    assert store.write(rows_of(PROFILE, one(2, 20, TIME - 1))) == 0
    assert store.write(rows_of(PROFILE, one(3, 30, TIME))) == 1
    assert store.write(rows_of(PROFILE, one(4, 40, TIME))) == 0
    assert profile(store, "C1") == expected([(PROFILE, one(1, 30, TIME))], customer_id=["C1"])


def test_features_that_a_row_lacks_keep_their_values(store: Store) -> None:
    store.write(rows_of(PROFILE, one(1, 10, TIME)))
    store.write(rows_of(PROFILE._replace(features=("age",)), [Row(("C1",), {"age": 2}, TIME + 1)]))
    answer = profile(store, "C1")
    assert answer.values == {"customer_profile:age": [2], "customer_profile:income": [10]}
    assert answer.times["customer_profile:age"] == [TIME + 1]


def test_of_several_rows_of_a_key_the_newest_counts(store: Store) -> None:
    times = [0.25, 3.0, 1.5, 3.25, 3.0, 3.25, 2.0]
    rows = [Row(("C1",), {"age": i, "income": i}, TIME + time) for i, time in enumerate(times)]  # type: ignore[arg-type]
    store.write(rows_of(PROFILE, rows))
    assert profile(store, "C1").values["customer_profile:age"] == [3]


@pytest.mark.parametrize("n", [0, 1, 64, 65, 2000])
def test_any_number_of_rows(store: Store, n: int) -> None:
    rows = [Row((f"C{i}",), {"age": i, "income": None if i % 3 else -i}, TIME + i) for i in range(n)]
    assert store.write(rows_of(PROFILE, rows)) == n
    ids = [f"C{i}" for i in range(n + 1)]
    assert profile(store, *ids) == expected([(PROFILE, rows)], customer_id=ids)


def test_writing_the_same_rows_again(store: Store) -> None:
    rows = rows_of(PROFILE, PROFILES)
    assert store.write(rows) == 2
    store.write(rows)
    assert store.write(rows_of(PROFILE, PROFILES)) == 0
    assert profile(store, "C1", "C2") == expected([(PROFILE, PROFILES)], customer_id=["C1", "C2"])


def test_random_writes_in_any_order(store: Store, rand: Rand) -> None:
    """Every key ends with its newest row, whatever the order and however they are spread over writes."""
    rows = [Row((f"C{i % 20}",), {"age": i, "income": -i}, TIME + i) for i in range(200)]
    newest = rows[-20:]
    rand.shuffle(rows)
    while rows:
        size = rand.randint(1, 40)
        store.write(rows_of(PROFILE, rows[:size]))
        rows = rows[size:]
    ids = [f"C{i}" for i in range(20)]
    assert profile(store, *ids) == expected([(PROFILE, newest)], customer_id=ids)


def test_eight_writers_at_once(place: Place, keep: Keep, rand: Rand) -> None:
    """Interleaved event times for the same keys: the newest wins everywhere, and no row is in part another's."""
    stores = [keep(place.open()) for _ in range(8)]

    def write(number: int) -> None:
        for step in range(12):
            time = TIME + step * 8 + number
            rows = [Row((f"C{i}",), {"age": time, "income": -time}, time) for i in range(100)]
            stores[number].write(rows_of(PROFILE, rows))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, rand.sample(range(8), 8)))
    last = TIME + 11 * 8 + 7
    answer = profile(stores[0], *(f"C{i}" for i in range(100)))
    assert set(answer.values["customer_profile:age"]) == {last}
    assert set(answer.values["customer_profile:income"]) == {-last}
    assert set(answer.times["customer_profile:age"]) == {last}


def test_readers_see_whole_rows_while_writing(place: Place, keep: Keep) -> None:
    reader, writer = keep(place.open()), keep(place.open())
    writer.write(rows_of(PROFILE, one(0, 0, TIME)))

    def write() -> None:
        for i in range(1, 200):
            writer.write(rows_of(PROFILE, one(i, -i, TIME + i)))

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(write)
        while not done.done():
            answer = profile(reader, "C1")
            [age], [income] = answer.values["customer_profile:age"], answer.values["customer_profile:income"]
            assert age == -income
            assert answer.times["customer_profile:age"] == [TIME + age]
        done.result()


def test_writing_after_a_fork(store: Store) -> None:
    store.write(rows_of(PROFILE, one(1, 1, TIME)))
    assert in_child(lambda: store.write(rows_of(PROFILE, one(2, 2, TIME + 1)))) == 1
    assert store.write(rows_of(PROFILE, one(3, 3, TIME + 1))) == 0
    assert profile(store, "C1").values["customer_profile:age"] == [2]


def test_old_entity_keys(store: Store) -> None:
    store.write(rows_of(PROFILE, PROFILES, version=2))
    assert read(store, plan([PROFILE], version=2), customer_id=["C1"]).values["customer_profile:age"] == [41]
    assert profile(store, "C1").values["customer_profile:age"] == [None]


def test_versions_of_a_view_are_views(store: Store) -> None:
    second = PROFILE._replace(name="customer_profile_v2")
    store.create([write_plan(second)])
    store.write(rows_of(PROFILE, one(1, 1, TIME)))
    store.write(rows_of(second, one(2, 2, TIME - 5)))
    answer = read(store, plan([PROFILE, second]), customer_id=["C1"])
    assert (answer.values["customer_profile:age"], answer.values["customer_profile_v2:age"]) == ([1], [2])


def test_create_keeps_what_is_there(store: Store) -> None:
    store.write(rows_of(PROFILE, PROFILES))
    store.create([write_plan(PROFILE)])
    store.create([])
    assert profile(store, "C1").values["customer_profile:age"] == [41]


def test_drop(store: Store) -> None:
    store.write(rows_of(PROFILE, PROFILES))
    store.write(rows_of(SPENDING, [Row(("C1",), {"total": 5})]))
    store.drop([write_plan(PROFILE)])
    store.drop([])
    assert read(store, plan([SPENDING]), customer_id=["C1"]).values["txn_7d:total"] == [5]
    store.create([write_plan(PROFILE)])
    assert profile(store, "C1").statuses["customer_profile:age"] == ["NOT_FOUND"]
    assert store.write(rows_of(PROFILE, one(1, 1, TIME - 1000))) == 1


def test_drop_and_teardown_of_nothing(store: Store) -> None:
    store.drop([write_plan(PROFILE)])
    store.drop([write_plan(PROFILE)])
    store.teardown([write_plan(PROFILE)])
    store.teardown([write_plan(PROFILE)])


def test_teardown(store: Store) -> None:
    plans = [write_plan(view) for view in (PROFILE, SPENDING, RATES)]
    store.write(rows_of(PROFILE, PROFILES))
    store.write(rows_of(RATES, [Row((), {"eur_usd": 109})]))
    assert profile(store, "C1").values["customer_profile:age"] == [41]
    store.teardown(plans)
    store.create(plans)
    assert profile(store, "C1").statuses["customer_profile:age"] == ["NOT_FOUND"]
    assert store.write(rows_of(PROFILE, one(1, 1, TIME - 1000))) == 1
    assert profile(store, "C1").values["customer_profile:age"] == [1]


def test_a_store_that_is_not_there(place: Place, keep: Keep) -> None:
    store = keep(place.open_failing())
    with pytest.raises(StoreError):
        store.write(rows_of(PROFILE, PROFILES))
    assert store.write(rows_of(PROFILE, [])) == 0
