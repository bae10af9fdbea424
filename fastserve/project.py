"""Where `feast.project` has these names; they live in `fastserve.definition`."""

from fastserve.definition import Project

__all__ = ["Project"]
