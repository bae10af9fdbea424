"""Python files written for Feast, run with fastserve instead.

run(source)      -> what the file defines, by variable name
bank()           the bank's features.py
one_of_each()    golden/definitions/features.py
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fastserve import model
from fastserve.registry import convert
from fastserve.registry import schema_pb2 as pb
from tests import goldens


def run(source: str, on_demand: Mapping[str, model.OnDemandFeatureView] | None = None) -> dict[str, Any]:
    """Run a file's text with `fastserve` for `feast` in its imports, and return its names.

    Args:
        on_demand: views that stand for the functions of these names: the decorator is not part of the definitions.
    """

    def decorator(**arguments: object) -> Callable[[Any], model.OnDemandFeatureView]:
        return lambda function: (on_demand or {})[function.__name__]

    source = re.sub(r"from feast\.on_demand_feature_view import .*", "", source)
    names: dict[str, Any] = {"__name__": "features", "on_demand_feature_view": decorator}
    source = re.sub(r"^(\s*(?:from|import) )feast\b", r"\1fastserve", source, flags=re.MULTILINE)
    exec(compile(source, "features.py", "exec"), names)
    return names


def bank_registry() -> pb.Registry:
    """Return the registry that Feast made of the bank."""
    return pb.Registry.FromString((goldens.BANK / "data/registry.db").read_bytes())


def bank() -> dict[str, Any]:
    """Return what the bank's features.py defines; its on-demand views come from the recorded registry."""
    views = bank_registry().on_demand_feature_views
    source = (goldens.BANK / "features.py").read_text()
    return run(source, {view.spec.name: convert.on_demand_feature_view(view, {}) for view in views})


def one_of_each() -> dict[str, Any]:
    """Return what golden/definitions/features.py defines."""
    return run((goldens.GOLDEN / "definitions/features.py").read_text())
