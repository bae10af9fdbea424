"""Where `feast.field` has these names; they live in `fastserve.definition`."""

from fastserve.definition import Field

__all__ = ["Field"]
