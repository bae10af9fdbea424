"""The repository that is measured: 6 feature views of a bank's customers, 8 features each, for Feast to apply."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

TOPICS = ("profile", "balances", "cards", "transfers", "logins", "scores")
DTYPES = (Float64, Int64, Float32, String, Int32, Float64, Bool, UnixTimestamp)

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)


def view(topic: str) -> FeatureView:
    source = FileSource(name=f"{topic}_file", path=f"data/{topic}.parquet", timestamp_field="event_timestamp")
    features = [Field(name=f"{topic}_{i}", dtype=dtype) for i, dtype in enumerate(DTYPES)]
    schema = [Field(name="customer_id", dtype=String), *features]
    return FeatureView(name=f"customer_{topic}", entities=[customer], ttl=timedelta(0), source=source, schema=schema)


VIEWS = list(map(view, TOPICS))
OBJECTS = [customer, *VIEWS]
SERVICE = FeatureService(name="everything", features=VIEWS, precompute_online=True)
REFERENCES = [f"customer_{topic}:{topic}_{i}" for topic in TOPICS for i in range(len(DTYPES))]
