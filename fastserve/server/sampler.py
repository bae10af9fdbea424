"""What is looked at now and then: the event loop, the process, the store. Nothing here waits for anything."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone

from fastserve.feature_store import FeatureStore
from fastserve.server.metrics import Meters

__all__ = ["Sampler"]

TICK_SECONDS = 0.5
SLOW_TICKS = 10
"""Every so many ticks a look at all else than the event loop."""


class Sampler:
    """Fills the gauges of one process.

    Args:
        refresh: called at each slow look.
    """

    def __init__(self, meters: Meters, store: FeatureStore, refresh: Callable[[], None] = lambda: None):
        self._meters = meters
        self._store = store
        self._refresh = refresh
        self._handle: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._cpu = _cpu_seconds()
        self._looked = time.monotonic()

    def start(self) -> None:
        """Start looking, in the running loop."""
        self._meters.set("fastserve_workers", value=1)
        self._look()
        self._wait()

    def stop(self) -> None:
        """Stop looking."""
        if self._handle is not None:
            self._handle.cancel()

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(TICK_SECONDS, self._tick, loop.time() + TICK_SECONDS)

    def _tick(self, due: float) -> None:
        lag = max(asyncio.get_running_loop().time() - due, 0)
        self._meters.observe("fastserve_event_loop_lag_seconds", value=lag)
        self._ticks += 1
        if self._ticks % SLOW_TICKS == 0:
            self._refresh()
            self._look()
        self._wait()

    def _look(self) -> None:
        self._look_at_process()
        self._look_at_store()

    def _look_at_process(self) -> None:
        cpu, now = _cpu_seconds(), time.monotonic()
        if now - self._looked > 0:
            used = 100 * (cpu - self._cpu) / (now - self._looked)
            self._meters.set("feast_feature_server_cpu_usage", value=used)
        self._cpu, self._looked = cpu, now
        resident = _resident_bytes()
        self._meters.set("fastserve_worker_resident_bytes", value=resident)
        self._meters.set("feast_feature_server_memory_usage", value=100 * resident / _memory_bytes())

    def _look_at_store(self) -> None:
        meters, figures = self._meters, self._store.figures()
        meters.set("fastserve_plan_cache_size", value=figures.plans)
        meters.set("fastserve_plan_compilations_total", value=figures.compilations)
        meters.set("fastserve_registry_refresh_failures_total", value=figures.refresh_failures)
        for state in ("open", "idle"):
            meters.set("fastserve_store_connections", state, value=figures.store[state])
        for state in ("in_flight", "waiting"):
            meters.set("fastserve_store_reads", state, value=figures.store[state])
        now = datetime.now(timezone.utc)
        for view, end in figures.freshness.items():
            age = (now - end).total_seconds()
            meters.set("feast_feature_freshness_seconds", view, self._store.project, value=age)


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # not Linux: the highest it ever was
        return peak if sys.platform == "darwin" else peak * 1024
