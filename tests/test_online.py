"""Entities of every form -> Batch, and what is refused on the way."""

from __future__ import annotations

import json
import re
from collections import OrderedDict, UserDict, defaultdict
from datetime import date, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve import _core, online
from fastserve._core import ReadPlan
from fastserve.errors import EntityError, RequestDataNotFoundInEntityRowsException
from fastserve.registry import schema_pb2 as pb
from fastserve.types import Bytes, Float64, Int32, Int64, String, UnixTimestamp, ValueType
from tests import goldens, reference
from tests.goldens import same
from tests.registries import bank, compiled, fill, on_demand_view, projection, read, registry, snapshot, view

BANK = snapshot(bank())
HASHES = goldens.redis_hashes()

AGE = compiled(BANK, ["customer_profile:age", "txn_7d:amount_sum"])
PAIRS = compiled(BANK, ["account_merchant:visits"])
RATES = compiled(BANK, ["fx_rates:asof"])
RISK = compiled(BANK, ["risk_py:flag"])

KEYS = registry(
    view("by_int32", {"x": Int64}, {"i_id": Int32}),
    view("by_int64", {"x": Int64}, {"q_id": Int64}),
    view("by_bytes", {"x": Int64}, {"b_id": Bytes}),
    view("by_time", {"x": Int64}, {"t_id": UnixTimestamp}),
    view("by_text", {"x": Int64}, {"s_id": String}),
)
KEY_PLANS = {
    name: compiled(KEYS, [f"by_{view_name}:x"])
    for name, view_name in {"i_id": "int32", "q_id": "int64", "b_id": "bytes", "t_id": "time", "s_id": "text"}.items()
}


I_PLAN, Q_PLAN, B_PLAN, T_PLAN, S_PLAN = KEY_PLANS.values()


def ask(plan: ReadPlan, rows: object) -> dict[str, list[Any]]:
    return read(plan, rows, HASHES).to_dict()


def keys(column: str, values: object) -> list[Any]:
    """Return the canonical values of a column of join keys, as the batch has them."""
    ((name, _, found),) = online.begin(KEY_PLANS[column], {column: values}).entity_columns
    assert name == column
    return found


# --- forms -----------------------------------------------------------------------------------------------------------

NAMES = ["C2", "C1", "nobody", "C2"]


def repeated(*values: pb.Value) -> pb.RepeatedValue:
    return pb.RepeatedValue(val=values)


TEXT_FORMS: dict[str, Any] = {
    "list of dicts": [{"customer_id": name} for name in NAMES],
    "tuple of dicts": tuple({"customer_id": name} for name in NAMES),
    "list of ordered dicts": [OrderedDict(customer_id=name) for name in NAMES],
    "list of default dicts": [defaultdict(list, customer_id=name) for name in NAMES],
    "dict of lists": {"customer_id": list(NAMES)},
    "dict of tuples": {"customer_id": tuple(NAMES)},
    "other mapping": MappingProxyType({"customer_id": NAMES}),
    "user dict": UserDict({"customer_id": NAMES}),
    "NumPy text": {"customer_id": np.array(NAMES)},
    "NumPy objects": {"customer_id": np.array(NAMES, object)},
    "Series": {"customer_id": pd.Series(NAMES)},
    "Series with an index": {"customer_id": pd.Series(NAMES, index=list("abcd"))},
    "Series of strings": {"customer_id": pd.Series(NAMES, dtype="string")},
    "categories": {"customer_id": pd.Series(NAMES, dtype="category")},
    "Index": {"customer_id": pd.Index(NAMES)},
    "Arrow array": {"customer_id": pa.array(NAMES)},
    "Arrow chunks": {"customer_id": pa.chunked_array([NAMES[:1], NAMES[1:]])},
    "Arrow dictionary": {"customer_id": pa.array(NAMES).dictionary_encode()},
    "Values": {"customer_id": [pb.Value(string_val=name) for name in NAMES]},
    "RepeatedValue": {"customer_id": repeated(*(pb.Value(string_val=name) for name in NAMES))},
    "other package's Values": {"customer_id": [reference.Value(string_val=name) for name in NAMES]},
    "DataFrame": pd.DataFrame({"customer_id": NAMES}),
    "DataFrame with an index": pd.DataFrame({"customer_id": NAMES}, index=[5, 5, 1, 0]),
}


