"""Writes bench/README.md from bench/results.json, so that no figure in it is typed by hand; and the blocks of other pages
that have figures (marked.py), and their plots.

    bench/render.py [--out FOLDER]

With a folder only README.md and report.html there, from the results.json in it.
"""

# ruff: noqa: E501  (the page has tables)

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from goals import goals_section
from headline import PLOT, headline, headline_plot
from marked import replaced
from render_modes import cost_section, load_section, modes_section, scaling_section
from vector_tables import micros, vectors_block, vectors_section

BENCH = Path(__file__).parent
ROOT = BENCH.parent

Block = Callable[[Any], str]
BLOCKS: list[tuple[str, str, Block]] = [
    ("README.md", "headline", headline),
    ("README.md", "vectors", vectors_block),
    ("docs/vectors.md", "vectors", vectors_block),
]
"""Page, name of the block in it, and what renders it."""

HEAD = """\
<!-- Written by bench/render.py from results.json; `make bench` measures anew. -->

# Benchmarks

Measured on {date}, by `{command}`: {cpu}, Python {python}, redis-server {redis} on loopback, Feast {feast}.

A bank's repository of 6 feature views with 8 features each, applied and materialized to Redis by Feast itself (`compare/`).
Each subject runs in a process of its own; rounds are interleaved and the figures are medians over the rounds, so that
noise of the machine meets all alike. Before a figure counts, the answers of both SDKs are compared and must be equal.

**The floor** is the least that any client can take: the same command bytes sent and the same reply bytes read over a bare
socket, nothing parsed.
"""

SDK = """
## `get_online_features(...).to_dict()`, all 48 features
"""

TABLE = """
Client and redis-server have {placement}:

| entities | floor | the same by HMGET | fastserve | x floor | Feast | Feast / fastserve | CPU of a call: floor | fastserve | Feast | Feast / fastserve |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""

SERVING = """
## The server, all 48 features, one worker

wrk on one core beside Redis, the server on the other. CPU is that of the server's processes, in seconds of 1,000 requests. Where the host took more than 1 % of the cores' time away, a measurement was made again, up to three times; the quietest counts.

| entities | connections | fastserve, requests/s | Feast | fastserve / Feast | CPU: fastserve | Feast | Feast / fastserve | p99, ms: fastserve | Feast | Feast / fastserve |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""

SERVING_PACKED = """
The same features from precomputed vectors: packed ones through fastserve, Feast's own through Feast. The echo is fastserve's
server, which takes the same requests apart and answers with ready bytes of the same size.

| entities | connections | packed, requests/s | Feast's | packed / Feast's | share of the echo | CPU: packed | Feast's | Feast's / packed | Feast without vectors / packed | p99, ms: packed | Feast's |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""

SERVING_TAIL = """
To count metrics takes {metrics:.1f} % of the CPU of a request of one entity (median over the numbers of connections), by a
measurement whose noise is larger than that; the instructions that it takes are counted below.

A worker of fastserve is ready (`/readyz` says 200) {ours[ready]:.2f} s after its process was started, Feast's (`/health`) after
{feast[ready]:.1f} s. It has {ours[resident]:.0f} MiB resident after these requests, Feast's {feast[resident]:.0f} MiB.
"""

REMOTE = """
## The remote SDK, all 48 features

`online_store: {type: remote}` against one worker of `fastserve serve`; the plain client is Python's `http.client` on a kept
connection, which sends the same body there and does not look into the JSON that it gets; Feast is its own remote SDK
against `feast serve`, and in the last column fastserve's SDK is against that server too. The client has a core, the
server and Redis share the other.

| entities | plain client | fastserve | x plain | Feast | Feast / fastserve | CPU of a call: fastserve | Feast | Feast / fastserve | fastserve on `feast serve` |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""

ON_DEMAND = """
## On-demand views in Python mode

Three outputs of a view, computed from three stored features of three views and a number of the request, beside the read of
those three features; the function's own time is measured in the same calls. Client and redis-server have a core each.

| entities | regular read | function | on-demand read | x both | CPU: regular | on-demand | x both | Feast | Feast / fastserve |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""

PLUGIN = """
## The plug-in: Feast's own SDK, all 48 features

`online_store: {type: fastserve.feast.OnlineStore}` in the place of `redis`, one registry, one database.

