"""How many instructions the steps of a read from packed vectors take: valgrind counts them, so no other load shows.

    python bench/micro/instructions.py [--rows 1 500] [--steps dict numpy ...]

Six views of eight features, as in `test_micro.py`. A step is run 5 and 25 times; a twentieth of the difference is
printed. Python's collector of garbage is off: when it runs has nothing to do with the step. "floats" makes as many
objects.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

FEW, MANY = 5, 25


def steps(n: int) -> dict[str, Callable[[], object]]:
    """Return the steps of a read of `n` entities, each of which can be done again and again."""
    from fastserve import _core, online
    from fastserve.response import OnlineResponse
    from tests.core.requests import JOIN_KEY, typical
    from tests.core.vectors import layout_of, replies_to, vector_plan

    request = typical(Random(2026), n)
    layout = layout_of(request)
    vectors = dict(_core.pack_batch(layout, request.filled(), 0).items())
    plan = vector_plan(request.plan, layout)
    rows = [{JOIN_KEY: entity} for entity in request.entities]
    batch = online.begin(plan, rows)
    replies = replies_to(batch, vectors)

    def take() -> None:
        batch.rewind()
        batch.commands()
        batch.feed(replies)

    def unpack() -> None:
        take()
        batch.unpack_vectors()

    unpack()
    response = OnlineResponse(batch)
    return {
        "begin": lambda: online.begin(plan, rows).commands(),
        "take": take,
        "take and unpack": unpack,
        "dict": response.to_dict,
        "numpy": response.to_numpy,
        "json": response.to_json,
        "floats": lambda: {name: [float(i) for i in range(n)] for name in range(48)},
    }


def count(step: str, n: int, times: int) -> int:
    """Return the instructions of a process that does a step so many times."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, __file__]
    command += ["--run", step, "--rows", str(n), "--times", str(times)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 500])
    parser.add_argument(
        "--steps", nargs="*", default=["begin", "take", "take and unpack", "dict", "floats", "numpy", "json"]
    )
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        step = steps(options.rows[0])[options.run]
        gc.disable()
        for _ in range(options.times):
            step()
        return
    for n in options.rows:
        for step in options.steps:
            each = (count(step, n, MANY) - count(step, n, FEW)) / (MANY - FEW)
            print(f"{n:4} entities  {step:16} {each:14,.0f} instructions  {each / n / 48:8.1f} per value", flush=True)


if __name__ == "__main__":
    main()
