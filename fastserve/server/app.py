"""The ASGI application.

    from fastserve import FeatureStore
    from fastserve.server.app import create_app

    app = create_app(FeatureStore("my_repo"))

Other servers than `fastserve serve` can start it too, with the repository in FEATURE_REPO_DIR_ENV_VAR:

    uvicorn --factory fastserve.server.app:create_app
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from fastserve.config import Config
from fastserve.errors import FastserveError
from fastserve.feature_store import FeatureStore
from fastserve.server.body import BodyError, UnreadableBody, parse_body
from fastserve.server.openapi import docs_page, openapi_document
from fastserve.server.settings import find_config

__all__ = ["create_app"]

logger = logging.getLogger("fastserve.server")


def create_app(store: FeatureStore | None = None, config: Config | None = None) -> Starlette:
    """Return the application that answers from a store.

    Args:
        store: stays the caller's, who closes it. Without one the application opens a store when it starts and closes
            it when it stops; nothing opens a socket or starts a thread before.
        config: for the store that the application opens; without it the environment says which repository is served.

    Raises:
        ConfigError, RegistryError: at the start of an application that opens a store.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if store is not None:
            yield
            return
        app.state.store = FeatureStore(config=config or find_config())
        try:
            yield
        finally:
            app.state.store.close()

    app = Starlette(routes=ROUTES, lifespan=lifespan, exception_handlers={HTTPException: _http_error})
    if store is not None:
        # Here and not in `lifespan`, which does not run for an application that is mounted in another one.
        app.state.store = store
    return app


# --- routes ----------------------------------------------------------------------------------------------------------


async def get_online_features(request: Request) -> Response:
    """POST /get-online-features."""
    try:
        return _json(await _read(request))
    except BodyError as exc:
        return _json(msgspec.json.encode({"detail": exc.detail}), 422)
    except UnreadableBody:
        return _json(b'{"detail":"There was an error parsing the body"}', 400)
    except FastserveError as exc:
        return _failure(exc.status, exc.to_error_detail(), exc)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    except Exception as exc:
        # A bug; the client gets an answer of the usual shape, and the log the traceback.
        logger.exception("POST /get-online-features failed")
        return _failure(500, str(exc) or type(exc).__name__)


async def _read(request: Request) -> bytes:
    body = parse_body(await request.body(), request.headers.get("content-type"))
    store: FeatureStore = request.app.state.store
    answer = await store.get_online_features_async(
        store.get_feature_service(body.feature_service) if body.feature_service else body.features,
        body.entities,
        body.full_feature_names,
        body.include_feature_view_version_metadata,
    )
    return answer.to_json()


async def health(request: Request) -> Response:
    """GET /health: whether the registry can be read. It does not look at the online store, as Feast's does not."""
    store: FeatureStore = request.app.state.store
    try:
        # A look at a file, but the file may be on a network drive.
        await asyncio.to_thread(store.check_registry)
    except FastserveError as exc:
        logger.error("GET /health: %s", exc)
        return Response(status_code=503)
    return Response()


async def openapi(_: Request) -> Response:
    """GET /openapi.json."""
    return _json(OPENAPI)


async def docs(_: Request) -> Response:
    """GET /docs."""
    return HTMLResponse(DOCS)


OPENAPI = msgspec.json.encode(openapi_document())
DOCS = docs_page()

ROUTES = [
    Route("/get-online-features", get_online_features, methods=["POST"]),
    Route("/health", health, methods=["GET"]),
    Route("/docs", docs, methods=["GET"]),
    Route("/openapi.json", openapi, methods=["GET"]),
]


# --- answers ---------------------------------------------------------------------------------------------------------


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _failure(status: int, text: str, cause: Exception | None = None) -> Response:
    """Return Feast's form of an error: a JSON string. A failure of the server's is logged too, without traceback."""
    if cause is not None and status >= 500:
        logger.error("POST /get-online-features: %s: %s", type(cause).__name__, cause)
    return _json(msgspec.json.encode(text.encode("utf-8", "replace").decode()), status)


async def _http_error(_: Request, exc: Exception) -> Response:
    """Unknown paths and wrong methods."""
    assert isinstance(exc, HTTPException)
    answer = _json(msgspec.json.encode({"detail": exc.detail}), exc.status_code)
    answer.headers.update(exc.headers or {})
    return answer
