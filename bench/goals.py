"""What the project set out to reach, beside what was measured: the first section of bench/README.md.

A goal that was not reached says what holds it, as profiles tell, and what was tried.
"""

# ruff: noqa: E501  (the page has tables)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["GOALS", "goals_section"]

Results = dict[str, Any]
FASTER, FLOOR = "x Feast", "x floor"


@dataclass(frozen=True)
class Goal:
    """One figure that is aimed at.

    Attributes:
        what: is measured.
        unit: of the figure.
        asked: what the part's first version had to reach; None if nothing was asked.
        goal: what is aimed at.
        figure: finds it in the results; KeyError where it was not measured.
        held_by: what keeps it from being reached, and what was tried.
    """

    what: str
    unit: str
    asked: float | None
    goal: float
    figure: Callable[[Results], float]
    held_by: str = ""

    @property
    def less_is_better(self) -> bool:
        return self.unit != FASTER

    def reaches(self, figure: float, bound: float) -> bool:
        return figure <= bound if self.less_is_better else figure >= bound


def sdk(entities: int, mine: str, other: str, kind: str = "wall") -> Callable[[Results], float]:
    """A ratio of the regular reads, a core each."""
    return lambda results: ratio(results["sdk"]["a core each"][str(entities)], mine, other, kind)


def vectors(entities: int, mine: str, *others: str) -> Callable[[Results], float]:
    """A ratio of the reads of vectors, to the sum of others."""

    def find(results: Results) -> float:
        found = results["vectors"]["reads"][str(entities)]
        return float(found[mine]["wall"] / sum(found[other]["wall"] for other in others))

    return find


def serving(entities: int, connections: int, mine: str, other: str, kind: str) -> Callable[[Results], float]:
    return lambda results: ratio(results["serving"]["reads"][str(entities)][str(connections)], mine, other, kind)


def writes(work: str, mine: str, other: str, kind: str = "wall") -> Callable[[Results], float]:
    return lambda results: ratio(results["writes"]["rows"][work], mine, other, kind)


def ratio(found: dict[str, Any], mine: str, other: str, kind: str) -> float:
    return float(found[mine][kind] / found[other][kind])


def build(results: Results) -> float:
    found = results["vectors"]["build"]
    return float(found["feast"] / found["fastserve"])


def metrics(results: Results) -> float:
    found = results["instructions"]
    return float(100 * (1 - found["unmetered"] / found["metered"]))


def load(case: str) -> Callable[[Results], float]:
    """p99 / p50 at 75 % of saturation."""

    def find(results: Results) -> float:
        at = results["load"][case]["shares"]["0.75"]
        return float(at["p99"] / at["p50"])

    return find


WAKING = (
    "At ten connections few requests are under way at a time, and each is handed from wrk to the worker, to Redis, back to "
    "the worker and to wrk, on two virtual cores: the worker is woken for two or three of them, at 64 connections for many, and "
    "a request costs it 0.020 s of CPU in a thousand instead of 0.016. Where the host takes time away it is more (of one server, "
    "0.9 % stolen were 15,200 requests/s, 6 % 13,000, 30 % 5,600), so the quietest of three attempts counts "
    "(harness.undisturbed), of Feast too. Tried: Redis on the worker's core, shorter time slices, wrk at idle priority, cores "
    "kept awake, ksoftirqd at real-time priority: none better."
)
ARRAYS = (
    "The client is busy from the first byte to the last: by a timeline of its system calls it waits for Redis nowhere after "
    "the second send. Of 310 us of a read (floor 165 on that machine): rows to keys 33, most of it while Redis has begun; five "
    "sends 50, two of which wake Redis; five receives 25, the floor's own; looking at the vectors, texts and the gathering of "
    "numbers 115; 48 arrays 63; freeing them 12. Tried: MGETs of 2 to 16 KB and of all, other pieces, everything sent at once "
    "(345), looking at vectors by tiles that fit the fastest cache (slower), one buffer for all columns of a type, texts "
    "shared in a column and moved into their array."
)
BUILD = (
    "Redis, whose CPU of a vector is 11 us: HGETALL 5.3, the script that merges 2.5, two walks over the keys 1.2, the rest its "
    "sockets. With three or four builders instead of two it takes as long."
)
REDIS = (
    "Redis is at 100 % of its core. Its CPU of a row, by a raw client: the script 9.1 us, a script without its comparison "
    "9.1, plain HSETs, which let old rows in, 5.7, WATCH and MULTI 10-18. At 0.8-1.0 of the floor the rest is Feast's noise."
)
LOAD = (
    "Pauses of two milliseconds, of the worker, of Redis or of this client, are the last hundredth of answers that take 0.3 to "
    "0.5 ms at more than 40 requests a millisecond; the core that Redis and the client share is nearly full there (the client is "
    "in the latency: the table says by how much it sent late). At a quarter and half of saturation p99 is 2.1 to 3.6 times the "
    "median. Done: a compiled client, as one in plain Python was slower than the server (5.7 ms late, p99 / p50 22); Redis before "
    "its neighbour on the core; no other server beside the one that is measured; all connections there before (p99.9 of packed "
    "96 ms without that, 4.6 with it)."
)

