"""Between SQLite and forks: whoever uses SQLite is inside the gate, and a fork waits until nobody is.

SQLite's memory allocator has a lock that no fork frees: a child forked while another thread held it would wait for it
for ever.
"""

from __future__ import annotations

import os
import threading

__all__ = ["ForkGate", "current"]

LONGEST_WAIT_SECONDS = 6.0
"""A little longer than a locked file is waited for."""


class ForkGate:
    """Lets any number of threads in, and a fork only between them; those that come later wait for the fork.

    A thread never waits for itself: a signal may fork in the middle of a read, or read while a fork waits.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: list[int] = []  # threads that read or write, once for each time
        self._forking: list[int] = []

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            if self._forking and me not in self._inside:
                self._wait_for_others(self._forking)
            self._inside.append(me)

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside.remove(threading.get_ident())
            self._changed.notify_all()

    def shut(self) -> None:
        """Before a fork: wait for the reads and writes under way."""
        self._changed.acquire()
        self._forking.append(threading.get_ident())
        self._wait_for_others(self._inside)

    def open(self) -> None:
        """After a fork, in the parent."""
        self._forking.remove(threading.get_ident())
        self._changed.notify_all()
        self._changed.release()

    def _wait_for_others(self, threads: list[int]) -> None:
        """Wait until these are no other thread; not for ever, since that one may be waiting for this."""
        me = threading.get_ident()
        self._changed.wait_for(lambda: all(thread == me for thread in threads), LONGEST_WAIT_SECONDS)


_gate = ForkGate()


def current() -> ForkGate:
    """Return the gate of this process: a context manager."""
    return _gate


def _renew() -> None:
    global _gate
    _gate = ForkGate()


# Through functions: a child has a gate of its own, for forks of its own.
os.register_at_fork(before=lambda: _gate.shut(), after_in_parent=lambda: _gate.open(), after_in_child=_renew)
