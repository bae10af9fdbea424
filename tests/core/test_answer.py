"""An answer as our own clients get it: equal in every form to the batch that it was made from."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fastserve import _core
from fastserve._core import Batch
from fastserve.errors import DecodeError
from fastserve.types import ValueType
from tests import goldens, reference
from tests.core.requests import Request, every_type, make_plan, typical
from tests.hostile import mutated
from tests.reference import INT64, Feature

Response = reference.message_class("feast.serving.GetOnlineFeaturesResponse")

REQUESTS = {
    "typical": typical(random.Random(1), 3),
    "every type": every_type(),
    "no rows": typical(random.Random(2), 0),
}
PRESENT, NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE = 1, 2, 3, 4


def received(answer: bytes) -> Batch:
    return _core.read_answer(_core.answer_plan(_core.answer_head(answer)), answer)


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_every_form_is_that_of_the_batch(request_: Request) -> None:
    sent = request_.filled()
    got = received(_core.answer_bytes(sent))
    assert goldens.same(_core.python_columns(got, True), _core.python_columns(sent, True))
    assert _core.json_response(got) == _core.json_response(sent)
    assert _core.proto_response(got) == _core.proto_response(sent)
    assert _core.statuses(got) == _core.statuses(sent)
    assert (got.n_rows, got.entity_columns) == (sent.n_rows, [])
    for slot in sent.plan.outputs:
        same = next(other for other in got.plan.outputs if other.name == slot.name)
        assert same.value_type == slot.value_type
        assert _core.event_time_column(got, same) == _core.event_time_column(sent, slot)


@pytest.mark.parametrize("request_", [REQUESTS["typical"]], ids=["typical"])
def test_it_is_the_protobuf_answer_with_one_field_more(request_: Request) -> None:
    batch = request_.filled()
    answer = Response.FromString(_core.answer_bytes(batch))
    answer.metadata.DiscardUnknownFields()
    assert answer.SerializeToString(deterministic=True) == _core.proto_response(batch)


def test_absent_expired_and_null_values_are_told_apart() -> None:
    ttl = Feature("v", "old", "old", INT64, 60)
    plan = make_plan([Feature("v", "here", "here", INT64), ttl])
    batch = Batch(plan, {"customer_id": ["a", "b"]}, 2)
    one, long_ago = _core.encode_value(1, INT64), reference.encode_timestamp(1)
    for field, value in enumerate([b"", one, long_ago]):
        batch.put(0, 0, field, value)
    got = received(_core.answer_bytes(batch))
    assert _core.statuses(got)["here"] == ["NULL_VALUE", "NOT_FOUND"]
    assert _core.statuses(got)["old"] == ["OUTSIDE_MAX_AGE", "NOT_FOUND"]
    assert _core.python_columns(got)["old"] == [1, None]


def test_versions_of_views() -> None:
    head = _core.answer_head(_core.answer_bytes(Batch(versioned_plan(), {}, 0), True))
    assert _core.answer_plan(head).view_versions == (("v", 2), ("w", 0))
    without = _core.answer_head(_core.answer_bytes(Batch(versioned_plan(), {}, 0)))
    assert _core.answer_plan(without).view_versions == ()


def versioned_plan() -> _core.ReadPlan:
    return _core.plan_of_columns(["a"], [INT64], [("v", 2), ("w", 0)])


def test_equal_requests_have_equal_heads() -> None:
    one, other = (_core.answer_bytes(typical(random.Random(seed), 2).filled()) for seed in (1, 2))
    assert one != other
    assert _core.answer_head(one) == _core.answer_head(other)


def test_a_broken_value_names_its_row() -> None:
    plan = _core.plan_of_columns(["a"], [INT64])
    batch = _core.answer_of_columns(plan, 2, [([_core.encode_value(7, INT64), b"\x20"], [1, 1], None)])
    with pytest.raises(DecodeError, match="of a, entity key of row 1"):
        _core.python_columns(batch)


def test_columns_of_another_form() -> None:
    plan = _core.plan_of_columns(["a", "b"], [INT64, ValueType.STRING])
    seven, moment = _core.encode_value(7, INT64), reference.encode_timestamp(100)
    columns: list[tuple[Any, Any, Any]] = [
        ([seven, b""], [PRESENT, NOT_FOUND], [moment, b""]),
        ([b"", _core.encode_value("x", ValueType.STRING)], [NULL_VALUE, OUTSIDE_MAX_AGE], None),
    ]
    batch = _core.answer_of_columns(plan, 2, columns)
    assert _core.python_columns(batch, True) == {"a": [7, None], "a__ts": [100, 0], "b": [None, "x"], "b__ts": [0, 0]}
    assert _core.statuses(batch) == {"a": ["PRESENT", "NOT_FOUND"], "b": ["NULL_VALUE", "OUTSIDE_MAX_AGE"]}
    again = received(_core.answer_bytes(batch))
    assert _core.json_response(again) == _core.json_response(batch)


@pytest.mark.parametrize(
    "columns",
    [
        [],
        [([b""], [1], None)],
        [([b"", b""], [1], None)],
        [([b"", b""], [1, 5], None)],
        [([b"", b""], [1, -1], None)],
        [([b"", b""], [1, 1], [b""])],
        [([b"", b""], [1, 1], None)] * 2,
    ],
)
def test_columns_that_do_not_fit(columns: list[Any]) -> None:
    with pytest.raises(ValueError):
        _core.answer_of_columns(_core.plan_of_columns(["a"], [INT64]), 2, columns)


def test_a_plan_of_something_else_is_refused() -> None:
    # Places in memory are computed from the plan.
    for plan in (REQUESTS["typical"].plan, _core.ReadPlan([], [], join_keys={}, required={})):
        with pytest.raises(ValueError, match="not the plan of an answer"):
            _core.read_answer(plan, b"")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "without metadata"),
        (b"\x12\x00", "without metadata"),
        (b"\x0a\x05", "5 bytes expected"),
        (b"\x0a\x05\x0a\x03\x0a\x01a", "0 results for 1 columns"),
        (b"\x0a\x05\x0a\x03\x0a\x01a\x12\x00\x12\x00", "more than 1 results"),
        (b"\x0a\x05\x0a\x03\x0a\x01a\x12\x02\x0a\x00", "1 values, 0 statuses"),
        (b"\x0a\x05\x0a\x03\x0a\x01a\x12\x05\x0a\x00\x12\x01\x07", "status 7 of row 0"),
        (b"\x0a\x05\x0a\x03\x0a\x01a\x12\x06\x0a\x00\x12\x02\x01\x01", "status 1 of row 1"),
        (b"\x0a\x0a\x0a\x03\x0a\x01a\xa2\x06\x02\x01\x01\x12\x00", "2 types for 1 columns"),
    ],
)
def test_bytes_that_are_no_answer(answer: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        received(answer)


def test_broken_bytes(rand: random.Random) -> None:
    samples = [_core.answer_bytes(request.filled()) for request in REQUESTS.values()]
    for _ in range(2000):
        try:
            batch = received(mutated(rand, samples))
        except DecodeError:
            continue
        for emit in (_core.python_columns, _core.json_response, _core.proto_response, _core.statuses):
            try:
                emit(batch)
            except DecodeError as exc:
                assert exc.field is not None
