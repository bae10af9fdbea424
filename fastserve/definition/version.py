"""The text that pins a view to one of its versions."""

from __future__ import annotations

import re

__all__ = ["parse_version"]

_PINNED = re.compile(r"v(?:ersion)?([0-9]{1,9})", re.IGNORECASE)


def parse_version(text: str) -> int | None:
    """Return the number that `vN` or `versionN` names, and None for "latest" and "".

    Raises:
        ValueError: the text is neither.
    """
    if text.lower() in ("", "latest"):
        return None
    found = _PINNED.fullmatch(text)
    if found is None:
        raise ValueError(f"version must be 'latest' or 'vN' (such as 'v2'), not {text!r}")
    return int(found[1])
