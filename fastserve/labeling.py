"""Where `feast.labeling` has these names; they live in `fastserve.definition`."""

from fastserve.definition import ConflictPolicy, LabelView

__all__ = ["ConflictPolicy", "LabelView"]
