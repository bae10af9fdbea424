"""Data sources."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fastserve.definition import (
    AvroFormat,
    Field,
    FileSource,
    JsonFormat,
    KafkaSource,
    KinesisSource,
    ParquetFormat,
    PushMode,
    PushSource,
    RequestSource,
)
from fastserve.errors import DefinitionError
from fastserve.types import Int64

TABLE = FileSource(
    name="t", path="t.parquet", timestamp_field="ts", created_timestamp_column="made", field_mapping={"a": "b"}
)
KAFKA: dict[str, Any] = {"name": "k", "timestamp_field": "ts", "message_format": JsonFormat("{}")}
KINESIS: dict[str, Any] = {"name": "k", "region": "r", "stream_name": "s", "record_format": AvroFormat("{}")}


def test_file_source() -> None:
    source = FileSource(path="a.parquet", file_format=ParquetFormat(), s3_endpoint_override="http://x", owner="o")
    assert (source.name, source.path, source.timestamp_field) == ("a.parquet", "a.parquet", "")
    assert (source.file_format, source.s3_endpoint_override, source.owner) == (ParquetFormat(), "http://x", "o")
    assert str(source.file_format) == "parquet"


def test_none_is_as_good_as_nothing() -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("name", "timestamp_field", "created_timestamp_column", "field_mapping", "description", "tags", "owner")
    )
    assert FileSource(path="a", **nothing) == FileSource(path="a")


def test_old_name_of_the_timestamp_field() -> None:
    assert FileSource(path="a", event_timestamp_column="ts").timestamp_field == "ts"
    assert FileSource(path="a", event_timestamp_column="old", timestamp_field="ts").timestamp_field == "ts"


def test_push_source_has_the_columns_of_its_table() -> None:
    push = PushSource(name="p", batch_source=TABLE)
    assert (push.timestamp_field, push.created_timestamp_column) == ("ts", "made")
    assert (push.field_mapping, push.batch_source) == ({"a": "b"}, TABLE)
    assert PushSource(name="p").batch_source is None


def test_request_source() -> None:
    source = RequestSource(name="r", schema=[Field("a", Int64)])
    assert source.schema == [Field("a", Int64)]


def test_kafka_source() -> None:
    source = KafkaSource(
        **KAFKA, bootstrap_servers="old:1", topic="t", batch_source=TABLE, watermark_delay_threshold=timedelta(hours=1)
    )
    assert (source.kafka_bootstrap_servers, source.topic, source.batch_source) == ("old:1", "t", TABLE)
    assert KafkaSource(**KAFKA, kafka_bootstrap_servers="new:1", bootstrap_servers="old:1").topic == ""


def test_kinesis_source() -> None:
    source = KinesisSource(**KINESIS, batch_source=TABLE)
    assert (source.region, source.stream_name, source.record_format) == ("r", "s", AvroFormat("{}"))


@pytest.mark.parametrize(
    ("make", "arguments", "rule"),
    [
        (FileSource, {"path": ""}, "FileSource: path must not be empty"),
        (FileSource, {"path": "a", "timestamp_field": "t", "created_timestamp_column": "t"},
         "FileSource a: timestamp_field and created_timestamp_column are both t"),
        (FileSource, {"path": "a", "timestamp_field": 5}, "FileSource a: timestamp_field must be text, not 5"),
        (FileSource, {"path": "a", "field_mapping": {"a": 1}},
         "FileSource a: field_mapping must be a mapping of texts, but has 'a': 1"),
        (FileSource, {"path": "a", "file_format": "parquet"}, "FileSource a: file_format must be a FileFormat"),
        (FileSource, {"path": "a", "connection_ref": object()}, "FileSource a: connection_ref is not supported"),
        (PushSource, {"name": None}, "PushSource: name must be text, not None"),
        (PushSource, {"name": "p", "batch_source": "t"}, "PushSource p: batch_source must be a data source, not 't'"),
        (PushSource, {"name": "p", "batch_source": PushSource(name="q")},
         "PushSource p: batch_source must be a table or files, not the PushSource q"),
        (RequestSource, {"name": "r", "schema": [Field("a", Int64)] * 2}, "RequestSource r: schema has a twice"),
        (RequestSource, {"name": "r", "schema": {"a": Int64}}, "RequestSource r: schema must be a list of Field"),
        (KafkaSource, KAFKA | {"message_format": "json"}, "KafkaSource k: message_format must be a StreamFormat"),
        (KafkaSource, KAFKA | {"watermark_delay_threshold": 5},
         "KafkaSource k: watermark_delay_threshold must be a timedelta, not 5"),
        (KinesisSource, KINESIS | {"region": None}, "KinesisSource k: region must be text, not None"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(make: Any, arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(DefinitionError, match=f"^{rule}"):
        make(**arguments)


def test_equality_is_by_kind_and_content() -> None:
    assert FileSource(path="a") == FileSource(path="a") != FileSource(path="a", timestamp_field="ts")
    assert PushSource(name="p") != FileSource(name="p", path="a")


def test_push_modes_have_feasts_numbers() -> None:
    assert [(mode.name, mode.value) for mode in PushMode] == [("ONLINE", 1), ("OFFLINE", 2), ("ONLINE_AND_OFFLINE", 3)]
