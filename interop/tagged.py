"""Python values as JSON, each with its type: 1, 1.0, True and "1" stay different, and so do 0.0 and -0.0.

    tag(...)                          JSON
    None                              null
    True, 5, "text"                   ["bool", true], ["int", "5"], ["str", "text"]
    0.1                               ["float", "0x1.999999999999ap-4"]
    b"\\x00"                           ["bytes", "00"]
    datetime(...)                     ["datetime", "2025-01-01T09:00:00+01:00", "Europe/Berlin"]
    UUID(...), Decimal("1.50")        ["uuid", "..."], ["decimal", "1.50"]
    [..], {..}, {..: ..}              ["list", [..]], ["set", [..]], ["dict", [[key, value], ..]]

Sets and dicts are sorted, so equal values have equal texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

__all__ = ["tag", "untag"]


def tag(value: Any) -> Any:
    """Return the JSON form of a value. Raises TypeError for other types, subclasses among them."""
    if value is None:
        return None
    kind = type(value)
    if kind is list or kind is tuple:
        return ["list", [tag(item) for item in value]]
    if kind is set or kind is frozenset:
        return ["set", sorted((tag(item) for item in value), key=json.dumps)]
    if kind is dict:
        return ["dict", sorted(([tag(key), tag(item)] for key, item in value.items()), key=json.dumps)]
    if kind not in WRITERS:
        raise TypeError(f"{kind.__module__}.{kind.__qualname__}: {value!r}")
    name, write = WRITERS[kind]
    return [name, *write(value)]


def untag(tagged: Any) -> Any:
    """Return the value of a JSON form; datetimes get the offset, not the zone's name."""
    if tagged is None:
        return None
    name, *parts = tagged
    return READERS[name](*parts)


WRITERS: dict[type, tuple[str, Callable[[Any], tuple[Any, ...]]]] = {
    bool: ("bool", lambda value: (value,)),
    int: ("int", lambda value: (str(value),)),
    str: ("str", lambda value: (value,)),
    float: ("float", lambda value: (value.hex(),)),
    bytes: ("bytes", lambda value: (value.hex(),)),
    datetime: ("datetime", lambda value: (value.isoformat(), str(value.tzinfo))),
    UUID: ("uuid", lambda value: (str(value),)),
    Decimal: ("decimal", lambda value: (str(value),)),
}

READERS: dict[str, Callable[..., Any]] = {
    "bool": bool,
    "int": int,
    "str": str,
    "float": float.fromhex,
    "bytes": bytes.fromhex,
    "datetime": lambda text, _zone: datetime.fromisoformat(text),
    "uuid": UUID,
    "decimal": Decimal,
    "list": lambda items: [untag(item) for item in items],
    "set": lambda items: {untag(item) for item in items},
    "dict": lambda items: {untag(key): untag(item) for key, item in items},
}
