"""Every method of Feast's FeatureStore is here: with Feast's parameters in their order, or as one that says why not."""

from __future__ import annotations

import json
from pathlib import Path

from fastserve import FeatureStore
from fastserve.offline_half import OfflineHalfMixin
from interop.sides import FeastSide
from interop.surface import surface

ANOTHER_MEANING = {"plan"}  # docs/compatibility.md
OWN_DEFAULTS = {"serve": {"max_requests", "registry_ttl_sec"}}  # docs/feast-differences.md


def test_methods_and_parameters(tmp_path: Path) -> None:
    FeastSide(tmp_path / "feast", {}).run("interop.surface", tmp_path / "found")
    theirs = json.loads((tmp_path / "found").read_text())
    ours = surface(FeatureStore)
    assert not theirs.keys() - ours.keys()
    compared = {name for name in theirs if name not in vars(OfflineHalfMixin)} - ANOTHER_MEANING
    assert len(compared) > 40
    for name in sorted(compared):
        own = OWN_DEFAULTS.get(name, set())
        wanted, got = ([[n, "" if n in own else d] for n, d in side[name]] for side in (theirs, ours))
        assert got[: len(wanted)] == wanted, name
