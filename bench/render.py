"""Writes bench/README.md from bench/results.json, so that no figure in it is typed by hand."""

# ruff: noqa: E501  (the page has tables)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent

HEAD = """\
<!-- Written by bench/render.py from results.json; `make bench ARGS="--flat 1000000 --write"` measures anew. -->

# Benchmarks

One run on {date}: {cpu}, Python {python}, redis-server {redis} on loopback, Feast {feast}.

A bank's repository of 6 feature views with 8 features each, applied and materialized to Redis by Feast itself (`compare/`).
Each subject runs in a process of its own; rounds are interleaved and the figures are medians over the rounds, so that
noise of the machine meets all alike. Before a figure counts, the answers of both SDKs are compared and must be equal.

**The floor** is the least that any client can take: the same command bytes sent and the same reply bytes read over a bare
socket, nothing parsed.

## `get_online_features(...).to_dict()`, all 48 features

| entities | floor | fastserve | x floor | Feast | Feast / fastserve | CPU of a call: fastserve | Feast | Feast / fastserve |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""

TAIL = """
Wall-clock time in microseconds. The two cores are shared with whatever else the machine does, so figures of different runs
cannot be compared, only the ratios of one. The plan of this request reads whole hashes (HGETALL), and so does its floor: with
HMGET the floor itself is higher, by what Redis takes to search 54 fields one by one.

## What is here

| path | what |
| --- | --- |
| `run.py` | the driver: `make bench`, with `ARGS="--rounds 3"` for a quick look |
| `compare/` | one worker process per subject; what Feast applies and materializes |
| `micro/` | pytest-benchmark: each hot function beside the same work done with protobuf and plain Python (`tests/reference.py`) |
| `render.py`, `results.json` | this page and its figures |
"""


def row(entities: str, found: dict[str, dict[str, float]]) -> str:
    ours, feast, floor = found["fastserve"], found["feast"], found["floor"]
    cells = [
        entities,
        micros(floor["wall"]),
        micros(ours["wall"]),
        f"{ours['wall'] / floor['wall']:.2f}",
        micros(feast["wall"]),
        f"{feast['wall'] / ours['wall']:.0f}",
        micros(ours["cpu"]),
        micros(feast["cpu"]),
        f"{feast['cpu'] / ours['cpu']:.0f}",
    ]
    return f"| {' | '.join(cells)} |\n"


def micros(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}"


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


def flat_section(found: dict[str, float]) -> str:
    return (
        f"\n## Flat\n\nOver {found['calls']:,.0f} calls for one entity, in blocks of 10,000: median of the first block "
        f"{found['first_us']:.1f} us, of the last {found['last_us']:.1f} us (5 % of the blocks are below "
        f"{found['p5_us']:.1f} us, 5 % above {found['p95_us']:.1f} us); memory grew by "
        f"{found['memory_growth_bytes'] / 1024:,.0f} KiB between the end of the first block and the end of the last.\n"
    )


def main() -> None:
    results = json.loads((BENCH / "results.json").read_text())
    text = HEAD.format(**results["machine"]) + "".join(row(n, found) for n, found in results["sdk"].items())
    if "micro" in results:
        text += micro_section(results["micro"])
    if "flat" in results:
        text += flat_section(results["flat"])
    (BENCH / "README.md").write_text(text + TAIL)


if __name__ == "__main__":
    main()
