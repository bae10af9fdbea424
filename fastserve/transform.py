"""On-demand feature views: their code is loaded once, when a plan is compiled, and run on whole columns.

Whoever can write the registry can run code here, exactly as with Feast; `fastserve: {allow_on_demand: false}` in
feature_store.yaml forbids it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from typing import Any

from fastserve._core import (
    Batch,
    Slot,
    decode_value,
    encode_column,
    encode_value,
    keep_plain_outputs,
    transform_inputs,
)
from fastserve.errors import (
    DecodeError,
    EntityError,
    NotSupportedError,
    RequestDataNotFoundInEntityRowsException,
    TransformError,
)
from fastserve.model import OnDemandFeatureView, UserDefinedFunction
from fastserve.source_text import load_source, unresolved_names
from fastserve.types import ValueType
from fastserve.unpickle import load_pickle

__all__ = ["Transform", "call_function", "listeners", "load_function", "run_transforms"]

listeners: list[Callable[[str, str, int], object]] = []
"""Called after each run for a read, with the view's name, its mode and the nanoseconds that its function took."""

Columns = dict[str, list[Any]]

_ANY = frozenset((ValueType.JSON, ValueType.JSON_LIST, ValueType.VALUE_LIST, ValueType.VALUE_SET))
LISTS = frozenset(kind for kind in ValueType if kind.name.endswith(("_LIST", "_SET"))) - _ANY
"""Types of values that are lists, of what is none itself."""
SINGLE = frozenset(ValueType) - LISTS - _ANY
"""Types of values that are no lists."""


@dataclass(frozen=True)
class Transform:
    """One on-demand feature view of a plan.

    Args:
        inputs: (feature, `view__feature`, slot) of each feature it declares.
        request_data: columns of the request it declares.
        outputs: (name in its result, name in the answer, ValueType).
    """

    view: OnDemandFeatureView
    function: Callable[[Any], Any]
    inputs: tuple[tuple[str, str, Slot], ...]
    request_data: tuple[str, ...]
    outputs: tuple[tuple[str, str, int], ...]


def run_transforms(batch: Batch, transforms: tuple[Transform, ...]) -> None:
    """Compute the outputs of the transforms and put them into the batch.

    Raises:
        RequestDataNotFoundInEntityRowsException: the request lacks a column that a transform declares.
        EntityError: a time in such a column is outside the years 1 to 9999 in UTC.
        TransformError: the function failed, or did not return what it must.
    """
    request_data: Columns = batch.request_data or {}
    if len(request_data) < len(batch.plan.request_data) and batch.n_rows:
        raise RequestDataNotFoundInEntityRowsException(set(batch.plan.request_data) - set(request_data))
    for transform in transforms:
        if not batch.n_rows:
            _store_outputs(batch, transform, {})
            continue
        columns = transform_inputs(batch, transform.inputs, transform.request_data, _converted)
        result = _timed(transform, columns, batch.n_rows) if listeners else _call(transform, columns, batch.n_rows)
        if type(result) is not dict or not keep_plain_outputs(batch, result, transform.outputs):
            _store_outputs(batch, transform, result)


def call_function(
    view: OnDemandFeatureView, function: Callable[[Any], Any], columns: Columns, n_rows: int
) -> Mapping[str, Any]:
    """Return what the function of a view makes of columns that are no request's. Raises TransformError."""
    outputs = tuple((feature.name, feature.name, int(feature.value_type)) for feature in view.features)
    return _call(
        Transform(view, function, (), (), outputs), {name: [*column] for name, column in columns.items()}, n_rows
    )


def _converted(name: str, values: list[Any]) -> list[Any]:
    """Return a column of the request as functions get it, if that is not as it is."""
    try:
        return [_as_stored(value) for value in values]
    except DecodeError as exc:
        raise EntityError(exc.reason, join_key=name) from exc


def _as_stored(value: Any) -> Any:
    """Return times, also inside of lists, sets and dicts, as features have them: aware, in UTC, without fractions."""
    if isinstance(value, datetime) or type(value).__name__ == "datetime64":
        return decode_value(encode_value(value))
    if type(value) in (list, tuple, set):
        return type(value)(map(_as_stored, value))
    if type(value) is dict:
        return {_as_stored(key): _as_stored(item) for key, item in value.items()}
    return value


def _timed(transform: Transform, columns: Columns, n_rows: int) -> Mapping[str, Any]:
    began = time.monotonic_ns()
    result = _call(transform, columns, n_rows)
    for listener in listeners:
        listener(transform.view.name, transform.view.mode, time.monotonic_ns() - began)
    return result


def _call(transform: Transform, columns: Columns, n_rows: int) -> Mapping[str, Any]:
    try:
        if transform.view.mode == "pandas":
            return _call_pandas(transform, columns)
        if transform.view.singleton:
            return _call_singleton(transform, columns, n_rows)
        result = transform.function(columns)
        if not isinstance(result, Mapping):
            raise TypeError(f"the function must return a dict, it returned {type(result).__name__}")
        return result
    except (Exception, SystemExit) as exc:  # the function is the user's: it may raise anything, but not end a server
        raise TransformError(f"on-demand feature view {transform.view.name}: {type(exc).__name__}: {exc}") from exc


