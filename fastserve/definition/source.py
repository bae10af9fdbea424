"""Data sources: where the rows of views come from."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import timedelta

from fastserve.definition.check import Arguments, Definition
from fastserve.definition.formats import FileFormat, StreamFormat
from fastserve.model import Field

__all__ = [
    "DataSource",
    "FileSource",
    "KafkaSource",
    "KinesisSource",
    "PushMode",
    "PushSource",
    "RequestSource",
]


class PushMode(enum.Enum):
    """Where pushed rows go; fastserve writes ONLINE."""

    ONLINE = 1
    OFFLINE = 2
    ONLINE_AND_OFFLINE = 3


class DataSource(Definition):
    """Base of all sources; use one of its subclasses.

    Args:
        name: unique in the project.
        timestamp_field: the column of the event time, as it is named after `field_mapping`.
        created_timestamp_column: which of two rows with the same event time is the later one; named likewise.
        field_mapping: column of the source -> name of the feature, join key or time stamp.
        date_partition_column: kept for other readers.

    Raises:
        DefinitionError: an argument is of the wrong type, or one column is both event time and created time.
    """

    batch_source: DataSource | None = None

    def __init__(
        self,
        *,
        name: str,
        timestamp_field: str | None = None,
        created_timestamp_column: str | None = None,
        field_mapping: Mapping[str, str] | None = None,
        description: str | None = "",
        tags: Mapping[str, str] | None = None,
        owner: str | None = "",
        date_partition_column: str | None = None,
    ):
        check = Arguments(type(self).__name__, name)
        self.name = name
        self.timestamp_field = check.text_or_none("timestamp_field", timestamp_field)
        self.created_timestamp_column = check.text_or_none("created_timestamp_column", created_timestamp_column)
        if self.timestamp_field and self.timestamp_field == self.created_timestamp_column:
            raise check.error(f"timestamp_field and created_timestamp_column are both {self.timestamp_field}")
        self.field_mapping = check.texts("field_mapping", field_mapping)
        self.description = check.text_or_none("description", description)
        self.tags = check.texts("tags", tags)
        self.owner = check.text_or_none("owner", owner)
        self.date_partition_column = check.text_or_none("date_partition_column", date_partition_column)


def _no_other_stream(check: Arguments, batch_source: object) -> DataSource | None:
    if batch_source is None:
        return None
    source = check.one("batch_source", batch_source, DataSource, "a data source")
    if isinstance(source, (PushSource, KafkaSource, KinesisSource, RequestSource)):
        raise check.error(f"batch_source must be a table or files, not the {type(source).__name__} {source.name}")
    return source


class FileSource(DataSource):
    """Parquet: a file, or a folder of files, also partitioned.

        FileSource(name="txn_src", path="data/txn.parquet", timestamp_field="event_timestamp")

    Args:
        path: relative to the repository, absolute, or a URI such as `s3://bucket/folder`.
        name: unique in the project; without it, the path.
        timestamp_field: without it, the file's only column with a timestamp type.
        event_timestamp_column: an old name of `timestamp_field`.
        file_format: without it, Parquet.
        s3_endpoint_override: the URL of a storage that speaks S3.
        connection_ref: not supported.
        created_timestamp_column, field_mapping: as in `DataSource`.

    Raises:
        DefinitionError: there is no path, or as in `DataSource`.
    """

    def __init__(
        self,
        *,
        path: str,
        name: str | None = "",
        event_timestamp_column: str | None = "",
        file_format: FileFormat | None = None,
        created_timestamp_column: str | None = "",
        field_mapping: Mapping[str, str] | None = None,
        s3_endpoint_override: str | None = None,
        description: str | None = "",
        tags: Mapping[str, str] | None = None,
        owner: str | None = "",
        timestamp_field: str | None = "",
        connection_ref: None = None,
    ):
        super().__init__(
            name=name or path,
            timestamp_field=timestamp_field or event_timestamp_column,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping,
            description=description,
            tags=tags,
            owner=owner,
        )
        check = Arguments("FileSource", self.name)
        self.path = check.text("path", path)
        if not path:
            raise check.error("path must not be empty")
        if connection_ref is not None:
            raise check.error("connection_ref is not supported: give the filesystem its credentials by its own means")
        self.file_format: FileFormat | None = file_format and check.one(
            "file_format", file_format, FileFormat, "a FileFormat"
        )
        self.s3_endpoint_override = check.text_or_none("s3_endpoint_override", s3_endpoint_override)


class PushSource(DataSource):
    """Rows that an application writes itself, with `FeatureStore.push` or `POST /push`.

        PushSource(name="txn_push", batch_source=txn_src)

    Args:
        name: unique in the project; what `push` is called with.
        batch_source: the table behind it, for materialising; a view needs it.

    Raises:
        DefinitionError: an argument is of the wrong type, or `batch_source` is itself a stream.
    """

    def __init__(
        self,
        *,
        name: str,
        batch_source: DataSource | None = None,
        description: str | None = "",
        tags: Mapping[str, str] | None = None,
        owner: str | None = "",
    ):
        check = Arguments("PushSource", name)
        self.batch_source = _no_other_stream(check, batch_source)
        behind = self.batch_source
        super().__init__(
            name=name,
            timestamp_field=behind.timestamp_field if behind is not None else "",
            created_timestamp_column=behind.created_timestamp_column if behind is not None else "",
            field_mapping=behind.field_mapping if behind is not None else {},
            description=description,
            tags=tags,
            owner=owner,
        )


class RequestSource(DataSource):
    """Values that a request must carry, for on-demand views.

        RequestSource(name="txn_req", schema=[Field(name="amount", dtype=Float64)])

    Args:
        schema: what the request must carry.

    Raises:
        DefinitionError: an argument is of the wrong type, or the schema has a name twice.
    """

    def __init__(
        self,
        *,
        name: str,
        schema: Sequence[Field],
        timestamp_field: str | None = None,
        description: str | None = "",
        tags: Mapping[str, str] | None = None,
        owner: str | None = "",
    ):
        super().__init__(name=name, timestamp_field=timestamp_field, description=description, tags=tags, owner=owner)
        check = Arguments("RequestSource", name)
        self.schema = check.several("schema", schema, Field, "Field objects")
        check.distinct("schema", (field.name for field in self.schema))


class KafkaSource(DataSource):
    """A Kafka topic: kept in the registry for the job that reads it; fastserve does not.

    Args:
        timestamp_field: the event time in a message.
        message_format: how messages are written.
        kafka_bootstrap_servers: `host:port`, separated by commas; `bootstrap_servers` is its old name.
        batch_source: the table behind it, for materialising; a view needs it.
        watermark_delay_threshold: how late messages may be.

    Raises:
        DefinitionError: as in `DataSource`.
    """

    def __init__(
        self,
        *,
        name: str,
        timestamp_field: str,
        message_format: StreamFormat,
        bootstrap_servers: str | None = None,
        kafka_bootstrap_servers: str | None = None,
        topic: str | None = None,
        created_timestamp_column: str | None = "",
        field_mapping: Mapping[str, str] | None = None,
        description: str | None = "",
        tags: Mapping[str, str] | None = None,
        owner: str | None = "",
        batch_source: DataSource | None = None,
        watermark_delay_threshold: timedelta | None = None,
    ):
        super().__init__(
            name=name,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping,
            description=description,
            tags=tags,
            owner=owner,
        )
        check = Arguments("KafkaSource", name)
        servers = kafka_bootstrap_servers or bootstrap_servers
        self.kafka_bootstrap_servers = check.text_or_none("kafka_bootstrap_servers", servers)
        self.topic = check.text_or_none("topic", topic)
        self.message_format = check.one("message_format", message_format, StreamFormat, "a StreamFormat")
        self.watermark_delay_threshold = check.duration("watermark_delay_threshold", watermark_delay_threshold)
        self.batch_source = _no_other_stream(check, batch_source)


class KinesisSource(DataSource):
    """A Kinesis stream: kept in the registry for the job that reads it; fastserve does not.

    Args:
        record_format: how records are written.
        region, stream_name: where the stream is.
        batch_source: the table behind it, for materialising; a view needs it.

    Raises:
        DefinitionError: as in `DataSource`.
    """

    def __init__(
        self,
        *,
        name: str,
        record_format: StreamFormat,
        region: str,
        stream_name: str,
        timestamp_field: str | None = "",
        created_timestamp_column: str | None = "",
        field_mapping: Mapping[str, str] | None = None,
        description: str | None = "",
        tags: Mapping[str, str] | None = None,
        owner: str | None = "",
        batch_source: DataSource | None = None,
    ):
        super().__init__(
            name=name,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping,
            description=description,
            tags=tags,
            owner=owner,
        )
        check = Arguments("KinesisSource", name)
        self.region = check.text("region", region)
        self.stream_name = check.text("stream_name", stream_name)
        self.record_format = check.one("record_format", record_format, StreamFormat, "a StreamFormat")
        self.batch_source = _no_other_stream(check, batch_source)
