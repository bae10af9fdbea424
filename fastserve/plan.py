"""Snapshot + requested features -> ReadPlan: everything about a request that does not depend on its entities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastserve._core import KeyGroup, ReadPlan, Slot, StoredView, field_id
from fastserve.config import Config
from fastserve.errors import (
    EntityError,
    EntityNotFoundException,
    FeatureNameCollisionError,
    FeatureNotFoundException,
    FeatureReferenceError,
    FeatureViewUnavailableError,
    RequestError,
    VectorStaleError,
)
from fastserve.model import (
    DUMMY_ENTITY,
    DUMMY_JOIN_KEY,
    FeatureService,
    FeatureView,
    FeatureViewProjection,
    FeatureViewState,
    Field,
    OnDemandFeatureView,
)
from fastserve.registry import Snapshot
from fastserve.transform import Transform, load_function
from fastserve.types import Invalid, ValueType
from fastserve.vectors import FEAST, FEAST_FEATURE, Build, Group, Names, differences, feast_view, label_of, places

__all__ = [
    "PlanOptions",
    "as_service",
    "compile_plan",
    "declared_types",
    "feast_obstacle",
    "is_precomputed",
    "parse_reference",
    "plan_of_hashes",
    "plan_options",
    "service_groups",
]

KEY_TYPES = frozenset(
    {ValueType.UNKNOWN, ValueType.STRING, ValueType.BYTES, ValueType.INT32, ValueType.INT64, ValueType.UNIX_TIMESTAMP}
)


MAX_VERSION_LENGTH = 20


# From here on HGETALL of a hash takes Redis less time than HMGET of most of it (54 of 54: 8 us instead of 21).
MANY_FIELDS = 24

REBUILD = "build them again: fastserve vectors build "


@dataclass(frozen=True)
class PlanOptions:
    """What the configuration says about plans.

    Args:
        project: the project, which ends the store's keys.
        key_version: `entity_key_serialization_version`.
        versioning: `enable_online_feature_view_versioning`.
        ttl_mode: "status", "enforce" or "ignore".
        allow_on_demand: whether the code of on-demand feature views may be loaded.
    """

    project: str
    key_version: int = 3
    versioning: bool = False
    ttl_mode: str = "status"
    allow_on_demand: bool = True


def plan_options(config: Config) -> PlanOptions:
    """Return what a configuration says about plans."""
    return PlanOptions(
        project=config.project,
        key_version=config.entity_key_serialization_version,
        versioning=config.registry.enable_online_feature_view_versioning,
        ttl_mode=config.fastserve.ttl_mode,
        allow_on_demand=config.fastserve.allow_on_demand,
    )


@dataclass(frozen=True)
class Reference:
    """One requested feature: of a view, by the name and in the version that the request gives it."""

    projection: FeatureViewProjection
    feature: str

    def output_name(self, full_feature_names: bool) -> str:
        return f"{self.projection.name_to_use()}__{self.feature}" if full_feature_names else self.feature


def parse_reference(reference: str) -> Reference:
    """Split `view:feature`, `view@latest:feature` or `view@vN:feature`.

    Raises:
        FeatureReferenceError: there is no colon, or nothing on one side of it.
    """
    if not isinstance(reference, str):
        raise FeatureReferenceError(f"a feature reference is text, got {type(reference).__name__} {reference!r}")
    view, _, feature = reference.partition(":")
    name, _, version = view.partition("@")
    if not name or not feature:
        raise FeatureReferenceError(
            f"Invalid feature reference {reference!r}; expected 'feature_view:feature' or 'feature_view@vN:feature'"
        )
    if version in ("", "latest"):
        return Reference(FeatureViewProjection(name), feature)
    if version[:1] in "vV" and version[1:].isascii() and version[1:].isdigit() and len(version) < MAX_VERSION_LENGTH:
        return Reference(FeatureViewProjection(name, version_tag=int(version[1:])), feature)
    # Feast takes any other text as part of the name, so that the view is not found.
    return Reference(FeatureViewProjection(view), feature)


def requested_references(features: FeatureService | Iterable[str]) -> list[Reference]:
    """Return the references of a service (projections in order, features as declared) or of a list of texts."""
    if isinstance(features, FeatureService):
        return [Reference(p, f.name) for p in features.feature_view_projections for f in p.features]
    if isinstance(features, str):
        raise FeatureReferenceError(f"a list of references expected, got the text {features!r}")
    return [parse_reference(reference) for reference in features]


def as_service(service: Any) -> FeatureService:
    """Return a service given as an object of any package: the registry's, `fastserve.definition`'s or Feast's.

    Args:
        service: with `name` and `feature_view_projections`.
    """
    if isinstance(service, FeatureService):
        return service
    return FeatureService(
        service.name,
        tuple(map(_projection, service.feature_view_projections)),
        precompute_online=bool(getattr(service, "precompute_online", False)),
    )


def _projection(given: Any) -> FeatureViewProjection:
    return FeatureViewProjection(
        given.name,
        given.name_alias or "",
        tuple(Field(feature.name, Invalid) for feature in given.features),  # the view knows the types
        dict(given.join_key_map or {}),
        getattr(given, "version_tag", None),
    )


def declared_types(
    snapshot: Snapshot, features: FeatureService | Iterable[str], full_feature_names: bool
) -> dict[str, int]:
    """Return the ValueType of each column of an answer that somebody else gives; of what is not known here, none."""
    if not isinstance(features, (list, tuple)):
        service = features if isinstance(features, str) else getattr(features, "name", "")
        features = snapshot.feature_services.get(str(service), [])
    references = requested_references(features)
    asked = [snapshot.feature_views.get(reference.projection.name) for reference in references]
    found = _agreed_keys(snapshot.feature_views.values()) | _agreed_keys(filter(None, asked))
    for reference in references:
        name = reference.projection.name
        known = snapshot.feature_views.get(name) or snapshot.on_demand_feature_views.get(name)
        for feature in known.features if known else ():
            if feature.name == reference.feature:
                found[reference.output_name(full_feature_names)] = int(feature.value_type)
    return found


def _agreed_keys(views: Iterable[FeatureView]) -> dict[str, int]:
    """The types of the join keys that have the same type in all of these views."""
    found: dict[str, set[int]] = {}
    for view in views:
        for column in view.entity_columns:
            found.setdefault(column.name, set()).add(int(column.value_type))
    return {name: types.pop() for name, types in found.items() if len(types) == 1}


def compile_plan(
    snapshot: Snapshot,
    options: PlanOptions,
    features: FeatureService | Iterable[str],
    full_feature_names: bool = False,
    vectors: Build | None = None,
) -> ReadPlan:
    """Compile the plan of a request shape.

    Args:
        features: a service, or references of the form `view:feature`.
        full_feature_names: name features `view__feature` in the answer.
        vectors: the precomputed vectors that the service is read from; without them, its views are.
    Raises:
        FeatureReferenceError, FeastObjectNotFoundException, FeatureNameCollisionError, FeatureViewUnavailableError,
        EntityError: a join key's type cannot be a key.
        VectorStaleError: the vectors lack features of the service.
    """
    references = requested_references(features)
    if not references:
        raise RequestError("No features specified for retrieval")
    compiler = _Compiler(snapshot, options, full_feature_names)
    if vectors is not None:
        assert isinstance(features, FeatureService)
        compiler.vectors = _Vectors(features.name, vectors)
    return compiler.compile(references)


def is_precomputed(snapshot: Snapshot, service: FeatureService) -> bool:
    """Whether a service is read from vectors: it asks for that, and nothing of it is computed when it is read."""
    if not service.precompute_online:
        return False
    views = (snapshot.on_demand_feature_views.get(p.name) for p in service.feature_view_projections)
    return not any(view is not None and not view.write_to_online_store for view in views)


def service_groups(snapshot: Snapshot, options: PlanOptions, service: FeatureService) -> tuple[list[Group], Names]:
    """Return what the vectors of a service consist of, and its features in order.

    Raises:
        RequestError, FeastObjectNotFoundException: as `compile_plan`.
    """
    compiler = _Compiler(snapshot, options, full_feature_names=True)
    found = [item for item in map(compiler.resolve, requested_references(service)) if isinstance(item, _Stored)]
    if not found:
        raise RequestError(f"{label_of(service.name)} has no stored features, so there is nothing to precompute")
    names = tuple((item.reference.projection.name_to_use(), item.stored_name, item.field.name) for item in found)
    return _groups_of(found), names


def feast_obstacle(service: FeatureService, groups: Iterable[Group]) -> str:
    """Return why Feast's format cannot hold a service, or "": it has one vector for each entity key of the first view.

    Args:
        groups: the service's, from `service_groups`.
    """
    keys = [", ".join(group.join_keys) for group in groups]
    if len(keys) > 1:
        return f"its views have different join keys: {'; '.join(keys)}"
    mapped = [p.name_to_use() for p in service.feature_view_projections if p.join_key_map]
    return f"its view {mapped[0]} has a join key map" if mapped else ""


def _groups_of(found: Iterable[_Stored | _Computed]) -> list[Group]:
    """Return stored features by join keys and view."""
    views: dict[tuple[str, ...], dict[str, dict[str, int]]] = {}
    for item in found:
        if isinstance(item, _Stored):
            of_view = views.setdefault(item.group.join_keys, {}).setdefault(item.stored_name, {})
            of_view[item.field.name] = int(item.field.value_type)
    return [
        Group(join_keys, tuple((name, tuple(features.items())) for name, features in found_views.items()))
        for join_keys, found_views in views.items()
    ]


def plan_of_hashes(group: Group, options: PlanOptions) -> ReadPlan:
    """Return the plan of all that the vectors of a group are made of, for `batch_of_keys`."""
    found = _Group(group.join_keys, (), ())
    found.views = {name: [feature for feature, _ in features] for name, features in group.views}
    views = [StoredView(name, found.views[name], start) for name, start in found.starts()]
    n_fields = sum(len(view.features) + 1 for view in views)
    keys = KeyGroup(
        group.join_keys, (), (), views, options.project, options.key_version, whole_hash=n_fields >= MANY_FIELDS
    )
    return ReadPlan([keys], [], join_keys={}, required={})


@dataclass(frozen=True)
class _Vectors:
    """The vectors that a service is read from."""

    service: str
    build: Build


@dataclass
class _Group:
    """A KeyGroup in the making."""

    join_keys: tuple[str, ...]
    columns: tuple[str, ...]
    value_types: tuple[ValueType, ...]
    views: dict[str, list[str]] = field(default_factory=dict)  # stored name -> features

    def build(self, options: PlanOptions, snapshot: Snapshot, vectors: _Vectors | None) -> KeyGroup:
        return KeyGroup(
            self.join_keys,
            self.columns,
            self.value_types,
            [StoredView(name, self.views[name], start) for name, start in self.starts()],
            options.project,
            options.key_version,
            whole_hash=vectors is None and self.takes_most_of_a_hash(options, snapshot),
            **self.vector_options(vectors),
        )

    def vector_options(self, vectors: _Vectors | None) -> dict[str, Any]:
        """Return the arguments of a KeyGroup that is read from vectors."""
        if vectors is None:
            return {}
        group = vectors.build.group(self.join_keys)
        assert group is not None  # or the vectors would be stale
        if vectors.build.format == FEAST:
            names, views = places(vectors.build, self.fields())
            return {
                "vector_format": FEAST,
                "vector_field": field_id(feast_view(vectors.service), FEAST_FEATURE),
                "vector_label": label_of(vectors.service),
                "vector_names": names,
                "vector_views": views,
            }
        return {
            "vector": group.layout,
            "vector_format": "packed",
            "vector_prefix": group.prefix,
            "vector_label": label_of(vectors.service),
        }

    def takes_most_of_a_hash(self, options: PlanOptions, snapshot: Snapshot) -> bool:
        """Whether HGETALL is the cheaper command: many fields, few others beside them, and no large ones.

        Old versions of views and pre-computed vectors lie in the same hash; how many, the registry does not say.
        """
        n_fields = sum(len(features) + 1 for features in self.views.values())
        if n_fields < MANY_FIELDS or options.versioning:
            return False
        if any(service.precompute_online for service in snapshot.feature_services.values()):
            return False
        neighbours = [v for v in snapshot.feature_views.values() if sorted(v.join_keys) == list(self.join_keys)]
        return n_fields * 3 >= sum(len(v.features) + 1 for v in neighbours) * 2

    def fields(self) -> dict[tuple[str, str | None], int]:
        """Return the field of each feature of each view, and with None for the feature that of its event time."""
        starts = self.starts()
        return {(name, f): start + i for name, start in starts for i, f in enumerate((*self.views[name], None))}

    def starts(self) -> Iterator[tuple[str, int]]:
        """Each view with the index of its first field; its event time's field follows its last."""
        start = 0
        for name, features in self.views.items():
            yield name, start
            start += len(features) + 1


