"""OnlineResponse: the forms of an answer agree with each other and with the oracle."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings

from fastserve._core import Batch, ReadPlan, encode_value
from fastserve.errors import DecodeError
from fastserve.response import OnlineResponse
from fastserve.types import Array, Bool, Bytes, Float64, Int32, Int64, Map, Set, String, UnixTimestamp, ValueType
from tests import goldens, reference
from tests.answers import NULL_VAL, TYPES, Column, Row, columns, entity_key, is_null
from tests.goldens import same
from tests.registries import (
    bank,
    compiled,
    customer_key,
    hash_of,
    on_demand_view,
    projection,
    read,
    registry,
    snapshot,
    view,
)

ALL_TYPES = pytest.mark.parametrize("value_type", TYPES, ids=lambda value_type: value_type.name)
FEW = settings(max_examples=12)
BANK = snapshot(bank())
HASHES = goldens.redis_hashes()
EVERYTHING = [f"{v.name}:{f.name}" for v in BANK.feature_views.values() for f in v.features]
PEOPLE = [{"customer_id": c, "account_id": a, "merchant_id": m} for c, a, m in
          [("C1", 7, "M42"), ("C2", 8, "M42"), ("C3", -1, "M1"), ("nobody", 5, "?"), ("C1", 7, "M1")]]  # fmt: skip

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

NUMPY = {"INT32": "<i4", "INT64": "<i8", "DOUBLE": "<f8", "FLOAT": "<f4", "BOOL": "?", "UNIX_TIMESTAMP": "<M8[s]"}
ARROW = {
    "BYTES": pa.binary(), "PDF_BYTES": pa.binary(), "IMAGE_BYTES": pa.binary(),
    "STRING": pa.string(), "JSON": pa.string(), "UUID": pa.string(), "TIME_UUID": pa.string(),
    "SCALAR_MAP": pa.string(), "INT32": pa.int32(), "INT64": pa.int64(), "DOUBLE": pa.float64(),
    "FLOAT": pa.float32(), "BOOL": pa.bool_(), "UNIX_TIMESTAMP": pa.timestamp("us", "UTC"),
}  # fmt: skip
"""The types that Arrow has by the schema; lists and sets are lists of these."""


def everything() -> OnlineResponse:
    return read(compiled(BANK, EVERYTHING, full=True), PEOPLE, HASHES)


def answer(found: Column) -> OnlineResponse:
    return OnlineResponse(found.batch())


def arrow_type(value_type: ValueType) -> pa.DataType | None:
    element = value_type.name.removesuffix("_LIST").removesuffix("_SET")
    if value_type.name in ARROW:
        return ARROW[value_type.name]
    return pa.list_(ARROW[element]) if element in ARROW and element != "SCALAR_MAP" else None


# --- Arrow -----------------------------------------------------------------------------------------------------------


def stored_form(message: Any) -> Any:
    """Return what Arrow shows of a Value: text for JSON and UUIDs, lists for sets, a scalar map as parsed JSON."""
    if is_null(message):
        return None
    member = message.WhichOneof("val")
    kind, shape = reference.split_member(member)
    held = getattr(message, member)
    if kind == "scalar_map":
        return reference.value_to_json(message)
    elements = list(held.val) if shape else [held]
    if kind == "unix_timestamp":
        elements = [None if e == reference.NULL_SECONDS else datetime.fromtimestamp(e, timezone.utc) for e in elements]
    return elements if shape else elements[0]


@ALL_TYPES
def test_arrow(value_type: ValueType) -> None:
    expected_type = arrow_type(value_type)

    @FEW
    @given(columns(value_type))
    def check(found: Column) -> None:
        try:
            table = answer(found).to_arrow(include_event_timestamps=True)
        except TypeError as exc:
            assert expected_type is None
            assert str(exc).startswith("column f: no Arrow type fits all values: ")
            return
        table.validate(full=True)
        assert table.column_names == ["k", "k__ts", "f", "f__ts"]
        assert table["k"].to_pylist() == found.entities
        stamps = reference.to_dict({}, found.oracle, timestamps=True)["f__ts"]
        assert table["f__ts"].to_pylist() == stamps
        assert table["k__ts"].to_pylist() == [0] * len(stamps)
        if expected_type is None:
            check_inferred(table["f"].to_pylist(), found)
            return
        assert table["f"].type == expected_type
        values = table["f"].to_pylist()
        if value_type is ValueType.SCALAR_MAP:
            values = [None if text is None else json.loads(text) for text in values]
        assert same(values, [stored_form(message) for message in found.messages])

    check()


def check_inferred(values: list[Any], found: Column) -> None:
    """Arrow gives all maps of a column the same keys, and all decimals the same digits; so this is not `same`."""
    expected = reference.to_dict({}, found.oracle)["f"]
    assert [value is None for value in values] == [value is None for value in expected]
    for value, wanted in zip(values, expected, strict=True):
        if isinstance(wanted, (Decimal, datetime)):
            assert value == wanted
        elif isinstance(wanted, (list, set)):
            assert len(value) == len(wanted)


@pytest.mark.parametrize("n", [0, 3])
@ALL_TYPES
def test_arrow_types_of_columns_without_values(value_type: ValueType, n: int) -> None:
    """A column has its type whether or not it has values, so that tables can be put one below the other."""
    found = Column(int(value_type), [Row(value, None) for value in [None, b"", NULL_VAL][:n]])
    column = answer(found).to_arrow()["f"]
    assert column.null_count == len(column) == n
    assert column.type == (arrow_type(value_type) or pa.null())


def test_arrow_types_of_join_keys() -> None:
    types: dict[str, int | None] = {"s": 2, "b": 1, "i": 3, "q": 4, "t": 8, "echo": None}
    values: dict[str, list[Any]] = {"s": ["a\0"], "b": [b"\0"], "i": [-7], "q": [2**63 - 1], "t": [MOMENT], "echo": [5]}
    plan = ReadPlan([], [], join_keys=types, required={})
    table = OnlineResponse(Batch(plan, values, 1)).to_arrow()
    kinds = [pa.string(), pa.binary(), pa.int32(), pa.int64(), pa.timestamp("us", "UTC")]
    assert table.schema.types == [*kinds, pa.int64()]
    assert same(table.to_pydict(), values)
    empty = OnlineResponse(Batch(plan, {name: [] for name in values}, 0)).to_arrow()
    assert empty.schema.types[:5] == kinds
    assert len(empty) == 0


def test_arrow_of_unused_join_keys_that_have_no_common_type() -> None:
    batch = Batch(ReadPlan([], [], join_keys={"k": None}, required={}), {"k": [1, "a"]}, 2)
    with pytest.raises(TypeError, match="column k: no Arrow type fits"):
        OnlineResponse(batch).to_arrow()


@pytest.mark.parametrize(
    ("value_type", "values"),
    [
        (ValueType.MAP, [{"a": 1}, {"a": "x"}]),
        (ValueType.MAP, [{"a": 1}, {"a": [1]}]),
        (ValueType.DECIMAL, [Decimal("Infinity")]),
        (ValueType.VALUE_LIST, [[[1]], [["a"]]]),
    ],
)
def test_arrow_of_values_that_have_no_common_type(value_type: ValueType, values: list[Any]) -> None:
    found = Column(value_type, [Row(encode_value(value, value_type), None) for value in values])
    with pytest.raises(TypeError, match="column f: no Arrow type fits all values"):
        answer(found).to_arrow()
    assert len(answer(found).to_dict()["f"]) == len(values)


def test_arrow_of_decimals_and_maps() -> None:
    decimals = Column(int(ValueType.DECIMAL), [Row(encode_value(Decimal(d), 44), None) for d in ("1.50", "-2")])
    assert answer(decimals).to_arrow()["f"].to_pylist() == [Decimal("1.50"), Decimal("-2")]
    maps = Column(int(ValueType.MAP), [Row(encode_value(m, 20), None) for m in ({"a": 1}, {"b": "x"})])
    assert answer(maps).to_arrow()["f"].to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


@pytest.mark.parametrize("seconds", [2**55, -(2**55), 2**63 - 1])
@pytest.mark.parametrize("value_type", [ValueType.UNIX_TIMESTAMP, ValueType.UNIX_TIMESTAMP_LIST])
def test_times_outside_of_the_calendar(value_type: ValueType, seconds: int) -> None:
    """What does not fit Arrow's microseconds is refused as in `to_dict`: with the place named."""
    lists = value_type is ValueType.UNIX_TIMESTAMP_LIST
    held: dict[str, Any] = {TYPES[value_type]: {"val": [seconds]} if lists else seconds}
    found = answer(Column(int(value_type), [Row(b"", None), Row(reference.Value(**held).SerializeToString(), None)]))
    for form in (found.to_dict, found.to_arrow):
        with pytest.raises(DecodeError) as caught:
            form()
        assert (caught.value.field, caught.value.key) == ("v:f", entity_key(1).hex())


