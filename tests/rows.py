"""Views of one join key that tests make rows for.

view(source, **features)   a FeatureView of the entity `customer`, whose rows have `cid`, the features and `ts`
"""

from __future__ import annotations

import datetime as dt

from fastserve.model import DataSource, FeatureView, Field
from fastserve.types import FeastType, String

UTC = dt.timezone.utc
DAY = dt.datetime(2026, 1, 2, tzinfo=UTC)
ALWAYS = dt.datetime(1970, 1, 1, tzinfo=UTC), dt.datetime(2100, 1, 1, tzinfo=UTC)


def view(source: DataSource | None = None, /, **features: FeastType) -> FeatureView:
    """Return a view, by default over the file rows.parquet."""
    return FeatureView(
        "v",
        entities=("customer",),
        entity_columns=(Field("cid", String),),
        features=tuple(Field(name, dtype) for name, dtype in features.items()),
        batch_source=source or DataSource("s", "file", timestamp_field="ts", path="rows.parquet"),
    )
