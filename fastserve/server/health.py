"""Whether the server can do its work: what /readyz says.

ready      the registry was read, the store answers, the plans of all feature services are compiled, and the server is
           not about to end
alive      the event loop turns: whoever answers /livez is alive
healthy    /health, as Feast's: the registry can be read
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from fastserve.errors import FastserveError
from fastserve.feature_store import FeatureStore

__all__ = ["Readiness"]

logger = logging.getLogger("fastserve.server")

TRUST_SECONDS = 1.0
"""So long an answer of the store is good, however many ask."""


class Readiness:
    """Looks at a store.

    Args:
        store: whose plans `warm` compiles.
        is_draining: whether the server is about to end.
    """

    def __init__(self, store: FeatureStore, is_draining: Callable[[], bool] = lambda: False):
        self._store = store
        self._is_draining = is_draining
        self._is_warm = False
        self._warming: asyncio.Future[None] | None = None
        self._look: asyncio.Task[str] | None = None
        self._looked = -TRUST_SECONDS
        self._fault = ""

    def start(self) -> None:
        """Begin to compile the plans, once, on a thread."""
        if self._warming is None:
            self._warming = asyncio.ensure_future(asyncio.to_thread(self.warm))

    def warm(self) -> None:
        """Compile the plans of all feature services, so that no request waits for that. Takes seconds, on a thread.

        A service that cannot be compiled is told by /readyz and the log; the others are served all the same.
        """
        try:
            self._store.warm_plans()
            for name, reason in self._store.broken_services.items():
                logger.warning("feature service %s cannot be served: %s", name, reason)
        finally:
            self._is_warm = True

    async def report(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the server is ready, and what /readyz answers."""
        if not self._is_warm:
            self.start()  # an application that is mounted in another one has no start of its own
        fault = await self._store_fault()
        ready = self._is_warm and not fault and not self._is_draining() and self._store.has_registry
        said: dict[str, Any] = {
            "ready": ready,
            "registry": "loaded" if self._store.has_registry else "there is none yet",
            "store": fault or "answers",
            "plans": "warm" if self._is_warm else "being compiled",
        }
        if self._is_draining():
            said["draining"] = True
        if broken := self._store.broken_services:
            said["broken_feature_services"] = broken
        return ready, said

    async def _store_fault(self) -> str:
        """Return what is wrong with the store, or ""; all who ask at the same time share one look."""
        if time.monotonic() - self._looked < TRUST_SECONDS:
            return self._fault
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._ask())
        return await asyncio.shield(self._look)

    async def _ask(self) -> str:
        try:
            await asyncio.to_thread(self._store.check_store)
            fault = ""
        except FastserveError as exc:
            fault = str(exc)
        if fault and fault != self._fault:
            logger.error("not ready: %s", fault)
        self._fault, self._looked = fault, time.monotonic()
        return fault
