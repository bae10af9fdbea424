"""The command `fastserve`.

get                     features of some entities: a table on a terminal, else one line of JSON
get-online-features     the same with Feast's options and layout
plan                    what such a read fetches
serve                   the HTTP server
version                 the version

An error is one line on stderr; the exit status is 2 for a wrong command line, 130 after Ctrl-C, else 1.
"""

from __future__ import annotations

import difflib
import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import click
from tabulate import tabulate

from fastserve._version import __version__
from fastserve.config import SqliteConfig
from fastserve.errors import FastserveError, FeastObjectNotFoundException, RequestError
from fastserve.feature_store import FeatureStore
from fastserve.server.settings import REPO_VARIABLE, find_config

__all__ = ["cli", "main"]

Columns = dict[str, list[Any]]

SHOWN_ENTITIES = 5
SAMPLE_TEXT_BYTES = 8


# --- the frame -------------------------------------------------------------------------------------------------------


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
    if not isinstance(exc, (click.ClickException, FastserveError, OSError)):
        raise exc
    text = _usage(exc) if isinstance(exc, click.UsageError) else _message(exc)
    click.echo(f"Error: {' '.join(text.splitlines())}", err=True)
    return exc.exit_code if isinstance(exc, click.ClickException) else 1


def _message(exc: BaseException) -> str:
    return exc.format_message() if isinstance(exc, click.ClickException) else str(exc) or type(exc).__name__


def _usage(exc: click.UsageError) -> str:
    command = exc.ctx.command_path if exc.ctx is not None else "fastserve"
    return f"{exc.format_message().removesuffix('.')} (see {command} --help)"


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
    """Read features, now, from a feature repository."""
    logging.basicConfig(level=(log_level or "warning").upper(), format="%(levelname)s %(name)s: %(message)s")
    context.obj = (chdir, feature_store_yaml, log_level)
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


def _open_store(context: click.Context) -> FeatureStore:
    chdir, yaml_file, _ = context.obj
    return FeatureStore(config=find_config(chdir, yaml_file))


# --- get -------------------------------------------------------------------------------------------------------------

_features_option = click.option(
    "-f", "--features", "more", multiple=True, metavar="VIEW:FEATURE", help="A feature; may be repeated."
)
_full_names_option = click.option("--full-feature-names", is_flag=True, help="Name features VIEW__FEATURE.")
_json_option = click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal.")


@cli.command()
@click.argument("features", nargs=-1)
@click.option(
    "-e",
    "--entities",
    multiple=True,
    metavar="KEY=VALUE",
    help="A join key, or request data of an on-demand feature view; the same key again adds an entity.",
)
@_features_option
@_full_names_option
@_json_option
@click.pass_context
def get(
    context: click.Context,
    features: tuple[str, ...],
    entities: tuple[str, ...],
    more: tuple[str, ...],
    full_feature_names: bool,
    as_json: bool,
) -> None:
    """Show FEATURES, which are VIEW:FEATURE ... or the name of one feature service, of some entities."""
    names, columns = _names((*features, *more)), _columns(entities)
    with _open_store(context) as store:
        answer, n_keys = _read(store, names, columns, full_feature_names)
    if _is_terminal() and not as_json:
        click.echo(_table(answer, n_keys))
    else:
        click.echo(json.dumps(_values_of(answer), ensure_ascii=False, separators=(",", ":")))


@cli.command("get-online-features")
@click.option("-e", "--entities", multiple=True, required=True, metavar="KEY=VALUE", help="As for get.")
@click.option("-f", "--features", multiple=True, required=True, metavar="VIEW:FEATURE", help="As for get.")
@click.pass_context
def get_online_features(context: click.Context, entities: tuple[str, ...], features: tuple[str, ...]) -> None:
    """Show features of some entities as indented JSON, as Feast's command of this name."""
    columns = _columns(entities)
    with _open_store(context) as store:
        answer, _ = _read(store, features, columns, False)
    click.echo(json.dumps(_values_of(answer), indent=4))


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _read(
    store: FeatureStore, names: Sequence[str], columns: dict[str, list[str]], full_names: bool
) -> tuple[dict[str, Any], int]:
    """Return the answer in the server's form, in which every value is JSON already, and how many columns are keys."""
    features, plan = _compile(store, names, full_names)
    missing = [name for name in plan.required if name not in columns]
    if missing and not columns:
        raise click.UsageError(f"give an entity: {' '.join(f'-e {name}=VALUE' for name in missing)}")
    types = {
        field.name: field.value_type.name
        for transform in plan.transforms
        for source in transform.view.request_sources.values()
        for field in source.schema
    }
    rows = {name: [_typed(name, text, types.get(name)) for text in texts] for name, texts in columns.items()}
    answer = json.loads(store.get_online_features(features, rows, full_names).to_json())
    return answer, len(answer["results"]) - len(plan.outputs)


