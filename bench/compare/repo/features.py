"""The repository that is measured: 6 feature views of a bank's customers, 8 features each, for Feast to apply.

BENCH_FEATURES=500 makes it as many features, in as many views as that takes.
"""

import os
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

DTYPES = (Float64, Int64, Float32, String, Int32, Float64, Bool, UnixTimestamp)
FEATURES = int(os.environ.get("BENCH_FEATURES", "48"))
N_VIEWS = -(-FEATURES // len(DTYPES))
TOPICS = ("profile", "balances", "cards", "transfers", "logins", "scores", *(f"topic{i}" for i in range(6, N_VIEWS)))[
    :N_VIEWS
]

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)


def view(topic: str) -> FeatureView:
    source = FileSource(name=f"{topic}_file", path=f"data/{topic}.parquet", timestamp_field="event_timestamp")
    dtypes = DTYPES[: FEATURES - TOPICS.index(topic) * len(DTYPES)]
    features = [Field(name=f"{topic}_{i}", dtype=dtype) for i, dtype in enumerate(dtypes)]
    schema = [Field(name="customer_id", dtype=String), *features]
    return FeatureView(name=f"customer_{topic}", entities=[customer], ttl=timedelta(0), source=source, schema=schema)


VIEWS = list(map(view, TOPICS))
PLAIN = FeatureService(name="plain", features=VIEWS)
OBJECTS = [customer, *VIEWS, PLAIN]
SERVICE = FeatureService(name="everything", features=VIEWS, precompute_online=True)
