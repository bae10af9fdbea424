"""`get` and `get-online-features`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from fastserve.cli import terminal
from fastserve.cli.features import compile_plan, features_option, full_names_option, json_option, named
from fastserve.cli.frame import open_store
from fastserve.feature_store import FeatureStore

__all__ = ["get", "get_online_features"]

Columns = dict[str, list[Any]]

SHOWN_ENTITIES = 5


@click.command()
@click.argument("features", nargs=-1)
@click.option(
    "-e",
    "--entities",
    multiple=True,
    metavar="KEY=VALUE",
    help="A join key, or request data of an on-demand feature view; the same key again adds an entity.",
)
@features_option
@full_names_option
@json_option
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
    names, columns = named((*features, *more)), _columns(entities)
    with open_store(context) as store:
        answer, n_keys = _read(store, names, columns, full_feature_names)
    if terminal.is_terminal() and not as_json:
        click.echo(_table(answer, n_keys))
    else:
        click.echo(json.dumps(_values_of(answer), ensure_ascii=False, separators=(",", ":")))


@click.command("get-online-features")
@click.option("-e", "--entities", multiple=True, required=True, metavar="KEY=VALUE", help="As for get.")
@click.option("-f", "--features", multiple=True, required=True, metavar="VIEW:FEATURE", help="As for get.")
@click.pass_context
def get_online_features(context: click.Context, entities: tuple[str, ...], features: tuple[str, ...]) -> None:
    """Show features of some entities as indented JSON, as Feast's command of this name."""
    columns = _columns(entities)
    with open_store(context) as store:
        answer, _ = _read(store, features, columns, False)
    click.echo(json.dumps(_values_of(answer), indent=4))


def _read(
    store: FeatureStore, names: Sequence[str], columns: dict[str, list[str]], full_names: bool
) -> tuple[dict[str, Any], int]:
    """Return the answer in the server's form, in which every value is JSON already, and how many columns are keys."""
    features, plan = compile_plan(store, names, full_names)
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


# --- tables ----------------------------------------------------------------------------------------------------------


def _values_of(answer: dict[str, Any]) -> Columns:
    """Return the form of `to_dict`: column -> values."""
    names = answer["metadata"]["feature_names"]
    return {name: result["values"] for name, result in zip(names, answer["results"], strict=True)}


def _table(answer: dict[str, Any], n_keys: int) -> str:
    columns = _values_of(answer)
    rows = [[terminal.cell(value) for value in row] for row in zip(*columns.values(), strict=True)]
    entities = [
        ", ".join(f"{name}={value}" for name, value in zip(columns, row[:n_keys], strict=False)) for row in rows
    ]
    return "\n".join([terminal.grid(rows, list(columns)), *_notes(answer, entities)])


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
