"""Feast's own SDK with its Redis store, and with `fastserve.feast.OnlineStore`: the same data, interleaved rounds.

    bench/plugin.py [--rounds N] [--entities-stored N]

Both subjects are `FeatureStore.get_online_features(...).to_dict()` of Feast, 48 features of six views.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from harness import BENCH, CORES, Subject, feast_python, pin, redis_server, run

CALLS = {1: 60, 10: 30, 100: 10}
STORES = {"feast": "redis", "plugin": "fastserve.feast.OnlineStore"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entities-stored", type=int, default=1000)
    options = parser.parse_args()
    feast = feast_python()
    os.environ["PYTHONPATH"] = f"{BENCH.parent}:{os.environ.get('PYTHONPATH', '')}"
    with redis_server() as (port, redis), tempfile.TemporaryDirectory() as temporary:
        folders = prepare(feast, Path(temporary), port, options.entities_stored)
        pin(redis, CORES[-1])
        measure(feast, folders, options.rounds, options.entities_stored)


def prepare(feast: str, folder: Path, port: int, entities: int) -> dict[str, Path]:
    """Return the two repositories: one registry, one database, filled by Feast."""
    run([feast, str(BENCH / "compare/prepare_feast.py"), str(folder / "feast"), str(port), str(entities)], folder)
    text = (folder / "feast" / "feature_store.yaml").read_text()
    (folder / "plugin").mkdir()
    (folder / "plugin" / "feature_store.yaml").write_text(text.replace("type: redis", f"type: {STORES['plugin']}"))
    return {name: folder / name for name in STORES}


def measure(feast: str, folders: dict[str, Path], rounds: int, entities: int) -> None:
    subjects = {name: Subject(feast, "worker.py", "feast", folder, CORES[0]) for name, folder in folders.items()}
    for count, calls in CALLS.items():
        keys = [f"C{i:06d}" for i in range(min(count, entities))]
        taken: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(rounds):
            found = {name: subject.measure(keys=keys, calls=calls) for name, subject in subjects.items()}
            assert found["feast"]["digest"] == found["plugin"]["digest"], "the answers differ"
            for name in subjects:
                taken[name].append(found[name]["wall"])
        wall = {name: statistics.median(times) * 1e6 for name, times in taken.items()}
        print(json.dumps({"entities": count, **wall, "ratio": round(wall["feast"] / wall["plugin"], 1)}), flush=True)
    for subject in subjects.values():
        subject.close()


if __name__ == "__main__":
    main()
