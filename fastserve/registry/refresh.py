"""Keeping the Snapshot fresh, outside of requests.

A thread asks the registry for its mark every now and then; when that has changed it reads the registry and hands the
new Snapshot over. Whatever fails leaves the old one in place. The thread does not keep its Refresher alive, and a
forked process gets a thread of its own.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

from fastserve.registry.snapshot import Snapshot

__all__ = ["Refresher"]

logger = logging.getLogger(__name__)


class _Source(Protocol):
    def mark(self) -> object: ...
    def load(self) -> Snapshot: ...


class Refresher:
    """Watches a registry.

    Args:
        source: the registry, from `open_registry`.
        interval: seconds between two looks; None or 0 means that `start` does nothing.
        on_change: called with each new Snapshot, in the thread that found it.
        mark: of the Snapshot that the caller has already; without it the first look reads the registry.
        on_look: called after each look, whatever came of it; it must not raise.

    Attributes:
        failures: how many looks have failed since the Refresher was made.
    """

    def __init__(
        self,
        source: _Source,
        interval: float | None,
        on_change: Callable[[Snapshot], None],
        *,
        mark: object = None,
        on_look: Callable[[], None] | None = None,
    ):
        self.interval = interval
        self.failures = 0
        self._source = source
        self._on_change = on_change
        self._mark = mark
        self._on_look = on_look
        self._logged = ""
        self._thread: threading.Thread | None = None
        self._forget_threads()
        _all.add(self)

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if not self.interval or self.running:
            return
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=_watch,
            args=(weakref.ref(self), self._stopped, self.interval),
            name="fastserve-registry",
            daemon=True,
        )
        self._thread.start()
        # So that the thread of a Refresher that nobody stopped ends with it, and not at its next look.
        weakref.finalize(self, self._stopped.set)

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and not self._stopped.is_set()

    def stop(self) -> None:
        """Stop the thread and wait until it has ended; `start` may be called again."""
        self._stopped.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def refresh_now(self) -> None:
        """Read the registry, changed or not, and hand its Snapshot over.

        Raises:
            RegistryError: it cannot be read; nothing was handed over.
        """
        with self._lock:
            self._load()

    def adopt(self, snapshot: Snapshot) -> None:
        """Hand over a Snapshot that the caller has just written, so that it need not be read."""
        with self._lock:
            self._on_change(snapshot)
            self._mark = snapshot.mark

    def look(self) -> None:
        """Do what the thread does every `interval` seconds; never raises."""
        try:
            with self._lock:
                if self._source.mark() != self._mark:
                    self._load()
        except Exception as exc:
            # Anything else than this would end the thread, and with it all later refreshes.
            self._failed(exc)
        else:
            self._logged = ""
        if self._on_look is not None:
            self._on_look()

    def _load(self) -> None:
        snapshot = self._source.load()
        self._on_change(snapshot)
        self._mark = snapshot.mark

    def _failed(self, exc: Exception) -> None:
        self.failures += 1
        text = f"{type(exc).__name__}: {exc}"
        if text != self._logged:
            self._logged = text
            logger.error("the registry could not be refreshed, the old one stays in use: %s", text)

    def _forget_threads(self) -> None:
        # The lock keeps an older Snapshot from replacing a newer one.
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = None

    def _after_fork(self) -> None:
        """Replace what a fork does not copy: the thread, and the lock that it may have held."""
        was_running = self.running
        self._forget_threads()
        if was_running:
            self.start()


def _watch(reference: weakref.ref[Refresher], stopped: threading.Event, interval: float) -> None:
    while not stopped.wait(interval):
        refresher = reference()
        if refresher is None:
            return
        refresher.look()
        del refresher


_all: weakref.WeakSet[Refresher] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for refresher in list(_all):
        refresher._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
