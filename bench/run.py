"""`make bench`: fastserve beside Feast and beside the bare socket, in interleaved rounds of one run.

    bench/run.py [--rounds N] [--entities-stored N] [--flat CALLS] [--write]

`--write` puts the figures into bench/results.json and bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
SIZES = {1: 2000, 10: 500, 100: 60, 500: 12}  # entities of a request -> calls of fastserve in one round
FEAST_SHARE = 10  # Feast makes a tenth of the calls: it takes longer


@contextlib.contextmanager
def redis_server() -> Iterator[int]:
    """A Redis of our own on a free port, without persistence."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


class Subject:
    """A worker process that measures on demand."""

    def __init__(self, python: str, name: str, folder: Path):
        command = [python, str(BENCH / "compare/worker.py"), name, str(folder)]
        self.name = name
        environment = {**os.environ, "FEAST_USAGE": "False", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
        )

    def measure(self, keys: list[str], calls: int) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"keys": keys, "calls": calls}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with status {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


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
                taken[subject.name].append(subject.measure(keys, n))
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


def micro() -> list[dict[str, Any]]:
    """The steps of a read: seconds (median) by the core and by protobuf with plain Python."""
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary) / "micro.json"
        command = [sys.executable, "-m", "pytest", "-q", str(BENCH / "micro"), f"--benchmark-json={report}"]
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


def feast_python() -> str:
    """The Python of Feast's environment: made by interop/setup.sh, or given as FEAST_PYTHON."""
    if given := os.environ.get("FEAST_PYTHON"):
        return given
    subprocess.run([str(BENCH.parent / "interop/setup.sh")], check=True)
    return str(BENCH.parent / ".venv-feast/bin/python")


def machine() -> dict[str, str]:
    model = "unknown CPU"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": f"{model}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "redis": redis.removeprefix("v="),
        "feast": "0.67.0",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--entities-stored", type=int, default=2000)
    parser.add_argument("--flat", type=int, default=0, metavar="CALLS")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    python = feast_python()
    with redis_server() as port, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare = [
            python,
            str(BENCH / "compare/prepare_feast.py"),
            str(folder),
            str(port),
            str(options.entities_stored),
        ]
        done = subprocess.run(prepare, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        places = {"floor": sys.executable, "fastserve": sys.executable, "feast": python}
        subjects = [Subject(place, name, folder) for name, place in places.items()]
        results: dict[str, Any] = {
            "machine": machine(),
            "sdk": compare(subjects, options.entities_stored, options.rounds),
        }
        for subject in subjects:
            subject.close()
        if options.flat:
            results["flat"] = flat(folder, options.flat)
            print("flat:", results["flat"])
    results["micro"] = micro()
    if options.write:
        (BENCH / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        subprocess.run([sys.executable, str(BENCH / "render.py")], check=True)


if __name__ == "__main__":
    main()