def _columns(entities: Iterable[str]) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {}
    for entity in entities:
        key, equals, value = entity.partition("=")
        if not equals or not key:
            raise click.UsageError(f"-e {entity}: KEY=VALUE expected")
        columns.setdefault(key, []).append(value)
    if len({len(values) for values in columns.values()}) > 1:
        counts = ", ".join(f"{key}: {len(values)}" for key, values in columns.items())
        raise click.UsageError(f"each key of -e must have the same number of values ({counts})")
    return columns


def _typed(name: str, text: str, value_type: str | None) -> Any:
    """Request data goes to a function as it is, so it gets its declared type here; the store converts join keys."""
    kinds: dict[str | None, Callable[[str], Any]]
    kinds = {"INT32": int, "INT64": int, "FLOAT": float, "DOUBLE": float, "BOOL": _boolean}
    kind = kinds.get(value_type)
    try:
        return kind(text) if kind else text
    except ValueError:
        raise click.UsageError(f"-e {name}={text}: {name} is of type {value_type}") from None


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "1", "false", "0"):
        raise ValueError(text)
    return text.lower() in ("true", "1")


def _names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise click.UsageError("give features: VIEW:FEATURE ..., or the name of a feature service")
    return names


def _compile(store: FeatureStore, names: Sequence[str], full_names: bool) -> tuple[Any, Any]:
    """Return the requested features, a service or references, and their plan."""
    try:
        features = store.get_feature_service(names[0]) if len(names) == 1 and ":" not in names[0] else list(names)
        return features, store.plan(features, full_names)
    except FeastObjectNotFoundException as exc:
        raise click.ClickException(f"{exc}{_suggestion(store, names)}") from None


# --- suggestions -----------------------------------------------------------------------------------------------------


def _suggestion(store: FeatureStore, names: Sequence[str]) -> str:
    """Return `; did you mean ...?` for the first name that the registry lacks, or nothing."""
    views = {view.name: [field.name for field in view.features] for view in store.list_all_feature_views()}
    if len(names) == 1 and ":" not in names[0]:
        return _service_suggestion(names[0], [service.name for service in store.list_feature_services()], views)
    for name in names:
        reference, _, feature = name.partition(":")
        view = reference.partition("@")[0]
        if view not in views:
            return _nearest(view, views)
        if feature not in views[view]:
            return _nearest(feature, views[view], f"{reference}:")
    return ""


def _service_suggestion(name: str, services: list[str], views: dict[str, list[str]]) -> str:
    if views.get(name):
        return f"; {name} is a feature view, ask for {name}:{views[name][0]} or another of its features"
    return _nearest(name, services)


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


# --- tables ----------------------------------------------------------------------------------------------------------


def _values_of(answer: dict[str, Any]) -> Columns:
    """Return the form of `to_dict`: column -> values."""
    names = answer["metadata"]["feature_names"]
    return {name: result["values"] for name, result in zip(names, answer["results"], strict=True)}


def _table(answer: dict[str, Any], n_keys: int) -> str:
    columns = _values_of(answer)
    rows = [[_cell(value) for value in row] for row in zip(*columns.values(), strict=True)]
    entities = [
        ", ".join(f"{name}={value}" for name, value in zip(columns, row[:n_keys], strict=False)) for row in rows
    ]
    return "\n".join([_grid(rows, list(columns)), *_notes(answer, entities)])


