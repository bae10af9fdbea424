"""Instructions instead of seconds: valgrind counts them, so that what else the machine does is not in them.

What it costs a request that metrics are counted is less than the noise of any measurement of time. The steps of the
core are counted by micro/instructions.py.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from harness import BENCH
from serving import READ, free_port, unmetered, wait_for

__all__ = ["counted"]

WARM_UP, REQUESTS = 50, 1500
ROUNDS = 3  # where memory comes to lie, and what threads do in the background, differs by a per cent or so

Counts = dict[str, float]


def counted(repository: Path) -> Counts:
    """Return the instructions of a worker for a request of one entity, metered and unmetered, without the kernel's."""
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed: apt-get install valgrind")
    folders = {"metered": repository, "unmetered": unmetered(repository, repository / "unmetered")}
    taken = [{name: of_a_request(folder) for name, folder in folders.items()} for _ in range(ROUNDS)]
    found = {name: statistics.median(one[name] for one in taken) for name in folders}
    print(f"instructions of a request: {found}", flush=True)
    return found


def of_a_request(folder: Path) -> float:
    with counting_server(folder) as (port, record):
        ask(port, WARM_UP)
        switch("on")
        ask(port, REQUESTS)
        switch("off")
    records = list(record.parent.glob(f"{record.name}.*"))
    count = sum(totals(one) for one in records)
    for one in records:
        one.unlink()
    return count / REQUESTS


@contextlib.contextmanager
def counting_server(folder: Path) -> Iterator[tuple[int, Path]]:
    """A worker under callgrind that does not count yet: its port, and what the names of its records begin with."""
    port, record = free_port(), folder / "callgrind"
    tool = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", "--trace-children=yes"]
    serve = [sys.executable, "-m", "fastserve", "-c", str(folder), "serve", "--no-access-log", "-p", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(BENCH.parent), "PYTHONHASHSEED": "0"}
    with open(folder / "valgrind.log", "wb") as log:
        command = [*tool, f"--callgrind-out-file={record}.%p", *serve]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(port, "/health")
        yield port, record
    finally:
        process.terminate()
        process.wait()


def switch(state: str) -> None:
    """Let all callgrinds of this user begin or end to count."""
    subprocess.run(["callgrind_control", "-i", state], capture_output=True, check=True)


def ask(port: int, n: int) -> None:
    sys.path.insert(0, str(BENCH / "compare"))
    from worker import references

    body = json.dumps({"features": references(), "entities": {"customer_id": ["C000123"]}})
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for _ in range(n):
        connection.request("POST", READ, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(answer.read().decode())
        answer.read()
    connection.close()


def totals(record: Path) -> int:
    found = re.search(r"^totals: (\d+)", record.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
