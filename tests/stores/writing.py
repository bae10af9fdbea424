"""Rows for the tests of writing, made of the views and rows of content.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastserve._core import EncodedRows, WritePlan, encode_rows
from tests.core.arrow import batch_of
from tests.reference import INT64
from tests.stores.content import PROJECT, Row, View

MICROS = 10**6


def write_plan(view: View, version: int = 3, project: str = PROJECT) -> WritePlan:
    """Return the plan that writes all features of a view."""
    return WritePlan(
        view.name, view.join_keys, view.types, view.features, [INT64] * len(view.features), project, version
    )


def rows_of(view: View, rows: Sequence[Row], version: int = 3, project: str = PROJECT) -> EncodedRows:
    """Return rows, each of which has all features of the view, ready to be written; times may have fractions."""
    plan = write_plan(view, version, project)
    keys = [[row.key[list(view.join_keys).index(name)] for row in rows] for name in plan.join_keys]
    columns: list[Sequence[Any]] = [*keys, *([row.values[name] for row in rows] for name in view.features)]
    return encode_rows(plan, batch_of(plan, columns, [round(row.time * MICROS) for row in rows]))
