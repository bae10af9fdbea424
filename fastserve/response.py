"""The answer of `get_online_features`, in the form that is asked for."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from fastserve import _core
from fastserve._core import Batch, Slot
from fastserve.types import ValueType

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from fastserve.registry.schema_pb2 import GetOnlineFeaturesResponse

__all__ = ["OnlineResponse"]

# ValueType -> NumPy dtype, of the types that have a fixed width in the core's buffers.
FIXED: dict[int, str] = {
    ValueType.INT32: "<i4",
    ValueType.INT64: "<i8",
    ValueType.DOUBLE: "<f8",
    ValueType.FLOAT: "<f4",
    ValueType.BOOL: "?",
    ValueType.UNIX_TIMESTAMP: "<i8",
}
TEXT = frozenset({ValueType.STRING, ValueType.JSON, ValueType.UUID, ValueType.TIME_UUID, ValueType.SCALAR_MAP})
BINARY = frozenset({ValueType.BYTES, ValueType.PDF_BYTES, ValueType.IMAGE_BYTES})
# Lists and sets -> the type of their elements.
LISTS = {
    **{ValueType(number + 10): ValueType(number) for number in range(1, 9)},
    **{ValueType(number + 21): ValueType(number) for number in range(1, 9)},
    ValueType.JSON_LIST: ValueType.JSON,
    **dict.fromkeys((ValueType.UUID_LIST, ValueType.UUID_SET), ValueType.UUID),
    **dict.fromkeys((ValueType.TIME_UUID_LIST, ValueType.TIME_UUID_SET), ValueType.TIME_UUID),
}


STATUSES = ["INVALID", "PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]


class OnlineResponse:
    """Features of some entities; row i belongs to row i of the request.

    The join keys of the request come first, then the features in the order asked for. Each method decodes the stored
    bytes anew, straight into its form.
    """

    __slots__ = ("__weakref__", "_batch", "_versions")

    def __init__(self, batch: Batch, include_feature_view_version_metadata: bool = False):
        self._batch = batch
        self._versions = include_feature_view_version_metadata

    def __repr__(self) -> str:
        names = [name for name, _, _ in self._batch.entity_columns] + [slot.name for slot in self._batch.plan.outputs]
        return f"OnlineResponse({self._batch.n_rows} rows: {', '.join(names)})"

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, list[Any]]:
        """Return column -> list of Python values; null, absent and unknown are None.

        Args:
            include_event_timestamps: after each column a column `<name>__ts`, whole seconds since the epoch.

        Raises:
            DecodeError: stored bytes are not a feature value; names the entity key and the feature.
        """
        return _core.python_columns(self._batch, include_event_timestamps)

    @property
    def batch(self) -> Batch:
        """What was read, for those who count it."""
        return self._batch

    def to_json(self) -> bytes:
        """Return the JSON text (UTF-8) that the server answers."""
        return _core.json_response(self._batch, self._versions)

    def to_compact_json(self) -> bytes:
        """Return JSON (UTF-8) that says nothing twice: `feature_names`, `values` (a list for each name), and, of the
        columns that are not PRESENT in all rows, `statuses` by name."""
        return _core.compact_json(self._batch, self._versions)

    def to_protobuf(self) -> bytes:
        """Return the bytes that the server answers a client of ours: `proto`, and the types of the columns."""
        return _core.answer_bytes(self._batch, self._versions)

    @property
    def proto(self) -> GetOnlineFeaturesResponse:
        """The answer as a protobuf message, wire-compatible with `feast.serving.GetOnlineFeaturesResponse`."""
        from fastserve.registry.schema_pb2 import GetOnlineFeaturesResponse

        return GetOnlineFeaturesResponse.FromString(self.to_proto_bytes())

    def to_proto_bytes(self) -> bytes:
        """Return the bytes of `proto`; those of `to_protobuf` say more."""
        return _core.proto_response(self._batch, self._versions)

    @property
    def statuses(self) -> dict[str, list[str]]:
        """Column -> "PRESENT", "NULL_VALUE", "NOT_FOUND" or "OUTSIDE_MAX_AGE" per row."""
        return _core.statuses(self._batch)

    def to_df(self, include_event_timestamps: bool = False) -> pd.DataFrame:
        """Return a pandas DataFrame of `to_dict`."""
        import pandas as pd

        return pd.DataFrame(self.to_dict(include_event_timestamps))

    def to_arrow(self, include_event_timestamps: bool = False) -> pa.Table:
        """Return a pyarrow Table with the types of the schema.

        Numbers, booleans, timestamps (microseconds, UTC), text, bytes, JSON and UUIDs (as text), scalar maps (as JSON
        text), and lists and sets of all these (as lists) are built from the stored bytes without Python objects. For
        maps, structs, nested lists, decimals and zoned timestamps Arrow infers the type from the values.

        Raises:
            DecodeError: stored bytes are not of the type that the schema says.
            TypeError: no Arrow type fits all values of a column whose type has to be inferred; names the column.
        """
        import pyarrow as pa

        table: dict[str, pa.Array] = {}
        zeros: pa.Array = pa.array([0] * self._batch.n_rows, pa.int64())
        keys = _core.key_values(self._batch)
        for name, value_type, _ in self._batch.entity_columns:
            typed = _arrow_type(ValueType(value_type)) if value_type else None
            table[name] = pa.array(keys[name], typed) if typed else _inferred(name, keys[name])
            if include_event_timestamps:
                table[name + "__ts"] = zeros
        for slot in self._batch.plan.outputs:
            table[slot.name] = _arrow_column(self._batch, slot)
            if include_event_timestamps:
                table[slot.name + "__ts"] = pa.array(_event_times(self._batch, slot) // 1_000_000)
        return pa.table(table)

    def to_arrow_stream(self) -> bytes:
        """Return `to_arrow` as an Arrow IPC stream.

        Behind each feature that is not PRESENT in all rows it has a column `<name>__status`, a dictionary of texts. If
        view versions are asked for, the schema's metadata has them as JSON under `feature_view_metadata`.

        Raises:
            DecodeError, TypeError: as `to_arrow`.
        """
        import pyarrow as pa

        table = self.to_arrow()
        for slot in self._batch.plan.outputs:
            numbers, others = _core.status_column(self._batch, slot)
            if others:
                place = table.schema.get_field_index(slot.name) + 1
                table = table.add_column(place, slot.name + "__status", _arrow_statuses(numbers))
        if self._versions:
            versions = [{"name": name, "version": version} for name, version in self._batch.plan.view_versions]
            table = table.replace_schema_metadata({"feature_view_metadata": json.dumps(versions)})
        with pa.BufferOutputStream() as sink:
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            return bytes(sink.getvalue())

    def to_numpy(self, include_event_timestamps: bool = False) -> dict[str, np.ndarray[Any, Any]]:
        """Return column -> one-dimensional array.

        Numbers have the width of the schema; where a column has nulls, floats are NaN there, integers become float64
        with NaN and booleans become objects with None. Timestamps are datetime64[s] with NaT. Other types, and join
        keys that no requested view uses, are objects.

        Raises:
            DecodeError: stored bytes are not of the type that the schema says.
        """
        arrays = {**_key_arrays(self._batch), **_feature_arrays(self._batch)}
        return _with_times(self._batch, arrays) if include_event_timestamps else arrays


def _arrow_statuses(numbers: bytes) -> pa.Array:
    import pyarrow as pa

    indices = pa.Array.from_buffers(pa.int8(), len(numbers), [None, pa.py_buffer(numbers)])
    return pa.DictionaryArray.from_arrays(indices, STATUSES)


def _key_arrays(batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
    import numpy as np

    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, value_type, values in batch.entity_columns:
        if value_type == ValueType.UNIX_TIMESTAMP:
            arrays[name] = np.array(values, "datetime64[s]")
        elif dtype := FIXED.get(value_type):
            arrays[name] = np.array(values, dtype)
        else:
            arrays[name] = _objects(values if value_type else _core.key_values(batch)[name])
    return arrays


def _feature_arrays(batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
    import numpy as np

    arrays: dict[str, Any] = dict.fromkeys(batch.plan.output_names)
    for names, buffer, dtype in _core.numpy_columns(batch):
        # One array of all columns, whose rows are made many times faster than an array each.
        columns = np.frombuffer(buffer, _dtype(dtype)).reshape(len(names), batch.n_rows)
        arrays.update(zip(names, columns, strict=True))
    others = [slot for slot in batch.plan.outputs if arrays[slot.name] is None]
    objects = np.empty((len(others), batch.n_rows), object)
    _core.put_objects(batch, others, objects)
    arrays.update(zip([slot.name for slot in others], objects, strict=True))
    return arrays


def _with_times(batch: Batch, arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays, and behind each the event times of its rows."""
    import numpy as np

    found: dict[str, np.ndarray[Any, Any]] = {}
    for name, _, _ in batch.entity_columns:
        found[name], found[name + "__ts"] = arrays[name], np.zeros(batch.n_rows, "<i8")
    for slot in batch.plan.outputs:
        found[slot.name], found[slot.name + "__ts"] = arrays[slot.name], _event_times(batch, slot) // 1_000_000
    return found


