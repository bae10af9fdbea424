"""Measures reads of a store as it is: how long they take, the floor of the store, and where the time goes.

Nothing is written. The floor is what no client can beat: the same command bytes sent over a bare socket, and as many
bytes received, nothing parsed. SQLite has none: it is read within the process.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastserve import online
from fastserve._core import Batch, ReadPlan
from fastserve.config import RedisConfig
from fastserve.errors import NotSupportedError, StoreError
from fastserve.feature_store import FeatureStore
from fastserve.response import OnlineResponse
from fastserve.stores.redis_wire import Connection

__all__ = ["Amount", "Found", "Latency", "measure"]

STAGES = ("plan", "wait", "decode", "emit")
RECEIVE_BYTES = 1 << 17
clock = time.perf_counter

Row = dict[str, Any]
Features = Any


@dataclass(frozen=True)
class Amount:
    """How much is measured.

    Attributes:
        calls: of each kind, after `warm_up` more.
        rounds: that they are spread over, in turn with the other kinds.
        workers: threads that read at the same time, for `seconds`; 0 leaves that out.
    """

    calls: int = 200
    warm_up: int = 50
    rounds: int = 5
    workers: int = 10
    seconds: float = 1.0
    full_feature_names: bool = False


@dataclass(frozen=True)
class Latency:
    """Seconds of single calls."""

    p50: float
    p95: float
    p99: float
    mean: float

    @classmethod
    def of(cls, taken: Sequence[float]) -> Latency:
        ordered = sorted(taken)
        p50, p95, p99 = (ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in (0.5, 0.95, 0.99))
        return cls(p50, p95, p99, statistics.fmean(taken))


@dataclass(frozen=True)
class Found:
    """What was measured of one request shape.

    Attributes:
        name: what was read.
        rows: of a request.
        n_features: of a row.
        read: `get_online_features(...).to_dict()`.
        floor: of the store; None if it has none.
        stages: seconds of each of STAGES, medians: compiling nothing, `plan` looks the plan up and frames the commands;
            `wait` is for the store; `decode` scans its replies, checks vectors and computes on-demand views; `emit`
            makes the dict. Of SQLite, `wait` holds the scanning too.
        present: the share of values that are there.
        rate: reads per second of all workers; None if left out.
        taken: seconds of each read, in order of size.
    """

    name: str
    rows: int
    n_features: int
    read: Latency
    floor: Latency | None
    stages: dict[str, float]
    present: float
    rate: float | None
    taken: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values, without the single calls."""
        found = asdict(self)
        del found["taken"]
        return found


def measure(store: FeatureStore, name: str, features: Features, rows: Sequence[Row], amount: Amount) -> Found:
    """Measure reads of these rows, all of them in each.

    Raises:
        NotSupportedError: the store is another server; and all that `get_online_features` raises.
    """
    if not store.reads_in_steps:
        raise NotSupportedError("online_store.type remote: measure where the server and its store are")
    names, rows = amount.full_feature_names, list(rows)
    plan = store.plan(features, names)
    answer = store.get_online_features(features, rows, names)
    with _Wire(store, plan) as wire:
        kinds: dict[str, Callable[[], Any]] = {
            "read": lambda: store.get_online_features(features, rows, names).to_dict(),
            "stages": lambda: wire.stages(store, features, rows, names),
        }
        if wire.sock is not None:
            kinds["floor"] = wire.floor(online.begin(plan, rows))
        taken, stages = _in_turn(kinds, amount)
    return Found(
        name=name,
        rows=len(rows),
        n_features=len(plan.outputs),
        read=Latency.of(taken["read"]),
        floor=Latency.of(taken["floor"]) if "floor" in taken else None,
        stages=dict(zip(STAGES, map(statistics.median, zip(*stages, strict=True)), strict=True)),
        present=_present(answer),
        rate=_rate(kinds["read"], amount) if amount.workers else None,
        taken=tuple(sorted(taken["read"])),
    )


