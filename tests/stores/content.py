"""What the store tests store: views and rows, written by the oracle, and the plans and batches that read them back.

    view = View("profile", ("age", "income"))                   one join key, customer_id STRING, unless told otherwise
    write_redis(client, "bank", view, [Row(("C1",), {"age": 41, "income": None}, 1767225600)])
    write_sqlite(path, "bank", view, rows)
    answer = read(store, plan([view]), customer_id=["C1", "C2"])
    answer == expected([(view, rows)], customer_id=["C1", "C2"])

All features are INT64, so that a test can say what it means; the value codec has its own tests.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import redis

from fastserve._core import Batch, KeyGroup, ReadPlan, Slot, StoredView, python_columns, statuses
from fastserve.stores import Store
from tests import reference
from tests.reference import INT64, STRING

PROJECT = "bank"
TIME = 1767225600
"""2026-01-01T00:00:00Z, in seconds."""

Number = int | bytes | None
"""A stored feature: a number, the bytes to be stored as they are, or a null."""


class View(NamedTuple):
    """A stored feature view."""

    name: str
    features: Sequence[str]
    join_keys: Sequence[str] = ("customer_id",)
    types: Sequence[int] = (STRING,)

    @property
    def is_entityless(self) -> bool:
        return not self.join_keys


class Row(NamedTuple):
    """A stored row: the values of the view's join keys, feature -> number, seconds since the epoch."""

    key: tuple[Any, ...]
    values: Mapping[str, Number]
    time: int = TIME


class Answer(NamedTuple):
    """What a batch says of each feature, by `view:feature`: one value, status and event time (seconds) per row."""

    values: dict[str, list[Any]]
    statuses: dict[str, list[str]]
    times: dict[str, list[int]]


def entity_key(view: View, key: Sequence[Any], version: int = 3) -> bytes:
    """Return the bytes of an entity key, without the project."""
    if view.is_entityless:
        return reference.serialize_entity_key(["__dummy_id"], [""], [STRING], version)
    return reference.serialize_entity_key(view.join_keys, key, view.types, version)


def stored(number: Number) -> bytes:
    """Return the bytes of a stored feature."""
    if number is None or isinstance(number, bytes):
        return number or b""
    value = reference.Value(int64_val=number)
    return bytes(value.SerializeToString())


# --- writing ---------------------------------------------------------------------------------------------------------


def write_redis(client: redis.Redis, view: View, rows: Iterable[Row], version: int = 3, project: str = PROJECT) -> None:
    """Write rows as Feast does, without a look at what is there."""
    with client.pipeline(transaction=False) as pipeline:
        for row in rows:
            fields = {reference.field_id(view.name, name): stored(number) for name, number in row.values.items()}
            fields[reference.timestamp_field(view.name)] = reference.encode_timestamp(row.time)
            key = entity_key(view, row.key, version) + project.encode()
            pipeline.hset(key, mapping=fields)  # type: ignore[arg-type]
        pipeline.execute()


TABLE = """CREATE TABLE IF NOT EXISTS "{}" (entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT,
 vector_value BLOB, event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"""


def write_sqlite(path: Path, view: View, rows: Iterable[Row], version: int = 3, project: str = PROJECT) -> None:
    """Write rows as Feast does; the table is created."""
    table = f"{project}_{view.name}".replace('"', '""')
    columns = "entity_key, feature_name, value, event_ts"
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(TABLE.format(table))
        connection.executemany(
            f'INSERT OR REPLACE INTO "{table}" ({columns}) VALUES (?, ?, ?, ?)',
            [
                (entity_key(view, row.key, version), name, stored(number), row.time)
                for row in rows
                for name, number in row.values.items()
            ],
        )
    connection.close()


# --- reading ---------------------------------------------------------------------------------------------------------


def plan(views: Sequence[View], version: int = 3, project: str = PROJECT, ttl: int = 0) -> ReadPlan:
    """Return the plan that reads all features of the views; `ttl` is in seconds.

    A view may be listed with fewer features, or other columns' names, than it has.
    """
    groups: dict[tuple[str, ...], list[View]] = {}
    for view in views:
        groups.setdefault(tuple(view.join_keys), []).append(view)
    built = [_group(members, project, version) for members in groups.values()]
    outputs = [
        Slot(f"{view.name}:{feature}", f"{view.name}:{feature}", INT64, index, stored_view.start + i,
             stored_view.event_time, ttl * 1_000_000)
        for index, members in enumerate(groups.values())
        for view, stored_view in zip(members, built[index].views, strict=True)
        for i, feature in enumerate(view.features)
    ]  # fmt: skip
    join_keys = {name: number for view in views for name, number in zip(view.join_keys, view.types, strict=True)}
    required = {name: [view.name for view in views if name in view.join_keys] for name in join_keys}
    return ReadPlan(built, outputs, join_keys=join_keys, required=required)


def _group(views: Sequence[View], project: str, version: int) -> KeyGroup:
    stored_views: list[StoredView] = []
    for view in views:
        stored_views.append(
            StoredView(view.name, view.features, stored_views[-1].event_time + 1 if stored_views else 0)
        )
    names, types = views[0].join_keys, views[0].types
    if not names:
        return KeyGroup(["__dummy_id"], [], [], stored_views, project, version)
    columns = sorted(zip(names, types, strict=True))
    sorted_names, sorted_types = [name for name, _ in columns], [number for _, number in columns]
    return KeyGroup(sorted_names, sorted_names, sorted_types, stored_views, project, version)


def batch_of(read_plan: ReadPlan, n_rows: int | None = None, **keys: Any) -> Batch:
    """Return a batch that is yet to be read; `n_rows` is needed where there are no keys."""
    return Batch(read_plan, keys, len(next(iter(keys.values()))) if n_rows is None else n_rows)


def read(store: Store, read_plan: ReadPlan, n_rows: int | None = None, **keys: Any) -> Answer:
    """Read a batch and return what it says."""
    batch = batch_of(read_plan, n_rows, **keys)
    store.read(batch)
    return answer_of(batch)


def answer_of(batch: Batch) -> Answer:
    """Return what a batch that was read says."""
    columns, found = python_columns(batch, event_timestamps=True), statuses(batch)
    names = [slot.name for slot in batch.plan.outputs]
    return Answer(
        {name: columns[name] for name in names},
        {name: found[name] for name in names},
        {name: columns[f"{name}__ts"] for name in names},
    )


# --- the model -------------------------------------------------------------------------------------------------------


def expected(content: Iterable[tuple[View, Iterable[Row]]], n_rows: int | None = None, **keys: Any) -> Answer:
    """Return what any store must say of this content; a later row adds to, or overwrites, an earlier one."""
    count = len(next(iter(keys.values()))) if n_rows is None else n_rows
    answer = Answer({}, {}, {})
    for view, rows in content:
        merged: dict[tuple[Any, ...], Row] = {}
        for row in rows:
            before = merged.get(row.key, row)
            merged[row.key] = Row(row.key, {**before.values, **row.values}, row.time)
        asked = [merged.get(tuple(keys[name][i] for name in view.join_keys)) for i in range(count)]
        for feature in view.features:
            name = f"{view.name}:{feature}"
            answer.values[name] = [row.values.get(feature) if row else None for row in asked]
            answer.statuses[name] = [_status(row, feature) for row in asked]
            answer.times[name] = [row.time if row else 0 for row in asked]
    return answer


def _status(row: Row | None, feature: str) -> str:
    if row is None or feature not in row.values:
        return "NOT_FOUND"
    return "NULL_VALUE" if row.values[feature] is None else "PRESENT"
