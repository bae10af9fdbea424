"""Feature views: which features an entity has, and where they come from."""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from fastserve.definition.check import Arguments, Definition
from fastserve.definition.entity import Entity
from fastserve.definition.projection import FeatureViewProjection
from fastserve.definition.source import DataSource, KafkaSource, KinesisSource, PushSource, RequestSource
from fastserve.definition.transformation import Aggregation, TransformationMode, mode_text
from fastserve.definition.version import parse_version
from fastserve.model import DUMMY_ENTITY, DUMMY_JOIN_KEY, FeatureViewState, Field
from fastserve.types import String, ValueType, from_value_type

__all__ = ["BatchFeatureView", "ConflictPolicy", "FeatureView", "LabelView", "StreamFeatureView", "View"]

_V = TypeVar("_V", bound="View")

_STREAMS = (PushSource, KafkaSource, KinesisSource)


class View(Definition):
    """Base of all views: names, columns, and the projection that a service takes of them."""

    features: list[Field]
    entity_columns: list[Field]
    entities: list[str]
    entity_objects: tuple[Entity, ...]
    batch_source: DataSource | None
    stream_source: DataSource | None
    version: str = "latest"

    def __init__(
        self,
        check: Arguments,
        schema: Sequence[Field] | None,
        entities: Sequence[Entity] | None,
        description: str,
        tags: Mapping[str, str] | None,
        owner: str,
    ):
        fields = check.several("schema", schema, Field, "Field objects")
        found = check.several("entities", entities, Entity, "Entity objects")
        self.entities = [entity.name for entity in found] or [DUMMY_ENTITY]
        self.entity_objects = tuple(found)
        self.entity_columns = _key_columns(fields, found)
        join_keys = {entity.join_key for entity in found}
        self.features = [field for field in fields if field.name not in join_keys]
        self.description = check.text("description", description)
        self.tags = check.texts("tags", tags)
        self.owner = check.text("owner", owner)
        self._projection: FeatureViewProjection | None = None

    @property
    def join_keys(self) -> list[str]:
        """The names of the join keys whose type is known, from the schema or the entities."""
        return [column.name for column in self.entity_columns]

    @property
    def schema(self) -> list[Field]:
        """Join keys and features."""
        return self.entity_columns + self.features

    @property
    def source(self) -> DataSource | None:
        """The table behind the view."""
        return self.batch_source

    @property
    def projection(self) -> FeatureViewProjection:
        """What a service takes of the view: all features under its own name, unless this is a changed copy."""
        if self._projection is not None:
            return self._projection
        return FeatureViewProjection(
            self.name,
            features=self.features,
            batch_source=self.batch_source,
            version_tag=parse_version(self.version),
        )

    def is_copy_of(self, other: View) -> bool:
        """Return whether the views are equal but for their projections."""
        mine, others = self._content(), other._content()
        return type(self) is type(other) and {**mine, "_projection": None} == {**others, "_projection": None}

    def with_projection(self: _V, projection: FeatureViewProjection) -> _V:
        """Return a copy with another projection.

        Raises:
            DefinitionError: the projection is of another view, or has a feature that the view lacks.
        """
        if projection.name != self.name:
            raise self._error(f"a projection of {projection.name} does not fit")
        self._require(field.name for field in projection.features if field not in self.features)
        changed = copy.copy(self)
        changed._projection = projection
        return changed

    def with_name(self: _V, name: str) -> _V:
        """Return a copy that a service knows by another name."""
        return self.with_projection(replace(self.projection, name_alias=name))

    def with_join_key_map(self: _V, join_key_map: Mapping[str, str]) -> _V:
        """Return a copy that takes join keys from other columns of a request: join key -> column.

        Raises:
            DefinitionError: the view has no such join key.
        """
        known = {entity.join_key for entity in self.entity_objects}
        if unknown := sorted(set(join_key_map) - known):
            raise self._error(f"join_key_map names {', '.join(unknown)}; the join keys are: {', '.join(sorted(known))}")
        return self.with_projection(replace(self.projection, join_key_map=dict(join_key_map)))

    def __getitem__(self: _V, names: list[str]) -> _V:
        """Return a copy with some of the features: `view[["age", "segment"]]`.

        A view without a schema learns its features when it is applied; until then any name is accepted.

        Raises:
            DefinitionError: the view has no such feature.
            TypeError: the names are not a list.
        """
        if not isinstance(names, list):
            raise TypeError(f"{self.name}: features are chosen with a list, such as view[['age']], not {names!r}")
        if not self.features:
            return self.with_projection(replace(self.projection, desired_features=list(names)))
        known = {field.name: field for field in self.features}
        self._require(name for name in names if name not in known)
        return self.with_projection(replace(self.projection, features=[known[name] for name in names]))

    def _require(self, missing: Iterator[str]) -> None:
        if names := ", ".join(missing):
            raise self._error(f"has no feature {names}; it has: {', '.join(field.name for field in self.features)}")

    def _error(self, rule: str) -> Exception:
        return Arguments(type(self).__name__, self.name).error(rule)

    def broken_rules(self) -> Iterator[str]:
        """Yield, in words, each rule that the view breaks by itself."""
        yield from _name_rules(self.name)
        yield from _column_rules(self)
        yield from _entity_rules(self)
        try:
            parse_version(self.version)
        except ValueError as error:
            yield str(error)

    def _keep_rules(self, check: Arguments) -> None:
        for rule in self.broken_rules():
            raise check.error(rule)


