"""On-demand feature views: loading their code, and what they are given and may return."""

from __future__ import annotations

import builtins
import math
import pickle
import sys
from datetime import date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from fastserve._core import encode_value
from fastserve.errors import (
    EntityError,
    NotSupportedError,
    RequestDataNotFoundInEntityRowsException,
    TransformError,
)
from fastserve.model import OnDemandFeatureView, UserDefinedFunction
from fastserve.registry import Snapshot
from fastserve.transform import load_function
from fastserve.types import Array, Bool, Bytes, Float64, Int32, Int64, Map, String, UnixTimestamp, Uuid, ValueType
from fastserve.unpickle import VERSION
from tests import goldens
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

BANK = snapshot(bank())
HASHES = goldens.redis_hashes()
RISKS = ["risk_py:ratio", "risk_py:flag", "risk_pd:double_amount", "risk_single:single_sum"]

SOURCE = view("src", {"x": Float64, "n": Int64, "tags": Array(String), "at": UnixTimestamp, "id": Uuid})
STORED = {
    customer_key("C1"): hash_of(
        "src",
        {
            "x": encode_value(1.5, ValueType.DOUBLE),
            "n": encode_value(3, ValueType.INT64),
            "tags": encode_value(["a", "b"], ValueType.STRING_LIST),
            "at": encode_value(datetime(2026, 1, 1, tzinfo=timezone.utc), ValueType.UNIX_TIMESTAMP),
            "id": encode_value(UUID(int=5), ValueType.UUID),
        },
    )
}
ROWS = [{"customer_id": "C1", "amount": 2.0}, {"customer_id": "C2", "amount": 3.0}]


def snapshot_of(code: str, outputs: dict[str, Any] | None = None, **options: Any) -> Snapshot:
    od = on_demand_view(
        "od", code, outputs or {"y": Float64}, sources=[projection(SOURCE)], request={"amount": Float64}, **options
    )
    return snapshot(registry(SOURCE, od))


def run(code: str, rows: Any = ROWS, full: bool = False, **options: Any) -> dict[str, list[Any]]:
    found = snapshot_of(code, **options)
    references = [f"od:{feature.name}" for feature in found.get_on_demand_feature_view("od").features]
    answer = read(compiled(found, references, full), rows, STORED).to_dict()
    del answer["customer_id"]
    return answer


def view_of(code: str, body: bytes = b"", **changes: Any) -> OnDemandFeatureView:
    udf = UserDefinedFunction("od", body, code)
    return OnDemandFeatureView("od", **{"mode": "python", "udf": udf, **changes})


# --- the recorded ones -----------------------------------------------------------------------------------------------


def test_the_views_of_the_bank() -> None:
    rows = [{"customer_id": name, "amount": 30} for name in ["C1", "C2", "nobody", "C1"]]
    assert read(compiled(BANK, RISKS), rows, HASHES).to_dict() == {
        "customer_id": ["C1", "C2", "nobody", "C1"],
        "ratio": [1.5, 30 / 77.5, None, 1.5],
        "flag": [True, False, False, True],
        "double_amount": [60.0] * 4,
        "single_sum": [50.0, 107.5, 30.0, 50.0],
    }


def test_full_names() -> None:
    """Feast loses the outputs of python mode here."""
    plan = compiled(BANK, [*RISKS, "txn_7d:amount_sum"], full=True)
    assert read(plan, [{"customer_id": "C1", "amount": 30.0}], HASHES).to_dict() == {
        "customer_id": ["C1"],
        "risk_py__ratio": [1.5],
        "risk_py__flag": [True],
        "risk_pd__double_amount": [60.0],
        "risk_single__single_sum": [50.0],
        "txn_7d__amount_sum": [20.0],
    }


def test_only_requested_outputs_are_answered() -> None:
    plan = compiled(BANK, ["risk_py:flag"])
    assert read(plan, {"customer_id": ["C1"], "amount": [1.0]}, HASHES).to_dict() == {
        "customer_id": ["C1"],
        "flag": [False],
    }


