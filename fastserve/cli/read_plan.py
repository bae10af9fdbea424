"""`plan FEATURES`: what a read fetches."""

from __future__ import annotations

import json
from typing import Any

import click

from fastserve.cli import terminal
from fastserve.cli.features import compile_plan
from fastserve.cli.frame import open_store
from fastserve.config import SqliteConfig
from fastserve.feature_store import FeatureStore

__all__ = ["show"]

SAMPLE_TEXT_BYTES = 8


def show(context: click.Context, names: tuple[str, ...], full_feature_names: bool, as_json: bool) -> None:
    """Print what a read of features fetches: commands, fields and bytes."""
    with open_store(context) as store:
        _, compiled = compile_plan(store, names, full_feature_names)
        description = _describe(store, compiled)
    click.echo(_plan_text(description) if terminal.is_terminal() and not as_json else json.dumps(description))


def _describe(store: FeatureStore, compiled: Any) -> dict[str, Any]:
    types = _slot_types(store, compiled)
    is_sqlite = isinstance(store.config.online_store, SqliteConfig)
    describe = _sqlite_group if is_sqlite else _redis_group
    groups = [
        (_vector_group if group.vector_format else describe)(group, _fields_of(group, index, types), store.project)
        for index, group in enumerate(compiled.groups)
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
            fields.append({"field": f"{view.name}:{feature}", "type": types.get((index, position), "")})
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


def _vector_group(group: Any, fields: list[dict[str, str]], project: str) -> dict[str, Any]:
    packed, feast = "MGET of a hundred keys or so at a time", "HMGET key and the field of Feast's vector"
    command = packed if group.vector_format == "packed" else feast
    return {
        "join_keys": list(group.columns),
        "commands": [f"{command} ({group.vector_label}, format {group.vector_format})"],
        "bytes_per_entity": None,
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
    blocks = [terminal.grid(_plan_rows(description["groups"]), headers)] if description["groups"] else []
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