| entities | Feast | with the plug-in | x |
| ---: | ---: | ---: | ---: |
"""

WRITES = """
The floor is the very commands that fastserve sends (EVALSHA of the script that lets only newer rows in), framed beforehand
and pipelined over a bare socket. Materialize reads a Parquet file, picks the latest row of each key, encodes and writes.

While a file of {big:,} rows was materialized, the process grew by {growth:.0f} MiB at its peak, from {idle:.0f} MiB.

The whole command `apply` for {views} views, on the embedded store: {ours[first]:.2f} s the first time and {ours[again]:.2f} s
again with nothing changed; Feast: {feast[first]:.1f} s and {feast[again]:.1f} s.
"""

ASYNC = """
## 64 concurrent reads of one entity: `await get_online_features_async(...)`, `.to_dict()`

One process on one core, redis-server on the other.

| event loop | fastserve, reads/s | p99 | Feast, reads/s | p99 | fastserve / Feast | CPU of a read: Feast / fastserve |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
"""

TAIL = """
Wall-clock time in microseconds. Processes are bound to cores, since a round trip takes three times as long between two cores
as on one; a server on another machine is like a core each. Where one call waits for the answer to another, an idle process
keeps each core awake: how long a virtual machine's core takes to wake up depends on its neighbours. Figures of different runs cannot be compared, only the ratios of one. The plan of this request reads whole hashes (HGETALL), and so does its floor: with
HMGET the floor itself is higher, by what Redis takes to search 54 fields one by one.

## What is here

