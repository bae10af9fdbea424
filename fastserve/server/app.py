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
from functools import cache

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from fastserve import transform
from fastserve.config import Config
from fastserve.errors import FastserveError
from fastserve.feature_store import FeatureStore
from fastserve.server.answers import guarded, json_answer, read_body
from fastserve.server.exposition import CONTENT_TYPE
from fastserve.server.health import Readiness
from fastserve.server.hooks import Hooks, Observation
from fastserve.server.limits import Life, Limits
from fastserve.server.metrics_port import serve_metrics
from fastserve.server.middleware import HookMiddleware
from fastserve.server.read import READ_PATH, Reads
from fastserve.server.sampler import Sampler
from fastserve.server.settings import find_config
from fastserve.server.write_routes import ROUTES as WRITE_ROUTES
from fastserve.server.write_routes import Jobs

__all__ = ["create_app"]

logger = logging.getLogger("fastserve.server")


def create_app(
    store: FeatureStore | None = None,
    config: Config | None = None,
    life: Life | None = None,
    observation: Observation | None = None,
) -> Starlette:
    """Return the application that answers from a store.

    Args:
        store: stays the caller's, who closes it. Without one the application opens a store when it starts and closes
            it when it stops; nothing opens a socket or starts a thread before.
        config: for the store that the application opens; without it the environment says which repository is served.
        life: the limits, and what changes while the server runs; the default is that of `Limits`.
        observation: metrics and logs; by default there is no access log, which is the other server's business.

    Raises:
        ConfigError, RegistryError: at the start of an application that opens a store.
        ConfigError, NotSupportedError: nobody could ask, see `Gate`; likewise.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, object]]:
        if store is None:
            own = FeatureStore(config=config or find_config())
            own.check_registry()
            _serve_from(app, own, observation)
        try:
            async with _watched(app, observation):
                # For the protocol of `fastserve serve`; other servers hand it on to nobody.
                state = app.state
                yield {"fastserve_reads": state.reads, "fastserve_life": state.life, "fastserve_hooks": state.hooks}
        finally:
            app.state.jobs.close()
            if store is None:
                app.state.store.close()

    app = Starlette(
        routes=ROUTES,
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_error},
        middleware=[Middleware(HookMiddleware)],
    )
    app.state.jobs = Jobs()
    app.state.life = life or Life(Limits())
    if store is not None:
        # Here and not in `lifespan`, which does not run for an application that is mounted in another one.
        _serve_from(app, store, observation)
    return app


def _serve_from(app: Starlette, store: FeatureStore, observation: Observation | None) -> None:
    state, life = app.state, app.state.life
    state.store = store
    state.hooks = Hooks(store.config, observation)
    state.reads = Reads(store, life, state.hooks)
    state.readiness = Readiness(store, lambda: bool(life.draining))


@contextlib.asynccontextmanager
async def _watched(app: Starlette, observation: Observation | None) -> AsyncIterator[None]:
    """Compile the plans, look at the gauges now and then, and answer Prometheus, as long as the application runs."""
    hooks: Hooks = app.state.hooks
    sampler = Sampler(hooks.meters, app.state.store, hooks.gate.refresh)
    listener = observation.listener if observation else None
    port = await serve_metrics(listener, hooks.metrics) if listener is not None else None
    transform.listeners.append(hooks.meters.transformed)
    sampler.start()
    app.state.readiness.start()
    try:
        yield
    finally:
        sampler.stop()
        transform.listeners.remove(hooks.meters.transformed)
        if port is not None:
            port.close()
        hooks.close()


# --- routes ----------------------------------------------------------------------------------------------------------


@guarded
async def get_online_features(request: Request) -> Response:
    """POST /get-online-features."""
    reads: Reads = request.app.state.reads
    body = await read_body(request)
    answer = await reads.answer(body, request.state.head)
    return answer.response()


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


async def livez(_: Request) -> Response:
    """GET /livez: the event loop turns."""
    return json_answer(b'{"alive":true}')


async def readyz(request: Request) -> Response:
    """GET /readyz: whether requests can be answered; see `Readiness`."""
    ready, said = await request.app.state.readiness.report()
    return json_answer(msgspec.json.encode(said), 200 if ready else 503)


async def metrics(request: Request) -> Response:
    """GET /metrics: those of all processes of the server."""
    hooks: Hooks = request.app.state.hooks
    return Response(await asyncio.to_thread(hooks.metrics), media_type=CONTENT_TYPE)


async def openapi(_: Request) -> Response:
    """GET /openapi.json."""
    return json_answer(_openapi())


async def docs(_: Request) -> Response:
    """GET /docs."""
    return HTMLResponse(_docs())


# Made when they are first asked for: a worker is to be ready soon, and few are ever asked.
@cache
def _openapi() -> bytes:
    from fastserve.server.openapi import openapi_document

    return msgspec.json.encode(openapi_document())


@cache
def _docs() -> str:
    from fastserve.server.openapi import docs_page

    return docs_page()


ROUTES = [
    Route(READ_PATH, get_online_features, methods=["POST"]),
    *WRITE_ROUTES,
    Route("/health", health, methods=["GET"]),
    Route("/livez", livez, methods=["GET"]),
    Route("/readyz", readyz, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
    Route("/docs", docs, methods=["GET"]),
    Route("/openapi.json", openapi, methods=["GET"]),
]


async def _http_error(_: Request, exc: Exception) -> Response:
    """Unknown paths and wrong methods."""
    assert isinstance(exc, HTTPException)
    answer = json_answer(msgspec.json.encode({"detail": exc.detail}), exc.status_code)
    answer.headers.update(exc.headers or {})
    return answer