def _key_columns(fields: Sequence[Field], entities: Sequence[Entity]) -> list[Field]:
    """Return the join keys whose type is known: those of the schema, then those that only the entities tell."""
    if not entities:
        return [Field(DUMMY_JOIN_KEY, String)]
    known = {field.name: field for field in fields}
    wanted = {entity.join_key: entity.value_type for entity in entities}
    found = [field for field in fields if field.name in wanted]
    return found + [
        Field(name, from_value_type(value_type))
        for name, value_type in wanted.items()
        if name not in known and value_type not in (ValueType.UNKNOWN, ValueType.NULL)
    ]


def _name_rules(name: str) -> Iterator[str]:
    if not name:
        yield "a view needs a name"
    for character in "@:":
        if character in name:
            yield f"the name of a view must not contain {character!r}, which has a meaning in feature references"


def _column_rules(view: View) -> Iterator[str]:
    seen: set[str] = set()
    for column in view.schema:
        if column.name in seen:
            yield f"schema has {column.name} twice"
        if not column.name:
            yield "schema has a field without a name"
        if column.value_type is ValueType.UNKNOWN:
            yield f"field {column.name} has the type Invalid"
        seen.add(column.name)
    vectors = [field.name for field in view.features if field.vector_index]
    if len(vectors) > 1:
        yield f"a view has at most one field with vector_index, not {len(vectors)}: {', '.join(vectors)}"


def _entity_rules(view: View) -> Iterator[str]:
    owners: dict[str, str] = {}
    types = {column.name: column for column in view.entity_columns}
    for entity in view.entity_objects:
        if entity.join_key in owners:
            yield f"the entities {owners[entity.join_key]} and {entity.name} share the join key {entity.join_key}"
        owners[entity.join_key] = entity.name
        column = types.get(entity.join_key)
        if column is not None and entity.value_type not in (ValueType.UNKNOWN, column.value_type):
            yield (
                f"field {column.name} is a {column.dtype}, but the entity {entity.name} has the type "
                f"{entity.value_type.name}"
            )


class FeatureView(View):
    """Features of an entity that are stored online.

        txn_7d = FeatureView(
            name="txn_7d", entities=[customer], ttl=timedelta(days=1), source=txn_push,
            schema=[Field(name="customer_id", dtype=String), Field(name="amount_sum", dtype=Float64)],
        )

    `txn_7d[["amount_sum"]]`, `txn_7d.with_name("spending")` and `txn_7d.with_join_key_map({"customer_id": "payer"})`
    are copies for a `FeatureService`.

    Args:
        name: unique in the project, whatever the case; without `@` and `:`.
        source: a table or files; or a push source or stream, which then needs a `batch_source`; or a view, or views,
            that a job derives this one from.
        sink_source: of a view that is derived from views: where the job writes.
        schema: join keys and features; without features they are taken from the source.
        entities: what the features describe; without any, there is one row for all.
        ttl: the age from which a value is too old; zero and None mean no limit.
        online: whether the view is materialised.
        offline, org, mode, enable_validation: kept for other readers.
        version: "latest", or "vN" to serve that version.
        enabled: a view that is not enabled is not served.

    Raises:
        DefinitionError: a rule is broken; the text names the view and the rule.
    """

    def __init__(
        self,
        *,
        name: str,
        source: DataSource | FeatureView | Sequence[FeatureView] | None = None,
        sink_source: DataSource | None = None,
        schema: Sequence[Field] | None = None,
        entities: Sequence[Entity] | None = None,
        ttl: timedelta | None = timedelta(0),
        online: bool = True,
        offline: bool = False,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        org: str = "",
        mode: TransformationMode | str | None = None,
        enable_validation: bool = False,
        version: str = "latest",
        enabled: bool = True,
    ):
        check = Arguments(type(self).__name__, name)
        self.name = name
        super().__init__(check, schema, entities, description, tags, owner)
        self.ttl = check.duration("ttl", ttl)
        self.online = check.flag("online", online)
        self.offline = check.flag("offline", offline)
        self.org = check.text("org", org)
        self.mode = check.text("mode", mode_text(mode))
        self.enable_validation = check.flag("enable_validation", enable_validation)
        self.version = check.text("version", version)
        self.enabled = check.flag("enabled", enabled)
        self.state = FeatureViewState.STATE_UNSPECIFIED
        self.current_version_number: int | None = None
        self.materialization_intervals: list[tuple[datetime, datetime]] = []
        self._take_source(check, source, sink_source)
        self._keep_rules(check)

    def _take_source(self, check: Arguments, source: object, sink_source: object) -> None:
        self.source_views: list[FeatureView] = []
        self.batch_source = self.stream_source = None
        if isinstance(source, (FeatureView, list, tuple)):
            given = [source] if isinstance(source, FeatureView) else source
            self.source_views = check.several("source", given, FeatureView, "views")
            if sink_source is None:
                raise check.error("a view that is derived from views needs a sink_source")
            self.batch_source = check.one("sink_source", sink_source, DataSource, "a data source")
        elif source is not None:
            self.batch_source, self.stream_source = _both_sources(check, source)

    def broken_rules(self) -> Iterator[str]:
        yield from super().broken_rules()
        mapping = {} if (given := self.stream_source or self.batch_source) is None else given.field_mapping
        for column in self.schema:
            if mapping.get(column.name, column.name) != column.name:
                yield (
                    f"field {column.name} is called {mapping[column.name]} by the field_mapping of the source; "
                    f"use that name, or remove it from the mapping"
                )

    @property
    def most_recent_end_time(self) -> datetime | None:
        """The time up to which the view was loaded, or None."""
        return max((end for _, end in self.materialization_intervals), default=None)


