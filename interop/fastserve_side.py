"""fastserve's side: answers questions through its SDK."""

from __future__ import annotations

import json
import warnings

from fastserve import FeatureStore, OnlineResponse
from fastserve.errors import FastserveError
from fastserve.registry.schema_pb2 import RepeatedValue, Value
from interop.exchange import STATUSES, Json, Question, http_answer

__all__ = ["ask", "ask_in_json"]


def ask(store: FeatureStore, question: Question) -> OnlineResponse:
    """Return fastserve's OnlineResponse; its `statuses` are those of its protobuf message."""
    response = _asked(store, question)
    if list(response.statuses.values()) != [[STATUSES[s] for s in r.statuses] for r in response.proto.results]:
        raise AssertionError(f"statuses {response.statuses} but {response.proto}")
    return response


def _asked(store: FeatureStore, question: Question) -> OnlineResponse:
    with warnings.catch_warnings():
        # Entities by their name: both sides take them, and warn.
        warnings.simplefilter("ignore", DeprecationWarning)
        return store.get_online_features(
            features=store.get_feature_service(question.service) if question.service else list(question.features),
            entity_rows=question.entity_rows(Value, RepeatedValue),
            full_feature_names=question.full_feature_names,
            include_feature_view_version_metadata=question.versions,
        )


def ask_in_json(store: FeatureStore, question: Question) -> Json:
    """Return the JSON of the answer, as `exchange.http_answer` does that of a server."""
    try:
        response = ask(store, question)
    except FastserveError as exc:
        return {"id": question.id, "error": repr(exc)}
    return http_answer(question.id, json.loads(response.to_json()))
