"""POST /push, /write-to-online-store, /materialize and /materialize-incremental."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fastserve.errors import FastserveError, RequestError
from fastserve.feature_store import FeatureStore
from fastserve.server.answers import body_of, guarded, json_answer
from fastserve.server.body import (
    BodyError,
    MaterializeIncrementalRequest,
    MaterializeRequest,
    PushFeaturesRequest,
    WriteToFeatureStoreRequest,
    with_binary,
)
from fastserve.server.hooks import Hooks
from fastserve.server.metrics import Meters
from fastserve.writing import MaterializationRunningError, parse_time

__all__ = ["ROUTES", "Jobs"]

logger = logging.getLogger("fastserve.server")

WORKERS_VARIABLE = "FEAST_MATERIALIZE_MAX_WORKERS"


class Jobs:
    """Materializations that nobody waits for, on a few threads that start with the first of them."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, store: FeatureStore, names: Sequence[str], force: bool, load: Callable[..., Any]) -> None:
        """Mark views as being loaded, and load them.

        Raises:
            MaterializationRunningError: one of them is being loaded already, and `force` is false.
        """
        states = store.reserve(names, force)
        if self._pool is None:
            workers = int(os.environ.get(WORKERS_VARIABLE) or 2)
            self._pool = ThreadPoolExecutor(max(workers, 1), thread_name_prefix="fastserve-job")
        self._pool.submit(self._run, store, states, load)

    def _run(self, store: FeatureStore, states: dict[str, int], load: Callable[..., Any]) -> None:
        try:
            load(stop=self._stop)
        except Exception as exc:
            expected = isinstance(exc, FastserveError)
            logger.error("materializing %s failed: %s", ", ".join(states), exc, exc_info=not expected)
            store.release(states)

    def close(self) -> None:
        """Stop what runs, as soon as what was begun to be written is written."""
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=False)


@guarded
async def push(request: Request) -> Response:
    """POST /push."""
    body = await body_of(request, PushFeaturesRequest)
    store: FeatureStore = request.app.state.store
    rows = with_binary(body.df, body.binary)
    with request.app.state.life:
        await store.push_async(body.push_source_name, rows, body.allow_registry_cache, body.to)
    hooks: Hooks = request.app.state.hooks
    hooks.meters.pushed(body.push_source_name, body.to)
    return Response()


@guarded
async def write_to_online_store(request: Request) -> Response:
    """POST /write-to-online-store."""
    body = await body_of(request, WriteToFeatureStoreRequest)
    store: FeatureStore = request.app.state.store
    rows = with_binary(body.df, body.binary)
    with request.app.state.life:
        await store.write_to_online_store_async(
            body.feature_view_name, rows, allow_registry_cache=body.allow_registry_cache
        )
    return json_answer(b"null")


@guarded
async def materialize(request: Request) -> Response:
    """POST /materialize."""
    body = await body_of(request, MaterializeRequest)
    start = end = None
    if not body.disable_event_timestamp:
        if body.start_ts is None or body.end_ts is None:
            raise RequestError("start_ts and end_ts are required when disable_event_timestamp is False")
        start, end = parse_time(body.start_ts), parse_time(body.end_ts)
        if start >= end:
            raise RequestError(f"start_ts ({start}) must be before end_ts ({end})")
    store: FeatureStore = request.app.state.store
    load = partial(store.materialize, start, end, disable_event_timestamp=body.disable_event_timestamp)
    return await _load(request, body.feature_views, body.version, load)


@guarded
async def materialize_incremental(request: Request) -> Response:
    """POST /materialize-incremental."""
    body = await body_of(request, MaterializeIncrementalRequest)
    store: FeatureStore = request.app.state.store
    load = partial(store.materialize_incremental, parse_time(body.end_ts))
    return await _load(request, body.feature_views, body.version, load)


async def _load(request: Request, names: list[str] | None, version: str | None, load: Callable[..., Any]) -> Response:
    """Load views now, or, with `?async=true`, begin to."""
    store: FeatureStore = request.app.state.store
    load = _metered(request.app.state.hooks.meters, load)
    if not _flag(request, "async"):
        await asyncio.to_thread(load, feature_views=names, version=version)
        return json_answer(b"null")
    force = _flag(request, "force")
    chosen = await asyncio.to_thread(store.materializable, names, version)
    job = partial(load, feature_views=chosen, version=version)
    try:
        await asyncio.to_thread(request.app.state.jobs.submit, store, chosen, force, job)
    except MaterializationRunningError as exc:
        return json_answer(msgspec.json.encode({"error": str(exc), "feature_views": exc.views}), 409)
    return json_answer(msgspec.json.encode({"status": "accepted", "feature_views": chosen}), 202)


def _metered(meters: Meters, load: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Return `load`, whose runs are counted; those of views that nobody named only if they succeed."""

    def run(feature_views: list[str] | None, **arguments: Any) -> list[Any]:
        began = time.monotonic()
        try:
            loaded = load(feature_views=feature_views, **arguments)
        except Exception:
            meters.materialized(feature_views or [], False, time.monotonic() - began)
            raise
        meters.materialized([one.view for one in loaded], True, time.monotonic() - began)
        return loaded

    return run


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in _FLAGS:
        message = "Input should be a valid boolean, unable to interpret input"
        raise BodyError([{"type": "bool_parsing", "loc": ["query", name], "msg": message, "input": text}])
    return _FLAGS[text]


_FLAGS = {
    **dict.fromkeys(["1", "on", "t", "true", "y", "yes"], True),
    **dict.fromkeys(["0", "off", "f", "false", "n", "no"], False),
}

ROUTES = [
    Route("/push", push, methods=["POST"]),
    Route("/write-to-online-store", write_to_online_store, methods=["POST"]),
    Route("/materialize", materialize, methods=["POST"]),
    Route("/materialize-incremental", materialize_incremental, methods=["POST"]),
]
