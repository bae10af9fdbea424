"""How files, and messages of streams, are written. fastserve reads Parquet; the others are kept for other readers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "AvroFormat",
    "DeltaFormat",
    "FileFormat",
    "JsonFormat",
    "ParquetFormat",
    "ProtoFormat",
    "StreamFormat",
]


class FileFormat:
    """Base of the formats of files."""


@dataclass(frozen=True)
class ParquetFormat(FileFormat):
    """Parquet: what is assumed when a source has no format."""

    def __str__(self) -> str:
        return "parquet"


@dataclass(frozen=True)
class DeltaFormat(FileFormat):
    """Delta Lake; kept in the registry, not read by fastserve."""

    def __str__(self) -> str:
        return "delta"


class StreamFormat:
    """Base of the formats of stream messages."""


@dataclass(frozen=True)
class AvroFormat(StreamFormat):
    """Avro messages with the schema in JSON."""

    schema_json: str


@dataclass(frozen=True)
class JsonFormat(StreamFormat):
    """JSON messages with the schema as the stream's engine wants it."""

    schema_json: str


@dataclass(frozen=True)
class ProtoFormat(StreamFormat):
    """Protobuf messages, decoded by a Java class."""

    class_path: str