@cache
def _dtype(name: str) -> np.dtype[Any]:
    """The dtype object, which is much cheaper to make an array of than the name."""
    import numpy as np

    return np.dtype(name)


def _event_times(batch: Batch, slot: Slot) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.frombuffer(_core.event_time_column(batch, slot), "<i8")


def _objects(values: list[Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    # np.array would look into lists of equal length, and cut NULs off the end of text.
    array: np.ndarray[Any, Any] = _core.fill_objects(values, np.empty(len(values), object))
    return array


def _arrow_column(batch: Batch, slot: Slot) -> pa.Array:
    value_type = ValueType(slot.value_type)
    if value_type in FIXED:
        return _arrow_fixed(batch, slot, value_type)
    if value_type in TEXT or value_type in BINARY:
        return _arrow_text(batch, slot, value_type)
    if value_type in LISTS:
        return _arrow_list(batch, slot, LISTS[value_type])
    return _arrow_objects(batch, slot)


def _arrow_fixed(batch: Batch, slot: Slot, value_type: ValueType) -> pa.Array:
    import pyarrow as pa

    data, validity, null_count = _core.fixed_column(batch, slot)
    buffers = [_validity(validity, null_count), pa.py_buffer(data)]
    array = pa.Array.from_buffers(_stored_type(value_type), batch.n_rows, buffers, null_count)
    return array.cast(_arrow_type(value_type))


def _arrow_text(batch: Batch, slot: Slot, value_type: ValueType) -> pa.Array:
    import pyarrow as pa

    data, offsets, validity, null_count = _core.text_column(batch, slot)
    buffers = [_validity(validity, null_count), pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(_stored_type(value_type), batch.n_rows, buffers, null_count)


def _arrow_list(batch: Batch, slot: Slot, element: ValueType) -> pa.Array:
    import pyarrow as pa

    (data, ends, item_validity, item_nulls), (offsets, validity, nulls) = _core.list_column(batch, slot)
    inner = [_validity(item_validity, item_nulls), *([pa.py_buffer(ends)] if ends else []), pa.py_buffer(data)]
    n_items = int.from_bytes(offsets[-4:], "little")
    items = pa.Array.from_buffers(_stored_type(element), n_items, inner, item_nulls)
    buffers = [_validity(validity, nulls), pa.py_buffer(offsets)]
    array = pa.Array.from_buffers(pa.list_(items.type), batch.n_rows, buffers, nulls, children=[items])
    return array.cast(pa.list_(_arrow_type(element)))


def _validity(bits: bytes, null_count: int) -> pa.Buffer | None:
    import pyarrow as pa

    return pa.py_buffer(bits) if null_count else None


def _stored_type(value_type: ValueType) -> pa.DataType:
    """The Arrow type that has the layout of the core's buffers."""
    import pyarrow as pa

    if value_type == ValueType.BOOL:
        return pa.uint8()
    return pa.timestamp("s", "UTC") if value_type == ValueType.UNIX_TIMESTAMP else _arrow_type(value_type)


def _arrow_type(value_type: ValueType) -> pa.DataType:
    import pyarrow as pa

    if value_type in TEXT:
        return pa.string()
    if value_type in BINARY:
        return pa.binary()
    return {
        ValueType.INT32: pa.int32(),
        ValueType.INT64: pa.int64(),
        ValueType.DOUBLE: pa.float64(),
        ValueType.FLOAT: pa.float32(),
        ValueType.BOOL: pa.bool_(),
        ValueType.UNIX_TIMESTAMP: pa.timestamp("us", "UTC"),
    }[value_type]


def _arrow_objects(batch: Batch, slot: Slot) -> pa.Array:
    values = [list(value) if isinstance(value, set) else value for value in _core.slot_values(batch, slot)]
    return _inferred(slot.name, values)


def _inferred(name: str, values: list[Any]) -> pa.Array:
    """Let Arrow infer the type."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:  # Infinity, for one, is a bare TypeError
        raise TypeError(f"column {name}: no Arrow type fits all values: {exc}") from exc
