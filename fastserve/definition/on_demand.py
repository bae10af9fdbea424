"""On-demand feature views: features that are computed when they are read, or when rows are written."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from fastserve.definition.check import Arguments
from fastserve.definition.entity import Entity
from fastserve.definition.projection import FeatureViewProjection
from fastserve.definition.source import RequestSource
from fastserve.definition.transformation import Aggregation, TransformationMode, mode_text
from fastserve.definition.view import View
from fastserve.model import FeatureViewState, Field

__all__ = ["INPUT_SCHEMA", "OnDemandFeatureView", "OnDemandSource"]

OnDemandSource: TypeAlias = "View | FeatureViewProjection | RequestSource"

INPUT_SCHEMA = "__input_schema__"
"""What the name of the request source that an `input_schema` makes begins with."""

_MODES = ("pandas", "python")


class OnDemandFeatureView(View):
    """Features that a function computes from the features of other views and from request data.

        OnDemandFeatureView(
            name="risk", sources=[txn_7d, request], schema=[Field(name="ratio", dtype=Float64)], udf=risk, mode="python"
        )

    Mostly written with the decorator `on_demand_feature_view`. `risk[["ratio"]]` and `risk.with_name("r")` are copies
    for a `FeatureService`.

    Args:
        name: unique in the project, whatever the case; without `@` and `:`.
        entities: what a stored view's rows are keyed by.
        schema: what the function returns; of a stored view also its join keys.
        sources: feature views (or copies with some of their features), stored on-demand views, request sources.
        input_schema: request data, instead of a request source.
        udf: the function. In mode "python" it gets and returns a dict of columns (with `singleton` a dict of one
            row's values), in mode "pandas" a DataFrame.
        udf_string: its source text, which is what is run if it needs nothing but pandas, NumPy and typing.
        mode: "python" or "pandas".
        write_to_online_store: compute when rows are written, and read the stored results; needs `entities`.
        aggregations, feature_transformation: not supported.
        track_metrics: kept for Feast's server.
        others: as in `FeatureView`.

    Raises:
        DefinitionError: a rule is broken; the text names the view and the rule.
    """

    def __init__(
        self,
        *,
        name: str,
        entities: Sequence[Entity] | None = None,
        schema: Sequence[Field] | None = None,
        sources: Sequence[OnDemandSource] | None = None,
        input_schema: Sequence[Field] | None = None,
        udf: Callable[[Any], Any] | None = None,
        udf_string: str | None = "",
        feature_transformation: None = None,
        mode: TransformationMode | str = "pandas",
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        org: str = "",
        write_to_online_store: bool = False,
        singleton: bool = False,
        track_metrics: bool = False,
        aggregations: Sequence[Aggregation] | None = None,
        version: str = "latest",
        enabled: bool = True,
    ):
        check = Arguments("OnDemandFeatureView", name)
        self.name = name
        super().__init__(check, schema, entities, description, tags, owner)
        self._keep_listed_keys(check, schema)
        self.mode = check.text("mode", mode_text(mode)).lower()
        self.udf = udf
        self.udf_string = check.text_or_none("udf_string", udf_string)
        self.org = check.text("org", org)
        self.write_to_online_store = check.flag("write_to_online_store", write_to_online_store)
        self.singleton = check.flag("singleton", singleton)
        self.track_metrics = check.flag("track_metrics", track_metrics)
        self.version = check.text("version", version)
        self.enabled = check.flag("enabled", enabled)
        self.state = FeatureViewState.STATE_UNSPECIFIED
        self.current_version_number: int | None = None
        self.batch_source = self.stream_source = None
        if feature_transformation is not None:
            raise check.error("feature_transformation is not supported; give udf and udf_string")
        if aggregations:
            raise check.error("aggregations are not supported; compute them in the function")
        self._take_sources(check, sources, input_schema)
        self._keep_rules(check)

    def _keep_listed_keys(self, check: Arguments, schema: Sequence[Field] | None) -> None:
        """Of the join keys only those of the schema are columns of the view, as Feast has it."""
        listed = {field.name for field in check.several("schema", schema, Field, "Field objects")}
        self.entity_columns = [column for column in self.entity_columns if column.name in listed]

    def _take_sources(self, check: Arguments, sources: object, input_schema: Sequence[Field] | None) -> None:
        self.source_feature_view_projections: dict[str, FeatureViewProjection] = {}
        self.source_request_sources: dict[str, RequestSource] = {}
        self.input_schema = (
            None if input_schema is None else check.several("input_schema", input_schema, Field, "Field")
        )
        kinds = (View, FeatureViewProjection, RequestSource)
        found: list[OnDemandSource] = check.several("sources", sources, kinds, "views and request sources")
        for source in found:
            self._take_source(check, source)
        if self.input_schema is not None:
            request = RequestSource(name=f"{INPUT_SCHEMA}{self.name}", schema=self.input_schema)
            self.source_request_sources[request.name] = request
        elif not self.source_feature_view_projections and not self.source_request_sources:
            raise check.error("it needs sources, or an input_schema")

    def _take_source(self, check: Arguments, source: OnDemandSource) -> None:
        if source.name in {*self.source_feature_view_projections, *self.source_request_sources}:
            raise check.error(f"sources has the name {source.name} twice")
        if isinstance(source, RequestSource):
            self.source_request_sources[source.name] = source
            return
        if isinstance(source, OnDemandFeatureView) and not source.write_to_online_store:
            raise check.error(
                f"its source {source.name} is computed when it is read; only a view that is stored can feed another one"
            )
        projection = source.projection if isinstance(source, View) else source
        self.source_feature_view_projections[source.name] = projection

    @property
    def online(self) -> bool:
        """Whether the view has rows in the online store."""
        return self.write_to_online_store

    def complete(self, views: Mapping[str, View]) -> OnDemandFeatureView:
        """Return a copy that knows the features of its sources, also of those whose schema was found out later.

        Args:
            views: by name; a source that is not in it is left as it is.

        Raises:
            DefinitionError: a view lacks a feature that is asked of it.
        """
        completed = copy.copy(self)
        completed.source_feature_view_projections = {
            name: self._completed(projection, views)
            for name, projection in self.source_feature_view_projections.items()
        }
        return completed

    def _completed(self, projection: FeatureViewProjection, views: Mapping[str, View]) -> FeatureViewProjection:
        view = views.get(projection.name)
        if view is None:
            return projection
        try:
            return projection.completed(view.features, view.batch_source)
        except KeyError as missing:
            raise self._error(f"its source {view.name} has no feature {missing.args[0]}") from None

    def request_data(self) -> list[Field]:
        """Return what a request must carry for this view."""
        return [field for source in self.source_request_sources.values() for field in source.schema]

    def broken_rules(self) -> Iterator[str]:
        yield from super().broken_rules()
        if self.mode not in _MODES:
            yield f"mode {self.mode!r} is not supported; it must be one of {', '.join(map(repr, _MODES))}"
        if self.singleton and self.mode != "python":
            yield "singleton needs mode 'python'"
        if self.udf is None:
            yield "it needs a function: udf, or the decorator on_demand_feature_view"
        if not self.features:
            yield "it needs a schema: what the function returns is not found out by running it"
        if self.write_to_online_store and not self.entity_objects:
            yield "a view with write_to_online_store needs entities"