# --- NumPy -----------------------------------------------------------------------------------------------------------


def numpy_form(values: list[Any], value_type: ValueType) -> list[Any]:
    """Return what the elements of the array are, as Python objects."""
    has_nulls = None in values
    if value_type.name in ("INT32", "INT64") and has_nulls:
        return [math.nan if value is None else float(value) for value in values]
    if value_type.name in ("FLOAT", "DOUBLE"):
        return [math.nan if value is None else value for value in values]
    if value_type.name == "UNIX_TIMESTAMP":
        return [None if value is None else value.replace(tzinfo=None) for value in values]
    return values


@ALL_TYPES
def test_numpy(value_type: ValueType) -> None:
    @FEW
    @given(columns(value_type))
    def check(found: Column) -> None:
        values = reference.to_dict({"k": found.entities}, found.oracle, timestamps=True)
        arrays = answer(found).to_numpy(include_event_timestamps=True)
        assert list(arrays) == ["k", "k__ts", "f", "f__ts"]
        assert all(array.shape == (len(found.rows),) for array in arrays.values())
        assert same(arrays["f"].tolist(), numpy_form(values["f"], value_type))
        dtype = NUMPY.get(value_type.name, "O")
        if None in values["f"]:
            dtype = {"<i4": "<f8", "<i8": "<f8", "?": "O"}.get(dtype, dtype)
        assert arrays["f"].dtype == np.dtype(dtype)
        for name in ("k__ts", "f__ts"):
            assert arrays[name].dtype == np.dtype("<i8")
            assert arrays[name].tolist() == values[name]

    check()


