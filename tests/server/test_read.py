"""Which form of an answer a header Accept asks for; the forms themselves are in test_app.py and test_fastlane.py."""

from __future__ import annotations

from pathlib import Path

import httpx
import msgspec
import pytest

from fastserve.feature_store import FeatureStore
from fastserve.server.hooks import Hooks
from fastserve.server.limits import Life, Limits
from fastserve.server.read import ARROW, PROTOBUF, Head, Reads
from tests import reference

Response = reference.message_class("feast.serving.GetOnlineFeaturesResponse")
JSON = "application/json"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, ""),
        ("", ""),
        ("*/*", ""),
        (JSON, ""),
        ("text/html", ""),
        (ARROW, ARROW),
        (PROTOBUF, PROTOBUF),
        (PROTOBUF.upper(), PROTOBUF),
        (f"{PROTOBUF}, {JSON};q=0.5", PROTOBUF),
        (f"{JSON}, {PROTOBUF};q=0.5", ""),
        (f"{JSON};q=0.1,{ARROW};q=0.2", ARROW),
        (f"{ARROW};q=0.2,{PROTOBUF};q=0.3", PROTOBUF),
        (f"{ARROW}, {PROTOBUF};q=0", ARROW),
        (f"{PROTOBUF};q=x", ""),
        (f"{PROTOBUF};v=1;q=0.4", PROTOBUF),
    ],
)
def test_the_form_that_is_asked_for(accept: str | None, wanted: str) -> None:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    assert Head(headers).wanted == wanted


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ({}, "json"),
        ({"accept": "*/*"}, "json"),
        ({"accept": PROTOBUF}, "protobuf"),
        ({"accept": ARROW}, None),
        ({"content-type": "text/plain"}, None),
        ({"x-request-id": "1"}, None),
        ({"x-request-timeout-ms": "1"}, None),
        ({"traceparent": ""}, None),
    ],
    ids=str,
)
def test_heads_that_a_lane_can_do(headers: dict[str, str], form: str | None) -> None:
    given = {"content-type": JSON, **headers}
    assert Head([(name.encode(), value.encode()) for name, value in given.items()]).quick_form == form


BODY = b'{"features": ["customer_profile:age"], "entities": {"customer_id": ["C1"]}%b}'


@pytest.mark.parametrize(
    ("more", "is_known"),
    [(b"", True), (b', "compact": true', True), (b', "time_entities": ["x"]', False), (b', "entities": {}', False)],
)
def test_a_read_is_known_until_its_plan_may_be_another(sqlite_bank_repo: Path, more: bytes, is_known: bool) -> None:
    with FeatureStore(sqlite_bank_repo) as store:
        reads = Reads(store, Life(Limits()), Hooks(store.config))
        assert reads.lane is not None
        body, epoch = BODY % more, store.plans_epoch
        plan = store.plan(["customer_profile:age"])
        reads.learn(body, reads.parse(body, Head([(b"content-type", JSON.encode())])), plan, epoch)
        assert reads.lane.knows(body.replace(b"C1", b"other"), epoch) is is_known
        assert not reads.lane.knows(body.replace(b"age", b"segment"), epoch)
        store.apply([])  # refreshes the registry
        assert not reads.lane.knows(body, store.plans_epoch)


def test_who_must_show_a_key_has_no_lane(sqlite_bank_repo: Path) -> None:
    with FeatureStore(sqlite_bank_repo) as store:
        auth = {"type": "api_key", "keys": ["secret-of-16-chars"]}
        hooks = Hooks(msgspec.structs.replace(store.config, auth=auth))
        assert Reads(store, Life(Limits()), hooks).lane is None


def test_an_answer_as_protobuf(redis_client: httpx.Client) -> None:
    body = {"features": ["customer_profile:age"], "entities": {"customer_id": ["C1", "C2"]}}
    answer = redis_client.post("/get-online-features", json=body, headers={"Accept": PROTOBUF})
    assert (answer.status_code, answer.headers["content-type"]) == (200, PROTOBUF)
    message = Response.FromString(answer.content)
    assert list(message.metadata.feature_names.val) == ["customer_id", "age"]
    assert [value.int32_val for value in message.results[1].values] == [41, 29]


def test_an_error_names_its_class(redis_client: httpx.Client) -> None:
    body = {"features": ["customer_profile:age"], "entities": {"customer_id": [None]}}
    answer = redis_client.post("/get-online-features", json=body)
    assert (answer.status_code, answer.headers["x-fastserve-error"]) == (422, "EntityError")
    assert '"row": 0' in answer.headers["x-fastserve-error-fields"]


def test_entities_of_bytes(redis_client: httpx.Client) -> None:
    # No view of the bank has such a key: that the bytes arrive is seen by what refuses them.
    body = {"features": ["customer_profile:age"], "entities": {}, "binary_entities": {"customer_id": ["QzE="]}}
    answer = redis_client.post("/get-online-features", json=body)
    assert answer.status_code == 422 and "STRING expected, got bytes" in answer.text


def test_base64_that_is_none(redis_client: httpx.Client) -> None:
    body = {"features": ["customer_profile:age"], "entities": {}, "binary_entities": {"customer_id": ["Q"]}}
    answer = redis_client.post("/get-online-features", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "binary"]


def test_times_are_times_for_functions_too(redis_client: httpx.Client) -> None:
    # `amount` is request data that the function multiplies: a time it cannot.
    body = {"features": ["risk_pd:double_amount"], "entities": {"customer_id": ["C1"], "amount": [86400]}}
    assert redis_client.post("/get-online-features", json=body).json()["results"][1]["values"] == [172800.0]
    answer = redis_client.post("/get-online-features", json={**body, "time_entities": ["amount", "nope"]})
    assert answer.status_code == 500 and "risk_pd" in answer.text


@pytest.mark.parametrize("value", [2**62, "x", None, True])
def test_what_is_no_time_stays_what_it_is(redis_client: httpx.Client, value: object) -> None:
    body = {"features": ["fx_rates:eur_usd"], "entities": {"account_id": [value]}}
    plain = redis_client.post("/get-online-features", json=body)
    assert redis_client.post("/get-online-features", json={**body, "time_entities": ["account_id"]}).text == plain.text
