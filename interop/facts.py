"""What a repository has to offer, as Feast's side wrote it down."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interop.exchange import Json, Question
from interop.tagged import untag

__all__ = ["Facts", "Needs", "Output", "Projection"]


@dataclass(frozen=True)
class Output:
    """One feature of an answer.

    Args:
        view: its view, as a reference names it: with version, without alias.
        name: its name in the answer.
        type: name of its value type.
        kind: "stored", "python", "pandas" or "singleton".
        ttl: of a stored view, in seconds; 0 is any age.
    """

    view: str
    feature: str
    name: str
    type: str
    kind: str
    ttl: float

    @property
    def reference(self) -> str:
        """The reference `view:feature`."""
        return f"{self.view}:{self.feature}"


@dataclass(frozen=True)
class Projection:
    """Some features of a view, under a name of their own."""

    view: str
    alias: str
    features: tuple[str, ...]
    join_key_map: dict[str, str]


@dataclass
class Needs:
    """What a question must bring.

    Attributes:
        keys, data: column -> value type: join keys, and request data of on-demand views.
        anchors: views and the columns of their join keys; rows that are known are taken from there.
    """

    keys: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    anchors: list[tuple[str, dict[str, str]]] = field(default_factory=list)


class Facts:
    """A repository: views, on-demand views, services and some rows that are there."""

    def __init__(self, facts: Json):
        self.entities: dict[str, str] = facts["entities"]  # join key -> entity
        self.views: Json = facts["views"]
        self.on_demand: Json = facts["on_demand"]
        self.services: Json = facts["services"]
        columns = {view: {name: untag(keys) for name, keys in table.items()} for view, table in facts["rows"].items()}
        self.rows: dict[str, list[dict[str, Any]]] = {
            view: [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
            for view, table in columns.items()
        }
        self.key_types: dict[str, str] = {}
        for view in self.views.values():
            self.key_types.update(view["join_keys"])

    @classmethod
    def read(cls, path: Path) -> Facts:
        """Read the file that `feast_side prepare` wrote."""
        return cls(json.loads(path.read_text()))

    def known_rows(self, view: str) -> list[dict[str, Any]]:
        """Return keys that a view has rows for."""
        return self.rows[view.partition("@")[0]]

    def projections(self, question: Question) -> list[Projection]:
        """Return what a question asks for, in its order; a list of references is one projection each."""
        if question.service:
            return [
                Projection(p["view"], p["alias"], tuple(p["features"]), p["join_key_map"])
                for p in self.services[question.service]["projections"]
            ]
        pairs = [reference.split(":") for reference in question.features]
        return [Projection(view, view.removesuffix("@latest"), (feature,), {}) for view, feature in pairs]

    def outputs(self, question: Question) -> list[Output]:
        """Return the features of the answer to a question, in the order asked for."""
        return [
            self.output(projection, feature, question.full_feature_names)
            for projection in self.projections(question)
            for feature in projection.features
        ]

    def output(self, projection: Projection, feature: str, full_feature_names: bool) -> Output:
        name = f"{projection.alias}__{feature}" if full_feature_names else feature
        if projection.view in self.views:
            view = self.views[projection.view]
            return Output(projection.view, feature, name, view["features"][feature], "stored", view["ttl"])
        view = self.on_demand[projection.view]
        kind = "singleton" if view["singleton"] else view["mode"]
        return Output(projection.view, feature, name, view["features"][feature], kind, 0)

    def stored_projections(self, projection: Projection) -> list[Projection]:
        """Return the stored views that a projection reads."""
        if projection.view in self.views:
            return [projection]
        return [Projection(source, source, (), {}) for source in self.on_demand[projection.view]["sources"]]

    def needs(self, projections: list[Projection]) -> Needs:
        """Return what a question for these projections must bring."""
        found = [self.on_demand[p.view]["request_data"] for p in projections if p.view in self.on_demand]
        needs = Needs(data={name: kind for columns in found for name, kind in columns.items()})
        for projection in (s for p in projections for s in self.stored_projections(p)):
            keys = self.views[projection.view]["join_keys"]
            columns = {name: projection.join_key_map.get(name, name) for name in keys}
            needs.keys.update({columns[name]: kind for name, kind in keys.items()})
            if columns:
                needs.anchors.append((projection.view, columns))
        return needs
