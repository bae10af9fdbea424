"""`version`."""

from __future__ import annotations

import click

from fastserve._version import __version__

__all__ = ["version"]


@click.command()
def version() -> None:
    """Show the version."""
    click.echo(f"fastserve {__version__}")
