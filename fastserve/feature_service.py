"""Where `feast.feature_service` has these names; they live in `fastserve.definition`."""

from fastserve.definition import FeatureService

__all__ = ["FeatureService"]
