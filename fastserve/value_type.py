"""Where `feast.value_type` has this name; it lives in `fastserve.types`."""

from fastserve.types import ValueType

__all__ = ["ValueType"]