def _both_sources(check: Arguments, source: object) -> tuple[DataSource, DataSource | None]:
    found = check.one("source", source, DataSource, "a data source, a view or a list of views")
    if isinstance(found, RequestSource):
        raise check.error(f"the request source {found.name} can only feed on-demand views")
    if not isinstance(found, _STREAMS):
        return found, None
    if found.batch_source is None:
        raise check.error(f"its source, the {type(found).__name__} {found.name}, needs a batch_source")
    return found.batch_source, found


class BatchFeatureView(FeatureView):
    """A view whose rows a batch job computes; fastserve keeps its definition and serves what the job wrote.

    Args:
        mode: the language of `udf`.
        udf, udf_string: the function, and its source text.
        aggregations, batch_engine, feature_transformation: for the job; the last is not supported.
        others: as in `FeatureView`; here `online` is False and `ttl` None unless given.

    Raises:
        DefinitionError: as in `FeatureView`.
    """

    def __init__(
        self,
        *,
        name: str,
        mode: TransformationMode | str = TransformationMode.PYTHON,
        source: DataSource | FeatureView | Sequence[FeatureView] | None = None,
        sink_source: DataSource | None = None,
        entities: Sequence[Entity] | None = None,
        ttl: timedelta | None = None,
        tags: Mapping[str, str] | None = None,
        online: bool = False,
        offline: bool = False,
        description: str = "",
        owner: str = "",
        org: str = "",
        schema: Sequence[Field] | None = None,
        udf: Callable[[Any], Any] | None = None,
        udf_string: str | None = "",
        feature_transformation: None = None,
        batch_engine: Mapping[str, Any] | None = None,
        aggregations: Sequence[Aggregation] | None = None,
        enable_validation: bool = False,
        version: str = "latest",
    ):
        check = Arguments(type(self).__name__, name)
        _refuse_transformation(check, feature_transformation)
        self.udf = udf
        self.udf_string = check.text_or_none("udf_string", udf_string)
        self.batch_engine = dict(batch_engine or {})
        self.aggregations = check.several("aggregations", aggregations, Aggregation, "Aggregation objects")
        super().__init__(
            name=name,
            source=source,
            sink_source=sink_source,
            schema=schema,
            entities=entities,
            ttl=ttl,
            online=online,
            offline=offline,
            description=description,
            tags=tags,
            owner=owner,
            org=org,
            mode=mode,
            enable_validation=enable_validation,
            version=version,
        )


def _refuse_transformation(check: Arguments, feature_transformation: object) -> None:
    if feature_transformation is not None:
        raise check.error("feature_transformation is not supported; give udf and udf_string")


