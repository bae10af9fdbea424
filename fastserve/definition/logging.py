"""Where a server of Feast logs the features it served; fastserve keeps it in the registry and logs nothing."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FileLoggingDestination", "LoggingConfig"]


@dataclass(kw_only=True)
class FileLoggingDestination:
    """A folder of Parquet files.

    Args:
        path: the folder, or its URI.
        s3_endpoint_override: the URL of a storage that speaks S3.
        partition_by: columns that make the sub-folders.
    """

    path: str
    s3_endpoint_override: str = ""
    partition_by: list[str] | None = None


@dataclass
class LoggingConfig:
    """What is logged of a service.

    Args:
        destination: where to.
        sample_rate: which part of the requests, 0.0 to 1.0.
    """

    destination: FileLoggingDestination
    sample_rate: float = 1.0
