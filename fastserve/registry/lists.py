"""The lists of a Registry message, and whose object each of their messages is."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from fastserve.registry import schema_pb2 as pb

__all__ = ["LISTS", "VIEWS", "add_project", "content", "name_of", "project_of", "remove_project"]

LISTS = (
    "projects",
    "entities",
    "data_sources",
    "feature_views",
    "stream_feature_views",
    "on_demand_feature_views",
    "label_views",
    "feature_services",
)
"""Those whose messages are definitions."""

VIEWS = ("feature_views", "stream_feature_views", "label_views", "on_demand_feature_views")


def name_of(item: Any) -> str:
    """Return the name of a definition's message."""
    # A data source is the only kind without a spec.
    return str(item.name if isinstance(item, pb.DataSource) else item.spec.name)


def project_of(item: Any) -> str:
    """Return the project that a definition's message belongs to; a project belongs to itself."""
    if isinstance(item, pb.DataSource):
        return item.project
    return str(item.spec.name if isinstance(item, pb.Project) else item.spec.project)


def content(message: Message) -> bytes:
    """Return bytes that are equal for equal messages, which `==` is not when there is a NaN in them."""
    return message.SerializeToString(deterministic=True)


def add_project(message: pb.Registry, project: str) -> None:
    """See to it that a project with definitions in the registry is itself one of them."""
    owners = {project_of(item) for name in LISTS for item in getattr(message, name) if name != "projects"}
    if project in owners and project not in map(name_of, message.projects):
        added = message.projects.add()
        added.spec.name = project
        added.meta.created_timestamp.GetCurrentTime()
        added.meta.last_updated_timestamp.CopyFrom(added.meta.created_timestamp)


def remove_project(message: pb.Registry, project: str) -> None:
    """Take a project and everything of it out of a registry."""
    for name in (*LISTS, "permissions"):
        items = getattr(message, name)
        _keep(items, [item for item in items if project_of(item) != project])
    _keep(message.project_metadata, [item for item in message.project_metadata if item.project != project])
    records = message.feature_view_version_history.records
    _keep(records, [record for record in records if record.project_id != project])


def _keep(items: Any, kept: list[Any]) -> None:
    if len(kept) < len(items):
        del items[:]
        items.extend(kept)
