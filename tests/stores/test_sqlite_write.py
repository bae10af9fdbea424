"""Writing to SQLite: what stands in the tables, and everything that can happen to the file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fastserve._core import WritePlan, encode_rows
from fastserve.errors import StoreError
from fastserve.stores import sqlite_write
from fastserve.stores.sqlite import SqliteStore
from tests import goldens, reference
from tests.core.arrow import TIME as TIME_TYPE
from tests.core.arrow import arrow_type
from tests.stores.conftest import Keep
from tests.stores.content import TIME, Row, View, entity_key
from tests.stores.forks import in_child
from tests.stores.writing import MICROS, rows_of, write_plan

PROFILE = View("customer_profile", ("age", "income"))
PROFILE_TABLE = "bank_customer_profile"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "online.db"


@pytest.fixture
def store(path: Path, keep: Keep) -> SqliteStore:
    store = SqliteStore(path, "bank")
    keep(store)
    store.create([write_plan(PROFILE)])
    return store


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, timeout=0)) as connection:
        yield connection


def table_of(path: Path, name: str = PROFILE_TABLE) -> list[Any]:
    with opened(path) as connection:
        return connection.execute(f'SELECT * FROM "{name}" ORDER BY 1, 2').fetchall()


def one(age: int | None, time: float = TIME, key: str = "C1") -> Row:
    return Row((key,), {"age": age, "income": None}, time)  # type: ignore[arg-type]


# --- what is stored --------------------------------------------------------------------------------------------------


def columns_of(rows: list[Any]) -> tuple[dict[bytes, dict[str, Any]], dict[str, int]]:
    """Entity key -> feature -> recorded row, and each feature's ValueType."""
    found: dict[bytes, dict[str, Any]] = {}
    types: dict[str, int] = {}
    for row in rows:
        found.setdefault(bytes.fromhex(row["entity_key_hex"]), {})[row["feature_name"]] = row
        value = reference.parse_value(bytes.fromhex(row["value_hex"]))
        if member := value.WhichOneof("val"):
            types[row["feature_name"]] = reference.FIELD_NUMBERS[member]
    return found, types


def cell_of(row: Any, value_type: int) -> Any:
    """The Python value of a recorded one that goes into an Arrow column."""
    raw = bytes.fromhex(row["value_hex"])
    value = reference.parse_value(raw)
    if not raw:
        return None
    held = getattr(value, value.WhichOneof("val"))
    if pa.types.is_list(arrow_type(value_type)):
        return list(held.val)
    return raw if arrow_type(value_type) == pa.binary() and value_type != reference.BYTES else held


@pytest.mark.parametrize("table", sorted(goldens.load("sqlite_online_store")["tables"]))
def test_what_feast_wrote(path: Path, keep: Keep, table: str) -> None:
    """The recorded tables, written by us from the recorded values."""
    golden = goldens.load("sqlite_online_store")["tables"][table]
    found, types = columns_of(golden["rows"])
    names, key_types, _ = reference.deserialize_entity_key(next(iter(found)))
    keys = [reference.deserialize_entity_key(key)[2] for key in found]
    plan = WritePlan(table.removeprefix("bank_"), names, key_types, types, types.values(), "bank")
    sample = [next(iter(row.values())) for row in found.values()]
    arrays = [
        *(pa.array([key[i] for key in keys], arrow_type(number)) for i, number in enumerate(key_types)),
        *(pa.array([cell_of(row[name], number) for row in found.values()], arrow_type(number))
          for name, number in types.items()),
        pa.array([row["event_ts"] * MICROS for row in sample], TIME_TYPE),
        pa.array([row["created_ts"] and row["created_ts"] * MICROS for row in sample], TIME_TYPE),
    ]  # fmt: skip
    batch = pa.RecordBatch.from_arrays(arrays, names=[str(i) for i in range(len(arrays))])
    store = SqliteStore(path, "bank")
    keep(store)
    store.create([plan])
    assert store.write(encode_rows(plan, batch, True)) == len(found)
    wanted = [
        (bytes.fromhex(row["entity_key_hex"]), row["feature_name"], bytes.fromhex(row["value_hex"]), row["value_text"],
         row["vector_value"], row["event_ts"], row["created_ts"])
        for row in golden["rows"]
    ]  # fmt: skip
    assert table_of(path, table) == sorted(wanted, key=lambda row: row[:2])


