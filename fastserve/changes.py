"""What differs between two states of a definition, field by field.

Two messages of one definition are compared in their *normal form*: without what the registry keeps about a definition,
and with one spelling where Feast has several. So a registry that Feast wrote does not look changed to us.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from fastserve.registry import schema_pb2 as pb
from fastserve.source_text import unresolved_names

__all__ = ["KIND_NAMES", "Action", "Change", "FieldChange", "differences", "is_same", "normal"]

M = TypeVar("M", bound=Message)

Action = Literal["created", "updated", "deleted", "unchanged"]

KIND_NAMES: Mapping[str, str] = {
    "projects": "project",
    "entities": "entity",
    "data_sources": "data source",
    "feature_views": "feature view",
    "stream_feature_views": "stream feature view",
    "on_demand_feature_views": "on demand feature view",
    "label_views": "label view",
    "feature_services": "feature service",
}
"""List of the Registry message -> what its objects are called, in the order in which changes are told."""


@dataclass(frozen=True)
class FieldChange:
    """One field of a definition that differs.

    Args:
        path: such as `ttl`, `tags.team`, `features.age.value_type`.
        old, new: its values as text; None where there is none.
    """

    path: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        return (
            f"{self.path}: {'(none)' if self.old is None else self.old} -> {'(none)' if self.new is None else self.new}"
        )


@dataclass(frozen=True)
class Change:
    """What happens to one definition.

    Args:
        kind: one of the values of KIND_NAMES.
        fields: of an update, what differs.
        version: the number of the version that is recorded for a view, or None.
        note: what else there is to say, or "".
    """

    kind: str
    name: str
    action: Action
    fields: tuple[FieldChange, ...] = ()
    version: int | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"{self.action} {self.kind} {self.name}"


# --- the normal form -------------------------------------------------------------------------------------------------

_KEPT_BY_REGISTRY = frozenset({"meta", "project", "data_source_class_type"})
# A projection's `timestamp_field` is derived from its source; the deprecated function is a copy of the other one.
_DEFAULTS = (("version", "latest"), ("view_type", "featureView"))
_DERIVED = {"FeatureViewProjection": frozenset({"timestamp_field", "created_timestamp_column"})}


def normal(message: M) -> M:
    """Return a copy in the normal form."""
    copy = type(message)()
    copy.CopyFrom(message)
    _normalise(copy)
    _drop_keys(getattr(copy, "spec", None))
    return copy


def _drop_keys(spec: Any) -> None:
    """Drop the join keys from the features: stream and on-demand views list them there too.

    Feast writes the features of those in the order of its hashes, so they are sorted as well.
    """
    if isinstance(spec, (pb.StreamFeatureViewSpec, pb.OnDemandFeatureViewSpec)):
        keys = {column.name for column in spec.entity_columns}
        features = [feature for feature in spec.features if feature.name not in keys]
        del spec.features[:]
        spec.features.extend(sorted(features, key=lambda feature: feature.name))


def is_same(old: Message, new: Message) -> bool:
    """Return whether two messages define the same."""
    return type(old) is type(new) and _bytes(normal(old)) == _bytes(normal(new))


def _bytes(message: Message) -> bytes:
    # Not `==`, for which NaN differs from itself.
    return message.SerializeToString(deterministic=True)


def _normalise(message: Any) -> None:
    derived = _derived(message)
    for field, value in message.ListFields():
        if field.name in _KEPT_BY_REGISTRY or field.name in derived or _says_nothing(field, value):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for item in _messages(field, value):
                _normalise(item)


def _derived(message: Any) -> frozenset[str]:
    """Return the fields that follow from others: of a function also its pickle, where the text is what is run."""
    if isinstance(message, (pb.UserDefinedFunctionV2, pb.UserDefinedFunction)):
        return frozenset() if unresolved_names(message.body_text) else frozenset({"body"})
    return _DERIVED.get(message.DESCRIPTOR.name, frozenset())


def _says_nothing(field: FieldDescriptor, value: Any) -> bool:
    if isinstance(value, Duration):
        return not value.seconds and not value.nanos
    if field.name == "file_format" and isinstance(value, pb.FileFormat):
        return value.WhichOneof("format") in (None, "parquet_format")
    return field.type == FieldDescriptor.TYPE_STRING and (field.name, value) in _DEFAULTS


def _messages(field: FieldDescriptor, value: Any) -> Iterable[Any]:
    if not _is_repeated(field):
        return (value,)
    if _is_map(field):
        return () if _value_field(field).message_type is None else value.values()
    return value  # type: ignore[no-any-return]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _value_field(field: Any) -> Any:
    return field.message_type.fields_by_name["value"]


def _is_repeated(field: FieldDescriptor) -> bool:
    # `label` is gone from new protobufs, `is_repeated` not yet there in old ones.
    known: Any = field
    return bool(known.is_repeated if hasattr(known, "is_repeated") else known.label == known.LABEL_REPEATED)


# --- the differences -------------------------------------------------------------------------------------------------


def differences(old: Message, new: Message) -> tuple[FieldChange, ...]:
    """Return the fields in which two definitions of one kind differ, by their path below `spec`."""
    before, after = normal(old), normal(new)
    # Only a data source has no spec.
    return tuple(_compare("", getattr(before, "spec", before), getattr(after, "spec", after)))


def _compare(path: str, old: Any, new: Any) -> Iterator[FieldChange]:
    """Yield what differs between two messages of one type."""
    fields = {field.number: field for message in (old, new) for field, _ in message.ListFields()}
    for _, field in sorted(fields.items()):
        before, after = getattr(old, field.name), getattr(new, field.name)
        yield from _compare_field(f"{path}{field.name}", field, before, after, old, new)


def _compare_field(
    path: str, field: FieldDescriptor, before: Any, after: Any, old: Any, new: Any
) -> Iterator[FieldChange]:
    if _is_repeated(field):
        yield from _compare_named(path, _named(field, before), _named(field, after))
    elif field.message_type is not None and field.message_type.name != "Duration":
        yield from _compare_parts(path, before if old.HasField(field.name) else None, after, new.HasField(field.name))
    else:
        texts = [
            _text(field, value) if _has(message, field) else None for message, value in ((old, before), (new, after))
        ]
        if texts[0] != texts[1]:
            yield FieldChange(path, texts[0], texts[1])


def _compare_parts(path: str, before: Any, after: Any, has_after: bool) -> Iterator[FieldChange]:
    if before is None or not has_after:
        yield FieldChange(
            path, _summary(before) if before is not None else None, _summary(after) if has_after else None
        )
    else:
        yield from _compare(f"{path}.", before, after)


def _compare_named(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[FieldChange]:
    """Yield what differs between two lists or maps whose items have names."""
    names = dict.fromkeys([*old, *new])
    for name in sorted(names) if path.endswith("tags") else names:
        before, after = old.get(name), new.get(name)
        if isinstance(before, Message) and isinstance(after, Message):
            yield from _compare(f"{path}.{name}.", before, after)
        elif before != after:
            texts = [None if item is None else _summary(item) for item in (before, after)]
            yield FieldChange(f"{path}.{name}", texts[0], texts[1])
    kept_before, kept_after = [n for n in old if n in new], [n for n in new if n in old]
    if kept_before != kept_after and not path.endswith("tags"):
        yield FieldChange(f"{path} (order)", ", ".join(kept_before), ", ".join(kept_after))


def _named(field: FieldDescriptor, items: Any) -> dict[str, Any]:
    """Return the items of a list or a map by name; a name that occurs again gets a number."""
    if _is_map(field):
        return {str(key): items[key] for key in sorted(items)}
    named: dict[str, Any] = {}
    for item in items:
        name = base = _name(item)
        number = 1
        while name in named:
            number += 1
            name = f"{base}#{number}"
        named[name] = item
    return named


def _name(item: Any) -> str:
    if isinstance(item, pb.FeatureViewProjection):
        return item.feature_view_name_alias or item.feature_view_name
    return (
        str(getattr(item, "name", "") or getattr(item, "column", "") or item)
        if isinstance(item, Message)
        else str(item)
    )


def _has(message: Any, field: FieldDescriptor) -> bool:
    if field.has_presence:
        return bool(message.HasField(field.name))
    return field.type == FieldDescriptor.TYPE_BOOL or bool(getattr(message, field.name))


def _text(field: Any, value: Any) -> str:
    if isinstance(value, Duration):
        return str(timedelta(seconds=value.seconds, microseconds=value.nanos / 1000)).removesuffix(", 0:00:00")
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else str(value)
    return _short(value)


def _summary(value: Any) -> str:
    """Return a few words for a whole item."""
    if isinstance(value, pb.FeatureSpecV2):
        return _text(value.DESCRIPTOR.fields_by_name["value_type"], value.value_type)
    if isinstance(value, pb.FeatureViewProjection):
        return ", ".join(column.name for column in value.feature_columns)
    if isinstance(value, Message):
        return str(getattr(value, "name", "")) or " ".join(str(value).split())[:60] or "(empty)"
    return _short(value)


def _short(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    lines = str(value).splitlines()
    return lines[0] if len(lines) == 1 else f"{len(lines)} lines" if lines else '""'
