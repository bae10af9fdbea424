"""Repositories of the bank that both sides define from the same files: a folder for each, one registry, one store."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from interop.sides import ROOT

__all__ = ["IN_FEASTS_FORMAT", "Pair", "add_permission", "make_pair"]

BANK = ROOT / "interop" / "bank"

YAML = """project: bank
provider: local
registry:
  {registry}
  enable_online_feature_view_versioning: true
online_store:
  {store}
entity_key_serialization_version: 3
"""


IN_FEASTS_FORMAT = [("redis", "file")]
"""Where fastserve builds vectors for Feast to read; elsewhere Feast has to build its own."""

FEAST_VECTORS = "fastserve: {vector_format: feast}\n"


@dataclass(frozen=True)
class Pair:
    """Two repositories that share registry, online store and files.

    Attributes:
        ours, theirs: folders, with definitions for fastserve and for Feast.
        name: store, "redis" or "sqlite"; and registry, "file", "sqlite" or "postgres".
        database: number of the Redis database, or path of the SQLite file.
    """

    ours: Path
    theirs: Path
    name: tuple[str, str]
    database: int | Path


def make_pair(folder: Path, data: Path, name: tuple[str, str], redis: str, postgres: str) -> Pair:
    """Make both folders; nothing is applied yet.

    Args:
        data: the Parquet files.
        redis: address of a server, with the number of a database of its own: "HOST:PORT,db=N".
        postgres: URL of an empty database.
    """
    store, registry = name
    files = folder / "data"
    shutil.copytree(data, files)
    registries = {
        "file": "path: data/registry.db",
        "sqlite": f"registry_type: sql\n  path: sqlite:///{files}/registry.sqlite",
        "postgres": f"registry_type: sql\n  path: {postgres}",
    }
    stores = {"redis": f"type: redis\n  connection_string: {redis}", "sqlite": "type: sqlite\n  path: data/online.db"}
    yaml = YAML.format(registry=registries[registry], store=stores[store])
    for tongue in ("fastserve", "feast"):
        repo = folder / f"{folder.name}-{tongue}"
        repo.mkdir()
        (repo / "data").symlink_to(files)
        is_told = tongue == "fastserve" and name in IN_FEASTS_FORMAT
        (repo / "feature_store.yaml").write_text(yaml + (FEAST_VECTORS if is_told else ""))
        (repo / "features.py").write_text(stored_views().replace("from feast", f"from {tongue}"))
        (repo / "on_demand.py").write_text(on_demand_views().replace("from feast", f"from {tongue}"))
        (repo / "tier_now.py").write_text("from features import TIERS\n\ntier = TIERS[-1]\n")
    ours, theirs = (folder / f"{folder.name}-{tongue}" for tongue in ("fastserve", "feast"))
    return Pair(ours, theirs, name, int(redis.rpartition("=")[2]) if store == "redis" else files / "online.db")


def stored_views() -> str:
    return (BANK / "stored.py").read_text()


def on_demand_views() -> str:
    text = (BANK / "features.py").read_text()
    text = text.replace("from interop.bank import stored", "import features as stored")
    return text.replace("from interop.bank.stored import", "from features import")


def add_permission(pair: Pair) -> None:
    """Let Feast's repository define what fastserve cannot: a permission; and what it need not."""
    (pair.theirs / "bank_only.py").write_text(ONLY_FEAST)


ONLY_FEAST = """from feast import Project
from feast.permissions.action import AuthzedAction
from feast.permissions.permission import Permission
from feast.permissions.policy import RoleBasedPolicy

bank = Project(name="bank", description="A bank", tags={"area": "retail"})
readers = Permission(name="readers", actions=[AuthzedAction.READ_ONLINE], policy=RoleBasedPolicy(roles=["reader"]))
"""
