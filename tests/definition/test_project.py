"""Projects."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from fastserve.definition import Project
from fastserve.errors import DefinitionError


def test_arguments() -> None:
    moment = datetime(2024, 1, 1)
    project = Project(name="bank", description="d", tags={"a": "b"}, owner="o", created_timestamp=moment)
    assert (project.name, project.description, project.tags, project.owner) == ("bank", "d", {"a": "b"}, "o")
    assert (project.created_timestamp, project.last_updated_timestamp) == (moment, None)


def test_time_stamps_are_not_compared() -> None:
    assert Project(name="bank") == Project(name="bank", created_timestamp=datetime(2024, 1, 1))


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"name": None}, "Project: name must be text, not None"),
        ({"name": "bank", "created_timestamp": "now"}, "Project bank: created_timestamp must be a datetime, not 'now'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(DefinitionError, match=f"^{rule}$"):
        Project(**arguments)
