"""What all routes share: reading a body, and answering errors as Feast's server does."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fastserve.errors import AuthenticationError, BodyTooLargeError, FastserveError, error_to_wire
from fastserve.server.body import BodyError, Form, UnreadableBody, parse_body

__all__ = ["JSON", "Answer", "answer_of_failure", "body_of", "guarded", "json_answer", "read_body"]

logger = logging.getLogger("fastserve.server")

JSON = "application/json"
RETRY_AFTER_SECONDS = "1"

Handler = Callable[[Request], Awaitable[Response]]


class Answer(NamedTuple):
    """An answer, before a lane sends it.

    Attributes:
        body: its bytes.
        status: of HTTP.
        media_type: of the body.
        headers: further ones, lower case.
    """

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = {}

    def response(self) -> Response:
        """Return it as Starlette sends it."""
        return Response(self.body, self.status, dict(self.headers), self.media_type)


def answer_of_failure(exc: Exception, place: str) -> Answer:
    """Return the answer to everything that a route may raise; what is the server's own failure is logged.

    Args:
        place: method and path, for the log.
    """
    if isinstance(exc, BodyError):
        return Answer(msgspec.json.encode({"detail": exc.detail}), 422)
    if isinstance(exc, UnreadableBody):
        return Answer(b'{"detail":"There was an error parsing the body"}', 400)
    if isinstance(exc, AuthenticationError):
        return Answer(msgspec.json.encode({"detail": str(exc)}), 401, JSON, {"www-authenticate": "Bearer"})
    if isinstance(exc, BodyTooLargeError):
        return Answer(msgspec.json.encode({"detail": str(exc)}), 413, JSON, error_to_wire(exc))
    if isinstance(exc, FastserveError):
        if exc.status >= 500:
            logger.error("%s: %s: %s", place, type(exc).__name__, exc)
        return _failure(exc.status, exc.to_error_detail(), error_to_wire(exc))
    # A bug; the client gets an answer of the usual shape, and the log the traceback.
    logger.error("%s failed", place, exc_info=exc)
    return _failure(500, str(exc) or type(exc).__name__)


def _failure(status: int, text: str, headers: Mapping[str, str] = {}) -> Answer:
    """Return Feast's form of an error: a JSON string."""
    if status == 503:
        headers = {**headers, "retry-after": RETRY_AFTER_SECONDS}
    return Answer(msgspec.json.encode(text.encode("utf-8", "replace").decode()), status, JSON, headers)


async def body_of(request: Request, form: type[Form]) -> Form:
    """Return the body of a request. Raises BodyError, UnreadableBody; `guarded` answers them."""
    return parse_body(await read_body(request), request.headers.get("content-type"), form)


async def read_body(request: Request) -> bytes:
    """Return the bytes of a body. Raises BodyTooLargeError."""
    limit: int = request.app.state.life.limits.body_bytes
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit > 0:
            raise BodyTooLargeError(limit)
    return bytes(body)


def guarded(handler: Handler) -> Handler:
    """Return the handler with an answer to everything that it raises."""

    @functools.wraps(handler)
    async def route(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as exc:
            return answer_of_failure(exc, f"{request.method} {request.url.path}").response()

    return route


def json_answer(body: bytes, status: int = 200) -> Response:
    """Return an answer with this JSON."""
    return Response(body, status, media_type=JSON)
