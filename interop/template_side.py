"""Repositories that `feast init` writes. Runs in the environment that has Feast.

    python -m interop.template_side make TEMPLATE FOLDER [REDIS [POSTGRES_PORT]]   writes FOLDER/shop, applies, loads it
    python -m interop.template_side facts REPO ...                                 leaves REPO/facts.json
    python -m interop.template_side list OUT                                       writes the names of all templates

FOLDER/ours is what it wrote, before anything was applied.

With the address of a Redis server the online store of the template, which is none of fastserve's, is replaced by that.
"""

from __future__ import annotations

import getpass
import io
import json
import os
import shutil
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from feast import FeatureStore

from interop.feast_side import batch_views, keys_in_table, of_on_demand, of_service, of_view
from interop.tagged import tag

NOT_DEFINITIONS = "test_workflow.py\nstatic_artifacts.py\n"
"""Programs beside the definitions; they import what Feast's server or a notebook needs."""

ANSWERS = {
    "cassandra": "C\n\n\n\n\n\n\n\n",
    "hazelcast": "L\n\n\n\n\n\n\n\n",
    "postgres": "127.0.0.1\n{port}\nshop\npublic\npostgres\nnone\ndisable\nn\n",
}
"""To what `feast init` asks. The upload to PostgreSQL is refused: Feast's fails at the columns that hold dicts."""

BY_HAND = {"ray"}
"""Loaded with `write_to_online_store`: for `materialize` it needs a Ray cluster."""

RANDOM = "embedding"
"""In the names of features that are different each time."""


def make(template: str, folder: str, redis: str = "", postgres_port: str = "") -> None:
    """Let Feast write the repository `shop` into a folder."""
    os.chdir(folder)
    sys.stdin = io.StringIO(ANSWERS.get(template, "").format(port=postgres_port))
    getpass.getpass = lambda prompt="", stream=None: input(prompt)  # which would ask the terminal
    command("init", *(["--minimal"] if template == "minimal" else ["-t", template]), "shop")
    repo = Path(folder, "shop", "feature_repo").absolute()
    (repo / ".feastignore").write_text(NOT_DEFINITIONS)
    configure(repo / "feature_store.yaml", template, redis)
    shutil.copytree("shop", "ours")
    os.chdir(repo)
    sys.path.insert(0, str(repo))
    load(template)


def configure(path: Path, template: str, redis: str) -> None:
    """Replace what Feast's file names of stores and engines that are not here."""
    config = yaml.safe_load(path.read_text())
    config.pop("batch_engine", None)
    if redis:
        config["online_store"] = {"type": "redis", "connection_string": redis}
    if template == "minimal":
        config |= {"registry": "data/registry.db", "online_store": {"path": "data/online_store.db"}}
        (path.parent / "data").mkdir()
    if template != "postgres":
        config["offline_store"] = {"type": "file"}
    path.write_text(yaml.safe_dump(config))


def load(template: str) -> None:
    """Apply the repository in the current folder, and load it."""
    if template == "postgres":
        fill_postgres()
    command("apply", *(["--skip-source-validation"] if template in BY_HAND else []))
    if template in BY_HAND:
        write_rows(FeatureStore(repo_path="."))
    elif template != "minimal":
        end = datetime.now(timezone.utc) + timedelta(minutes=1)
        command("materialize-incremental", f"{end:%Y-%m-%dT%H:%M:%S}")


def fill_postgres() -> None:
    """Fill the table that the template's source names with what Feast makes for it, but for the dicts."""
    from feast.driver_test_data import create_driver_hourly_stats_df
    from feast.infra.utils.postgres.connection_utils import df_to_postgres_table

    end = datetime.now().replace(microsecond=0, second=0, minute=0)
    rows = create_driver_hourly_stats_df([1001, 1002, 1003, 1004, 1005], end - timedelta(days=15), end)
    columns = ["event_timestamp", "driver_id", "conv_rate", "acc_rate", "avg_daily_trips", "created"]
    config = FeatureStore(repo_path=".").config.offline_store
    df_to_postgres_table(config, rows[columns], "feast_driver_hourly_stats")
    Path("data").mkdir(exist_ok=True)
    rows[columns].to_parquet("data/rows.parquet")


def write_rows(store: FeatureStore) -> None:
    """Write the newest row of each key."""
    for view in batch_views(store):
        table = (
            rows_of(view).sort_values(view.batch_source.timestamp_field).drop_duplicates(view.join_keys, keep="last")
        )
        store.write_to_online_store(view.name, table, transform_on_write=False)


def rows_of(view: Any) -> pd.DataFrame:
    """Return the rows of a view's source."""
    return pd.read_parquet(getattr(view.batch_source, "path", "") or "data/rows.parquet")  # PostgreSQL's has no path


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
    rows = {view.name: keys_in_table(view, rows_of(view)) for view in batch_views(store)}
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


def list_templates(out: str) -> None:
    """Write the names that `feast init --template` takes, and `minimal`, which has an option of its own."""
    from feast.cli.cli import cli

    (option,) = (p for p in cli.commands["init"].params if p.name == "template")
    Path(out).write_text(json.dumps(["minimal", *option.type.choices]))


if __name__ == "__main__":
    {"make": make, "facts": facts, "list": list_templates}[sys.argv[1]](*sys.argv[2:])
