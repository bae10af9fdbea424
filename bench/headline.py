"""The few figures that README.md shows, as a table and as a plot."""

from __future__ import annotations

from typing import Any

from render_modes import PAIRS, times

__all__ = ["headline", "headline_plot", "ratios"]

PLOT = "bench/headline.svg"
ROWS = (
    ("Direct SDK", "fastserve regular", "1", "SDK, 1 row"),
    ("Direct SDK", "fastserve regular", "100", "SDK, 100 rows"),
    ("Direct SDK", "fastserve packed", "1", "SDK, precomputed, 1 row"),
    ("Direct SDK", "fastserve packed", "100", "SDK, precomputed, 100 rows"),
    ("Async SDK", "fastserve regular", "1", "async SDK, 1 row"),
    ("Remote SDK", "fastserve regular", "1", "remote SDK, 1 row"),
    ("REST", "fastserve regular", "1", "REST, 1 row"),
    ("REST", "fastserve regular", "100", "REST, 100 rows"),
    ("REST, service", "fastserve packed", "1", "REST, precomputed, 1 row"),
    ("REST, service", "fastserve packed", "100", "REST, precomputed, 100 rows"),
)


def figures(results: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """Return (what, seconds of Feast, of fastserve, of the floor), of what was measured."""
    if "modes" not in results:
        found = results.get("sdk", {}).get("a core each", {})
        return [
            (f"SDK, {n} row{'s' * (n != '1')}", *(found[n][name]["wall"] for name in ("feast", "fastserve", "floor")))
            for n in found
        ]
    rows = []
    for mode, case, n, label in ROWS:
        cases = results["modes"].get(mode, {}).get("latency", {}).get(n, {})
        floor, feast = PAIRS[case]
        if {case, floor, feast} <= cases.keys():
            rows.append((label, *(cases[name]["p50"] for name in (feast, case, floor))))
    return rows


def ratios(results: dict[str, Any]) -> dict[str, float]:
    """Return what -> how many times faster than Feast."""
    return {label: feast / ours for label, feast, ours, _ in figures(results)}


def headline(results: dict[str, Any]) -> str:
    """Return the block of README.md."""
    machine = results["machine"]
    lines = ["| median, ms | Feast | fastserve | times | floor |\n", "| --- | ---: | ---: | ---: | ---: |\n"]
    for label, feast, ours, floor in figures(results):
        cells = (f"{feast * 1e3:,.2f}", f"{ours * 1e3:,.3f}", times(feast / ours), f"{floor * 1e3:,.3f}")
        lines.append(f"| {label} | {' | '.join(cells)} |\n")
    told = f"{machine['date']}, {machine['cpu']}, redis-server {machine['redis']} on loopback, Feast {machine['feast']}"
    return (
        "".join(lines)
        + f"\n![how many times faster than Feast]({PLOT})\n\n"
        + f"{machine.get('features', 48)} features; {told}; `{machine.get('command', 'make bench')}`. "
        + "The floor is the same bytes over a bare socket.\n"
    )


def headline_plot(results: dict[str, Any]) -> str:
    """Return the plot, an SVG file."""
    from fastserve.charts import bars

    return bars("How many times faster than Feast, median", ratios(results), "times", log=True)
