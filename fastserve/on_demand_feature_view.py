"""Where `feast.on_demand_feature_view` has these names; they live in `fastserve.definition`."""

from fastserve.definition import OnDemandFeatureView, on_demand_feature_view

__all__ = ["OnDemandFeatureView", "on_demand_feature_view"]
