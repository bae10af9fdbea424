"""Feature services: the features of one model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from fastserve import model
from fastserve.definition.check import Arguments, Definition
from fastserve.definition.logging import LoggingConfig
from fastserve.definition.projection import FeatureViewProjection
from fastserve.definition.version import parse_version
from fastserve.definition.view import View

__all__ = ["AnyView", "FeatureService"]

AnyView: TypeAlias = "View | model.FeatureView | model.OnDemandFeatureView"
"""A view as it is defined here, or as it was read from a registry."""

_Item: TypeAlias = "AnyView | FeatureViewProjection | model.FeatureViewProjection | str"

_ITEMS = (View, model.FeatureView, model.OnDemandFeatureView, FeatureViewProjection, model.FeatureViewProjection, str)

_REFERENCE = re.compile(r"(?P<view>[^@:]+)(?:@(?P<version>v[0-9]{1,9}|latest))?(?::(?P<feature>[^@:]+))?")


class FeatureService(Definition):
    """The features of one model, asked for by one name.

        FeatureService(name="fraud", features=[txn_7d, customer_profile[["age", "segment"]]])

    Args:
        name: unique in the project.
        features: views, or copies of them with some features or another name; views that a registry gave; or texts
            `view`, `view:feature` and `view@v2:feature`.
        logging_config: kept for other readers.
        precompute_online: all features of an entity are also kept as one value.

    Attributes:
        feature_view_projections: what is taken of each view, in the order of `features`.

    Raises:
        DefinitionError: an argument is of the wrong type.
    """

    def __init__(
        self,
        *,
        name: str,
        features: Sequence[_Item],
        tags: Mapping[str, str] | None = None,
        description: str = "",
        owner: str = "",
        logging_config: LoggingConfig | None = None,
        precompute_online: bool = False,
    ):
        check = Arguments("FeatureService", name)
        self.name = name
        found: list[_Item] = check.several("features", features, _ITEMS, "views")
        self.feature_view_projections = [_projection(check, item) for item in found]
        self.tags = check.texts("tags", tags)
        self.description = check.text("description", description)
        self.owner = check.text("owner", owner)
        self.logging_config = logging_config and check.one(
            "logging_config", logging_config, LoggingConfig, "a LoggingConfig"
        )
        self.precompute_online = check.flag("precompute_online", precompute_online)

    def infer_features(self, views: Mapping[str, AnyView]) -> None:
        """Fill in the features of views whose schema was not known when the service was made.

        Args:
            views: name -> view, now with its features; and `name@vN` -> version of it, for those that the service pins.
                Names that are not in it are left as they are.

        Raises:
            DefinitionError: a view lacks a feature that the service wants.
        """
        found = [(projection, _view_of(projection, views)) for projection in self.feature_view_projections]
        self.feature_view_projections = [
            projection if view is None else self._completed(projection, view) for projection, view in found
        ]

    def _completed(self, projection: FeatureViewProjection, view: AnyView) -> FeatureViewProjection:
        source = view.batch_source if isinstance(view, View) else projection.batch_source
        try:
            return projection.completed(view.features, source)
        except KeyError as missing:
            has = ", ".join(field.name for field in view.features)
            raise Arguments("FeatureService", self.name).error(
                f"view {view.name} has no feature {missing.args[0]}; it has: {has}"
            ) from None

    def view_names(self) -> Iterable[str]:
        """Return the names of the views, in declared order."""
        return [projection.name for projection in self.feature_view_projections]


def _view_of(projection: FeatureViewProjection, views: Mapping[str, AnyView]) -> AnyView | None:
    # Another version may have other features.
    pinned = projection.version_tag is not None and not projection.features
    return views.get(f"{projection.name}@v{projection.version_tag}" if pinned else projection.name)


def _projection(check: Arguments, item: _Item) -> FeatureViewProjection:
    if isinstance(item, str):
        return _referred(check, item)
    found = item if isinstance(item, (FeatureViewProjection, model.FeatureViewProjection)) else item.projection
    return found if isinstance(found, FeatureViewProjection) else FeatureViewProjection.from_model(found)


def _referred(check: Arguments, reference: str) -> FeatureViewProjection:
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise check.error(f"features has {reference!r}, which is not of the form view, view:feature or view@v2:feature")
    version = parse_version(found["version"] or "")
    wanted = [found["feature"]] if found["feature"] else []
    return FeatureViewProjection(found["view"], desired_features=wanted, version_tag=version)