def test_outputs_are_present_and_have_no_event_time() -> None:
    response = read(compiled(BANK, ["risk_py:ratio"]), {"customer_id": ["C1", "x"], "amount": [1.0, 1.0]}, HASHES)
    assert response.statuses["ratio"] == ["PRESENT", "NULL_VALUE"]
    assert response.to_dict(True)["ratio__ts"] == [0, 0]


@pytest.mark.skipif(VERSION != "3.11", reason="the recorded pickles hold code of CPython 3.11")
def test_the_stored_pickle_agrees_with_the_source_text() -> None:
    """The recorded functions have both; without the text the pickle is taken."""
    pytest.importorskip("dill")
    for name in ("risk_py", "risk_single"):
        found = BANK.get_on_demand_feature_view(name)
        assert found.udf is not None
        from_pickle = load_function(
            OnDemandFeatureView(name, mode="python", udf=UserDefinedFunction(name, found.udf.body))
        )
        inputs: dict[str, Any] = {"amount": [1.0], "amount_sum": [2.0]}
        if found.singleton:
            inputs = {key: values[0] for key, values in inputs.items()}
        assert from_pickle(inputs) == load_function(found)(inputs)


# --- what the function is given --------------------------------------------------------------------------------------

SHOW = "def od(inputs):\n    seen.append(inputs)\n    return {'y': [0.0] * 2}\n"


def inputs_of(code: str = SHOW, **options: Any) -> Any:
    """Return what the function was called with."""
    builtins.seen = seen = []  # type: ignore[attr-defined]
    try:
        run(code, **options)
    finally:
        del builtins.seen  # type: ignore[attr-defined]
    return seen[0] if len(seen) == 1 else seen


def test_inputs() -> None:
    """Features under both names, join keys and request data, as Python values."""
    features = {
        "x": [1.5, None],
        "n": [3, None],
        "tags": [["a", "b"], None],
        "at": [datetime(2026, 1, 1, tzinfo=timezone.utc), None],
        "id": [UUID(int=5), None],
    }
    expected = {"customer_id": ["C1", "C2"], "amount": [2.0, 3.0], **features}
    expected |= {f"src__{name}": values for name, values in features.items()}
    assert inputs_of() == expected


def test_inputs_are_the_declared_ones() -> None:
    """Other request data and features of other views are hidden; repeated join keys are not."""
    rows = [{**row, "more": 1} for row in ROWS]
    assert "more" not in inputs_of(rows=rows)
    message = registry(SOURCE, view("other", {"z": Int64}), view("third", {"w": Int64}, {"acc_id": Int64}))
    message.on_demand_feature_views.append(
        on_demand_view("od", "def od(inputs):\n    return {'y': [sorted(inputs)] * 1}\n", {"y": Array(String)},
                       sources=[projection(SOURCE, "x")])
    )  # fmt: skip
    plan = compiled(message, ["od:y", "other:z"])
    answer = read(plan, [{"customer_id": "C1", "acc_id": 5, "amount": 1}], STORED).to_dict()
    assert answer["y"] == [["acc_id", "customer_id", "src__x", "x"]]


def test_an_alias_of_the_source_is_its_name() -> None:
    code = "def od(inputs):\n    return {'y': inputs['payer__x']}\n"
    od = on_demand_view("od", code, {"y": Float64}, sources=[projection(SOURCE, "x", alias="payer")])
    plan = compiled(registry(SOURCE, od), ["od:y"])
    assert read(plan, {"customer_id": ["C1"]}, STORED).to_dict()["y"] == [1.5]


@pytest.mark.parametrize(("mode", "given"), [("status", 1.5), ("enforce", None), ("ignore", 1.5)])
def test_an_input_that_is_too_old(mode: str, given: float | None) -> None:
    """It is withheld where values are, though no feature of the answer has a ttl."""
    source = view("src", {"x": Float64}, ttl_seconds=60)
    code = "def od(inputs):\n    return {'y': inputs['x'], 'z': inputs['src__x']}\n"
    od = on_demand_view("od", code, {"y": Float64, "z": Float64}, sources=[projection(source)])
    stored = {customer_key("C1"): hash_of("src", {"x": encode_value(1.5, ValueType.DOUBLE)}, (1, 0))}
    plan = compiled(registry(source, od), ["od:y", "od:z"], ttl_mode=mode)
    answer = read(plan, {"customer_id": ["C1"]}, stored).to_dict()
    assert answer == {"customer_id": ["C1"], "y": [given], "z": [given]}