@dataclass(frozen=True)
class _Stored:
    """A requested feature of a stored view, before its group is complete."""

    name: str
    reference: Reference
    field: Field
    view: FeatureView
    group: _Group
    stored_name: str


@dataclass(frozen=True)
class _Computed:
    """A requested output of an on-demand feature view."""

    name: str
    reference: Reference
    field: Field


class _Compiler:
    """One compilation; its state is what later references share with earlier ones."""

    def __init__(self, snapshot: Snapshot, options: PlanOptions, full_feature_names: bool):
        self.snapshot = snapshot
        self.options = options
        self.full_feature_names = full_feature_names
        self.groups: dict[tuple[tuple[str, ...], tuple[str, ...]], _Group] = {}
        self.join_keys: dict[str, int | None] = {e.join_key: None for e in snapshot.entities.values()}
        self.required: dict[str, list[str]] = {}
        self.view_versions: dict[tuple[str, int], None] = {}
        self.on_demand: dict[str, list[_Computed]] = {}
        self.on_demand_projections: dict[str, FeatureViewProjection] = {}
        self.vectors: _Vectors | None = None

    def compile(self, references: list[Reference]) -> ReadPlan:
        requested = [found for reference in references if (found := self.resolve(reference))]
        self.refuse_collisions(requested)
        if self.vectors is not None:
            self.check_vectors(self.vectors, requested)
        inputs = {name: self.resolve_inputs(projection) for name, projection in self.on_demand_projections.items()}
        self.starts = {key: dict(group.starts()) for key, group in self.groups.items()}
        self.group_indexes = {key: index for index, key in enumerate(self.groups)}
        outputs = [self.slot(found) for found in requested]
        transforms = [self.transform(name, inputs[name]) for name in self.on_demand]
        request_data = tuple(dict.fromkeys(name for t in transforms for name in t.request_data))
        return ReadPlan(
            [group.build(self.options, self.snapshot, self.vectors) for group in self.groups.values()],
            outputs,
            join_keys=self.echoed({slot.name for slot in outputs}.union(request_data)),
            required=self.required,
            entity_names={e.name: e.join_key for e in self.snapshot.entities.values() if e.name != e.join_key},
            request_data=request_data,
            transforms=transforms,
            inputs=[slot for transform in transforms for _, _, slot in transform.inputs],
            view_versions=tuple(self.view_versions),
            enforce_ttl=self.options.ttl_mode == "enforce",
        )

    def check_vectors(self, vectors: _Vectors, requested: list[_Stored | _Computed]) -> None:
        """Refuse vectors that lack something, and give all that is in Feast's a field: it is compared as a whole."""
        if lacking := differences(_groups_of(requested), vectors.build):
            raise VectorStaleError(label_of(vectors.service), None, f"{'; '.join(lacking)}; {REBUILD}{vectors.service}")
        if vectors.build.format == FEAST:
            (group,) = self.groups.values()
            for _, view, feature in vectors.build.names:
                features = group.views.setdefault(view, [])
                if feature not in features:
                    features.append(feature)

    def refuse_collisions(self, requested: list[_Stored | _Computed]) -> None:
        names = [found.name for found in requested]
        twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
        twice.update(name for name in names if name in self.required)
        if twice:
            raise FeatureNameCollisionError(twice, self.full_feature_names)

    def echoed(self, taken: set[str]) -> dict[str, int | None]:
        """The join keys that the answer repeats: of those that no view uses, not the ones whose names are taken."""
        return {name: number for name, number in self.join_keys.items() if name in self.required or name not in taken}

    # --- references -> views ---

    def resolve(self, reference: Reference) -> _Stored | _Computed | None:
        """Find what a reference means; None for a join key that a stored on-demand view lists among its features."""
        view_name = reference.projection.name
        on_demand = self.snapshot.on_demand_feature_views.get(view_name)
        name = reference.output_name(self.full_feature_names)
        if on_demand is not None and not on_demand.write_to_online_store:
            return self.resolve_computed(name, reference, on_demand)
        view = self.stored_view(reference.projection)
        if reference.feature in view.join_keys and reference.projection.features:
            return None
        return self.resolve_stored(name, reference, view)

    def resolve_computed(self, name: str, reference: Reference, view: OnDemandFeatureView) -> _Computed:
        check_available(view)
        key = reference.projection.name_to_use()
        found = _Computed(name, reference, feature_of(view, reference.feature))
        self.on_demand.setdefault(key, []).append(found)
        self.on_demand_projections[key] = reference.projection
        return found

    def stored_view(self, projection: FeatureViewProjection) -> FeatureView:
        version = projection.version_tag
        if version is None:
            return self.snapshot.get_feature_view(projection.name)
        if not self.options.versioning:
            raise FeatureReferenceError(
                f"{projection.name}@v{version}: versions are not enabled; set "
                "'enable_online_feature_view_versioning: true' under 'registry' in feature_store.yaml"
            )
        return self.snapshot.get_feature_view_version(projection.name, version)

    def resolve_stored(self, name: str, reference: Reference, view: FeatureView) -> _Stored:
        projection = reference.projection
        # A version is kept as it was when it was applied; whether it is served is said by the active one.
        check_available(self.snapshot.feature_views.get(view.name, view))
        group = self.group_of(view, projection.join_key_map)
        number = projection.version_tag if projection.version_tag is not None else view.current_version_number
        stored_name = f"{view.name}_v{number}" if self.options.versioning and number else view.name
        found = _Stored(name, reference, feature_of(view, reference.feature), view, group, stored_name)
        features = group.views.setdefault(stored_name, [])
        if reference.feature not in features:
            features.append(reference.feature)
        self.view_versions[projection.name_alias or view.name, number] = None
        return found

    def group_of(self, view: FeatureView, join_key_map: Mapping[str, str]) -> _Group:
        """Return the group of a view's join keys as the request names them, and note what the request must have."""
        self.check_entities(view)
        columns = sorted((c.name, join_key_map.get(c.name, c.name), c.value_type) for c in view.entity_columns)
        if view.entities == (DUMMY_ENTITY,) or not columns:
            return self.groups.setdefault(((DUMMY_JOIN_KEY,), ()), _Group((DUMMY_JOIN_KEY,), (), ()))
        for name, column, value_type in columns:
            if value_type not in KEY_TYPES:
                reason = f"value type not supported for entity keys: {value_type.name} of feature view {view.name}"
                raise EntityError(reason, join_key=name)
            self.join_keys[column] = int(value_type)
            views = self.required.setdefault(column, [])
            if view.name not in views:
                views.append(view.name)
        names, mapped, value_types = zip(*columns, strict=True)
        return self.groups.setdefault((names, mapped), _Group(names, mapped, value_types))

    def check_entities(self, view: FeatureView) -> None:
        for name in view.entities:
            if name != DUMMY_ENTITY and name not in self.snapshot.entities:
                raise EntityNotFoundException(name, self.snapshot.project)

    # --- on-demand feature views ---

    def resolve_inputs(self, projection: FeatureViewProjection) -> list[_Stored]:
        view = self.snapshot.get_on_demand_feature_view(projection.name)
        inputs = []
        for source in view.source_projections.values():
            stored = self.stored_view(source)
            names = [f.name for f in source.features if f.name not in stored.join_keys]
            inputs += [self.resolve_stored(name, Reference(source, name), stored) for name in names]
        return inputs

    def transform(self, name: str, inputs: list[_Stored]) -> Transform:
        view = self.snapshot.get_on_demand_feature_view(self.on_demand_projections[name].name)
        return Transform(
            view=view,
            function=load_function(view, self.options.allow_on_demand),
            inputs=tuple(
                (found.name, f"{found.reference.projection.name_to_use()}__{found.name}", self.slot(found))
                for found in inputs
            ),
            request_data=tuple(f.name for source in view.request_sources.values() for f in source.schema),
            outputs=tuple(
                (found.field.name, found.name, int(found.field.value_type)) for found in self.on_demand[name]
            ),
        )

    # --- slots ---

    def slot(self, found: _Stored | _Computed) -> Slot:
        label = f"{found.reference.projection.name}:{found.field.name}"
        if isinstance(found, _Computed):
            return Slot(found.name, label, int(found.field.value_type))
        key = (found.group.join_keys, found.group.columns)
        features = found.group.views[found.stored_name]
        start = self.starts[key][found.stored_name]
        ttl = found.view.ttl if self.options.ttl_mode != "ignore" else None
        return Slot(
            found.name,
            label,
            int(found.field.value_type),
            group=self.group_indexes[key],
            field=start + features.index(found.field.name),
            event_time=start + len(features),
            ttl=int(ttl.total_seconds() * 1_000_000) if ttl else 0,
        )


def feature_of(view: FeatureView | OnDemandFeatureView, name: str) -> Field:
    for candidate in view.features:
        if candidate.name == name:
            return candidate
    raise FeatureNotFoundException(name, view.name, (f.name for f in view.features))


def check_available(view: FeatureView | OnDemandFeatureView) -> None:
    """Refuse a view that is disabled, or that was created but never loaded.

    One that is being materialised, or whose last run failed, keeps its old rows and is served.
    """
    if not view.enabled:
        raise FeatureViewUnavailableError(f"Feature view {view.name} is disabled")
    if view.state == FeatureViewState.CREATED:
        raise FeatureViewUnavailableError(f"Feature view {view.name} is in state CREATED: it was never materialized")
