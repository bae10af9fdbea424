"""One subject of the concurrent reads, in a process of its own.

    async_worker.py feast|fastserve FOLDER uvloop|asyncio

Reads one job per line from stdin, {"keys": [...], "concurrency": n, "calls": n}, makes so many reads of one entity
each, n at a time, and answers with one line: {"wall": seconds per read, "cpu": seconds of CPU per read, "slowest":
seconds that 99 of 100 reads took at most, "digest": hash of the answers}.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from typing import Any

from worker import references


class Reader:
    """Reads one entity after the other, some at a time."""

    def __init__(self, store: Any):
        self._store = store
        self._features = references()

    async def one(self, key: str) -> dict[str, Any]:
        answer = await self._store.get_online_features_async(
            features=self._features, entity_rows=[{"customer_id": key}]
        )
        found: dict[str, Any] = answer.to_dict()
        return found

    async def many(self, keys: list[str], concurrency: int, calls: int) -> list[float]:
        """Return the seconds that each read took."""
        taken: list[float] = []
        left = calls

        async def reader() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                start = time.perf_counter()
                await self.one(keys[left % len(keys)])
                taken.append(time.perf_counter() - start)

        await asyncio.gather(*(reader() for _ in range(concurrency)))
        return taken

    async def job(self, keys: list[str], concurrency: int, calls: int) -> dict[str, Any]:
        answers = [await self.one(key) for key in keys[:50]]
        await self.many(keys, concurrency, max(calls // 10, concurrency))
        wall, cpu = time.perf_counter(), time.process_time()
        taken = await self.many(keys, concurrency, calls)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        # Feast's order of features changes from process to process.
        text = json.dumps(answers, default=str, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return {"wall": wall / calls, "cpu": cpu / calls, "slowest": sorted(taken)[-calls // 100], "digest": digest}


async def main(name: str, folder: str) -> None:
    if name == "feast":
        from feast import FeatureStore
    else:
        from fastserve import FeatureStore
    store = FeatureStore(repo_path=folder)
    if name == "feast":
        await store.initialize()  # its connections
    reader = Reader(store)
    for line in sys.stdin:
        print(json.dumps(await reader.job(**json.loads(line))), flush=True)


if __name__ == "__main__":
    if sys.argv[3] == "uvloop":
        import uvloop

        uvloop.run(main(sys.argv[1], sys.argv[2]))
    else:
        asyncio.run(main(sys.argv[1], sys.argv[2]))