| path | what |
| --- | --- |
| `run.py` | the driver: `make bench` (a quarter of an hour), `make bench-full` (hours), `make bench ARGS=--smoke` (a minute: does all of it run, are the answers equal); `--only modes` and so on for a part |
| `modes.py`, `load.py`, `cost.py`, `scaling.py`, `places.py` | access modes, latency under load, what reads cost, how cost grows; the databases and servers that these share |
| `reading.py`, `async_reading.py`, `on_demand.py`, `remote.py`, `serving.py`, `writing.py`, `vectors.py`, `harness.py` | more that is measured; what all share |
| `compare.py` | `bench/compare.py OLD NEW`: two files of results side by side |
| `counting.py` | instructions of a request, by callgrind, with and without metrics |
| `plugin.py` | Feast's own SDK, with its Redis store and with `fastserve.feast.OnlineStore` |
| `compare/` | one worker process per subject; what Feast applies and materializes |
| `micro/` | pytest-benchmark: each hot function beside the same work done with protobuf and plain Python (`tests/reference.py`) |
| `render.py`, `goals.py`, `render_modes.py`, `vector_tables.py`, `headline.py`, `marked.py`, `report.py`, `results.json` | this page, those of its figures that other pages show, the HTML report with plots, and the figures |
"""


def row(entities: str, found: dict[str, dict[str, float]]) -> str:
    ours, feast, floor = found["fastserve"], found["feast"], found["floor"]
    cells = [
        entities,
        micros(floor["wall"]),
        micros(found["hmget"]["wall"]) if "hmget" in found else "",
        micros(ours["wall"]),
        f"{ours['wall'] / floor['wall']:.2f}",
        micros(feast["wall"]),
        f"{feast['wall'] / ours['wall']:.0f}",
        micros(floor["cpu"]),
        micros(ours["cpu"]),
        micros(feast["cpu"]),
        f"{feast['cpu'] / ours['cpu']:.0f}",
    ]
    return f"| {' | '.join(cells)} |\n"


def async_row(loop: str, found: dict[str, dict[str, float]]) -> str:
    ours, feast = found["fastserve"], found["feast"]
    cells = [
        loop,
        *(f"{1 / ours['wall']:,.0f}", f"{ours['slowest'] * 1e3:.1f} ms"),
        *(f"{1 / feast['wall']:,.0f}", f"{feast['slowest'] * 1e3:.1f} ms"),
        *(f"{feast['wall'] / ours['wall']:.0f}", f"{feast['cpu'] / ours['cpu']:.0f}"),
    ]
    return f"| {' | '.join(cells)} |\n"


def sdk_section(found: dict[str, Any]) -> str:
    tables = (
        TABLE.format(placement=where) + "".join(row(*item) for item in rows.items()) for where, rows in found.items()
    )
    return SDK + "".join(tables)


def async_section(found: dict[str, Any]) -> str:
    return ASYNC + "".join(async_row(*item) for item in found.items())


def remote_section(found: dict[str, Any]) -> str:
    lines = [REMOTE]
    for entities, one in found["sdk"].items():
        ours, plain, feast = one["fastserve"], one["plain"], one["feast"]
        cells = [
            entities,
            *(micros(plain["wall"]), micros(ours["wall"]), f"{ours['wall'] / plain['wall']:.2f}"),
            *(micros(feast["wall"]), f"{feast['wall'] / ours['wall']:.0f}"),
            *(micros(ours["cpu"]), micros(feast["cpu"]), f"{feast['cpu'] / ours['cpu']:.0f}"),
            micros(one["fastserve on feast serve"]["wall"]),
        ]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines) + (flat_section(found["flat"], "Flat, over HTTP") if "flat" in found else "")


def on_demand_section(found: dict[str, Any]) -> str:
    lines = [ON_DEMAND]
    for entities, one in found.items():
        regular, ours, feast = one["regular"], one["fastserve"], one["feast"]["wall"]
        function = ours["function"]
        cells = [
            entities,
            *(micros(regular["wall"]), micros(function), micros(ours["wall"])),
            f"{ours['wall'] / (regular['wall'] + function):.2f}",
            *(micros(regular["cpu"]), micros(ours["cpu"]), f"{ours['cpu'] / (regular['cpu'] + function):.2f}"),
            *(micros(feast), f"{feast / ours['wall']:.0f}"),
        ]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def plugin_section(found: dict[str, Any]) -> str:
    rows = [
        f"| {entities} | {micros(one['feast'])} | {micros(one['plugin'])} | {one['feast'] / one['plugin']:.1f} |\n"
        for entities, one in found.items()
    ]
    return PLUGIN + "".join(rows)


def micro_section(micro: list[dict[str, Any]]) -> str:
    lines = [
        "\n## The core beside protobuf and plain Python\n\n",
        "| work | core, us | plain Python, us | ratio |\n| --- | ---: | ---: | ---: |\n",
    ]
    for entry in micro:
        ratio = entry["reference"] / entry["core"]
        lines.append(
            f"| {entry['group']} | {entry['core'] * 1e6:,.1f} | {entry['reference'] * 1e6:,.1f} | {ratio:.0f} |\n"
        )
    return "".join(lines)


def serving_section(found: dict[str, Any]) -> str:
    lines, packed, costs = [SERVING], [SERVING_PACKED], []
    for entities, by_connections in found["reads"].items():
        for connections, one in by_connections.items():
            lines.append(serving_row([entities, connections], one["fastserve"], one["feast"]))
            packed.append(packed_row([entities, connections], one))
            if "unmetered" in one:
                costs.append(1 - one["unmetered"]["cpu_per_1000"] / one["fastserve"]["cpu_per_1000"])
    worker = found["worker"]
    tail = SERVING_TAIL.format(
        metrics=max(statistics.median(costs), 0) * 100, ours=worker["fastserve"], feast=worker["feast"]
    )
    return "".join(lines + packed) + tail


def serving_row(cells: list[Any], ours: dict[str, float], feast: dict[str, float]) -> str:
    rate, cpu, tail = "requests_per_second", "cpu_per_1000", "p99_ms"
    cells = [
        *cells,
        *(f"{ours[rate]:,.0f}", f"{feast[rate]:,.1f}", f"{ours[rate] / feast[rate]:.0f}"),
        *(f"{ours[cpu]:.3f}", f"{feast[cpu]:.2f}", f"{feast[cpu] / ours[cpu]:.0f}"),
        *(f"{ours[tail]:.1f}", f"{feast[tail]:,.1f}", f"{feast[tail] / ours[tail]:.0f}"),
    ]
    return f"| {' | '.join(map(str, cells))} |\n"


def packed_row(cells: list[Any], one: dict[str, dict[str, float]]) -> str:
    ours, feast, echo = one["packed"], one["precomputed"], one["echo"]
    rate, cpu, tail = "requests_per_second", "cpu_per_1000", "p99_ms"
    cells = [
        *cells,
        *(f"{ours[rate]:,.0f}", f"{feast[rate]:,.1f}", f"{ours[rate] / feast[rate]:.0f}"),
        f"{ours[rate] / echo[rate]:.2f}",
        *(f"{ours[cpu]:.3f}", f"{feast[cpu]:.2f}", f"{feast[cpu] / ours[cpu]:.0f}"),
        f"{one['feast'][cpu] / ours[cpu]:.0f}",
        *(f"{ours[tail]:.1f}", f"{feast[tail]:,.1f}"),
    ]
    return f"| {' | '.join(map(str, cells))} |\n"


def writes_section(found: dict[str, Any]) -> str:
    lines = [
        "\n## Writing to Redis, 8 features a row\n\n",
        "| work | floor, rows/s | fastserve | of the floor | Feast | fastserve / Feast | CPU of a row, us: fastserve "
        "| Feast | Feast / fastserve |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    ]
    names = {"materialize": "`materialize`", "write": "`write_to_online_store`"}
    for work, one in found["rows"].items():
        ours, feast, floor = one["fastserve"], one["feast"], one["floor"]
        cells = [
            f"{names[work]}, {one['n']:,} rows",
            *(f"{1 / floor['wall']:,.0f}", f"{1 / ours['wall']:,.0f}", f"{floor['wall'] / ours['wall']:.2f}"),
            *(f"{1 / feast['wall']:,.0f}", f"{feast['wall'] / ours['wall']:.1f}"),
            *(f"{ours['cpu'] * 1e6:.2f}", f"{feast['cpu'] * 1e6:.1f}", f"{feast['cpu'] / ours['cpu']:.0f}"),
        ]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines) + WRITES.format(
        big=found["memory"]["rows"],
        growth=found["memory"]["growth"] / 2**20,
        idle=found["memory"]["idle"] / 2**20,
        views=found["apply"]["views"],
        ours=found["apply"]["fastserve"],
        feast=found["apply"]["feast"],
    )


def instructions_section(found: dict[str, float]) -> str:
    return (
        "\n## Instructions\n\nCounted by valgrind (callgrind), so that they do not depend on what else the machine does: "
        f"{found['metered']:,.0f} of a worker for a request of one entity, without the kernel's, and {found['unmetered']:,.0f} "
        "with all metrics switched off.\n"
    )


def flat_section(found: dict[str, float], title: str = "Flat") -> str:
    return (
        f"\n## {title}\n\nOver {found['calls']:,.0f} calls for one entity, in blocks of 10,000: median of the first block "
        f"{found['first_us']:.1f} us, of the last {found['last_us']:.1f} us (5 % of the blocks are below "
        f"{found['p5_us']:.1f} us, 5 % above {found['p95_us']:.1f} us); memory grew by "
        f"{found['memory_growth_bytes'] / 1024:,.0f} KiB between the end of the first block and the end of the last.\n"
    )


SECTIONS: list[tuple[str, Block]] = [
    ("load", load_section),
    ("cost", cost_section),
    ("scaling", scaling_section),
    ("sdk", sdk_section),
    ("async", async_section),
    ("on_demand", on_demand_section),
    ("remote", remote_section),
    ("plugin", plugin_section),
    ("micro", micro_section),
    ("flat", flat_section),
    ("serving", serving_section),
    ("vectors", vectors_section),
    ("writes", writes_section),
    ("instructions", instructions_section),
]
"""Part of the results, and what renders it, in the order of the page; the access modes come before."""


def page(results: dict[str, Any]) -> str:
    """Return bench/README.md."""
    text = HEAD.format(**results["machine"]) + goals_section(results)
    if "modes" in results:
        text += modes_section(results["modes"], results["machine"].get("features", 48))
    for features, found in results.get("modes_by_features", {}).items():
        text += modes_section(found, features)
    return text + "".join(section(results[part]) for part, section in SECTIONS if part in results) + TAIL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    sys.path.insert(0, str(ROOT))  # fastserve, if it is not installed
    results = json.loads(((out or BENCH) / "results.json").read_text())
    ((out or BENCH) / "README.md").write_text(page(results))
    if out is not None:
        from report import report

        (out / "report.html").write_text(report(results))
        return
    for name, block, render in BLOCKS:
        text = (ROOT / name).read_text()
        (ROOT / name).write_text(replaced(text, block, render(results)))
    (ROOT / PLOT).write_text(headline_plot(results))


if __name__ == "__main__":
    main()
