"""Fields: the class of `fastserve.model`, as definitions use it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from fastserve.definition import Field
from fastserve.errors import DefinitionError
from fastserve.types import Array, Float32, Int64, ValueType


def test_none_is_nothing() -> None:
    none: Any = None
    field = Field(name="a", dtype=Int64, tags=none, vector_search_metric=none)
    assert field == Field("a", Int64)
    assert (dict(field.tags), field.vector_search_metric) == ({}, "")


def test_arguments() -> None:
    field = Field(
        name="v", dtype=Array(Float32), description="d", tags={"a": "b"}, vector_index=True, vector_length=3,
        vector_search_metric="L2",
    )  # fmt: skip
    assert (field.vector_index, field.vector_length, field.vector_search_metric) == (True, 3, "L2")
    assert copy.deepcopy(field) == pickle.loads(pickle.dumps(field)) == field


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"name": 5, "dtype": Int64}, "Field: name must be text, not 5"),
        (
            {"name": "a", "dtype": ValueType.INT64},
            r"Field a: dtype must be a type of fastserve.types \(such as Int64\)",
        ),
        ({"name": "a", "dtype": int}, r"Field a: dtype must be a type of fastserve.types \(such as Int64\)"),
        ({"name": "a", "dtype": Int64, "tags": ["x"]}, "Field a: tags must be a mapping of texts"),
        ({"name": "a", "dtype": Int64, "vector_length": "3"}, "Field a: vector_length must be a whole number, not '3'"),
        ({"name": "a", "dtype": Int64, "vector_index": 1}, "Field a: vector_index must be True or False, not 1"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(DefinitionError, match=f"^{rule}"):
        Field(**arguments)
