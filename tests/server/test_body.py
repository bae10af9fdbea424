"""Bodies of read requests: what FastAPI and pydantic, which Feast's server uses, make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastserve.server import body as body_module
from fastserve.server.body import BodyError, GetOnlineFeaturesRequest, UnreadableBody, parse_body

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "recorded_bodies.json").read_text())["cases"]

OURS = {"compact", "binary_entities", "time_entities"}
"""Fields that Feast does not have."""


def answer(data: bytes, content_type: str | None) -> tuple[int, Any]:
    try:
        found = msgspec.to_builtins(parse_body(data, content_type, GetOnlineFeaturesRequest))
        found["features"] = list(found["features"])
        return 200, {name: value for name, value in found.items() if name not in OURS}
    except BodyError as exc:
        return 422, {"detail": exc.detail}
    except UnreadableBody:
        return 400, {"detail": "There was an error parsing the body"}


def in_words_of_this_python(data: bytes, expected: Any) -> Any:
    """The standard library words its complaints, and counts positions, a little differently in each version."""
    if isinstance(expected["detail"], list) and expected["detail"][0]["type"] == "json_invalid":
        with pytest.raises(json.JSONDecodeError) as caught:
            json.loads(data)
        expected["detail"][0].update(loc=["body", caught.value.pos], ctx={"error": caught.value.msg})
    return expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['body'][:60]} {case['content_type']}")
def test_equals_the_recorded_answer(case: dict[str, Any]) -> None:
    data = case["body"].encode("latin-1")
    expected = case["answer"] if case["status"] == 200 else in_words_of_this_python(data, case["answer"])
    assert answer(data, case["content_type"]) == (case["status"], expected)


def test_references_that_are_asked_for_again_are_the_same_object() -> None:
    bodies = [b'{"entities":{"a":[%d]},"features":["v:x", "v:y"]}' % number for number in range(2)]
    first, second = (parse_body(body, "application/json", GetOnlineFeaturesRequest) for body in bodies)
    assert first.features is second.features
    assert first.features == ("v:x", "v:y")  # type: ignore[comparison-overlap]
    other = parse_body(b'{"entities":{},"features":["v:x","v:y"]}', "application/json", GetOnlineFeaturesRequest)
    assert other.features == first.features


def test_references_are_not_kept_without_end() -> None:
    for number in range(3000):
        body = b'{"entities":{},"features":["v:%d"]}' % number
        assert list(parse_body(body, "application/json", GetOnlineFeaturesRequest).features) == [f"v:{number}"]
    assert len(body_module._references) <= body_module.KNOWN_REFERENCES


@pytest.mark.parametrize("features", ['["a", 5]', '["a"', '["\\ud800"]', '{"a": 1}', "null", '["a" "b"]', '["\x01"]'])
def test_references_that_are_none_are_refused_each_time(features: str) -> None:
    for _ in range(2):
        assert answer(f'{{"entities": {{}}, "features": {features}}}'.encode(), "application/json")[0] == 422


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_json_lacks_are_read(number: str) -> None:
    body = parse_body(f'{{"entities": {{"a": [{number}]}}}}'.encode(), "application/json", GetOnlineFeaturesRequest)
    assert repr(body.entities["a"][0]) == repr(float(number))


def test_integers_are_exact() -> None:
    numbers = [2**63 - 1, -(2**63), 2**64 - 1, 2**64, -(10**40)]
    body = parse_body(json.dumps({"entities": {"a": numbers}}).encode(), "application/json", GetOnlineFeaturesRequest)
    assert body.entities["a"] == numbers


@pytest.mark.parametrize("place", ['{"entities": {"\\ud800": [1]}}', '{"entities": {"a": ["x\\udfff"]}}', '"\\ud800"'])
def test_unpaired_surrogates_are_not_json(place: str) -> None:
    status, body = answer(place.encode(), "application/json")
    assert status == 422
    assert body["detail"][0]["type"] == "json_invalid"
    assert "surrogate" in body["detail"][0]["ctx"]["error"]


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b'{"entities": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", b"9" * 5000],
    ids=["open", "closed", "digits"],
)
def test_too_deep_or_too_long_is_refused(data: bytes) -> None:
    assert answer(data, "application/json")[0] in (400, 422)


def test_text_that_is_not_utf8_is_unreadable_whatever_its_type() -> None:
    assert answer(b"\xff", "text/plain")[0] == 400


def test_any_bytes_get_an_answer(rand: Any) -> None:
    good = bytearray(b'{"entities": {"a": [1, "x", null, 2.5]}, "features": ["v:f"], "full_feature_names": true}')
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rand.randint(1, 4)):
            data[rand.randrange(len(data))] = rand.choice(b'{}[]",:0tn\\\xff \x00')
        assert answer(bytes(data), "application/json")[0] in (200, 400, 422)
