"""Where `feast.batch_feature_view` has these names; they live in `fastserve.definition`."""

from fastserve.definition import BatchFeatureView, batch_feature_view

__all__ = ["BatchFeatureView", "batch_feature_view"]
