"""Loading views from their sources: which rows, which windows, what is recorded, and what if it goes wrong."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastserve import FeatureStore
from fastserve._core import field_id
from fastserve.cli.materialize import report
from fastserve.errors import (
    FeatureViewNotFoundException,
    NotSupportedError,
    RegistryError,
    RequestError,
    SourceError,
    StoreError,
    WriteError,
)
from fastserve.materialize import Loaded, Settings, Stopped, chosen_views, incremental_window, load_view, record
from fastserve.progress import LogProgress, NoProgress
from fastserve.registry import schema_pb2 as pb
from tests import goldens
from tests.bank import END, START, VIEWS, intervals
from tests.registries import yaml_of
from tests.rows import UTC
from tests.servers import RedisServer

# --- what is stored --------------------------------------------------------------------------------------------------


def test_redis_holds_what_feast_wrote(empty_redis: RedisServer, tmp_path: Path) -> None:
    repo = goldens.copy_bank(tmp_path / "bank", {"type": "redis", "connection_string": empty_redis.connection_string})
    with FeatureStore(repo) as store:
        store.materialize(START, END, VIEWS)
    recorded = goldens.redis_hashes()
    with empty_redis.client() as client:
        found = {key: client.hgetall(key) for key in client.scan_iter() if not key.startswith(b"fsv:")}  # no vectors
    assert len(found) == 10
    for key, fields in found.items():
        if b"C2" in key:  # Feast pushed a later row of txn_7d before the dump
            fields = {name: value for name, value in fields.items() if name not in txn_fields(key, recorded)}
        assert fields == {name: value for name, value in recorded[key].items() if name in fields}


def txn_fields(key: bytes, recorded: dict[bytes, dict[bytes, bytes]]) -> set[bytes]:
    names = ("amount_sum", "txn_count", "avg_amount")
    return {field_id("txn_7d", name) for name in names} | {b"_ts:txn_7d"} & set(recorded[key])


def test_sqlite_holds_what_feast_wrote(sqlite_bank_repo: Path) -> None:
    path = sqlite_bank_repo / "data" / "online.db"
    expected = {view: rows_of_table(path, view) for view in VIEWS}
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for view in VIEWS:
            connection.execute(f'DELETE FROM "bank_{view}"')
    with FeatureStore(sqlite_bank_repo) as store:
        store.materialize(START, END)
    assert {view: rows_of_table(path, view) for view in VIEWS} == expected


def rows_of_table(path: Path, view: str) -> list[Any]:
    columns = "entity_key, feature_name, value, value_text, event_ts"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(f'SELECT {columns} FROM "bank_{view}" ORDER BY 1, 2').fetchall()


def test_the_latest_row_of_each_entity_in_the_window(store: FeatureStore) -> None:
    loaded = {found.view: found for found in store.materialize(START, END)}
    assert sorted(loaded) == sorted([*VIEWS, "stored_odfv"])
    assert loaded["txn_7d"].n_rows == 4 and loaded["txn_7d"].n_written == 2
    answer = store.get_online_features(["txn_7d:amount_sum"], {"customer_id": ["C1"]}).to_dict()
    assert answer["amount_sum"] == [20.0]  # of two rows at the same event time the one that was created later


def test_it_is_recorded_and_running_again_changes_nothing(store: FeatureStore) -> None:
    before = intervals(store, "fx_rates")
    first = store.materialize(START, END, ["fx_rates"], full_feature_names=True)
    again = store.materialize(START, END, ["fx_rates"])
    window = (START.replace(tzinfo=UTC), END)
    assert intervals(store, "fx_rates") == [*before, window, window]
    assert store.get_feature_view("fx_rates").state.name == "AVAILABLE_ONLINE"
    assert (again[0].n_written, again[0].n_applied) == (first[0].n_written, 0)


def test_an_empty_result_is_recorded_too(store: FeatureStore) -> None:
    window = dt.datetime(2031, 1, 1, tzinfo=UTC), dt.datetime(2031, 1, 1, tzinfo=UTC)
    assert store.materialize(*window, ["fx_rates"])[0].n_rows == 0
    assert intervals(store, "fx_rates")[-1] == window


def test_disable_event_timestamp_loads_all_up_to_now(store: FeatureStore) -> None:
    loaded = store.materialize(None, None, ["txn_7d"], disable_event_timestamp=True)
    assert loaded[0].n_rows == 4 and loaded[0].start.year == 1970
    assert loaded[0].end >= dt.datetime.now(UTC) - dt.timedelta(minutes=5)


def test_incremental_goes_on_where_it_ended(store: FeatureStore) -> None:
    store.materialize(START, END, ["fx_rates"])
    later = store.get_feature_view("fx_rates").most_recent_end_time
    assert later is not None
    end = later + dt.timedelta(days=3)
    loaded = store.materialize_incremental(end.replace(tzinfo=None), ["fx_rates"])
    assert (loaded[0].start, loaded[0].end) == (later, end)
    with pytest.raises(RequestError, match="feature view fx_rates: the window is empty"):
        store.materialize_incremental(later, ["fx_rates"])


def test_the_first_incremental_window_goes_back_by_the_ttl(store: FeatureStore) -> None:
    import dataclasses

    now = dt.datetime(2026, 6, 1, tzinfo=UTC)
    view = dataclasses.replace(store.get_feature_view("txn_7d"), materialization_intervals=())
    assert incremental_window(now, now)(view) == (now - dt.timedelta(days=1), now)
    forever = dataclasses.replace(view, ttl=dt.timedelta(0))
    assert incremental_window(now, now)(forever) == (now - dt.timedelta(weeks=52), now)


def test_several_views_at_once(store: FeatureStore) -> None:
    assert sorted(found.view for found in store.materialize(START, END, workers=4)) == sorted([*VIEWS, "stored_odfv"])
    assert all(intervals(store, name)[-1][1] == END for name in VIEWS)


def test_small_batches(bank_repo: Path) -> None:
    settings = yaml_of(bank_repo) | {"materialization": {"online_write_batch_size": 1}}
    with FeatureStore(bank_repo, settings) as store:
        assert store.materialize(START, END, ["customer_profile"])[0].n_written == 3


# --- what is refused -------------------------------------------------------------------------------------------------


def test_views_that_cannot_be_loaded_are_named(store: FeatureStore) -> None:
    for names, error, words in [
        (["fx_rates", "nope"], FeatureViewNotFoundException, "nope"),
        (["offline_only"], RequestError, "offline_only is not configured to be served online"),
        (["risk_py"], RequestError, "risk_py is not stored"),
        (["all_types"], NotSupportedError, "all_types cannot be materialized: it has no batch source"),
    ]:
        before = intervals(store, "fx_rates")
        with pytest.raises(error, match=words):
            store.materialize(START, END, names)
        assert intervals(store, "fx_rates") == before


def test_a_view_with_a_transformation_is_not_loaded_without_it(
    store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    def edit(message: pb.Registry) -> None:
        spec = next(view.spec for view in message.feature_views if view.spec.name == "fx_rates")
        spec.feature_transformation.user_defined_function.name = "double"

    store._registry.update(edit)
    with pytest.raises(NotSupportedError, match="fx_rates cannot be materialized: its rows are made by a transf"):
        store.materialize(START, END, ["fx_rates"])
    assert sorted(found.view for found in store.materialize(START, END)) == sorted(
        {*VIEWS, "stored_odfv"} - {"fx_rates"}
    )
    assert "feature view fx_rates is passed over" in caplog.text


def test_windows_that_are_none(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match=r"the window is empty: its start .* is after its end"):
        store.materialize(END, START)
    with pytest.raises(RequestError, match="start and end of the window are required"):
        store.materialize(START, None)


def test_versions_need_one_view_and_to_be_enabled(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="exactly one feature view"):
        store.materialize(START, END, version="v1")
    with pytest.raises(RequestError, match="versions are not enabled"):
        store.materialize(START, END, ["fx_rates"], version="v1")
    with pytest.raises(RequestError, match="'vN' expected, got 'one'"):
        store.materialize(START, END, ["fx_rates"], version="one")
    with pytest.raises(RequestError, match="engine: 'local' or 'ray'"):
        store.materialize(START, END, ["fx_rates"], engine="spark")


def test_a_version_is_stored_under_its_own_name(bank_repo: Path) -> None:
    settings = yaml_of(bank_repo)
    settings["registry"]["enable_online_feature_view_versioning"] = True
    with FeatureStore(bank_repo, settings) as store:
        view = chosen_views(store._current_snapshot(), ["fx_rates"], 0, True)[0]
        assert view.current_version_number == 0
        assert store._writer(view).plan.view == "fx_rates"


def test_a_missing_file_stops_all_before_anything_is_written(store: FeatureStore) -> None:
    (store.repo_path / "data" / "txn.parquet").unlink()
    before = intervals(store, "fx_rates")
    with pytest.raises(SourceError, match=r"feature view txn_7d: source txn_src \(data/txn.parquet\): no such file"):
        store.materialize(START, END, ["fx_rates", "txn_7d"])
    assert intervals(store, "fx_rates") == before


def test_a_wrong_value_leaves_its_view_unrecorded_and_earlier_ones_done(store: FeatureStore) -> None:
    path = store.repo_path / "data" / "txn.parquet"
    found = pq.read_table(path)
    pq.write_table(found.set_column(2, "txn_count", pa.array(["1", "2", "many", "4"])), path)
    before = {name: len(intervals(store, name)) for name in ("fx_rates", "txn_7d", "account_balance")}
    with pytest.raises(WriteError, match=r"feature view txn_7d: column 'txn_count', row 2: INT64 expected, got 'many'"):
        store.materialize(START, END, ["fx_rates", "txn_7d"])
    assert len(intervals(store, "fx_rates")) == before["fx_rates"] + 1
    assert len(intervals(store, "txn_7d")) == before["txn_7d"]


class Broken:
    """A store that goes away after some chunks."""

    def __init__(self, store: Any, good: int):
        self._store, self._good = store, good

    def write(self, rows: Any, key_ttl_seconds: int | None = None) -> int:
        self._good -= 1
        if self._good < 0:
            raise StoreError("the store went away")
        return int(self._store.write(rows, key_ttl_seconds))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_store_that_goes_away_in_the_middle(bank_repo: Path) -> None:
    settings = yaml_of(bank_repo) | {"materialization": {"online_write_batch_size": 1}}
    with FeatureStore(bank_repo, settings) as store:
        before, whole = len(intervals(store, "customer_profile")), store._vectors
        store._vectors = Broken(whole, 1)
        with pytest.raises(StoreError, match="went away"):
            store.materialize(START, END, ["customer_profile"])
        assert len(intervals(store, "customer_profile")) == before
        store._vectors = whole
        store.materialize(START, END, ["customer_profile"])
        assert len(intervals(store, "customer_profile")) == before + 1


def test_a_failure_ends_the_views_beside_it(store: FeatureStore) -> None:
    before = [intervals(store, name) for name in VIEWS]
    store._vectors = Broken(store._vectors, 0)
    with pytest.raises(StoreError, match="went away"):
        store.materialize(START, END, workers=5)
    assert [intervals(store, name) for name in VIEWS] == before


def test_a_run_can_be_stopped_from_another_thread(store: FeatureStore) -> None:
    stop = threading.Event()
    stop.set()
    before = len(intervals(store, "fx_rates"))
    with pytest.raises(Stopped):
        store.materialize(START, END, ["fx_rates"], stop=stop)
    assert len(intervals(store, "fx_rates")) == before


def test_a_view_that_was_deleted_meanwhile_is_named() -> None:
    with pytest.raises(RegistryError, match="feature view v is not in the registry any more"):
        record(pb.Registry(), "bank", Loaded("v", END, END, 0, 0, 0))


def test_settings_are_what_load_view_needs(store: FeatureStore) -> None:
    from fastserve import materialize

    jobs = materialize.plan_jobs(
        [store.get_feature_view("fx_rates")], materialize.full_window(START, END), store._options, store.repo_path
    )
    loaded = load_view(store._store, jobs[0], Settings(budget=1), NoProgress(), threading.Event())
    assert (loaded.n_rows, loaded.n_written) == (2, 1)


def test_what_was_done_is_said_in_one_way(
    store: FeatureStore,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with caplog.at_level("INFO"):
        loaded = store.materialize(START, END, ["txn_7d"], progress=LogProgress())
    text = (
        "txn_7d: 4 rows in the window, the latest of each of 2 entities; 0 of these were newer than what was stored "
        "and were written"
    )
    assert text in caplog.messages
    assert "txn_7d: writing the latest row of each entity: at most 2 rows" in caplog.messages
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    report(loaded)
    assert capsys.readouterr().out == f"{text}\n"


# --- the command line ------------------------------------------------------------------------------------------------


def command(repo: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "fastserve", "-c", str(repo), *words]


def run(repo: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command(repo, *words), capture_output=True, text=True, env=environment, timeout=60)


def test_the_verbs(sqlite_bank_repo: Path) -> None:
    done = run(sqlite_bank_repo, "materialize", "2025-01-01T00:00:00", "2026-02-01", "-v", "fx_rates", "-v", "txn_7d")
    assert done.returncode == 0, done.stderr
    assert "txn_7d: 4 rows in the window, the latest of each of 2 entities; " in done.stderr
    assert "profile" not in done.stderr
    with FeatureStore(sqlite_bank_repo) as store:
        end = store.get_feature_view("fx_rates").most_recent_end_time
        assert end is not None
    later = (end + dt.timedelta(days=1)).isoformat()
    assert run(sqlite_bank_repo, "materialize-incremental", later, "--views", "fx_rates").returncode == 0
    done = run(sqlite_bank_repo, "materialize", "--disable-event-timestamp", "--workers", "2")
    assert done.returncode == 0 and "customer_profile: 4 rows in the window" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["materialize"], 2, "START_TS and END_TS are required"),
        (["materialize", "2025-01-01", "2026-01-01", "--disable-event-timestamp"], 2, "give either"),
        (["materialize", "yesterday", "2026-01-01"], 2, "'yesterday' is not a time"),
        (["materialize", "2026-01-01", "2025-01-01"], 1, "the window is empty"),
        (["materialize", "2025-01-01", "2026-01-01", "-v", "nope"], 1, "Feature view nope does not exist"),
        (["materialize-incremental", "2026-12-01", "-v", "offline_only"], 1, "offline_only is not configured"),
    ],
)
def test_mistakes_are_one_line(sqlite_bank_repo: Path, words: list[str], status: int, message: str) -> None:
    done = run(sqlite_bank_repo, *words)
    assert done.returncode == status
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_ctrl_c_leaves_the_interval_unrecorded(empty_redis: RedisServer, tmp_path: Path) -> None:
    repo = goldens.copy_bank(tmp_path / "bank", {"type": "redis", "connection_string": empty_redis.connection_string})
    n_rows = 400_000
    rates = {"eur_usd": [1.0] * n_rows, "asof": ["d"] * n_rows, "event_timestamp": [END] * n_rows}
    accounts = {
        "account_id": list(range(n_rows)),
        "bal": [1.0] * n_rows,
        "history": [[1.0]] * n_rows,
        "ts": [END] * n_rows,
    }
    pq.write_table(pa.table(rates), repo / "data" / "rates.parquet")
    pq.write_table(pa.table(accounts), repo / "data" / "balance.parquet")
    with FeatureStore(repo) as store:
        before = intervals(store, "account_balance")
        words = ["materialize", "2025-01-01", "2026-03-01", "-v", "account_balance"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(tmp_path)}
        process = subprocess.Popen(command(repo, *words), stderr=subprocess.PIPE, text=True, env=environment)
        with empty_redis.client() as client, contextlib.closing(process.stderr) as log:
            deadline = time.monotonic() + 60
            while client.dbsize() == 0 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130, log.read()
            assert 0 < client.dbsize() < n_rows
        assert intervals(store, "account_balance") == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("fastserve-")]
