"""Concurrent reads of one entity each: get_online_features_async(...).to_dict() beside Feast's async SDK."""

from __future__ import annotations

import random
import statistics
import sys
from pathlib import Path
from typing import Any

from harness import CORES, Subject, pin

__all__ = ["async_reads"]

CONCURRENCY = 64
CALLS = {"fastserve": 20_000, "feast": 640}  # reads in one round
LOOPS = ("uvloop", "asyncio")


def async_reads(feast: str, folder: Path, redis: int, stored: int, rounds: int) -> dict[str, Any]:
    """Return event loop -> subject -> medians: seconds of a read (wall, CPU), and of the 99th percentile.

    All subjects are bound to one core, redis-server to the other.

    Args:
        feast: Feast's Python.
        folder: a repository, applied and materialized.
        redis: the process of its server.
        stored: how many entities it has.
    """
    pin(redis, CORES[-1])
    results = {}
    for loop in LOOPS:
        subjects = [
            Subject(python, "async_worker.py", name, folder, CORES[0], loop)
            for name, python in {"fastserve": sys.executable, "feast": feast}.items()
        ]
        results[loop] = compare(subjects, stored, rounds)
        for subject in subjects:
            subject.close()
        print(report_line(loop, results[loop]), flush=True)
    return results


def compare(subjects: list[Subject], stored: int, rounds: int) -> dict[str, dict[str, float]]:
    rand = random.Random(1)
    taken: dict[str, list[dict[str, Any]]] = {subject.name: [] for subject in subjects}
    for _ in range(rounds):
        keys = [f"C{i:06d}" for i in rand.choices(range(stored), k=500)]
        for subject in subjects:
            job = {"keys": keys, "concurrency": CONCURRENCY, "calls": CALLS[subject.name]}
            taken[subject.name].append(subject.measure(**job))
    for ours, theirs in zip(taken["fastserve"], taken["feast"], strict=True):
        assert ours["digest"] == theirs["digest"], "answers differ"
    return {
        name: {kind: statistics.median(found[kind] for found in rows) for kind in ("wall", "cpu", "slowest")}
        for name, rows in taken.items()
    }


def report_line(loop: str, found: dict[str, dict[str, float]]) -> str:
    ours, feast = found["fastserve"], found["feast"]
    return (
        f"{CONCURRENCY} concurrent reads, {loop}: fastserve {1 / ours['wall']:8.0f} reads/s "
        f"(p99 {ours['slowest'] * 1e3:6.1f} ms)   Feast {1 / feast['wall']:6.0f} reads/s "
        f"(p99 {feast['slowest'] * 1e3:6.1f} ms)   {feast['wall'] / ours['wall']:5.1f} x, "
        f"CPU {feast['cpu'] / ours['cpu']:5.1f} x"
    )