@pytest.mark.parametrize("form", TEXT_FORMS)
def test_forms(form: str) -> None:
    assert ask(AGE, TEXT_FORMS[form]) == {
        "customer_id": NAMES,
        "age": [29, 41, None, 29],
        "amount_sum": [77.5, 20.0, None, 77.5],
    }


def test_iterators() -> None:
    assert ask(AGE, {"customer_id": iter(NAMES)}) == ask(AGE, {"customer_id": NAMES})
    assert ask(AGE, {"customer_id": dict.fromkeys(["C2", "C1"]).keys()})["age"] == [29, 41]


MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
SECONDS = int(MOMENT.timestamp())
VALUES: list[tuple[str, Any, list[Any]]] = [
    ("i_id", [-1, 2**31 - 1, -(2**31)], [-1, 2**31 - 1, -(2**31)]),
    ("i_id", np.array([-1, 5], "int8"), [-1, 5]),
    ("i_id", [np.int64(-1), np.uint8(5)], [-1, 5]),
    ("i_id", [pb.Value(int32_val=-1), pb.Value(int32_val=5)], [-1, 5]),
    ("q_id", [7, "8", " 9", 10.0, True, 2**63 - 1, "-5"], [7, 8, 9, 10, 1, 2**63 - 1, -5]),
    ("q_id", np.array([7.0, -8.0]), [7, -8]),
    ("q_id", np.array([2**63 - 1, 0], "uint64"), [2**63 - 1, 0]),
    ("q_id", pd.Series([7, 8], dtype="Int64"), [7, 8]),
    ("q_id", pd.Series([7, 8], dtype="float32"), [7, 8]),
    ("q_id", pa.array([7, 8], pa.int16()), [7, 8]),
    ("q_id", range(3), [0, 1, 2]),
    ("q_id", memoryview(b"\x07\x08"), [7, 8]),
    ("q_id", pb.RepeatedValue(val=[pb.Value(int64_val=7), pb.Value(string_val="8")]), [7, 8]),
    ("s_id", [5, 7.5, True, "x", np.str_("y"), np.int64(6)], ["5", "7.5", "True", "x", "y", "6"]),
    ("s_id", np.array([5, 6]), ["5", "6"]),
    ("s_id", ["", "é" * 1000, "a\0b"], ["", "é" * 1000, "a\0b"]),
    ("b_id", [b"\0\xff", bytearray(b"x"), memoryview(b"y")], [b"\0\xff", b"x", b"y"]),
    ("b_id", pa.array([b"a", b""], pa.binary()), [b"a", b""]),
    ("b_id", [pb.Value(bytes_val=b"\0")], [b"\0"]),
    ("t_id", [MOMENT, MOMENT.replace(tzinfo=None), SECONDS, str(SECONDS)], [SECONDS] * 4),
    ("t_id", [MOMENT.astimezone(timezone(timedelta(hours=-7))), pd.Timestamp(MOMENT)], [SECONDS] * 2),
    ("t_id", [MOMENT + timedelta(microseconds=999_999), date(1970, 1, 2), -1], [SECONDS, 86400, -1]),
    ("t_id", [np.datetime64("2026-01-02T03:04:05"), np.datetime64("2026-01-02T03:04:05.5")], [SECONDS] * 2),
    ("t_id", np.array(["2026-01-02T03:04:05"], "datetime64[s]"), [SECONDS]),
    ("t_id", np.array(["2026-01-02T03:04:05.123"], "datetime64[ms]"), [SECONDS]),
    ("t_id", np.array(["2026-01-02T03:04:05.123456789"], "datetime64[ns]"), [SECONDS]),
    ("t_id", pd.Series([pd.Timestamp(MOMENT)]), [SECONDS]),
    ("t_id", pd.to_datetime(["2026-01-02T03:04:05"]), [SECONDS]),
    ("t_id", pa.array([MOMENT], pa.timestamp("us", "UTC")), [SECONDS]),
    ("t_id", [pb.Value(unix_timestamp_val=SECONDS), pb.Value(int64_val=5)], [SECONDS, 5]),
]


