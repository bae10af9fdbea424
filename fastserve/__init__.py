"""fastserve: the online half of a feature store. Give me these features for these entities, now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastserve._version import __version__

if TYPE_CHECKING:
    from fastserve.config import Config
    from fastserve.errors import FastserveError
    from fastserve.feature_store import FeatureStore
    from fastserve.response import OnlineResponse

__all__ = ["Config", "FastserveError", "FeatureStore", "OnlineResponse", "__version__"]

# Loaded at first use, so that `import fastserve` costs next to nothing.
_HOMES = {
    "Config": "fastserve.config",
    "FastserveError": "fastserve.errors",
    "FeatureStore": "fastserve.feature_store",
    "OnlineResponse": "fastserve.response",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastserve' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
