"""`materialize` and `materialize-incremental`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from fastserve.cli.frame import open_store
from fastserve.errors import RequestError
from fastserve.writing import parse_time

__all__ = ["materialize", "materialize_incremental"]


class Time(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """An ISO 8601 text; without zone it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return parse_time(value)
        except RequestError as exc:
            self.fail(str(exc), param, ctx)


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that both verbs have."""
    for option in (
        click.option("--engine", type=click.Choice(["local", "ray"]), default="local", help="Where rows are prepared."),
        click.option(
            "--workers", type=click.IntRange(1), default=1, help="Views to load at the same time. [default: 1]"
        ),
        click.option("--version", metavar="vN", help="The version to load, of the one view that is named."),
        click.option(
            "-v", "--views", multiple=True, metavar="NAME", help="A view; repeat for more. [default: all online]"
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("start_ts", type=Time(), required=False)
@click.argument("end_ts", type=Time(), required=False)
@click.option("--disable-event-timestamp", is_flag=True, help="Load all rows up to now; give no times then.")
@shared
@click.pass_context
def materialize(
    context: click.Context,
    start_ts: datetime | None,
    end_ts: datetime | None,
    disable_event_timestamp: bool,
    views: tuple[str, ...],
    version: str | None,
    workers: int,
    engine: str,
) -> None:
    """Load views from their sources: the latest row of each entity from START_TS to END_TS, both included."""
    if disable_event_timestamp and (start_ts or end_ts):
        raise click.UsageError("give either --disable-event-timestamp or START_TS and END_TS")
    if not disable_event_timestamp and (start_ts is None or end_ts is None):
        raise click.UsageError("START_TS and END_TS are required without --disable-event-timestamp")
    show_log_lines(context)
    with open_store(context) as store:
        names = list(views) or None
        loaded = store.materialize(
            start_ts, end_ts, names, disable_event_timestamp, version=version, workers=workers, engine=engine
        )
    report(loaded)


@click.command("materialize-incremental")
@click.argument("end_ts", type=Time())
@shared
@click.pass_context
def materialize_incremental(
    context: click.Context, end_ts: datetime, views: tuple[str, ...], version: str | None, workers: int, engine: str
) -> None:
    """Load what came since each view was last loaded, up to END_TS."""
    show_log_lines(context)
    with open_store(context) as store:
        names = list(views) or None
        loaded = store.materialize_incremental(end_ts, names, version=version, workers=workers, engine=engine)
    report(loaded)


def report(loaded: list[Any]) -> None:
    """Say on a terminal what was loaded; elsewhere the log lines have done so."""
    if sys.stderr.isatty():
        for view in loaded:
            click.echo(view)


def show_log_lines(context: click.Context) -> None:
    """Let plain lines tell of the progress where no bars are drawn, unless a level was asked for."""
    if context.obj[2] is None and not sys.stderr.isatty():
        logging.getLogger("fastserve").setLevel(logging.INFO)
