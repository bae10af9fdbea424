"""What all routes share: reading a body, and answering errors as Feast's server does."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fastserve.errors import FastserveError
from fastserve.server.body import BodyError, Form, UnreadableBody, parse_body

__all__ = ["body_of", "guarded", "json_answer"]

logger = logging.getLogger("fastserve.server")

Handler = Callable[[Request], Awaitable[Response]]


async def body_of(request: Request, form: type[Form]) -> Form:
    """Return the body of a request. Raises BodyError, UnreadableBody; `guarded` answers them."""
    return parse_body(await request.body(), request.headers.get("content-type"), form)


def guarded(handler: Handler) -> Handler:
    """Return the handler with an answer to everything that it raises."""

    @functools.wraps(handler)
    async def route(request: Request) -> Response:
        try:
            return await handler(request)
        except BodyError as exc:
            return json_answer(msgspec.json.encode({"detail": exc.detail}), 422)
        except UnreadableBody:
            return json_answer(b'{"detail":"There was an error parsing the body"}', 400)
        except FastserveError as exc:
            return _failure(request, exc.status, exc.to_error_detail(), exc)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as exc:
            # A bug; the client gets an answer of the usual shape, and the log the traceback.
            logger.exception("%s %s failed", request.method, request.url.path)
            return _failure(request, 500, str(exc) or type(exc).__name__)

    return route


def json_answer(body: bytes, status: int = 200) -> Response:
    """Return an answer with this JSON."""
    return Response(body, status, media_type="application/json")


def _failure(request: Request, status: int, text: str, cause: Exception | None = None) -> Response:
    """Return Feast's form of an error: a JSON string. A failure of the server's is logged too, without traceback."""
    if cause is not None and status >= 500:
        logger.error("%s %s: %s: %s", request.method, request.url.path, type(cause).__name__, cause)
    return json_answer(msgspec.json.encode(text.encode("utf-8", "replace").decode()), status)
