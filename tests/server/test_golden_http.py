"""What Feast's server answered to read requests, asked again of `fastserve serve`.

Answers are compared as parsed JSON, columns by name, since Feast's order of the features of a view is arbitrary. Every
difference is listed here with the new value, and explained in docs/feast-differences.md.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests import goldens

Changes = dict[str, dict[str, list[Any]]]

EPOCH = "1970-01-01T00:00:00Z"
C1_TXN, C2_TXN = "2026-01-05T12:00:00Z", "2026-01-06T00:00:00Z"
C1_PROFILE, C2_PROFILE = "2026-01-02T03:04:05.678901Z", "2026-01-02T00:00:00Z"
OLD, FOUND, ABSENT, NULL = "OUTSIDE_MAX_AGE", "PRESENT", "NOT_FOUND", "NULL_VALUE"


@dataclass(frozen=True)
class Mistake:
    """An error answer of ours: Feast's body shape, with another status or other words.

    Args:
        feast_class: of `feast.errors`, when the body names one.
        words: what the text must contain.
    """

    status: int
    words: tuple[str, ...]
    feast_class: str | None = None


def column(values: list[Any], statuses: list[str], times: list[str]) -> dict[str, list[Any]]:
    return {"values": values, "statuses": statuses, "event_timestamps": times}


def key(*values: Any) -> dict[str, list[Any]]:
    return column(list(values), [FOUND] * len(values), [EPOCH] * len(values))


EMPTY: dict[str, list[Any]] = {"values": [], "statuses": []}

CHANGED: dict[str, Changes] = {
    "features": {
        "age": {"statuses": [FOUND, FOUND, ABSENT]},
        "segment": {"statuses": [FOUND, FOUND, ABSENT]},
        "amount_sum": {"statuses": [OLD, OLD, ABSENT]},
    },
    "features_full_names": {"txn_7d__amount_sum": {"statuses": [OLD]}},
    "feature_service": {
        "amount_sum": {"statuses": [OLD, ABSENT]},
        "txn_count": {"statuses": [OLD, ABSENT]},
        "avg_amount": {"statuses": [OLD, ABSENT]},
        "age": {"statuses": [FOUND, NULL]},
        "segment": {"statuses": [FOUND, NULL]},
    },
    "feature_service_precomputed_full_names": {
        "txn_7d__amount_sum": {"event_timestamps": [C2_TXN, C1_TXN, C2_TXN]},
        "txn_7d__txn_count": {"event_timestamps": [C2_TXN, C1_TXN, C2_TXN]},
        "txn_7d__avg_amount": {"event_timestamps": [C2_TXN, C1_TXN, C2_TXN]},
        "customer_profile__age": {"event_timestamps": [C2_PROFILE, C1_PROFILE, C2_PROFILE]},
        "customer_profile__segment": {"event_timestamps": [C2_PROFILE, C1_PROFILE, C2_PROFILE]},
    },
    "feature_service_odfv": {"amount_sum": {"statuses": [OLD]}},
    "odfv_python_full_names": {
        "txn_7d__amount_sum": {"statuses": [OLD]},
        "risk_py__ratio": column([5.0], [FOUND], [EPOCH]),
    },
    "all_types_values": {"sm_map": {"values": [{"1": "a"}]}},
    "null_timestamp_sentinel": {
        "opened_at": {"values": [None, -1], "statuses": [NULL, FOUND]},
        "income": {"statuses": [NULL, FOUND]},
        "labels": {"statuses": [FOUND, NULL]},
    },
}
"""Pair -> column -> what differs in it. A column that Feast leaves out is given whole."""

ANSWERED: dict[str, Changes] = {
    "feature_service_precomputed_short_names": {
        "customer_id": key("C1"),
        "amount_sum": column([20.0], [OLD], [C1_TXN]),
        "txn_count": column([2], [OLD], [C1_TXN]),
        "avg_amount": column([10.0], [OLD], [C1_TXN]),
        "age": column([41], [FOUND], [C1_PROFILE]),
        "segment": column(["gold"], [FOUND], [C1_PROFILE]),
    },
    "feature_service_precomputed_missing_entity": {
        "customer_id": key("C1", "NOPE"),
        "txn_7d__amount_sum": column([20.0, None], [OLD, ABSENT], [C1_TXN, EPOCH]),
        "txn_7d__txn_count": column([2, None], [OLD, ABSENT], [C1_TXN, EPOCH]),
        "txn_7d__avg_amount": column([10.0, None], [OLD, ABSENT], [C1_TXN, EPOCH]),
        "customer_profile__age": column([41, None], [FOUND, ABSENT], [C1_PROFILE, EPOCH]),
        "customer_profile__segment": column(["gold", None], [FOUND, ABSENT], [C1_PROFILE, EPOCH]),
    },
    "entityless_no_columns": {"eur_usd": column([1.09], [FOUND], ["2026-01-02T00:00:00Z"])},
    "empty_entities": {"customer_id": EMPTY, "age": EMPTY},
    "empty_column": {"customer_id": EMPTY, "age": EMPTY},
}
"""Pair -> the columns of our answer, where Feast's is an error."""

