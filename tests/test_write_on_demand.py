"""Rows of stored on-demand views: their functions run when they are written."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from fastserve import FeatureStore
from fastserve.errors import EntityError, NotSupportedError, TransformError
from fastserve.model import DUMMY_ENTITY, FeatureView, Field, OnDemandFeatureView, UserDefinedFunction
from fastserve.sources import to_batch
from fastserve.types import Array, Float32, Float64, Int64, String, ValueType
from fastserve.write_on_demand import EVENT_TIME, compute_rows, on_demand_format
from tests.rows import UTC


def test_a_stored_on_demand_view_is_computed_when_it_is_written(store: FeatureStore) -> None:
    before = int(dt.datetime.now(UTC).timestamp())
    store.write_to_online_store("stored_odfv", {"customer_id": ["C7", "C8"], "income": [5000.0, None]})
    answer = store.get_online_features(["stored_odfv:income_k"], {"customer_id": ["C7", "C8"]})
    assert answer.to_dict()["income_k"] == [5.0, None]
    assert answer.to_df(include_event_timestamps=True)["income_k__ts"][0] >= before
    with pytest.raises(TransformError, match="stored_odfv: KeyError: 'income'"):
        store.write_to_online_store("stored_odfv", {"customer_id": ["C7"]})


# --- alone -----------------------------------------------------------------------------------------------------------

KEYS = Field("k", Int64), Field("j", String)
FEATURES = Field("total", Float64), Field("vec", Array(Float32), vector_length=2)
STORED = FeatureView("odv", "on_demand_feature_view", ("a", "b"), KEYS, FEATURES)


def computed(code: str, rows: Any, **changes: Any) -> dict[str, Any]:
    """Run the view `odv` whose function is this Python code; return the columns."""
    function = UserDefinedFunction("odv", body_text=code)
    found = OnDemandFeatureView("odv", FEATURES, mode="python", udf=function, write_to_online_store=True)
    return compute_rows(found, on_demand_format(STORED), rows, changes.get("allowed", True))


SUM = """\
def odv(inputs):
    pairs = list(zip(inputs["x"], inputs["y"]))
    return {"total": [x + y for x, y in pairs], "vec": [[x, y] for x, y in pairs]}
"""
ROWS = {"k": [1, 2], "j": ["a", "b"], "x": [1.0, 2.0], "y": [0.5, 0.25], "more": [0, 0]}


def test_join_keys_are_features_too() -> None:
    form = on_demand_format(STORED)
    assert form.join_keys == (("j", ValueType.STRING), ("k", ValueType.INT64))
    assert [name for name, _ in form.features] == ["k", "j", "total", "vec"]
    assert (form.event_time, form.created, form.vector_lengths) == (EVENT_TIME, "", {"vec": 2})


def test_a_view_without_entities_has_no_join_keys() -> None:
    found = FeatureView("odv", "on_demand_feature_view", (DUMMY_ENTITY,), (), FEATURES)
    assert on_demand_format(found).join_keys == ()


def test_a_key_of_another_type_is_refused() -> None:
    with pytest.raises(EntityError, match="DOUBLE of feature view odv"):
        on_demand_format(FeatureView("odv", "on_demand_feature_view", ("a",), (Field("k", Float64),), FEATURES))


@pytest.mark.parametrize("form", [dict, pd.DataFrame, pa.table], ids=["dict", "pandas", "arrow"])
def test_rows_of_any_form_are_computed(form: Any) -> None:
    before = dt.datetime.now(UTC)
    found = computed(SUM, form(ROWS))
    times = found.pop(EVENT_TIME)
    assert found == {"k": [1, 2], "j": ["a", "b"], "total": [1.5, 2.25], "vec": [[1.0, 0.5], [2.0, 0.25]]}
    assert len(times) == 2 and before <= times[0] <= dt.datetime.now(UTC)


def test_they_can_be_written() -> None:
    form = on_demand_format(STORED)
    assert to_batch(computed(SUM, ROWS), form).num_rows == 2
    assert computed(SUM, {name: [] for name in ROWS})[EVENT_TIME] == []


def test_what_the_function_leaves_out_comes_from_the_rows_or_is_null() -> None:
    code = 'def odv(inputs):\n    return {"total": inputs["x"], "k": [8, 9]}\n'
    found = computed(code, ROWS)
    assert (found["j"], found["vec"]) == (["a", "b"], [None, None])
    assert computed(code, ROWS | {"vec": [[1.0, 2.0], None]})["vec"] == [[1.0, 2.0], None]


def test_a_function_that_fails_is_named() -> None:
    with pytest.raises(TransformError, match="odv: KeyError: 'y'"):
        computed(SUM, {name: column for name, column in ROWS.items() if name != "y"})


def test_code_of_the_registry_runs_only_if_it_may() -> None:
    with pytest.raises(NotSupportedError, match="odv"):
        computed(SUM, ROWS, allowed=False)
