"""A small shop: a thousand customers, their orders by the hour, and one feature service."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from fastserve.templates import minimal

__all__ = ["write"]

CUSTOMERS = 1000
HOURS = 7 * 24
ORDERS_PER_HOUR = 40
SEED = 7

DEFINITIONS = '''\
"""Features of a shop's customers.

Apply them with `fastserve apply`, load their values with `fastserve materialize-incremental`, and read them with
`fastserve get checkout -e customer_id=1001`.
"""

from datetime import timedelta

from fastserve import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from fastserve.types import Bool, Float64, Int64, String

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)

# What the shop knows of a customer: one row per customer.
profiles = FileSource(
    name="profiles",
    path="data/profiles.parquet",
    timestamp_field="event_timestamp",
    created_timestamp_column="created",
)

customer_profile = FeatureView(
    name="customer_profile",
    entities=[customer],
    schema=[
        Field(name="city", dtype=String),
        Field(name="age", dtype=Int64, description="in years"),
        Field(name="is_member", dtype=Bool),
    ],
    source=profiles,
    tags={"team": "crm"},
)

# What a customer ordered lately: a row per order, of which the newest counts.
orders = FileSource(
    name="orders",
    path="data/orders.parquet",
    timestamp_field="event_timestamp",
    created_timestamp_column="created",
)

# The shop pushes new orders here, with `FeatureStore.push` or `POST /push`.
order_stream = PushSource(name="order_stream", batch_source=orders)

customer_orders = FeatureView(
    name="customer_orders",
    entities=[customer],
    ttl=timedelta(days=7),
    schema=[
        Field(name="last_amount", dtype=Float64),
        Field(name="orders_7d", dtype=Int64),
        Field(name="amount_7d", dtype=Float64),
    ],
    source=order_stream,
    tags={"team": "checkout"},
)

# What a model asks for, by one name.
checkout = FeatureService(
    name="checkout",
    features=[customer_profile[["city", "is_member"]], customer_orders],
)
'''

README = """\
# {project}

    cd {repository}
    fastserve apply                                              # definitions -> registry and online store
    fastserve materialize-incremental $(date -u +%Y-%m-%dT%H:%M:%S)     # Parquet -> online store
    fastserve get checkout -e customer_id=1001                   # read
    fastserve serve                                              # the same over HTTP

| path | what |
| --- | --- |
| `feature_store.yaml` | project, registry, online store |
| `features.py` | the definitions |
| `data/` | the Parquet files that they come from; also the registry and the SQLite store |
"""


def write(folder: Path, repository: Path, project: str) -> None:
    """Write it; `repository` is there, below `folder`. The data ends an hour ago."""
    import pyarrow.parquet as pq

    minimal.write(folder, repository, project)
    (repository / "features.py").write_text(DEFINITIONS)
    (folder / "README.md").write_text(README.format(project=project, repository=repository.name))
    end = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
    rand = random.Random(SEED)
    pq.write_table(_profiles(rand, end), repository / "data/profiles.parquet")
    pq.write_table(_orders(rand, end), repository / "data/orders.parquet")


def _profiles(rand: random.Random, end: datetime) -> Any:
    import pyarrow as pa

    ids = range(1001, 1001 + CUSTOMERS)
    start = end - timedelta(hours=HOURS)
    return pa.table(
        {
            "customer_id": pa.array(ids, pa.int64()),
            "city": [rand.choice(["Amsterdam", "Bremen", "Lyon", "Porto", "Turku"]) for _ in ids],
            "age": pa.array([rand.randint(18, 90) for _ in ids], pa.int64()),
            "is_member": [rand.random() < 0.3 for _ in ids],
            "event_timestamp": pa.array([start] * CUSTOMERS, pa.timestamp("us", "UTC")),
            "created": pa.array([end] * CUSTOMERS, pa.timestamp("us", "UTC")),
        }
    )


def _orders(rand: random.Random, end: datetime) -> Any:
    import pyarrow as pa

    times = [end - timedelta(hours=hour, seconds=rand.randrange(3600)) for hour in range(HOURS, 0, -1)]
    rows = sorted((time, rand.randint(1001, 1000 + CUSTOMERS)) for time in times for _ in range(ORDERS_PER_HOUR))
    counts: dict[int, int] = {}
    sums: dict[int, float] = {}
    columns: dict[str, list[Any]] = {"customer_id": [], "last_amount": [], "orders_7d": [], "amount_7d": []}
    for _, customer in rows:
        amount = round(rand.lognormvariate(3.3, 0.8), 2)
        counts[customer] = counts.get(customer, 0) + 1
        sums[customer] = round(sums.get(customer, 0.0) + amount, 2)
        for name, value in zip(columns, (customer, amount, counts[customer], sums[customer]), strict=True):
            columns[name].append(value)
    moments = pa.array([time for time, _ in rows], pa.timestamp("us", "UTC"))
    return pa.table({**columns, "event_timestamp": moments, "created": moments})
