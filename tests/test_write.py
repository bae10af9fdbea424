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
import pyarrow.parquet as pq
import pytest

from fastserve import FeatureStore, PushMode
from fastserve.errors import (
    FeatureViewNotFoundException,
    NotSupportedError,
    PushSourceNotFoundException,
    RequestError,
    SourceError,
    TransformError,
    WriteError,
)
from tests import goldens
from tests.registries import yaml_of
from tests.servers import RedisServer

UTC = dt.timezone.utc
LATER = dt.datetime(2026, 3, 1, tzinfo=UTC)
TXN = ["txn_7d:amount_sum", "txn_7d:txn_count", "txn_7d:avg_amount"]


def txn(customer: str = "C1", amount: float | None = 500.5, time: Any = LATER, count: Any = 50) -> dict[str, list[Any]]:
    return {
        "customer_id": [customer],
        "amount_sum": [amount],
        "txn_count": [count],
        "avg_amount": [10.5],
        "event_timestamp": [time],
        "created": [time],
        "more": ["ignored"],
    }


def amounts(store: FeatureStore, *customers: str) -> list[Any]:
    found = store.get_online_features(["txn_7d:amount_sum"], {"customer_id": list(customers)}).to_dict()
    return list(found["amount_sum"])


@pytest.fixture
def store(bank_repo: Path) -> Any:
    with FeatureStore(bank_repo) as found:
        yield found


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


@pytest.mark.parametrize(
    "rows",
    [{}, [], pd.DataFrame(), txn(amount=None, count=None) | {"avg_amount": [float("nan")]}],
    ids=["dict", "list", "frame", "nulls"],
)
def test_rows_without_a_feature_are_passed_over(
    store: FeatureStore, rows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = amounts(store, "C1")
    store.push("txn_push", rows)
    assert amounts(store, "C1") == before
    assert "feature view txn_7d: no row" in caplog.text


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


def test_a_stored_on_demand_view_is_computed_when_it_is_written(store: FeatureStore) -> None:
    before = int(dt.datetime.now(UTC).timestamp())
    store.write_to_online_store("stored_odfv", {"customer_id": ["C7", "C8"], "income": [5000.0, None]})
    answer = store.get_online_features(["stored_odfv:income_k"], {"customer_id": ["C7", "C8"]})
    assert answer.to_dict()["income_k"] == [5.0, None]
    assert answer.to_df(include_event_timestamps=True)["income_k__ts"][0] >= before
    with pytest.raises(TransformError, match="stored_odfv: KeyError: 'income'"):
        store.write_to_online_store("stored_odfv", {"customer_id": ["C7"]})


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


# --- the offline store -----------------------------------------------------------------------------------------------


def offline(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: column for name, column in rows.items() if name != "more"}


@pytest.mark.parametrize("to", ["offline", PushMode.OFFLINE, 2])
def test_rows_pushed_offline_come_first_in_the_file(store: FeatureStore, to: Any) -> None:
    path = store.repo_path / "data" / "txn.parquet"
    before, online = pq.read_table(path), amounts(store, "C1")
    store.push("txn_push", offline(txn(time="2026-03-01T00:00:00")), to=to)
    after = pq.read_table(path)
    assert after.schema.equals(before.schema) and after.slice(1).equals(before)
    assert after.to_pylist()[0]["amount_sum"] == 500.5 and after.to_pylist()[0]["event_timestamp"] == LATER
    assert amounts(store, "C1") == online


def test_both_stores_at_once(store: FeatureStore) -> None:
    store.push("txn_push", offline(txn()), to=PushMode.ONLINE_AND_OFFLINE)
    assert amounts(store, "C1") == [500.5]
    assert pq.read_table(store.repo_path / "data" / "txn.parquet").num_rows == 5


def test_offline_rows_have_the_columns_of_the_file(store: FeatureStore) -> None:
    with pytest.raises(WriteError, match=r"missing: \[\], extra: \['more'\]"):
        store.write_to_offline_store("txn_7d", txn())
    turned = dict(reversed(offline(txn()).items()))
    with pytest.raises(WriteError, match="columns must be those"):
        store.write_to_offline_store("txn_7d", turned, reorder_columns=False)
    with pytest.raises(WriteError, match="column 'txn_count'"):
        store.write_to_offline_store("txn_7d", turned | {"txn_count": ["many"]})
    store.write_to_offline_store("txn_7d", turned)
    assert sorted(p.name for p in (store.repo_path / "data").iterdir() if "txn" in p.name) == ["txn.parquet"]


def test_offline_without_a_file_is_an_error(store: FeatureStore) -> None:
    (store.repo_path / "data" / "txn.parquet").unlink()
    with pytest.raises(SourceError, match="feature view txn_7d"):
        store.write_to_offline_store("txn_7d", offline(txn()))
    (store.repo_path / "data" / "txn.parquet").mkdir()
    with pytest.raises(NotSupportedError, match="single local Parquet file"):
        store.write_to_offline_store("txn_7d", offline(txn()))


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
