"""`make bench`: fastserve beside Feast and beside the bare socket, in interleaved rounds of one run.

    bench/run.py [--only reads|remote|serving|writes|vectors] [--rounds N] [--seconds N] [--entities-stored N]
                 [--flat CALLS] [--write]

`--write` puts the figures into bench/results.json and bench/README.md; those of a part that was not run stay.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from async_reading import async_reads
from harness import BENCH, feast_python, redis_server, run
from reading import flat, micro, reads
from remote import remote
from serving import serving
from vectors import vectors
from writing import writes


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


@contextlib.contextmanager
def repository(feast: str, stored: int) -> Iterator[tuple[Path, int]]:
    """A repository that Feast has applied and materialized, and the process of its Redis."""
    with redis_server() as (port, redis), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run([feast, str(BENCH / "compare/prepare_feast.py"), str(folder), str(port), str(stored)], folder)
        yield folder, redis


def bench_remote(feast: str, options: argparse.Namespace) -> dict[str, Any]:
    with repository(feast, options.entities_stored) as (folder, redis):
        return remote(feast, folder, redis, options.entities_stored, options.rounds, options.flat)


def bench_reads(feast: str, options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {}
    stored = options.entities_stored
    with repository(feast, stored) as (folder, redis):
        results["sdk"] = reads(feast, folder, redis, stored, options.rounds)
        results["async"] = async_reads(feast, folder, redis, stored, max(options.rounds // 2, 1))
        if options.flat:
            results["flat"] = flat(folder, options.flat)
            print("flat:", results["flat"])
    results["micro"] = micro()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["reads", "remote", "serving", "writes", "vectors"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=5, help="of one measurement of a server")
    parser.add_argument("--entities-stored", type=int, default=2000)
    parser.add_argument("--flat", type=int, default=0, metavar="CALLS")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    feast = feast_python()
    file = BENCH / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if options.only else {}
    results["machine"] = machine()
    if options.only in (None, "reads"):
        results.update(bench_reads(feast, options))
    if options.only in (None, "serving"):
        results["serving"] = serving(feast, options.entities_stored, options.rounds, options.seconds)
    if options.only in (None, "remote"):
        results["remote"] = bench_remote(feast, options)
    if options.only in (None, "writes"):
        results["writes"] = writes(feast, max(options.rounds // 2, 1))
    if options.only in (None, "vectors"):
        results["vectors"] = vectors(feast, options.entities_stored, options.rounds)
    if options.write:
        file.write_text(json.dumps(results, indent=1) + "\n")
        subprocess.run([sys.executable, str(BENCH / "render.py")], check=True)


if __name__ == "__main__":
    main()
