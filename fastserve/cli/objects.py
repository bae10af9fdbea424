"""`entities`, `feature-views` and so on: what the registry holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click
import yaml
from google.protobuf.json_format import MessageToDict

from fastserve.changes import KIND_NAMES
from fastserve.cli.frame import open_registry_of, open_store
from fastserve.model import DUMMY_ENTITY, FeatureViewState
from fastserve.registry import Snapshot, convert
from fastserve.registry.lists import name_of, project_of

__all__ = ["GROUPS", "as_dict"]

VIEW_LISTS = ("feature_views", "stream_feature_views", "label_views", "on_demand_feature_views")

_LABELS = {**KIND_NAMES, "permissions": "permission"}

Row = Sequence[Any]


@dataclass(frozen=True)
class _Kind:
    """A group of commands.

    Args:
        name: of the group.
        lists: of the Registry message, in the order in which names are looked up.
        headers: of the table.
        row: message and registry -> a row of the table.
    """

    name: str
    lists: tuple[str, ...]
    headers: tuple[str, ...]
    row: Callable[[Any, Snapshot], Row]

    @property
    def label(self) -> str:
        return _LABELS[self.lists[0]]

    def messages(self, snapshot: Snapshot) -> list[Any]:
        found = [item for kind in self.lists for item in getattr(snapshot.message, kind)]
        mine = [item for item in found if self.lists == ("projects",) or project_of(item) == snapshot.project]
        return [item for item in mine if name_of(item) != DUMMY_ENTITY]

    def find(self, snapshot: Snapshot, name: str) -> Any:
        for item in self.messages(snapshot):
            if name_of(item) == name:
                return item
        raise click.ClickException(f"{self.label.capitalize()} {name} does not exist in project {snapshot.project}")


def as_dict(message: Any) -> dict[str, Any]:
    """Return a definition's message as JSON values; pickles are left out, and the project, which all have in common."""
    found: dict[str, Any] = MessageToDict(message)
    found.pop("project", None)
    found.get("spec", {}).pop("project", None)
    _drop_pickles(found)
    return found


def _drop_pickles(value: Any) -> None:
    if isinstance(value, dict):
        if "bodyText" in value:
            value.pop("body", None)
        for item in value.values():
            _drop_pickles(item)
    elif isinstance(value, list):
        for item in value:
            _drop_pickles(item)


def _print(message: Any, **more: Any) -> None:
    click.echo(yaml.safe_dump({**as_dict(message), **more}, sort_keys=False, allow_unicode=True))


# --- tags ------------------------------------------------------------------------------------------------------------

_tags_option = click.option(
    "--tags", multiple=True, metavar="KEY:VALUE", help="Only what has all of these; also several, separated by commas."
)


def _parse_tags(texts: Iterable[str]) -> dict[str, str]:
    tags = {}
    for text in (part.strip() for given in texts for part in given.split(",")):
        key, colon, value = text.partition(":")
        if not colon or not key.strip():
            raise click.UsageError(f"--tags {text}: KEY:VALUE expected")
        tags[key.strip()] = value.strip()
    return tags


def _has_tags(message: Any, tags: dict[str, str]) -> bool:
    found = getattr(message, "spec", message).tags
    return all(found.get(key) == value for key, value in tags.items())


# --- rows ------------------------------------------------------------------------------------------------------------


def _entity_row(message: Any, _: Snapshot) -> Row:
    return message.spec.name, message.spec.description, f"ValueType.{convert.entity(message).value_type.name}"


def _name_row(message: Any, _: Snapshot) -> Row:
    return (name_of(message),)


def _view_row(message: Any, snapshot: Snapshot) -> Row:
    return message.spec.name, _entities(message, snapshot), type(message).__name__, *_life(message)


def _entities(message: Any, snapshot: Snapshot) -> str:
    """Return the entities of a view; of an on-demand view those of the views that it is computed from."""
    names = dict.fromkeys(message.spec.entities)
    if message.spec.name in snapshot.on_demand_feature_views:
        view = snapshot.on_demand_feature_views[message.spec.name]
        sources = (snapshot.feature_views.get(source.name) for source in view.source_projections.values())
        names = dict.fromkeys(name for source in sources if source is not None for name in source.entities)
    names.pop(DUMMY_ENTITY, None)
    return "{" + ", ".join(map(repr, names)) + "}" if names else "n/a"


def _life(message: Any) -> tuple[str, str]:
    disabled = getattr(message.spec, "disabled", False)
    return "No" if disabled else "Yes", FeatureViewState(getattr(message.meta, "state", 0)).name


