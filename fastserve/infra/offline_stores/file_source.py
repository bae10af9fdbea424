"""Where `feast.infra.offline_stores.file_source` has these names; they live in `fastserve.definition`."""

from fastserve.definition import FileLoggingDestination, FileSource

__all__ = ["FileLoggingDestination", "FileSource"]
