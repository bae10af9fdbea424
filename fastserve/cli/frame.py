"""The command group, its global options, and what several verbs need of it."""

from __future__ import annotations

import logging

import click

from fastserve.feature_store import FeatureStore
from fastserve.registry import RegistrySource, open_registry
from fastserve.server.settings import REPO_VARIABLE, find_config

__all__ = ["cli", "open_registry_of", "open_store"]


@click.group(invoke_without_command=True)
@click.option(
    "-c",
    "--chdir",
    type=click.Path(exists=True, file_okay=False),
    envvar=REPO_VARIABLE,
    help=f"The repository, which has a feature_store.yaml. [default: ${REPO_VARIABLE}, else the current directory]",
)
@click.option(
    "-f",
    "--feature-store-yaml",
    type=click.Path(exists=True, dir_okay=False),
    help="The file, if it is not feature_store.yaml in the repository.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error", "critical"], case_sensitive=False),
    help="What to log to stderr. [default: warning; info for serve]",
)
@click.pass_context
def cli(context: click.Context, chdir: str | None, feature_store_yaml: str | None, log_level: str | None) -> None:
    """Define, load and read features."""
    logging.basicConfig(level=(log_level or "warning").upper(), format="%(levelname)s %(name)s: %(message)s")
    context.obj = (chdir, feature_store_yaml, log_level)
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


def open_store(context: click.Context) -> FeatureStore:
    """Return the store of the repository that the global options name."""
    chdir, yaml_file, _ = context.obj
    return FeatureStore(config=find_config(chdir, yaml_file))


def open_registry_of(context: click.Context) -> RegistrySource:
    """Return the registry of that repository; its online store is not opened."""
    chdir, yaml_file, _ = context.obj
    return open_registry(find_config(chdir, yaml_file))