HOUR = timedelta(hours=1)
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
TIMES: list[tuple[Any, Any]] = [
    (datetime(2026, 1, 2, 3, 4, 5, 999_999), MOMENT),
    (datetime(2026, 1, 1, 22, 4, 5, 1, tzinfo=timezone(-5 * HOUR)), MOMENT),
    (datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1), datetime(2026, 10, 25, 1, 30)),
    # The fraction is cut off towards 1970.
    (datetime(1969, 12, 31, 23, 59, 58, 500_000), datetime(1969, 12, 31, 23, 59, 59)),
    (datetime(1, 1, 1), datetime(1, 1, 1)),
    (pd.Timestamp("2026-01-02T04:04:05.678901234", tz="Europe/Berlin"), MOMENT),
    (pd.NaT, None),
    (np.datetime64("2026-01-02T03:04:05.5"), MOMENT),
    (np.datetime64("NaT", "us"), None),
]


def show_when(value: Any, mode: str = "python") -> Any:
    """Return what a function gets as request data `when` of a request with one row."""
    builtins.seen = seen = []  # type: ignore[attr-defined]
    result = "pd.DataFrame({'y': [0]})" if mode == "pandas" else "{'y': [0]}"
    code = f"def od(inputs):\n    seen.append(inputs['when'])\n    return {result}\n"
    od = on_demand_view("od", code, {"y": Int64}, request={"when": UnixTimestamp}, mode=mode)
    try:
        read(compiled(registry(SOURCE, od), ["od:y"]), [{"when": value}], {})
    finally:
        del builtins.seen  # type: ignore[attr-defined]
    return seen[0]


@pytest.mark.parametrize(("value", "given"), TIMES, ids=repr)
def test_times_of_the_request_are_as_those_of_features(value: Any, given: datetime | None) -> None:
    """In UTC, naive ones too, and without fractions of a second."""
    expected = given and given.replace(tzinfo=timezone.utc)
    (found,) = show_when(value)
    assert (type(found), found) == (type(expected), expected)
    assert found is None or found.tzinfo is timezone.utc
    column = show_when(value, "pandas")
    assert str(column.dtype) == ("object" if expected is None else "datetime64[us, UTC]")
    assert column.tolist() == [expected]


@pytest.mark.parametrize(
    ("value", "given"),
    [
        ([datetime(2026, 1, 2, 3, 4, 5, 1), MOMENT.astimezone(timezone(HOUR)), None], [MOMENT, MOMENT, None]),
        ((datetime(2026, 1, 2, 3, 4, 5),), (MOMENT,)),
        ({datetime(2026, 1, 2, 3, 4, 5)}, {MOMENT}),
        ({"k": [datetime(2026, 1, 2, 3, 4, 5)]}, {"k": [MOMENT]}),
        ({datetime(2026, 1, 2, 3, 4, 5): 1}, {MOMENT: 1}),
        (["2026-01-02", 5, 1.5, date(2026, 1, 2)], ["2026-01-02", 5, 1.5, date(2026, 1, 2)]),
    ],
    ids=repr,
)
def test_times_inside_of_request_data(value: Any, given: Any) -> None:
    assert show_when(value) == [given]
    assert show_when(value)[0] is not value


def test_times_of_the_request_that_utc_does_not_have() -> None:
    with pytest.raises(EntityError, match=r"entity 'when'.*outside years 1 to 9999") as caught:
        show_when(datetime(1, 1, 1, tzinfo=timezone(HOUR)))
    assert caught.value.join_key == "when"


def test_times_of_pandas_mode_are_counted_in_microseconds() -> None:
    """As by Arrow, from which Feast makes the DataFrame; pandas 2 would count nanoseconds."""
    code = "def od(inputs):\n    seen.append(inputs)\n    return pd.DataFrame({'y': [0.0] * 2})\n"
    frame = inputs_of(code, mode="pandas", rows=[{**row, "amount": MOMENT} for row in ROWS])
    assert {str(frame[name].dtype) for name in ("at", "src__at", "amount")} == {"datetime64[us, UTC]"}
    assert frame["at"].isna().tolist() == [False, True]


