"""fastserve's side: answers questions through its SDK."""

from __future__ import annotations

import warnings
from typing import Any

from fastserve import FeatureStore
from fastserve.registry.schema_pb2 import RepeatedValue, Value
from interop.exchange import Question

__all__ = ["ask"]


def ask(store: FeatureStore, question: Question) -> Any:
    """Return fastserve's OnlineResponse."""
    with warnings.catch_warnings():
        # Entities by their name: both sides take them, and warn.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _ask(store, question)


def _ask(store: FeatureStore, question: Question) -> Any:
    return store.get_online_features(
        features=store.get_feature_service(question.service) if question.service else list(question.features),
        entity_rows=question.entity_rows(Value, RepeatedValue),
        full_feature_names=question.full_feature_names,
        include_feature_view_version_metadata=question.versions,
    )
