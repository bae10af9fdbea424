"""The remote SDK: get_online_features(...).to_dict() against `fastserve serve`, beside a plain HTTP client that sends
the same body there, and beside Feast's remote SDK against `feast serve`; latency and memory over many calls."""

from __future__ import annotations

import contextlib
import http.client
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

from harness import CORES, Subject, pin, remote_client
from reading import flat

__all__ = ["remote"]

SIZES = {1: 2000, 50: 300}  # entities of a request -> calls of fastserve in one round
SHARES = {"feast": 10, "fastserve on feast serve": 10}  # they make so many times fewer calls


def remote(feast: str, folder: Path, redis: int, stored: int, rounds: int, flat_calls: int) -> dict[str, Any]:
    """Return `sdk` (entities of a request -> subject -> median seconds of a call), and `flat` if there are such calls.

    Args:
        feast: Feast's Python.
        folder: a repository, applied and materialized.
        redis: the process of its server.
        stored: how many entities it has.
        flat_calls: how many calls to watch latency and memory over; 0 is none.
    """
    ours = [sys.executable, "-m", "fastserve"]
    theirs = [str(Path(feast).with_name("feast"))]
    pin(redis, CORES[-1])
    with (
        tempfile.TemporaryDirectory() as temporary,
        serving(ours, folder) as our_port,
        serving(theirs, folder, "--max-requests", "1000000000") as feast_port,
    ):
        to_ours = remote_client(Path(temporary) / "ours", folder, our_port)
        to_feast = remote_client(Path(temporary) / "feast", folder, feast_port)
        results: dict[str, Any] = {"sdk": compare(subjects(feast, to_ours, to_feast), stored, rounds)}
        if flat_calls:
            results["flat"] = flat(to_ours, flat_calls)
            print("remote, flat:", results["flat"])
    return results


def subjects(feast: str, to_ours: Path, to_feast: Path) -> list[Subject]:
    """The client has a core of its own; the servers and Redis share the other."""
    kinds = [
        ("plain", sys.executable, to_ours),
        ("fastserve", sys.executable, to_ours),
        ("feast", feast, to_feast),
        ("fastserve on feast serve", sys.executable, to_feast),
    ]
    return [Subject(python, "remote_worker.py", name, folder, CORES[0]) for name, python, folder in kinds]


def compare(found: list[Subject], stored: int, rounds: int) -> dict[int, dict[str, dict[str, float]]]:
    """Return entities -> subject -> median seconds of a call, wall and CPU."""
    rand = random.Random(1)
    results: dict[int, dict[str, dict[str, float]]] = {}
    for entities, calls in SIZES.items():
        taken: dict[str, list[dict[str, Any]]] = {subject.name: [] for subject in found}
        for _ in range(rounds):
            keys = [f"C{i:06d}" for i in rand.sample(range(stored), entities)]
            for subject in found:
                n = max(calls // SHARES.get(subject.name, 1), 2)
                taken[subject.name].append(subject.measure(keys=keys, calls=n))
        for ours, plain in zip(taken["fastserve"], taken["plain"], strict=True):
            assert ours["digest"] == plain["digest"], f"answers differ at {entities} entities"
        results[entities] = {
            name: {kind: statistics.median(one[kind] for one in rows) for kind in ("wall", "cpu")}
            for name, rows in taken.items()
        }
        print(report_line(entities, results[entities]), flush=True)
    for subject in found:
        subject.close()
    return results


def report_line(entities: int, found: dict[str, dict[str, float]]) -> str:
    ours, plain, feast = (found[name]["wall"] for name in ("fastserve", "plain", "feast"))
    return (
        f"{entities:4} entities over HTTP: plain client {plain * 1e6:9.1f} us   fastserve {ours * 1e6:9.1f} us "
        f"({ours / plain:.2f} x plain)   Feast {feast * 1e6:10.1f} us ({feast / ours:5.1f} x ours)   fastserve on "
        f"feast serve {found['fastserve on feast serve']['wall'] * 1e6:10.1f} us"
    )


@contextlib.contextmanager
def serving(command: list[str], folder: Path, *options: str) -> Iterator[int]:
    """Serve the repository on a free port, with one worker on the last core, until it is enough."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    arguments = [*command, "-c", str(folder), "serve", "-p", str(port), "--no-access-log", *options]
    placed = ["taskset", "-c", str(CORES[-1]), *arguments]
    process = subprocess.Popen(placed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(process, port)
        yield port
    finally:
        process.terminate()
        process.wait()


def wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"{process.args!r} does not answer")
