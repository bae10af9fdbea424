"""Projections: some features of a view, under a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fastserve import model
from fastserve.definition.source import DataSource

__all__ = ["FeatureViewProjection"]


@dataclass
class FeatureViewProjection:
    """Some features of a view, as a service uses them.

    Args:
        name: the view's name.
        name_alias: the name that the service gives to the view, or "".
        desired_features: names that were asked of a view whose features are only known once its source was looked at.
        features: in the order in which they were asked for.
        join_key_map: join key of the view -> column of the request.
        batch_source: of the view.
        version_tag: the version of the view that is meant, or None for the active one.
        view_type: "labelView", or "featureView" for all others.
    """

    name: str
    name_alias: str | None = ""
    desired_features: list[str] = field(default_factory=list)
    features: list[model.Field] = field(default_factory=list)
    join_key_map: dict[str, str] = field(default_factory=dict)
    batch_source: DataSource | None = None
    version_tag: int | None = None
    view_type: str = "featureView"

    def name_to_use(self) -> str:
        """Return the name by which an answer knows the view: alias or name, and `@vN` if a version is meant."""
        base = self.name_alias or self.name
        return base if self.version_tag is None else f"{base}@v{self.version_tag}"

    def completed(self, features: Sequence[model.Field], source: DataSource | None) -> FeatureViewProjection:
        """Return the projection with the features that were asked for, and with the source, of its view.

        Args:
            features: all of the view's, as they are known now.

        Raises:
            KeyError: names that the view lacks, separated by commas.
        """
        if self.features:
            return replace(self, batch_source=source)
        known = {feature.name: feature for feature in features}
        wanted = self.desired_features or list(known)
        if missing := [name for name in wanted if name not in known]:
            raise KeyError(", ".join(missing))
        return replace(self, features=[known[name] for name in wanted], desired_features=[], batch_source=source)

    @classmethod
    def from_model(cls, projection: model.FeatureViewProjection) -> FeatureViewProjection:
        """Return a projection that was read from a registry in the form of a definition."""
        return cls(
            name=projection.name,
            name_alias=projection.name_alias,
            features=list(projection.features),
            join_key_map=dict(projection.join_key_map),
            version_tag=projection.version_tag,
            view_type=projection.view_type or "featureView",
        )
