"""The server: wrk on one core, one worker on the other, beside `feast serve` and beside a fast lane that reads nothing.

CPU seconds are those of the server's process tree, without Redis, which shares wrk's core.
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
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import BENCH, CORES, pin, run

__all__ = ["serving"]

ENTITIES = (1, 100)
CONNECTIONS = (10, 64)
BODIES = 64  # different requests, in turn
READ = "/get-online-features"
TICKS = os.sysconf("SC_CLK_TCK")

LUA = """\
local bodies, at = {}, 0
for line in io.lines("%s") do bodies[#bodies + 1] = line end
request = function()
  at = at %% #bodies + 1
  return wrk.format("POST", "%s", {["Content-Type"] = "application/json"}, bodies[at])
end
"""

Figures = dict[str, float]


def serving(
    feast: str, folder: Path, redis: int, stored: int, rounds: int, seconds: int
) -> dict[int, dict[int, dict[str, Figures]]]:
    """Return entities of a request -> connections -> server -> medians over the rounds.

    Args:
        feast: Feast's Python.
        folder: a repository, applied and materialized.
        redis: the process of its server.
        stored: how many entities it has.
        seconds: of one measurement.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    pin(redis, CORES[-1])
    results: dict[int, dict[int, dict[str, Figures]]] = {}
    for entities in ENTITIES:
        bodies = folder / f"bodies-{entities}"
        bodies.write_text("\n".join(make_bodies(entities, stored)) + "\n")
        with servers(feast, folder, entities) as started:
            same_answers(started, bodies.read_text().partition("\n")[0])
            for connections in CONNECTIONS:
                found = compare(started, folder, bodies, connections, rounds, seconds)
                results.setdefault(entities, {})[connections] = found
                print(report(entities, connections, found), flush=True)
    return results


def make_bodies(entities: int, stored: int) -> Iterator[str]:
    sys.path.insert(0, str(BENCH / "compare"))
    from worker import references

    rand = random.Random(entities)
    for _ in range(BODIES):
        keys = [f"C{i:06d}" for i in rand.sample(range(stored), entities)]
        yield json.dumps({"features": references(), "entities": {"customer_id": keys}})


@contextlib.contextmanager
def servers(feast: str, folder: Path, entities: int) -> Iterator[dict[str, tuple[int, int]]]:
    """All servers, each on a core of its own: name -> (port, process)."""
    ours = [sys.executable, "-m", "fastserve", "-c", str(folder), "serve", "--no-access-log", "-p"]
    theirs = [str(Path(feast).with_name("feast")), "-c", str(folder), "serve", "--no-access-log"]
    echo = [sys.executable, str(BENCH / "compare/echo_server.py"), str(folder), str(entities)]
    commands = {"fastserve": ours, "echo": echo, "feast": [*theirs, "--max-requests", "1000000", "-p"]}
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(server(command, folder)) for name, command in commands.items()}


@contextlib.contextmanager
def server(command: list[str], folder: Path) -> Iterator[tuple[int, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "FEAST_USAGE": "False", "PYTHONPATH": str(BENCH.parent), "PYTHONWARNINGS": "ignore"}
    bound = ["taskset", "-c", str(CORES[0]), *command, str(port)]
    with open(folder / f"log-{port}", "wb") as log:
        process = subprocess.Popen(bound, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def same_answers(started: dict[str, tuple[int, int]], body: str) -> None:
    """End the run if fastserve and Feast do not answer alike; the echo has to be of the same size as ours."""
    answers = {}
    for name, (port, _) in started.items():
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{READ}", body.encode(), headers)
        with urllib.request.urlopen(request) as answer:
            answers[name] = answer.read()
    ours, feast = (columns(json.loads(answers[name])) for name in ("fastserve", "feast"))
    assert ours == feast, "the answers differ"
    assert abs(len(answers["echo"]) / len(answers["fastserve"]) - 1) < 0.02


def columns(answer: dict[str, Any]) -> dict[str, Any]:
    return {n: r["values"] for n, r in zip(answer["metadata"]["feature_names"], answer["results"], strict=True)}


def compare(
    started: dict[str, tuple[int, int]], folder: Path, bodies: Path, connections: int, rounds: int, seconds: int
) -> dict[str, Figures]:
    taken: dict[str, list[Figures]] = {name: [] for name in started}
    for _ in range(rounds):
        for name, (port, process) in started.items():
            taken[name].append(measure(port, process, folder, bodies, connections, seconds))
    return {
        name: {figure: statistics.median(found[figure] for found in rows) for figure in rows[0]}
        for name, rows in taken.items()
    }


def measure(port: int, process: int, folder: Path, bodies: Path, connections: int, seconds: int) -> Figures:
    script = folder / "wrk.lua"
    script.write_text(LUA % (bodies, READ))
    command = ["taskset", "-c", str(CORES[-1]), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    before = cpu_seconds(process)
    text = run([*command, "--timeout", "60s", "-s", str(script), f"http://127.0.0.1:{port}"], folder)
    cpu = cpu_seconds(process) - before
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(text)
    n = int(found(r"(\d+) requests in", text))
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


def cpu_seconds(process: int) -> float:
    """The CPU time of a process and of those that descend from it, ended ones included."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    total = sum(int(field) for field in fields[11:15]) / TICKS
    for task in Path(f"/proc/{process}/task").iterdir():
        total += sum(cpu_seconds(int(child)) for child in (task / "children").read_text().split())
    return total


def report(entities: int, connections: int, found: dict[str, Figures]) -> str:
    ours, feast, echo = found["fastserve"], found["feast"], found["echo"]
    return (
        f"{entities:4} entities, {connections:3} connections: fastserve {ours['requests_per_second']:8.0f}/s, "
        f"CPU {ours['cpu_per_1000']:.4f} s per 1,000, p99 {ours['p99_ms']:.2f} ms   "
        f"Feast {feast['requests_per_second']:6.1f}/s, {feast['cpu_per_1000']:.3f} s, {feast['p99_ms']:.1f} ms   "
        f"ratios: rate {ours['requests_per_second'] / feast['requests_per_second']:.0f}, "
        f"CPU {feast['cpu_per_1000'] / ours['cpu_per_1000']:.0f}, p99 {feast['p99_ms'] / ours['p99_ms']:.0f}   "
        f"of echo {ours['requests_per_second'] / echo['requests_per_second']:.2f} "
        f"({echo['requests_per_second']:.0f}/s)"
    )
