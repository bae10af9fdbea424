"""Where `feast.feature_view` has these names; they live in `fastserve.definition`."""

from fastserve.definition import FeatureView, FeatureViewState

__all__ = ["FeatureView", "FeatureViewState"]
