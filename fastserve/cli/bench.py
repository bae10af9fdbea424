"""`bench`: how long reads of this repository take, beside the floor of its store."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fastserve._version import __version__
from fastserve.benchmark import STAGES, Amount, Found, measure
from fastserve.cli import terminal
from fastserve.cli.features import compile_plan, full_names_option, json_option
from fastserve.cli.frame import open_store
from fastserve.config import Config, RedisConfig
from fastserve.errors import FastserveError, RequestError
from fastserve.feature_store import FeatureStore
from fastserve.sampling import rows_of_file, rows_of_store

__all__ = ["bench"]

HEADERS = ("read", "rows", "p50", "p95", "p99", "mean", "floor", "x floor", *STAGES, "present", "reads/s")

Row = dict[str, Any]


class Sizes(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Numbers with commas between them."""

    name = "n,n,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            sizes = tuple(int(text) for text in value.split(","))
        except ValueError:
            sizes = ()
        if not sizes or min(sizes) < 1:
            self.fail(f"{value!r} is not a list of numbers such as 1,10,100", param, ctx)
        return sizes


@click.command()
@click.argument("names", nargs=-1, metavar="[SERVICE]... | [VIEW:FEATURE]...")
@click.option("--rows", type=Sizes(), default="1,10,100", show_default=True, help="Rows of a request.")
@click.option("--calls", type=click.IntRange(1), default=200, show_default=True, help="Calls of each kind.")
@click.option("--workers", type=click.IntRange(0), default=10, show_default=True, help="Threads for reads/s; 0: none.")
@click.option(
    "--entities",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Rows to ask for: .csv, .json or .jsonl. [default: some that the store holds]",
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write a page with plots.")
@full_names_option
@json_option
@click.pass_context
def bench(
    context: click.Context,
    /,
    names: tuple[str, ...],
    rows: tuple[int, ...],
    calls: int,
    workers: int,
    entities: Path | None,
    html: Path | None,
    full_feature_names: bool,
    as_json: bool,
) -> None:
    """Measure reads of services (all, if none is named) or of features, with entities that the store holds.

    Nothing is written. Each read is `get_online_features(...).to_dict()`, in this process. The floor is the same bytes
    exchanged with Redis over a bare socket, which no client can beat.
    """
    if html is not None:
        _can_plot()
    amount = Amount(calls=calls, warm_up=min(calls, 50), workers=workers, full_feature_names=full_feature_names)
    given = rows_of_file(entities) if entities else None
    with open_store(context) as store:
        store.check_store()
        found = _measured(store, _subjects(store, names), given, rows, amount, skip=not names)
        about = _about(store.config)
    if html is not None:
        html.write_text(_page(found, about), encoding="utf-8")
    if as_json or not terminal.is_terminal():
        click.echo(json.dumps({**about, "found": [one.as_dict() for one in found]}))
        return
    click.echo(terminal.grid([_row(one) for one in found], HEADERS))
    click.echo(f"\n{_notes(about)}")


def _subjects(store: FeatureStore, names: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """Return (what it is called, names) of each request shape."""
    references = tuple(name for name in names if ":" in name)
    services = [name for name in names if ":" not in name]
    if not names:
        services = [service.name for service in store.list_feature_services()]
        if not services:
            raise click.ClickException("there are no feature services; name features: VIEW:FEATURE ...")
    more = [(f"{len(references)} features", references)] if references else []
    return [(name, (name,)) for name in services] + more


def _measured(
    store: FeatureStore,
    subjects: Sequence[tuple[str, tuple[str, ...]]],
    given: list[Row] | None,
    sizes: tuple[int, ...],
    amount: Amount,
    skip: bool,
) -> list[Found]:
    """Measure all; of services that nobody named, those that cannot be read are left out, with a line that says why."""
    found: list[Found] = []
    failed: FastserveError | None = None
    for name, asked in subjects:
        try:
            features, plan = compile_plan(store, asked, amount.full_feature_names)
            rows = given if given is not None else _sampled(store, name, plan, max(sizes))
            for size in dict.fromkeys(min(size, len(rows)) for size in sizes):
                click.echo(f"{name}: {size} rows", err=True)
                found.append(measure(store, name, features, rows[:size], amount))
        except FastserveError as exc:
            if not skip or len(subjects) == 1:
                raise
            failed = exc
            click.echo(f"{name} is left out: {' '.join(str(exc).split())}", err=True)
    if not found and failed is not None:
        raise failed
    return found


def _sampled(store: FeatureStore, name: str, plan: Any, count: int) -> list[Row]:
    if plan.request_data:
        wanted = ", ".join(plan.request_data)
        raise RequestError(f"{name} needs request data ({wanted}): give it, with entities, by --entities FILE")
    return rows_of_store(store.config, plan, count)


# --- what is shown ---------------------------------------------------------------------------------------------------


def _about(config: Config) -> dict[str, str]:
    store = config.online_store
    name = store.connection.name if isinstance(store, RedisConfig) else f"sqlite {getattr(store, 'path', '')}"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "fastserve": __version__,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "project": config.project,
        "store": name,
    }


def _row(found: Found) -> list[str]:
    read, floor = found.read, found.floor
    total = sum(found.stages.values()) or 1.0
    return [
        found.name,
        str(found.rows),
        *(_micros(seconds) for seconds in (read.p50, read.p95, read.p99, read.mean)),
        *((_micros(floor.p50), f"{read.p50 / floor.p50:.2f}") if floor else ("", "")),
        *(f"{found.stages[stage] / total:.0%}" for stage in STAGES),
        f"{found.present:.0%}",
        "" if found.rate is None else f"{found.rate:,.0f}",
    ]


def _micros(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}"


def _notes(about: dict[str, str]) -> str:
    return (
        f"{about['store']}, {about['date']}. Microseconds. floor: the same bytes over a bare socket (none for "
        "SQLite); plan, wait, decode, emit: shares of a read; present: of the values; reads/s: of all threads."
    )


def _can_plot() -> None:
    """Fail before anything is measured if there could be no plots."""
    from fastserve.charts import bars

    bars("", {"": 1.0}, "")


def _page(found: Sequence[Found], about: dict[str, str]) -> str:
    from fastserve.charts import bars, lines, page, table

    by_name: dict[str, list[Found]] = {}
    for one in found:
        by_name.setdefault(one.name, []).append(one)
    sections: list[tuple[str, list[str]]] = [("All", [table(HEADERS, [_row(one) for one in found])])]
    for name, all_sizes in by_name.items():
        kinds = ("p50", "p95", "p99")
        series = {kind: [(one.rows, getattr(one.read, kind) * 1e6) for one in all_sizes] for kind in kinds}
        series["floor"] = [(one.rows, one.floor.p50 * 1e6) for one in all_sizes if one.floor]
        series = {label: points for label, points in series.items() if points}
        cdf = {f"{one.rows} rows": _cdf(one.taken) for one in all_sizes}
        last = all_sizes[-1]
        spent = {stage: seconds * 1e6 for stage, seconds in last.stages.items()}
        plots = [
            lines("Latency by rows", series, "rows of a request", "us"),
            lines("Share of reads below", cdf, "us", "share", log_y=False),
            bars(f"Where the time goes, {last.rows} rows", spent, "us"),
        ]
        sections.append((name, plots))
    return page(f"Reads of {about['project']}", sections, _notes(about))


def _cdf(taken: Sequence[float]) -> list[tuple[float, float]]:
    step = max(len(taken) // 100, 1)
    return [(seconds * 1e6, (i * step + 1) / len(taken)) for i, seconds in enumerate(taken[::step])]
