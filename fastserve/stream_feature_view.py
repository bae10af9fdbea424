"""Where `feast.stream_feature_view` has these names; they live in `fastserve.definition`."""

from fastserve.definition import StreamFeatureView, stream_feature_view

__all__ = ["StreamFeatureView", "stream_feature_view"]
