"""What the online store may hold of a project: a plan for each view of a registry, and for each version of it.

Read from the messages and not from a Snapshot: an apply does this twice, before and after, for all views.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastserve._core import WritePlan
from fastserve.config import Config
from fastserve.model import DUMMY_JOIN_KEY
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.lists import project_of
from fastserve.types import ValueType
from fastserve.versions import VERSIONED

__all__ = ["store_plans"]

_VIEWS = ("feature_views", "stream_feature_views", "label_views", "on_demand_feature_views")


def store_plans(config: Config, registry: pb.Registry) -> dict[str, WritePlan]:
    """Return the plans by the names that the views have in the store."""
    entities = {e.spec.name: e.spec for e in registry.entities if project_of(e) == config.project}
    views = dict(_views(config.project, registry))
    if config.registry.enable_online_feature_view_versioning:
        views |= dict(_versions(config.project, registry))
    plans = {name: _plan(config, name, spec, entities) for name, spec in views.items()}
    return {name: plan for name, plan in plans.items() if plan is not None}


def _views(project: str, registry: pb.Registry) -> Iterator[tuple[str, Any]]:
    for kind in _VIEWS:
        for view in getattr(registry, kind):
            if project_of(view) == project and _is_stored(view.spec):
                yield view.spec.name, view.spec


def _is_stored(spec: Any) -> bool:
    return not isinstance(spec, pb.OnDemandFeatureViewSpec) or spec.write_to_online_store


def _versions(project: str, registry: pb.Registry) -> Iterator[tuple[str, Any]]:
    kinds = dict(VERSIONED.values())
    for record in registry.feature_view_version_history.records:
        if record.project_id == project and record.version_number and record.feature_view_type in kinds:
            spec = kinds[record.feature_view_type].FromString(record.feature_view_proto).spec
            if _is_stored(spec):
                yield f"{record.feature_view_name}_v{record.version_number}", spec


def _plan(config: Config, name: str, spec: Any, entities: dict[str, pb.EntitySpecV2]) -> WritePlan | None:
    keys = {column.name: column.value_type for column in spec.entity_columns}
    if not keys:  # in registries of old Feasts the entities tell
        keys = {entities[e].join_key: entities[e].value_type for e in spec.entities if e in entities}
    if list(keys) in ([], [DUMMY_JOIN_KEY]):
        keys = {DUMMY_JOIN_KEY: int(ValueType.STRING)}
    features = {column.name: column.value_type for column in spec.features if column.name not in keys}
    version = config.entity_key_serialization_version
    try:
        return WritePlan(name, keys, keys.values(), features, features.values(), config.project, version)
    except ValueError:
        return None  # it cannot be stored, which `validate` allows only to views that are not online
