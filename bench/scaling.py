"""How cost grows: with workers, with rows of a request, with features, and with the entities that are stored."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import BENCH, CORES, Subject, pin, redis_server, run
from places import OURS, WINDOW, Places, bodies, keys_of

__all__ = ["Sizes", "scaling"]


@dataclass(frozen=True)
class Sizes:
    """How far it goes.

    Attributes:
        workers: of a server; None: 1, 2, 4 ... up to the number of cores.
        rows: of a request.
        feast_rows: up to so many for Feast; 0 is without Feast.
        features: of a request, of a repository that has as many as the last of them.
        entities: that are stored.
        calls: of one measurement.
        seconds: of one measurement of throughput.
    """

    workers: tuple[int, ...] | None = None
    rows: tuple[int, ...] = (1, 10, 100, 500, 1000, 5000)
    feast_rows: int = 100
    features: tuple[int, ...] = (8, 50, 100, 250, 500)
    entities: tuple[int, ...] = (1_000, 10_000, 100_000)
    calls: int = 100
    seconds: float = 1.5


def scaling(found: Places, sizes: Sizes) -> dict[str, Any]:
    """Return `workers` (number -> rows -> reads per second), and `rows`, `features` and `entities` (number -> case ->
    median seconds of a read by the direct SDK)."""
    return {
        "workers": by_workers(found, sizes),
        "rows": by_rows(found, sizes),
        "features": by_features(found.feast, sizes) if sizes.features else {},
        "entities": by_entities(found.feast, sizes),
    }


def by_workers(found: Places, sizes: Sizes) -> dict[int, dict[int, float]]:
    """Neither the server nor the client is bound to a core."""
    from serving import server

    counts = sizes.workers or tuple(n for n in (1, 2, 4, 8, 16, 32) if n <= len(CORES))
    client = Subject(sys.executable, "http_worker.py", "http", found.base)
    results: dict[int, dict[int, float]] = {}
    for count in counts:
        command = [*OURS, "-c", str(found.folders["regular"]), "serve", "--no-access-log", "-w", str(count), "-p"]
        with server(command, found.base) as started:
            free(started.process)
            for rows in (1, 100):
                rand = random.Random(rows)
                many = bodies(
                    "list", [keys_of(rand.sample(range(found.stored), min(rows, found.stored))) for _ in range(16)]
                )
                job = {"port": started.port, "bodies": many, "workers": 64, "seconds": sizes.seconds}
                results.setdefault(count, {})[rows] = client.measure(do="load", **job)["rate"]
        print(f"{count} workers: {results[count]} requests/s", flush=True)
    client.close()
    return results


def free(process: int) -> None:
    """Let a server's processes run on all cores."""
    for number in [process, *map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]:
        for thread in Path(f"/proc/{number}/task").iterdir():
            os.sched_setaffinity(int(thread.name), CORES)


def by_rows(found: Places, sizes: Sizes) -> dict[int, dict[str, float]]:
    subjects = sdk_subjects(found.feast if sizes.feast_rows else None, found.folders["regular"])
    rows = [n for n in sizes.rows if n <= found.stored]
    results = {n: medians(subjects, "list", n, found.stored, sizes.calls, n <= sizes.feast_rows) for n in rows}
    told("rows", results)
    close(subjects)
    return results


def by_features(feast: str, sizes: Sizes) -> dict[int, dict[str, float]]:
    stored = 200
    with redis_server() as (port, redis), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(feast, folder, port, stored, max(sizes.features))
        pin(redis, CORES[-1])
        subjects = sdk_subjects(feast, folder)
        results = {n: medians(subjects, str(n), 10, stored, sizes.calls, True) for n in sizes.features}
        told("features, 10 rows", results)
        close(subjects)
    return results


def by_entities(feast: str, sizes: Sizes) -> dict[int, dict[str, float]]:
    """Also `bytes`: what Redis takes for an entity."""
    results: dict[int, dict[str, float]] = {}
    for stored in sizes.entities:
        with redis_server() as (port, redis), tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            empty = used(port)
            prepare(feast, folder, port, stored, 48)
            pin(redis, CORES[-1])
            subjects = sdk_subjects(feast, folder)
            results[stored] = medians(subjects, "48", 10, stored, sizes.calls, True)
            results[stored]["bytes"] = (used(port) - empty) / stored
            close(subjects)
    told("entities stored, 10 rows", results)
    return results


# --- what they share -------------------------------------------------------------------------------------------------


def prepare(feast: str, folder: Path, port: int, stored: int, features: int) -> None:
    """Let Feast apply a repository with so many features, and fastserve, which is faster, load it."""
    command = [feast, str(BENCH / "compare/prepare_feast.py"), str(folder), str(port), str(stored), "empty"]
    environment = {**os.environ, "BENCH_FEATURES": str(features)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    run([*OURS, "-c", str(folder), "materialize", *WINDOW], folder)


def sdk_subjects(feast: str | None, folder: Path) -> list[Subject]:
    pythons = {"floor": sys.executable, "fastserve": sys.executable, "feast": feast}
    return [
        Subject(python, "mode_worker.py", name, folder, CORES[0], "sdk") for name, python in pythons.items() if python
    ]


def medians(
    subjects: list[Subject], features: str, rows: int, stored: int, calls: int, with_feast: bool
) -> dict[str, float]:
    """Return case -> median seconds of a read."""
    keys = keys_of(random.Random(rows).sample(range(stored), min(rows, stored)))
    found = {}
    for subject in subjects:
        if subject.name == "feast" and not with_feast:
            continue
        one = subject.measure(do="calls", features=features, keys=keys, n=calls, budget=1.0)
        found[subject.name] = one
    if with_feast and found["feast"]["digest"] != found["fastserve"]["digest"]:
        raise SystemExit(f"the answers of {features} features and {rows} rows differ")
    return {name: round(statistics.median(one["taken"]), 8) for name, one in found.items()}


def used(port: int) -> int:
    text = run(["redis-cli", "-p", str(port), "info", "memory"], BENCH)
    return next(int(line.split(":")[1]) for line in text.splitlines() if line.startswith("used_memory:"))


def close(subjects: list[Subject]) -> None:
    for subject in subjects:
        subject.close()


def told(what: str, results: dict[int, dict[str, float]]) -> None:
    for number, found in results.items():
        times = "   ".join(f"{name} {value * 1e6:,.0f} us" for name, value in found.items() if name != "bytes")
        print(f"{number:,} {what}: {times}", flush=True)
