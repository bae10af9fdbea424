"""Feast's own SDK with its Redis store, and with `fastserve.feast.OnlineStore`: the same data, interleaved rounds.

Both subjects are `FeatureStore.get_online_features(...).to_dict()` of Feast, 48 features of six views.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

from harness import BENCH, CORES, Subject, pin

__all__ = ["plugin"]

CALLS = {1: 60, 10: 30, 100: 10}
STORES = {"feast": "redis", "plugin": "fastserve.feast.OnlineStore"}


def plugin(feast: str, folder: Path, redis: int, stored: int, rounds: int) -> dict[int, dict[str, float]]:
    """Return entities -> subject -> median seconds of a call.

    Args:
        feast: Feast's Python.
        folder: a repository, applied and materialized; the plug-in's is beside it: one registry, one database.
        redis: the process of its server.
        stored: how many entities it has.
    """
    pin(redis, CORES[-1])
    text = (folder / "feature_store.yaml").read_text()
    beside = folder / "plugin"
    beside.mkdir()
    (beside / "feature_store.yaml").write_text(text.replace("type: redis", f"type: {STORES['plugin']}"))
    with fastserve_for_feast():
        folders = {"feast": folder, "plugin": beside}
        subjects = {name: Subject(feast, "worker.py", "feast", path, CORES[0]) for name, path in folders.items()}
    found = {count: compare(subjects, min(count, stored), calls, rounds) for count, calls in CALLS.items()}
    for subject in subjects.values():
        subject.close()
    return found


@contextlib.contextmanager
def fastserve_for_feast() -> Iterator[None]:
    """Let processes that start meanwhile import the fastserve of this folder."""
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{BENCH.parent}:{before}"
    try:
        yield
    finally:
        os.environ["PYTHONPATH"] = before


def compare(subjects: dict[str, Subject], count: int, calls: int, rounds: int) -> dict[str, float]:
    keys = [f"C{i:06d}" for i in range(count)]
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        found = {name: subject.measure(keys=keys, calls=calls) for name, subject in subjects.items()}
        assert found["feast"]["digest"] == found["plugin"]["digest"], "the answers differ"
        for name in subjects:
            taken[name].append(found[name]["wall"])
    wall = {name: statistics.median(times) for name, times in taken.items()}
    print(
        f"{count:4} entities: Feast {wall['feast'] * 1e6:9.1f} us   with the plug-in {wall['plugin'] * 1e6:9.1f} us "
        f"({wall['feast'] / wall['plugin']:.1f} x)",
        flush=True,
    )
    return wall
