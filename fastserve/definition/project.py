"""Projects."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fastserve.definition.check import Arguments, Definition

__all__ = ["Project"]


class Project(Definition):
    """A namespace of the registry and of the online store; a repository has one.

        project = Project(name="bank", description="Payments", owner="team@bank.example")

    Args:
        name: the same as `project` in feature_store.yaml.
        created_timestamp, last_updated_timestamp: kept by the registry; not needed here.

    Raises:
        DefinitionError: an argument is of the wrong type.
    """

    def __init__(
        self,
        *,
        name: str,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        created_timestamp: datetime | None = None,
        last_updated_timestamp: datetime | None = None,
    ):
        check = Arguments("Project", name)
        self.name = name
        self.description = check.text("description", description)
        self.tags = check.texts("tags", tags)
        self.owner = check.text("owner", owner)
        self.created_timestamp = check.moment("created_timestamp", created_timestamp)
        self.last_updated_timestamp = check.moment("last_updated_timestamp", last_updated_timestamp)