MISTAKES = {
    "odfv_missing_request_data": Mistake(
        404, ("request data", "['amount']"), "RequestDataNotFoundInEntityRowsException"
    ),
    "unknown_feature": Mistake(404, ("Feature x not found", "customer_profile"), "FeastObjectNotFoundException"),
    "bad_reference": Mistake(400, ("Invalid feature reference 'customer_profile'",)),
    "no_features": Mistake(400, ("No features specified for retrieval",)),
    "missing_join_key": Mistake(422, ("missing join key customer_id", "customer_profile")),
    "null_key": Mistake(422, ("customer_id", "row 0", "null")),
    "ragged_entities": Mistake(422, ("same length", "customer_id: 2", "x: 1")),
    "duplicate_feature": Mistake(400, ("age", "full_feature_names=True"), "FeatureNameCollisionError"),
    "versioned_ref_disabled": Mistake(400, ("customer_profile@v1", "enable_online_feature_view_versioning")),
}

PAGES = {"openapi", "docs"}
"""Their content has its own tests."""

OTHER_ROUTES = {
    "retrieve_documents_redis",
    "search_redis",
    "vector_stores_list",
    "vector_store_get_missing",
    "chat_post",
    "chat_get",
}
"""Vector search and the chat page are not part of this release: 404."""

# Later pairs see what the first write, "push", has changed.
RECORDED = {pair["name"]: pair for pair in goldens.load("http_pairs")["pairs"]}
READS = list(RECORDED)[: list(RECORDED).index("push")]

SQLITE_RECORDED = {pair["name"]: pair for pair in goldens.load("http_pairs_sqlite")["pairs"]}
SQLITE_READS = ["features_missing_entity", "precomputed_on_sqlite", "view_with_online_false"]
SQLITE_CHANGED: dict[str, Changes] = {
    "features_missing_entity": {
        "age": {"statuses": [FOUND, ABSENT, NULL]},
        "amount_sum": {"statuses": [OLD, ABSENT, ABSENT]},
    }
}
C1_PROFILE_SECONDS = "2026-01-02T03:04:05Z"
SQLITE_MISTAKES = {
    "view_with_online_false": Mistake(503, ("offline_only", "no table")),
}
SQLITE_ANSWERED: dict[str, Changes] = {
    "precomputed_on_sqlite": {
        "customer_id": key("C1"),
        "txn_7d__amount_sum": column([20.0], [OLD], [C1_TXN]),
        "txn_7d__txn_count": column([2], [OLD], [C1_TXN]),
        "txn_7d__avg_amount": column([10.0], [OLD], [C1_TXN]),
        "customer_profile__age": column([41], [FOUND], [C1_PROFILE_SECONDS]),
        "customer_profile__segment": column(["gold"], [FOUND], [C1_PROFILE_SECONDS]),
    }
}


def send(client: httpx.Client, request: dict[str, Any]) -> httpx.Response:
    body = request["body"]
    content = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    return client.request(request["method"], request["path"], content=content, headers=request["headers"])


def parsed(text: str) -> Any:
    """Return what a body says, with the columns of an answer by name."""
    if not text:
        return None
    body = json.loads(text)
    if isinstance(body, dict) and "results" in body:
        names = body["metadata"].pop("feature_names")
        assert len(set(names)) == len(names) == len(body["results"])
        body["results"] = dict(zip(names, body["results"], strict=True))
    return body


