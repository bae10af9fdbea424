"""POST /get-online-features, whichever lane a request takes: body -> answer."""

from __future__ import annotations

from fastserve.feature_store import FeatureStore
from fastserve.response import OnlineResponse
from fastserve.server.answers import Answer
from fastserve.server.body import GetOnlineFeaturesRequest, parse_body

__all__ = ["READ_PATH", "Reads"]

READ_PATH = "/get-online-features"


class Reads:
    """Answers read requests from a store."""

    def __init__(self, store: FeatureStore):
        self.store = store

    async def answer(self, body: bytes, content_type: str | None) -> Answer:
        """Return the answer to a body. Raises what `answer_of_failure` answers."""
        request = parse_body(body, content_type, GetOnlineFeaturesRequest)
        found = await self.store.get_online_features_async(
            self.store.get_feature_service(request.feature_service) if request.feature_service else request.features,
            request.entities,
            request.full_feature_names,
            request.include_feature_view_version_metadata,
        )
        return self.encode(found)

    def encode(self, found: OnlineResponse) -> Answer:
        """Return the answer that carries these features."""
        return Answer(found.to_json())
