"""The version history of views, as Feast keeps it.

The first apply of a view records version 0; each later one that changes what is stored (features, join keys, source
views, the function) records the next number and makes it the active one. Everything else is changed in place. A
definition with `version="vN"` goes back to record N if there is one; else it is recorded under that number.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from fastserve.changes import normal
from fastserve.definition import parse_version
from fastserve.errors import DefinitionError, FeatureViewPinConflict, RegistryError
from fastserve.registry import schema_pb2 as pb

__all__ = ["VERSIONED", "Versions"]

VERSIONED: Mapping[str, tuple[str, type[Any]]] = {
    "feature_views": ("feature_view", pb.FeatureView),
    "stream_feature_views": ("stream_feature_view", pb.StreamFeatureView),
    "on_demand_feature_views": ("on_demand_feature_view", pb.OnDemandFeatureView),
    "label_views": ("label_view", pb.LabelView),  # has a history, but nothing that says which version is active
}
"""List of the Registry message -> the type text of its records, and the message that they hold."""

_STORED_FORM = ("features", "entities", "entity_columns", "source_views")


class Versions:
    """The history of one project's views, in a Registry message that is being edited.

    Args:
        promote: whether a new version becomes the active one.
    """

    def __init__(self, registry: pb.Registry, project: str, now: Timestamp, promote: bool = True):
        self._history = registry.feature_view_version_history
        self._project = project
        self._now = now
        self._promote = promote
        self._records: dict[str, dict[int, pb.FeatureViewVersionRecord]] = {}
        for record in self._history.records:
            if record.project_id == project:
                self._records.setdefault(record.feature_view_name, {})[record.version_number] = record

    def numbers(self, name: str) -> list[int]:
        """Return the numbers of a view's versions, ascending."""
        return sorted(self._records.get(name, ()))

    def recorded(self, name: str, number: int) -> Any | None:
        """Return the message of a version of a view, or None."""
        record = self._records.get(name, {}).get(number)
        kinds = dict(VERSIONED.values())
        if record is None or record.feature_view_type not in kinds:
            return None
        return kinds[record.feature_view_type].FromString(record.feature_view_proto)

    def forgotten(self, view: Any) -> int | None:
        """Return the number of the active version of a view, if the registry says 0 although the view is no version 0.

        An `apply` of Feast's forgets the number of a view that it has not changed.
        """
        numbers = self.numbers(view.spec.name)
        active = getattr(view.meta, "current_version_number", None)
        if active != 0 or not numbers or not numbers[-1]:
            return None
        form = _stored_form(view)
        found = [n for n in reversed(numbers) if self._form(view.spec.name, n) == form]
        if not found or 0 in found:
            return None
        pin = _pin(view)
        return pin if pin in found else found[0]

    def _form(self, name: str, number: int) -> tuple[bytes, str] | None:
        try:
            view = self.recorded(name, number)
        except DecodeError:
            return None  # who asks for that version is told
        return None if view is None else _stored_form(view)

    def start(self, kind: str, view: Any) -> int:
        """Record the first version of a new view."""
        number = _pin(view) or 0
        _activate(view, number)
        self._record(kind, view, number)
        return number

    def advance(self, kind: str, old: Any, view: Any) -> tuple[Any, int | None]:
        """Decide what becomes of a changed view.

        Args:
            old: the view in the registry.
            view: the new one, with the meta of the old one.

        Returns:
            The view that the registry is to have, and the number that was recorded, if any.

        Raises:
            FeatureViewPinConflict: it is pinned to a version, and changed as well.
        """
        pin, active = _pin(view), getattr(old.meta, "current_version_number", 0)
        changed = _stored_form(old) != _stored_form(view)
        if pin is not None and pin in self._records.get(view.spec.name, ()):
            if changed or pin != active:
                return self._back_to(kind, old, view, pin), None
        elif pin is not None or changed:
            return self._next(kind, old, view, pin)
        return view, None

    def _next(self, kind: str, old: Any, view: Any, pin: int | None) -> tuple[Any, int]:
        name = view.spec.name
        number = pin if pin is not None else max(self.numbers(name), default=-1) + 1
        _activate(view, number)
        if self._promote:
            self._record(kind, view, number)
            return view, number
        view.ClearField("meta")
        _activate(view, number)
        self._record(kind, view, number)
        return old, number

    def _back_to(self, kind: str, old: Any, view: Any, number: int) -> Any:
        """Return the recorded version; the definition must not say anything new beside its number."""
        record = self._records[view.spec.name][number]
        try:
            found = VERSIONED[kind][1].FromString(record.feature_view_proto)
        except (ValueError, DecodeError) as exc:
            raise RegistryError(
                f"version v{number} of feature view {view.spec.name} in the registry is damaged"
            ) from exc
        if _definition(view) not in (_definition(old), _definition(found)):
            raise FeatureViewPinConflict(
                VERSIONED[kind][1].DESCRIPTOR.name,
                view.spec.name,
                f"it is pinned to v{number}, and its definition differs from that; change nothing but `version` "
                'to go back to it, or leave `version` at "latest"',
            )
        found.spec.version, found.spec.project = view.spec.version, view.spec.project
        found.spec.disabled = view.spec.disabled
        found.meta.CopyFrom(view.meta)
        found.meta.current_version_number = number
        return found

    def _record(self, kind: str, view: Any, number: int) -> None:
        record = self._history.records.add(
            feature_view_name=view.spec.name,
            project_id=self._project,
            version_number=number,
            feature_view_type=VERSIONED[kind][0],
            feature_view_proto=view.SerializeToString(),
            created_timestamp=self._now,
            version_id=str(uuid.uuid4()),
        )
        self._records.setdefault(view.spec.name, {})[number] = record

    def remove(self, name: str) -> None:
        """Forget a view's history."""
        if self._records.pop(name, None) is not None:
            records = self._history.records
            kept = [r for r in records if r.project_id != self._project or r.feature_view_name != name]
            del records[:]
            records.extend(kept)


def _activate(view: Any, number: int) -> None:
    if "current_version_number" in view.meta.DESCRIPTOR.fields_by_name:
        view.meta.current_version_number = number


def _pin(view: Any) -> int | None:
    try:
        return parse_version(getattr(view.spec, "version", ""))
    except ValueError as exc:
        raise DefinitionError(view.DESCRIPTOR.name, view.spec.name, str(exc)) from exc


def _stored_form(view: Any) -> tuple[bytes, str]:
    """Return that part of a view whose change makes a new version."""
    spec = normal(view).spec
    part = type(spec)()
    for field, value in spec.ListFields():
        if field.name in _STORED_FORM:
            # To stores and readers the order of features means nothing.
            items = sorted(value, key=lambda feature: feature.name) if field.name == "features" else value
            getattr(part, field.name).extend(items)
    if isinstance(spec, pb.OnDemandFeatureViewSpec):
        part.mode = spec.mode
        for name, source in spec.sources.items():
            part.sources[name].CopyFrom(source)
    function = "" if isinstance(view, pb.LabelView) else spec.feature_transformation.user_defined_function.body_text
    return part.SerializeToString(deterministic=True), function


def _definition(view: Any) -> bytes:
    found = normal(view)
    found.spec.ClearField("version")
    found.spec.ClearField("disabled")
    return bytes(found.SerializeToString(deterministic=True))
