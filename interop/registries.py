"""In what two registries differ, each as `registry_side.parsed` returns it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from interop.exchange import Json

__all__ = ["Difference", "differing", "unnamed"]

Difference = tuple[str, Any, Any]
"""Path, and the value on either side; None where there is none."""

BY_NAME = ("features", "infra_objects")  # lists whose order changes with Python's hash seed where Feast writes them


def differing(one: Json, other: Json) -> list[Difference]:
    """Return all leaves that differ."""
    a, b = dict(leaves(one)), dict(leaves(other))
    return [(path, a.get(path), b.get(path)) for path in sorted(a.keys() | b.keys()) if a.get(path) != b.get(path)]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, f"{path}/{name}")
    elif isinstance(value, list) and value:
        for name, item in numbered(path, value):
            yield from leaves(item, f"{path}/{name}")
    else:
        yield path, value


def numbered(path: str, items: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield items with their numbers; where the order means nothing, with their names."""
    if path.endswith(BY_NAME) and all(isinstance(item, dict) and "name" in item for item in items):
        return iter([(item["name"], item) for item in items])
    return iter(enumerate(items))


def unnamed(differences: list[Difference], names: Mapping[str, str], counts: Counter[str]) -> list[str]:
    """Return the differences that have no name, as text; count the others.

    Args:
        names: name -> regular expression for `added PATH`, `removed PATH` or `changed PATH`.
    """
    faults = []
    for path, one, other in differences:
        what = "added" if one is None else "removed" if other is None else "changed"
        found = next((name for name, pattern in names.items() if re.fullmatch(pattern, f"{what} {path}")), None)
        if found is None:
            faults.append(f"{what} {path}: {str(one)[:200]} | {str(other)[:200]}")
        else:
            counts[found] += 1
    return faults
