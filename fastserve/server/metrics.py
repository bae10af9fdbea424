"""What the server counts: the list of its metrics, and the Meters that every part of the server adds to.

Names, labels and bounds are Feast's where Feast has the metric; bounds below Feast's lowest are added, since a read
takes less than that here. What a read adds to is compiled (`_core.ReadMeter`); all else may take a little longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastserve._core import Counter, Histogram, PlanMeter, ReadMeter, ReadPlan
from fastserve.server.cells import Cells

__all__ = ["FAMILIES", "READ", "Family", "Meters"]

READ = "/get-online-features"
SECONDS = 10**9
MILLIONTHS = 10**6

FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025)
LATENCY = (*FAST, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TRANSFORMATION = (*FAST[:3], 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
MATERIALIZATION = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
STATUSES = ("present", "null_value", "not_found", "outside_max_age")


@dataclass(frozen=True)
class Family:
    """One metric.

    Attributes:
        kind: counter, gauge or histogram.
        labels: their names, in order.
        scale: how many of what the cells count make 1 of what is shown: times are kept in nanoseconds.
        bounds: of a histogram.
        over: how a gauge is put together from the processes that run: sum, max, or pid, which shows each.
        category: of Feast's `feature_server: metrics:`, which can switch it off.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    scale: int = 1
    bounds: tuple[float, ...] = ()
    over: str = "sum"
    category: str = "request"


def _seconds(
    name: str, text: str, bounds: tuple[float, ...], labels: tuple[str, ...] = (), category: str = "request"
) -> Family:
    return Family(name, "histogram", text, labels, SECONDS, bounds, category=category)


def _gauge(
    name: str, text: str, labels: tuple[str, ...] = (), scale: int = 1, over: str = "sum", category: str = "request"
) -> Family:
    return Family(name, "gauge", text, labels, scale, over=over, category=category)


def _counter(name: str, text: str, labels: tuple[str, ...] = (), category: str = "request") -> Family:
    return Family(name, "counter", text, labels, category=category)


_ALL = [
    # Feast's
    _counter("feast_feature_server_request_total", "Requests by outcome.", ("endpoint", "status")),
    _seconds(
        "feast_feature_server_request_latency_seconds",
        "From the arrival of a request to its answer.",
        LATENCY,
        ("endpoint", "feature_count", "feature_view_count"),
    ),
    _counter("feast_online_features_request_total", "Reads.", category="online_features"),
    Family(
        "feast_online_features_entity_count",
        "histogram",
        "Entity rows of a read.",
        bounds=(1, 5, 10, 25, 50, 100, 250, 500, 1000),
        category="online_features",
    ),
    _seconds(
        "feast_feature_server_online_store_read_duration_seconds",
        "From asking the online store to its whole answer.",
        LATENCY,
        category="online_features",
    ),
    _seconds(
        "feast_feature_server_transformation_duration_seconds",
        "One run of an on-demand feature view for a read.",
        TRANSFORMATION,
        ("odfv_name", "mode"),
        category="online_features",
    ),
    _counter("feast_push_request_total", "Pushes.", ("push_source", "mode"), category="push"),
    _counter(
        "feast_materialization_result_total",
        "Materializations of a view.",
        ("feature_view", "status"),
        category="materialization",
    ),
    _seconds(
        "feast_materialization_duration_seconds",
        "One materialization request of a view.",
        MATERIALIZATION,
        ("feature_view",),
        category="materialization",
    ),
    _gauge(
        "feast_feature_freshness_seconds",
        "Age of the end of the latest materialized window.",
        ("feature_view", "project"),
        SECONDS,
        over="max",
        category="freshness",
    ),
    _gauge(
        "feast_feature_server_cpu_usage",
        "CPU of a worker in percent.",
        scale=MILLIONTHS,
        over="pid",
        category="resource",
    ),
    _gauge(
        "feast_feature_server_memory_usage",
        "Resident memory of a worker in percent of the machine's.",
        scale=MILLIONTHS,
        over="pid",
        category="resource",
    ),
    # ours
    _counter(
        "fastserve_feature_values_total",
        "Values answered, by status.",
        ("feature_view", "status"),
        category="online_features",
    ),
    _counter("fastserve_http_responses_total", "Answers by HTTP status.", ("endpoint", "code")),
    _gauge("fastserve_requests_in_flight", "Reads that have arrived and are not answered."),
    _seconds("fastserve_request_queue_seconds", "From the arrival of a read to asking the store.", LATENCY),
    _seconds("fastserve_decode_seconds", "From the store's answer to ours: decoding, on-demand views.", LATENCY),
    _seconds(
        "fastserve_event_loop_lag_seconds", "How late a timer of the event loop is; looked at twice a second.", LATENCY
    ),
    _gauge("fastserve_plan_cache_size", "Request shapes that are compiled."),
    _counter("fastserve_plan_compilations_total", "Request shapes compiled, also when the registry changed."),
    _counter("fastserve_registry_refresh_failures_total", "Looks at the registry that failed."),
    _gauge("fastserve_store_connections", "Connections to the online store; the idle ones are open too.", ("state",)),
    _gauge(
        "fastserve_store_reads", "Reads that the online store has not answered, or that wait to be sent.", ("state",)
    ),
    _gauge("fastserve_worker_resident_bytes", "Resident memory of a worker.", over="pid", category="resource"),
    _gauge("fastserve_workers", "Worker processes that run."),
]
FAMILIES = {family.name: family for family in _ALL}