def test_request_data_is_not_cut_to_the_kind_of_its_first_value() -> None:
    """Feast makes [1, 2] of it, integers because the first is one."""
    rows = [{**row, "amount": amount} for row, amount in zip(ROWS, [1, 2.5], strict=True)]
    assert inputs_of(rows=rows)["amount"] == [1, 2.5]
    assert run("def od(inputs):\n    return {'y': inputs['amount']}\n", rows) == {"y": [1.0, 2.5]}


def test_inputs_of_pandas_mode() -> None:
    code = "def od(inputs):\n    seen.append(inputs)\n    return pd.DataFrame({'y': [0.0] * 2})\n"
    frame = inputs_of(code, mode="pandas")
    assert list(frame.columns[:2]) == ["customer_id", "amount"]
    assert len(frame) == 2
    assert frame["x"][0] == 1.5
    assert math.isnan(frame["src__x"][1])


def test_inputs_of_singleton_mode() -> None:
    rows = inputs_of("def od(inputs):\n    seen.append(inputs)\n    return {'y': 0.0}\n", singleton=True)
    assert [row["customer_id"] for row in rows] == ["C1", "C2"]
    assert [row["src__x"] for row in rows] == [1.5, None]


def test_a_function_may_change_its_inputs() -> None:
    """Neither the caller's lists, nor the next function's, nor the answer's are the same objects."""
    spoil = "def {0}(inputs):\n    for name in inputs: inputs[name].clear()\n    return {{'{0}_y': [0.0]}}\n"
    add = "def c(inputs):\n    return {'y': [x + y for x, y in zip(inputs['x'], inputs['amount'])]}\n"
    needs: dict[str, Any] = {"sources": [projection(SOURCE)], "request": {"amount": Float64}}
    a, b = (on_demand_view(name, spoil.format(name), {f"{name}_y": Float64}, **needs) for name in "ab")
    last = on_demand_view("c", add, {"y": Float64}, **needs)
    plan = compiled(registry(SOURCE, a, b, last), ["a:a_y", "b:b_y", "c:y", "src:x"])
    rows: dict[str, list[Any]] = {"customer_id": ["C1"], "amount": [2.0]}
    answer = read(plan, rows, STORED).to_dict()
    assert answer == {"customer_id": ["C1"], "a_y": [0.0], "b_y": [0.0], "y": [3.5], "x": [1.5]}
    assert rows == {"customer_id": ["C1"], "amount": [2.0]}


def test_views_do_not_see_each_other_s_outputs() -> None:
    give = "def a(inputs):\n    return {'q': [1.0]}\n"
    look = "def b(inputs):\n    return {'r': ['q' in inputs]}\n"
    first = on_demand_view("a", give, {"q": Float64}, sources=[projection(SOURCE)])
    second = on_demand_view("b", look, {"r": Bool}, sources=[projection(SOURCE)])
    plan = compiled(registry(SOURCE, first, second), ["a:q", "b:r"])
    assert read(plan, {"customer_id": ["C1"]}, STORED).to_dict()["r"] == [False]


# --- what it may return ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "dtype", "expected"),
    [
        ("[1, None]", Float64, [1.0, None]),
        ("(1.5, float('nan'))", Float64, [1.5, None]),
        ("(x for x in [1.5, 2])", Float64, [1.5, 2.0]),
        ("np.array([1, 2], 'int8')", Int64, [1, 2]),
        ("np.array([1.5, np.nan], 'float32')", Float64, [1.5, None]),
        ("pd.Series([1.5, None])", Float64, [1.5, None]),
        ("pd.array([1, None], dtype='Int64')", Int64, [1, None]),
        ("pd.Series(['a', None], dtype='string')", String, ["a", None]),
        ("pd.to_datetime(['2026-01-01', None])", UnixTimestamp, [datetime(2026, 1, 1, tzinfo=timezone.utc), None]),
        ("inputs['tags']", Array(String), [["a", "b"], None]),
        ("np.array(['a', 'b'])", String, ["a", "b"]),
        ("[np.array(['a']), None]", Array(String), [["a"], None]),
        ("[np.bool_(True), False]", Bool, [True, False]),
        ("[b'\\0', None]", Bytes, [b"\0", None]),
        ("inputs['id']", Uuid, [UUID(int=5), None]),
    ],
)
@pytest.mark.parametrize("mode", ["python", "pandas"])
def test_results(result: str, dtype: Any, expected: list[Any], mode: str) -> None:
    wrap = "pd.DataFrame({{'y': list({0})}})" if mode == "pandas" else "{{'y': {0}}}"
    imports = "import numpy as np\nimport pandas as pd\n"
    code = f"{imports}def od(inputs):\n    return {wrap.format(result)}\n"
    assert run(code, outputs={"y": dtype}, mode=mode) == {"y": expected}