def _label_row(message: Any, snapshot: Snapshot) -> Row:
    policy = type(message.spec).DESCRIPTOR.fields_by_name["conflict_policy"].enum_type
    number = message.spec.conflict_policy
    return message.spec.name, _entities(message, snapshot), policy.values_by_number[number].name.lower()


def _service_row(message: Any, _: Snapshot) -> Row:
    references = [
        f"{projection.feature_view_name_alias or projection.feature_view_name}:{column.name}"
        for projection in message.spec.features
        for column in projection.feature_columns
    ]
    return message.spec.name, ", ".join(references)


def _source_row(message: Any, _: Snapshot) -> Row:
    return message.name, f"<class '{message.data_source_class_type}'>"


def _permission_row(message: Any, _: Snapshot) -> Row:
    spec = message.spec
    types = [kind.title().replace("_", "") for kind in _names(spec.Type, spec.types)]
    tags = [f"{key} : {value}" for key, value in sorted(spec.required_tags.items())]
    columns = (types, spec.name_patterns, _names(spec.AuthzedAction, spec.actions), _roles(message), tags)
    return spec.name, *map(_lines, columns)


def _names(enum: Any, numbers: Iterable[int]) -> list[str]:
    """Return the names of an enum's values; a later Feast may have some that we do not know."""
    known = enum.DESCRIPTOR.values_by_number
    return [known[number].name if number in known else str(number) for number in numbers]


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(texts) or "-"


def _roles(permission: Any) -> list[str]:
    return sorted(permission.spec.policy.role_based_policy.roles)


def _project_row(message: Any, _: Snapshot) -> Row:
    spec = message.spec
    return spec.name, spec.description, dict(spec.tags), spec.owner


PERMISSIONS = _Kind(
    "permissions",
    ("permissions",),
    ("NAME", "TYPES", "NAME_PATTERNS", "ACTIONS", "ROLES", "REQUIRED_TAGS"),
    _permission_row,
)

_KINDS = (
    _Kind("entities", ("entities",), ("NAME", "DESCRIPTION", "TYPE"), _entity_row),
    _Kind("feature-views", VIEW_LISTS, ("NAME", "ENTITIES", "TYPE", "ENABLED", "STATE"), _view_row),
    _Kind("on-demand-feature-views", ("on_demand_feature_views",), ("NAME",), _name_row),
    _Kind("stream-feature-views", ("stream_feature_views",), ("NAME",), _name_row),
    _Kind("label-views", ("label_views",), ("NAME", "ENTITIES", "CONFLICT_POLICY"), _label_row),
    _Kind("feature-services", ("feature_services",), ("NAME", "FEATURES"), _service_row),
    _Kind("data-sources", ("data_sources",), ("NAME", "CLASS"), _source_row),
    PERMISSIONS,
    _Kind("projects", ("projects",), ("NAME", "DESCRIPTION", "TAGS", "OWNER"), _project_row),
)


# --- the groups ------------------------------------------------------------------------------------------------------


def _group(kind: _Kind) -> click.Group:
    group = click.Group(kind.name, help=f"The registry's {kind.name.replace('-', ' ')}.")

    @group.command("list", help=f"List all {kind.name.replace('-', ' ')}.")
    @_tags_option
    @click.pass_context
    def list_all(context: click.Context, tags: tuple[str, ...]) -> None:
        wanted, snapshot = _parse_tags(tags), open_registry_of(context).load()
        rows = [kind.row(message, snapshot) for message in kind.messages(snapshot) if _has_tags(message, wanted)]
        _table(rows, kind.headers)

    @group.command("describe", help=f"Show one of the {kind.name.replace('-', ' ')}, as YAML.")
    @click.argument("name")
    @click.pass_context
    def describe(context: click.Context, name: str) -> None:
        message = kind.find(open_registry_of(context).load(), name)
        _print(message, **(_state(message) if kind.name == "feature-views" else {}))

    return group


def _state(message: Any) -> dict[str, Any]:
    enabled, state = _life(message)
    return {"enabled": enabled == "Yes", "state": state}


def _table(rows: Sequence[Row], headers: Sequence[str], form: str = "plain") -> None:
    from tabulate import tabulate

    click.echo(tabulate(rows, headers=headers, tablefmt=form, disable_numparse=True))


GROUPS = {kind.name: _group(kind) for kind in _KINDS}
"""Name -> group of commands."""


# --- features --------------------------------------------------------------------------------------------------------


@click.group()
def features() -> None:
    """The features of all views."""