def test_numpy_lists_of_equal_length_stay_lists() -> None:
    for rows in ([[1, 2], [3, 4]], [[1], [2]], [[1, 2]], [[], []], [[1, 2, 3], [4, 5, 6]]):
        found = Column(int(ValueType.INT64_LIST), [Row(encode_value(row, ValueType.INT64_LIST), None) for row in rows])
        array = answer(found).to_numpy()["f"]
        assert array.shape == (len(rows),)
        assert array.tolist() == rows


def test_numpy_join_keys() -> None:
    types: dict[str, int | None] = {"s": 2, "b": 1, "i": 3, "q": 4, "t": 8, "echo": None, "lists": None}
    values: dict[str, list[Any]] = {
        "s": ["a\0", "b"], "b": [b"x\0", b""], "i": [-7, 8], "q": [2**63 - 1, 0], "t": [MOMENT, MOMENT],
        "echo": [1, "a"], "lists": [[1, 2], [3, 4]],
    }  # fmt: skip
    arrays = OnlineResponse(Batch(ReadPlan([], [], join_keys=types, required={}), values, 2)).to_numpy()
    assert [array.dtype.str for array in arrays.values()] == ["|O", "|O", "<i4", "<i8", "<M8[s]", "|O", "|O"]
    naive = {**values, "t": [MOMENT.replace(tzinfo=None)] * 2}
    assert same({name: array.tolist() for name, array in arrays.items()}, naive)


def test_numpy_arrays_may_be_changed() -> None:
    response = everything()
    array = response.to_numpy()["txn_7d__amount_sum"]
    array[:] = 0
    assert response.to_numpy()["txn_7d__amount_sum"][0] == 20.0


# --- pandas, and all forms together ----------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [False, True])
def test_a_dataframe_is_that_of_the_dict(times: bool) -> None:
    response = everything()
    frame = response.to_df(times)
    pd.testing.assert_frame_equal(frame, pd.DataFrame(response.to_dict(times)))
    assert list(frame.columns) == list(response.to_dict(times))
    assert len(frame) == len(PEOPLE)


