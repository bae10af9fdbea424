"""What a repository leaves to be found out: time columns, join keys' types and features, from the columns of its files.

    contents = infer(contents, repo_path)

Files are only opened where something is missing, and only their footers are read.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fastserve import types
from fastserve.definition import DataSource, FeatureService, FileSource, LabelView, OnDemandFeatureView, View
from fastserve.errors import DefinitionError, SourceError
from fastserve.model import DUMMY_ENTITY, DUMMY_JOIN_KEY, Field
from fastserve.parquet import read_schema
from fastserve.registry import convert, messages
from fastserve.repo import RepoContents
from fastserve.types import FeastType, ValueType

__all__ = ["check_sources", "infer"]

T = TypeVar("T")
V = TypeVar("V", bound=View)


class _Files:
    """The columns of file sources; each place is looked at once."""

    def __init__(self, repo_path: Path):
        self._repo_path = repo_path
        self._known: dict[tuple[str, str], Any] = {}

    def schema(self, source: DataSource) -> Any:
        """Return the pyarrow Schema; SourceError if the source cannot be read."""
        if not isinstance(source, FileSource):
            raise SourceError(f"source {source.name}: the columns of a {type(source).__name__} are not known")
        place = source.path, source.s3_endpoint_override
        if place not in self._known:
            self._known[place] = self._read(source)
        return self._known[place]

    def _read(self, source: FileSource) -> Any:
        label = f"source {source.name} ({source.path})"
        try:
            return read_schema(convert.data_source(messages.data_source(source)), self._repo_path)
        except FileNotFoundError as exc:
            raise SourceError(f"{label}: no such file or folder") from exc
        except (OSError, ValueError) as exc:  # pyarrow's errors are of these kinds
            raise SourceError(f"{label}: cannot be read: {' '.join(str(exc).split())}") from exc

    def columns(self, source: DataSource) -> dict[str, Any]:
        """Return name -> pyarrow type, names as the `field_mapping` has them."""
        schema = self.schema(source)
        return {source.field_mapping.get(name, name): schema.field(name).type for name in schema.names}


def check_sources(contents: RepoContents, repo_path: Path) -> None:
    """Raise SourceError if a file source is not there, cannot be read, or lacks the columns of its time stamps."""
    files = _Files(repo_path)
    for source in contents.data_sources:
        if isinstance(source, FileSource) and _is_parquet(source):
            columns = files.columns(source)
            wanted = filter(None, (source.timestamp_field, source.created_timestamp_column))
            if missing := [name for name in wanted if name not in columns]:
                has = ", ".join(columns)
                raise SourceError(
                    f"source {source.name} ({source.path}): no column {', '.join(missing)}; it has: {has}"
                )


def _is_parquet(source: FileSource) -> bool:
    return convert.data_source(messages.data_source(source)).file_format == "parquet"


def infer(contents: RepoContents, repo_path: Path) -> RepoContents:
    """Return the contents with copies of all definitions that something was missing from; the given ones stay.

    Raises:
        DefinitionError: something is missing and the source does not tell it; the text says why.
    """
    files = _Files(repo_path)
    sources: dict[int, DataSource] = {}
    for source in contents.data_sources:
        _complete_source(source, files, sources)
    feature_views = [_complete_view(view, files, sources) for view in contents.feature_views]
    stream_views = [_complete_view(view, files, sources) for view in contents.stream_feature_views]
    label_views = [_complete_view(view, files, sources) for view in contents.label_views]
    views: dict[str, View] = {view.name: view for view in (*label_views, *stream_views, *feature_views)}
    on_demand_views = [_complete_on_demand(view, views, files) for view in contents.on_demand_feature_views]
    views |= {view.name: view for view in on_demand_views}
    return RepoContents(
        projects=contents.projects,
        data_sources=[sources[id(source)] for source in contents.data_sources],
        entities=contents.entities,
        feature_views=feature_views,
        stream_feature_views=stream_views,
        on_demand_feature_views=on_demand_views,
        label_views=label_views,
        feature_services=[_complete_service(service, views) for service in contents.feature_services],
    )


def _complete_service(service: FeatureService, views: Mapping[str, View]) -> FeatureService:
    completed = copy.copy(service)
    completed.infer_features(views)
    return completed


# --- sources ---------------------------------------------------------------------------------------------------------


def _complete_source(source: DataSource, files: _Files, done: dict[int, DataSource]) -> DataSource:
    """Return the source, or a copy that has a time column; what is behind a push source likewise."""
    if id(source) in done:
        return done[id(source)]
    completed = copy.copy(source)
    if source.batch_source is not None:
        completed.batch_source = _complete_source(source.batch_source, files, done)
        completed.timestamp_field = source.timestamp_field or completed.batch_source.timestamp_field
    elif isinstance(source, FileSource) and not source.timestamp_field:
        completed.timestamp_field = _time_column(source, files)
    done[id(source)] = completed
    return completed


def _time_column(source: FileSource, files: _Files) -> str:
    import pyarrow as pa

    columns = _or_error(source, "has no timestamp_field", lambda: files.columns(source))
    found = [n for n, t in columns.items() if pa.types.is_timestamp(t) and n != source.created_timestamp_column]
    if len(found) != 1:
        listing = f"{len(found)} of them: {', '.join(found)}" if found else "none of them"
        raise _wrong(
            source,
            f"has no timestamp_field, and among its columns with time stamps there is not just one, but {listing}",
        )
    return found[0]


def _or_error(item: Any, lack: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except SourceError as exc:
        raise _wrong(item, f"{lack}, and its source does not tell: {exc}") from exc


def _wrong(item: Any, rule: str) -> DefinitionError:
    return DefinitionError(type(item).__name__, item.name, rule)


# --- views -----------------------------------------------------------------------------------------------------------


def _complete_view(view: V, files: _Files, sources: Mapping[int, DataSource]) -> V:
    """Return a copy with join keys and features."""
    completed = copy.copy(view)
    for name in ("batch_source", "stream_source"):
        source = getattr(view, name)
        setattr(completed, name, sources.get(id(source), source))
    completed.entity_columns = [*view.entity_columns, *_missing_keys(completed, files)]
    completed.features = view.features or list(_features(completed, files))
    return completed


def _complete_on_demand(view: OnDemandFeatureView, views: Mapping[str, View], files: _Files) -> OnDemandFeatureView:
    """Return a copy with join keys, and with the features of its sources."""
    completed = view.complete(views)
    sources = [views[name] for name in view.source_feature_view_projections if name in views]
    known = {column.name: column for source in sources for column in source.entity_columns}
    missing = {key: known[key] for key in (e.join_key for e in view.entity_objects) if key in known}
    completed.entity_columns = [*view.entity_columns, *(missing[k] for k in missing if k not in view.join_keys)]
    if all(entity.join_key in known or entity.value_type is not ValueType.UNKNOWN for entity in view.entity_objects):
        completed.entity_columns += _missing_keys(completed, files)
    return completed


def _missing_keys(view: View, files: _Files) -> Iterator[Field]:
    known = set(view.join_keys)
    if view.entities == [DUMMY_ENTITY] and DUMMY_JOIN_KEY not in known:
        yield Field(DUMMY_JOIN_KEY, types.String)
    for entity in view.entity_objects:
        if entity.join_key not in known:
            dtype = types.from_value_type(entity.value_type) if entity.value_type is not ValueType.UNKNOWN else None
            yield Field(entity.join_key, dtype or _key_type(view, entity.join_key, files))


def _key_type(view: View, join_key: str, files: _Files) -> FeastType:
    if isinstance(view, LabelView):
        return types.String  # Feast looks at no file for these; another type would hide the labels that it has stored
    lack = f"neither its schema nor the entity tells the type of the join key {join_key}"
    columns = _or_error(view, lack, lambda: files.columns(_batch_source(view)))
    if join_key not in columns:
        raise _wrong(view, f"{lack}, and its source has no such column; it has: {', '.join(columns)}")
    return _type_of(view, join_key, columns[join_key])


def _features(view: View, files: _Files) -> Iterator[Field]:
    """Yield a field for each column that is neither a join key nor a time stamp."""
    source = view.batch_source
    if source is None and not view.entity_columns:
        return
    columns = _or_error(view, "has no features in its schema", lambda: files.columns(_batch_source(view)))
    times = {source.timestamp_field, source.created_timestamp_column, source.date_partition_column} if source else set()
    taken = {*times, *view.join_keys}
    for name, dtype in columns.items():
        # Names such as __index_level_0__ are not columns of anybody's own.
        if name not in taken and not name.startswith("__"):
            yield Field(name, _type_of(view, name, dtype))


def _batch_source(view: View) -> DataSource:
    if view.batch_source is None:
        raise SourceError(f"{view.name} has none")
    return view.batch_source


# --- types -----------------------------------------------------------------------------------------------------------


def _type_of(view: View, column: str, dtype: Any) -> FeastType:
    found = _scalar(dtype) or _collection(dtype)
    if found is None:
        rule = (
            f"column {column} of its source is of type {dtype}, for which there is no feature type; put it into schema"
        )
        raise _wrong(view, rule)
    return found


def _scalar(dtype: Any) -> FeastType | None:
    import pyarrow.types as pt

    if pt.is_integer(dtype):
        return types.Int64 if dtype.bit_width == 64 or str(dtype) == "uint32" else types.Int32
    if pt.is_floating(dtype):
        return types.Float64 if dtype.bit_width == 64 else types.Float32
    if pt.is_dictionary(dtype):
        return _scalar(dtype.value_type)
    tests = (
        (pt.is_string, types.String),
        (pt.is_large_string, types.String),
        (pt.is_binary, types.Bytes),
        (pt.is_large_binary, types.Bytes),
        (pt.is_boolean, types.Bool),
        (pt.is_timestamp, types.UnixTimestamp),
        (pt.is_map, types.Map),
        (pt.is_decimal, types.Decimal),
    )
    return next((found for is_kind, found in tests if is_kind(dtype)), None)


def _collection(dtype: Any) -> FeastType | None:
    import pyarrow.types as pt

    if pt.is_list(dtype) or pt.is_large_list(dtype) or pt.is_fixed_size_list(dtype):
        inner = _scalar(dtype.value_type)
        return types.Array(inner) if inner is not None else None
    if pt.is_struct(dtype) and dtype.num_fields:
        fields = {dtype.field(i).name: _scalar(dtype.field(i).type) for i in range(dtype.num_fields)}
        known = {name: found for name, found in fields.items() if found is not None}
        return types.Struct(known) if len(known) == len(fields) else None
    return None
