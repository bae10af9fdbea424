"""Latency and memory over many calls: flat.py FOLDER CALLS. Prints one line of JSON."""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from pathlib import Path

from worker import references

from fastserve import FeatureStore

SPAN = 10_000


def rss() -> int:
    """Bytes of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> None:
    store = FeatureStore(repo_path=sys.argv[1])
    calls = int(sys.argv[2])
    features, clock = references(), time.perf_counter
    rows = [[{"customer_id": f"C{i:06d}"}] for i in range(1000)]
    medians, memory = [], []
    for block in range(calls // SPAN):
        taken = []
        for i in range(SPAN):
            start = clock()
            store.get_online_features(features, rows[i % 1000]).to_dict()
            taken.append(clock() - start)
        medians.append(statistics.median(taken))
        if block in (0, calls // SPAN - 1):
            gc.collect()
            memory.append(rss())
    spread = statistics.quantiles(medians, n=20)
    print(
        json.dumps(
            {
                "calls": calls,
                "first_us": medians[0] * 1e6,
                "last_us": medians[-1] * 1e6,
                "p5_us": spread[0] * 1e6,
                "p95_us": spread[-1] * 1e6,
                "memory_growth_bytes": memory[-1] - memory[0],
            }
        )
    )


if __name__ == "__main__":
    main()
