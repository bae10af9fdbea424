"""Reads: get_online_features(...).to_dict() beside Feast and beside the bare socket; latency over many calls; the steps
of the core beside plain Python."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import BENCH, CORES, Subject, pin

__all__ = ["flat", "micro", "reads"]

SIZES = {1: 2000, 10: 500, 100: 60, 500: 12}  # entities of a request -> calls of fastserve in one round
FEAST_SHARE = 10  # Feast makes a tenth of the calls: it takes longer

# Left to itself the scheduler moves client and server about, and with them what a round trip takes: 25 us where both
# share a core, 75 us where each has one of its own. So each case is measured by itself.
PLACEMENTS = {"a core each": CORES[-1], "one core for both": CORES[0]}


def reads(feast: str, folder: Path, redis: int, stored: int, rounds: int) -> dict[str, Any]:
    """Return placement -> entities of a request -> subject -> median seconds of a call.

    Args:
        feast: Feast's Python.
        folder: a repository, applied and materialized.
        redis: the process of its server.
        stored: how many entities it has.
    """
    places = {"floor": sys.executable, "hmget": sys.executable, "fastserve": sys.executable, "feast": feast}
    subjects = [Subject(python, "worker.py", name, folder, CORES[0]) for name, python in places.items()]
    results = {}
    for placement, core in PLACEMENTS.items():
        print(f"client and redis-server have {placement}:")
        pin(redis, core)
        results[placement] = compare(subjects, stored, rounds)
    for subject in subjects:
        subject.close()
    return results


def compare(subjects: list[Subject], stored: int, rounds: int) -> dict[int, dict[str, dict[str, float]]]:
    """Return entities -> subject -> median seconds of a call, wall and CPU."""
    rand = random.Random(1)
    results: dict[int, dict[str, dict[str, float]]] = {}
    for entities, calls in SIZES.items():
        taken: dict[str, list[dict[str, Any]]] = {subject.name: [] for subject in subjects}
        for _ in range(rounds):
            keys = [f"C{i:06d}" for i in rand.sample(range(stored), entities)]
            for subject in subjects:
                n = max(calls // FEAST_SHARE, 2) if subject.name == "feast" else calls
                taken[subject.name].append(subject.measure(keys=keys, calls=n))
        for ours, theirs in zip(taken["fastserve"], taken["feast"], strict=True):
            assert ours["digest"] == theirs["digest"], f"answers differ at {entities} entities"
        results[entities] = {
            name: {kind: statistics.median(found[kind] for found in rows) for kind in ("wall", "cpu")}
            for name, rows in taken.items()
        }
        print(report_line(entities, results[entities]), flush=True)
    return results


def report_line(entities: int, found: dict[str, dict[str, float]]) -> str:
    ours, feast, floor = found["fastserve"], found["feast"], found["floor"]
    return (
        f"{entities:4} entities: floor {floor['wall'] * 1e6:9.1f} us   fastserve {ours['wall'] * 1e6:9.1f} us "
        f"({ours['wall'] / floor['wall']:.2f} x floor)   Feast {feast['wall'] * 1e6:10.1f} us "
        f"({feast['wall'] / ours['wall']:5.1f} x ours; CPU {feast['cpu'] / ours['cpu']:5.1f} x ours)"
    )


def flat(folder: Path, calls: int) -> dict[str, float]:
    """Latency and memory over many calls of one process."""
    command = [sys.executable, str(BENCH / "compare/flat.py"), str(folder), str(calls)]
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def micro(*options: str) -> list[dict[str, Any]]:
    """The steps of a read: seconds (median) by the core and by protobuf with plain Python. `options` are pytest's."""
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary) / "micro.json"
        command = [sys.executable, "-m", "pytest", "-q", str(BENCH / "micro/test_micro.py"), *options]
        command.append(f"--benchmark-json={report}")
        done = subprocess.run(command, cwd=BENCH.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout)
        entries = json.loads(report.read_text())["benchmarks"]
    groups: dict[str, dict[str, Any]] = {}
    for entry in entries:
        group = groups.setdefault(entry["group"], {"group": entry["group"]})
        group[entry["params"]["side"]] = entry["stats"]["median"]
    for group in groups.values():
        print(
            f"{group['group']:24} core {group['core'] * 1e6:9.1f} us, "
            f"{group['reference'] / group['core']:6.1f} x faster than plain Python"
        )
    return list(groups.values())
