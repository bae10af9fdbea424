"""The HTML report of one file of results: the tables of bench/README.md and plots of the same figures."""

from __future__ import annotations

import itertools
from typing import Any

from headline import figures, ratios
from modes import CDF

from fastserve.charts import Series, bars, lines, page, table

__all__ = ["report"]

LABELS = {
    "floor regular": "floor",
    "floor packed": "floor, packed",
    "floor feast": "floor, Feast's vectors",
    "fastserve regular": "fastserve",
    "fastserve feast": "fastserve, Feast's vectors",
    "fastserve packed": "fastserve, packed",
    "feast regular": "Feast",
    "feast feast": "Feast, precomputed",
}


def report(results: dict[str, Any]) -> str:
    """Return the page."""
    machine = results["machine"]
    note = ". ".join(f"{name}: {value}" for name, value in machine.items())
    found = results.get("modes", {})
    sections = [("Headline", headline_parts(results))]
    for mode, one in found.items():
        sections.append(
            (mode, [latency_plot(mode, one), *cdf_plots(mode, one), *concurrency_plots(mode, one), latency_table(one)])
        )
    if "load" in results:
        sections.append(("Latency under load, constant arrival rate", load_plots(results["load"])))
    if "scaling" in results:
        sections.append(("Scaling", scaling_plots(results["scaling"])))
    if "cost" in results:
        sections.append(("Cost", cost_parts(results["cost"])))
    return page(f"fastserve beside Feast {machine['feast']}", sections, note)


def headline_parts(results: dict[str, Any]) -> list[str]:
    if not (found := figures(results)):
        return []
    rows = [
        [label, *(f"{x * 1e3:,.3f}" for x in (feast, ours, floor)), f"{feast / ours:,.1f}"]
        for label, feast, ours, floor in found
    ]
    plot = bars("Speed-up over Feast, median latency", ratios(results), "times", log=True)
    return [plot, table(["median, ms", "Feast", "fastserve", "floor", "Feast / fastserve"], rows)]


def latency_plot(mode: str, one: dict[str, Any]) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    for rows, cases in one["latency"].items():
        for name, case in cases.items():
            series.setdefault(LABELS[name], []).append((float(rows), case["p50"] * 1e3))
    return lines(f"{mode}: median latency by rows", series, "rows of a request", "ms")


def cdf_plots(mode: str, one: dict[str, Any]) -> list[str]:
    plots = []
    for rows, cases in one["latency"].items():
        series = {
            LABELS[name]: [(seconds * 1e3, share) for seconds, share in zip(case["cdf"], CDF, strict=True)]
            for name, case in cases.items()
            if "cdf" in case
        }
        if series:
            plots.append(lines(f"{mode}, {rows} rows: share of calls below", series, "ms", "share", log_y=False))
    return plots


def concurrency_plots(mode: str, one: dict[str, Any]) -> list[str]:
    plots = []
    for rows, by_workers in one["load"].items():
        series: dict[str, list[tuple[float, float]]] = {}
        for workers, cases in by_workers.items():
            for name, case in cases.items():
                series.setdefault(LABELS[name], []).append((float(workers), max(case["rate"], 0.1)))
        if len(by_workers) > 1:
            plots.append(
                lines(f"{mode}, {rows} rows: throughput by concurrency", series, "concurrent workers", "reads/s")
            )
        else:
            rates = {label: points[0][1] for label, points in series.items()}
            plots.append(
                bars(f"{mode}, {rows} rows, {next(iter(by_workers))} workers: reads/s", rates, "reads/s", log=True)
            )
    return plots


def latency_table(one: dict[str, Any]) -> str:
    rows = [
        [
            f"{LABELS[name]}, {n} rows",
            *(f"{case[kind] * 1e3:,.3f}" for kind in ("p50", "p95", "p99", "mean")),
            str(case["n"]),
        ]
        for n, cases in one["latency"].items()
        for name, case in cases.items()
    ]
    return table(["ms", "p50", "p95", "p99", "mean", "calls"], rows)


def load_plots(found: dict[str, Any]) -> list[str]:
    plots = []
    for case, one in found.items():
        series: Series = {
            kind: [(float(share) * 100, at[kind] * 1e3) for share, at in one["shares"].items()]
            for kind in ("p50", "p99", "p99.9")
        }
        title = f"{case}: latency by load; saturation is {one['saturation']:,.0f} requests/s"
        plots.append(lines(title, series, "% of saturation", "ms", log_x=False))
    return plots


def scaling_plots(found: dict[str, Any]) -> list[str]:
    plots = []
    for what in ("rows", "features", "entities"):
        series: dict[str, list[tuple[float, float]]] = {}
        for (number, one), name in itertools.product(found[what].items(), ("floor", "fastserve", "feast")):
            if name in one:
                series.setdefault(name, []).append((float(number), one[name] * 1e3))
        if series:
            plots.append(lines(f"Median latency by {what}", series, what, "ms"))
    for rows in next(iter(found["workers"].values()), {}):
        rates = {f"{n} workers": by_rows[rows] for n, by_rows in found["workers"].items()}
        plots.append(bars(f"REST, {rows} rows: requests/s by workers", rates, "requests/s"))
    return plots


def cost_parts(found: dict[str, Any]) -> list[str]:
    plots = [
        bars(
            f"CPU seconds of a million reads of {n} rows, server",
            {LABELS[c]: one["server_cpu"] * 1e6 for c, one in cases.items()},
            "s",
            log=True,
        )
        for n, cases in found["reads"].items()
    ]
    plots.append(bars("Memory of a worker, MiB", {LABELS[c]: size for c, size in found["memory"].items()}, "MiB"))
    if found["import"]:
        plots.append(bars("Seconds to import", found["import"], "s", log=True))
    return plots
