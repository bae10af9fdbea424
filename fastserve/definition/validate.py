"""Rules over a whole repository, looked at before anything of it is written.

What one object alone can break is in the classes; here are names that occur twice, things that do not exist, keys that
cannot be stored, and features that would share a place in the store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from fastserve import model
from fastserve.definition.check import Definition
from fastserve.definition.entity import Entity
from fastserve.definition.on_demand import OnDemandFeatureView
from fastserve.definition.service import AnyView, FeatureService
from fastserve.definition.source import DataSource
from fastserve.definition.view import FeatureView, LabelView, StreamFeatureView, View
from fastserve.errors import DefinitionError
from fastserve.types import ValueType

__all__ = ["Registered", "find_errors", "validate"]

_T = TypeVar("_T")

Registered: TypeAlias = (
    "model.Entity | model.FeatureView | model.OnDemandFeatureView | model.DataSource | model.FeatureService"
)
"""What a registry holds already."""

KEY_TYPES = frozenset({ValueType.STRING, ValueType.BYTES, ValueType.INT32, ValueType.INT64, ValueType.UNIX_TIMESTAMP})
"""The types that a join key can have: an entity key has no form for others."""


def validate(definitions: Iterable[Definition], registered: Iterable[Registered] = ()) -> None:
    """Fail with the first of `find_errors`, if there is one.

    Raises:
        DefinitionError: a rule is broken; the text names the object and the rule.
    """
    for error in find_errors(definitions, registered):
        raise error


def find_errors(definitions: Iterable[Definition], registered: Iterable[Registered] = ()) -> list[DefinitionError]:
    """Return every rule that a repository breaks.

    Args:
        definitions: all that is to be applied, after missing types and features were inferred. An object that occurs
            twice counts once, and so do a view and a copy of it with another projection.
        registered: what stays in the registry beside them; an object that is defined anew does not count.
    """
    repository = _Repository(list(definitions), list(registered))
    return [error for rule in _RULES for error in rule(repository)]


class _Repository:
    """The objects by kind."""

    def __init__(self, definitions: list[Definition], registered: list[Registered]):
        self.entities = _of(definitions, Entity)
        self.views = _of(definitions, View)
        self.sources = _of(definitions, DataSource)
        self.services = _of(definitions, FeatureService)
        self.view_names = {view.name for view in self.views}
        self.all = definitions
        defined = {_identity(item) for item in definitions}
        self.registered = [item for item in registered if _identity(item) not in defined]

    def all_views(self) -> dict[str, AnyView]:
        """Return all views by name; what is defined comes before what is registered."""
        kept = [v for v in self.registered if isinstance(v, (model.FeatureView, model.OnDemandFeatureView))]
        # A stored on-demand view may be given in both of its forms: the ordinary one has the join keys.
        kept.sort(key=lambda view: isinstance(view, model.FeatureView))
        return {view.name: view for view in [*kept, *self.views]}


def _of(items: Sequence[object], kind: type[_T]) -> list[_T]:
    return [item for item in items if isinstance(item, kind)]


def _identity(item: Definition | Registered) -> tuple[str, str]:
    """Return the kind and the name: what an object in the registry is replaced by."""
    if isinstance(item, (Entity, model.Entity)):
        return "entity", item.name
    if isinstance(item, (DataSource, model.DataSource)):
        return "source", item.name
    if isinstance(item, (FeatureService, model.FeatureService)):
        return "service", item.name
    return _view_kind(item), item.name


def _view_kind(item: object) -> str:
    if isinstance(item, model.FeatureView):
        return item.kind
    if isinstance(item, (model.OnDemandFeatureView, OnDemandFeatureView)):
        return "on_demand_feature_view"
    if isinstance(item, StreamFeatureView):
        return "stream_feature_view"
    if isinstance(item, FeatureView):
        return "feature_view"
    return "label_view" if isinstance(item, LabelView) else type(item).__name__


def _error(item: Definition, rule: str) -> DefinitionError:
    return DefinitionError(type(item).__name__, item.name, rule)


def _own_rules(repository: _Repository) -> Iterator[DefinitionError]:
    for item in repository.all:
        if isinstance(item, View):
            yield from (_error(item, rule) for rule in item.broken_rules())
        elif not item.name:
            yield _error(item, "it needs a name")


def _unique_names(repository: _Repository) -> Iterator[DefinitionError]:
    registered = repository.registered
    views = _of(registered, model.FeatureView) + _of(registered, model.OnDemandFeatureView)
    yield from _repeated(repository.views, views, "view")
    yield from _repeated(repository.sources, _of(registered, model.DataSource), "data source")
    # Names of these are told apart by case, as Feast has it.
    yield from _repeated(repository.entities, (), "entity", fold=False)
    yield from _repeated(repository.services, (), "feature service", fold=False)


def _repeated(
    defined: Sequence[Definition], registered: Iterable[Registered], what: str, *, fold: bool = True
) -> Iterator[DefinitionError]:
    seen: dict[str, Definition | Registered] = {_key(item.name, fold): item for item in registered}
    for item in defined:
        other = seen.setdefault(_key(item.name, fold), item)
        if other is item or (isinstance(other, Definition) and _same(item, other)):
            continue
        if isinstance(other, Definition):
            yield _error(item, f"the {what} {other.name} has the same name" + _case(item.name, other.name))
        else:
            yield _error(item, f"the registry has a {what} {other.name}" + _case(item.name, other.name))


def _key(name: str, fold: bool) -> str:
    return name.lower() if fold else name


def _case(name: str, other: str) -> str:
    return "" if name == other else "; upper and lower case count as the same"


def _same(one: Definition, other: Definition) -> bool:
    return one.is_copy_of(other) if isinstance(one, View) and isinstance(other, View) else one == other


def _known_entities(repository: _Repository) -> Iterator[DefinitionError]:
    known: dict[str, str] = {entity.name: entity.join_key for entity in _of(repository.registered, model.Entity)}
    known |= {entity.name: entity.join_key for entity in repository.entities}
    for view in repository.views:
        for entity in view.entity_objects:
            if entity.name not in known:
                yield _error(view, f"the entity {entity.name} is not defined")
            elif known[entity.name] != entity.join_key:
                yield _error(
                    view,
                    f"its entity {entity.name} has the join key {entity.join_key}, but the one that is defined has "
                    f"{known[entity.name]}",
                )


def _storable_keys(repository: _Repository) -> Iterator[DefinitionError]:
    """Views that are never stored online may have any key."""
    for view in repository.views:
        if not getattr(view, "online", True):
            continue
        types = {column.name: column.value_type for column in view.entity_columns}
        for entity in view.entity_objects:
            found = types.get(entity.join_key, entity.value_type)
            if found is ValueType.UNKNOWN:
                yield _error(
                    view,
                    f"the type of the join key {entity.join_key} is not known: add it to the schema, or give the "
                    f"entity {entity.name} a value_type",
                )
            elif found not in KEY_TYPES:
                yield _error(
                    view,
                    f"the join key {entity.join_key} is a {found.name}; a key must be one of "
                    f"{', '.join(sorted(kind.name for kind in KEY_TYPES))}",
                )


def _known_features(repository: _Repository) -> Iterator[DefinitionError]:
    views = repository.all_views()
    for service in repository.services:
        for projection in service.feature_view_projections:
            view = views.get(projection.name)
            if view is None:
                yield _error(service, f"the view {projection.name} does not exist")
                continue
            known = {field.name for field in view.features}
            wanted = [field.name for field in projection.features] + projection.desired_features
            missing = [name for name in wanted if name not in known]
            if missing and projection.version_tag is None:  # another version may have other features
                yield _error(service, f"view {view.name} has no feature {', '.join(missing)}")
            if service.precompute_online and _is_computed_when_read(view):
                yield _error(service, f"view {view.name} is computed when it is read; precompute_online cannot have it")


def _is_computed_when_read(view: AnyView) -> bool:
    return isinstance(view, (model.OnDemandFeatureView, OnDemandFeatureView)) and not view.write_to_online_store


def _known_inputs(repository: _Repository) -> Iterator[DefinitionError]:
    """What on-demand views take from other views."""
    views = repository.all_views()
    for view in _of(repository.views, OnDemandFeatureView):
        for projection in view.source_feature_view_projections.values():
            source = views.get(projection.name)
            if source is None:
                yield _error(view, f"its source, the view {projection.name}, does not exist")
                continue
            if _is_computed_when_read(source):
                yield _error(view, f"its source {source.name} is computed when it is read, so it cannot feed others")
            keys = [] if isinstance(source, model.OnDemandFeatureView) else source.entity_columns
            known = {field.name for field in (*keys, *source.features)}
            if missing := [field.name for field in projection.features if field.name not in known]:
                yield _error(view, f"its source {source.name} has no feature {', '.join(missing)}")


def _distinct_fields(repository: _Repository) -> Iterator[DefinitionError]:
    """Redis knows a feature by a 32-bit hash of its name, which all views with the same join keys share."""
    from fastserve._core import field_id

    places: defaultdict[frozenset[str], dict[bytes, tuple[str, str]]] = defaultdict(dict)
    for owner, join_keys, feature in _stored_names(repository):
        other = places[join_keys].setdefault(field_id(*feature), feature)
        if other != feature and (isinstance(owner, Definition) or other[0] in repository.view_names):
            yield DefinitionError(
                type(owner).__name__,
                owner.name,
                f"{':'.join(feature)} would share its place in Redis with {':'.join(other)}: their names have the same "
                f"32-bit hash; rename one of them",
            )


def _stored_names(
    repository: _Repository,
) -> Iterator[tuple[AnyView | FeatureService, frozenset[str], tuple[str, str]]]:
    """Yield (object, join keys, (view, feature)) of everything that Redis may hold."""
    views = {name: view for name, view in repository.all_views().items() if _is_stored(view)}
    for view in views.values():
        yield from ((view, _join_keys(view), (view.name, feature.name)) for feature in view.features)
    for service in repository.services:
        first = next((views[name] for name in service.view_names() if name in views), None)
        if service.precompute_online and first is not None:
            yield service, _join_keys(first), (f"__precomputed__{service.name}", "vector")


def _is_stored(view: AnyView) -> bool:
    # What a registry holds of a stored on-demand view is there as a FeatureView too.
    return not isinstance(view, model.OnDemandFeatureView) and not _is_computed_when_read(view)


def _join_keys(view: AnyView) -> frozenset[str]:
    if isinstance(view, View):
        return frozenset(entity.join_key for entity in view.entity_objects)
    assert isinstance(view, model.FeatureView)
    return frozenset(view.join_keys) - {model.DUMMY_JOIN_KEY}


_RULES = (
    _own_rules,
    _unique_names,
    _known_entities,
    _storable_keys,
    _known_features,
    _known_inputs,
    _distinct_fields,
)
