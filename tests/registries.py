"""Registries made in memory, and a Redis that is a dict: for tests that need neither files nor servers.

bank()                               the recorded registry, to be changed as the test likes
view(name, features, keys)           a FeatureView message
on_demand_view(name, code, outputs)  an OnDemandFeatureView message
service(name, *projections)          a FeatureService message
registry(*objects)                   a Registry of project "test" with these, and the entities that they name
compiled(registry, features)         -> ReadPlan
answer(commands, hashes)             what Redis replies to HMGETs
read(plan, rows, hashes)             -> OnlineResponse
store_with(repo, **settings)         -> FeatureStore of a repository
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from fastserve import FeatureStore, online
from fastserve._core import Batch, ReadPlan
from fastserve.model import FeatureService
from fastserve.plan import PlanOptions, compile_plan
from fastserve.registry import Snapshot
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.snapshot import build_snapshot
from fastserve.response import OnlineResponse
from fastserve.types import FeastType, String, ValueType
from tests import goldens, reference

Hashes = Mapping[bytes, Mapping[bytes, bytes]]
Columns = Mapping[str, FeastType | ValueType]

CUSTOMER: Columns = {"customer_id": String}
HISTORY_KINDS = {pb.FeatureView: "feature_view", pb.OnDemandFeatureView: "on_demand_feature_view"}


# --- registries ------------------------------------------------------------------------------------------------------


def bank() -> pb.Registry:
    """Return a new copy of the bank's registry."""
    return pb.Registry.FromString((goldens.BANK / "data/registry.db").read_bytes())


def named(objects: Iterable[Any], name: str) -> Any:
    """Return the one of these messages that has the name."""
    return next(item for item in objects if item.spec.name == name)


def columns(specs: Columns) -> list[pb.FeatureSpecV2]:
    """Return the messages of some columns."""
    numbers = {name: kind if isinstance(kind, ValueType) else kind.value_type for name, kind in specs.items()}
    return [pb.FeatureSpecV2(name=name, value_type=int(number)) for name, number in numbers.items()]


def view(
    name: str,
    features: Columns,
    keys: Columns = CUSTOMER,
    *,
    ttl_seconds: float = 0,
    number: int = 0,
    state: int = 0,
    disabled: bool = False,
) -> pb.FeatureView:
    """Return a view whose entities are called as their join keys, without `_id`; with no keys an entity-less one."""
    message = pb.FeatureView()
    message.spec.name, message.spec.project = name, "test"
    message.spec.features.extend(columns(features))
    message.spec.entities.extend([key.removesuffix("_id") for key in keys] or ["__dummy"])
    message.spec.entity_columns.extend(columns(keys or {"__dummy_id": String}))
    message.spec.ttl.FromNanoseconds(int(ttl_seconds * 1e9))
    message.spec.disabled = disabled
    message.meta.current_version_number = number
    message.meta.state = state
    return message


def projection(
    of: pb.FeatureView | pb.OnDemandFeatureView,
    *features: str,
    alias: str = "",
    join_key_map: Mapping[str, str] | None = None,
    version: int | None = None,
) -> pb.FeatureViewProjection:
    """Return the projection of some features of a view, or of all."""
    message = pb.FeatureViewProjection(
        feature_view_name=of.spec.name, feature_view_name_alias=alias, join_key_map=join_key_map or {}
    )
    message.feature_columns.extend(f for f in of.spec.features if not features or f.name in features)
    if version is not None:
        message.version_tag = version
    return message


def on_demand_view(
    name: str,
    code: str,
    outputs: Columns,
    *,
    sources: Iterable[pb.FeatureViewProjection] = (),
    request: Columns | None = None,
    mode: str = "python",
    singleton: bool = False,
    pickle: bytes = b"",
) -> pb.OnDemandFeatureView:
    """Return a view that runs the function `name` of the source text `code`."""
    message = pb.OnDemandFeatureView()
    spec = message.spec
    spec.name, spec.project, spec.mode, spec.singleton = name, "test", mode, singleton
    spec.features.extend(columns(outputs))
    function = spec.feature_transformation.user_defined_function
    function.name, function.body_text, function.body = name, code, pickle
    for source in sources:
        spec.sources[source.feature_view_name].feature_view_projection.CopyFrom(source)
    if request:
        data = spec.sources[f"{name}_request"].request_data_source
        data.name, data.type = f"{name}_request", pb.DataSource.REQUEST_SOURCE
        data.request_data_options.schema.extend(columns(request))
    return message


