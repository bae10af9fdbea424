"""SQLite: files that are missing, broken, locked, replaced, or not quite as Feast makes them."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastserve import fork_gate
from fastserve.errors import DecodeError, StoreError
from fastserve.stores import sqlite
from fastserve.stores.sqlite import SqliteStore
from tests.reference import INT64
from tests.stores.content import PROJECT, TIME, Row, View, batch_of, entity_key, expected, plan, read, write_sqlite
from tests.stores.forks import in_child
from tests.stores.scripted import PATIENCE

VIEW = View("account_balance", ("balance", "limit"), ("account_id",), (INT64,))
TABLE = f"{PROJECT}_{VIEW.name}"
PLAN = plan([VIEW])
ROWS = [Row((1,), {"balance": 10, "limit": None}), Row((2,), {"balance": 20})]
SHORT = 0.3
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An online store with two rows."""
    path = tmp_path / "online.db"
    write_sqlite(path, VIEW, ROWS)
    return path


@contextlib.contextmanager
def store_of(path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(SqliteStore(path, PROJECT)) as store:
        yield store


@contextlib.contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A writer's connection, each of whose statements is a transaction."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
    try:
        yield connection
    finally:
        connection.close()


def ask(store: SqliteStore, rows: list[Row] = ROWS) -> None:
    """Read ids 1 to 3; the answer must be right."""
    assert read(store, PLAN, account_id=[1, 2, 3]) == expected([(VIEW, rows)], account_id=[1, 2, 3])


def fault(path: Path) -> str:
    """Fail to read, and return what the error says after the file's name."""
    with store_of(path) as store, pytest.raises(StoreError) as caught:
        store.read(batch_of(PLAN, account_id=[1]))
    start = f"sqlite {path}: "
    assert str(caught.value).startswith(start)
    return str(caught.value).removeprefix(start)


class TestFiles:
    def test_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "none.db"
        assert fault(path) == "no such file; apply and materialize the repository first"
        assert not path.exists()

    def test_missing_folder(self, tmp_path: Path) -> None:
        assert "no such file" in fault(tmp_path / "none" / "online.db")

    def test_folder(self, tmp_path: Path) -> None:
        assert fault(tmp_path)

    def test_below_a_file(self, path: Path) -> None:
        assert "Not a directory" in fault(path / "online.db")

    @pytest.mark.parametrize("content", [b"not a database, but long enough to look like one" * 50, b"\0" * 5000])
    def test_not_a_database(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "online.db").write_bytes(content)
        assert fault(tmp_path / "online.db") == "file is not a database"

    def test_truncated(self, path: Path) -> None:
        write_sqlite(path, VIEW, [Row((one,), {"balance": one}) for one in range(2000)])
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert fault(path) == "database disk image is malformed"

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "online.db").touch()
        assert f"has no table '{TABLE}'" in fault(tmp_path / "online.db")

    @pytest.mark.parametrize("name", ["a?mode=rwc&b#c%20d.db", "é 名.db", "'quoted\".db"])
    def test_names_with_special_characters(self, tmp_path: Path, name: str) -> None:
        write_sqlite(tmp_path / name, VIEW, ROWS)
        with store_of(tmp_path / name) as store:
            ask(store)
        assert [file.name for file in tmp_path.iterdir()] == [name]

    def test_relative_path(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(path.parent)
        with store_of(Path(path.name)) as store:
            ask(store)

    def test_torn_down_and_made_anew(self, path: Path) -> None:
        with store_of(path) as store:
            ask(store)
            path.unlink()
            with pytest.raises(StoreError, match="no such file"):
                ask(store)
            new = [Row((1,), {"balance": 11, "limit": 5}, TIME + 1)]
            write_sqlite(path, VIEW, new)
            ask(store, new)

    def test_replaced_by_a_rename(self, path: Path) -> None:
        new = [Row((3,), {"balance": 30, "limit": 5}, TIME + 1)]
        write_sqlite(path.with_name("next.db"), VIEW, new)
        with store_of(path) as store:
            ask(store)
            path.with_name("next.db").replace(path)
            ask(store, new)
            assert len(store._idle) == 1


class TestTables:
    def test_missing_table_names_view_and_table(self, path: Path) -> None:
        with connected(path) as writer:
            writer.execute(f'DROP TABLE "{TABLE}"')
        reason = f"feature view account_balance has no table '{TABLE}'; was it applied with online=True?"
        assert fault(path) == reason

    def test_one_of_two_tables_missing(self, path: Path) -> None:
        other = View("other", ("x",), ("account_id",), (INT64,))
        with store_of(path) as store:
            with pytest.raises(StoreError, match="feature view other has no table 'bank_other'"):
                read(store, plan([VIEW, other]), account_id=[1])
            write_sqlite(path, other, [Row((1,), {"x": 5})])
            assert read(store, plan([VIEW, other]), account_id=[1]).values["other:x"] == [5]

    def test_without_value_text(self, tmp_path: Path) -> None:
        """As files of Feast before value_text are, until the next apply."""
        path = tmp_path / "old.db"
        with connected(path) as writer:
            writer.execute(
                f'CREATE TABLE "{TABLE}" (entity_key BLOB, feature_name TEXT, value BLOB, vector_value BLOB, '
                "event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
            )
            writer.execute(f'CREATE INDEX {TABLE}_ek ON "{TABLE}" (entity_key)')
        write_sqlite(path, VIEW, ROWS)
        with store_of(path) as store:
            ask(store)

    def test_with_value_num(self, path: Path) -> None:
        """As files with `enable_openai_compatible_store` are."""
        with connected(path) as writer:
            writer.execute(f'ALTER TABLE "{TABLE}" ADD COLUMN value_num REAL')
        with store_of(path) as store:
            ask(store)

    def test_without_value(self, path: Path) -> None:
        with connected(path) as writer:
            writer.execute(f'ALTER TABLE "{TABLE}" RENAME COLUMN value TO worth')
        assert fault(path) == "no such column: value"

    def test_name_in_other_case(self, path: Path) -> None:
        """SQLite's names of tables do not tell upper from lower case."""
        with connected(path) as writer:
            writer.execute(f'ALTER TABLE "{TABLE}" RENAME TO "x"')
            writer.execute(f'ALTER TABLE "x" RENAME TO "{TABLE.upper()}"')
        with store_of(path) as store:
            ask(store)

    def test_features_that_nobody_asked_for(self, path: Path) -> None:
        write_sqlite(path, VIEW, [Row((1,), {"another": 5})])
        with store_of(path) as store:
            ask(store)

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7])
    def test_any_number_of_keys(self, path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        monkeypatch.setattr(sqlite, "KEYS_PER_QUERY", 3)
        rows = [Row((one,), {"balance": one, "limit": None}, TIME + one) for one in range(1, 6)]
        write_sqlite(path, VIEW, rows)
        keys = {"account_id": list(range(count, 0, -1))}
        with store_of(path) as store:
            assert read(store, PLAN, **keys) == expected([(VIEW, rows)], **keys)

    @pytest.mark.skipif(not hasattr(sqlite3.Connection, "setlimit"), reason="needs Python 3.11")
    def test_sqlite_that_takes_few_variables(self, path: Path) -> None:
        wide = View("wide", [f"f{i}" for i in range(450)], ("account_id",), (INT64,))
        write_sqlite(path, wide, [Row((7,), {"f449": 1})])
        with store_of(path) as store:
            connection = store._borrow()
            connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)  # type: ignore[attr-defined]
            store._idle.append(connection)
            answer = read(store, plan([wide]), account_id=list(range(2000)))
        assert answer.values["wide:f449"] == [None] * 7 + [1] + [None] * 1992