@features.command("list")
@click.pass_context
def list_features(context: click.Context) -> None:
    """List all features."""
    _table(
        [(feature.name, view.spec.name, str(convert.field(feature).dtype)) for view, feature in _features(context)],
        ("Feature", "Feature View", "Data Type"),
    )


def _features(context: click.Context) -> list[tuple[Any, Any]]:
    snapshot = open_registry_of(context).load()
    return [
        (view, feature)
        for view in GROUP_OF_VIEWS.messages(snapshot)
        for feature in view.spec.features
        if feature.name not in {column.name for column in view.spec.entity_columns}
    ]


GROUP_OF_VIEWS = _KINDS[1]


@features.command("describe")
@click.argument("name")
@click.pass_context
def describe_feature(context: click.Context, name: str) -> None:
    """Show a feature in each view that has it, as JSON."""
    found = [_feature(view, feature) for view, feature in _features(context) if feature.name == name]
    if not found:
        raise click.ClickException(f"Feature {name} does not exist in any feature view")
    click.echo(json.dumps(found, indent=4))


def _feature(view: Any, feature: Any) -> dict[str, Any]:
    spec = view.spec
    has_source = "batch_source" in spec.DESCRIPTOR.fields_by_name and spec.HasField("batch_source")
    return {
        "Feature Name": feature.name,
        "Feature View": spec.name,
        "Data Type": str(convert.field(feature).dtype),
        "Description": feature.description,
        "Online Store": getattr(spec, "online", True),
        "Source": as_dict(spec.batch_source) if has_source else {},
    }


GROUPS["features"] = features


# --- the life of views -----------------------------------------------------------------------------------------------

_views = GROUPS["feature-views"]


@_views.command()
@click.argument("name")
@click.pass_context
def enable(context: click.Context, name: str) -> None:
    """Let a view be served and loaded again."""
    with open_store(context) as store:
        changed = store.enable_feature_view(name)
    click.echo(f"Feature view '{name}' {'has been' if changed else 'is already'} enabled.")


@_views.command()
@click.argument("name")
@click.pass_context
def disable(context: click.Context, name: str) -> None:
    """Keep a view from being served and loaded."""
    with open_store(context) as store:
        changed = store.disable_feature_view(name)
    click.echo(f"Feature view '{name}' {'has been' if changed else 'is already'} disabled.")


@_views.command("list-versions")
@click.argument("name")
@click.pass_context
def list_versions(context: click.Context, name: str) -> None:
    """List the version history of a view."""
    with open_store(context) as store:
        versions = store.list_feature_view_versions(name)
    if not versions:
        click.echo(f"No version history found for feature view '{name}'.")
        return
    keys = ("version", "feature_view_type", "created_timestamp", "version_id")
    _table([[version[key] for key in keys] for version in versions], ("VERSION", "TYPE", "CREATED", "VERSION_ID"))


_STATES = {state.name.lower(): state for state in FeatureViewState if state}


@_views.command("set-state")
@click.argument("name")
@click.argument("state", type=click.Choice(list(_STATES), case_sensitive=False))
@click.pass_context
def set_state(context: click.Context, name: str, state: str) -> None:
    """Set how far a view is on its way to being served."""
    with open_store(context) as store:
        store.set_feature_view_state(name, _STATES[state.lower()])
    click.echo(f"Feature view '{name}' state set to {_STATES[state.lower()].name}.")


# --- permissions -----------------------------------------------------------------------------------------------------


@GROUPS["permissions"].command("list-roles")
@click.pass_context
def list_roles(context: click.Context) -> None:
    """List the roles that any permission names."""
    permissions = PERMISSIONS.messages(open_registry_of(context).load())
    roles = {role for message in permissions for role in _roles(message)}
    _table([[role] for role in sorted(roles)], ["ROLE NAME"], "grid")


# --- projects --------------------------------------------------------------------------------------------------------

_projects = GROUPS["projects"]


@_projects.command("current_project")
@click.pass_context
def current_project(context: click.Context) -> None:
    """Show the project of feature_store.yaml, as YAML."""
    snapshot = open_registry_of(context).load()
    _print(_KINDS[-1].find(snapshot, snapshot.project))


@_projects.command("delete")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def delete_project(context: click.Context, name: str, yes: bool) -> None:
    """Delete the definitions of the project, but not its rows in the online store."""
    if not yes:
        click.confirm(f"Delete project {name} and all its definitions?", abort=True)
    with open_store(context) as store:
        store.delete_project(name)
    click.echo(f"Deleted project {name}")