def _call_pandas(transform: Transform, columns: Columns) -> Mapping[str, Any]:
    result = transform.function(_frame(columns))
    if not hasattr(result, "columns"):
        raise TypeError(f"the function must return a DataFrame, it returned {type(result).__name__}")
    return {str(name): result[name].tolist() for name in result.columns}


def _frame(columns: Columns) -> Any:
    """Return a DataFrame whose times are of microseconds, as Arrow makes them for Feast; pandas 2 takes nanoseconds."""
    import pandas as pd

    def column(values: list[Any]) -> Any:
        times = [value for value in values if value is not None]
        if not times or not all(isinstance(value, datetime) and value.tzinfo for value in times):
            return values
        return pd.Series(values, dtype=pd.DatetimeTZDtype("us", times[0].tzinfo))

    return pd.DataFrame({name: column(values) for name, values in columns.items()})


def _call_singleton(transform: Transform, columns: Columns, n_rows: int) -> Mapping[str, Any]:
    """Call the function once per row, with scalars."""
    rows = [transform.function({name: values[row] for name, values in columns.items()}) for row in range(n_rows)]
    return {name: [_cell(row, name, value_type) for row in rows] for name, _, value_type in transform.outputs}


def _cell(row: Any, name: str, value_type: int) -> Any:
    if isinstance(row, Mapping) and name in row:
        return _one(row[name], name, value_type)
    found = sorted(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
    raise TypeError(f"the function must return a dict with {name}, it returned {found}")


def _one(value: Any, name: str, value_type: int) -> Any:
    """Return the value of a row; it may stand in a list of one, since Feast takes a list for the whole column."""
    if type(value) is list and len(value) == 1:
        if value_type in SINGLE or (value_type in LISTS and isinstance(value[0], (list, tuple, set))):
            return value[0]
    elif value_type in SINGLE and isinstance(value, (list, tuple, set)):
        raise TypeError(f"output {name} must be one value, it is a {type(value).__name__} of {len(value)}")
    return value


def _store_outputs(batch: Batch, transform: Transform, result: Mapping[str, Any]) -> None:
    for name, output, value_type in transform.outputs:
        values = result.get(name) if batch.n_rows else []
        if type(values) is not list or len(values) != batch.n_rows:
            values = _output(transform, result, name, batch.n_rows)
        try:
            if not batch.set_plain(output, values, value_type):
                batch.set_computed(output, encode_column(values, value_type, name))
        except (TypeError, ValueError) as exc:
            raise TransformError(f"{_place(transform, name)}: {exc}") from exc


def _place(transform: Transform, output: str) -> str:
    return f"on-demand feature view {transform.view.name}, output {output}"


def _output(transform: Transform, result: Mapping[str, Any], name: str, n_rows: int) -> list[Any]:
    """Return the values of an output as a list. Raises TransformError if they are none, or not one per row."""
    place = _place(transform, name)
    if name not in result:
        raise TransformError(f"{place} is missing; the function returned {sorted(map(str, result))}")
    values = result[name]
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        raise TransformError(f"{place} must have one value per row, it is {type(values).__name__} {values!r:.40}")
    found = list(values)
    if len(found) != n_rows:
        raise TransformError(f"{place} has {len(found)} values for {n_rows} rows")
    return found


# --- loading ---------------------------------------------------------------------------------------------------------


def load_function(view: OnDemandFeatureView, allowed: bool = True) -> Callable[[Any], Any]:
    """Return the function of an on-demand feature view: from its source text, or, if that does not do, its pickle.

    Raises:
        NotSupportedError: the mode is neither "python" nor "pandas", it aggregates, or `allowed` is false.
        TransformError: neither form can be loaded.
    """
    place = f"on-demand feature view {view.name}"
    if not allowed:
        raise NotSupportedError(f"{place}: 'fastserve.allow_on_demand' is false in feature_store.yaml")
    if view.has_aggregations or view.mode not in ("python", "pandas"):
        kind = "aggregations" if view.has_aggregations else f"mode {view.mode!r}"
        raise NotSupportedError(f"{place}: {kind} of on-demand feature views are not supported")
    if view.udf is None:
        raise TransformError(f"{place} has no function in the registry")
    try:
        function = load_source(view.udf.body_text, view.udf.name)
    except Exception as source_error:  # executing text from the registry may raise anything
        return _from_pickle(view.udf, place, source_error)
    return _with_its_module(view.udf, function)


def _with_its_module(udf: UserDefinedFunction, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the pickled function instead if the one from the text lacks names of the module it was written in."""
    if udf.body and find_spec("dill") is not None and unresolved_names(udf.body_text):
        with contextlib.suppress(Exception):  # a pickle may raise anything; then what is missing is told when it runs
            found: Callable[[Any], Any] = load_pickle(udf.body)
            return found
    return function


def _from_pickle(udf: UserDefinedFunction, place: str, source_error: Exception) -> Callable[[Any], Any]:
    if not udf.body:
        raise TransformError(f"{place}: the source text does not load: {source_error}") from source_error
    if find_spec("dill") is None:
        raise TransformError(
            f"{place}: the source text does not load ({source_error}) and reading the pickle needs the package dill"
        ) from source_error
    try:
        function: Callable[[Any], Any] = load_pickle(udf.body)
    except Exception as exc:  # a pickle may raise anything
        raise TransformError(f"{place}: neither source text ({source_error}) nor pickle ({exc}) loads") from exc
    return function
