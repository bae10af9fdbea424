"""Where `feast.data_format` has these names; they live in `fastserve.definition`."""

from fastserve.definition import (
    AvroFormat,
    DeltaFormat,
    FileFormat,
    JsonFormat,
    ParquetFormat,
    ProtoFormat,
    StreamFormat,
)

__all__ = ["AvroFormat", "DeltaFormat", "FileFormat", "JsonFormat", "ParquetFormat", "ProtoFormat", "StreamFormat"]
