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

from msgspec.structs import replace

from fastserve._core import Batch, KnownHead, ReadPlan, ReadTimer
from fastserve.errors import NotSupportedError, StoreTimeoutError
from fastserve.feature_store import FeatureStore
from fastserve.model import FeatureService
from fastserve.response import OnlineResponse
from fastserve.server.answers import Answer
from fastserve.server.auth import credential_of
from fastserve.server.body import GetOnlineFeaturesRequest, entities_of, entities_text, is_json, parse_body
from fastserve.server.hooks import Hooks
from fastserve.server.limits import Life

__all__ = ["ARROW", "PROTOBUF", "READ_PATH", "Head", "Headers", "Reads"]

READ_PATH = "/get-online-features"
ARROW = "application/vnd.apache.arrow.stream"
PROTOBUF = "application/x-protobuf"

Headers = Iterable[tuple[bytes, bytes]]


class Head:
    """What the headers of a request say.

    Attributes:
        headers: all of them, names in lower case.
        content_type: of the body.
        timeout: X-Request-Timeout-Ms, as it came.
        wanted: the media type that the answer is to have: ARROW, PROTOBUF, or "" for JSON.
        request_id: X-Request-Id; traceparent: likewise.
        credential: the key of whoever asks.
    """

    __slots__ = ("content_type", "credential", "headers", "request_id", "timeout", "traceparent", "wanted")

    def __init__(self, headers: Headers):
        self.headers = list(headers)
        self.content_type = self.get(b"content-type")
        self.timeout = self.get(b"x-request-timeout-ms")
        self.request_id = self.get(b"x-request-id")
        self.traceparent = self.get(b"traceparent")
        self.credential = credential_of(self.get(b"authorization"), self.get(b"x-api-key"))
        accept = self.get(b"accept")
        self.wanted = _preferred(accept) if accept is not None else ""

    @property
    def quick_form(self) -> str | None:
        """The form of an answer that a Lane can make, `json` or `protobuf`; None if these headers ask for more."""
        if (self.timeout or self.request_id or self.traceparent) is not None or not is_json(self.content_type):
            return None
        return {"": "json", PROTOBUF: "protobuf"}.get(self.wanted)

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

    def __init__(self, store: FeatureStore, life: Life, hooks: Hooks):
        self.store = store
        self.life = life
        self.hooks = hooks
        # The fast lane's
        self.known_heads: dict[bytes, KnownHead] = {}
        self.lane = hooks.lane(READ_PATH, self.known_heads, life.limits.entities) if store.reads_in_steps else None

    async def answer(self, body: bytes, head: Head) -> Answer:
        """Return the answer to a body, and count it. Raises what `answer_of_failure` answers."""
        timer = self.hooks.meters.read.begin()
        try:
            with self.life:
                request = self.parse(body, head)
                return await self.answer_request(request, head, timer)
        except Exception:
            timer.failed()
            raise

    def parse(self, body: bytes, head: Head) -> GetOnlineFeaturesRequest:
        """Return what a body asks for. Raises BodyError, UnreadableBody, TooManyEntitiesError."""
        request = parse_body(body, head.content_type, GetOnlineFeaturesRequest)
        if request.binary_entities or request.time_entities:
            request.entities = dict(entities_of(request))
        self.life.limits.check_entities(request.entities)
        return request

    def learn(self, body: bytes, request: GetOnlineFeaturesRequest, plan: ReadPlan, epoch: object) -> None:
        """Let the Lane know what a body asks for; `epoch` is the store's from before its plan was looked up."""
        if self.lane is None or request.binary_entities or request.time_entities or self.lane.knows(body, epoch):
            return
        entities = entities_text(body)
        if entities is not None:
            self.lane.learn(body, entities, replace(request, entities={}), plan, epoch)

    async def answer_request(self, request: GetOnlineFeaturesRequest, head: Head, timer: ReadTimer) -> Answer:
        """Return the answer to a request, whatever it needs. Raises what `answer_of_failure` answers."""
        timeout = self.life.limits.deadline(head.timeout)
        timer.sent()
        try:
            found = await asyncio.wait_for(self._read(request), timeout)
        except asyncio.TimeoutError as exc:
            raise StoreTimeoutError(f"no answer within {timeout:g} seconds") from exc
        timer.answered()
        if head.wanted == ARROW:
            # On a thread: the first one loads pyarrow, and large ones are what it is for.
            answer = Answer(await asyncio.to_thread(_arrow_stream, found), media_type=ARROW)
        else:
            answer = self.encode(found, request, head)
        timer.done(found.batch)
        return answer

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

    def finish(self, request: GetOnlineFeaturesRequest, batch: Batch, head: Head) -> Answer:
        """Return the answer that carries what was read. Raises as `FeatureStore.finish_read`."""
        found = self.store.finish_read(batch, request.include_feature_view_version_metadata)
        return self.encode(found, request, head)

    def features(self, request: GetOnlineFeaturesRequest) -> FeatureService | list[str]:
        """Return what is asked for. Raises FeatureServiceNotFoundException."""
        service = request.feature_service
        return self.store.get_feature_service(service) if service else request.features

    def encode(self, found: OnlineResponse, request: GetOnlineFeaturesRequest, head: Head) -> Answer:
        """Return the answer that carries these features, as JSON or protobuf."""
        if head.wanted == PROTOBUF:
            return Answer(found.to_protobuf(), media_type=PROTOBUF)
        return Answer(found.to_compact_json() if request.compact else found.to_json())


def _arrow_stream(found: OnlineResponse) -> bytes:
    try:
        return found.to_arrow_stream()
    except ModuleNotFoundError as exc:
        message = (
            f"{exc.name} is not installed on the server, Arrow streams need it: pip install 'fastserve[materialize]'"
        )
        raise NotSupportedError(message) from None
