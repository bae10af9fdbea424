"""What a server takes on: limits of a request, requests at hand, and whether the server is about to end."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastserve.errors import RequestError, ServerBusyError, TooManyEntitiesError

__all__ = ["Life", "Limits"]


@dataclass(frozen=True)
class Limits:
    """Limits of one worker; 0 is none.

    Attributes:
        connections: open at a time; further ones get 503.
        in_flight: reads and writes at hand at a time; further ones get 503.
        body_bytes: of a request; larger ones get 413.
        entities: rows of a read; more get 413.
        timeout: seconds from a read's arrival to its answer, then 504. The header X-Request-Timeout-Ms can shorten it.
        header_timeout: seconds from the first byte of a request to the end of its headers, then 408.
        body_timeout: seconds from there to the end of its body, then 408.
        keep_alive: seconds that a connection may be idle.
    """

    connections: int = 1000
    in_flight: int = 1000
    body_bytes: int = 64 << 20
    entities: int = 100_000
    timeout: float = 0
    header_timeout: float = 10
    body_timeout: float = 60
    keep_alive: float = 30

    def check_entities(self, columns: Mapping[str, Sequence[object]]) -> None:
        """Raise TooManyEntitiesError if a request has too many rows."""
        for values in columns.values():
            if len(values) > self.entities > 0:
                raise TooManyEntitiesError(max(map(len, columns.values())), self.entities)

    def deadline(self, asked: str | None) -> float | None:
        """Return the seconds that a read may take, or None.

        Args:
            asked: the header X-Request-Timeout-Ms.
        Raises:
            RequestError: that is not a positive whole number.
        """
        if asked is None:
            return self.timeout or None
        if not (asked.isascii() and asked.isdigit() and len(asked) < 12 and int(asked)):
            what = "a positive whole number of milliseconds, of 11 digits at most, expected"
            raise RequestError(f"X-Request-Timeout-Ms: {asked[:20]!r}; {what}")
        seconds = int(asked) / 1000
        return min(seconds, self.timeout) if self.timeout else seconds


class Life:
    """What changes while a server runs.

    Attributes:
        in_flight: reads and writes at hand.
        most: of these.
        draining: the server is about to end: it is not ready for more, and answers close their connections.
        is_swept: whether somebody looks at the connections' times.
        starts: how answers begin, by status, and the list of headers that is in it.

    As a context manager it counts a request; it then raises ServerBusyError if there are too many.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.in_flight = 0
        self.most = limits.in_flight or sys.maxsize
        self.draining = False
        self.is_swept = False
        self.starts: dict[int, tuple[object, bytes]] = {}

    def enter(self) -> None:
        """Count a request; `leave` must follow. Raises ServerBusyError: there are too many."""
        if self.in_flight >= self.most:
            raise ServerBusyError(self.in_flight)
        self.in_flight += 1

    def leave(self) -> None:
        """Count a request that has ended."""
        self.in_flight -= 1

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()