GOALS: list[Goal] = [
    Goal("SDK `to_dict`, 1 entity", FLOOR, 1.6, 1.3, sdk(1, "fastserve", "floor")),
    Goal("the same", FASTER, 7, 9, sdk(1, "feast", "fastserve")),
    Goal(
        "the same, CPU",
        FASTER,
        20,
        30,
        sdk(1, "feast", "fastserve", "cpu"),
        "Most of it is in system calls, the floor's: of 50 us 38, so that a client that did nothing with what it receives would have 24 x on the machine where ours has 18.5. Client and Redis on one core, which need not wake each other: 59 x.",
    ),
    Goal("SDK `to_dict`, 500 entities", FLOOR, 1.5, 1.5, sdk(500, "fastserve", "floor")),
    Goal("the same, and HMGETs over a bare socket", "x that floor", None, 1.0, sdk(500, "fastserve", "hmget")),
    Goal("the same", FASTER, 24, 40, sdk(500, "feast", "fastserve")),
    Goal("the same, CPU", FASTER, 40, 60, sdk(500, "feast", "fastserve", "cpu")),
    Goal(
        "packed `to_dict`, 1 entity",
        FLOOR,
        1.5,
        1.25,
        vectors(1, "packed", "floor"),
        "Without a socket the read takes 6 us (2 the Batch, 3 the dict). What is left above the floor are the system call that looks whether the connection still stands, and Python between the layers.",
    ),
    Goal(
        "packed `to_dict`, 500 entities",
        "x floor and objects made in C",
        None,
        1.3,
        vectors(500, "packed", "floor", "objects"),
    ),
    Goal("the same", "x Feast", 60, 100, vectors(500, "feast", "packed")),
    Goal("packed `to_numpy`, 500 entities", FLOOR, 2, 1.4, vectors(500, "numpy", "floor"), ARRAYS),
    Goal("the same", FASTER, 150, 200, vectors(500, "feast", "numpy")),
    Goal("Feast's vectors, `to_dict`, 500 entities", FLOOR, 1.5, 1.5, vectors(500, "blobs", "blobs_floor")),
    Goal(
        "REST, 1 entity, 64 connections, CPU",
        FASTER,
        80,
        100,
        serving(1, 64, "feast", "fastserve", "cpu_per_1000"),
        WAKING,
    ),
    Goal("the same, 10 connections", FASTER, 80, 100, serving(1, 10, "feast", "fastserve", "cpu_per_1000"), WAKING),
    Goal(
        "REST, packed, 1 entity, 64 connections, CPU",
        FASTER,
        100,
        120,
        serving(1, 64, "precomputed", "packed", "cpu_per_1000"),
    ),
    Goal("the same, 10 connections", FASTER, 100, 120, serving(1, 10, "precomputed", "packed", "cpu_per_1000")),
    Goal(
        "REST, 100 entities, 10 connections, CPU",
        FASTER,
        50,
        80,
        serving(100, 10, "feast", "fastserve", "cpu_per_1000"),
    ),
    Goal("REST, p99 at 10 connections", FASTER, 40, 50, serving(1, 10, "feast", "fastserve", "p99_ms"), WAKING),
    Goal("REST regular at 75 % of saturation", "p99 / p50", None, 3, load("fastserve regular"), LOAD),
    Goal("REST packed at 75 % of saturation", "p99 / p50", None, 3, load("fastserve packed"), LOAD),
    Goal(
        "async SDK, 64 concurrent, uvloop",
        FASTER,
        25,
        40,
        lambda r: ratio(r["async"]["uvloop"], "feast", "fastserve", "wall"),
    ),
    Goal(
        "remote SDK, 1 entity",
        FASTER,
        20,
        30,
        lambda r: ratio(r["remote"]["sdk"]["1"], "feast", "fastserve", "wall"),
        "Ours takes what a plain HTTP client takes: what is left is the server's, and two processes waking each other.",
    ),
    Goal("`materialize`", FASTER, 12, 15, writes("materialize", "feast", "fastserve"), REDIS),
    Goal("the same", FLOOR, 1 / 0.6, 1 / 0.8, writes("materialize", "fastserve", "floor"), REDIS),
    Goal("the same, CPU of a row", FASTER, 40, 60, writes("materialize", "feast", "fastserve", "cpu")),
    Goal(
        "build of vectors",
        FASTER,
        40,
        60,
        build,
        BUILD,
    ),
    Goal("`import fastserve`", "s", 0.15, 0.12, lambda r: float(r["cost"]["import"]["fastserve"])),
    Goal("metrics, of the instructions of a request", "%", 3, 3, metrics),
    Goal(
        "a worker, from its start until it is ready",
        "s",
        0.7,
        0.5,
        lambda r: float(r["serving"]["worker"]["fastserve"]["ready"]),
    ),
    Goal("a worker, resident", "MiB", 60, 50, lambda r: float(r["serving"]["worker"]["fastserve"]["resident"])),
]


