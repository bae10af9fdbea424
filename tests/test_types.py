"""Dtypes, their numbers and their texts."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from fastserve import types
from fastserve.types import (
    Array,
    Bool,
    Decimal,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    Map,
    PdfBytes,
    ScalarMap,
    Set,
    String,
    Struct,
    UnixTimestamp,
    Uuid,
    ValueType,
    ZonedTimestamp,
)
from tests import goldens

PRIMITIVES = [value for value in vars(types).values() if isinstance(value, types.PrimitiveType)]
NESTED = [
    Array(Int64),
    Array(Array(Int64)),
    Array(Set(Float64)),
    Set(Array(Array(Uuid))),
    Struct({"street": String, "no": Int64}),
    Struct({"inner": Struct({"x": Float32}), "list": Array(Struct({"y": Bool})), "when": UnixTimestamp}),
    Array(Array(Struct({"x": Int64}))),
]


def test_numbers_are_feasts() -> None:
    golden = goldens.load("values")["python_value_type_enum"]
    assert {item.name: item.value for item in ValueType} == golden


@pytest.mark.parametrize("value_type", [item for item in ValueType if item is not ValueType.NULL])
def test_a_number_has_a_dtype_of_that_number(value_type: ValueType) -> None:
    dtype = types.from_value_type(value_type)
    assert dtype.value_type is value_type
    assert dtype.to_value_type() is value_type
    assert types.from_value_type(int(value_type)) == dtype


@pytest.mark.parametrize("number", [ValueType.NULL, 9, 10, 49, -1])
def test_a_number_without_dtype(number: int) -> None:
    with pytest.raises(ValueError, match=r"NULL|not a valid ValueType"):
        types.from_value_type(number)


@pytest.mark.parametrize(
    ("dtype", "text", "value_type"),
    [
        (Array(Int64), "Array(Int64)", ValueType.INT64_LIST),
        (Array(Float64), "Array(Float64)", ValueType.DOUBLE_LIST),
        (Set(String), "Set(String)", ValueType.STRING_SET),
        (Array(Map), "Array(Map)", ValueType.MAP_LIST),
        (Array(Json), "Array(Json)", ValueType.JSON_LIST),
        (Array(Array(Int64)), "Array(Array(Int64))", ValueType.VALUE_LIST),
        (Array(Set(Int32)), "Array(Set(Int32))", ValueType.VALUE_LIST),
        (Set(Array(Decimal)), "Set(Array(Decimal))", ValueType.VALUE_SET),
        (Struct({"a": String}), "Struct({a: String})", ValueType.STRUCT),
        (Array(Struct({"a": String, "b": Int64})), "Array(Struct({a: String, b: Int64}))", ValueType.STRUCT_LIST),
        (PdfBytes, "PdfBytes", ValueType.PDF_BYTES),
    ],
)
def test_names_and_numbers(dtype: FeastType, text: str, value_type: ValueType) -> None:
    assert str(dtype) == repr(dtype) == text
    assert dtype.value_type is value_type


@pytest.mark.parametrize("dtype", [*PRIMITIVES, *NESTED], ids=str)
def test_equal_by_content(dtype: FeastType) -> None:
    for twin in (
        copy.deepcopy(dtype),
        pickle.loads(pickle.dumps(dtype)),
        types.from_type_text(types.to_type_text(dtype)),
    ):
        assert twin == dtype
        assert hash(twin) == hash(dtype)
    assert dtype != Array(Struct({"other": dtype}))


def test_different_types_differ() -> None:
    assert len({*PRIMITIVES, *NESTED}) == len(PRIMITIVES) + len(NESTED)
    assert Array(Int64) != Set(Int64)
    assert Struct({"a": Int64}) != Struct({"a": Int32})


@pytest.mark.parametrize("kind", [Array, Set])
@pytest.mark.parametrize("base", [types.Invalid, PdfBytes, types.ImageBytes, ScalarMap, ZonedTimestamp], ids=str)
def test_what_no_collection_can_hold(kind: type[Array | Set], base: FeastType) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} cannot hold {base}"):
        kind(base)


@pytest.mark.parametrize("base", [Map, Json, Struct({"a": String})], ids=str)
def test_what_no_set_can_hold(base: FeastType) -> None:
    with pytest.raises(ValueError, match="Set cannot hold"):
        Set(base)
    Array(base)


@pytest.mark.parametrize("make", [lambda: Array(int), lambda: Set(ValueType.INT64), lambda: Struct({"a": "x"})])  # type: ignore[arg-type, dict-item]
def test_only_dtypes_make_dtypes(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"is not a dtype of fastserve\.types"):
        make()


def test_a_struct_has_fields() -> None:
    with pytest.raises(ValueError, match="at least one field"):
        Struct({})


def test_texts_are_feasts() -> None:
    # As Feast 0.67 writes them into the tags of a field.
    dtype = Struct(
        {"b": Array(Int64), "d": Struct({"x": Float32}), "e": Array(Struct({"y": Bool})), "i": PdfBytes, "m": Float64}
    )
    text = (
        r'{"b": "Array(INT64)", "d": "{\"__struct__\": {\"x\": \"FLOAT32\"}}", '
        r'"e": "Array({\"__struct__\": {\"y\": \"BOOL\"}})", "i": "PDF_BYTES", "m": "FLOAT64"}'
    )
    assert types.to_struct_text(dtype) == text
    assert types.from_struct_text(text) == dtype
    assert types.to_type_text(Array(Array(Int64))) == "Array(Array(INT64))"


@pytest.mark.parametrize("text", ["", "INT65", "Array(INT64", "Array()", "{}", "{", '{"__struct__": []}', "Set(MAP)"])
def test_texts_that_name_no_type(text: str) -> None:
    with pytest.raises(ValueError):
        types.from_type_text(text)


@pytest.mark.parametrize("text", ["[]", "{}", json.dumps({"a": 1}), "x"])
def test_texts_that_name_no_struct(text: str) -> None:
    with pytest.raises(ValueError):
        types.from_struct_text(text)
