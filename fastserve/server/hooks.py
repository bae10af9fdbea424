"""What surrounds a request, in whichever lane: who asks, its id, its line in the access log, its place in the metrics.

exchange = hooks.begin(method, path, head, client)      when its headers are there
hooks.check(exchange, head)                             raises what is answered to those who may not ask
hooks.end(exchange, status, size)                       when the answer is known; exchange.headers go with it
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fastserve._core import KnownHead, Lane, LaneRead
from fastserve.config import Config
from fastserve.server.auth import Gate
from fastserve.server.cells import Cells
from fastserve.server.exposition import metrics_text
from fastserve.server.logs import REQUEST_ID, AccessLog
from fastserve.server.metrics import READ, Meters

__all__ = ["FOLDER_VARIABLE", "LEFT", "OTHER", "Exchange", "Hooks", "Observation"]

FOLDER_VARIABLE = "FASTSERVE_METRICS_DIR"
"""A folder that the processes of a server share. `fastserve serve` makes one; who starts workers otherwise, must."""

METERED = frozenset({READ, "/push", "/write-to-online-store", "/materialize", "/materialize-incremental"})
KNOWN = METERED | {"/health", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"}
OTHER = "other"
"""Paths that are no routes, in the metrics: there is no end to them."""
LEFT = 499
"""The status, in metrics and log, of a request whose client left before the answer."""

NAME = re.compile(r"[\x21-\x7e]{1,128}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Head(Protocol):
    """What the headers of a request say.

    Attributes:
        request_id: X-Request-Id.
        traceparent: likewise.
        credential: the key that it carries; see `credential_of`.
    """

    request_id: str | None
    traceparent: str | None
    credential: str | None


@dataclass(frozen=True)
class Observation:
    """How a server is observed.

    Attributes:
        folder: where its processes count; without one, and without FASTSERVE_METRICS_DIR, each counts for itself.
        access_log: a line per request goes to stdout.
        log_format: text or json.
        listener: a listening socket for Prometheus, beside GET /metrics.
    """

    folder: Path | None = None
    access_log: bool = False
    log_format: str = "text"
    listener: socket.socket | None = None


class Exchange:
    """One request and its answer.

    Attributes:
        arrived: time.monotonic_ns() at its beginning.
        id: given by the client in X-Request-Id, or made.
        trace: its traceparent, or "".
        key: the name of the key that it carries, or "".
    """

    __slots__ = ("arrived", "client", "id", "key", "method", "path", "trace")

    def __init__(self, method: str, path: str, client: str, request_id: str, trace: str):
        self.arrived = time.monotonic_ns()
        self.method = method
        self.path = path
        self.client = client
        self.id = request_id
        self.trace = trace
        self.key = ""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What the answer's headers must have."""
        found = [(b"x-request-id", self.id.encode())]
        if self.trace:
            found.append((b"traceparent", self.trace.encode()))
        return found


class Hooks:
    """What one process does around its requests.

    Raises:
        ConfigError, NotSupportedError: the section `auth`; see `Gate`.
    """

    def __init__(self, config: Config, observation: Observation | None = None):
        observation = observation or Observation()
        self.gate = Gate(config)
        shared = observation.folder or os.environ.get(FOLDER_VARIABLE)
        settings: Mapping[str, Any] = config.feature_server.get("metrics") or {}
        self.meters = Meters(Cells(Path(shared) if shared else None), settings)
        self.access_log = AccessLog(observation.log_format) if observation.access_log else None
        self._prefix = os.urandom(4).hex()
        self._numbers = itertools.count(1)

    def begin(self, method: str, path: str, head: Head, client: str) -> Exchange:
        """Return the Exchange of a request whose headers are there."""
        given, trace = head.request_id, head.traceparent
        request_id = given if given and NAME.fullmatch(given) else f"{self._prefix}-{next(self._numbers):x}"
        return Exchange(method, path, client, request_id, trace if trace and TRACEPARENT.fullmatch(trace) else "")

    def check(self, exchange: Exchange, head: Head) -> None:
        """Raise AuthenticationError or FeastPermissionError if whoever asks may not."""
        if not self.gate.is_open:
            exchange.key = self.gate.pass_or_raise(exchange.path, head.credential)

    def end(self, exchange: Exchange | LaneRead, status: int, size: int) -> None:
        """Count and log an answer: its status, 499 if the client left before it, and the bytes of its body."""
        seconds = (time.monotonic_ns() - exchange.arrived) / 1e9
        path = exchange.path if exchange.path in KNOWN else OTHER
        # Reads have meters of their own, with more labels.
        self.meters.answered(path, status, seconds if path in METERED and path != READ else None)
        self.log(exchange, status, size)

    def log(self, exchange: Exchange | LaneRead, status: int, size: int) -> None:
        """Log an answer that is counted already."""
        if self.access_log is not None:
            self.access_log.write(
                exchange.client,
                exchange.method,
                exchange.path,
                status,
                size,
                (time.monotonic_ns() - exchange.arrived) / 1e6,
                exchange.id,
                exchange.key,
                exchange.trace,
            )

    def lane(self, path: str, heads: dict[bytes, KnownHead], max_entities: int) -> Lane | None:
        """Return a Lane for the reads of a path; None if not everybody may read."""
        if not self.gate.is_open:
            return None
        meters = self.meters
        return Lane(heads, meters.read, meters.response(path, 200), path, self._prefix, self._numbers, max_entities)

    @contextlib.contextmanager
    def about(self, exchange: Exchange | LaneRead) -> Iterator[None]:
        """What is logged inside is about this request."""
        token = REQUEST_ID.set(exchange.id)
        try:
            yield
        finally:
            REQUEST_ID.reset(token)

    def metrics(self) -> str:
        """Return the metrics of all processes, as Prometheus reads them."""
        return metrics_text(self.meters.cells.read())

    def close(self) -> None:
        """Write what is left of the access log, and let go of the files of metrics."""
        if self.access_log is not None:
            self.access_log.flush()
        self.meters.close()
