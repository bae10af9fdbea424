"""Precomputed vectors: what is kept of a feature service, and by which names.

A *marker* for each service in the online store says which vectors are there to be read, `current`, and which ones are
being built beside them, `building`. Writers keep both up to date; readers read the current ones only. So a change of
the schema or of the format replaces one by the other in one step.

    {"version": 1, "service": "fraud",
     "current": {"format": "packed", "generation": "5f0c...", "built_at": "2026-01-02T03:04:05+00:00", "count": 1000,
                 "groups": [{"join_keys": ["customer_id"], "tag": "0a1b...", "fingerprint": "2c3d...",
                             "views": [["txn_7d", [["amount_sum", 5]]]], "dropped": []}],
                 "names": [["txn_7d", "txn_7d", "amount_sum"]]},
     "building": null}

There is one vector for each entity key of each group: the views with the same join keys.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal

from fastserve._core import VectorLayout
from fastserve.errors import RequestError, VectorError, VectorVersionError
from fastserve.types import ValueType

__all__ = [
    "FEAST",
    "FEAST_FEATURE",
    "PACKED",
    "Build",
    "Format",
    "Group",
    "Marker",
    "Names",
    "differences",
    "feast_view",
    "label_of",
    "new_build",
    "places",
    "united",
]

MARKER_VERSION = 1
PACKED, FEAST = "packed", "feast"
FEAST_FEATURE = "vector"

Format = Literal["packed", "feast"]
Views = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
"""Stored name of each view, with (feature, ValueType) of each of its features."""
Names = tuple[tuple[str, str, str], ...]
"""Alias and stored name of a view, and a feature of it."""
Place = tuple[str, int]


@dataclass(frozen=True)
class Group:
    """The views of a service with the same join keys: one vector for each of their entity keys.

    Args:
        join_keys: sorted, as in `KeyGroup`.
        views: what a vector has.
        tag: tells these vectors' keys from all others; "" in Feast's format.
        dropped: views that were deleted since, so that what the vectors have of them counts no more.
    """

    join_keys: tuple[str, ...]
    views: Views
    tag: str = ""
    dropped: tuple[str, ...] = ()

    @cached_property
    def layout(self) -> VectorLayout:
        """What the vectors look like."""
        return VectorLayout(self.views)

    @property
    def prefix(self) -> bytes:
        """What the keys of the vectors begin with; the entity key follows."""
        return b"fsv:%b:" % self.tag.encode()

    @property
    def empty(self) -> bytes:
        """The vector of an entity of which nothing is stored."""
        layout = self.layout
        size = len(layout.head) + 4 * layout.n_segments
        return layout.head + size.to_bytes(4, "little") * layout.n_segments

    def features_of(self, view: str) -> dict[str, int]:
        """Return the features of a view with their types; none if it was dropped, or never there."""
        return {} if view in self.dropped else dict(dict(self.views).get(view, ()))


@dataclass(frozen=True)
class Build:
    """One generation of a service's vectors.

    Args:
        format: "packed", or "feast": a feature `vector` of the view `feast_view`, in the hashes of the entities.
        generation: random.
        names: the service's features, in its order: alias of the view, its stored name, feature.
        built_at: when they were complete, as ISO 8601; "" before.
        count: how many there were then.
    """

    format: Format
    generation: str
    groups: tuple[Group, ...]
    names: Names
    built_at: str = ""
    count: int = 0

    def group(self, join_keys: tuple[str, ...]) -> Group | None:
        """Return the group of these join keys."""
        return next((group for group in self.groups if group.join_keys == join_keys), None)

    def finished(self, count: int) -> Build:
        """Return the build as it is when it is complete."""
        return replace(self, built_at=datetime.now(timezone.utc).isoformat(timespec="seconds"), count=count)

    def without_views(self, names: Iterable[str]) -> Build:
        """Return the build as it is when these stored views are deleted."""
        gone = set(names)

        def shortened(group: Group) -> Group:
            dropped = {name for name, _ in group.views if name in gone} | set(group.dropped)
            return replace(group, dropped=tuple(sorted(dropped)))

        return replace(self, groups=tuple(shortened(group) for group in self.groups))


@dataclass(frozen=True)
class Marker:
    """What is kept of one service.

    Args:
        current: what is read; None before the first build is complete.
        building: what is being built; of one that was interrupted, what is left of it.
        data: the bytes in the store; merging a vector fails as soon as they are others.
    """

    service: str
    current: Build | None = None
    building: Build | None = None
    data: bytes | None = None

    @classmethod
    def parse(cls, service: str, data: bytes | None) -> Marker:
        """Return the marker that a store holds; without one, an empty Marker.

        Raises:
            VectorVersionError: another version of fastserve wrote it. VectorError: it is damaged.
        """
        if data is None:
            return cls(service)
        try:
            found = json.loads(data)
            version = found["version"]
            if version == MARKER_VERSION:
                return cls(service, _build(found["current"]), _build(found["building"]), data)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise VectorError(f"{label_of(service)}: its marker in the online store is damaged: {exc!r}") from exc
        raise VectorVersionError(label_of(service), None, version)

    def to_bytes(self) -> bytes:
        """Return the marker as a store holds it."""
        content = {"version": MARKER_VERSION, "service": self.service}
        builds = {"current": _as_json(self.current), "building": _as_json(self.building)}
        return json.dumps(content | builds, ensure_ascii=False).encode()

    @property
    def builds(self) -> list[Build]:
        """What writers keep up to date, in this order: what is read last, lest a build becomes current without a row
        that was read already."""
        return [build for build in (self.building, self.current) if build is not None]


def _as_json(build: Build | None) -> dict[str, Any] | None:
    if build is None:
        return None
    prints = {group.join_keys: f"{group.layout.fingerprint:016x}" for group in build.groups}
    content = asdict(build)
    for group in content["groups"]:
        group["fingerprint"] = prints[group["join_keys"]]
    return content


def _build(content: Any) -> Build | None:
    if content is None:
        return None
    if content["format"] not in (PACKED, FEAST):
        raise ValueError(f"format {content['format']!r}")
    groups = tuple(_group(item) for item in content["groups"])
    names = tuple((str(alias), str(view), str(feature)) for alias, view, feature in content["names"])
    known = {name: content[name] for name in ("format", "generation", "built_at", "count")}
    return Build(groups=groups, names=names, **known)


def _group(content: Any) -> Group:
    views = tuple(
        (str(view), tuple((str(name), int(number)) for name, number in features)) for view, features in content["views"]
    )
    group = Group(tuple(content["join_keys"]), views, content["tag"], tuple(content["dropped"]))
    if content["fingerprint"] != f"{group.layout.fingerprint:016x}":
        raise ValueError(f"fingerprint {content['fingerprint']} is not that of the layout")
    return group


def new_build(project: str, service: str, format: Format, groups: Iterable[Group], names: Names) -> Build:
    """Return a build that begins now, its vectors under keys of their own; the groups are given without tags."""
    generation = secrets.token_hex(8)
    if format == PACKED:
        groups = [replace(group, tag=_tag(project, service, group, generation)) for group in groups]
    return Build(format, generation, tuple(groups), names)


def _tag(project: str, service: str, group: Group, generation: str) -> str:
    """The 16 hexadecimal digits of a hash of all that tells vectors apart."""
    told = [project, service, group.join_keys, f"{group.layout.fingerprint:016x}", generation]
    return blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()


def label_of(service: str) -> str:
    """Return what errors call a service."""
    return f"feature service {service}"


def places(build: Build, fields: Mapping[tuple[str, str | None], int]) -> tuple[list[Place], list[Place]]:
    """Return what the core must know of vectors in Feast's format.

    Args:
        fields: (stored name of a view, feature) -> index of the field; None for the feature: of the event time.
    Returns:
        (full name, field) of each feature, and (alias, field) of the event time of each view.
    """
    names = [(f"{alias}__{feature}", fields[view, feature]) for alias, view, feature in build.names]
    views = {alias: fields[view, None] for alias, view, _ in build.names}
    return names, list(views.items())


def feast_view(service: str) -> str:
    """Return the name under which Feast stores the vectors of a service, as if they were a feature view's."""
    return f"__precomputed__{service}"


