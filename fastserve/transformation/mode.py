"""Where `feast.transformation.mode` has these names; they live in `fastserve.definition`."""

from fastserve.definition import TransformationMode

__all__ = ["TransformationMode"]