class TestContents:
    """A row that Feast did not write."""

    @pytest.mark.parametrize(
        ("column", "value", "text"),
        [
            ("value", "text", "value is str"),
            ("value", 5, "value is int"),
            ("value", 5.5, "value is float"),
            ("value", None, "value is NoneType"),
            ("event_ts", "2026-01-01 00:00:00", "event_ts is str"),
            ("event_ts", 5.5, "event_ts is float"),
            ("event_ts", None, "event_ts is NoneType"),
            ("event_ts", b"\x01", "event_ts is bytes"),
        ],
    )
    def test_wrong_type(self, path: Path, column: str, value: Any, text: str) -> None:
        key = entity_key(VIEW, (2,))
        with connected(path) as writer:
            writer.execute(f'UPDATE "{TABLE}" SET {column} = ? WHERE entity_key = ?', [value, key])
        with store_of(path) as store:
            with pytest.raises(DecodeError) as caught:
                read(store, PLAN, account_id=[1, 2])
            assert (caught.value.key, caught.value.field) == (key.hex(), "account_balance:balance")
            assert text in caught.value.reason
            assert read(store, PLAN, account_id=[1]).values["account_balance:balance"] == [10]

    @pytest.mark.parametrize("event_ts", [2**62, -(2**63), 2**63 - 1])
    def test_time_out_of_range(self, path: Path, event_ts: int) -> None:
        with connected(path) as writer:
            writer.execute(f'UPDATE "{TABLE}" SET event_ts = ?', [event_ts])
        with store_of(path) as store:
            with pytest.raises(DecodeError, match=r"event_ts: .* out of range") as caught:
                read(store, PLAN, account_id=[2])
        assert (caught.value.key, caught.value.field) == (entity_key(VIEW, (2,)).hex(), "account_balance")

    def test_wrong_time_of_a_feature_nobody_asked_for(self, path: Path) -> None:
        with connected(path) as writer:
            writer.execute(f"UPDATE \"{TABLE}\" SET event_ts = 'x'")
        with store_of(path) as store:
            with pytest.raises(DecodeError, match="event_ts"):
                read(store, plan([VIEW._replace(features=("new",))]), account_id=[2])

    def test_text_that_is_not_utf8(self, path: Path) -> None:
        with connected(path) as writer:
            writer.execute(f"UPDATE \"{TABLE}\" SET value = CAST(x'ff' AS TEXT)")
        assert "Could not decode to UTF-8" in fault(path)

    def test_a_wrong_row_leaves_no_lock(self, path: Path) -> None:
        with store_of(path) as store, connected(path) as writer:
            writer.execute(f'UPDATE "{TABLE}" SET value = 5')
            with pytest.raises(DecodeError):
                ask(store)
            writer.execute(f'DELETE FROM "{TABLE}"')  # does not wait for locks
            ask(store, [])