def test_results_may_hold_more() -> None:
    assert run("def od(inputs):\n    inputs['y'] = inputs['amount']\n    return inputs\n") == {"y": [2.0, 3.0]}
    code = "def od(inputs):\n    inputs['y'] = inputs['amount'] * 2\n    return inputs\n"
    assert run(code, mode="pandas") == {"y": [4.0, 6.0]}


def test_singleton() -> None:
    """Once per row; Feast calls it for the first row only."""
    code = "def od(inputs):\n    return {'y': (inputs['x'] or 0) + inputs['amount'], 'more': 1}\n"
    assert run(code, singleton=True) == {"y": [3.5, 3.0]}


@pytest.mark.parametrize(
    ("result", "dtype", "expected"),
    [
        ("[inputs['amount']]", Float64, [2.0, 3.0]),  # Feast takes the list for the column of its one row
        ("['a']", String, ["a", "a"]),
        ("[None]", Float64, [None, None]),
        ("[{'a': 1}]", Map, [{"a": 1}] * 2),
        ("{'a': 1}", Map, [{"a": 1}] * 2),
        ("[[1.0, 2.0]]", Array(Float64), [[1.0, 2.0]] * 2),
        ("[1.0]", Array(Float64), [[1.0]] * 2),
        ("[1.0, 2.0]", Array(Float64), [[1.0, 2.0]] * 2),
        ("[[1.0, 2.0]]", Array(Array(Float64)), [[[1.0, 2.0]]] * 2),
        ("[]", Array(Float64), [[]] * 2),
    ],
)
def test_singletons_may_return_lists_of_one(result: str, dtype: Any, expected: list[Any]) -> None:
    code = f"def od(inputs):\n    return {{'y': {result}}}\n"
    assert run(code, outputs={"y": dtype}, singleton=True) == {"y": expected}


