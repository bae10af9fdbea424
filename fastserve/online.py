"""The read path without I/O: entities -> Batch, and Batch -> answer with on-demand features."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from fastserve._core import Batch, ReadPlan, columns_of_rows, plain_batch
from fastserve.errors import EntityError
from fastserve.transform import run_transforms

__all__ = ["begin", "columns_of", "finish"]

Columns = dict[str, list[Any]]


def begin(plan: ReadPlan, entity_rows: object, lazy: bool = False) -> Batch:
    """Turn the entities of a request into a Batch that a store can fill.

    Args:
        entity_rows: a list of dicts with equal keys, or a mapping from column to values: a list, tuple, NumPy array,
            pandas Series, Arrow array, list of protobuf Values or RepeatedValue; or a pandas DataFrame.
            Columns that are neither a join key nor request data are ignored.
        lazy: leave keys to be made while the store reads already; some errors of values come then.
    Raises:
        EntityError: a join key is missing, columns have unequal lengths, or a value cannot be a key.
    """
    if type(entity_rows) is dict:
        batch = _batch_of_lists(plan, entity_rows, lazy)
    else:
        batch = plain_batch(plan, entity_rows, lazy)
    return _begin(plan, entity_rows, lazy) if batch is None else batch


def _batch_of_lists(plan: ReadPlan, columns: Columns, lazy: bool) -> Batch | None:
    """Return the Batch of columns as they come from JSON, the join keys and nothing else; None for any others."""
    if plan.request_data or columns.keys() != plan.required.keys():
        return None
    n_rows = -1
    for values in columns.values():
        if type(values) is not list or len(values) != n_rows >= 0 or (values and type(values[0]) not in (str, int)):
            return None
        n_rows = len(values)
    return Batch(plan, columns, n_rows, None, lazy) if n_rows >= 0 else None


def columns_of(entity_rows: object) -> Columns:
    """Return the columns of entity rows in any form that `begin` takes. Raises EntityError."""
    return columns_of_rows(entity_rows) if type(entity_rows) is list else _columns_of_mapping(entity_rows)


def _begin(plan: ReadPlan, entity_rows: object, lazy: bool) -> Batch:
    columns = columns_of(entity_rows)
    keys: Columns = {}
    n_rows = -1
    for name, values in columns.items():
        if len(values) != n_rows:
            if n_rows >= 0:
                raise _unequal_lengths(columns)
            n_rows = len(values)
        if name in plan.join_keys:
            keys[name] = values
        elif name in plan.entity_names and name not in plan.request_data:
            keys[_join_key_of(plan, name)] = values
    if n_rows < 0:
        n_rows = _rows_without_columns(plan, entity_rows)
    # Request data may be a join key too.
    request_data = {name: columns[name] for name in plan.request_data if name in columns} if plan.request_data else None
    if not keys.keys() >= plan.required.keys():
        _supply_or_refuse(plan, keys, n_rows)
    return Batch(plan, keys, n_rows, request_data, lazy)


def finish(batch: Batch) -> list[tuple[int, int]]:
    """Compute the on-demand features of a filled Batch, or look at its vectors.

    Returns:
        (group, entity) of each precomputed vector that is not there, which reads as if nothing were stored.
    Raises:
        DecodeError: a vector is damaged. VectorStaleError, VectorVersionError: it is of another layout or version.
    """
    missing = batch.unpack_vectors() if batch.plan.has_vectors else []
    if batch.plan.transforms:
        run_transforms(batch, batch.plan.transforms)
    return missing


def _unequal_lengths(columns: Columns) -> EntityError:
    listing = ", ".join(f"{name}: {len(values)}" for name, values in columns.items())
    return EntityError(f"all columns must have the same length ({listing})")


def _rows_without_columns(plan: ReadPlan, entity_rows: object) -> int:
    """A request without columns has as many rows as it has (empty) dicts.

    Given as an empty mapping it has one row if no requested view has join keys.
    """
    if isinstance(entity_rows, list):
        return len(entity_rows)
    return 0 if plan.required else 1


def _supply_or_refuse(plan: ReadPlan, keys: Columns, n_rows: int) -> None:
    """A request with no rows needs no keys; any other must have them all."""
    missing = {name: views for name, views in plan.required.items() if name not in keys}
    if n_rows == 0 and not keys:
        keys.update((name, []) for name in missing)
    elif missing:
        needs = "; ".join(f"{name} (of {', '.join(views)})" for name, views in missing.items())
        raise EntityError(f"missing join key {needs}; the request has {sorted(keys) or 'none'}")


def _join_key_of(plan: ReadPlan, entity_name: str) -> str:
    join_key = plan.entity_names[entity_name]
    message = f"entity {entity_name!r} is given by its name; use its join key {join_key!r}"
    warnings.warn(message, DeprecationWarning, stacklevel=6)  # the caller of get_online_features
    return join_key


def _columns_of_mapping(entity_rows: object) -> Columns:
    if isinstance(entity_rows, Mapping):
        return {name: _values(name, column) for name, column in entity_rows.items()}
    if hasattr(entity_rows, "to_dict") and hasattr(entity_rows, "columns"):  # a DataFrame
        return _columns_of_frame(entity_rows)
    if isinstance(entity_rows, Sequence) and not isinstance(entity_rows, (str, bytes)):
        return columns_of_rows(list(entity_rows))
    raise EntityError(f"a list of dicts or a mapping of columns expected, got {type(entity_rows).__name__}")


def _columns_of_frame(frame: Any) -> Columns:
    if not frame.columns.is_unique:
        raise EntityError(f"the DataFrame has several columns of one name: {', '.join(map(str, frame.columns))}")
    return {name: frame[name].tolist() for name in frame.columns}


def _values(name: str, column: Any) -> list[Any]:
    """Return one column as a list of Python values."""
    if hasattr(column, "val"):  # a protobuf RepeatedValue, whose container has no __iter__
        column = list(column.val)
    if hasattr(column, "to_pylist"):
        column = column.to_pylist()
    elif hasattr(column, "tolist"):
        if hasattr(column, "__array_interface__") and column.dtype.kind == "M":
            # NumPy would make bare numbers of nanoseconds; a pandas Series makes Timestamps.
            column = column.astype("datetime64[us]")
        column = column.tolist()
    if isinstance(column, (str, bytes, Mapping)) or not hasattr(column, "__iter__"):
        raise EntityError(f"a list of values expected, got {type(column).__name__}", join_key=name)
    return _unwrapped(column if type(column) is list else list(column))


def _unwrapped(values: list[Any]) -> list[Any]:
    """The Python values of protobuf Values, of this package or of Feast; other values as they are."""
    if not values or not hasattr(values[0], "WhichOneof"):
        return values
    members = [value.WhichOneof("val") for value in values]
    return [None if m in (None, "null_val") else getattr(value, m) for value, m in zip(values, members, strict=True)]
