"""Feast's own remote client, asked by `test_remote_client`; runs in the environment that has Feast.

    python -m interop.remote_client REPO OUT

The repository's online store is a server. What the client reads, writes and is refused goes to OUT as one JSON text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pandas as pd
from feast import FeatureStore
from feast.data_source import PushMode

LATE = pd.Timestamp("2026-08-01T10:00:00")


def answers(store: FeatureStore) -> dict[str, Any]:
    rows = [{"customer_id": key} for key in ("C1", "NOPE", "C2", "C1")]
    pairs = [{"payer_id": "C1", "payee_id": "C2"}]
    amounts = [{"customer_id": "C1", "amount": 100.0}, {"customer_id": "C2", "amount": 1.0}]
    balances = [{"account_id": 7}, {"account_id": 8}]
    return {
        "features": read(store, ["customer_profile:age", "customer_profile:segment", "txn_7d:amount_sum"], rows),
        "service": read(store, store.get_feature_service("transfer_svc"), pairs, full_feature_names=True),
        "on demand": read(store, ["risk_py:ratio", "risk_py:flag"], amounts),
        # Not the lists: Feast's client cannot take an empty one.
        "integers": read(store, ["account_balance:balance"], balances),
    }


def read(store: FeatureStore, features: Any, rows: list[dict[str, Any]], **options: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = store.get_online_features(features, rows, **options).to_dict()
    return found


def write(store: FeatureStore) -> None:
    times = {"event_timestamp": [LATE, LATE], "created": [LATE, LATE]}
    balance = {"account_id": [7, 8], "balance": [1.25, -2.5], "history": [[1.0, 2.0], [3.0]]}
    store.write_to_online_store("account_balance", pd.DataFrame({**balance, **times}))
    sums = {"customer_id": ["C1", "C2"], "amount_sum": [500.5, 7.0], "txn_count": [50, 1], "avg_amount": [10.01, 7.0]}
    store.push("txn_push", pd.DataFrame({**sums, **times}), to=PushMode.ONLINE)


def refusal(ask: Callable[[], Any]) -> str:
    try:
        ask()
    except Exception as exc:
        return type(exc).__name__
    return ""


def main(repo: str, out: str) -> None:
    """Read, write, read again, and ask for what there is not."""
    store = FeatureStore(repo_path=repo)
    said: dict[str, Any] = {"before": answers(store)}
    write(store)
    said["after"] = answers(store)
    rows = [{"customer_id": "C1"}]
    said["refused"] = [
        refusal(lambda: read(store, ["nope:x"], rows)),
        refusal(lambda: read(store, ["risk_py:ratio"], rows)),
        refusal(lambda: read(store, ["customer_profile:age"], [{"customer_id": None}])),
    ]
    with open(out, "w") as file:
        json.dump(said, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