def _grid(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        # Quoted where it would be taken for something else, or could steer the terminal.
        return (
            value if value.isprintable() and value.strip() == value and value not in ("", "null") else json.dumps(value)
        )
    return json.dumps(value, ensure_ascii=not _is_printable(value))


def _is_printable(value: Any) -> bool:
    return json.dumps(value, ensure_ascii=False).isprintable()


def _notes(answer: dict[str, Any], entities: list[str]) -> list[str]:
    """Return a line for each status that is not PRESENT and the features that share it: which entities have it."""
    names = answer["metadata"]["feature_names"]
    statuses = [result["statuses"] for result in answer["results"]]
    notes: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for entity, row in zip(entities, zip(*statuses, strict=True), strict=True):
        for status in sorted({*row} - {"PRESENT"}):
            features = tuple(name for name, found in zip(names, row, strict=True) if found == status)
            notes.setdefault((status, features), []).append(entity)
    return [f"{status}: {', '.join(features)}{_listing(notes[status, features])}" for status, features in sorted(notes)]


def _listing(entities: list[str]) -> str:
    shown = "; ".join(entities[:SHOWN_ENTITIES])
    rest = len(entities) - SHOWN_ENTITIES
    return f" of {shown}{f' and {rest} more' if rest > 0 else ''}" if shown else ""


# --- plan ------------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("features", nargs=-1)
@_features_option
@_full_names_option
@_json_option
@click.pass_context
def plan(
    context: click.Context, features: tuple[str, ...], more: tuple[str, ...], full_feature_names: bool, as_json: bool
) -> None:
    """Show what a read of FEATURES fetches: commands, fields and bytes."""
    names = _names((*features, *more))
    with _open_store(context) as store:
        _, compiled = _compile(store, names, full_feature_names)
        description = _describe(store, compiled)
    click.echo(_plan_text(description) if _is_terminal() and not as_json else json.dumps(description))


def _describe(store: FeatureStore, compiled: Any) -> dict[str, Any]:
    types = _slot_types(store, compiled)
    is_sqlite = isinstance(store.config.online_store, SqliteConfig)
    describe = _sqlite_group if is_sqlite else _redis_group
    groups = [
        describe(group, _fields_of(group, index, types), store.project) for index, group in enumerate(compiled.groups)
    ]
    return {
        "features": [slot.name for slot in compiled.outputs],
        "join_keys": sorted(compiled.required),
        "request_data": list(compiled.request_data),
        "commands_per_entity": sum(len(group["commands"]) for group in groups),
        "groups": groups,
        "on_demand": [
            {
                "view": transform.view.name,
                "mode": transform.view.mode,
                "inputs": [slot.label for _, _, slot in transform.inputs],
                "request_data": list(transform.request_data),
                "outputs": [name for name, _, _ in transform.outputs],
            }
            for transform in compiled.transforms
        ],
    }


def _slot_types(store: FeatureStore, compiled: Any) -> dict[tuple[int, int], str]:
    """Return (group, field) -> name of its type. The plan has numbers; any field of the registry knows their names."""
    slots = [*compiled.outputs, *(slot for transform in compiled.transforms for _, _, slot in transform.inputs)]
    enum = type(store.list_all_feature_views()[0].features[0].value_type)
    return {(slot.group, slot.field): enum(slot.value_type).name for slot in slots if slot.group >= 0}


def _fields_of(group: Any, index: int, types: dict[tuple[int, int], str]) -> list[dict[str, str]]:
    fields = []
    for view in group.views:
        for position, feature in enumerate(view.features, view.start):
            fields.append({"field": f"{view.name}:{feature}", "type": types[index, position]})
        fields.append({"field": f"_ts:{view.name}", "type": "event time"})
    return fields


def _redis_group(group: Any, fields: list[dict[str, str]], project: str) -> dict[str, Any]:
    key = len(group.prefix) + len(project.encode())
    key += sum(8 + _sample_bytes(int(value_type), group.version) for value_type in group.value_types)
    parts = [len("HGETALL"), key] if group.whole_hash else [len("HMGET"), key, *map(len, group.fields)]
    return {
        "join_keys": list(group.columns),
        "commands": ["HGETALL key" if group.whole_hash else f"HMGET key and {len(group.fields)} fields"],
        "bytes_per_entity": len(f"*{len(parts)}\r\n") + sum(len(f"${size}\r\n\r\n") + size for size in parts),
        "fields": fields,
    }


def _sample_bytes(value_type: int, version: int) -> int:
    """Return the size of a join key's value: that of a number is fixed, of a text we take eight letters."""
    fixed = {3: 4, 4: 8 if version >= 2 else 4, 8: 8}  # INT32, INT64, UNIX_TIMESTAMP
    return fixed.get(value_type, SAMPLE_TEXT_BYTES)


def _sqlite_group(group: Any, fields: list[dict[str, str]], project: str) -> dict[str, Any]:
    return {
        "join_keys": list(group.columns),
        "commands": [f"SELECT from {project}_{view.name} of {len(view.features)} features" for view in group.views],
        "bytes_per_entity": None,
        "fields": fields,
    }


def _plan_text(description: dict[str, Any]) -> str:
    headers = ["join keys", "command", "bytes", "field", "type"]
    blocks = [_grid(_plan_rows(description["groups"]), headers)] if description["groups"] else []
    lines = [f"on-demand view {v['view']} ({v['mode']}): {', '.join(v['outputs'])}" for v in description["on_demand"]]
    if description["request_data"]:
        lines.append(f"the request must carry: {', '.join(description['request_data'])}")
    count = description["commands_per_entity"]
    lines.append(f"{count} command{'s' * (count != 1)} per entity")
    if any(group["bytes_per_entity"] for group in description["groups"]):
        lines.append(f"bytes: of the command for one entity, whose text keys have {SAMPLE_TEXT_BYTES} bytes")
    return "\n".join([*blocks, *lines])


def _plan_rows(groups: list[dict[str, Any]]) -> list[list[str]]:
    rows = []
    for group in groups:
        join_keys, size = ", ".join(group["join_keys"]) or "(none)", group["bytes_per_entity"]
        head = [join_keys, "; ".join(group["commands"]), "" if size is None else str(size)]
        for field in group["fields"]:
            rows.append([*head, field["field"], field["type"]])
            head = ["", "", ""]
    return rows


# --- serve -----------------------------------------------------------------------------------------------------------


def _refuse_metrics(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        raise click.UsageError("-m/--metrics: metrics are not part of this release", context)


@cli.command()
@click.option("-h", "--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("-p", "--port", type=int, default=6566, show_default=True, help="The port; 0 takes a free one.")
@click.option("-t", "--type", type=click.Choice(["http"]), default="http", show_default=True, expose_value=False)
@click.option("--no-access-log", "access_log", flag_value=False, default=True, help="Do not log each request.")
@click.option("-w", "--workers", type=int, default=1, show_default=True, help="Processes; -1 is 2 x CPUs + 1.")
@click.option("--worker-connections", type=int, default=1000, show_default=True, help="Of one worker at a time.")
@click.option(
    "--max-requests", type=int, default=0, show_default=True, help="Replace a worker after so many; 0 is never."
)
@click.option("--max-requests-jitter", type=int, default=50, show_default=True, help="Up to so many requests more.")
@click.option("--keep-alive-timeout", type=int, default=30, show_default=True, help="Seconds.")
@click.option(
    "-r",
    "--registry_ttl_sec",
    type=float,
    help="Seconds between two looks at the registry; 0 is never. [default: what feature_store.yaml says]",
)
@click.option("-k", "--key", "tls_key_path", default="", help="PEM file with the TLS key.")
@click.option("-c", "--cert", "tls_cert_path", default="", help="PEM file with the TLS certificate.")
@click.option("-m", "--metrics", is_flag=True, expose_value=False, callback=_refuse_metrics, hidden=True)
@click.pass_context
def serve(context: click.Context, /, **options: Any) -> None:
    """Answer over HTTP until SIGTERM or Ctrl-C."""
    from fastserve.server import run

    chdir, yaml_file, log_level = context.obj
    try:
        chosen = run.ServeOptions(**options, log_level=log_level or "info")
    except RequestError as exc:
        raise click.UsageError(str(exc), context) from None
    run.serve(find_config(chdir, yaml_file), chosen)


@cli.command()
def version() -> None:
    """Show the version."""
    click.echo(f"fastserve {__version__}")