def test_tables_are_feasts(path: Path, store: SqliteStore) -> None:
    def columns(connection: sqlite3.Connection) -> list[Any]:
        pragmas = [f"table_info({PROFILE_TABLE})", f"index_info({PROFILE_TABLE}_ek)", f"index_list({PROFILE_TABLE})"]
        return [connection.execute(f"PRAGMA {pragma}").fetchall() for pragma in pragmas]

    recorded = goldens.build_sqlite(path.with_name("feast.db"))
    with opened(path) as ours, opened(recorded) as feasts:
        assert columns(ours) == columns(feasts)


def test_names_of_all_kinds(path: Path, keep: Keep) -> None:
    view = View('it\'s "odd"', ("a'b", 'c"d', "e?1", ""), ("k",), (reference.INT64,))
    store = SqliteStore(path, "bank")
    keep(store)
    store.create([write_plan(view)])
    assert store.write(rows_of(view, [Row((1,), {name: i for i, name in enumerate(view.features)})])) == 1
    found = table_of(path, 'bank_it\'s ""odd""')
    assert {row[1]: row[3] for row in found} == {"a'b": "0", 'c"d': "1", "e?1": "2", "": "3"}
    store.drop([write_plan(view)])


def test_tables_are_created_together_or_not_at_all(path: Path, store: SqliteStore) -> None:
    with opened(path) as connection:
        connection.execute("CREATE VIEW bank_second AS SELECT 1")  # which no index can be made on
    plans = [write_plan(View(name, ("age",))) for name in ("first", "second")]
    with pytest.raises(StoreError, match="views may not be indexed"):
        store.create(plans)
    with opened(path) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'bank_first'").fetchall()


@pytest.mark.parametrize("features", [199, 200, 201, 1000])
def test_wide_views(path: Path, keep: Keep, features: int) -> None:
    view = View("wide", [f"f{i}" for i in range(features)])
    store = SqliteStore(path, "bank")
    keep(store)
    store.create([write_plan(view)])
    rows = [Row((f"C{k}",), {name: i + k for i, name in enumerate(view.features)}) for k in range(3)]
    assert store.write(rows_of(view, rows)) == 3
    assert len(table_of(path, "bank_wide")) == 3 * features
    older = [row._replace(time=TIME - 1) for row in rows]
    assert store.write(rows_of(view, older)) == store.write(rows_of(view, rows)) == 0


def test_seconds_of_times_before_the_epoch(path: Path, store: SqliteStore) -> None:
    store.write(rows_of(PROFILE, [one(1, -0.5), one(2, 0.5, "C2")]))
    assert [row[5] for row in table_of(path)] == [-1, -1, 0, 0]


def test_a_feature_that_is_newer_than_the_rest(path: Path, store: SqliteStore) -> None:
    """A row is as old as the newest of its features, and nothing older comes in beside it."""
    store.write(rows_of(PROFILE, [one(1, TIME)]))
    store.write(rows_of(PROFILE._replace(features=("age",)), [Row(("C1",), {"age": 2}, TIME + 10)]))
    assert store.write(rows_of(PROFILE, [one(3, TIME + 5)])) == 0
    assert [row[5] for row in table_of(path)] == [TIME + 10, TIME]
    assert store.write(rows_of(PROFILE, [one(3, TIME + 10)])) == 1
    assert [(row[3], row[5]) for row in table_of(path)] == [("2", TIME + 10), (None, TIME + 10)]


