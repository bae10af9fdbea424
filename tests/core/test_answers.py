"""From rows to answers: commands, replies and both forms of the answer, as the oracle has them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve import _core
from fastserve.errors import DecodeError
from tests import reference
from tests.conftest import Rand
from tests.core.requests import JOIN_KEY, Request, frame_reply, make_plan, typical
from tests.core.strategies import FIRST_SECOND, LAST_SECOND, stored_values
from tests.goldens import same
from tests.hostile import mutated
from tests.reference import Feature

NAMES = ["a", "b", "ž"]
RECENT_DAYS = st.integers(-5, 0).map(lambda days: int(time.time()) + days * 86400 + 3600)
EVENT_TIMES = st.builds(
    reference.encode_timestamp,
    st.integers(FIRST_SECOND, LAST_SECOND) | RECENT_DAYS,
    st.integers(0, 999_999).map(lambda micros: micros * 1000),
)
"""Of any time, and of the last days: some older than the ttl, some not."""


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Draw a request: any views, features, stored values and rows, of which some repeat and some are not stored."""
    pairs = draw(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1, max_size=5, unique=True)
    )
    features = tuple(Feature(v, n, f"{v}__{n}", ttl=draw(st.sampled_from([0, 86400]))) for v, n in pairs)
    names = draw(st.lists(st.text(max_size=3), max_size=4))
    entities = draw(st.lists(st.sampled_from(names), max_size=6)) if names else []
    stored = {name: draw(_hashes(features)) for name in set(entities)}
    return Request(make_plan(features), features, entities, [stored[name] for name in entities])


@st.composite
def _hashes(draw: st.DrawFn, features: Sequence[Feature]) -> reference.Hash:
    stored: dict[bytes, bytes | None] = {}
    for view, name, *_ in features:
        stored[reference.field_id(view, name)] = draw(st.none() | stored_values)
        stored[reference.timestamp_field(view)] = draw(st.none() | EVENT_TIMES)
    return stored


# --- commands --------------------------------------------------------------------------------------------------------


@given(requests())
def test_commands_as_the_oracle(request: Request) -> None:
    expected = [
        reference.hmget(key + b"bank", request.plan.groups[0].fields)
        for key in (
            reference.serialize_entity_key([JOIN_KEY], [name], [reference.STRING])
            for name in dict.fromkeys(request.entities)
        )
    ]
    batch = request.begin()
    assert (batch.commands() or b"") == b"".join(expected)
    assert batch.commands() is None


# --- answers ---------------------------------------------------------------------------------------------------------


@given(requests(), st.booleans())
def test_columns_as_the_oracle(request: Request, timestamps: bool) -> None:
    answer = _core.python_columns(request.filled(), timestamps)
    expected = reference.to_dict({JOIN_KEY: request.entities}, request.columns, timestamps)
    assert list(answer) == list(expected)
    assert same(answer, expected)


@given(requests())
def test_json_as_the_oracle(request: Request) -> None:
    batch = request.filled()
    expected = reference.to_json({JOIN_KEY: request.entities}, request.columns, now=time.time())
    if not request.entities:
        for result in expected["results"]:
            del result["event_timestamps"]
    assert same(json.loads(_core.json_response(batch)), expected)
    assert list(_core.statuses(batch).values()) == [result["statuses"] for result in expected["results"]]


@given(requests())
def test_protobuf_as_the_oracle(request: Request) -> None:
    message = reference.message_class("feast.serving.GetOnlineFeaturesResponse").FromString(
        _core.proto_response(request.filled())
    )
    expected = reference.to_json({JOIN_KEY: request.entities}, request.columns, now=time.time())
    labels = {v.number: v.name.removeprefix("FieldStatus_") for v in _status_field(message).enum_type.values}
    assert list(message.metadata.feature_names.val) == expected["metadata"]["feature_names"]
    for result, column in zip(message.results, expected["results"], strict=True):
        assert same([reference.value_to_json(value) for value in result.values], column["values"])
        assert [labels[status] for status in result.statuses] == column["statuses"]
        micros = [stamp.seconds * 1_000_000 + stamp.nanos // 1000 for stamp in result.event_timestamps]
        assert [reference.rfc3339(micro) for micro in micros] == column["event_timestamps"]


def _status_field(message: reference.Message) -> Any:
    return message.DESCRIPTOR.nested_types_by_name["FeatureVector"].fields_by_name["statuses"]


def test_typical_request() -> None:
    request = typical(Random(7), 50)
    expected = reference.to_dict({JOIN_KEY: request.entities}, request.columns, timestamps=True)
    assert same(_core.python_columns(request.filled(), True), expected)


# --- what must not happen --------------------------------------------------------------------------------------------


def test_hostile_replies(rand: Rand) -> None:
    request = typical(rand, 3, n_views=1)
    samples = [request.replies(), frame_reply([None] * 9) * 3, frame_reply([b""] * 9) * 3]
    for _ in range(3000):
        check_hostile_replies(request, mutated(rand, samples))


def check_hostile_replies(request: Request, replies: bytes) -> None:
    """Any bytes give an answer, an UnusualReply or a DecodeError that names the place."""
    batch = request.begin()
    batch.commands()
    try:
        done = batch.feed(replies)
    except _core.UnusualReply as error:
        assert replies.endswith(error.rest)
        return
    for emit in (_core.python_columns, _core.json_response, _core.proto_response, _core.statuses):
        try:
            emit(batch)
        except DecodeError as error:
            assert error.field is not None
            assert error.key is not None
    if done:
        parsed = reference.parse_replies(replies)
        assert [len(reply) for reply in parsed] == [9, 9, 9]


def test_computed_columns_must_be_bytes() -> None:
    batch = typical(Random(1), 2, n_views=1).filled()
    with pytest.raises((TypeError, ValueError)):
        batch.set_computed("f", ["text", b""])  # type: ignore[list-item]
    with pytest.raises(ValueError):
        batch.set_computed("f", [b""])


@pytest.mark.parametrize("place", [{"group": 1}, {"field": 9}, {"field": -1}, {"event_time": 9}, {"event_time": -1}])
def test_slots_must_lie_in_their_group(place: dict[str, int]) -> None:
    plan = typical(Random(1), 1, n_views=1).plan
    slot = _core.Slot("f", "v:f", 4, **{"group": 0, "field": 0, "event_time": 8, **place})
    with pytest.raises((ValueError, IndexError)):
        _core.ReadPlan(plan.groups, [slot], join_keys=plan.join_keys, required=plan.required)