@pytest.mark.parametrize(("column", "values", "expected"), VALUES)
def test_values_of_join_keys(column: str, values: Any, expected: list[Any]) -> None:
    assert same(keys(column, values), expected)


@pytest.mark.parametrize("column", KEY_PLANS)
def test_a_dataframe_gives_what_its_columns_give(column: str) -> None:
    samples = {"i_id": [1, -2], "q_id": [2**53 + 1, 0], "b_id": [b"\0", b"x"], "t_id": [MOMENT] * 2, "s_id": ["a", "b"]}
    frame = pd.DataFrame({column: samples[column], "more": [None, 1.5]})
    assert same(online.begin(KEY_PLANS[column], frame).entity_columns[0][2], keys(column, samples[column]))


def test_a_join_key_has_the_type_of_its_first_value_if_the_view_declares_none() -> None:
    plan = compiled(registry(view("a", {"x": Int64}, {"k_id": ValueType.UNKNOWN})), ["a:x"])
    for values, value_type in [([5, 6], reference.INT64), (["a"], reference.STRING), ([b"a"], reference.BYTES)]:
        batch = online.begin(plan, {"k_id": values})
        expected = [reference.serialize_entity_key(["k_id"], [value], [value_type]) for value in values]
        assert batch.entity_keys(0) == expected
    for value in (1.5, None, True, {"a": 1}):
        with pytest.raises(EntityError, match="'k_id', row 0"):
            online.begin(plan, {"k_id": [value]})


def test_what_the_caller_gave_is_left_alone() -> None:
    rows: dict[str, list[Any]] = {"customer_id": ["C1", 5], "account_id": ["7", None], "amount": [1, 2]}
    copy = {name: list(values) for name, values in rows.items()}
    read(RISK, rows, HASHES)
    assert rows == copy
    dicts = [{"customer_id": "C1", "amount": 5}]
    read(RISK, dicts, HASHES)
    assert dicts == [{"customer_id": "C1", "amount": 5}]


# --- rows ------------------------------------------------------------------------------------------------------------