def test_a_table_of_an_older_feast(path: Path, store: SqliteStore) -> None:
    with opened(path) as connection:
        connection.execute("ALTER TABLE bank_customer_profile DROP COLUMN value_text")
    assert store.write(rows_of(PROFILE, [one(1)])) == 1
    store.create([write_plan(PROFILE)])
    assert store.write(rows_of(PROFILE, [one(2, TIME + 1)])) == 1
    assert [row[-1] for row in table_of(path)] == ["2", None]


# --- the file --------------------------------------------------------------------------------------------------------


def test_no_table(store: SqliteStore, path: Path) -> None:
    reason = f"sqlite {path}: feature view other has no table 'bank_other'; was it applied with online=True?"
    with pytest.raises(StoreError) as caught:
        store.write(rows_of(PROFILE._replace(name="other"), [one(1)]))
    assert str(caught.value) == reason


def test_no_file(path: Path, keep: Keep) -> None:
    store = SqliteStore(path, "bank")
    keep(store)
    with pytest.raises(StoreError, match="no such file; apply and materialize"):
        store.write(rows_of(PROFILE, [one(1)]))
    assert not path.exists()


def test_not_a_database(path: Path, keep: Keep) -> None:
    path.parent.mkdir()
    path.write_bytes(b"something else" * 100)
    store = SqliteStore(path, "bank")
    keep(store)
    with pytest.raises(StoreError, match="file is not a database"):
        store.write(rows_of(PROFILE, [one(1)]))


def test_the_log_is_on(store: SqliteStore, path: Path) -> None:
    with opened(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_a_reader_does_not_hold_up_a_writer(store: SqliteStore, path: Path) -> None:
    store.write(rows_of(PROFILE, [one(1)]))
    with opened(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM bank_customer_profile").fetchall()
        assert store.write(rows_of(PROFILE, [one(2, TIME + 1)])) == 1


def test_the_log_stays_off_while_somebody_reads(store: SqliteStore, path: Path) -> None:
    """It cannot be turned on then, and a write can do without it; it does not wait for that."""
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    with opened(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM bank_customer_profile").fetchall()
        with closing(sqlite_write.open_for_writing(path)) as writer:
            assert writer.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
    assert store.write(rows_of(PROFILE, [one(2, TIME + 1)])) == 1


def test_a_file_that_stays_locked(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_write, "BUSY_TIMEOUT_SECONDS", 0.05)
    with opened(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="database is locked"):
            store.write(rows_of(PROFILE, [one(1)]))
    assert store.write(rows_of(PROFILE, [one(1)])) == 1


def test_all_or_nothing(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_late(value: bytes) -> str:
        if value == b"\x20\x63":
            raise KeyboardInterrupt
        return "text"

    monkeypatch.setattr(sqlite_write, "_text", fail_late)
    with pytest.raises(KeyboardInterrupt):
        store.write(rows_of(PROFILE, [one(i, key=f"C{i}") for i in range(100)]))
    assert table_of(path) == []
    assert store.write(rows_of(PROFILE, [one(1)])) == 1


def test_teardown_leaves_no_file(store: SqliteStore, path: Path) -> None:
    store.write(rows_of(PROFILE, [one(1)]))
    store.teardown([])
    assert list(path.parent.iterdir()) == []


def test_a_fork_waits_for_a_write(store: SqliteStore, path: Path) -> None:
    """SQLite's allocator must not be forked in the middle of a write: the child could not write any more."""
    stop = threading.Event()

    def write() -> None:
        i = 0
        while not stop.is_set():
            i += 1
            store.write(rows_of(PROFILE, [one(i, TIME + i, f"C{k}") for k in range(50)]))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for i in range(10):
            key = f"child {i}"
            assert in_child(lambda key=key: store.write(rows_of(PROFILE, [one(1, key=key)]))) == 1
    finally:
        stop.set()
        thread.join()
    assert len({row[0] for row in table_of(path)} & {entity_key(PROFILE, (f"child {i}",)) for i in range(10)}) == 10