class StreamFeatureView(FeatureView):
    """A view whose rows a stream job writes; fastserve keeps its definition, and serves, pushes and materialises it.

    Args:
        source: a Kafka or push source with a `batch_source`, or views as in `FeatureView`.
        aggregations: for the stream job; they need a `timestamp_field`.
        timestamp_field: the column that windows go by.
        udf, udf_string, mode: the job's function, its source text and language.
        stream_engine, feature_transformation: for the job; the last is not supported.
        enable_tiling, tiling_hop_size: for the job; a hop (5 minutes unless given) is shorter than every window.
        others: as in `FeatureView`.

    Raises:
        DefinitionError: as in `FeatureView`, or one of the rules above is broken.
    """

    def __init__(
        self,
        *,
        name: str,
        source: DataSource | StreamFeatureView | Sequence[StreamFeatureView],
        sink_source: DataSource | None = None,
        entities: Sequence[Entity] | None = None,
        ttl: timedelta | None = timedelta(0),
        tags: Mapping[str, str] | None = None,
        online: bool = True,
        offline: bool = False,
        description: str = "",
        owner: str = "",
        org: str = "",
        schema: Sequence[Field] | None = None,
        aggregations: Sequence[Aggregation] | None = None,
        mode: TransformationMode | str = TransformationMode.PYTHON,
        timestamp_field: str | None = "",
        udf: Callable[..., Any] | None = None,
        udf_string: str | None = "",
        feature_transformation: None = None,
        stream_engine: Mapping[str, Any] | None = None,
        enable_tiling: bool = False,
        tiling_hop_size: timedelta | None = None,
        enable_validation: bool = False,
        version: str = "latest",
    ):
        check = Arguments(type(self).__name__, name)
        _refuse_transformation(check, feature_transformation)
        if isinstance(source, DataSource) and not isinstance(source, (KafkaSource, PushSource)):
            raise check.error(f"source must be a KafkaSource or PushSource, not the {type(source).__name__}")
        self.aggregations = check.several("aggregations", aggregations, Aggregation, "Aggregation objects")
        self.timestamp_field = check.text_or_none("timestamp_field", timestamp_field)
        self.udf = udf
        self.udf_string = check.text_or_none("udf_string", udf_string)
        self.stream_engine = dict(stream_engine or {})
        self.enable_tiling = check.flag("enable_tiling", enable_tiling)
        self.tiling_hop_size = check.duration("tiling_hop_size", tiling_hop_size)
        super().__init__(
            name=name,
            source=source,
            sink_source=sink_source,
            schema=schema,
            entities=entities,
            ttl=ttl,
            online=online,
            offline=offline,
            description=description,
            tags=tags,
            owner=owner,
            org=org,
            mode=mode,
            enable_validation=enable_validation,
            version=version,
        )

    def broken_rules(self) -> Iterator[str]:
        yield from super().broken_rules()
        if self.aggregations and not self.timestamp_field:
            yield "aggregations need a timestamp_field"
        windows = [found.time_window for found in self.aggregations if found.time_window is not None]
        hop = self.tiling_hop_size or timedelta(minutes=5)
        if self.enable_tiling and windows and hop >= min(windows):
            yield f"tiling_hop_size ({hop}) must be smaller than the smallest time_window ({min(windows)})"


class ConflictPolicy(enum.Enum):
    """Which of several people's labels counts."""

    LAST_WRITE_WINS = "last_write_wins"
    LABELER_PRIORITY = "labeler_priority"
    MAJORITY_VOTE = "majority_vote"


class LabelView(View):
    """Labels that people give to an entity: written with `push`, read like any view.

    Args:
        source: the push source (or table) of the labels.
        labeler_field: the column that says who gave the label.
        conflict_policy: kept for other readers; online, the last write counts.
        reference_feature_view: the view that the labels are about.
        others: as in `FeatureView`.

    Raises:
        DefinitionError: as in `FeatureView`.
    """

    def __init__(
        self,
        *,
        name: str,
        source: DataSource | None = None,
        schema: Sequence[Field] | None = None,
        entities: Sequence[Entity] | None = None,
        ttl: timedelta | None = timedelta(0),
        online: bool = True,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        labeler_field: str = "labeler",
        conflict_policy: ConflictPolicy = ConflictPolicy.LAST_WRITE_WINS,
        reference_feature_view: str | None = None,
    ):
        check = Arguments("LabelView", name)
        self.name = name
        super().__init__(check, schema, entities, description, tags, owner)
        self.ttl = check.duration("ttl", ttl)
        self.online = check.flag("online", online)
        self.labeler_field = check.text("labeler_field", labeler_field)
        self.conflict_policy = check.one("conflict_policy", conflict_policy, ConflictPolicy, "a ConflictPolicy")
        self.reference_feature_view = check.text_or_none("reference_feature_view", reference_feature_view)
        self._take_source(check, source)
        self._keep_rules(check)

    def _take_source(self, check: Arguments, source: DataSource | None) -> None:
        if source is not None:
            check.one("source", source, DataSource, "a data source")
        streamed = isinstance(source, _STREAMS)
        self.stream_source = source if streamed else None
        self.batch_source = source.batch_source if streamed and source is not None else source

    @property
    def projection(self) -> FeatureViewProjection:
        return self._projection or replace(super().projection, view_type="labelView")
