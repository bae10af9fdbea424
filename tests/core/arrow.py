"""Arrow batches for the tests of writing: columns of Python values in the types that the core encodes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from fastserve._core import WritePlan
from tests import reference
from tests.reference_encode import encode_column

SCALARS: dict[int, Any] = {
    reference.BYTES: pa.binary(),
    reference.STRING: pa.string(),
    reference.INT32: pa.int32(),
    reference.INT64: pa.int64(),
    5: pa.float64(),
    6: pa.float32(),
    7: pa.bool_(),
    reference.UNIX_TIMESTAMP: pa.int64(),
}
"""ValueType -> the Arrow type that its column has."""

LARGE = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
TIME = pa.timestamp("us", "UTC")


def arrow_type(value_type: int) -> Any:
    """Return the Arrow type of a column of features."""
    if value_type - 10 in SCALARS:
        return pa.list_(SCALARS[value_type - 10])
    return SCALARS.get(value_type, pa.binary())


def arrow_column(values: Sequence[Any], value_type: int) -> Any:
    """Return a column of features; those of types that Arrow has no form for are serialised already."""
    if value_type not in SCALARS and value_type - 10 not in SCALARS and value_type not in (30, 31):
        values = encode_column(values, value_type)
    return pa.array(values, arrow_type(value_type))


def batch_of(plan: WritePlan, columns: Sequence[Sequence[Any]], times: Sequence[int], created: Any = None) -> Any:
    """Return a batch of Python values in the plan's order; times in microseconds."""
    types = [*plan.key_types, *plan.feature_types]
    arrays = [arrow_column(values, value_type) for values, value_type in zip(columns, types, strict=True)]
    names = [*plan.columns, "event_timestamp"]
    arrays.append(pa.array(times, TIME))
    if created is not None:
        arrays.append(pa.array(created, TIME))
        names.append("created")
    return pa.RecordBatch.from_arrays(arrays, names=names)