def goals_section(results: Results) -> str:
    """Return the table, and below it what holds the goals that were not reached."""
    lines = [
        "\n## Goals\n\nRatios of one run, medians; the tables below have the figures that they are made of. `asked` is what the "
        "first version had to reach, `goal` what is aimed at.\n\n",
        "| what | unit | asked | goal | measured | |\n| --- | --- | ---: | ---: | ---: | --- |\n",
    ]
    held: dict[str, list[str]] = {}
    name = ""
    for goal in GOALS:
        name = goal.what if not goal.what.startswith("the same") else name
        try:
            figure = goal.figure(results)
        except KeyError:
            figure = None
        lines.append(
            f"| {goal.what} | {goal.unit} | {number(goal.asked)} | {number(goal.goal)} | {number(figure)} "
            f"| {verdict(goal, figure)} |\n"
        )
        if figure is not None and goal.held_by and not goal.reaches(figure, goal.goal):
            label = name + goal.what.removeprefix("the same") if goal.what != name else name
            held.setdefault(goal.held_by, []).append(f"{label} ({goal.unit})")
    notes = [f"- **{'; '.join(dict.fromkeys(names))}**: {why}\n" for why, names in held.items()]
    return "".join(lines) + ("\nWhat holds the goals that were not reached:\n\n" + "".join(notes) if notes else "")


def verdict(goal: Goal, figure: float | None) -> str:
    if figure is None:
        return "not measured"
    if goal.reaches(figure, goal.goal):
        return "reached"
    return "short of the goal" if goal.asked is not None and goal.reaches(figure, goal.asked) else "**not reached**"


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 30 else f"{value:.3g}"
