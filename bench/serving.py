"""The server: wrk on one core, one worker on the other, beside `feast serve` and beside a fast lane that reads nothing.

subject       asks for                               of
fastserve     48 features                            hashes that Feast wrote
unmetered     the same                               the same, with no metrics counted; 1 entity only
feast         the same                               the same, through `feast serve`
packed        a service of these, precomputed        fastserve's packed vectors, of the same data
precomputed   the same                               Feast's own vectors, through `feast serve`
echo          the same as packed                     nothing: ready bytes of the same size

CPU seconds are those of the server's process tree, without Redis, which shares wrk's core. What the host gave to other
guests meanwhile is counted, and a measurement from which more than 1 % was taken is made again, up to three times: the
quietest counts, of every subject.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness import ATTEMPTS, BENCH, CORES, cpu_time, pin, redis_server, run, undisturbed
from vectors import SERVICE, loaded

__all__ = ["serving"]

ENTITIES = (1, 100)
CONNECTIONS = (10, 64)
BODIES = 64  # different requests, in turn
ENOUGH = 20  # requests of a measurement; where there are fewer it takes longer
STARTS = 5
READ = "/get-online-features"
MIB = 1 << 20

SUBJECTS = ("fastserve", "unmetered", "feast", "packed", "precomputed", "echo")
BY_NAME = ("packed", "precomputed", "echo")  # these ask for the service

LUA = """\
local bodies, at = {}, 0
for line in io.lines("%s") do bodies[#bodies + 1] = line end
request = function()
  at = at %% #bodies + 1
  return wrk.format("POST", "%s", {["Content-Type"] = "application/json"}, bodies[at])
end
"""

UNMETERED = """
feature_server:
  type: local
  metrics: {request: false, online_features: false, push: false, materialization: false, freshness: false,
            resource: false}
"""

Figures = dict[str, float]


@dataclass(frozen=True)
class Server:
    """A running server; `command` starts another of its kind."""

    port: int
    process: int
    command: list[str]


def serving(feast: str, stored: int, rounds: int, seconds: int) -> dict[str, Any]:
    """Measure all of it, over a Redis with two databases: one that Feast wrote, one that fastserve did.

    Args:
        feast: Feast's Python.
        stored: how many entities there are.
        seconds: of one measurement.
    Returns:
        reads: entities of a request -> connections -> subject -> medians over the rounds; worker: subject -> median
        seconds from its start to the first 200 of its probe, and MiB resident after all reads of one entity.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with redis_server() as (port, redis), tempfile.TemporaryDirectory() as temporary:
        places, _ = loaded(feast, Path(temporary), port, stored)
        places["unmetered"] = unmetered(places["feast"], Path(temporary) / "unmetered")
        pin(redis, CORES[-1])
        results: dict[str, Any] = {"reads": {}}
        for entities in ENTITIES:
            bodies = write_bodies(Path(temporary), entities, stored)
            with servers(feast, places, entities) as started:
                same_answers(started, bodies)
                results["reads"][entities] = by_connections(started, bodies, entities, rounds, seconds)
                if entities == 1:
                    resident = {name: resident_mib(one.process) for name, one in started.items()}
        results["worker"] = {
            name: {"ready": ready_seconds(one, places[place], path), "resident": resident[name]}
            for name, one, place, path in (
                ("fastserve", started["fastserve"], "feast", "/readyz"),
                ("feast", started["feast"], "feast", "/health"),
            )
        }
        print(results["worker"])
        return results


def unmetered(repository: Path, folder: Path) -> Path:
    """Copy the configuration of a repository to a new folder, with all metrics switched off; return that."""
    folder.mkdir()
    (folder / "feature_store.yaml").write_text((repository / "feature_store.yaml").read_text() + UNMETERED)
    return folder


def write_bodies(folder: Path, entities: int, stored: int) -> dict[str, Path]:
    """Write requests for the service and for references; subject -> file of requests."""
    sys.path.insert(0, str(BENCH / "compare"))
    from worker import references

    rand = random.Random(entities)
    # In order and once each: of others Feast's vectors go to wrong rows.
    rows = [sorted(rand.sample(range(stored), entities)) for _ in range(BODIES)]
    asked = {
        "references": {"features": references()},
        "service": {"feature_service": SERVICE, "full_feature_names": True},
    }
    for kind, wanted in asked.items():
        texts = [json.dumps({**wanted, "entities": {"customer_id": [f"C{i:06d}" for i in one]}}) for one in rows]
        (folder / f"{kind}-{entities}").write_text("\n".join(texts) + "\n")
    return {name: folder / f"{'service' if name in BY_NAME else 'references'}-{entities}" for name in SUBJECTS}


@contextlib.contextmanager
def servers(feast: str, places: dict[str, Path], entities: int) -> Iterator[dict[str, Server]]:
    """All servers, each on the first core: subject -> server; Feast's one has both of its subjects."""
    theirs = [str(Path(feast).with_name("feast")), "-c", str(places["feast"]), "serve", "--no-access-log"]
    commands = {
        "fastserve": ours(places["feast"]),
        "packed": ours(places["packed"]),
        "echo": [sys.executable, str(BENCH / "compare/echo_server.py"), str(places["packed"]), SERVICE, str(entities)],
        "feast": [*theirs, "--max-requests", "1000000000", "-p"],
    }
    if entities == 1:
        commands["unmetered"] = ours(places["unmetered"])
    with contextlib.ExitStack() as stack:
        started = {name: stack.enter_context(server(command, places["feast"])) for name, command in commands.items()}
        started["precomputed"] = started["feast"]
        yield {name: started[name] for name in SUBJECTS if name in started}


def ours(folder: Path) -> list[str]:
    return [sys.executable, "-m", "fastserve", "-c", str(folder), "serve", "--no-access-log", "-p"]


@contextlib.contextmanager
def server(command: list[str], folder: Path) -> Iterator[Server]:
    port = free_port()
    environment = {**os.environ, "FEAST_USAGE": "False", "PYTHONPATH": str(BENCH.parent), "PYTHONWARNINGS": "ignore"}
    # What pip installs has its bytecode beside it; a source tree may have it too.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    bound = ["taskset", "-c", str(CORES[0]), *command, str(port)]
    with open(folder / f"log-{port}", "wb") as log:
        process = subprocess.Popen(bound, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(port, "/health")
        yield Server(port, process.pid, command)
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, path: str) -> None:
    """Wait for the first 200; gives up after two minutes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10).close()
            return
        time.sleep(0.005)
    raise SystemExit(f"no answer from port {port}")


def ready_seconds(one: Server, folder: Path, path: str) -> float:
    """Return the median seconds from the start of a server to its first 200; they start one after the other."""
    taken = []
    for _ in range(STARTS):
        start = time.perf_counter()
        with server(one.command, folder) as found:
            wait_for(found.port, path)
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def same_answers(started: dict[str, Server], bodies: dict[str, Path]) -> None:
    """End the run if fastserve and Feast do not answer alike; the echo has to be of the same size as ours."""
    answers = {}
    for name, one in started.items():
        body = bodies[name].read_text().partition("\n")[0].encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{one.port}{READ}", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            answers[name] = answer.read()
    for mine, other in (("fastserve", "feast"), ("packed", "precomputed")):
        assert columns(answers[mine]) == columns(answers[other]), f"the answers of {mine} and {other} differ"
    assert abs(len(answers["echo"]) / len(answers["packed"]) - 1) < 0.02


def columns(text: bytes) -> dict[str, Any]:
    answer = json.loads(text)
    return {n: r["values"] for n, r in zip(answer["metadata"]["feature_names"], answer["results"], strict=True)}


def by_connections(
    started: dict[str, Server], bodies: dict[str, Path], entities: int, rounds: int, seconds: int
) -> dict[int, dict[str, Figures]]:
    results = {}
    for connections in CONNECTIONS:
        taken: dict[str, list[Figures]] = {name: [] for name in started}
        for _ in range(rounds):
            for name, one in started.items():
                attempt = partial(measure, one, bodies[name], connections, seconds)
                figures, share = undisturbed(attempt, ATTEMPTS if rounds > 1 else 1)
                taken[name].append({**figures, "stolen": share})
        results[connections] = {
            name: {figure: statistics.median(found[figure] for found in rows) for figure in rows[0]}
            for name, rows in taken.items()
        }
        print(report(entities, connections, results[connections]), flush=True)
    return results


def measure(one: Server, bodies: Path, connections: int, seconds: int) -> Figures:
    script = bodies.with_suffix(".lua")
    script.write_text(LUA % (bodies, READ))
    command = ["taskset", "-c", str(CORES[-1]), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    before = cpu_seconds(one.process)
    text = run([*command, "--timeout", "60s", "-s", str(script), f"http://127.0.0.1:{one.port}"], bodies.parent)
    cpu = cpu_seconds(one.process) - before
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(text)
    n = int(found(r"(\d+) requests in", text))
    if n < ENOUGH:
        return measure(one, bodies, connections, 2 * seconds)
    return {
        "requests_per_second": float(found(r"Requests/sec:\s+([\d.]+)", text)),
        "cpu_per_1000": cpu / n * 1000,
        "p50_ms": milliseconds(found(r"\n +50% +(\S+)", text)),
        "p99_ms": milliseconds(found(r"\n +99% +(\S+)", text)),
    }


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"no {pattern} in what wrk says:\n{text}")
    return match[1]


def milliseconds(text: str) -> float:
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise SystemExit(f"not a time of wrk: {text}")


def tree(process: int) -> Iterator[int]:
    """A process and those that descend from it."""
    yield process
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


def cpu_seconds(process: int) -> float:
    """The CPU time of a process and of those that descend from it, ended ones included."""
    return sum(cpu_time(one) for one in tree(process))


def resident_mib(process: int) -> float:
    """The largest resident memory of a process and of those that descend from it."""
    pages = [int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in tree(process)]
    return max(pages) * os.sysconf("SC_PAGE_SIZE") / MIB


def report(entities: int, connections: int, found: dict[str, Figures]) -> str:
    lines = [f"{entities:4} entities, {connections:3} connections:"]
    for name, one in found.items():
        rate, cpu, p99 = one["requests_per_second"], one["cpu_per_1000"], one["p99_ms"]
        lines.append(
            f"    {name:12} {rate:9.1f}/s  CPU {cpu:8.4f} s per 1,000  p99 {p99:8.2f} ms  stolen {one['stolen']:.1%}"
        )
    for name, other in (("fastserve", "feast"), ("packed", "feast"), ("packed", "precomputed"), ("packed", "echo")):
        mine, theirs = found[name], found[other]
        lines.append(
            f"    {name} and {other}: CPU {theirs['cpu_per_1000'] / mine['cpu_per_1000']:.1f} x, rate "
            f"{mine['requests_per_second'] / theirs['requests_per_second']:.2f} x, p99 "
            f"{theirs['p99_ms'] / mine['p99_ms']:.1f} x"
        )
    return "\n".join(lines)
