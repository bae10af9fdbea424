"""Writes: materialize and write_to_online_store beside Feast and the bare socket; memory; apply of many views."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import BENCH, CORES, Subject, pin, redis_server, run

__all__ = ["writes"]

ROWS = {"materialize": 100_000, "write": 10_000}
VIEWS = 200


def writes(feast: str, rounds: int, big: int = 5_000_000) -> dict[str, Any]:
    """Return work -> subject -> median wall and CPU seconds of a row, and what memory and apply took.

    Args:
        feast: Feast's Python.
        big: rows of the file whose materialization is watched.
    """
    results: dict[str, Any] = {}
    with redis_server() as (port, redis), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run(
            [feast, str(BENCH / "compare/prepare_feast.py"), str(folder), str(port), str(max(ROWS.values())), "empty"],
            folder,
        )
        pin(redis, CORES[-1])
        results["rows"] = compare(feast, folder, port, rounds)
        results["memory"] = memory(folder, port, big)
    results["apply"] = apply(feast, rounds)
    return results


def compare(feast: str, folder: Path, port: int, rounds: int) -> dict[str, Any]:
    places = {"floor": sys.executable, "fastserve": sys.executable, "feast": feast}
    subjects = [Subject(python, "write_worker.py", name, folder, CORES[0]) for name, python in places.items()]
    results = {}
    for subject in subjects:
        for work in ROWS:
            subject.measure(work=work, rows=100)  # what is loaded once per process does not count
    for work, rows in ROWS.items():
        taken: dict[str, list[dict[str, float]]] = {subject.name: [] for subject in subjects}
        for _ in range(rounds):
            for subject in subjects:
                run(["redis-cli", "-p", str(port), "flushdb"], folder)
                taken[subject.name].append(subject.measure(work=work, rows=rows))
        results[work] = {
            name: {kind: statistics.median(found[kind] for found in all_) / rows for kind in ("wall", "cpu")}
            for name, all_ in taken.items()
        } | {"n": rows}
        print(report_line(work, results[work]), flush=True)
    for subject in subjects:
        subject.close()
    return results


def report_line(work: str, found: dict[str, Any]) -> str:
    ours, feast, floor = found["fastserve"], found["feast"], found["floor"]
    return (
        f"{work} of {found['n']:,} rows: floor {1 / floor['wall']:,.0f} rows/s, fastserve {1 / ours['wall']:,.0f} "
        f"({floor['wall'] / ours['wall']:.2f} of the floor), Feast {1 / feast['wall']:,.0f} "
        f"(ours {feast['wall'] / ours['wall']:.1f} x; CPU of a row {ours['cpu'] * 1e6:.2f} us, Feast's "
        f"{feast['cpu'] * 1e6:.1f} us, {feast['cpu'] / ours['cpu']:.0f} x)"
    )


def memory(folder: Path, port: int, rows: int) -> dict[str, float]:
    """How much a process grows while it materializes a big file."""
    run(["redis-cli", "-p", str(port), "flushdb"], folder)
    found: dict[str, float] = json.loads(
        run([sys.executable, str(BENCH / "compare/memory.py"), str(folder), str(rows)], folder)
    )
    print(f"materialize of {rows:,} rows: {found['growth'] / 2**20:.0f} MiB more at the peak, {found['wall']:.0f} s")
    return found


def apply(feast: str, rounds: int) -> dict[str, Any]:
    """Seconds of the command `apply` for a repository of many views: first time, and again with nothing changed."""
    commands = {"fastserve": [sys.executable, "-m", "fastserve"], "feast": [str(Path(feast).with_name("feast"))]}
    taken: dict[str, list[list[float]]] = {name: [] for name in commands}
    for name, command in commands.items():
        applied(name, command, 2)  # writes what is not yet there of the modules' bytecode
    for _ in range(rounds):
        for name, command in commands.items():
            taken[name].append(applied(name, command, VIEWS))
    found = {
        name: {"first": statistics.median(a for a, _ in both), "again": statistics.median(b for _, b in both)}
        for name, both in taken.items()
    }
    print(f"apply of {VIEWS} views, seconds of the whole command: {found}")
    return {**found, "views": VIEWS}


def applied(name: str, command: list[str], views: int) -> list[float]:
    """Seconds of `apply` in a new repository, twice."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run([sys.executable, str(BENCH / "compare/many_views.py"), name, str(folder), str(views)], folder)
        return [timed(command, folder), timed(command, folder)]


def timed(command: list[str], folder: Path) -> float:
    # What pip installs has its bytecode beside it; a source tree may have it too.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run([*command, "apply"], cwd=folder, check=True, env=environment, capture_output=True)
    return time.perf_counter() - start
