"""An online store for Feast: its own SDK and server read and write through fastserve's core. Needs `fastserve[feast]`.

    online_store:
      type: fastserve.feast.OnlineStore
      connection_string: localhost:6379

What is stored is what Feast's Redis store writes, so that one can be exchanged for the other at any time. Reads go as
a whole to a `fastserve.FeatureStore` over the same registry, on-demand views included: its statuses tell absent rows
from null values, which Feast's do not. Everything that is neither reading nor writing rows is Feast's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from feast.errors import FeastError
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.online_response import OnlineResponse as FeastResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse

from fastserve._core import decode_value
from fastserve.errors import FastserveError, WriteError
from fastserve.feature_store import FeatureStore
from fastserve.model import DUMMY_JOIN_KEY
from fastserve.response import OnlineResponse
from fastserve.sources import RowFormat, to_batch
from fastserve.types import ValueType
from fastserve.write import ViewWriter, encode, write_plan

__all__ = ["OnlineStore", "OnlineStoreConfig"]

_OWN = frozenset({"type", "ttl_mode", "allow_on_demand", "client"})
_EVENT_TIME = "__event_time"

_Rows = Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]]
"""(EntityKey, feature -> Value, event time, time of creation), as Feast gives them to a store."""


class OnlineStoreConfig(RedisOnlineStoreConfig):  # type: ignore[misc]
    """The section `online_store`: the keys of Feast's Redis store, and two of fastserve's.

    Args:
        ttl_mode: "ignore", as Feast does, "status" or "enforce".
        allow_on_demand: whether code of on-demand views may be loaded from the registry.
    """

    type: Literal["fastserve.feast.OnlineStore"] = "fastserve.feast.OnlineStore"
    ttl_mode: Literal["ignore", "status", "enforce"] = "ignore"
    allow_on_demand: bool = True


class OnlineStore(RedisOnlineStore):  # type: ignore[misc]
    """Feast's Redis store, with reads and writes of rows by fastserve.

    Raises:
        feast.errors.FeastError: where fastserve raises an error of the same name.
        FastserveError: all others; mistakes in a request are ValueErrors too.
    """

    _fastserve: FeatureStore | None = None

    def _store(self, config: Any) -> FeatureStore:
        if self._fastserve is None:
            self._fastserve = FeatureStore(config=_config(config), repo_path=config.repo_path)
        return self._fastserve

    def get_online_features(
        self,
        config: Any,
        features: Any,
        entity_rows: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> FeastResponse:
        """Read, as `FeatureStore.get_online_features` does."""
        try:
            answer = self._store(config).get_online_features(
                features, entity_rows, full_feature_names, include_feature_view_version_metadata
            )
        except FastserveError as exc:
            raise _feasts(exc) from exc
        return _Response(answer)

    async def get_online_features_async(
        self,
        config: Any,
        features: Any,
        entity_rows: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> FeastResponse:
        """Read without blocking the event loop."""
        try:
            answer = await self._store(config).get_online_features_async(
                features, entity_rows, full_feature_names, include_feature_view_version_metadata
            )
        except FastserveError as exc:
            raise _feasts(exc) from exc
        return _Response(answer)

    def online_write_batch(
        self, config: Any, table: Any, data: _Rows, progress: Callable[[int], Any] | None = None
    ) -> None:
        """Write rows: what is newer than what is stored, decided in the store in one step.

        Rows that the core does not take as they are, since a value is not of its feature's type or is a set or a time
        with a zone, are written by Feast's code.
        """
        store = self._store(config)
        try:
            rows = _encoded(store, table, data)
        except FastserveError:
            super().online_write_batch(config, table, data, progress)
            return
        if rows is not None:
            store._vectors.write(rows)
        if progress is not None:
            progress(len(data))

    async def online_write_batch_async(
        self, config: Any, table: Any, data: _Rows, progress: Callable[[int], Any] | None = None
    ) -> None:
        """Write rows without blocking the event loop."""
        import asyncio

        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    async def close(self) -> None:
        """Close the connections."""
        if self._fastserve is not None:
            self._fastserve.close()
        await super().close()


def _config(config: Any) -> dict[str, Any]:
    """Return what Feast's RepoConfig says, as feature_store.yaml would say it to fastserve."""
    store = config.online_store
    section = {name: value for name, value in store.model_dump(mode="json").items() if name not in _OWN}
    registry = config.registry.model_dump(mode="json", exclude_unset=True)
    return {
        "project": config.project,
        "provider": "local",
        "registry": {**registry, "path": config.registry.path},
        "online_store": {**section, "type": "redis"},
        "entity_key_serialization_version": config.entity_key_serialization_version,
        "fastserve": {"ttl_mode": store.ttl_mode, "allow_on_demand": store.allow_on_demand},
    }


