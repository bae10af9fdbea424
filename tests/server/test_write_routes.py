"""What Feast's server answered to writing requests, asked again of `fastserve serve`, in the order recorded."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from fastserve import FeatureStore
from fastserve.errors import StoreError
from fastserve.server.write_routes import Jobs
from tests import goldens
from tests.bank import states
from tests.server.test_golden_http import Mistake, check_mistake, parsed, send

PAIRS = goldens.load("http_pairs")["pairs"]
NAMES = [pair["name"] for pair in PAIRS]
WRITES = PAIRS[NAMES.index("push") :]

MISTAKES = {
    "push_unknown_source": Mistake(422, ("push source", "'nope'"), "PushSourceNotFoundException"),
    "push_bad_to": Mistake(400, ("sideways is not a supported push format",)),
    "push_missing_feature_column": Mistake(422, ("txn_7d", "missing columns: txn_count, avg_amount")),
    "push_missing_timestamp": Mistake(422, ("txn_7d", "missing columns: event_timestamp")),
    "push_ragged_df": Mistake(400, ("same length", "customer_id: 2", "amount_sum: 1")),
    "write_unknown_view": Mistake(404, ("nope", "does not exist"), "FeatureViewNotFoundException"),
    "materialize_bad_order": Mistake(400, ("must be before end_ts",)),
    "materialize_missing_ts": Mistake(400, ("start_ts and end_ts are required",)),
    "materialize_bad_ts": Mistake(400, ("Invalid timestamp", "'xx'")),
    "materialize_unknown_view": Mistake(404, ("Feature view nope does not exist",), "FeatureViewNotFoundException"),
    "materialize_incremental_bad_end": Mistake(400, ("Invalid timestamp", "'zz'")),
    "materialize_offline_only_view": Mistake(400, ("offline_only is not configured to be served online",)),
}

STATUSES = {"after_push": "OUTSIDE_MAX_AGE", "after_push_older": "OUTSIDE_MAX_AGE", "after_push_tz": "OUTSIDE_MAX_AGE"}
STATUSES |= {"after_push_epoch": "OUTSIDE_MAX_AGE", "after_push_null": "OUTSIDE_MAX_AGE"}
"""Rows older than the view's ttl, which Feast does not tell."""

OURS = {
    "after_push_precomputed_is_stale",  # a vector; here the features themselves
    "after_write_odfv",  # the event time is that of the write
    "read_while_materializing",  # served all the same
    "materialize_async_again",  # depends on whether the first has ended; see the tests of Jobs
}


@pytest.mark.parametrize("pair", WRITES, ids=[pair["name"] for pair in WRITES])
def test_write(redis_client: httpx.Client, redis_repo: Path, pair: dict[str, Any]) -> None:
    name, recorded = pair["name"], pair["response"]
    answer = send(redis_client, pair["request"])
    if name in MISTAKES:
        check_mistake(answer, MISTAKES[name])
    elif name in OURS:
        assert answer.status_code in (200, 202, 409)
    else:
        assert answer.status_code == recorded["status"]
        assert answer.headers.get("content-type") == recorded["headers"].get("content-type")
        assert parsed(answer.text) == with_status(parsed(recorded["body_text"]), STATUSES.get(name))
    if "async" in pair["request"]["path"]:
        wait_until_idle(redis_repo)


def with_status(body: Any, status: str | None) -> Any:
    for column, result in body["results"].items() if status else ():
        if column != "customer_id":
            result["statuses"] = [status] * len(result["values"])
    return body


def wait_until_idle(repo: Path) -> None:
    with FeatureStore(repo) as store:
        for _ in range(200):
            if "MATERIALIZING" not in states(store, "customer_profile", "fx_rates"):
                return
            time.sleep(0.05)
    raise AssertionError("the job does not end")


def test_results_of_writes(redis_client: httpx.Client) -> None:
    body = {"features": ["stored_odfv:income_k"], "entities": {"customer_id": ["C7"]}}
    assert redis_client.post("/get-online-features", json=body).json()["results"][1]["values"] == [5.0]


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/push", {"push_source_name": "txn_push", "df": []}, ["body", "df"]),
        ("/push", {"push_source_name": 5, "df": {}}, ["body", "push_source_name"]),
        (
            "/write-to-online-store",
            {"feature_view_name": "v", "df": {}, "transform_on_write": "x"},
            ["body", "transform_on_write"],
        ),
        ("/materialize", {"feature_views": "v"}, ["body", "feature_views"]),
        ("/materialize", {"feature_views": [5]}, ["body", "feature_views", 0]),
        ("/materialize-incremental", {"end_ts": None}, ["body", "end_ts"]),
        ("/materialize?async=perhaps", {"disable_event_timestamp": True}, ["query", "async"]),
    ],
)
def test_a_body_that_does_not_fit(redis_client: httpx.Client, path: str, body: Any, place: list[Any]) -> None:
    answer = redis_client.post(path, json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == place


def test_a_bad_row_is_named(redis_client: httpx.Client) -> None:
    rows = {"customer_id": ["C1"], "amount_sum": ["much"], "txn_count": [1], "avg_amount": [1.0]}
    rows |= {"event_timestamp": ["2026-05-01"], "created": ["2026-05-01"]}
    answer = redis_client.post("/push", json={"push_source_name": "txn_push", "df": rows})
    assert answer.status_code == 422
    assert answer.json().startswith("feature view txn_7d: column 'amount_sum', row 0: DOUBLE expected")


# --- jobs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(sqlite_bank_repo: Path) -> Any:
    with FeatureStore(sqlite_bank_repo) as found:
        yield found


def test_a_job_that_fails_takes_its_marks_back(store: FeatureStore, caplog: pytest.LogCaptureFixture) -> None:
    before = states(store, "fx_rates")

    def fail(**_: Any) -> None:
        assert states(store, "fx_rates") == ["MATERIALIZING"]
        raise StoreError("the store went away")

    jobs = Jobs()
    jobs.submit(store, ["fx_rates"], False, fail)
    jobs.close()
    assert states(store, "fx_rates") == before
    assert "materializing fx_rates failed: the store went away" in caplog.text


def test_closing_stops_what_runs(store: FeatureStore) -> None:
    stopped = []
    jobs = Jobs()
    jobs.submit(store, ["fx_rates"], False, lambda stop: stopped.append(stop.wait(10)))
    jobs.close()
    assert stopped == [True]


def test_every_recorded_write_is_asked() -> None:
    assert {*MISTAKES, *STATUSES, *OURS} <= {pair["name"] for pair in WRITES}
    assert len(WRITES) == len(NAMES) - 52
    assert json.dumps(WRITES)
