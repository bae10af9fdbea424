"""What a client of another server knows from its own registry, if it has one."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass

from fastserve.errors import FastserveError
from fastserve.model import FeatureService
from fastserve.plan import declared_types
from fastserve.registry import Snapshot
from fastserve.write import pushed_views, second_columns

__all__ = ["KnownHere"]


@dataclass(frozen=True)
class KnownHere:
    """See `remote.Client`. What is not found is not known: the server has the last word."""

    snapshot: Callable[[], Snapshot]

    def column_types(self, features: FeatureService | Iterable[str], full_feature_names: bool) -> Mapping[str, int]:
        try:
            return declared_types(self.snapshot(), features, full_feature_names)
        except FastserveError:
            return {}

    def second_columns_of_source(self, name: str) -> Container[str]:
        try:
            return second_columns(pushed_views(self.snapshot(), name))
        except FastserveError:
            return ()

    def second_columns_of_view(self, name: str) -> Container[str]:
        view = self.snapshot().feature_views.get(name)
        return second_columns([view] if view else [])