def test_the_event_time_is_the_newest_of_the_features_read(path: Path) -> None:
    """Feast takes that of the last feature in the table, asked for or not."""
    write_sqlite(path, VIEW, [Row((1,), {"limit": 5}, TIME + 9), Row((1,), {"balance": 10}, TIME + 20)])
    write_sqlite(path, VIEW, [Row((1,), {"new": 1}, TIME + 30)])
    with store_of(path) as store:
        times = read(store, PLAN, account_id=[1]).times
        assert times == {"account_balance:balance": [TIME + 20], "account_balance:limit": [TIME + 20]}
        one = read(store, plan([VIEW._replace(features=("limit",))]), account_id=[1])
        assert one.times["account_balance:limit"] == [TIME + 9]
        none = read(store, plan([VIEW._replace(features=("later",))]), account_id=[1])
        assert none.times["account_balance:later"] == [TIME + 30]


LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
print("unlocked", flush=True)
"""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that keeps the file locked until a line is written to it."""
    command = [sys.executable, "-c", LOCKER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.communicate("\n", PATIENCE)


class TestLocks:
    def test_locked_for_too_long(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", SHORT)
        with locked(path):
            start = time.monotonic()
            assert fault(path) == "database is locked"
            assert SHORT * 0.8 <= time.monotonic() - start < 3 * SHORT + 1
        with store_of(path) as store:
            ask(store)

    def test_locked_for_a_while(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", PATIENCE)
        with locked(path) as process, store_of(path) as store, ThreadPoolExecutor(1) as pool:
            reading = pool.submit(ask, store)
            time.sleep(SHORT)
            assert not reading.done()
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            reading.result(PATIENCE)

    def test_a_connection_that_met_a_lock_works_again(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.05)
        with store_of(path) as store:
            ask(store)
            with locked(path), pytest.raises(StoreError, match="database is locked"):
                ask(store)
            ask(store)

    def test_readers_do_not_lock_out_writers(self, path: Path) -> None:
        with store_of(path) as store, connected(path) as writer:
            ask(store)
            writer.execute("BEGIN EXCLUSIVE")
            writer.execute("COMMIT")

    def test_an_unfinished_write_is_not_seen(self, path: Path) -> None:
        with store_of(path) as store, connected(path) as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute(f'DELETE FROM "{TABLE}"')
            ask(store)
            writer.execute("COMMIT")
            ask(store, [])

    def test_reads_between_commits_see_one_of_them(self, path: Path) -> None:
        """A writer changes all rows at once, 40 times; a read sees all of a commit or nothing."""
        keys = list(range(60))
        asked = plan([VIEW._replace(features=("balance",))])

        def content(version: int) -> list[Row]:
            return [Row((key,), {"balance": version, "limit": 0}, TIME + version) for key in keys]

        write_sqlite(path, VIEW, content(0))
        done = threading.Event()

        def write() -> None:
            try:
                for version in range(1, 41):
                    write_sqlite(path, VIEW, content(version))
            finally:
                done.set()

        with store_of(path) as store, ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            versions = []
            while not done.is_set() or versions[-1] != 40:
                answer = read(store, asked, account_id=keys)
                (version,) = set(answer.values["account_balance:balance"])
                assert set(answer.times["account_balance:balance"]) == {TIME + version}
                versions.append(version)
            writing.result(PATIENCE)
        assert versions == sorted(versions)


class TestJournals:
    def test_wal(self, path: Path) -> None:
        with store_of(path) as store, connected(path) as writer:
            assert writer.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
            write_sqlite(path, VIEW, [Row((3,), {"balance": 30})])
            ask(store, [*ROWS, Row((3,), {"balance": 30})])
            writer.execute("BEGIN EXCLUSIVE")
            writer.execute(f'DELETE FROM "{TABLE}"')
            ask(store, [*ROWS, Row((3,), {"balance": 30})])
            writer.execute("COMMIT")
            ask(store, [])

    def test_wal_that_nobody_has_written_back(self, path: Path, tmp_path: Path) -> None:
        copied = tmp_path / "copied.db"
        with connected(path) as writer:
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute("PRAGMA wal_autocheckpoint = 0")
            writer.execute(f'DELETE FROM "{TABLE}"')
            for suffix in ("", "-wal"):
                shutil.copy(f"{path}{suffix}", f"{copied}{suffix}")
        with store_of(copied) as store:
            ask(store, [])

    def test_what_a_crashed_writer_left_half_done_is_taken_back(self, path: Path, tmp_path: Path) -> None:
        rows = [Row((one,), {"balance": one}) for one in range(1, 2000)]
        write_sqlite(path, VIEW, rows)
        crashed = tmp_path / "crashed.db"
        with connected(path) as writer:
            writer.execute("PRAGMA cache_size = 1")  # so that changes go to the file before the commit
            writer.execute("BEGIN")
            writer.execute(f"UPDATE \"{TABLE}\" SET value = x'20e707', event_ts = 0")
            for suffix in ("", "-journal"):
                shutil.copy(f"{path}{suffix}", f"{crashed}{suffix}")
            writer.execute("ROLLBACK")
        assert crashed.read_bytes() != path.read_bytes()
        with store_of(crashed) as store:
            keys = {"account_id": list(range(1, 2000))}
            assert read(store, PLAN, **keys) == expected([(VIEW, [*ROWS, *rows])], **keys)

    def test_reads_leave_nothing_behind(self, path: Path) -> None:
        before = path.read_bytes()
        with store_of(path) as store:
            ask(store)
            with contextlib.closing(store._borrow()) as connection:
                with pytest.raises(sqlite3.OperationalError, match="readonly"):
                    connection.execute(f'DELETE FROM "{TABLE}"')
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that other users may look into."""
    folder = Path(tempfile.mkdtemp(prefix="fs", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def as_nobody(path: Path, rows: list[Row] = ROWS) -> str | None:
    """Read as a user who may write neither the file nor its folder; return what StoreError says."""

    def child() -> str | None:
        if os.geteuid() == 0:
            os.seteuid(NOBODY)
        assert not os.access(path.parent, os.W_OK, effective_ids=True)
        try:
            with store_of(path) as store:
                ask(store, rows)
        except StoreError as exc:
            return str(exc)
        return None

    path.parent.chmod(0o555)
    result: str | None = in_child(child)
    return result


class TestPermissions:
    def test_read_only_file_and_folder(self, public_folder: Path) -> None:
        path = public_folder / "online.db"
        write_sqlite(path, VIEW, ROWS)
        path.chmod(0o444)
        assert as_nobody(path) is None

    def test_unreadable_file(self, public_folder: Path) -> None:
        path = public_folder / "online.db"
        write_sqlite(path, VIEW, ROWS)
        path.chmod(0o000)
        assert as_nobody(path) == f"sqlite {path}: unable to open database file"

    def test_unreadable_folder(self, public_folder: Path) -> None:
        folder = public_folder / "closed"
        folder.mkdir()
        write_sqlite(folder / "online.db", VIEW, ROWS)

        def child() -> str:
            if os.geteuid() == 0:
                os.seteuid(NOBODY)
            with store_of(folder / "online.db") as store, pytest.raises(StoreError) as caught:
                ask(store)
            return str(caught.value)

        folder.chmod(0o000)
        try:
            text = in_child(child)
        finally:
            folder.chmod(0o755)
        assert text.startswith(f"sqlite {folder}/online.db: ")
        assert "Permission denied" in text

    def test_wal_file_in_a_read_only_folder(self, public_folder: Path) -> None:
        """SQLite cannot make the files that it needs beside it."""
        path = public_folder / "online.db"
        write_sqlite(path, VIEW, ROWS)
        with connected(path) as writer:
            writer.execute("PRAGMA journal_mode = WAL")
        path.chmod(0o444)
        text = as_nobody(path) or ""
        assert text.startswith(f"sqlite {path}: ")
        assert "unable to open database file" in text or "readonly database" in text


class TestConnections:
    def test_one_connection_serves_one_thread(self, path: Path) -> None:
        with store_of(path) as store:
            for _ in range(20):
                ask(store)
            assert len(store._idle) == 1
            store.close()
            assert not store._idle

    def test_at_most_one_for_each_thread(self, path: Path) -> None:
        start = threading.Barrier(8)

        def work(_: int) -> None:
            start.wait(PATIENCE)
            for _ in range(50):
                ask(store)

        with store_of(path) as store:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(work, range(8)))
            assert 1 <= len(store._idle) <= 8

    def test_any_thread_closes_all(self, path: Path) -> None:
        with store_of(path) as store, ThreadPoolExecutor(1) as pool:
            pool.submit(ask, store).result(PATIENCE)
            assert _open_files(path) == 1
            store.close()
            assert _open_files(path) == 0

    def test_failed_reads_close_theirs(self, path: Path) -> None:
        with store_of(path) as store:
            for _ in range(5):
                with pytest.raises(StoreError, match="has no table"):
                    read(store, plan([View("none", ("x",))]), customer_id=["C1"])
            assert _open_files(path) == 0

    def test_child_has_its_own(self, path: Path) -> None:
        with store_of(path) as store:
            ask(store)
            (of_parent,) = store._idle

            def child() -> bool:
                ask(store)
                return of_parent not in store._idle

            assert in_child(child)
            assert list(store._idle) == [of_parent]
            ask(store)

    def test_fork_during_a_write_of_another_thread(self, path: Path) -> None:
        with store_of(path) as store, connected(path) as writer:
            ask(store)
            writer.execute("BEGIN IMMEDIATE")
            writer.execute(f'DELETE FROM "{TABLE}"')
            with ThreadPoolExecutor(1) as pool:
                reading = pool.submit(lambda: [ask(store) for _ in range(100)])
                assert in_child(lambda: ask(store)) is None
                reading.result(PATIENCE)


class TestForks:
    def test_many_beside_reads(self, path: Path) -> None:
        """SQLite has locks that a child would wait for in vain, had another thread held them at the fork."""
        done = threading.Event()

        def work() -> int:
            for number in itertools.count():
                if done.is_set():
                    return number
                ask(store)
            return -1

        with store_of(path) as store, ThreadPoolExecutor(2) as pool:
            reading = [pool.submit(work) for _ in range(2)]
            try:
                for _ in range(50):
                    in_child(lambda: ask(store))
            finally:
                done.set()
            assert all(future.result(PATIENCE) for future in reading)

    @pytest.mark.parametrize("forked_thread", ["reader", "other"])
    def test_in_the_middle_of_a_read(self, path: Path, monkeypatch: pytest.MonkeyPatch, forked_thread: str) -> None:
        """From code that SQLite calls, by the thread that reads or by one that the read waits for: neither hangs."""
        monkeypatch.setattr(fork_gate, "LONGEST_WAIT_SECONDS", SHORT)
        answers: list[Any] = []

        def fork() -> None:
            answers.append(in_child(lambda: ask(store)))

        def handler() -> int:
            if not answers and forked_thread == "reader":
                fork()
            elif not answers:
                other = threading.Thread(target=fork)
                other.start()
                other.join(PATIENCE)
            return 0

        with store_of(path) as store:
            connection = store._borrow()
            connection.set_progress_handler(handler, 1)
            store._idle.append(connection)
            ask(store)
            assert answers == [None]
            assert list(store._idle) == [connection]

    def test_a_child_leaves_the_connection_of_the_read_that_forked_it_to_its_parent(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A signal may fork between two rows, and both go on reading."""
        children: list[int] = []
        timestamp = sqlite._timestamp

        def forking(*arguments: Any) -> bytes:
            if not children:
                children.append(os.fork())
            return timestamp(*arguments)

        def both() -> bool:
            with store_of(path) as store:
                ask(store)
                (connection,) = store._idle
                monkeypatch.setattr(sqlite, "_timestamp", forking)
                ask(store)
                if children == [0]:
                    os._exit(connection in store._idle)
                return os.waitpid(children[0], 0)[1] == 0 and connection in store._idle

        assert in_child(both)

    def test_close_does_not_run_beside_a_fork(self, path: Path) -> None:
        """Closing a connection frees memory, which takes SQLite's lock."""
        with store_of(path) as store, ThreadPoolExecutor(1) as pool:
            ask(store)
            fork_gate.current().shut()
            try:
                closing = pool.submit(store.close)
                time.sleep(SHORT)
                assert len(store._idle) == 1
            finally:
                fork_gate.current().open()
            closing.result(PATIENCE)
            assert not store._idle


def _open_files(path: Path) -> int:
    """How often this process has the file open."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += link.readlink() == path
    return found
