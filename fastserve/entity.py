"""Where `feast.entity` has these names; they live in `fastserve.definition`."""

from fastserve.definition import Entity

__all__ = ["Entity"]
