"""Rows of a stored on-demand feature view: its function runs when they are written."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from fastserve.arrow import as_python
from fastserve.model import FeatureView, OnDemandFeatureView
from fastserve.sources import RowFormat, columns_of, join_keys_of
from fastserve.transform import call_function, load_function

__all__ = ["compute_rows", "on_demand_format"]

EVENT_TIME = "__event_time"


def on_demand_format(view: FeatureView) -> RowFormat:
    """Return what rows of a stored on-demand feature view consist of: its join keys are features too, as with Feast.

    Raises:
        EntityError: a join key's type cannot be a key.
    """
    return RowFormat(
        view=view.name,
        join_keys=join_keys_of(view),
        features=tuple((field.name, field.value_type) for field in (*view.entity_columns, *view.features)),
        event_time=EVENT_TIME,
        created="",
        field_mapping={},
        vector_lengths={feature.name: feature.vector_length for feature in view.features if feature.vector_length},
    )


def compute_rows(view: OnDemandFeatureView, form: RowFormat, rows: Any, allowed: bool) -> dict[str, Any]:
    """Run the view's function on rows of any form, and return the columns of `form`; the event time is now.

    Args:
        allowed: whether code of the registry may be run.
    Raises:
        RequestError: as `columns_of`.
        NotSupportedError, TransformError: as `load_function`; or the function failed, perhaps for want of a column.
    """
    columns = {name: as_python(column) for name, column in columns_of(rows).items()}
    n_rows = len(next(iter(columns.values()), ()))
    computed = call_function(view, load_function(view, allowed), columns, n_rows)
    nothing = [None] * n_rows
    found = {name: computed.get(name, columns.get(name, nothing)) for name, _ in (*form.join_keys, *form.features)}
    return {**found, EVENT_TIME: [datetime.now(timezone.utc)] * n_rows}
