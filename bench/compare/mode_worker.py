"""One way to read features, in a process of its own.

    mode_worker.py feast|fastserve|floor FOLDER sdk|async|remote

Takes one job per line from stdin and answers each with one line:

{"do": "calls", "features": F, "keys": [...], "n": n, "budget": seconds}
    n equal reads, one after the other, or as many as the budget allows, but at least 2:
    {"taken": [seconds of each], "cpu": seconds of CPU per read, "digest": hash of the answer}
{"do": "load", "features": F, "keys": [[...], ...], "workers": n, "seconds": s}
    the reads in turn, by so many threads (or tasks, if async): {"rate": reads per second, "cpu": as above}

F is the name of a service, or "list" for references, or a number of them. Answers are taken as dicts.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import floor
from worker import references

Job = dict[str, Any]


class Direct:
    """Reads by get_online_features, of this process's store or of a remote one."""

    def __init__(self, store: Any):
        self._store = store

    def call(self, name: str, keys: list[str]) -> Callable[[], Any]:
        features, full_names = self.features(name)
        rows = [{"customer_id": key} for key in keys]
        read = self._store.get_online_features
        return lambda: read(features=features, entity_rows=rows, full_feature_names=full_names).to_dict()

    def features(self, name: str) -> tuple[Any, bool]:
        if name == "list" or name.isdigit():
            return references(*map(int, {name} - {"list"})), False
        return self._store.get_feature_service(
            name
        ), name == "everything"  # Feast's vectors are read with full names only

    def calls(self, job: Job) -> Job:
        call, clock = self.call(job["features"], job["keys"]), time.perf_counter
        answer, taken = call(), []
        cpu, end = time.process_time(), clock() + job["budget"]
        while len(taken) < job["n"] and (clock() < end or len(taken) < 2):
            start = clock()
            call()
            taken.append(clock() - start)
        return {"taken": taken, "cpu": (time.process_time() - cpu) / len(taken), "digest": digest(answer)}

    def load(self, job: Job) -> Job:
        calls = [self.call(job["features"], keys) for keys in job["keys"]]
        counts = [0] * job["workers"]
        end = time.perf_counter() + job["seconds"]

        def work(number: int) -> None:
            for call in itertools.islice(itertools.cycle(calls), number, None):
                if time.perf_counter() >= end:
                    return
                call()
                counts[number] += 1

        start, cpu = time.perf_counter(), time.process_time()
        threads = [threading.Thread(target=work, args=(i,)) for i in range(job["workers"])]
        for step in (threading.Thread.start, threading.Thread.join):
            for thread in threads:
                step(thread)
        return rates(sum(counts), start, cpu)


class Async(Direct):
    """Reads by get_online_features_async, on the event loop of uvloop."""

    def __init__(self, store: Any):
        import uvloop

        super().__init__(store)
        self._loop = uvloop.new_event_loop()
        if not hasattr(store, "begin_read"):  # Feast's connections
            self._loop.run_until_complete(store.initialize())

    def call(self, name: str, keys: list[str]) -> Callable[[], Any]:
        features, full_names = self.features(name)
        rows = [{"customer_id": key} for key in keys]
        read = self._store.get_online_features_async

        async def call() -> Any:
            return (await read(features=features, entity_rows=rows, full_feature_names=full_names)).to_dict()

        return call

    def calls(self, job: Job) -> Job:
        return self._loop.run_until_complete(self._calls(job))

    async def _calls(self, job: Job) -> Job:
        call, clock = self.call(job["features"], job["keys"]), time.perf_counter
        answer, taken = await call(), []
        cpu, end = time.process_time(), clock() + job["budget"]
        while len(taken) < job["n"] and (clock() < end or len(taken) < 2):
            start = clock()
            await call()
            taken.append(clock() - start)
        return {"taken": taken, "cpu": (time.process_time() - cpu) / len(taken), "digest": digest(answer)}

    def load(self, job: Job) -> Job:
        return self._loop.run_until_complete(self._load(job))

    async def _load(self, job: Job) -> Job:
        calls = [self.call(job["features"], keys) for keys in job["keys"]]
        end, count = time.perf_counter() + job["seconds"], 0

        async def work(number: int) -> None:
            nonlocal count
            for call in itertools.islice(itertools.cycle(calls), number, None):
                if time.perf_counter() >= end:
                    return
                await call()
                count += 1

        start, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work(i) for i in range(job["workers"])))
        return rates(count, start, cpu)


class Floor(Direct):
    """The bytes of a read."""

    def __init__(self, store: Any, prepare: Any):
        super().__init__(store)
        self._prepare, self._prepared = prepare, {}

    def call(self, name: str, keys: list[str]) -> Callable[[], Any]:
        if name not in self._prepared:
            self._prepared[name] = self._prepare(self._store, *self.features(name))
        return self._prepared[name](keys)


def rates(count: int, start: float, cpu: float) -> Job:
    return {"rate": count / (time.perf_counter() - start), "cpu": (time.process_time() - cpu) / max(count, 1)}


def digest(answer: Any) -> str:
    if sys.argv[3] == "remote" and answer:  # Feast's remote SDK has times as texts
        answer = {name: values for name, values in answer.items() if not name.endswith("_7")}
    # Feast's order of features changes from process to process.
    return hashlib.sha256(json.dumps(answer, default=str, sort_keys=True).encode()).hexdigest()


def open_reader(subject: str, folder: str, mode: str) -> Direct:
    if subject == "feast":
        from feast import FeatureStore
    else:
        from fastserve import FeatureStore
    store = FeatureStore(repo_path=folder)
    if subject == "floor":
        return Floor(store, floor.http if mode == "remote" else floor.redis)
    return (Async if mode == "async" else Direct)(store)


def main() -> None:
    said, sys.stdout = sys.stdout, sys.stderr  # Feast prints
    reader = open_reader(*sys.argv[1:])
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps({"calls": reader.calls, "load": reader.load}[job["do"]](job)), file=said, flush=True)


if __name__ == "__main__":
    main()
