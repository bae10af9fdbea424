"""Defines and writes the bank: the same steps through fastserve, in our environment, or through Feast, in its.

    python -m interop.writing_side fastserve|feast OUTPUT STEP REPO [STEP REPO ...]

step       what it does in the repository's folder
tables     writes the Parquet files; through Feast only
write      everything there is to write: command line, push and write_to_online_store
apply      `apply` of the definitions that are there
plan       `plan`
load       `materialize` of the days after those of `write`
more       `materialize-incremental` of the days after those
extras     what only Feast can put into a registry; through Feast only
vectors    Feast's pre-computed vectors; through Feast only
facts      leaves REPO/facts.json; through Feast only
registry   prints the registry, parsed; through Feast only

OUTPUT gets one JSON text per step: what it printed. Sets come in the order of their hashes, so that equal bytes need
the same PYTHONHASHSEED on both sides.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from interop.bank import rows
from interop.exchange import write_lines

# Files are changed within the second by which Python tells whether what it compiled is still right.
sys.dont_write_bytecode = True

START, MIDDLE, END = "2000-01-01T00:00:00", "2025-06-01T00:00:00", "2026-01-01T00:00:00"
LATER, LAST = "2026-02-01T00:00:00", "2026-03-01T00:00:00"

NOT_LOADED = ("everything", "tier", "fraud_labels")  # rows that no Parquet file can hold; three versions; pushed
LOADED = sorted(set(rows.TABLES) - {*NOT_LOADED})
MODULES = ("features", "tier_now", "on_demand", "bank_only")


class Side:
    """One of the two, on one repository."""

    def __init__(self, package: str, repo: Path):
        self.package = package
        self.repo = repo

    def command(self, *arguments: str) -> None:
        """Run the command line, as the console script does."""
        home = "feast.cli.cli" if self.package == "feast" else "fastserve.cli"
        with self.fresh_modules():
            importlib.import_module(home).cli.main(["-c", str(self.repo), *arguments], standalone_mode=False)

    def module(self, name: str) -> Any:
        """Import a module of the repository, as it is now."""
        with self.fresh_modules():
            sys.path.insert(0, str(self.repo))
            return importlib.import_module(name)

    @contextlib.contextmanager
    def fresh_modules(self) -> Iterator[None]:
        """Forget those of another repository, or of an earlier state of this one."""
        for name in MODULES:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        known = list(sys.path)
        try:
            yield
        finally:
            sys.path[:] = known

    @contextlib.contextmanager
    def store(self) -> Iterator[Any]:
        """Open the SDK's store."""
        store = importlib.import_module(self.package).FeatureStore(repo_path=str(self.repo))
        yield store
        if self.package == "fastserve":
            store.close()


# --- steps of both ---------------------------------------------------------------------------------------------------


def write(side: Side) -> None:
    """Write all there is."""
    for number in range(3):
        apply_tier(side, number)
        side.command("materialize", "-v", "tier", START, END)
    define(side.repo, 2)
    side.command("apply")
    views = [word for name in LOADED for word in ("-v", name)]
    side.command("materialize", *views, START, MIDDLE)
    side.command("materialize-incremental", *views, END)
    random_rows = rows_after_tables()
    with side.store() as store:
        write_everything(side, store, *rows.everything(random_rows))
        store.push("card_pushes", rows.card_pushes(random_rows))
        store.push("fraud_pushes", pd.read_parquet(side.repo / "data" / "fraud_labels.parquet"))


def rows_after_tables() -> rows.Rows:
    """Return random numbers that follow those of the Parquet files."""
    random_rows = rows.Rows(0)
    rows.tables(random_rows)
    return random_rows


def apply_tier(side: Side, number: int) -> None:
    """Apply a version of the view `tier`. On SQLite Feast's command makes no table for it, but its SDK does."""
    define(side.repo, number, only_tier=True)
    if side.package == "fastserve":
        side.command("apply")
        return
    module = side.module("tier_now")
    with side.store() as store:
        store.apply([module.customer, module.tier])


def define(repo: Path, number: int, only_tier: bool = False) -> None:
    """Make a version of the view `tier` the one that the repository defines, alone or beside all else."""
    (repo / ".feastignore").write_text("features.py\non_demand.py\n" if only_tier else "")
    (repo / "tier_now.py").write_text(f"from features import TIERS, customer\n\ntier = TIERS[{number}]\n")


def write_everything(
    side: Side, store: Any, customers: list[str], times: list[datetime], columns: dict[str, list[Any]]
) -> None:
    """Write the rows that no Parquet file can hold."""
    if side.package == "feast":
        from interop import feast_side

        feast_side.write_values(store, customers, times, columns)
    else:
        store.write_to_online_store("everything", {"customer_id": customers, **columns, "at": times})


def apply(side: Side) -> None:
    side.command("apply")


def plan(side: Side) -> None:
    side.command("plan")


def load(side: Side) -> None:
    side.command("materialize", "-v", "customer_profile", "-v", "logins", "-v", "fx_rates", END, LATER)


def more(side: Side) -> None:
    side.command("materialize-incremental", "-v", "customer_profile", "-v", "logins", "-v", "visit", LAST)


# --- steps of Feast --------------------------------------------------------------------------------------------------


def tables(side: Side) -> None:
    rows.write(side.repo / "data")


def extras(side: Side) -> None:
    """Put into the registry what is defined in no file: a saved dataset and metadata."""
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
    from feast.saved_dataset import SavedDataset

    storage = SavedDatasetFileStorage(path="data/saved.parquet")
    with side.store() as store:
        saved = SavedDataset("saved", ["credit_score:score"], ["customer_id"], storage, tags={"kept": "yes"})
        store.registry.apply_saved_dataset(saved, store.project)
        if store.config.registry.registry_type == "sql":
            store.registry.set_project_metadata(store.project, "owner", "the bank")
        view = store.registry.get_feature_view("visit", store.project)
        store.registry.apply_user_metadata(store.project, view, b"for the interop test")


def vectors(side: Side) -> None:
    with side.store() as store:
        store.precompute_feature_service("fast_v1")


def facts(side: Side) -> None:
    from interop import feast_side

    customers, _, _ = rows.everything(rows_after_tables())
    with side.store() as store:
        found = feast_side.facts(store, customers)
    (side.repo / "facts.json").write_text(json.dumps(found, sort_keys=True))


def registry(side: Side) -> None:
    from interop import registry_side

    print(json.dumps(registry_side.parsed(side.repo), sort_keys=True))


# --- running ---------------------------------------------------------------------------------------------------------

STEPS: dict[str, Callable[[Side], None]] = {
    step.__name__: step for step in (tables, write, apply, plan, load, more, extras, vectors, facts, registry)
}


def printed(side: Side, step: str) -> dict[str, Any]:
    """Do a step in the folder of the repository, from which Feast takes the paths of sources."""
    os.chdir(side.repo)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        began = time.monotonic()
        STEPS[step](side)
    return {"printed": output.getvalue(), "seconds": round(time.monotonic() - began, 2)}


def main(package: str, output: str, *steps: str) -> None:
    """Do the steps, one after the other."""
    pairs = zip(steps[::2], steps[1::2], strict=True)
    sides = [(step, Side(package, Path(repo))) for step, repo in pairs]
    write_lines(
        Path(output),
        ({"step": step, "repo": side.repo.name, **printed(side, step)} for step, side in sides),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