@given(
    rows=st.lists(st.sampled_from([("C1", 7), ("C2", 8), ("C3", -1), ("C9", 7), ("nobody", 9)]), max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_order_and_duplicates(rows: list[tuple[str, int]], order: Any) -> None:
    """Row i of the answer is row i of the request, whatever the other rows are."""
    features = [
        "account_balance:balance",
        "customer_profile:age",
        "fx_rates:asof",
        "txn_7d:amount_sum",
        "risk_py:ratio",
    ]
    plan = compiled(BANK, features, ttl_mode="ignore")

    def one(row: tuple[str, int]) -> dict[str, Any]:
        return {"customer_id": row[0], "account_id": row[1], "amount": 10.0}

    def answer(chosen: list[tuple[str, int]]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        response = read(plan, [one(row) for row in chosen], HASHES)
        answered, statuses = response.to_dict(True), response.statuses
        return list(zip(*answered.values(), strict=True)), list(zip(*statuses.values(), strict=True))

    alone = {row: [part[0] for part in answer([row])] for row in set(rows)}
    for chosen in (rows, rows * 2, order.sample(rows, len(rows))):
        values, statuses = answer(chosen)
        assert values == [alone[row][0] for row in chosen]
        assert statuses == [alone[row][1] for row in chosen]


@pytest.mark.parametrize("nothing", [[], (), {}, {"customer_id": []}, pd.DataFrame({"customer_id": []})])
def test_no_rows(nothing: Any) -> None:
    response = read(AGE, nothing, HASHES)
    assert response.to_dict() == {"customer_id": [], "age": [], "amount_sum": []}
    assert [result["values"] for result in json.loads(response.to_json())["results"]] == [[], [], []]
    assert online.begin(AGE, nothing).commands() is None


def test_no_rows_for_an_on_demand_view() -> None:
    for nothing in ([], {}, {"customer_id": [], "amount": []}, {"customer_id": []}):
        assert read(RISK, nothing, HASHES).to_dict() == {"customer_id": [], "flag": []}


@pytest.mark.parametrize(
    ("rows", "n"),
    [
        ({}, 1),
        ([{}], 1),
        ([{}, {}, {}], 3),
        ([], 0),
        ({"customer_id": ["C1", "C2"]}, 2),
        ({"anything": [1, 2, 3]}, 3),
        ([{"anything": 1}], 1),
    ],
)
def test_rows_for_views_without_join_keys(rows: Any, n: int) -> None:
    answer = ask(RATES, rows)
    assert answer["asof"] == ["d2"] * n
    assert set(answer) <= {"customer_id", "asof"}


def test_several_join_keys() -> None:
    rows = [
        {"merchant_id": "M42", "account_id": 7},
        {"merchant_id": "M1", "account_id": 7},
        {"merchant_id": "M42", "account_id": "8"},
        {"merchant_id": "M1", "account_id": 8},
    ]
    assert ask(PAIRS, rows) == {
        "merchant_id": ["M42", "M1", "M42", "M1"],
        "account_id": [7, 7, 8, 8],
        "visits": [3, 0, 2**53 + 1, None],
    }


def test_keys_that_only_look_alike_are_told_apart() -> None:
    plan = compiled(registry(view("v", {"x": Int64}, {"a_id": String, "b_id": String})), ["v:x"])
    batch = online.begin(plan, {"a_id": ["x", "xy", "", "a"], "b_id": ["yz", "z", "xyz", "xyz"]})
    assert len(set(batch.entity_keys(0))) == 4


def test_mapped_join_keys() -> None:
    plan = compiled(BANK, "transfer_svc", full=True)
    rows = [{"payer_id": "C1", "payee_id": "C2"}, {"payer_id": "C2", "payee_id": "C2"}]
    assert ask(plan, rows) == {
        "payer_id": ["C1", "C2"],
        "payee_id": ["C2", "C2"],
        "payer__age": [41, 29],
        "payee__age": [29, 29],
    }
    with pytest.raises(EntityError, match=r"missing join key payer_id \(of customer_profile\); payee_id"):
        online.begin(plan, {"customer_id": ["C1"]})


# --- columns that no view asks for -----------------------------------------------------------------------------------


def test_unused_join_keys_are_repeated() -> None:
    """In the order of the request, each with the type it shows."""
    rows = [
        {"merchant_id": "M1", "customer_id": "C1", "account_id": 7, "other": 1},
        {"merchant_id": None, "customer_id": "C2", "account_id": "text", "other": 2},
    ]
    response = read(AGE, rows, HASHES)
    answer = response.to_dict()
    assert list(answer) == ["merchant_id", "customer_id", "account_id", "age", "amount_sum"]
    assert answer["merchant_id"] == ["M1", None]
    assert answer["account_id"] == [7, "text"]
    assert response.statuses["merchant_id"] == ["PRESENT", "PRESENT"]
    assert json.loads(response.to_json())["results"][2]["values"] == [7, "text"]
    assert response.proto.results[2].values[0].int64_val == 7


def test_unused_join_keys_with_values_that_cannot_be_stored() -> None:
    with pytest.raises(EntityError, match="'account_id', row 1") as caught:
        online.begin(AGE, {"customer_id": ["C1", "C2"], "account_id": [1, object()]})
    assert (caught.value.join_key, caught.value.row) == ("account_id", 1)


def test_entity_names_are_still_understood() -> None:
    with pytest.warns(DeprecationWarning, match="'customer'.*'customer_id'"):
        answer = ask(AGE, {"customer": ["C1"], "other": [3]})
    assert answer == {"customer_id": ["C1"], "age": [41], "amount_sum": [20.0]}
    with pytest.warns(DeprecationWarning, match="'account'"):
        assert ask(AGE, [{"account": 7, "customer_id": "C1"}])["account_id"] == [7]


@pytest.mark.filterwarnings("ignore:entity '.*' is given by its name:DeprecationWarning")
@pytest.mark.parametrize("names", [("merchant", "account_id"), ("account_id", "merchant"), ("merchant_id", "account")])
def test_entities_given_by_name_keep_their_place(names: tuple[str, str]) -> None:
    """Among the keys of the answer, also beside such as are given by their join key."""
    values = {"merchant": "M42", "account": 7}
    given = {name: [values[name.removesuffix("_id")]] for name in names}
    expected = [name if name.endswith("_id") else f"{name}_id" for name in names]
    for rows in (given, [{name: value for name, (value,) in given.items()}]):
        answer = ask(PAIRS, rows)
        assert list(answer) == [*expected, "visits"]
        assert answer["visits"] == [3]


# --- request data ----------------------------------------------------------------------------------------------------


def test_request_data_is_not_repeated() -> None:
    answer = ask(RISK, {"amount": [30.0, 5.0], "customer_id": ["C1", "C1"], "more": [1, 2]})
    assert answer == {"customer_id": ["C1", "C1"], "flag": [True, False]}


@pytest.mark.parametrize("values", [np.array([30.0, 5]), pd.Series([30, 5]), pa.array([30, 5]), (30, 5),
                                    [pb.Value(double_val=30), pb.Value(int64_val=5)]])  # fmt: skip
def test_forms_of_request_data(values: Any) -> None:
    assert ask(RISK, {"amount": values, "customer_id": ["C1", "C1"]})["flag"] == [True, False]


def test_missing_request_data() -> None:
    batch = fill(online.begin(RISK, {"customer_id": ["C1"]}), HASHES)
    with pytest.raises(RequestDataNotFoundInEntityRowsException, match=r"\['amount'\]"):
        online.finish(batch)


def test_a_column_may_be_join_key_and_request_data() -> None:
    a = view("a", {"x": Int64})
    code = "def name(inputs):\n    return {'name': [c + '!' for c in inputs['customer_id']]}\n"
    needs = on_demand_view("name", code, {"name": String}, sources=[projection(a)], request={"customer_id": String})
    plan = compiled(registry(a, needs), ["name:name", "a:x"])
    for rows in ({"customer_id": ["C1"]}, [{"customer_id": "C1"}], [OrderedDict(customer_id="C1")]):
        assert read(plan, rows, {}).to_dict() == {"customer_id": ["C1"], "name": ["C1!"], "x": [None]}


def test_request_data_named_as_an_entity() -> None:
    a = view("a", {"x": Int64})
    code = "def name(inputs):\n    return {'name': inputs['customer']}\n"
    needs = on_demand_view("name", code, {"name": String}, sources=[projection(a)], request={"customer": String})
    plan = compiled(registry(a, needs), ["name:name"])
    rows = {"customer_id": ["C1"], "customer": ["Ann"]}
    assert read(plan, rows, {}).to_dict() == {"customer_id": ["C1"], "name": ["Ann"]}


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "rows", "text"),
    [
        (AGE, [{}], "missing join key customer_id (of customer_profile, txn_7d); the request has none"),
        (AGE, [{"account_id": 7}], "(of customer_profile, txn_7d); the request has ['account_id']"),
        (AGE, {"Customer_id": ["C1"]}, "missing join key customer_id"),
        (PAIRS, [{"account_id": 7}], "join key merchant_id (of account_merchant); the request has ['account_id']"),
        (PAIRS, {"merchant_id": []}, "missing join key account_id (of account_merchant)"),
        (AGE, {"customer_id": ["C1", "C2"], "account_id": [7]}, "the same length (customer_id: 2, account_id: 1)"),
        (AGE, {"customer_id": [], "account_id": [1, 2]}, "the same length (customer_id: 0, account_id: 2)"),
        (AGE, {"customer_id": ["C1"], "other": []}, "the same length (customer_id: 1, other: 0)"),
        (AGE, [{"customer_id": "C1"}, {"customer": "C1"}], "row 1: all rows must have the columns of"),
        (AGE, [{"customer_id": "C1"}, {"customer_id": "C1", "more": 1}], "row 1: all rows must have the columns of"),
        (AGE, [{"customer_id": "C1"}, ["C2"]], "row 1: a dict expected, got list"),
        (AGE, ["C1"], "row 0: a dict expected, got str"),
        (AGE, {"customer_id": "C1"}, "'customer_id': a list of values expected, got str"),
        (AGE, {"customer_id": b"C1"}, "'customer_id': a list of values expected, got bytes"),
        (AGE, {"customer_id": 5}, "'customer_id': a list of values expected, got int"),
        (AGE, {"customer_id": None}, "'customer_id': a list of values expected, got NoneType"),
        (AGE, {"customer_id": {"C1": 1}}, "'customer_id': a list of values expected, got dict"),
        (AGE, {"customer_id": np.array("C1")}, "'customer_id': a list of values expected, got str"),
        (AGE, {"customer_id": np.array([["C1"], ["C2"]])}, "'customer_id', row 0: STRING expected, got list"),
        (AGE, None, "a list of dicts or a mapping of columns expected, got NoneType"),
        (AGE, "C1", "a list of dicts or a mapping of columns expected, got str"),
        (AGE, 5, "a list of dicts or a mapping of columns expected, got int"),
        (AGE, {"C1"}, "a list of dicts or a mapping of columns expected, got set"),
        (AGE, pa.table({"customer_id": ["C1"]}), "a list of dicts or a mapping of columns expected, got Table"),
        (AGE, pd.DataFrame([["C1", "C2"]], columns=["customer_id"] * 2), "several columns of one name: customer_id"),
        (AGE, {"customer_id": ["C1", None]}, "'customer_id', row 1: the value is null"),
        (AGE, {"customer_id": pd.Series(["C1", pd.NA], dtype="string")}, "'customer_id', row 1: the value is null"),
        (AGE, {"customer_id": [pb.Value(string_val="C1"), pb.Value()]}, "'customer_id', row 1: the value is null"),
        (AGE, {"customer_id": [pb.Value(null_val=0)]}, "'customer_id', row 0: the value is null"),
        (AGE, {"customer_id": ["C1", float("nan")]}, "'customer_id', row 1: the value is null"),
        (Q_PLAN, {"q_id": pd.Series([7, None])}, "'q_id', row 1: the value is null"),
        (Q_PLAN, {"q_id": pd.array([7, None], dtype="Int64")}, "'q_id', row 1: the value is null"),
        (Q_PLAN, {"q_id": pa.array([7, None])}, "'q_id', row 1: the value is null"),
        (Q_PLAN, [{"q_id": 1}, {"q_id": "seven"}], "'q_id', row 1: INT64 expected, got 'seven'"),
        (Q_PLAN, [{"q_id": 1}, {"q_id": 7.9}], "'q_id', row 1: 7.9 is not an integer"),
        (Q_PLAN, [{"q_id": 1}, {"q_id": 2**63}], "'q_id', row 1: 9223372036854775808 is out of the range"),
        (I_PLAN, [{"i_id": 1}, {"i_id": 2**31}], "'i_id', row 1: 2147483648 is out of the range of INT32"),
        (B_PLAN, [{"b_id": b""}, {"b_id": "text"}], "entity 'b_id', row 1: BYTES expected, got str"),
        (T_PLAN, [{"t_id": 1}, {"t_id": "noon"}], "'t_id', row 1: UNIX_TIMESTAMP expected, got 'noon'"),
        (T_PLAN, {"t_id": np.array(["2026-01-01", "NaT"], "datetime64[ns]")}, "'t_id', row 1: the value is null"),
        (T_PLAN, {"t_id": pd.to_datetime(["2026-01-01", None])}, "'t_id', row 1: the value is null"),
        (S_PLAN, [{"s_id": "a"}, {"s_id": "\ud800"}], "entity 's_id', row 1: "),
    ],
)  # fmt: skip
def test_refused(plan: ReadPlan, rows: Any, text: str) -> None:
    with pytest.raises(EntityError, match=re.escape(text)):
        online.begin(plan, rows)


def test_an_on_demand_view_without_sources() -> None:
    """Its rows are counted by whatever the request has."""
    code = "def double(inputs):\n    return {'double': [2 * x for x in inputs['amount']]}\n"
    alone = registry(on_demand_view("double", code, {"double": Float64}, request={"amount": Float64}))
    plan = compiled(alone, ["double:double"])
    assert plan.groups == ()
    assert read(plan, [{"amount": 1.5}, {"amount": 2}], {}).to_dict() == {"double": [3.0, 4.0]}


def test_lists_may_change_before_the_answer_is_read() -> None:
    mapping, rows = {"customer_id": ["C1", "C2"]}, [{"customer_id": "C1"}, {"customer_id": "C2"}]
    for entity_rows in (mapping, rows):
        batch = online.begin(AGE, entity_rows)
        mapping["customer_id"][0] = rows[0]["customer_id"] = "changed"
        assert _core.key_values(batch) == {"customer_id": ["C1", "C2"]}
        mapping["customer_id"][0] = rows[0]["customer_id"] = "C1"
