"""Where `feast.feature_view_projection` has these names; they live in `fastserve.definition`."""

from fastserve.definition import FeatureViewProjection

__all__ = ["FeatureViewProjection"]
