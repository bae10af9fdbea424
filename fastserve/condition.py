"""The SDK's half of watching a store: whether it can do its work, and figures about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from fastserve.registry import Refresher, Snapshot
from fastserve.stores.base import Store

__all__ = ["ConditionMixin", "Figures"]


@dataclass(frozen=True)
class Figures:
    """A look at a FeatureStore.

    Attributes:
        plans: request shapes that are compiled.
        compilations: of plans, since the store was made.
        refresh_failures: looks at the registry that failed, likewise.
        store: the online store's connections and reads, see `Store.usage`.
        freshness: view -> the end of its latest materialized window.
    """

    plans: int
    compilations: int
    refresh_failures: int
    store: Mapping[str, int]
    freshness: Mapping[str, datetime]


class Serving(Protocol):
    """A snapshot with its plans."""

    snapshot: Snapshot
    is_applied: bool
    compilations: int
    keeps_warm: bool
    broken_services: dict[str, str]

    @property
    def n_plans(self) -> int:
        """How many plans are compiled."""

    def warm(self) -> None:
        """Compile the plans of all services."""


class ConditionMixin:
    """Methods of FeatureStore that a server's operator needs."""

    _store: Store
    _refresher: Refresher

    def _state(self) -> Serving:
        """Return what is served at this moment."""
        raise NotImplementedError

    @property
    def has_registry(self) -> bool:
        """Whether there is a registry; without one nothing can be read."""
        return self._state().is_applied

    def check_store(self) -> None:
        """Raise StoreError if the online store does not answer at this moment."""
        self._store.check()

    @property
    def broken_services(self) -> Mapping[str, str]:
        """Feature service -> why it cannot be served, as `warm_plans` found."""
        return dict(self._state().broken_services)

    def warm_plans(self) -> None:
        """Compile the plans of all feature services, now and whenever the registry changes from now on."""
        state = self._state()
        state.keeps_warm = True
        state.warm()

    def figures(self) -> Figures:
        """Return figures about the store; no I/O."""
        state = self._state()
        ends = {name: view.most_recent_end_time for name, view in state.snapshot.feature_views.items()}
        return Figures(
            plans=state.n_plans,
            compilations=state.compilations,
            refresh_failures=self._refresher.failures,
            store=self._store.usage(),
            freshness={name: end for name, end in ends.items() if end is not None},
        )
