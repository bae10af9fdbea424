"""Writing to the bank repository: rows for it, and what its online store and its registry tell afterwards.

txn(...)                    a row of txn_7d, with a column too many
amounts(store, *customers)  what is then read of them
intervals(store, view)      the windows that are recorded of a view
states(store, *views)       the states of views
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from fastserve import FeatureStore
from tests.rows import UTC

START, END = dt.datetime(2025, 1, 1), dt.datetime(2026, 2, 1, tzinfo=UTC)
"""A window that has all rows of the bank's files."""

LATER = dt.datetime(2026, 3, 1, tzinfo=UTC)
"""After all that is stored."""

VIEWS = ["customer_profile", "txn_7d", "account_balance", "account_merchant", "fx_rates"]
"""Those that can be materialized."""


def txn(customer: str = "C1", amount: float | None = 500.5, time: Any = LATER, count: Any = 50) -> dict[str, list[Any]]:
    """Return the columns of one row."""
    return {
        "customer_id": [customer],
        "amount_sum": [amount],
        "txn_count": [count],
        "avg_amount": [10.5],
        "event_timestamp": [time],
        "created": [time],
        "more": ["ignored"],
    }


def amounts(store: FeatureStore, *customers: str) -> list[Any]:
    """Return the `txn_7d:amount_sum` of customers."""
    found = store.get_online_features(["txn_7d:amount_sum"], {"customer_id": list(customers)}).to_dict()
    return list(found["amount_sum"])


def intervals(store: FeatureStore, name: str) -> list[tuple[dt.datetime, dt.datetime]]:
    """Return the materialization intervals of a view, as the registry has them now."""
    store.refresh_registry()
    return list(store.get_feature_view(name).materialization_intervals)


def states(store: FeatureStore, *names: str) -> list[str]:
    """Return the names of the states of views, as the registry has them now."""
    store.refresh_registry()
    return [store.get_feature_view(name).state.name for name in names]