class Meters:
    """What one process counts; `text` of `exposition` shows the sums over all processes.

    Args:
        cells: where it is kept.
        settings: the `feature_server: metrics:` section: categories that are false are left out, and
            `feature_count_bins`.

    Attributes:
        read: what every read adds to.
    """

    def __init__(self, cells: Cells, settings: Mapping[str, Any] | None = None):
        self.cells = cells
        self._settings = settings or {}
        self._bins: Sequence[int] = self._settings.get("feature_count_bins") or (10, 50, 200)
        self._known: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._responses: dict[tuple[str, int], Counter] = {}
        self.read = ReadMeter(
            self._plan_meter,
            requests=self.counter("feast_online_features_request_total"),
            succeeded=self.counter("feast_feature_server_request_total", READ, "success"),
            failed=self.counter("feast_feature_server_request_total", READ, "error"),
            in_flight=self.counter("fastserve_requests_in_flight"),
            entities=self.histogram("feast_online_features_entity_count"),
            queue=self.histogram("fastserve_request_queue_seconds"),
            store=self.histogram("feast_feature_server_online_store_read_duration_seconds"),
            decode=self.histogram("fastserve_decode_seconds"),
            failed_latency=self.histogram("feast_feature_server_request_latency_seconds", READ, "", ""),
        )

    # --- any metric ---

    def counter(self, name: str, *labels: str) -> Counter | None:
        """Return the Counter of a counter or gauge with these label values, or None if it is switched off."""
        found: Counter | None = self._find(name, labels, 1, Counter)
        return found

    def histogram(self, name: str, *labels: str) -> Histogram | None:
        """Return the Histogram with these label values, or None if it is switched off."""
        family = FAMILIES[name]
        bounds = [round(bound * family.scale) for bound in family.bounds]
        found: Histogram | None = self._find(name, labels, len(bounds) + 2, partial(Histogram, bounds=bounds))
        return found

    def _find(self, name: str, labels: tuple[str, ...], n: int, kind: Callable[..., Any]) -> Any:
        key = name, labels
        if key not in self._known:
            family = FAMILIES[name]
            is_on = self._settings.get(family.category, True)
            named = tuple(zip(family.labels, labels, strict=True))
            self._known[key] = kind(*self.cells.series(name, named, n)) if is_on else None
        return self._known[key]

    def add(self, name: str, *labels: str, n: int = 1) -> None:
        """Add to a counter."""
        if (counter := self.counter(name, *labels)) is not None:
            counter.add(n)

    def set(self, name: str, *labels: str, value: float) -> None:
        """Set a gauge, or a counter that something else counts, in the unit that the metric shows."""
        if (counter := self.counter(name, *labels)) is not None:
            counter.set(round(value * FAMILIES[name].scale))

    def observe(self, name: str, *labels: str, value: float) -> None:
        """Count a value in a histogram, in the unit that the metric shows."""
        if (histogram := self.histogram(name, *labels)) is not None:
            histogram.observe(round(value * FAMILIES[name].scale))

    # --- routes ---

    def answered(self, endpoint: str, status: int, seconds: float | None = None) -> None:
        """Count an answer of a route; with `seconds`, of one that is not metered as a read."""
        counter = self._responses.get((endpoint, status)) or self.response(endpoint, status)
        if counter is not None:
            counter.add()
        if seconds is not None:
            outcome = "success" if status < 400 else "error"
            self.add("feast_feature_server_request_total", endpoint, outcome)
            self.observe("feast_feature_server_request_latency_seconds", endpoint, "", "", value=seconds)

    def response(self, endpoint: str, status: int) -> Counter | None:
        """Return the Counter of answers of a route with this status, or None if it is switched off."""
        counter = self.counter("fastserve_http_responses_total", endpoint, str(status))
        if counter is not None:
            self._responses[endpoint, status] = counter
        return counter

    def pushed(self, source: str, mode: str) -> None:
        """Count a push."""
        self.add("feast_push_request_total", source, mode)

    def materialized(self, views: Iterable[str], succeeded: bool, seconds: float) -> None:
        """Count a materialization of views that were loaded together."""
        for view in views:
            self.add("feast_materialization_result_total", view, "success" if succeeded else "failure")
            self.observe("feast_materialization_duration_seconds", view, value=seconds)

    def transformed(self, view: str, mode: str, nanoseconds: int) -> None:
        """Count a run of an on-demand feature view."""
        name = "feast_feature_server_transformation_duration_seconds"
        if (histogram := self.histogram(name, view, mode)) is not None:
            histogram.observe(nanoseconds)

    # --- plans ---

    def _plan_meter(self, plan: ReadPlan, owner: ReadMeter) -> PlanMeter:
        views: dict[str, list[int]] = {}
        for index, slot in enumerate(plan.outputs):
            views.setdefault(slot.label.rpartition(":")[0], []).append(index)
        latency = self.histogram(
            "feast_feature_server_request_latency_seconds", READ, self._bin(len(plan.outputs)), str(len(views))
        )
        stored = {view: found for view, found in views.items() if plan.outputs[found[0]].group >= 0}
        metered = [(indexes, self._statuses(view)) for view, indexes in stored.items()]
        return PlanMeter(plan, owner, latency, [(indexes, four) for indexes, four in metered if four])

    def _statuses(self, view: str) -> list[Counter]:
        counters = [self.counter("fastserve_feature_values_total", view, status) for status in STATUSES]
        return [counter for counter in counters if counter is not None]

    def _bin(self, count: int) -> str:
        """Return the bin of a number of features, as Feast writes it: 0, 1-10, 11-50, 51-200, 201+."""
        if count == 0:
            return "0"
        lowest = 1
        for highest in self._bins:
            if count <= highest:
                return f"{lowest}-{highest}"
            lowest = highest + 1
        return f"{lowest}+"

    def close(self) -> None:
        """Let go of the files; what was counted stays."""
        self.cells.close()
