"""Version texts."""

from __future__ import annotations

import pytest

from fastserve.definition import parse_version


@pytest.mark.parametrize(
    ("text", "number"), [("", None), ("latest", None), ("LATEST", None), ("v0", 0), ("V7", 7), ("version12", 12)]
)
def test_versions(text: str, number: int | None) -> None:
    assert parse_version(text) == number


@pytest.mark.parametrize("text", ["2", "v", "v-1", "v1.0", "v1 ", "vv1", "newest", "v1234567890", "v٣"])
def test_wrong_versions(text: str) -> None:
    with pytest.raises(ValueError, match="version must be 'latest' or 'vN'"):
        parse_version(text)
