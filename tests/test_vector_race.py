"""Writers of two views of the same entities, builds and readers at once: every vector is the state after some of the
writes, each reader sees event times that never go back, and nothing fails.

FASTSERVE_RACE_SECONDS lets it run longer than the two seconds of the suite.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastserve import FeatureStore
from tests.servers import RedisServer
from tests.vector_repos import DAY, answers, at, plainly, rows_a, users, write_vector_repo

SECONDS = float(os.environ.get("FASTSERVE_RACE_SECONDS", "2"))
NAMES = [f"r{i}" for i in range(12)]


def write_file(folder: Path, step: int) -> None:
    """Let the file of the view `b` have one row per user, of this step."""
    n = len(NAMES)
    columns = {"user_id": NAMES, "y": [float(step)] * n, "many": [[step]] * n}
    times = pa.array([at(step)] * n, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({**columns, "ts": times}), folder / "data/b.parquet")


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_each_vector_is_a_state_that_was(kind: str, empty_redis: RedisServer, tmp_path: Path) -> None:
    place: dict[str, Any] = {"type": "sqlite", "path": "data/online.db"}
    if kind == "redis":
        place = {"type": "redis", "connection_string": empty_redis.connection_string}
    folder = write_vector_repo(tmp_path / "repo", place)
    with FeatureStore(folder) as store:
        store.apply_repo()
        store.push("a_push", rows_a(NAMES, 0, 0, "0"))
        store.write_to_online_store("b", {"user_id": NAMES, "y": [0.0] * 12, "many": [[0]] * 12, "ts": [DAY] * 12})
        stop = threading.Event()
        tasks = [partial(push, folder, stop, number) for number in range(2)]
        tasks += [partial(task, folder, stop) for task in (materialize, build, read, read)]
        run(stop, tasks)
        assert answers(store, "one", users(*NAMES)) == plainly(store, "one", users(*NAMES))


def run(stop: threading.Event, tasks: Sequence[Callable[[], int]]) -> None:
    """Run tasks for a while; each must have done something."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        running = [pool.submit(task) for task in tasks]
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and not any(future.done() for future in running):
            stop.wait(0.02)
        stop.set()
        assert all(future.result() > 0 for future in running)


def push(folder: Path, stop: threading.Event, number: int) -> int:
    """Push rows of the view `a`: of each step the values and the time are the step's, whoever comes first."""
    with FeatureStore(folder) as store:
        step = 0
        while not stop.is_set():
            step += 1
            some = NAMES[number::2] if step % 3 else NAMES
            store.push("a_push", rows_a(some, step, step, str(step)))
        return step


def materialize(folder: Path, stop: threading.Event) -> int:
    with FeatureStore(folder) as store:
        step = 0
        while not stop.is_set():
            step += 1
            write_file(folder, step)
            store.materialize(at(-10), at(10**6), ["b"])
        return step


def build(folder: Path, stop: threading.Event) -> int:
    with FeatureStore(folder) as store:
        count = 0
        while not stop.is_set():
            count += 1
            assert store.precompute_feature_service("one", batch_size=5) == len(NAMES)
        return count


def read(folder: Path, stop: threading.Event) -> int:
    with FeatureStore(folder) as store:
        service = store.get_feature_service("one")
        times = dict.fromkeys(NAMES, (0, 0))
        count = 0
        while not stop.is_set():
            count += 1
            found = store.get_online_features(service, users(*NAMES)).to_dict(include_event_timestamps=True)
            for i, name in enumerate(found["user_id"]):
                x, text, y, many = (found[column][i] for column in ("x", "text", "y", "many"))
                a, b = found["x__ts"][i], found["y__ts"][i]
                start = int(DAY.timestamp())
                assert (x, text) == (a - start, str(a - start)), "a row of one write"
                assert (y, many) == (float(b - start), [b - start])
                assert a >= times[name][0], "the time of a view goes back"
                assert b >= times[name][1], "the time of a view goes back"
                times[name] = a, b
        return count