def test_the_whole_bank_in_every_form() -> None:
    response = everything()
    columns_ = response.to_dict()
    names = ["customer_id", "account_id", "merchant_id", *(text.replace(":", "__") for text in EVERYTHING)]
    assert list(columns_) == names
    assert columns_["customer_profile__age"] == [41, 29, None, None, 41]
    assert columns_["account_merchant__visits"] == [3, 2**53 + 1, None, None, 0]
    assert columns_["fx_rates__eur_usd"] == [1.09] * 5
    assert columns_["all_types__u_uuid"][0] == UUID("550e8400-e29b-41d4-a716-446655440000")
    parsed = json.loads(response.to_json())
    assert parsed["metadata"] == {"feature_names": names}
    for result, value in zip(parsed["results"][3:], list(columns_.values())[3:], strict=True):
        assert [item is None for item in result["values"]] == [item is None for item in value]
    message = response.proto
    assert list(message.metadata.feature_names.val) == names
    for result, (name, value) in zip(message.results, columns_.items(), strict=True):
        raw = [item.SerializeToString() for item in result.values]
        assert same([reference.decode_value(data) for data in raw], value), name
    assert response.to_arrow().column_names == list(response.to_numpy()) == list(response.statuses) == names
    assert response.to_arrow()["customer_profile__age"].to_pylist() == columns_["customer_profile__age"]


def test_event_timestamps_follow_each_column() -> None:
    plan = compiled(BANK, ["customer_profile:age", "txn_7d:txn_count"])
    response = read(plan, [{"customer_id": "C1"}, {"customer_id": "nobody"}], HASHES)
    answered = response.to_dict(include_event_timestamps=True)
    assert list(answered) == ["customer_id", "customer_id__ts", "age", "age__ts", "txn_count", "txn_count__ts"]
    assert answered["age__ts"] == [1767323045, 0]
    assert answered["txn_count__ts"] == [1767614400, 0]


@pytest.mark.parametrize("versions", [False, True])
def test_versions_of_views(versions: bool) -> None:
    message = registry(view("a", {"x": Int64}, number=3), view("b", {"y": Int64}))
    response = read(compiled(message, ["b:y", "a:x"]), {"customer_id": ["C1"]}, {}, versions)
    metadata = json.loads(response.to_json())["metadata"]
    assert metadata.get("feature_view_metadata") == ([{"name": "b"}, {"name": "a", "version": 3}] if versions else None)
    found = response.proto.metadata.feature_view_metadata
    assert [(item.name, item.version) for item in found] == ([("b", 0), ("a", 3)] if versions else [])


def test_repr() -> None:
    response = read(compiled(BANK, ["customer_profile:age"]), {"customer_id": ["C1"] * 3}, HASHES)
    assert repr(response) == "OnlineResponse(3 rows: customer_id, age)"


def test_to_dict_and_json_need_no_optional_library() -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(["numpy", "pandas", "pyarrow"]))
from fastserve._core import Batch, ReadPlan
from fastserve.response import OnlineResponse
response = OnlineResponse(Batch(ReadPlan([], [], join_keys={"k": 4}, required={}), {"k": [5]}, 1))
assert response.to_dict() == {"k": [5]} and response.to_json() and response.statuses and response.proto
for form in (response.to_df, response.to_arrow, response.to_numpy):
    try:
        form()
    except ImportError:
        continue
    raise AssertionError(form)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=goldens.GOLDEN.parents[1])


# --- on-demand views in every form -----------------------------------------------------------------------------------

ON_DEMAND = """
def od(inputs):
    return {
        "i": [1, None],
        "d": [x if x is None else x * 2 for x in inputs["x"]],
        "s": ["é", None],
        "b": [b"\\0", None],
        "flag": [True, None],
        "t": [inputs["t"][0], None],
        "l": [["a", "b"], None],
        "set": [{5}, None],
        "m": [{"a": 1}, None],
    }
"""
OUTPUTS = {
    "i": Int32, "d": Float64, "s": String, "b": Bytes, "flag": Bool, "t": UnixTimestamp, "l": Array(String),
    "set": Set(Int64), "m": Map,
}  # fmt: skip
EXPECTED = {
    "i": 1, "d": 3.0, "s": "é", "b": b"\0", "flag": True, "t": MOMENT, "l": ["a", "b"], "set": {5}, "m": {"a": 1}
}  # fmt: skip


