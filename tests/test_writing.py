"""Pushing and writing rows through the SDK, into both stores."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from fastserve import FeatureStore, PushMode
from fastserve.errors import (
    FeatureViewNotFoundException,
    PushSourceNotFoundException,
    RequestError,
    WriteError,
)
from fastserve.progress import NoProgress
from fastserve.registry import schema_pb2 as pb
from fastserve.writing import MaterializationRunningError, _push_mode, parse_time
from tests import goldens
from tests.bank import END, LATER, START, VIEWS, amounts, states, txn
from tests.registries import yaml_of
from tests.servers import RedisServer

TXN = ["txn_7d:amount_sum", "txn_7d:txn_count", "txn_7d:avg_amount"]


@pytest.mark.parametrize(
    "form", [dict, pd.DataFrame, pa.table, pl.DataFrame], ids=["dict", "pandas", "arrow", "polars"]
)
def test_pushed_rows_are_read(store: FeatureStore, form: Any) -> None:
    store.push("txn_push", form(txn()))
    answer = store.get_online_features(TXN, {"customer_id": ["C1"]})
    assert answer.to_dict() == {"customer_id": ["C1"], "amount_sum": [500.5], "txn_count": [50], "avg_amount": [10.5]}
    assert answer.to_df(include_event_timestamps=True)["amount_sum__ts"].tolist() == [LATER.timestamp()]


@pytest.mark.parametrize(
    ("time", "applied"),
    [
        (LATER - dt.timedelta(seconds=1), False),
        (LATER, False),
        (LATER + dt.timedelta(seconds=1), True),
        ("2026-03-01T00:00:01", True),
        ("2026-03-01T02:00:01+02:00", True),
        (1772323201 * 10**9, True),
    ],
    ids=str,
)
def test_only_newer_rows_are_applied(store: FeatureStore, time: Any, applied: bool) -> None:
    store.push("txn_push", txn())
    store.push("txn_push", txn(amount=7.0, time=time))
    assert amounts(store, "C1") == [7.0 if applied else 500.5]


def test_the_newest_row_of_a_call_wins_and_of_equals_the_first(store: FeatureStore) -> None:
    times = [LATER, LATER + dt.timedelta(hours=1), LATER + dt.timedelta(hours=1)]
    calls = [txn(amount=float(number), time=time) for number, time in enumerate(times)]
    store.push("txn_push", {name: [call[name][0] for call in calls] for name in calls[0]})
    assert amounts(store, "C1") == [1.0]


def test_eight_writers_leave_the_newest_everywhere(store: FeatureStore) -> None:
    def push_some(first: int) -> None:
        for second in range(first, 160, 8):
            call = txn(amount=float(second), time=LATER + dt.timedelta(seconds=second))
            frame = {name: column * 20 for name, column in call.items()}
            store.push("txn_push", frame | {"customer_id": [f"X{number}" for number in range(20)]})

    writers = [threading.Thread(target=push_some, args=(7 - number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert amounts(store, *(f"X{number}" for number in range(20))) == [159.0] * 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"txn_count": [1, "many"]}, "feature view txn_7d: column 'txn_count', row 1: INT64 expected"),
        ({"customer_id": ["C1", None]}, "feature view txn_7d: join key 'customer_id', row 1"),
        ({"event_timestamp": [LATER, None]}, "feature view txn_7d: event time 'event_timestamp', row 1"),
    ],
)
def test_nothing_of_a_call_with_a_bad_row_is_written(store: FeatureStore, change: dict[str, Any], words: str) -> None:
    before = amounts(store, "C1", "C2")
    rows = {name: column * 2 for name, column in txn().items()} | {"customer_id": ["C1", "C2"]}
    with pytest.raises(WriteError, match=words):
        store.push("txn_push", rows | change)
    assert amounts(store, "C1", "C2") == before


def test_a_null_feature_is_stored_as_null(store: FeatureStore) -> None:
    store.push("txn_push", txn(amount=None))
    answer = store.get_online_features(TXN, {"customer_id": ["C1"]}).to_dict()
    assert (answer["amount_sum"], answer["txn_count"]) == ([None], [50])


def test_write_to_online_store(store: FeatureStore) -> None:
    rows = {"account_id": [7], "bal": [1.25], "history": [[1.0]], "ts": [LATER]}
    store.write_to_online_store("account_balance", rows)
    features = ["account_balance:balance", "account_balance:history"]
    assert store.get_online_features(features, {"account_id": [7]}).to_dict()["balance"] == [1.25]
    # By the names of the view too, as `inputs`, and without a thread of the event loop.
    named = {"account_id": [7], "balance": [2.5], "history": [[1.0]], "event_timestamp": [LATER + dt.timedelta(days=1)]}
    asyncio.run(store.write_to_online_store_async("account_balance", inputs=named))
    assert store.get_online_features(features, {"account_id": [7]}).to_dict()["balance"] == [2.5]


def test_a_view_without_entities(store: FeatureStore) -> None:
    store.write_to_online_store(
        "fx_rates", pd.DataFrame({"eur_usd": [1.5], "asof": ["d3"], "event_timestamp": [LATER]})
    )
    assert store.get_online_features(["fx_rates:eur_usd"], [{}]).to_dict() == {"eur_usd": [1.5]}


def test_push_async(store: FeatureStore) -> None:
    asyncio.run(store.push_async("txn_push", txn(), transform_on_write=False))
    assert amounts(store, "C1") == [500.5]


def test_what_does_not_exist_is_named(store: FeatureStore) -> None:
    with pytest.raises(PushSourceNotFoundException, match="push source 'nope'"):
        store.push("nope", txn())
    with pytest.raises(FeatureViewNotFoundException, match="Feature view nope"):
        store.write_to_online_store("nope", txn())
    with pytest.raises(RequestError, match="all_types has no batch source"):
        store.write_to_online_store("all_types", txn())
    with pytest.raises(RequestError, match="either as df or as inputs"):
        store.write_to_online_store("txn_7d")
    with pytest.raises(RequestError, match="sideways is not a supported push format"):
        store.push("txn_push", txn(), to="sideways")


def test_allow_registry_cache_false_reads_the_registry_first(store: FeatureStore) -> None:
    before = store.get_feature_view("txn_7d")
    store.push("txn_push", txn(), allow_registry_cache=False)
    assert store.get_feature_view("txn_7d") is not before


# --- Redis alone -----------------------------------------------------------------------------------------------------


def redis_store(server: RedisServer, folder: Path, **settings: Any) -> FeatureStore:
    repo = goldens.copy_bank(
        folder / "bank", {"type": "redis", "connection_string": server.connection_string, **settings}
    )
    return FeatureStore(repo, yaml_of(repo))


def test_key_ttl_seconds(redis_bank: RedisServer, tmp_path: Path) -> None:
    with redis_store(redis_bank, tmp_path, key_ttl_seconds=1000) as store, redis_bank.client() as client:
        store.push("txn_push", txn("T1"))
        lives = {client.ttl(key) for key in client.scan_iter(match="*T1bank")}
        assert len(lives) == 1 and 990 <= lives.pop() <= 1000


def test_skip_dedup_writes_every_row_in_order(redis_bank: RedisServer, tmp_path: Path) -> None:
    with redis_store(redis_bank, tmp_path, skip_dedup=True) as store:
        store.push("txn_push", txn())
        store.push("txn_push", txn(amount=7.0, time=LATER - dt.timedelta(days=1)))
        assert amounts(store, "C1") == [7.0]


# --- marks -----------------------------------------------------------------------------------------------------------


def test_views_are_marked_while_a_job_runs(store: FeatureStore) -> None:
    before = states(store, "fx_rates", "txn_7d")
    old = store.reserve(["fx_rates", "txn_7d"])
    assert states(store, "fx_rates", "txn_7d") == ["MATERIALIZING"] * 2
    with pytest.raises(MaterializationRunningError, match="fx_rates") as caught:
        store.reserve(["customer_profile", "fx_rates"])
    assert caught.value.views == ["fx_rates"] and caught.value.status == 409
    assert states(store, "customer_profile") == before[:1]
    assert set(store.reserve(["fx_rates"], force=True)) == {"fx_rates"}
    store.release(old)
    assert states(store, "fx_rates", "txn_7d") == before


def test_release_leaves_a_view_that_was_loaded_meanwhile(store: FeatureStore) -> None:
    old = store.reserve(["fx_rates", "txn_7d"])
    store.materialize(START, END, ["fx_rates"], progress=NoProgress())
    store.release(old | {"fx_rates": pb.GENERATED})
    assert states(store, "fx_rates") == ["AVAILABLE_ONLINE"]
    assert states(store, "txn_7d") != ["MATERIALIZING"]


def test_what_a_dead_job_left_marked_is_given_back_as_generated(store: FeatureStore) -> None:
    store.reserve(["fx_rates"])
    store.release(store.reserve(["fx_rates"], force=True))
    assert states(store, "fx_rates") == ["GENERATED"]


# --- arguments -------------------------------------------------------------------------------------------------------


def test_the_views_that_materialize_would_load(store: FeatureStore) -> None:
    assert sorted(store.materializable()) == sorted([*VIEWS, "stored_odfv"])
    assert store.materializable(["fx_rates", "fx_rates"]) == ["fx_rates"]
    with pytest.raises(FeatureViewNotFoundException, match="nope"):
        store.materializable(["nope"])
    with pytest.raises(RequestError, match="versions are not enabled"):
        store.materializable(["fx_rates"], "v1")
    assert store.materializable(["fx_rates"], "latest") == ["fx_rates"]


@pytest.mark.parametrize(
    ("to", "mode"),
    [
        ("online", 1),
        ("offline", 2),
        ("online_and_offline", 3),
        (1, 1),
        (3, 3),
        *((mode, mode.value) for mode in PushMode),
    ],
    ids=str,
)
def test_push_modes(to: Any, mode: int) -> None:
    assert _push_mode(to) == mode


@pytest.mark.parametrize("to", ["ONLINE", "", 0, 4, None], ids=repr)
def test_other_push_modes_are_refused(to: Any) -> None:
    with pytest.raises(RequestError, match="is not a supported push format; it is one of online, offline"):
        _push_mode(to)


def test_times_of_requests() -> None:
    assert parse_time("2026-03-01") == parse_time("2026-03-01T02:00:00+02:00") == LATER
    with pytest.raises(RequestError, match="Invalid timestamp: 'yesterday' is not a time"):
        parse_time("yesterday")


def test_writers_are_kept_as_long_as_their_view(store: FeatureStore) -> None:
    first = store._writer(store.get_feature_view("txn_7d"))
    assert store._writer(store.get_feature_view("txn_7d")) is first
    store.refresh_registry()
    again = store._writer(store.get_feature_view("txn_7d"))
    assert again is not first and again.plan.fields == first.plan.fields


def test_a_push_looks_at_all_rows_before_it_writes_anywhere(store: FeatureStore) -> None:
    path = store.repo_path / "data" / "txn.parquet"
    before, online = path.read_bytes(), amounts(store, "C1")
    with pytest.raises(WriteError, match="feature view txn_7d: column 'txn_count', row 0"):
        store.push("txn_push", txn(count="many"), to=PushMode.ONLINE_AND_OFFLINE)
    assert (path.read_bytes(), amounts(store, "C1")) == (before, online)


def test_a_push_to_both_stores_writes_nothing_if_the_file_has_other_columns(store: FeatureStore) -> None:
    online = amounts(store, "C1")
    with pytest.raises(WriteError, match=r"extra: \['more'\]"):
        store.push("txn_push", txn(), to=PushMode.ONLINE_AND_OFFLINE)
    assert amounts(store, "C1") == online
