"""`apply`, `plan`, `teardown`: from definitions to registry and online store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from fastserve.changes import Change, FieldChange
from fastserve.cli import read_plan
from fastserve.cli.features import features_option, full_names_option, json_option
from fastserve.cli.frame import open_store

__all__ = ["apply", "plan", "show_changes", "teardown"]

F = TypeVar("F", bound=Callable[..., Any])

_COLOURS = {"created": "green", "updated": "yellow", "deleted": "red"}


def _skip_options(command: F) -> F:
    command = click.option(
        "--skip-feature-view-validation", is_flag=True, help="Do not look at the rules that definitions must keep."
    )(command)
    return click.option(
        "--skip-source-validation", is_flag=True, help="Do not look whether the files of the sources are there."
    )(command)


@click.command()
@_skip_options
@click.option("--no-progress", is_flag=True, expose_value=False, help="Has no effect: there is no progress bar.")
@click.option("--no-promote", is_flag=True, help="Record new versions of views, but leave the active ones active.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.pass_context
def apply(context: click.Context, /, **options: bool) -> None:
    """Bring registry and online store to what the repository's Python files define.

    What they do not define is deleted. All of it happens, or nothing.
    """
    with open_store(context) as store:
        changes = store.apply_repo(**options)
    show_changes(changes, options["dry_run"])


@click.command()
@click.argument("features", nargs=-1)
@features_option
@full_names_option
@json_option
@_skip_options
@click.pass_context
def plan(
    context: click.Context,
    /,
    features: tuple[str, ...],
    more: tuple[str, ...],
    full_feature_names: bool,
    as_json: bool,
    **skips: bool,
) -> None:
    """Show what `apply` would change; or, with FEATURES, what a read of them fetches: commands, fields and bytes."""
    if features or more:
        read_plan.show(context, (*features, *more), full_feature_names, as_json)
        return
    with open_store(context) as store:
        changes = store.apply_repo(dry_run=True, **skips)
    show_changes(changes, dry_run=True)


@click.command()
@click.pass_context
def teardown(context: click.Context) -> None:
    """Delete everything of the project: its rows in the online store, and its definitions in the registry."""
    with open_store(context) as store:
        store.teardown()
        click.echo(f"Deleted project {store.project}")


def show_changes(changes: Sequence[Change], dry_run: bool = False) -> None:
    """Print a line for each change, and below it one for each field."""
    real = [change for change in changes if change.action != "unchanged"]
    for change in real:
        click.echo(_line(change))
        for field in change.fields:
            click.echo(f"    {_field(field)}")
        if change.note:
            click.echo(f"    {change.note}")
    if not real:
        click.echo("No changes to registry")
    elif dry_run:
        click.echo("Nothing was changed: this was a dry run")


def _line(change: Change) -> str:
    action = click.style(change.action.capitalize(), fg=_COLOURS[change.action])
    version = f" (version v{change.version})" if change.version and not change.note else ""
    return f"{action} {change.kind} {click.style(change.name, bold=True)}{version}"


def _field(field: FieldChange) -> str:
    if field.old is None:
        return f"{field.path}: {click.style(f'added {field.new}', fg='green')}"
    if field.new is None:
        return f"{field.path}: {click.style(f'removed {field.old}', fg='red')}"
    return f"{field.path}: {field.old} -> {click.style(field.new, fg='yellow')}"
