"""Repositories that `feast init` writes. Runs in the environment that has Feast.

    python -m interop.template_side make TEMPLATE FOLDER [CONNECTION_STRING]   writes FOLDER/shop, applies and loads it
    python -m interop.template_side facts REPO ...                             leaves REPO/facts.json

FOLDER/ours is what it wrote, before anything was applied.

With the address of a Redis server the online store of the template, which is none of fastserve's, is replaced by that.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import yaml
from feast import FeatureStore

from interop.feast_side import batch_views, keys_in_file, of_on_demand, of_service, of_view
from interop.tagged import tag

NOT_DEFINITIONS = "test_workflow.py\nstatic_artifacts.py\n"
"""Programs beside the definitions; they import what Feast's server or a notebook needs."""

ANSWERS = {"cassandra": "C\n\n\n\n\n\n\n\n", "hazelcast": "L\n\n\n\n\n\n\n\n"}
"""To what `feast init` asks."""

RANDOM = "embedding"
"""In the names of features that are different each time."""


def make(template: str, folder: str, redis: str = "") -> None:
    """Let Feast write the repository `shop` into a folder."""
    os.chdir(folder)
    sys.stdin = io.StringIO(ANSWERS.get(template, ""))
    command("init", "-t", template, "shop")
    repo = Path(folder, "shop", "feature_repo").absolute()
    (repo / ".feastignore").write_text(NOT_DEFINITIONS)
    if redis:
        path = repo / "feature_store.yaml"
        config = yaml.safe_load(path.read_text())
        config.pop("batch_engine", None)
        online = {"type": "redis", "connection_string": redis}
        path.write_text(yaml.safe_dump({**config, "online_store": online, "offline_store": {"type": "file"}}))
    shutil.copytree("shop", "ours")
    os.chdir(repo)
    sys.path.insert(0, str(repo))
    command("apply")
    end = datetime.now(timezone.utc) + timedelta(minutes=1)
    command("materialize-incremental", f"{end:%Y-%m-%dT%H:%M:%S}")


def command(*words: str) -> None:
    """Run Feast's command line."""
    from feast.cli.cli import cli

    cli.main(list(words), standalone_mode=False)


def facts(*repos: str) -> None:
    """Describe what is in registries, whoever wrote them, for those who cannot import Feast: views that have rows."""
    for repo in repos:
        write_facts(repo)


def write_facts(repo: str) -> None:
    os.chdir(repo)
    store = FeatureStore(repo_path=".")
    on_demand = {view.name: of_on_demand(view) for view in store.list_on_demand_feature_views()}
    random_views = {name for name, view in on_demand.items() if any(RANDOM in feature for feature in view["features"])}
    services = {service.name: of_service(service) for service in store.list_feature_services()}
    rows = {view.name: keys_in_file(view) for view in batch_views(store)}
    views = [view for view in batch_views(store) if tag([]) not in rows[view.name].values()]
    found: dict[str, Any] = {
        "entities": {entity.join_key: entity.name for entity in store.list_entities()},
        "views": {view.name: of_view(view) for view in views},
        "on_demand": {name: view for name, view in on_demand.items() if name not in random_views},
        "services": {n: s for n, s in services.items() if not random_views & {p["view"] for p in s["projections"]}},
        "left_out": {"services": sorted(n for n in services if random_views), "on_demand": sorted(random_views)},
        "rows": rows,
    }
    Path("facts.json").write_text(json.dumps(found, sort_keys=True))


if __name__ == "__main__":
    {"make": make, "facts": facts}[sys.argv[1]](*sys.argv[2:])
