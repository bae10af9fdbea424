"""What reads cost: CPU of server and Redis, bytes to and from Redis, memory of a worker, time to import."""

from __future__ import annotations

import random
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from harness import CORES, Subject, run
from places import Places, bodies, keys_of
from serving import cpu_seconds, resident_mib

__all__ = ["cost"]

CASES = {
    "fastserve regular": ("fastserve", "regular", "list"),
    "fastserve packed": ("fastserve", "packed", "everything"),
    "feast regular": ("feast", "regular", "list"),
    "feast feast": ("feast", "vectors", "everything"),
}
ROWS = (1, 100)
CONNECTIONS = 10


def cost(found: Places, rounds: int, seconds: float) -> dict[str, Any]:
    """Return `reads` (rows -> case -> of one read), `memory` (case -> MiB) and `import` (product -> seconds).

    Args:
        rounds: of imports; 0 leaves them out.
        seconds: of one measurement.
    """
    client = Subject(sys.executable, "http_worker.py", "http", found.base, CORES[-1])
    reads: dict[int, dict[str, Any]] = {}
    for rows in ROWS:
        for name in CASES:
            reads.setdefault(rows, {})[name] = one = of_reads(found, client, name, min(rows, found.stored), seconds)
            print(
                f"{rows} rows, {name}: " + ", ".join(f"{what} {value:,.6g}" for what, value in one.items()), flush=True
            )
    client.close()
    memory = {name: resident_mib(found.served(product, place)[1]) for name, (product, place, _) in CASES.items()}
    print("memory of a server's workers, MiB:", {name: round(size, 1) for name, size in memory.items()})
    return {"reads": reads, "memory": memory, "import": imports(found, rounds) if rounds else {}}


def of_reads(found: Places, client: Subject, name: str, rows: int, seconds: float) -> dict[str, float]:
    """Return CPU seconds of the server and of Redis, and bytes that Redis received and sent, per read."""
    product, place, features = CASES[name]
    port, process = found.served(product, place)
    rand = random.Random(name)
    many = bodies(features, [keys_of(rand.sample(range(found.stored), rows)) for _ in range(16)])

    def spent() -> list[float]:
        return [cpu_seconds(process), cpu_seconds(found.redis), *traffic(found.port)]

    before = spent()
    n = client.measure(do="load", port=port, bodies=many, workers=CONNECTIONS, seconds=seconds)["n"]
    names = ("server_cpu", "redis_cpu", "redis_in", "redis_out")
    return {what: (new - old) / n for what, new, old in zip(names, spent(), before, strict=True)}


def traffic(port: int) -> list[float]:
    """Return the bytes that a Redis has received and sent."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"INFO stats\r\n")
        text = sock.recv(1 << 16).decode()
    lines = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
    return [float(lines[f"total_net_{kind}_bytes"]) for kind in ("input", "output")]


def imports(found: Places, rounds: int) -> dict[str, float]:
    """Return product -> median seconds to import it, beyond what the interpreter takes to start."""
    results = {}
    for product, python in {"fastserve": sys.executable, "feast": found.feast}.items():
        bare, full = (
            [timed([python, "-c", code], found.base) for _ in range(rounds)] for code in ("", f"import {product}")
        )
        results[product] = max(statistics.median(full) - statistics.median(bare), 0.0)
        print(f"{product}: import {results[product]:.3f} s", flush=True)
    return results


def timed(command: list[str], folder: Path) -> float:
    begin = time.perf_counter()
    run(command, folder)
    return time.perf_counter() - begin