def united(groups: Iterable[Group], others: Iterable[Group]) -> list[Group]:
    """Return groups that have all features of both.

    Raises:
        RequestError: a feature has two types.
    """
    found: dict[tuple[str, ...], dict[str, dict[str, int]]] = {}
    for group in (*groups, *others):
        for view, features in group.views:
            known = found.setdefault(group.join_keys, {}).setdefault(view, {})
            for name, number in features:
                if known.setdefault(name, number) != number:
                    types = f"{_type_name(known[name])} and {_type_name(number)}"
                    raise RequestError(f"feature {view}:{name} is of two types, {types}; no vector can hold both")
    return [
        Group(join_keys, tuple((view, tuple(features.items())) for view, features in views.items()))
        for join_keys, views in found.items()
    ]


def differences(wanted: Iterable[Group], build: Build) -> list[str]:
    """Return what vectors lack for a service as it is now; features that they have beyond it do no harm."""
    found = []
    for group in wanted:
        built = build.group(group.join_keys)
        if built is None:
            names = ", ".join(name for name, _ in group.views)
            found.append(f"views with the join keys {', '.join(group.join_keys)} were added: {names}")
            continue
        for view, features in group.views:
            found += _view_differences(view, features, built)
    return found


def _view_differences(view: str, features: Iterable[tuple[str, int]], built: Group) -> list[str]:
    known = built.features_of(view)
    if not known:
        return [f"view {view} was {'deleted and made anew' if view in built.dropped else 'added'}"]
    added = [f"feature {view}:{name} was added" for name, _ in features if name not in known]
    changed = [
        f"feature {view}:{name} is {_type_name(number)}, and was {_type_name(known[name])} when they were built"
        for name, number in features
        if known.get(name, number) != number
    ]
    return added + changed


def _type_name(number: int) -> str:
    return ValueType(number).name
