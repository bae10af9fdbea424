"""Compact JSON and status bytes say what the long forms say."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings

from fastserve import _core
from fastserve._core import Batch
from fastserve.errors import DecodeError
from tests import reference
from tests.answers import TYPES, Column, Row, columns
from tests.core import requests

FEW = settings(max_examples=12)
NUMBERS = {"INVALID": 0, "PRESENT": 1, "NULL_VALUE": 2, "NOT_FOUND": 3, "OUTSIDE_MAX_AGE": 4}


def check(batch: Batch) -> None:
    long, compact = json.loads(_core.json_response(batch)), json.loads(_core.compact_json(batch))
    names = long["metadata"]["feature_names"]
    assert compact["feature_names"] == names
    assert compact["values"] == [column["values"] for column in long["results"]]
    given_statuses = {name: column["statuses"] for name, column in zip(names, long["results"], strict=True)}
    others = {name: given for name, given in given_statuses.items() if set(given) - {"PRESENT"}}
    assert compact.get("statuses", {}) == others
    assert ("statuses" in compact) == bool(others)
    for slot in batch.plan.outputs:
        expected = bytes(NUMBERS[status] for status in given_statuses[slot.name])
        assert _core.status_column(batch, slot) == (expected, sum(number != 1 for number in expected))


@pytest.mark.parametrize("value_type", TYPES, ids=lambda value_type: value_type.name)
def test_every_type(value_type: int) -> None:
    @FEW
    @given(columns(value_type))
    def compare(found: Column) -> None:
        check(found.batch())

    compare()


@pytest.mark.parametrize("entities", [0, 1, 50])
def test_many_columns(entities: int) -> None:
    check(requests.typical(Random(7), entities).filled())


def test_what_is_all_present_has_no_statuses() -> None:
    batch = requests.every_type().filled()
    assert b"PRESENT" not in _core.compact_json(batch)


def test_versions_are_added_when_asked_for() -> None:
    batch = requests.typical(Random(1), 1).filled()
    found: Any = json.loads(_core.compact_json(batch, True))
    assert (
        found["feature_view_metadata"]
        == json.loads(_core.json_response(batch, True))["metadata"]["feature_view_metadata"]
    )


def test_broken_bytes_name_their_place() -> None:
    stamp = reference.encode_timestamp(1767323045, 0)
    batch = Column(2, [Row(b"\x12\x01a", stamp), Row(b"\x12\x05ab", stamp)]).batch()
    for emit in (_core.compact_json, lambda batch: _core.status_column(batch, batch.plan.outputs[0])):
        with pytest.raises(DecodeError, match="entity key"):
            emit(batch)