def _feasts(error: FastserveError) -> Exception:
    """Return Feast's error of the same name, or the error itself."""
    if error.feast_class:
        detail = {"module": "feast.errors", "class": error.feast_class, "message": str(error)}
        found: Exception | None = FeastError.from_error_detail(json.dumps(detail))
        return found or error
    return error


class _Response(FeastResponse):  # type: ignore[misc]
    """Feast's OnlineResponse, whose protobuf message is only made if it is asked for."""

    def __init__(self, answer: OnlineResponse):
        self._answer = answer
        self._feature_types: dict[str, Any] = {}

    @cached_property
    def proto(self) -> Any:
        """Feast's message."""
        return GetOnlineFeaturesResponse.FromString(self._answer.to_proto_bytes())

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """Return column -> values."""
        return self._answer.to_dict(include_event_timestamps)


# --- writing ---------------------------------------------------------------------------------------------------------


def _encoded(store: FeatureStore, table: Any, data: _Rows) -> Any | None:
    """Return rows ready to be written; None when there are none. Raises FastserveError: the core does not take them."""
    if not data:
        return None
    form = _format(table, data[0])
    columns: dict[str, list[Any]] = {_EVENT_TIME: [row[2] for row in data]}
    for position, (name, _) in enumerate(form.join_keys):
        columns[name] = [_python(row[0].entity_values[position]) for row in data]
    for name, _ in form.features:
        columns[name] = [_python(row[1][name]) for row in data]
    options = store._options
    plan = write_plan(form, _stored_name(table, options.versioning), options.project, options.key_version)
    return encode(ViewWriter(None, form, plan), to_batch(columns, form))  # type: ignore[arg-type]


def _format(table: Any, row: tuple[Any, dict[str, Any], datetime, datetime | None]) -> RowFormat:
    """Return what rows consist of: the keys of the first one, and the features that it has."""
    key = row[0]
    columns = [*table.entity_columns, *table.features]  # stored on-demand views have their join keys as features too
    types = {field.name: ValueType(field.dtype.to_value_type().value) for field in columns}
    if unknown := row[1].keys() - types.keys():
        raise WriteError(table.name, f"unknown features: {', '.join(sorted(unknown))}")
    if inexact := [name for name in row[1] if _is_inexact(types[name])]:
        raise WriteError(table.name, f"features that would change: {', '.join(inexact)}")
    kinds = [value.WhichOneof("val").removesuffix("_val").upper() for value in key.entity_values]
    keys = [(name, ValueType[kind]) for name, kind in zip(key.join_keys, kinds, strict=True)]
    return RowFormat(
        view=table.name,
        join_keys=tuple(pair for pair in keys if pair[0] != DUMMY_JOIN_KEY),
        features=tuple((name, types[name]) for name in row[1]),
        event_time=_EVENT_TIME,
        created="",
        field_mapping={},
        vector_lengths={},
    )


def _is_inexact(value_type: ValueType) -> bool:
    """Whether a value may get other bytes on its way: sets have no order, an empty zone is UTC."""
    return value_type is ValueType.ZONED_TIMESTAMP or value_type.name.endswith("_SET")


def _stored_name(table: Any, versioning: bool) -> str:
    number = getattr(table.projection, "version_tag", None) or getattr(table, "current_version_number", None)
    return f"{table.name}_v{number}" if versioning and number else str(table.name)


def _python(value: Any) -> Any:
    return decode_value(value.SerializeToString())