def _in_turn(
    kinds: dict[str, Callable[[], Any]], amount: Amount
) -> tuple[dict[str, list[float]], list[tuple[float, ...]]]:
    """Make the calls, round by round; return kind -> seconds of each, and what those of "stages" returned."""
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    stages: list[tuple[float, ...]] = []
    for call in kinds.values():
        for _ in range(amount.warm_up):
            call()
    for _ in range(amount.rounds):
        for kind, call in kinds.items():
            for _ in range(-(-amount.calls // amount.rounds)):
                start = clock()
                result = call()
                taken[kind].append(clock() - start)
                if kind == "stages":
                    stages.append(result)
    return taken, stages


def _present(answer: OnlineResponse) -> float:
    statuses = [status for column in answer.statuses.values() for status in column]
    return sum(str(status) == "PRESENT" for status in statuses) / len(statuses) if statuses else 1.0


def _rate(call: Callable[[], Any], amount: Amount) -> float:
    counts, errors = [0] * amount.workers, list[BaseException]()
    end = clock() + amount.seconds

    def work(number: int) -> None:
        try:
            while clock() < end:
                call()
                counts[number] += 1
        except BaseException as exc:
            errors.append(exc)

    start = clock()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(amount.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts) / (clock() - start)


class _Wire:
    """A connection of its own to Redis, of which the socket is used bare; without one for other stores."""

    def __init__(self, store: FeatureStore, plan: ReadPlan):
        options = store.config.online_store
        self._connection = Connection(options.connection) if isinstance(options, RedisConfig) and plan.groups else None
        self._store = store._store
        self.sock: socket.socket | None = None

    def __enter__(self) -> _Wire:
        if self._connection is not None:
            self._connection.open()
            self.sock = self._connection.bare()
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def stages(self, store: FeatureStore, features: Features, rows: list[Row], names: bool) -> tuple[float, ...]:
        """Make one read step by step, and return the seconds of each of STAGES."""
        start = clock()
        batch = store.begin_read(features, rows, names)
        if self.sock is None:
            begun = clock()
            self._store.read(batch)
            waited, scanned = clock() - begun, 0.0
        else:
            waited, scanned, begun = self._exchange(batch)
        finishing = clock()
        online.finish(batch)  # not `finish_read`: an entity without a vector shall not end the measurement
        response = OnlineResponse(batch)
        emitting = clock()
        response.to_dict()
        return begun - start, waited, scanned + emitting - finishing, clock() - emitting

    def _exchange(self, batch: Batch) -> tuple[float, float, float]:
        """Fill the batch; return the seconds of waiting and of scanning, and when the first commands were framed."""
        waited = scanned = 0.0
        begun = None
        while (commands := batch.commands()) is not None:
            mark = clock()
            begun = begun or mark
            done, data = False, self._first(commands)
            while not done:
                now = clock()
                waited += now - mark
                done = batch.feed(data)
                mark = clock()
                scanned += mark - now
                data = b"" if done else self._more()
        return waited, scanned, begun or clock()

    def _first(self, commands: bytes) -> bytes:
        assert self.sock is not None
        try:
            self.sock.sendall(commands)
        except OSError as exc:
            raise StoreError(f"the store ended the connection: {exc}") from exc
        return self._more()

    def _more(self) -> bytes:
        assert self.sock is not None
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except OSError as exc:
            raise StoreError(f"the store did not answer: {exc}") from exc
        if not data:
            raise StoreError("the store ended the connection")
        return data

    def floor(self, batch: Batch) -> Callable[[], None]:
        """Return what exchanges the bytes of a read, and does nothing else."""
        pieces = list(self._recorded(batch))

        def call() -> None:
            for commands, size in pieces:
                left = size - len(self._first(commands))
                while left > 0:
                    left -= len(self._more())

        return call

    def _recorded(self, batch: Batch) -> Iterator[tuple[bytes, int]]:
        """Fill the batch; yield the commands, piece by piece, and how many bytes answer each."""
        while (commands := batch.commands()) is not None:
            data = self._first(commands)
            size = len(data)
            while not batch.feed(data):
                data = self._more()
                size += len(data)
            yield commands, size
