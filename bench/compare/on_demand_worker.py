"""One subject in a process of its own; as worker.py, about an on-demand view in Python mode.

    on_demand_worker.py regular|fastserve|feast FOLDER

`regular` reads the features that the view computes from; the others read its outputs. For fastserve the answer has
"function" too: the median seconds that the view's own function took in a call.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import Any

from worker import Call, measure

INPUTS = ["customer_profile:profile_0", "customer_balances:balances_1", "customer_cards:cards_5"]
OUTPUTS = ["spending:share", "spending:is_large", "spending:score"]


def reader(store: Any, features: list[str], keys: list[str]) -> Call:
    rows: list[dict[str, Any]] = [{"customer_id": key} for key in keys]
    if features is OUTPUTS:
        rows = [{**row, "amount": 10.0 * number} for number, row in enumerate(rows)]
    return lambda: store.get_online_features(features=features, entity_rows=rows).to_dict()


def main() -> None:
    name, folder = sys.argv[1:]
    if name == "feast":
        from feast import FeatureStore
    else:
        from fastserve import FeatureStore, transform
    store = FeatureStore(repo_path=folder)
    taken: list[int] = []
    if name == "fastserve":
        transform.listeners.append(lambda view, mode, nanoseconds: taken.append(nanoseconds))
    for line in sys.stdin:
        request = json.loads(line)
        taken.clear()
        found = measure(reader(store, INPUTS if name == "regular" else OUTPUTS, request["keys"]), request["calls"])
        if taken:
            found["function"] = statistics.median(taken) / 1e9
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
