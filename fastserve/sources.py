"""Rows of any form -> RecordBatches in the order and the types that `_core.encode_rows` takes.

A row has a view's join keys (in the order of the entity key), its features, its event time and, if the source declares
one, the time when it was created. Where the rows come from may call the columns otherwise (`field_mapping`) and have
more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastserve.arrow import NULL_SECONDS, cast_column, cast_key, cast_time, first_row
from fastserve.errors import EntityError, RequestError, WriteError
from fastserve.model import DUMMY_ENTITY, FeatureView, Field
from fastserve.types import ValueType

__all__ = ["RowFormat", "cast_batch", "check_batch", "columns_of", "is_void", "join_keys_of", "row_format", "to_batch"]

KEY_TYPES = (ValueType.STRING, ValueType.BYTES, ValueType.INT32, ValueType.INT64, ValueType.UNIX_TIMESTAMP)


@dataclass(frozen=True)
class RowFormat:
    """What the rows of a view consist of.

    Args:
        view: what errors call it.
        join_keys, features: (name, ValueType); a view without entities has no join keys.
        event_time: the column of the event time.
        created: the column of the time of creation, or "" when the source declares none.
        field_mapping: column of the rows -> column of the view.
        vector_lengths: feature -> length that its lists must have.
    """

    view: str
    join_keys: tuple[tuple[str, ValueType], ...]
    features: tuple[tuple[str, ValueType], ...]
    event_time: str
    created: str
    field_mapping: Mapping[str, str]
    vector_lengths: Mapping[str, int]

    @property
    def required(self) -> list[str]:
        """The columns that rows must have, by their names in the view."""
        keys = [name for name, _ in self.join_keys]
        return [*keys, *(name for name, _ in self.features), self.event_time, *filter(None, [self.created])]


def row_format(view: FeatureView) -> RowFormat:
    """Return what rows of a view consist of.

    Raises:
        RequestError: the view has no batch source, which tells the column of the event time.
        EntityError: a join key's type cannot be a key.
    """
    source = view.batch_source
    if source is None or not source.timestamp_field:
        raise RequestError(
            f"feature view {view.name} has no batch source with a timestamp_field, so its rows have no event time; "
            "give it a source that has one"
        )
    return RowFormat(
        view=view.name,
        join_keys=join_keys_of(view),
        features=tuple((feature.name, feature.value_type) for feature in _stored_columns(view)),
        event_time=source.timestamp_field,
        created=source.created_timestamp_column,
        field_mapping=dict(source.field_mapping),
        vector_lengths={feature.name: feature.vector_length for feature in view.features if feature.vector_length},
    )


def _stored_columns(view: FeatureView) -> tuple[Field, ...]:
    # To Feast the join keys of a stream view are features of it too.
    keys = view.entity_columns if view.kind == "stream_feature_view" and view.entities != (DUMMY_ENTITY,) else ()
    return (*keys, *view.features)


def join_keys_of(view: FeatureView) -> tuple[tuple[str, ValueType], ...]:
    """Return the join keys in the order of entity keys; none of a view without entities. Raises EntityError."""
    if view.entities == (DUMMY_ENTITY,):
        return ()
    for column in view.entity_columns:
        if column.value_type not in KEY_TYPES:
            reason = f"value type not supported for entity keys: {column.value_type.name} of feature view {view.name}"
            raise EntityError(reason, join_key=column.name)
    return tuple(sorted(map(_name_and_type, view.entity_columns)))


def _name_and_type(field: Field) -> tuple[str, ValueType]:
    return field.name, field.value_type


# --- any frame -> columns --------------------------------------------------------------------------------------------


def columns_of(rows: Any) -> dict[str, Any]:
    """Return the columns of rows in any form, by name.

    Args:
        rows: a pandas or polars DataFrame, a pyarrow Table, RecordBatch or RecordBatchReader, anything else with
            Arrow's PyCapsule interface, a mapping from column to list or array, or a list of mappings, one for each
            row.
    Raises:
        RequestError: the rows are of no such form, or the columns are not of the same length.
    """
    if hasattr(rows, "iloc") and hasattr(rows, "columns"):  # pandas: its objects need not fit into Arrow
        return _of_frame(rows)
    for method, read in _ARROW_FORMS:
        if hasattr(rows, method):
            table = read(rows)
            return _unique(table.schema.names, table.columns)
    if isinstance(rows, Mapping):
        return _of_mapping(rows)
    if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
        names = dict.fromkeys(name for row in rows for name in row)
        return {str(name): [row.get(name) for row in rows] for name in names}
    raise RequestError(
        f"rows expected as a DataFrame, an Arrow table, a dict of columns or a list of dicts, got {type(rows).__name__}"
    )


def _of_frame(frame: Any) -> dict[str, Any]:
    names, columns = zip(*frame.items(), strict=True) if len(frame.columns) else ((), ())
    return _unique([str(name) for name in names], columns)


def _unique(names: list[str], columns: Iterable[Any]) -> dict[str, Any]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(f"the rows have several columns named {', '.join(twice)}")
    return dict(zip(names, columns, strict=True))


def _of_mapping(columns: Mapping[Any, Any]) -> dict[str, Any]:
    for name, column in columns.items():
        if isinstance(column, (str, bytes, Mapping)) or not hasattr(column, "__len__"):
            raise RequestError(f"column {name!r}: a list or array expected, got {type(column).__name__}")
    lengths = {str(name): len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise RequestError(f"All columns must be of the same length; got {listing}")
    return {str(name): column for name, column in columns.items()}


def _from_stream(rows: Any) -> Any:
    import pyarrow as pa

    return pa.RecordBatchReader.from_stream(rows).read_all() if not isinstance(rows, pa.Table) else rows


def _from_array(rows: Any) -> Any:
    import pyarrow as pa

    return rows if isinstance(rows, pa.RecordBatch) else pa.record_batch(rows)


_ARROW_FORMS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("__arrow_c_stream__", _from_stream),
    ("__arrow_c_array__", _from_array),
    ("to_arrow", lambda rows: rows.to_arrow()),  # old polars
)


# --- columns -> RecordBatch ------------------------------------------------------------------------------------------


def to_batch(rows: Any, form: RowFormat) -> Any:
    """Return rows as one pyarrow RecordBatch: join keys, features, event time and, if declared, time of creation.

    Args:
        rows: what `columns_of` takes; or its result.
    Raises:
        WriteError: a column is missing, a value is not of its type, or a join key or event time is null; the text names
            the view, the column and the 0-based row.
        RequestError: as `columns_of`.
    """
    columns = columns_of(rows)
    batch = cast_batch(columns, form, len(next(iter(columns.values()), ())))
    check_batch(batch, form)
    return batch


def cast_batch(columns: Mapping[str, Any], form: RowFormat, n_rows: int) -> Any:
    """Do what `to_batch` does, but for the look at nulls."""
    import pyarrow as pa

    renamed = {form.field_mapping.get(name, name): column for name, column in columns.items()}
    missing = [name for name in form.required if name not in renamed]
    if missing:
        raise WriteError(form.view, f"missing columns: {', '.join(missing)}; the rows have: {', '.join(columns)}")
    try:
        arrays = _arrays(renamed, form, n_rows)
    except (TypeError, ValueError) as exc:
        raise WriteError(form.view, str(exc)) from exc
    return pa.RecordBatch.from_arrays(arrays, names=_names(form))


def _names(form: RowFormat) -> list[str]:
    # The core goes by position; a join key may well be called like the event time.
    keys = [name for name, _ in form.join_keys]
    return [*keys, *(name for name, _ in form.features), form.event_time, *filter(None, [form.created])]


def _arrays(columns: Mapping[str, Any], form: RowFormat, n_rows: int) -> list[Any]:

    found = [cast_key(columns[name], value_type, f"join key {name!r}") for name, value_type in form.join_keys]
    found += [cast_column(columns[name], value_type, f"column {name!r}") for name, value_type in form.features]
    times = [cast_time(columns[name], f"column {name!r}") for name in (form.event_time, form.created) if name]
    return found + times


def check_batch(batch: Any, form: RowFormat) -> None:
    """Refuse null join keys and event times, and vectors of another length than declared. Raises WriteError."""
    for index, (name, value_type) in enumerate(form.join_keys):
        _refuse_null(batch.column(index), form, f"join key {name!r}", value_type == ValueType.UNIX_TIMESTAMP)
    times = len(form.join_keys) + len(form.features)
    _refuse_null(batch.column(times), form, f"event time {form.event_time!r}")
    for name, length in form.vector_lengths.items():
        _check_vectors(batch.column(_names(form).index(name, len(form.join_keys))), form, name, length)


def _refuse_null(column: Any, form: RowFormat, what: str, is_seconds: bool = False) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        raise WriteError(form.view, f"{what}, row {first_row(column.is_null())}: it must not be null")
    if is_seconds:
        row = first_row(pc.equal(column, pa.scalar(NULL_SECONDS, pa.int64())))
        if row is not None:
            raise WriteError(form.view, f"{what}, row {row}: it must not be null")


def _check_vectors(column: Any, form: RowFormat, name: str, length: int) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return
    lengths = pc.list_value_length(column)
    row = first_row(pc.not_equal(lengths, length).fill_null(False))
    if row is not None:
        reason = f"column {name!r}, row {row}: a vector of length {length} expected, got one of {lengths[row].as_py()}"
        raise WriteError(form.view, reason)


def is_void(batch: Any, form: RowFormat) -> bool:
    """Whether there are no rows, or nothing but nulls in the features: as with Feast, nothing is written then."""
    start = len(form.join_keys)
    columns = (batch.column(start + i) for i in range(len(form.features)))
    return batch.num_rows == 0 or (bool(form.features) and all(_is_null(column) for column in columns))


def _is_null(column: Any) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count == len(column):
        return True
    if pa.types.is_binary(column.type):
        return not pc.max(pc.binary_length(column)).as_py()
    return bool(column.type == pa.int64() and pc.max(column).as_py() == NULL_SECONDS)
