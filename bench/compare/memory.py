"""How much memory a materialization takes: memory.py FOLDER ROWS. Prints one line of JSON.

Replaces the Parquet file of the view by one of so many rows, written by another process so that this one stays small.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path

from write_worker import END, START, VIEW

from fastserve import FeatureStore


def write_file(path: Path, rows: int) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = None
    with path.open("wb") as file:
        for start in range(0, rows, 250_000):
            n = min(250_000, rows - start)
            rand = np.random.default_rng(start)
            at = rand.integers(1_767_225_600_000_000, 1_769_644_800_000_000, n)
            table = pa.table(
                {
                    "customer_id": [f"C{i:07d}" for i in range(start, start + n)],
                    "profile_0": rand.random(n) * 1e4,
                    "profile_1": rand.integers(0, 10**6, n),
                    "profile_2": rand.random(n).astype("float32"),
                    "profile_3": [f"segment {i}" for i in rand.integers(0, 100, n)],
                    "profile_4": rand.integers(0, 120, n).astype("int32"),
                    "profile_5": rand.random(n),
                    "profile_6": rand.random(n) < 0.5,
                    "profile_7": pa.array(rand.integers(0, 1_700_000_000, n) * 10**6, pa.timestamp("us", "UTC")),
                    "event_timestamp": pa.array(at, pa.timestamp("us", "UTC")),
                }
            )
            if schema is None:
                schema = table.schema
                writer = pq.ParquetWriter(file, schema)
            writer.write_table(table)
        writer.close()


def peak() -> int:
    """Bytes of memory at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    folder, rows = Path(sys.argv[1]), int(sys.argv[2])
    writer = multiprocessing.get_context("spawn").Process(
        target=write_file, args=(folder / "data/profile.parquet", rows)
    )
    writer.start()
    writer.join()
    store = FeatureStore(repo_path=folder)
    store.write_to_online_store(VIEW, df={"customer_id": ["C0"], **first_row()})
    idle, start = peak(), time.perf_counter()
    store.materialize(START, END, feature_views=[VIEW])
    print(json.dumps({"rows": rows, "growth": peak() - idle, "idle": idle, "wall": time.perf_counter() - start}))


def first_row() -> dict[str, list[object]]:
    """A row to warm up with: what an idle process that writes has loaded."""
    values: list[object] = [1.5, 1, 1.5, "gold", 1, 1.5, True, START]
    return {f"profile_{i}": [value] for i, value in enumerate(values)} | {"event_timestamp": [START]}


if __name__ == "__main__":
    main()