PLACE = "on-demand feature view od"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("return {'z': [1.0, 2.0]}", f"{PLACE}, output y is missing; the function returned ['z']"),
        ("return {'y': [1.0]}", f"{PLACE}, output y has 1 values for 2 rows"),
        ("return {'y': [1.0] * 3}", f"{PLACE}, output y has 3 values for 2 rows"),
        ("return {'y': []}", f"{PLACE}, output y has 0 values for 2 rows"),
        ("return {'y': 5}", f"{PLACE}, output y must have one value per row, it is int 5"),
        ("return {'y': None}", f"{PLACE}, output y must have one value per row, it is NoneType None"),
        ("return {'y': 'ab'}", f"{PLACE}, output y must have one value per row, it is str 'ab'"),
        ("return {'y': {1: 2}}", f"{PLACE}, output y must have one value per row, it is dict"),
        ("return {'y': [1.0, 'a']}", f"{PLACE}, output y: y, row 1: DOUBLE expected, got str 'a'"),
        ("return None", f"{PLACE}: TypeError: the function must return a dict, it returned NoneType"),
        ("return [1.0, 2.0]", f"{PLACE}: TypeError: the function must return a dict, it returned list"),
        ("return {'y': [1 / 0]}", f"{PLACE}: ZeroDivisionError: division by zero"),
        ("return {'y': inputs['nothing']}", f"{PLACE}: KeyError: 'nothing'"),
        ("raise LookupError('gone')", f"{PLACE}: LookupError: gone"),
        ("raise SystemExit(3)", f"{PLACE}: SystemExit: 3"),
    ],
)
def test_wrong_results(body: str, text: str) -> None:
    with pytest.raises(TransformError) as caught:
        run(f"def od(inputs):\n    {body}\n")
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("return None", f"{PLACE}: TypeError: the function must return a dict with y, it returned NoneType"),
        ("return {'z': 1.0}", f"{PLACE}: TypeError: the function must return a dict with y, it returned ['z']"),
        ("return {'y': 1 / (inputs['amount'] - 3)}", f"{PLACE}: ZeroDivisionError"),
        ("return {'y': 'text'}", f"{PLACE}, output y: y, row 0"),
        ("return {'y': [1.0, 2.0]}", f"{PLACE}: TypeError: output y must be one value, it is a list of 2"),
        ("return {'y': []}", f"{PLACE}: TypeError: output y must be one value, it is a list of 0"),
        ("return {'y': (1.0,)}", f"{PLACE}: TypeError: output y must be one value, it is a tuple of 1"),
    ],
)
def test_wrong_results_of_singletons(body: str, text: str) -> None:
    with pytest.raises(TransformError) as caught:
        run(f"def od(inputs):\n    {body}\n", singleton=True)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("return inputs['amount']", f"{PLACE}: TypeError: the function must return a DataFrame, it returned Series"),
        ("return {'y': [1.0, 2.0]}", f"{PLACE}: TypeError: the function must return a DataFrame, it returned dict"),
        ("return None", f"{PLACE}: TypeError: the function must return a DataFrame, it returned NoneType"),
        ("return inputs[['amount']]", f"{PLACE}, output y is missing; the function returned ['amount']"),
        ("return pd.DataFrame({'y': [1.0]})", f"{PLACE}, output y has 1 values for 2 rows"),
        ("return pd.DataFrame([[1.0, 2.0]] * 2, columns=['y', 'y'])", f"{PLACE}: "),
        ("return inputs['x'].mistake", f"{PLACE}: AttributeError"),
        ("return pd.DataFrame({'y': ['a', 'b']})", f"{PLACE}, output y: y, row 0: DOUBLE expected"),
    ],
)
def test_wrong_results_of_pandas_mode(body: str, text: str) -> None:
    with pytest.raises(TransformError) as caught:
        run(f"def od(inputs):\n    {body}\n", mode="pandas")
    assert str(caught.value).startswith(text)


def test_out_of_range() -> None:
    with pytest.raises(TransformError, match=r"output y: y, row 1: .*out of the range of INT32"):
        run("def od(inputs):\n    return {'y': [1, 2**31]}\n", outputs={"y": Int32})


def test_an_interrupt_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        run("def od(inputs):\n    raise KeyboardInterrupt\n")


def test_missing_request_data_of_several_views() -> None:
    code = "def {0}(inputs):\n    return {{'{0}_y': [1.0]}}\n"
    views = [on_demand_view(name, code.format(name), {f"{name}_y": Float64}, request={need: Float64})
             for name, need in [("a", "tip"), ("b", "amount"), ("c", "tip")]]  # fmt: skip
    plan = compiled(registry(SOURCE, *views), ["a:a_y", "b:b_y", "c:c_y"])
    with pytest.raises(RequestDataNotFoundInEntityRowsException, match=r"\['amount', 'tip'\]"):
        read(plan, {"customer_id": ["C1"]}, {})
    with pytest.raises(RequestDataNotFoundInEntityRowsException, match=r"\['tip'\]"):
        read(plan, {"amount": [1.0]}, {})


# --- loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "def od(inputs):\n    return {'y': 1}\n",
        "    def od(inputs):\n        return {'y': 1}\n",
        "@on_demand_feature_view(sources=[a], schema=[b])\n@other\ndef od(inputs):\n    return {'y': 1}\n",
        "def od(inputs: Dict[str, Any]) -> Dict[str, List[Optional[int]]]:\n    return {'y': 1}\n",
        "def od(inputs: Anything) -> nothing.at_all:\n    return {'y': 1}\n",
        "def od(inputs: pd.DataFrame) -> np.ndarray:\n    return {'y': 1}\n",
        "def od(inputs: pandas.DataFrame) -> numpy.ndarray:\n    return {'y': 1}\n",
        "od = lambda inputs: {'y': 1}\n",
        "import math\nONE = math.ceil(0.5)\ndef one():\n    return ONE\ndef od(inputs):\n    return {'y': one()}\n",
        "def another_name(inputs):\n    return {'y': 1}\n",
        "class Callable1:\n    def __call__(self, inputs):\n        return {'y': 1}\nod = Callable1()\n",
    ],
)
def test_source_text(code: str) -> None:
    assert load_function(view_of(code))({}) == {"y": 1}


