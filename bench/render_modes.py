"""Renders the access modes, latency under load, scaling and cost as Markdown; see render.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["PAIRS", "cost_section", "load_section", "modes_section", "scaling_section", "table"]

PAIRS = {
    "fastserve regular": ("floor regular", "feast regular"),
    "fastserve feast": ("floor feast", "feast feast"),
    "fastserve packed": ("floor packed", "feast feast"),
}
"""Case -> its floor, and that of Feast which does the same."""

NAMES = {
    "fastserve regular": "regular",
    "fastserve feast": "precomputed, Feast's format",
    "fastserve packed": "precomputed, packed",
}

MODES = """
## Access modes, all {features} features

Each of {n} calls, in rounds of all subjects in turn. The floor of the direct and the asynchronous SDK is the same
command bytes over a bare socket; that of the others the same bytes exchanged with an HTTP server that has the answer
ready. *Precomputed* is compared with Feast's own precomputed services. Servers and in-process SDKs have one core, Redis
and HTTP clients the other. Milliseconds.{fewer}
"""


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are numbers."""
    lines = [list(headers), ["---"] + ["---:"] * (len(headers) - 1), *map(list, rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}" if seconds < 0.1 else f"{seconds * 1e3:,.1f}"


def times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 20 else f"{ratio:.1f}"


def modes_section(found: dict[str, Any], features: object) -> str:
    counts = {case["n"] for mode in found.values() for rows in mode["latency"].values() for case in rows.values()}
    most = max(counts)
    fewer = (
        f" Feast's slow calls are fewer, at least {min(counts)} (results.json has the number of each)."
        if min(counts) < most
        else ""
    )
    text = MODES.format(n=most, fewer=fewer, features=features)
    headers = [
        "rows",
        "floor p50",
        "p50",
        "x floor",
        "p95",
        "p99",
        "mean",
        "Feast p50",
        "p95",
        "p99",
        "mean",
        "Feast / fastserve, p50",
        "p99",
    ]
    for mode, one in found.items():
        for case, name in NAMES.items():
            rows = list(latency_rows(one["latency"], case))
            if rows:
                text += f"\n**{mode}, {name}**\n\n" + table(headers, rows)
    return text + speed_up_section(found) + throughput_section(found)


def latency_rows(latency: dict[str, Any], case: str) -> Iterator[list[str]]:
    floor_name, feast_name = PAIRS[case]
    for rows, found in latency.items():
        if case not in found or feast_name not in found:
            continue
        ours, feast, floor = found[case], found[feast_name], found.get(floor_name)
        yield [
            rows,
            *(
                (ms(floor["p50"]), ms(ours["p50"]), f"{ours['p50'] / floor['p50']:.2f}")
                if floor
                else ("", ms(ours["p50"]), "")
            ),
            *(ms(ours[name]) for name in ("p95", "p99", "mean")),
            *(ms(feast[name]) for name in ("p50", "p95", "p99", "mean")),
            *(times(feast[name] / ours[name]) for name in ("p50", "p99")),
        ]


def speed_up_section(found: dict[str, Any]) -> str:
    """What precomputing gains, in Feast and in fastserve."""
    rows = []
    for mode, one in found.items():
        for n, cases in one["latency"].items():
            if {"feast regular", "feast feast", "fastserve packed"} <= cases.keys():
                p50 = {name: case["p50"] for name, case in cases.items()}
                rows.append(
                    [
                        f"{mode}, {n} rows",
                        times(p50["feast regular"] / p50["feast feast"]),
                        times(p50["fastserve regular"] / p50["fastserve packed"]),
                        times(p50["feast regular"] / p50["fastserve packed"]),
                    ]
                )
    headers = ["p50, regular / precomputed", "Feast", "fastserve", "Feast regular / fastserve packed"]
    return "\n## What precomputing gains\n\n" + table(headers, rows) if rows else ""


def throughput_section(found: dict[str, Any]) -> str:
    rows = []
    for mode, one in found.items():
        for n, by_workers in one["load"].items():
            for workers, cases in by_workers.items():
                for case, name in NAMES.items():
                    feast = cases.get(PAIRS[case][1])
                    if case in cases and feast:
                        ours, floor = cases[case], cases.get(PAIRS[case][0])
                        cells = [
                            f"{floor['rate']:,.0f}" if floor else "",
                            f"{ours['rate']:,.0f}",
                            f"{feast['rate']:,.1f}",
                        ]
                        ratios = [
                            times(ours["rate"] / feast["rate"]),
                            times(feast["cpu"] / ours["cpu"]) if ours["cpu"] else "",
                        ]
                        rows.append([f"{mode}, {name}", n, workers, *cells, *ratios])
    headers = [
        "mode",
        "rows",
        "workers",
        "floor, reads/s",
        "fastserve",
        "Feast",
        "fastserve / Feast",
        "CPU of a read: Feast / fastserve",
    ]
    note = "\nThreads of one process, tasks of one event loop, or connections to one server process.\n\n"
    return "\n## Throughput by concurrent workers\n" + note + table(headers, rows)


def load_section(found: dict[str, Any]) -> str:
    """Latency at a constant arrival rate."""
    rows = []
    for case, one in found.items():
        for share, at in one["shares"].items():
            cells = [
                f"{at['due']:,.0f}",
                ms(at["p50"]),
                ms(at["p99"]),
                ms(at["p99.9"]),
                f"{at['p99'] / at['p50']:.1f}",
                ms(at["late"]),
            ]
            rows.append([f"{case}, {float(share):.0%} of {one['saturation']:,.0f}/s", *cells])
    headers = ["server, load", "requests/s", "p50, ms", "p99", "p99.9", "p99 / p50", "sent late, p99"]
    note = (
        "\nRequests arrive at a constant rate, whatever the server does, over as many connections as that takes, and "
        "latency counts from the moment at which a request was due: a pause meets all who came meanwhile. Every "
        "answer is compared with the right one. The client shares its core with Redis, which runs whenever it wants "
        "to; by how much the client sent late is part of the latency. Saturation is 64 connections without a pause.\n\n"
    )
    return "\n## Latency under load, REST\n" + note + table(headers, rows)


def cost_section(found: dict[str, Any]) -> str:
    """CPU, bytes, memory and time to start."""
    rows = []
    for n, cases in found["reads"].items():
        for case, one in cases.items():
            cpu = (f"{one[name] * 1e6:,.0f}" for name in ("server_cpu", "redis_cpu"))
            rows.append(
                [f"{case}, {n} rows", *cpu, *(f"{one[name] * 1e6 / 2**30:,.1f}" for name in ("redis_in", "redis_out"))]
            )
    headers = ["a million reads by REST", "CPU s, server", "CPU s, Redis", "GiB to Redis", "GiB from Redis"]
    text = "\n## Cost\n\n" + table(headers, rows)
    memory = [[case, f"{size:,.0f}"] for case, size in found["memory"].items()]
    text += "\n" + table(["a server that has served these", "MiB resident"], memory)
    if found["import"]:
        text += "\n" + table(["", "import, s"], [[name, f"{seconds:.2f}"] for name, seconds in found["import"].items()])
    return text


def scaling_section(found: dict[str, Any]) -> str:
    """How cost grows."""
    text = "\n## Scaling\n\nMedians of the direct SDK, regular; the number of rows is 10 unless it is what varies.\n"
    workers = [[n, *(f"{rate:,.0f}" for rate in by_rows.values())] for n, by_rows in found["workers"].items()]
    text += "\n" + table(["workers of a server", "requests/s, 1 row", "100 rows"], workers)
    for what in ("rows", "features", "entities"):
        rows = [scaling_row(n, one) for n, one in found[what].items()]
        more = ["bytes of Redis per entity"] if what == "entities" else []
        if rows:
            text += "\n" + table([what, "floor, ms", "fastserve", "x floor", "Feast", "Feast / fastserve", *more], rows)
    return text


def scaling_row(number: str, one: dict[str, float]) -> list[str]:
    feast = one.get("feast")
    cells = [f"{int(number):,}", ms(one["floor"]), ms(one["fastserve"]), f"{one['fastserve'] / one['floor']:.2f}"]
    cells += [ms(feast), times(feast / one["fastserve"])] if feast else ["", ""]
    return cells + ([f"{one['bytes']:,.0f}"] if "bytes" in one else [])