def computed_answer(full: bool) -> OnlineResponse:
    source = view("src", {"x": Float64})
    request = {"t": UnixTimestamp}
    od = on_demand_view("od", ON_DEMAND, OUTPUTS, sources=[projection(source)], request=request)
    plan = compiled(registry(source, od), [f"od:{name}" for name in OUTPUTS], full)
    stored = {customer_key("C1"): hash_of("src", {"x": encode_value(1.5, ValueType.DOUBLE)}, (1767323045, 0))}
    return read(plan, [{"customer_id": "C1", "t": MOMENT}, {"customer_id": "C2", "t": None}], stored)


FORMS: dict[str, Callable[[OnlineResponse], dict[str, list[Any]]]] = {
    "dict": lambda response: response.to_dict(),
    "arrow": lambda response: response.to_arrow().to_pydict(),
    "numpy": lambda response: {name: array.tolist() for name, array in response.to_numpy().items()},
    "proto": lambda response: {
        name: [reference.decode_value(value.SerializeToString()) for value in result.values]
        for name, result in zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True)
    },
}


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_computed_features(form: str, full: bool) -> None:
    expected: dict[str, list[Any]] = {name: [value, None] for name, value in EXPECTED.items()}
    if form == "arrow":
        expected["set"] = [[5], None]
    if form == "numpy":
        expected |= {"i": [1.0, math.nan], "d": [3.0, math.nan], "t": [MOMENT.replace(tzinfo=None), None]}
    prefix = "od__" if full else ""
    named = {"customer_id": ["C1", "C2"]} | {prefix + name: values for name, values in expected.items()}
    assert same(FORMS[form](computed_answer(full)), named)


def test_computed_features_as_json() -> None:
    results = json.loads(computed_answer(False).to_json())["results"]
    assert [result["values"] for result in results[1:]] == [
        [1, None], [3.0, None], ["é", None], ["AA==", None], [True, None], [1767323045, None], [["a", "b"], None],
        [[5], None], [{"a": 1}, None],
    ]  # fmt: skip
    assert all(result["statuses"] == ["PRESENT", "NULL_VALUE"] for result in results[1:])


# --- damaged values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["to_dict", "to_df", "to_arrow", "to_numpy", "to_json", "proto", "statuses"])
def test_a_damaged_value_is_named_in_every_form(form: str) -> None:
    plan = compiled(BANK, ["customer_profile:age", "customer_profile:segment"])
    key = reference.serialize_entity_key(["customer_id"], ["C1"], [reference.STRING])
    damaged = {key + b"bank": hash_of("customer_profile", {"age": b"\x18\x29", "segment": b"\x12\x7f"})}
    response = read(plan, {"customer_id": ["nobody", "C1"]}, damaged)
    with pytest.raises(DecodeError, match="customer_profile:segment") as caught:
        found = getattr(response, form)
        found()
    assert (caught.value.key, caught.value.field) == (key.hex(), "customer_profile:segment")


def test_old_rows_are_shown_unless_the_ttl_is_enforced() -> None:
    a = view("a", {"x": Int64, "y": Float64, "s": String}, ttl_seconds=60)
    age = int((datetime.now(timezone.utc) - timedelta(hours=1)).timestamp())
    values = {"x": encode_value(5, 4), "y": encode_value(0.5, 5), "s": encode_value("t", 2)}
    stored = {customer_key("C1"): hash_of("a", values, (age, 0))}
    shown = {"x": [5], "y": [0.5], "s": ["t"]}
    for mode, status, expected in [
        ("status", "OUTSIDE_MAX_AGE", shown),
        ("ignore", "PRESENT", shown),
        ("enforce", "OUTSIDE_MAX_AGE", {"x": [None], "y": [None], "s": [None]}),
    ]:
        response = read(compiled(registry(a), ["a:x", "a:y", "a:s"], ttl_mode=mode), {"customer_id": ["C1"]}, stored)
        expected = {"customer_id": ["C1"], **expected}
        assert response.to_dict() == response.to_arrow().to_pydict() == expected
        assert set(response.statuses["x"] + response.statuses["s"]) == {status}
        assert response.to_numpy()["s"].tolist() == expected["s"]
        assert response.to_dict(True)["x__ts"] == [age]
