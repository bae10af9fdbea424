"""The entry point: runs a command and turns what went wrong into one line and an exit status."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from fastserve.cli.frame import cli
from fastserve.errors import FastserveError

__all__ = ["main"]

HELP_WANTED: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What a group without a command raises, whose text is its help. Before click 8.2 it prints that itself."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command; `args` are those of the process if not given. Always ends in SystemExit."""
    try:
        # What `context.exit` was given, or None.
        status = cli.main(args=args, prog_name="fastserve", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as exc:
        status = _status_of(exc)
    sys.exit(status or 0)


def _status_of(exc: BaseException) -> int:
    """Say what went wrong, in one line, and return the exit status; raise what only a bug can be."""
    if isinstance(exc, (click.Abort, KeyboardInterrupt)):
        return 130
    if isinstance(exc, OSError) and exc.errno == errno.EPIPE:
        # Whoever read our output has seen enough; the interpreter must not try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(exc, ModuleNotFoundError) and (exc.name or "").split(".")[0] == "pyarrow":
        exc = click.ClickException("pyarrow is not installed: pip install 'fastserve[materialize]'")
    if not isinstance(exc, (click.ClickException, FastserveError, OSError)):
        raise exc
    if isinstance(exc, HELP_WANTED):
        click.echo(exc.format_message(), err=True)
        return 2
    text = _usage(exc) if isinstance(exc, click.UsageError) else _message(exc)
    click.echo(f"Error: {' '.join(text.splitlines())}", err=True)
    return exc.exit_code if isinstance(exc, click.ClickException) else 1


def _message(exc: BaseException) -> str:
    return exc.format_message() if isinstance(exc, click.ClickException) else str(exc) or type(exc).__name__


def _usage(exc: click.UsageError) -> str:
    command = exc.ctx.command_path if exc.ctx is not None else "fastserve"
    return f"{exc.format_message().removesuffix('.')} (see {command} --help)"
