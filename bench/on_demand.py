"""On-demand views in Python mode: a read of their outputs beside one of their inputs, and beside Feast."""

from __future__ import annotations

import random
import statistics
import sys
from pathlib import Path
from typing import Any

from harness import CORES, Subject, pin

__all__ = ["on_demand"]

SIZES = {1: 2000, 10: 800, 100: 150, 500: 30}  # entities of a request -> calls of fastserve in one round
FEAST_SHARE = 20  # Feast makes so many times fewer calls


def on_demand(feast: str, folder: Path, redis: int, stored: int, rounds: int) -> dict[int, dict[str, dict[str, float]]]:
    """Return entities -> subject -> median seconds of a call, wall and CPU; of fastserve also of the function alone.

    Args:
        feast: Feast's Python.
        folder: a repository with the view, applied and materialized.
        redis: the process of its server.
        stored: how many entities it has.
    """
    pin(redis, CORES[-1])
    places = {"regular": sys.executable, "fastserve": sys.executable, "feast": feast}
    subjects = [Subject(python, "on_demand_worker.py", name, folder, CORES[0]) for name, python in places.items()]
    rand = random.Random(1)
    results = {}
    for entities, calls in SIZES.items():
        taken: dict[str, list[dict[str, Any]]] = {name: [] for name in places}
        for _ in range(rounds):
            keys = [f"C{i:06d}" for i in rand.sample(range(stored), entities)]
            for subject in subjects:
                n = max(calls // FEAST_SHARE, 2) if subject.name == "feast" else calls
                taken[subject.name].append(subject.measure(keys=keys, calls=n))
        results[entities] = summary(taken)
        print(report_line(entities, results[entities]), flush=True)
    for subject in subjects:
        subject.close()
    return results


def summary(taken: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    for ours, theirs in zip(taken["fastserve"], taken["feast"], strict=True):
        assert ours["digest"] == theirs["digest"], "answers differ"
    kinds = {"regular": ("wall", "cpu"), "fastserve": ("wall", "cpu", "function"), "feast": ("wall", "cpu")}
    return {
        name: {kind: statistics.median(one[kind] for one in rows) for kind in kinds[name]}
        for name, rows in taken.items()
    }


def report_line(entities: int, found: dict[str, dict[str, float]]) -> str:
    regular, ours, feast = (found[name]["wall"] for name in ("regular", "fastserve", "feast"))
    function = found["fastserve"]["function"]
    return (
        f"{entities:4} entities, on-demand: regular read {regular * 1e6:9.1f} us   function {function * 1e6:9.1f} us   "
        f"on-demand read {ours * 1e6:9.1f} us ({ours / (regular + function):.2f} x both, "
        f"CPU {found['fastserve']['cpu'] / (found['regular']['cpu'] + function):.2f} x)   "
        f"Feast {feast * 1e6:10.1f} us ({feast / ours:5.1f} x ours)"
    )