def test_source_text_is_taken_before_the_pickle() -> None:
    assert load_function(view_of("def od(inputs):\n    return 5\n", b"not a pickle"))({}) == 5


BAD_TEXT = ["", "x = 1\n", "def od(inputs:\n", "1 / 0\n", "od = 5\n"]


@pytest.mark.parametrize("code", BAD_TEXT)
def test_source_text_that_does_not_load(code: str) -> None:
    with pytest.raises(TransformError, match=f"^{PLACE}: the source text does not load"):
        load_function(view_of(code))


@pytest.mark.parametrize("code", BAD_TEXT)
def test_the_pickle_needs_dill(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dill", None)
    with pytest.raises(TransformError, match=r"the source text does not load .*needs the package dill"):
        load_function(view_of(code, b"pickle"))


def test_a_pickle() -> None:
    pytest.importorskip("dill")
    assert load_function(view_of("broken(", pickle.dumps(math.sqrt)))(9) == 3.0


LIMIT = 7


def limited(inputs: dict[str, list[int]]) -> dict[str, list[int]]:
    return {"x": [min(x, LIMIT) for x in inputs["x"]]}


def test_a_text_that_needs_its_module_is_left_for_the_pickle() -> None:
    """Feast runs the text all the same, and fails at the first name that is missing."""
    dill = pytest.importorskip("dill")
    code = "def od(inputs):\n    return {'x': [min(x, LIMIT) for x in inputs['x']]}\n"
    limited.__module__ = "__main__"
    assert load_function(view_of(code, dill.dumps(limited, recurse=True)))({"x": [9]}) == {"x": [7]}
    for lost in (b"", b"not a pickle"):
        with pytest.raises(NameError, match="LIMIT"):
            load_function(view_of(code, lost))({"x": [9]})


def test_a_pickle_that_does_not_load() -> None:
    pytest.importorskip("dill")
    with pytest.raises(TransformError, match=r"od: neither source text \(.*\) nor pickle \(.*\) loads"):
        load_function(view_of("broken(", b"not a pickle"))


def test_a_pickle_of_another_python_is_refused() -> None:
    """Its bytecode may crash the interpreter; the error names both versions."""
    pytest.importorskip("dill")
    other = "3.10" if VERSION == "3.13" else "3.13"
    body = bytes.fromhex(goldens.load(f"pickles/{other}")["ratio"])
    reason = f"its bytecode is that of Python {other}, and this is Python {VERSION}"
    with pytest.raises(TransformError, match=rf"^{PLACE}: neither source text \(.*\) nor pickle \({reason}\) loads"):
        load_function(view_of("", body))


def test_forbidden_code_is_not_even_looked_at() -> None:
    with pytest.raises(NotSupportedError, match=r"od: 'fastserve\.allow_on_demand' is false in feature_store\.yaml"):
        load_function(view_of("raise SystemExit"), allowed=False)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"mode": "substrait"}, "mode 'substrait'"),
        ({"mode": "ray"}, "mode 'ray'"),
        ({"has_aggregations": True}, "aggregations"),
    ],
)
def test_what_is_not_supported(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(NotSupportedError, match=f"{PLACE}: {text}"):
        load_function(view_of("def od(inputs):\n    return 1\n", **changes))


def test_no_function_at_all() -> None:
    with pytest.raises(TransformError, match="no function"):
        load_function(view_of("", udf=None))


def test_functions_of_two_views_have_namespaces_of_their_own() -> None:
    first = load_function(view_of("COUNT = 1\ndef od(inputs):\n    return COUNT\n"))
    second = load_function(view_of("COUNT = 2\ndef od(inputs):\n    return COUNT\n"))
    assert (first({}), second({})) == (1, 2)
