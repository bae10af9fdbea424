"""Writes a repository of many feature views: many_views.py feast|fastserve FOLDER VIEWS."""

import sys
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DEFINITIONS = """\
from datetime import timedelta

from {package} import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from {package}.types import Float64, Int64, String

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)


def view(number):
    source = FileSource(name=f"file_{{number}}", path="data/rows.parquet", timestamp_field="event_timestamp")
    features = [Field(name=f"feature_{{i}}", dtype=(Float64, Int64)[i % 2]) for i in range(8)]
    schema = [Field(name="customer_id", dtype=String), *features]
    return FeatureView(name=f"view_{{number}}", entities=[customer], ttl=timedelta(1), source=source, schema=schema)


for number in range({views}):
    globals()[f"view_{{number}}"] = view(number)
service = FeatureService(name="service", features=[view_0, view_1])  # noqa: F821
"""

CONFIG = """\
project: many
provider: local
registry: registry.db
online_store:
  type: sqlite
  path: online.db
entity_key_serialization_version: 3
"""


def main() -> None:
    package, folder, views = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    columns = {f"feature_{i}": pa.array([1], (pa.float64(), pa.int64())[i % 2]) for i in range(8)}
    at = pa.array([datetime(2026, 1, 1, tzinfo=timezone.utc)], pa.timestamp("us", "UTC"))
    (folder / "data").mkdir()
    pq.write_table(pa.table({"customer_id": ["C1"], **columns, "event_timestamp": at}), folder / "data/rows.parquet")
    (folder / "features.py").write_text(DEFINITIONS.format(package=package, views=views))
    (folder / "feature_store.yaml").write_text(CONFIG)


main()
