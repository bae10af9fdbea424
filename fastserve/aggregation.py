"""Where `feast.aggregation` has these names; they live in `fastserve.definition`."""

from fastserve.definition import Aggregation

__all__ = ["Aggregation"]
