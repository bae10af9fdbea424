"""One subject in a process of its own, so that none pays for another's imports or garbage.

    worker.py feast|fastserve|floor|hmget FOLDER

Reads one request per line from stdin, {"keys": [...], "calls": n}, makes n equal calls and answers with one line:
{"wall": median seconds of a call, "cpu": seconds of CPU per call, "digest": hash of the answer}.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import floor

Call = Callable[[], Any]


def references(count: int = int(os.environ.get("BENCH_FEATURES", "48"))) -> list[str]:
    """Return the first features of the repository (repo/features.py), 8 of each view; by default all."""
    topics = ("profile", "balances", "cards", "transfers", "logins", "scores", *(f"topic{i}" for i in range(6, 63)))
    return [f"customer_{topic}:{topic}_{i}" for topic in topics for i in range(8)][:count]


def feast(folder: str) -> Callable[[list[str]], Call]:
    from feast import FeatureStore

    return sdk(FeatureStore(repo_path=folder))


def fastserve(folder: str) -> Callable[[list[str]], Call]:
    from fastserve import FeatureStore

    return sdk(FeatureStore(repo_path=folder))


def sdk(store: Any) -> Callable[[list[str]], Call]:
    features = references()

    def prepare(keys: list[str]) -> Call:
        rows = [{"customer_id": key} for key in keys]
        return lambda: store.get_online_features(features=features, entity_rows=rows).to_dict()

    return prepare


def bare_socket(folder: str) -> Callable[[list[str]], Call]:
    from fastserve import FeatureStore

    return floor.redis(FeatureStore(repo_path=folder), references(), full_names=False)


def hmget(folder: str) -> Callable[[list[str]], Call]:
    from fastserve import FeatureStore

    return floor.hmget(FeatureStore(repo_path=folder), references(), full_names=False)


def measure(call: Call, calls: int, to_answer: Call | None = None) -> dict[str, Any]:
    """Make calls; `to_answer` returns what the digest is of, if that is not what a call returns."""
    call()
    answer = (to_answer or call)()
    wall = []
    cpu = time.process_time()
    for _ in range(calls):
        start = time.perf_counter()
        call()
        wall.append(time.perf_counter() - start)
    cpu = time.process_time() - cpu
    # Feast's order of features changes from process to process.
    text = json.dumps(answer, default=str, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"wall": statistics.median(wall), "cpu": cpu / calls, "digest": digest}


def main() -> None:
    prepare = {"feast": feast, "fastserve": fastserve, "floor": bare_socket, "hmget": hmget}[sys.argv[1]](sys.argv[2])
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(measure(prepare(request["keys"]), request["calls"])), flush=True)


if __name__ == "__main__":
    main()
