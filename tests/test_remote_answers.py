"""The JSON of servers -> answers in every form."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any
from uuid import UUID

import pytest

from fastserve import _core
from fastserve.remote_answers import read_json_answer
from fastserve.types import ValueType
from tests import goldens, reference
from tests.goldens import same
from tests.rows import UTC

V = ValueType
OUTPUTS = [pair for pair in goldens.value_outputs() if pair[1]["oneof"] not in (None, "null_val", "scalar_map_val")]


def answer(values: list[Any], statuses: list[str] | None = None, times: list[str] | None = None, **more: Any) -> bytes:
    column = {"values": values, "statuses": statuses or ["PRESENT"] * len(values)}
    if times is not None:
        column["event_timestamps"] = times
    return json.dumps({"results": [column], "metadata": {"feature_names": ["a"], **more}}).encode()


def read(value: Any, value_type: int = 0) -> Any:
    return _core.python_columns(read_json_answer(answer([value]), {"a": value_type}))["a"][0]


@pytest.mark.parametrize(("name", "output"), OUTPUTS, ids=[name for name, _ in OUTPUTS])
def test_every_recorded_value_comes_back(name: str, output: dict[str, Any]) -> None:
    """Their JSON, read with their type, is the value again, but for what JSON does not have."""
    data, number = bytes.fromhex(output["hex"]), reference.FIELD_NUMBERS[output["oneof"]]
    found = read(json.loads(_core.value_to_json(data)), number)
    expected = _core.decode_value(data, number)
    if isinstance(expected, dt.datetime) and number == V.ZONED_TIMESTAMP:  # the name of its zone is lost
        assert found == expected and found.utcoffset() == expected.utcoffset()
    else:
        assert same(found, expected)


@pytest.mark.parametrize(
    ("value", "value_type", "expected"),
    [
        ("NaN", V.DOUBLE, math.nan),
        ("-Infinity", V.DOUBLE, -math.inf),
        ("NaN", V.FLOAT, math.nan),
        (["NaN", 1.5, "Infinity"], V.DOUBLE_LIST, [math.nan, 1.5, math.inf]),
        (3, V.DOUBLE, 3.0),
        ("AP8=", V.BYTES, b"\x00\xff"),
        (["AA==", ""], V.BYTES_LIST, [b"\x00", b""]),
        (["AA=="], V.BYTES_SET, {b"\x00"}),
        (-(2**63), V.UNIX_TIMESTAMP, None),
        (0, V.UNIX_TIMESTAMP, dt.datetime(1970, 1, 1, tzinfo=UTC)),
        ("550e8400-e29b-41d4-a716-446655440000", V.UUID, UUID("550e8400-e29b-41d4-a716-446655440000")),
        ({"a": {"b": 1}}, V.MAP, {"a": {"b": 1}}),
        ({"1": "a"}, V.SCALAR_MAP, {"1": "a"}),
        ([1, 2], V.INT64_SET, {1, 2}),
        ([[1, 2.5], ["NaN", 1.5], ["a", "NaN"], []], V.VALUE_LIST, [[1.0, 2.5], [math.nan, 1.5], ["a", "NaN"], None]),
        ({"a": [1.5, "Infinity"]}, V.MAP, {"a": [1.5, math.inf]}),
        ([], V.STRING_LIST, []),
        (None, V.INT64, None),
    ],
)
def test_values_of_a_known_type(value: Any, value_type: int, expected: Any) -> None:
    assert same(read(value, value_type), expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (1.5, 1.5),
        ("x", "x"),
        (True, True),
        (None, None),
        ([1, 2], [1, 2]),
        ([1, 2.5], [1.0, 2.5]),
        ([1.5, "NaN"], [1.5, math.nan]),
        (["NaN", "x"], ["NaN", "x"]),
        ([], []),
        ([[1], []], [[1], None]),
        ({"a": 1}, {"a": 1}),
    ],
)
def test_values_of_an_unknown_type(value: Any, expected: Any) -> None:
    assert same(read(value), expected)


def test_a_type_that_is_no_longer_right_does_no_harm() -> None:
    assert read("text", V.INT64) == "text"
    batch = read_json_answer(answer([1, "x"]), {"a": V.INT64})
    assert _core.python_columns(batch) == {"a": [1, "x"]}


def test_statuses_and_event_times() -> None:
    statuses = ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "NEW"]
    times = ["2026-01-02T03:04:05.678901234Z", "1970-01-01T00:00:00Z", "2026-01-02T03:04:05Z", "0001-01-01T00:00:00Z"]
    batch = read_json_answer(answer([1, None, None, 4, 5], statuses, [*times, "2026-01-02T03:04:05.5Z"]), {})
    assert _core.statuses(batch) == {"a": [*statuses[:4], "INVALID"]}
    assert _core.python_columns(batch, True) == {
        "a": [1, None, None, 4, 5],
        "a__ts": [1767323045, 0, 1767323045, -62135596800, 1767323045],
    }
    assert b'"2026-01-02T03:04:05.678901Z"' in _core.json_response(batch)


def test_versions_of_views() -> None:
    views = [{"name": "v", "version": 2}, {"name": "w"}]
    batch = read_json_answer(answer([1], feature_view_metadata=views), {})
    assert batch.plan.view_versions == (("v", 2), ("w", 0))


def test_no_rows_and_no_columns() -> None:
    assert _core.python_columns(read_json_answer(answer([]), {})) == {"a": []}
    nothing = b'{"results":[],"metadata":{"feature_names":[]},"status":true}'
    assert _core.python_columns(read_json_answer(nothing, {})) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"{}",
        b'{"results":[],"metadata":{"feature_names":["a"]}}',
        b'{"results":[{"values":[1]}],"metadata":{"feature_names":["a"]}}',
        b'{"results":[{"values":1,"statuses":[]}],"metadata":{"feature_names":["a"]}}',
        answer([1], ["PRESENT", "PRESENT"]),
        answer([1], times=["2026-01-01T00:00:00Z"] * 2),
        answer([1], times=["yesterday"]),
        answer([1], times=["2026-01-01T00:00:00.xZ"]),
        json.dumps(
            {"results": [json.loads(answer([1]))["results"][0]] * 2, "metadata": {"feature_names": ["a"]}}
        ).encode(),
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(ValueError):
        read_json_answer(body, {})


def test_a_column_that_is_too_short_is_named() -> None:
    """Feast's server answers so for a singleton view, of which it computes one row."""
    columns = [{"values": values, "statuses": ["PRESENT"] * len(values)} for values in ([1, 2], [5])]
    body = json.dumps({"results": columns, "metadata": {"feature_names": ["id", "one"]}}).encode()
    with pytest.raises(ValueError, match="column one has 1 values for 2 rows"):
        read_json_answer(body, {})