def changed(body: Any, changes: Changes) -> Any:
    body = copy.deepcopy(body)
    for name, parts in changes.items():
        recorded = body["results"].setdefault(name, {})
        assert all(recorded.get(part) != value for part, value in parts.items()), f"{name} does not differ"
        recorded.update(parts)
    return body


def check_mistake(answer: httpx.Response, mistake: Mistake) -> None:
    assert answer.status_code == mistake.status
    assert answer.headers["content-type"] == "application/json"
    text = answer.json()
    assert isinstance(text, str)
    if mistake.feast_class is not None:
        inner = json.loads(text)
        assert {**inner, "message": ""} == {"module": "feast.errors", "class": mistake.feast_class, "message": ""}
        text = inner["message"]
    assert all(word in text for word in mistake.words), text


def check_answered(answer: httpx.Response, recorded: dict[str, Any], results: Changes) -> None:
    assert recorded["status"] == 500
    assert answer.status_code == 200
    assert parsed(answer.text) == {"results": results, "metadata": {}}


def check_recorded(answer: httpx.Response, recorded: dict[str, Any], changes: Changes) -> None:
    assert answer.status_code == recorded["status"]
    assert parsed(answer.text) == changed(parsed(recorded["body_text"]), changes)
    for name in ("content-type", "allow"):
        assert answer.headers.get(name) == recorded["headers"].get(name)
    if "location" in recorded["headers"]:
        assert httpx.URL(answer.headers["location"]).path == httpx.URL(recorded["headers"]["location"]).path


@pytest.mark.parametrize("name", [name for name in READS if name not in PAGES | OTHER_ROUTES])
def test_read(redis_client: httpx.Client, name: str) -> None:
    answer = send(redis_client, RECORDED[name]["request"])
    if name in MISTAKES:
        check_mistake(answer, MISTAKES[name])
    elif name in ANSWERED:
        check_answered(answer, RECORDED[name]["response"], ANSWERED[name])
    else:
        check_recorded(answer, RECORDED[name]["response"], CHANGED.get(name, {}))
    for _ in range(2):  # by now its like was there before
        again = send(redis_client, RECORDED[name]["request"])
        assert (again.status_code, again.content) == (answer.status_code, answer.content)


@pytest.mark.parametrize("name", SQLITE_READS)
def test_sqlite_read(sqlite_client: httpx.Client, name: str) -> None:
    answer = send(sqlite_client, SQLITE_RECORDED[name]["request"])
    if name in SQLITE_MISTAKES:
        check_mistake(answer, SQLITE_MISTAKES[name])
    elif name in SQLITE_ANSWERED:
        check_answered(answer, SQLITE_RECORDED[name]["response"], SQLITE_ANSWERED[name])
    else:
        check_recorded(answer, SQLITE_RECORDED[name]["response"], SQLITE_CHANGED[name])


@pytest.mark.parametrize("name", sorted(PAGES))
def test_page(redis_client: httpx.Client, name: str) -> None:
    recorded, answer = RECORDED[name]["response"], send(redis_client, RECORDED[name]["request"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, recorded["headers"]["content-type"])


@pytest.mark.parametrize("name", sorted(OTHER_ROUTES))
def test_route_that_is_not_here(redis_client: httpx.Client, name: str) -> None:
    answer = send(redis_client, RECORDED[name]["request"])
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


def test_columns_come_in_the_order_asked_for(redis_client: httpx.Client) -> None:
    for name in ("features", "two_join_keys", "all_types_values", "odfv_python"):
        request = RECORDED[name]["request"]["body"]
        answer = send(redis_client, RECORDED[name]["request"]).json()
        keys = [column for column in request["entities"] if column != "amount"]
        asked = [reference.partition(":")[2] for reference in request["features"]]
        assert answer["metadata"]["feature_names"] == keys + asked


def test_every_recorded_read_is_asked() -> None:
    listed = {*CHANGED, *ANSWERED, *MISTAKES, *PAGES, *OTHER_ROUTES}
    assert listed <= set(READS)
    assert len(READS) == 52
