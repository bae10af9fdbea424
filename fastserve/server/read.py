"""POST /get-online-features, whichever lane a request takes: body -> answer.

The answer has one of these forms:

    JSON            Feast's; unless another is asked for
    compact JSON    asked for by the field `compact` of the body
    Arrow stream    asked for by the header Accept: application/vnd.apache.arrow.stream
    protobuf        asked for by the header Accept: application/x-protobuf; what our remote SDK reads
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from fastserve._core import Batch
from fastserve.errors import NotSupportedError, StoreTimeoutError
from fastserve.feature_store import FeatureStore
from fastserve.model import FeatureService
from fastserve.response import OnlineResponse
from fastserve.server.answers import Answer
from fastserve.server.body import GetOnlineFeaturesRequest, parse_body, with_binary
from fastserve.server.limits import Life

__all__ = ["ARROW", "PROTOBUF", "READ_PATH", "Head", "Headers", "Reads"]

READ_PATH = "/get-online-features"
ARROW = "application/vnd.apache.arrow.stream"
PROTOBUF = "application/x-protobuf"

Headers = Iterable[tuple[bytes, bytes]]


class Head:
    """What the headers of a read say.

    Attributes:
        headers: all of them, names in lower case.
        content_type: of the body.
        timeout: X-Request-Timeout-Ms, as it came.
        wanted: the media type that the answer is to have: ARROW, PROTOBUF, or "" for JSON.
    """

    __slots__ = ("content_type", "headers", "timeout", "wanted")

    def __init__(self, headers: Headers):
        self.headers = list(headers)
        self.content_type = self.get(b"content-type")
        self.timeout = self.get(b"x-request-timeout-ms")
        accept = self.get(b"accept")
        self.wanted = _preferred(accept) if accept is not None else ""

    def get(self, name: bytes) -> str | None:
        """Return the first header of a name, in lower case."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)


def _preferred(accept: str) -> str:
    """Return the media type that a client takes most gladly, "" for JSON, which anything else is that it names."""
    weights = {PROTOBUF: 0.0, ARROW: 0.0, "application/json": 0.0}
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weights[name] = _weight(parameters)
    best = max((PROTOBUF, ARROW), key=lambda name: weights[name])
    return best if 0 < weights[best] >= weights["application/json"] else ""


def _weight(parameters: list[str]) -> float:
    text = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
    try:
        return float(text)
    except ValueError:
        return 0


class Reads:
    """Answers read requests from a store, within the limits of a server."""

    def __init__(self, store: FeatureStore, life: Life):
        self.store = store
        self.life = life
        self.known_heads: dict[bytes, Any] = {}  # the fast lane's

    async def answer(self, body: bytes, head: Head) -> Answer:
        """Return the answer to a body. Raises what `answer_of_failure` answers."""
        with self.life:
            request = self.parse(body, head)
            return await self.answer_request(request, head)

    def parse(self, body: bytes, head: Head) -> GetOnlineFeaturesRequest:
        """Return what a body asks for. Raises BodyError, UnreadableBody, TooManyEntitiesError."""
        request = parse_body(body, head.content_type, GetOnlineFeaturesRequest)
        if request.binary_entities:
            request.entities = dict(with_binary(request.entities, request.binary_entities))
        self.life.limits.check_entities(request.entities)
        return request

    async def answer_request(self, request: GetOnlineFeaturesRequest, head: Head) -> Answer:
        """Return the answer to a request, whatever it needs. Raises what `answer_of_failure` answers."""
        timeout = self.life.limits.deadline(head.timeout)
        try:
            found = await asyncio.wait_for(self._read(request), timeout)
        except asyncio.TimeoutError as exc:
            raise StoreTimeoutError(f"no answer within {timeout:g} seconds") from exc
        if head.wanted == PROTOBUF:
            return Answer(found.to_protobuf(), media_type=PROTOBUF)
        if head.wanted == ARROW:
            # On a thread: the first one loads pyarrow, and large ones are what it is for.
            return Answer(await asyncio.to_thread(_arrow_stream, found), media_type=ARROW)
        return self.encode(found, request)

    async def _read(self, request: GetOnlineFeaturesRequest) -> OnlineResponse:
        return await self.store.get_online_features_async(
            self.features(request),
            request.entities,
            request.full_feature_names,
            request.include_feature_view_version_metadata,
        )

    # The same in steps, for reads that need nothing but the store.

    def begin(self, request: GetOnlineFeaturesRequest) -> Batch:
        """Return what is to be read. Raises as `FeatureStore.begin_read`."""
        return self.store.begin_read(self.features(request), request.entities, request.full_feature_names)

    def finish(self, request: GetOnlineFeaturesRequest, batch: Batch) -> Answer:
        """Return the answer that carries what was read. Raises as `FeatureStore.finish_read`."""
        return self.encode(self.store.finish_read(batch, request.include_feature_view_version_metadata), request)

    def features(self, request: GetOnlineFeaturesRequest) -> FeatureService | list[str]:
        """Return what is asked for. Raises FeatureServiceNotFoundException."""
        service = request.feature_service
        return self.store.get_feature_service(service) if service else request.features

    def encode(self, found: OnlineResponse, request: GetOnlineFeaturesRequest) -> Answer:
        """Return the answer that carries these features, as JSON."""
        return Answer(found.to_compact_json() if request.compact else found.to_json())


def _arrow_stream(found: OnlineResponse) -> bytes:
    try:
        return found.to_arrow_stream()
    except ModuleNotFoundError as exc:
        message = (
            f"{exc.name} is not installed on the server, Arrow streams need it: pip install 'fastserve[materialize]'"
        )
        raise NotSupportedError(message) from None
