"""Where `feast.feature_logging` has these names; they live in `fastserve.definition`."""

from fastserve.definition import LoggingConfig

__all__ = ["LoggingConfig"]
