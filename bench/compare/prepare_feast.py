"""Runs in Feast's environment: writes the data, applies the repository and materializes it to Redis, all with Feast.

prepare_feast.py FOLDER REDIS_PORT ENTITIES [vectors|on_demand|empty]

With `vectors` also a service of all features, whose vectors it builds; then it prints the seconds that this took. With
`on_demand` also an on-demand view. With `empty` nothing is materialized. REDIS_PORT may name a database too: 6379,db=1.
"""

import random
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
from feast import FeatureStore

sys.path.insert(0, str(Path(__file__).parent / "repo"))
from features import OBJECTS, SERVICE, TOPICS

CONFIG = """\
project: bank
provider: local
registry: {folder}/registry.db
online_store:
  type: redis
  connection_string: "127.0.0.1:{port}"
entity_key_serialization_version: 3
"""
UTC = timezone.utc


def table(topic: str, n: int) -> pd.DataFrame:
    rand = random.Random(f"{topic} {n}")
    columns = {
        "customer_id": [f"C{i:06d}" for i in range(n)],
        f"{topic}_0": [round(rand.uniform(0, 9e4), 2) for _ in range(n)],
        f"{topic}_1": [rand.randrange(10**6) for _ in range(n)],
        f"{topic}_2": pd.array([rand.random() for _ in range(n)], dtype="float32"),
        f"{topic}_3": [rand.choice(["gold", "silver", "basic", f"segment {rand.randrange(100)}"]) for _ in range(n)],
        f"{topic}_4": pd.array([rand.randrange(120) for _ in range(n)], dtype="int32"),
        f"{topic}_5": [None if rand.random() < 0.05 else rand.gauss(0, 1) for _ in range(n)],
        f"{topic}_6": [rand.random() < 0.5 for _ in range(n)],
        f"{topic}_7": [datetime.fromtimestamp(rand.randrange(1_700_000_000), UTC) for _ in range(n)],
        "event_timestamp": [datetime(2026, 1, 1 + i % 28, 3, 4, 5, 678901, tzinfo=UTC) for i in range(n)],
    }
    return pd.DataFrame(columns)


def main() -> None:
    folder, port, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for topic in TOPICS:
        table(topic, n).to_parquet(folder / f"data/{topic}.parquet", coerce_timestamps="us")
    (folder / "feature_store.yaml").write_text(CONFIG.format(folder=folder, port=port))
    store = FeatureStore(repo_path=str(folder))
    store.apply(OBJECTS)
    if "empty" in sys.argv:
        return
    store.materialize(datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC))
    if "on_demand" in sys.argv:
        from on_demand import spending

        store.apply([spending])
    if "vectors" in sys.argv:
        store.apply(SERVICE)
        start = time.perf_counter()
        store.precompute_feature_service(SERVICE.name)
        print(time.perf_counter() - start)


main()
