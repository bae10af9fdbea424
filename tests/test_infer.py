"""What is found out from the columns of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastserve import types
from fastserve.definition import Entity, FeatureView, Field, FileSource, LabelView, PushSource, StreamFeatureView
from fastserve.errors import DefinitionError
from fastserve.infer import infer
from fastserve.repo import RepoContents, collect
from fastserve.types import Array, Int64, String, Struct, ValueType

TIME = pa.timestamp("us", "UTC")


def write(folder: Path, name: str = "d.parquet", **columns: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.schema(list(columns.items())).empty_table(), folder / name)


def source(**arguments: Any) -> FileSource:
    return FileSource(**{"name": "src", "path": "d.parquet", **arguments})


def only_view(folder: Path, view: Any) -> Any:
    found = infer(collect([view]), folder)
    return (found.feature_views + found.stream_feature_views + found.label_views)[0]


@pytest.mark.parametrize(
    ("arrow", "dtype"),
    [
        (pa.int8(), types.Int32),
        (pa.int32(), types.Int32),
        (pa.uint16(), types.Int32),
        (pa.uint32(), types.Int64),
        (pa.int64(), types.Int64),
        (pa.uint64(), types.Int64),
        (pa.float32(), types.Float32),
        (pa.float64(), types.Float64),
        (pa.string(), types.String),
        (pa.large_string(), types.String),
        (pa.dictionary(pa.int32(), pa.string()), types.String),
        (pa.binary(), types.Bytes),
        (pa.large_binary(), types.Bytes),
        (pa.bool_(), types.Bool),
        (pa.timestamp("ns"), types.UnixTimestamp),
        (pa.timestamp("ms", "Europe/Berlin"), types.UnixTimestamp),
        (pa.list_(pa.int64()), Array(types.Int64)),
        (pa.large_list(pa.float32()), Array(types.Float32)),
        (pa.list_(pa.string()), Array(types.String)),
        (pa.list_(pa.float32(), 3), Array(types.Float32)),
        (pa.map_(pa.string(), pa.int64()), types.Map),
        (pa.struct([("a", pa.int64())]), Struct({"a": types.Int64})),
    ],
)
def test_types(tmp_path: Path, arrow: Any, dtype: Any) -> None:
    write(tmp_path, key=pa.int64(), t=TIME, f=arrow)
    view = only_view(tmp_path, FeatureView(name="v", source=source(timestamp_field="t"), schema=None))
    assert view.features[-1] == Field("f", dtype)


@pytest.mark.parametrize("arrow", [pa.duration("s"), pa.time64("us"), pa.list_(pa.list_(pa.int64())), pa.null()])
def test_types_without_a_feature_type(tmp_path: Path, arrow: Any) -> None:
    write(tmp_path, t=TIME, f=arrow)
    with pytest.raises(
        DefinitionError, match=r"^FeatureView v: column f of its source is of type .*; put it into schema"
    ):
        only_view(tmp_path, FeatureView(name="v", source=source(timestamp_field="t")))


def test_names_are_those_after_the_field_mapping(tmp_path: Path) -> None:
    write(tmp_path, k=pa.string(), ts=TIME, made=TIME, a=pa.int64(), __index_level_0__=pa.int64())
    mapped = source(field_mapping={"k": "key", "ts": "event_time", "a": "amount"}, created_timestamp_column="made")
    view = only_view(tmp_path, FeatureView(name="v", entities=[Entity(name="e", join_keys=["key"])], source=mapped))
    assert view.batch_source.timestamp_field == "event_time"
    assert view.entity_columns == [Field("key", String)]
    assert view.features == [Field("amount", Int64)]


def test_the_entity_or_the_schema_tells_the_type_of_the_key(tmp_path: Path) -> None:
    # There is no file.
    times: dict[str, Any] = {"timestamp_field": "t"}
    entity = Entity(name="e", value_type=ValueType.STRING)
    feature = Field(name="f", dtype=Int64)
    view = only_view(tmp_path, FeatureView(name="v", entities=[entity], source=source(**times), schema=[feature]))
    assert view.entity_columns == [Field("e", String)]
    schema = [Field(name="e", dtype=Int64), feature]
    view = only_view(
        tmp_path, FeatureView(name="v", entities=[Entity(name="e")], source=source(**times), schema=schema)
    )
    assert view.entity_columns == [Field("e", Int64)]


def test_views_without_entities_get_the_dummy_key(tmp_path: Path) -> None:
    view = only_view(tmp_path, FeatureView(name="v", schema=[Field(name="f", dtype=Int64)]))
    assert view.entity_columns == [Field("__dummy_id", String)]


def test_views_of_every_kind_and_push_sources(tmp_path: Path) -> None:
    write(tmp_path, e=pa.int64(), t=TIME, f=pa.int64())
    push = PushSource(name="push", batch_source=source())
    for kind in (FeatureView, StreamFeatureView, LabelView):
        found = only_view(tmp_path, kind(name="v", entities=[Entity(name="e")], source=push))
        assert (found.join_keys, [field.name for field in found.features]) == (["e"], ["f"])
        assert found.stream_source.timestamp_field == found.stream_source.batch_source.timestamp_field == "t"
    assert push.timestamp_field == ""


def test_keys_of_label_views_are_text_as_feast_stores_them(tmp_path: Path) -> None:
    write(tmp_path, e=pa.int64(), g=pa.int64(), t=TIME, f=pa.int64())
    entities = [Entity(name="e"), Entity(name="g", value_type=ValueType.INT32)]
    schema = [Field(name="f", dtype=Int64)]
    view = only_view(tmp_path, LabelView(name="v", entities=entities, schema=schema, source=source()))
    assert {column.name: column.dtype for column in view.entity_columns} == {"e": String, "g": types.Int32}


def test_a_folder_of_files(tmp_path: Path) -> None:
    write(tmp_path, "parts/day=1/x.parquet", e=pa.int64(), t=TIME)
    view = only_view(tmp_path, FeatureView(name="v", source=source(path="parts", timestamp_field="t")))
    assert [field.name for field in view.features] == ["e", "day"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": pa.int64()}, "none of them"),
        ({"a": TIME, "b": TIME}, "2 of them: a, b"),
        (None, r"no such file or folder"),
    ],
)
def test_no_time_column(tmp_path: Path, columns: Any, said: str) -> None:
    if columns is not None:
        write(tmp_path, **columns)
    with pytest.raises(DefinitionError, match=rf"^FileSource src: has no timestamp_field.*{said}"):
        infer(collect([source()]), tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "d.parquet").write_bytes(b"nonsense")
    with pytest.raises(DefinitionError, match=r"source src \(d\.parquet\): cannot be read: "):
        infer(collect([source()]), tmp_path)


def test_nothing_to_do(tmp_path: Path) -> None:
    assert infer(RepoContents(), tmp_path) == RepoContents()
