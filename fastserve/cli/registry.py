"""`configuration`, `registry-dump`, `delete`, `registry create-schema`, `endpoint`: the repository as a whole."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import click
import yaml

from fastserve.changes import KIND_NAMES
from fastserve.cli.frame import open_registry_of, open_store
from fastserve.cli.objects import as_dict
from fastserve.config import FILE_NAME
from fastserve.registry.lists import LISTS, name_of, project_of
from fastserve.server.settings import REPO_VARIABLE, YAML_VARIABLE, find_config

__all__ = ["configuration", "delete", "endpoint", "registry", "registry_dump"]


@click.command()
@click.pass_context
def configuration(context: click.Context) -> None:
    """Show feature_store.yaml with the defaults of what it leaves out."""
    chdir, yaml_file, _ = context.obj
    config = find_config(chdir, yaml_file)
    defaults = {
        "provider": config.provider,
        "auth": dict(config.auth),
        "entity_key_serialization_version": config.entity_key_serialization_version,
    }
    given: dict[str, Any] = yaml.safe_load(_text(chdir, yaml_file))
    click.echo(yaml.safe_dump({**defaults, **given}, sort_keys=False, allow_unicode=True), nl=False)


def _text(chdir: str | None, yaml_file: str | None) -> str:
    encoded = os.environ.get(YAML_VARIABLE)
    if yaml_file is None and encoded:
        return base64.b64decode(encoded).decode()
    return Path(yaml_file or Path(chdir or os.environ.get(REPO_VARIABLE) or ".", FILE_NAME)).read_text()


@click.command("registry-dump")
@click.pass_context
def registry_dump(context: click.Context) -> None:
    """Show the definitions of the project as JSON."""
    snapshot = open_registry_of(context).load()
    found: dict[str, Any] = {"project": snapshot.project}
    for kind in (*LISTS, "permissions"):
        mine = [item for item in getattr(snapshot.message, kind) if project_of(item) == snapshot.project]
        if mine and kind != "projects":
            found[_camel(kind)] = [as_dict(item) for item in sorted(mine, key=name_of)]
    click.echo(json.dumps(found, indent=2, sort_keys=True))


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


@click.command()
@click.argument("object_id", metavar="NAME")
@click.pass_context
def delete(context: click.Context, object_id: str) -> None:
    """Delete the first definition of that name, whatever its kind; of a view also its rows."""
    with open_store(context) as store:
        kind = store.delete_object(object_id)
        deleted = f"Deleted {KIND_NAMES[kind]} {object_id} from {store.project}." if kind else None
    click.echo(deleted or "Object not found. Deletion skipped.")


@click.command()
def endpoint() -> None:
    """Say where the feature server is."""
    click.echo("There is no deployed feature server; `fastserve serve` starts one.")


@click.group()
def registry() -> None:
    """The registry itself."""


@registry.command("create-schema")
@click.pass_context
def create_schema(context: click.Context) -> None:
    """Create the tables of a SQL registry, those that are missing."""
    chdir, yaml_file, _ = context.obj
    kind = find_config(chdir, yaml_file).registry.registry_type
    if kind != "sql":
        raise click.ClickException(f"only a registry of registry_type sql has tables; this one is of type {kind}")
    from fastserve.registry.sql import SqlRegistry

    found = open_registry_of(context)
    assert isinstance(found, SqlRegistry)
    found.create_schema()
    click.echo("The tables of the registry are there")
