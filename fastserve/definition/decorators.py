"""Views that are made from the function that computes their rows.

`@on_demand_feature_view`, `@stream_feature_view`, `@batch_feature_view`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from fastserve.definition.entity import Entity
from fastserve.definition.on_demand import OnDemandFeatureView, OnDemandSource
from fastserve.definition.source import DataSource
from fastserve.definition.transformation import Aggregation, TransformationMode
from fastserve.definition.view import BatchFeatureView, StreamFeatureView
from fastserve.model import Field

__all__ = ["batch_feature_view", "on_demand_feature_view", "stream_feature_view"]

_Function = Callable[..., Any]


def stream_feature_view(
    *,
    source: DataSource,
    entities: Sequence[Entity] | None = None,
    ttl: timedelta | None = None,
    tags: Mapping[str, str] | None = None,
    online: bool = True,
    description: str = "",
    owner: str = "",
    org: str = "",
    schema: Sequence[Field] | None = None,
    aggregations: Sequence[Aggregation] | None = None,
    mode: TransformationMode | str = TransformationMode.SPARK,
    timestamp_field: str | None = "",
    enable_validation: bool = False,
    version: str = "latest",
) -> Callable[[_Function], StreamFeatureView]:
    """Return a decorator that makes a `StreamFeatureView` of a function, with the function's name.

    Args:
        all: as in `StreamFeatureView`.
    """

    def make(function: _Function) -> StreamFeatureView:
        return StreamFeatureView(
            name=function.__name__,
            source=source,
            entities=entities,
            ttl=ttl,
            tags=tags,
            online=online,
            description=description,
            owner=owner,
            org=org,
            schema=schema,
            aggregations=aggregations,
            mode=mode,
            timestamp_field=timestamp_field,
            udf=function,
            udf_string=_source_text(function),
            enable_validation=enable_validation,
            version=version,
        )

    return make


def batch_feature_view(
    *,
    name: str | None = None,
    mode: TransformationMode | str = TransformationMode.PYTHON,
    entities: Sequence[Entity] | None = None,
    ttl: timedelta | None = None,
    source: DataSource | None = None,
    tags: Mapping[str, str] | None = None,
    online: bool = True,
    offline: bool = True,
    description: str = "",
    owner: str = "",
    org: str = "",
    schema: Sequence[Field] | None = None,
    enable_validation: bool = False,
    version: str = "latest",
) -> Callable[[_Function], BatchFeatureView]:
    """Return a decorator that makes a `BatchFeatureView` of a function.

    Args:
        name: without it, the function's name.
        others: as in `BatchFeatureView`; here the view is online unless told otherwise.
    """

    def make(function: _Function) -> BatchFeatureView:
        return BatchFeatureView(
            name=name or function.__name__,
            mode=mode,
            source=source,
            entities=entities,
            ttl=ttl,
            tags=tags,
            online=online,
            offline=offline,
            description=description,
            owner=owner,
            org=org,
            schema=schema,
            udf=function,
            udf_string=_source_text(function),
            enable_validation=enable_validation,
            version=version,
        )

    return make


def on_demand_feature_view(
    *,
    name: str | None = None,
    entities: Sequence[Entity] | None = None,
    schema: Sequence[Field],
    sources: Sequence[OnDemandSource] | None = None,
    input_schema: Sequence[Field] | None = None,
    aggregations: Sequence[Aggregation] | None = None,
    mode: TransformationMode | str = "pandas",
    description: str = "",
    tags: Mapping[str, str] | None = None,
    owner: str = "",
    org: str = "",
    write_to_online_store: bool = False,
    singleton: bool = False,
    track_metrics: bool = False,
    explode: bool = False,
    version: str = "latest",
) -> Callable[[_Function], OnDemandFeatureView]:
    """Return a decorator that makes an `OnDemandFeatureView` of a function.

        @on_demand_feature_view(sources=[txn_7d, request], schema=[Field(name="ratio", dtype=Float64)], mode="python")
        def risk(inputs):
            return {"ratio": [a / s if s else None for a, s in zip(inputs["amount"], inputs["amount_sum"])]}

    Args:
        name: without it, the function's name.
        explode: has no effect, as in Feast: a stored view's function may return more rows than it was given anyhow.
        others: as in `OnDemandFeatureView`.
    """

    def make(function: _Function) -> OnDemandFeatureView:
        return OnDemandFeatureView(
            name=name or function.__name__,
            entities=entities,
            schema=schema,
            sources=sources,
            input_schema=input_schema,
            udf=function,
            udf_string=_source_text(function),
            mode=mode,
            description=description,
            tags=tags,
            owner=owner,
            org=org,
            write_to_online_store=write_to_online_store,
            singleton=singleton,
            track_metrics=track_metrics,
            aggregations=aggregations,
            version=version,
        )

    return make


def _source_text(function: _Function) -> str:
    """Return the function's source with its decorators, or "" where there is none, as in an interactive session."""
    import inspect

    try:
        return inspect.getsource(function)
    except OSError:
        return ""