def service(name: str, *projections: pb.FeatureViewProjection) -> pb.FeatureService:
    """Return a service."""
    message = pb.FeatureService()
    message.spec.name, message.spec.project = name, "test"
    message.spec.features.extend(projections)
    return message


def registry(*objects: Any) -> pb.Registry:
    """Return a registry with these views, on-demand views and services."""
    message = pb.Registry(registry_schema_version="1")
    lists = {
        pb.FeatureView: message.feature_views,
        pb.OnDemandFeatureView: message.on_demand_feature_views,
        pb.FeatureService: message.feature_services,
    }
    for item in objects:
        lists[type(item)].append(item)
    keys = {c.name: c.value_type for item in message.feature_views for c in item.spec.entity_columns}
    for join_key, value_type in keys.items():
        entity = message.entities.add()
        entity.spec.name = "__dummy" if join_key == "__dummy_id" else join_key.removesuffix("_id")
        entity.spec.join_key, entity.spec.value_type, entity.spec.project = join_key, value_type, "test"
    return message


def remember(message: pb.Registry, number: int, item: pb.FeatureView | pb.OnDemandFeatureView) -> None:
    """Add a version of a view to the registry's history."""
    message.feature_view_version_history.records.add(
        feature_view_name=item.spec.name,
        project_id=item.spec.project,
        version_number=number,
        feature_view_type=HISTORY_KINDS[type(item)],
        feature_view_proto=item.SerializeToString(),
    )


def snapshot(message: pb.Registry) -> Snapshot:
    """Return the snapshot of the registry's one project."""
    return build_snapshot(message, _project(message), "mark")


def _project(message: pb.Registry) -> str:
    return (message.feature_views or message.on_demand_feature_views)[0].spec.project


def compiled(
    message: pb.Registry | Snapshot, features: FeatureService | Iterable[str] | str, full: bool = False, **options: Any
) -> ReadPlan:
    """Compile a plan; a text is the name of a service, `options` are those of PlanOptions."""
    found = snapshot(message) if isinstance(message, pb.Registry) else message
    if isinstance(features, str):
        features = found.get_feature_service(features)
    return compile_plan(found, PlanOptions(found.project, **options), features, full)


# --- a Redis that is a dict ------------------------------------------------------------------------------------------


def hash_of(
    view_name: str, values: Mapping[str, bytes], event_time: bytes | tuple[int, int] = b""
) -> dict[bytes, bytes]:
    """Return the hash fields of one view; the event time is serialised, or (seconds, nanos)."""
    fields = {reference.field_id(view_name, feature): value for feature, value in values.items()}
    stamp = event_time if isinstance(event_time, bytes) else reference.encode_timestamp(*event_time)
    return {**fields, reference.timestamp_field(view_name): stamp}


def customer_key(customer: str, project: str = "test") -> bytes:
    """Return the Redis key of a customer."""
    return reference.serialize_entity_key(["customer_id"], [customer], [reference.STRING]) + project.encode()


def bulk(value: bytes | None) -> bytes:
    """Return the RESP form of a value."""
    return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def answer(commands: bytes, hashes: Hashes) -> bytes:
    """Return Redis's replies to HMGET commands."""
    replies = []
    for name, key, *fields in reference.parse_replies(commands):
        assert name == b"HMGET"
        found = hashes.get(key, {})
        replies.append(b"*%d\r\n" % len(fields) + b"".join(bulk(found.get(field)) for field in fields))
    return b"".join(replies)


def commands_of(batch: Batch, limit: int = 1 << 20) -> bytes:
    """Return all commands of a batch."""
    return b"".join(iter(lambda: batch.commands(limit), None))


def fill(batch: Batch, hashes: Hashes) -> Batch:
    """Read everything that the batch asks for."""
    assert batch.feed(answer(commands_of(batch), hashes))
    return batch


def read(plan: ReadPlan, rows: object, hashes: Hashes, versions: bool = False) -> OnlineResponse:
    """Return the answer to a request."""
    batch = fill(online.begin(plan, rows), hashes)
    online.finish(batch)
    return OnlineResponse(batch, versions)


# --- repositories ----------------------------------------------------------------------------------------------------


def yaml_of(repo: Path) -> dict[str, Any]:
    """Return the content of a repository's feature_store.yaml."""
    mapping: dict[str, Any] = yaml.safe_load((repo / "feature_store.yaml").read_text())
    return mapping


def store_with(repo: Path, **settings: Any) -> FeatureStore:
    """Return a store of the repository, with these settings of the `fastserve` section."""
    return FeatureStore(repo, yaml_of(repo) | {"fastserve": settings})
