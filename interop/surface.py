"""The methods of a FeatureStore with their parameters, as JSON; runs on either side.

python -m interop.surface OUT          Feast's
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["surface"]


def surface(store: type[Any]) -> dict[str, list[list[str]]]:
    """Return method -> [parameter, default] in order; of a property an empty list."""
    names = [name for name in dir(store) if not name.startswith("_") or name == "__init__"]
    return {name: parameters(inspect.getattr_static(store, name)) for name in names}


def parameters(member: Any) -> list[list[str]]:
    if not callable(member):
        return []
    found = inspect.signature(member).parameters.values()
    return [[p.name, default(p.default)] for p in found if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]


def default(value: Any) -> str:
    return "required" if value is inspect.Parameter.empty else repr(getattr(value, "value", value))


if __name__ == "__main__":
    from feast import FeatureStore

    Path(sys.argv[1]).write_text(json.dumps(surface(FeatureStore)))
