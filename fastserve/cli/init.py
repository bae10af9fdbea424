"""`init`: a new repository."""

from __future__ import annotations

import re
from pathlib import Path

import click

from fastserve.templates import write_repository

__all__ = ["init"]

DEFAULT_NAME = "my_features"


@click.command()
@click.argument("project_directory", required=False)
@click.option("-m", "--minimal", is_flag=True, help="Only a feature_store.yaml.")
@click.option(
    "-t", "--template", type=click.Choice(["local"]), default="local", show_default=True, help="What it is made of."
)
@click.option("--repo-path", help="Where to write it. [default: a folder of the project's name, in the current one]")
@click.pass_context
def init(
    context: click.Context, project_directory: str | None, minimal: bool, template: str, repo_path: str | None
) -> None:
    """Write a small working repository, with data."""
    folder = Path(project_directory or repo_path or DEFAULT_NAME)
    project = folder.name
    if not re.fullmatch(r"(?![_-])[\w-]+", project):
        raise click.UsageError(
            f"PROJECT_DIRECTORY: {project!r} is not a project name; it may have letters, digits, underscores and "
            "hyphens, and must start with a letter or digit",
            context,
        )
    # A current folder that was asked for with -c counts, though it has no repository yet.
    root = Path(context.obj[0] or ".")
    target = root / (repo_path or folder)
    repository = write_repository(target, project, "minimal" if minimal else template)
    click.echo(f"Created a feature repository in {repository}")
    if not minimal:
        click.echo(f"Try it: cd {repository} && fastserve apply")
