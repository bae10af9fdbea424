"""Registry messages -> Snapshot."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from fastserve import errors
from fastserve.model import (
    DUMMY_JOIN_KEY,
    FeatureView,
    FeatureViewProjection,
    FeatureViewState,
    Field,
    OnDemandFeatureView,
)
from fastserve.registry import Snapshot
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.snapshot import build_snapshot
from fastserve.types import Array, Float64, Int64, Invalid, String, Struct, ValueType, from_value_type
from tests import goldens

DECODED = goldens.load("bank/registry_decoded")
NUMBERS = goldens.load("proto_schema")["enums"]["feast.types.ValueType.Enum"]
KINDS = {"BATCH_FILE": "file", "REQUEST_SOURCE": "request", "PUSH_SOURCE": "push"}


def bank() -> pb.Registry:
    return pb.Registry.FromString((goldens.BANK / "data/registry.db").read_bytes())


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return build_snapshot(bank(), "bank", "mark")


def decoded(kind: str) -> dict[str, Any]:
    """Return the recorded objects of a kind, by name."""
    return {item.get("spec", item)["name"]: item for item in DECODED[kind]}


def number(spec: dict[str, Any]) -> int:
    value_type = spec.get("value_type", 0)
    return value_type if isinstance(value_type, int) else NUMBERS[value_type]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def check_fields(fields: tuple[Field, ...], specs: list[dict[str, Any]]) -> None:
    assert [(f.name, int(f.value_type), f.description) for f in fields] == [
        (spec["name"], number(spec), spec.get("description", "")) for spec in specs
    ]
    assert [dict(f.tags) for f in fields] == [
        {k: v for k, v in spec.get("tags", {}).items() if not k.startswith("feast:")} for spec in specs
    ]


def check_view(view: FeatureView, item: dict[str, Any]) -> None:
    spec, meta = item["spec"], item["meta"]
    check_fields(view.features, spec["features"])
    check_fields(view.entity_columns, spec["entity_columns"])
    assert list(view.entities) == spec["entities"]
    assert view.ttl == timedelta(seconds=float(spec["ttl"].removesuffix("s")))
    assert view.online is spec.get("online", False)
    assert (view.description, view.owner, view.version) == (
        spec.get("description", ""),
        spec.get("owner", ""),
        spec["version"],
    )
    assert view.tags == spec.get("tags", {})
    assert view.state == FeatureViewState[meta.get("state", "STATE_UNSPECIFIED")]
    assert view.created_timestamp == moment(meta["created_timestamp"])
    assert view.materialization_intervals == tuple(
        (moment(i["start_time"]), moment(i["end_time"])) for i in meta.get("materialization_intervals", [])
    )


def test_entities(snapshot: Snapshot) -> None:
    items = decoded("entities")
    assert list(snapshot.entities) == [name for name in items if name != "__dummy"]
    for name, entity in snapshot.entities.items():
        spec = items[name]["spec"]
        assert (entity.join_key, int(entity.value_type)) == (spec["join_key"], number(spec))
        assert (entity.description, entity.owner) == (spec.get("description", ""), spec.get("owner", ""))
        assert snapshot.join_keys[entity.join_key] is entity
        assert snapshot.get_entity(name) is entity
    assert DUMMY_JOIN_KEY not in snapshot.join_keys


def test_feature_views(snapshot: Snapshot) -> None:
    items = decoded("feature_views")
    assert list(snapshot.feature_views) == [*items, "stored_odfv"]
    for name, item in items.items():
        view = snapshot.get_feature_view(name)
        assert view.kind == "feature_view"
        assert view.enabled
        check_view(view, item)


def test_an_entityless_view(snapshot: Snapshot) -> None:
    view = snapshot.get_feature_view("fx_rates")
    assert view.entities == ("__dummy",)
    assert view.join_keys == ("__dummy_id",)
    assert view.entity_columns[0].dtype is String


def test_types_that_a_number_does_not_tell(snapshot: Snapshot) -> None:
    dtypes = {field.name: field.dtype for field in snapshot.get_feature_view("all_types").features}
    assert dtypes["st_struct"] == Struct({"street": String, "no": Int64})
    assert dtypes["l_struct"] == Array(Struct({"no": Int64}))
    assert dtypes["ll_int"] == Array(Array(Int64))
    assert dtypes["p_pdf"].value_type is ValueType.PDF_BYTES
    assert dtypes["i_img"].value_type is ValueType.IMAGE_BYTES


def test_sources_of_views(snapshot: Snapshot) -> None:
    pushed = snapshot.get_feature_view("txn_7d")
    assert pushed.source_name == "txn_push"
    assert pushed.stream_source is not None and pushed.stream_source.kind == "push"
    assert pushed.batch_source is not None and pushed.batch_source.path == "data/txn.parquet"
    mapped = snapshot.get_feature_view("account_balance").batch_source
    assert mapped is not None and mapped.field_mapping == {"ts": "event_timestamp", "bal": "balance"}


def test_on_demand_views(snapshot: Snapshot) -> None:
    items = decoded("on_demand_feature_views")
    assert list(snapshot.on_demand_feature_views) == list(items)
    for name, item in items.items():
        view, spec = snapshot.get_on_demand_feature_view(name), item["spec"]
        assert (view.mode, view.singleton) == (spec["mode"], spec.get("singleton", False))
        assert view.write_to_online_store is spec.get("write_to_online_store", False)
        assert view.udf is not None and view.udf.name == name
        assert view.udf.body_text == spec["feature_transformation"]["user_defined_function"]["body_text"]
        assert view.udf.body.startswith(b"\x80\x04")
        assert not view.has_aggregations
        for source, content in spec["sources"].items():
            check_on_demand_source(view, source, content)


def check_on_demand_source(view: OnDemandFeatureView, name: str, content: dict[str, Any]) -> None:
    if "request_data_source" in content:
        schema = content["request_data_source"]["request_data_options"]["schema"]
        check_fields(view.request_sources[name].schema, schema)
        assert name not in view.source_projections
    else:
        spec = content["feature_view_projection"]
        assert view.source_projections[name].name == spec["feature_view_name"]
        check_fields(view.source_projections[name].features, spec["feature_columns"])


def test_a_stored_on_demand_view_is_read_as_a_view(snapshot: Snapshot) -> None:
    view = snapshot.get_feature_view("stored_odfv")
    assert view.kind == "on_demand_feature_view"
    assert view.join_keys == ("customer_id",)
    assert [field.name for field in view.features] == ["income_k"]  # its schema lists the join key
    assert [field.name for field in snapshot.get_on_demand_feature_view("stored_odfv").features] == ["income_k"]
    with pytest.raises(errors.FeatureViewNotFoundException):
        snapshot.get_feature_view("risk_py")


def test_feature_services(snapshot: Snapshot) -> None:
    items = decoded("feature_services")
    assert list(snapshot.feature_services) == list(items)
    for name, item in items.items():
        service, spec = snapshot.get_feature_service(name), item["spec"]
        assert service.precompute_online is spec.get("precompute_online", False)
        assert (service.description, service.owner) == (spec.get("description", ""), spec.get("owner", ""))
        assert service.tags == spec.get("tags", {})
        for projection, content in zip(service.feature_view_projections, spec["features"], strict=True):
            check_projection(projection, content)


def check_projection(projection: FeatureViewProjection, content: dict[str, Any]) -> None:
    assert projection.name == content["feature_view_name"]
    assert projection.name_alias == content.get("feature_view_name_alias", "")
    assert projection.join_key_map == content.get("join_key_map", {})
    assert projection.version_tag is None
    check_fields(projection.features, content["feature_columns"])


def test_data_sources(snapshot: Snapshot) -> None:
    items = decoded("data_sources")
    assert list(snapshot.data_sources) == list(items)
    for name, item in items.items():
        source = snapshot.get_data_source(name)
        assert source.kind == KINDS[item["type"]]
        assert source.path == item.get("file_options", {}).get("uri", "")
        assert source.timestamp_field == item.get("timestamp_field", "")
        assert source.field_mapping == item.get("field_mapping", {})
    assert snapshot.get_data_source("txn_req").schema[0].dtype is Float64


def test_projects(snapshot: Snapshot) -> None:
    project = snapshot.projects["bank"]
    assert (project.owner, project.tags) == ("team@bank.example", {"domain": "payments"})


def test_the_message_stays_complete(snapshot: Snapshot) -> None:
    assert snapshot.message == bank()
    assert snapshot.mark == "mark"
    assert repr(snapshot) == "<Snapshot of bank, 8 views, mark mark>"


@pytest.mark.parametrize(
    ("look_up", "error", "text"),
    [
        ("get_entity", errors.EntityNotFoundException, "Entity nix does not exist in project bank"),
        ("get_feature_view", errors.FeatureViewNotFoundException, "Feature view nix does not exist in project bank"),
        ("get_on_demand_feature_view", errors.FeatureViewNotFoundException, "Feature view nix does not exist"),
        ("get_feature_service", errors.FeatureServiceNotFoundException, "Feature service nix does not exist"),
        ("get_data_source", errors.DataSourceNotFoundException, "Data source nix does not exist"),
    ],
)
def test_unknown_names(snapshot: Snapshot, look_up: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        getattr(snapshot, look_up)("nix")


def test_snapshots_are_read_only(snapshot: Snapshot) -> None:
    with pytest.raises(AttributeError):
        snapshot.project = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        snapshot.feature_views["x"] = snapshot.feature_views["txn_7d"]  # type: ignore[index]


# ---- versions ----


def test_version_zero_is_in_the_history(snapshot: Snapshot) -> None:
    for name in snapshot.feature_views:
        version = snapshot.get_feature_view_version(name, 0)
        assert version.schema == snapshot.get_feature_view(name).schema
    on_demand = snapshot.get_on_demand_feature_view_version("risk_py", 0)
    assert on_demand.udf == snapshot.get_on_demand_feature_view("risk_py").udf


def add_version(registry: pb.Registry, view: Any, kind: str, version: int) -> None:
    registry.feature_view_version_history.records.add(
        feature_view_name=view.spec.name,
        project_id="bank",
        version_number=version,
        feature_view_type=kind,
        feature_view_proto=view.SerializeToString(),
    )


def test_a_later_version() -> None:
    registry = bank()
    view = pb.FeatureView()
    view.CopyFrom(next(v for v in registry.feature_views if v.spec.name == "txn_7d"))
    view.spec.features.add(name="late", value_type=pb.ValueType.INT64)
    add_version(registry, view, "feature_view", 3)
    version = build_snapshot(registry, "bank", 0).get_feature_view_version("txn_7d", 3)
    assert version.features[-1].name == "late"
    assert version.current_version_number == 3


def test_unknown_versions(snapshot: Snapshot) -> None:
    with pytest.raises(
        errors.FeatureViewVersionNotFound, match="Version v7 of feature view txn_7d does not exist in project bank"
    ):
        snapshot.get_feature_view_version("txn_7d", 7)
    with pytest.raises(errors.FeatureViewVersionNotFound):
        snapshot.get_on_demand_feature_view_version("risk_py", 7)
    with pytest.raises(errors.FeatureViewNotFoundException):
        snapshot.get_feature_view_version("nix", 0)
    with pytest.raises(errors.FeatureViewNotFoundException):
        snapshot.get_on_demand_feature_view_version("txn_7d", 0)


def test_a_version_that_was_not_stored() -> None:
    registry = bank()
    view = pb.OnDemandFeatureView()
    view.CopyFrom(next(v for v in registry.on_demand_feature_views if v.spec.name == "stored_odfv"))
    view.spec.write_to_online_store = False
    add_version(registry, view, "on_demand_feature_view", 1)
    snapshot = build_snapshot(registry, "bank", 0)
    with pytest.raises(errors.FeatureViewVersionNotFound):
        snapshot.get_feature_view_version("stored_odfv", 1)
    assert snapshot.get_on_demand_feature_view_version("stored_odfv", 1).current_version_number == 1


def test_a_damaged_version() -> None:
    registry = bank()
    registry.feature_view_version_history.records.add(
        feature_view_name="txn_7d", project_id="bank", version_number=9, feature_view_proto=b"\xff"
    )
    snapshot = build_snapshot(registry, "bank", 0)
    with pytest.raises(errors.RegistryError, match="version v9 of feature view txn_7d in the registry is damaged"):
        snapshot.get_feature_view_version("txn_7d", 9)


# ---- what the bank does not have ----


def view_of(**spec: Any) -> pb.FeatureView:
    return pb.FeatureView(spec=pb.FeatureViewSpec(project="p", **spec))


def columns(*names: str) -> list[pb.FeatureSpecV2]:
    return [pb.FeatureSpecV2(name=name, value_type=pb.ValueType.INT64) for name in names]


def test_only_one_project() -> None:
    registry = bank()
    registry.feature_views.append(view_of(name="txn_7d", features=columns("x")))
    registry.data_sources.add(name="s", project="p")
    snapshot = build_snapshot(registry, "p", 0)
    assert [field.name for field in snapshot.get_feature_view("txn_7d").features] == ["x"]
    assert not snapshot.entities
    assert list(snapshot.data_sources) == ["s"]
    assert list(snapshot.projects) == ["bank"]
    with pytest.raises(errors.FeatureServiceNotFoundException):
        snapshot.get_feature_service("fraud_svc")


def test_projects_of_old_registries() -> None:
    registry = bank()
    registry.project_metadata.add(project="bank", project_uuid="u")
    registry.project_metadata.add(project="old", project_uuid="u")
    projects = build_snapshot(registry, "old", 0).projects
    assert list(projects) == ["bank", "old"]
    assert projects["bank"].owner == "team@bank.example"


def test_stream_and_label_views() -> None:
    push = pb.DataSource(name="push", type=pb.DataSource.PUSH_SOURCE, batch_source=pb.DataSource(name="t"))
    registry = pb.Registry()
    registry.stream_feature_views.add(
        spec=pb.StreamFeatureViewSpec(
            name="s",
            project="p",
            features=columns("x", "id"),
            entity_columns=columns("id"),
            stream_source=push,
            disabled=True,
        ),
        meta=pb.FeatureViewMeta(state=pb.MATERIALIZING, current_version_number=2),
    )
    registry.label_views.add(
        spec=pb.LabelViewSpec(name="l", project="p", features=columns("y"), entity_columns=columns("id"), source=push)
    )
    views = build_snapshot(registry, "p", 0).feature_views
    stream, label = views["s"], views["l"]
    assert (stream.kind, label.kind) == ("stream_feature_view", "label_view")
    assert [field.name for field in stream.features] == ["x"]
    assert not stream.enabled
    assert stream.state is FeatureViewState.MATERIALIZING
    assert stream.current_version_number == 2
    for view in (stream, label):
        assert view.join_keys == ("id",)
        assert view.source_name == "push"
    assert label.batch_source is not None and label.batch_source.name == "t"


def test_a_label_view_on_a_table() -> None:
    registry = pb.Registry()
    registry.label_views.add(
        spec=pb.LabelViewSpec(name="l", project="p", source=pb.DataSource(name="t", type=pb.DataSource.BATCH_BIGQUERY))
    )
    view = build_snapshot(registry, "p", 0).get_feature_view("l")
    assert view.stream_source is None
    assert view.batch_source is not None and view.batch_source.kind == "warehouse"


def test_views_that_do_not_list_their_join_keys() -> None:
    registry = pb.Registry()
    registry.entities.add(spec=pb.EntitySpecV2(name="e", project="p", join_key="id", value_type=pb.ValueType.STRING))
    registry.feature_views.append(view_of(name="v", entities=["e", "gone"], features=columns("x")))
    view = build_snapshot(registry, "p", 0).get_feature_view("v")
    assert view.entity_columns == (Field("id", String),)
    assert view.entities == ("e", "gone")


def test_the_first_of_two_views_with_one_name_counts() -> None:
    registry = pb.Registry()
    registry.label_views.add(spec=pb.LabelViewSpec(name="v", project="p"))
    registry.stream_feature_views.add(spec=pb.StreamFeatureViewSpec(name="v", project="p"))
    assert build_snapshot(registry, "p", 0).get_feature_view("v").kind == "stream_feature_view"


@pytest.mark.parametrize("number", [19, 60, 1000])
def test_types_of_later_feasts(number: int) -> None:
    spec = pb.FeatureSpecV2(name="x", value_type=number)  # type: ignore[arg-type]
    registry = pb.Registry(feature_views=[view_of(name="v", features=[spec])])
    assert build_snapshot(registry, "p", 0).get_feature_view("v").features[0].dtype is Invalid


@pytest.mark.parametrize(
    ("number", "tag", "text"),
    [(34, "feast:struct_schema", "{"), (35, "feast:struct_schema", "[]"), (42, "feast:nested_inner_type", "Array(X)")],
)
def test_type_tags_that_we_do_not_understand(number: int, tag: str, text: str) -> None:
    spec = pb.FeatureSpecV2(name="x", value_type=number, tags={tag: text})  # type: ignore[arg-type]
    registry = pb.Registry(feature_views=[view_of(name="v", features=[spec])])
    field = build_snapshot(registry, "p", 0).get_feature_view("v").features[0]
    assert field.dtype == from_value_type(number)
    assert not field.tags


def on_demand(**spec: Any) -> OnDemandFeatureView:
    registry = pb.Registry()
    registry.on_demand_feature_views.add(spec=pb.OnDemandFeatureViewSpec(name="o", project="p", **spec))
    return build_snapshot(registry, "p", 0).get_on_demand_feature_view("o")


def test_functions_of_old_feasts() -> None:
    old = pb.UserDefinedFunction(name="f", body=b"old")
    empty = pb.FeatureTransformationV2(user_defined_function=pb.UserDefinedFunctionV2(name="f"))
    new = pb.FeatureTransformationV2(user_defined_function=pb.UserDefinedFunctionV2(name="g", body_text="new"))
    for transformation, body, text in ((None, b"old", ""), (empty, b"old", ""), (new, b"", "new")):
        view = on_demand(user_defined_function=old, feature_transformation=transformation)
        assert view.mode == "pandas"
        assert view.udf is not None and (view.udf.body, view.udf.body_text) == (body, text)


def test_views_without_a_function() -> None:
    substrait = pb.FeatureTransformationV2(substrait_transformation=pb.SubstraitTransformationV2(substrait_plan=b"x"))
    assert on_demand(feature_transformation=substrait).mode == "substrait"
    view = on_demand(aggregations=[pb.Aggregation(column="x", function="sum")], mode="python")
    assert view.udf is None
    assert view.has_aggregations


def test_sources_of_old_and_new_on_demand_views() -> None:
    request = pb.DataSource(name="r", type=pb.DataSource.REQUEST_SOURCE)
    request.request_data_options.deprecated_schema.update({"b": pb.ValueType.STRING, "a": pb.ValueType.INT64})
    view = on_demand(
        sources={
            "v": pb.OnDemandSource(feature_view=view_of(name="v", features=columns("x"))),
            "__input_schema__o": pb.OnDemandSource(request_data_source=request),
        }
    )
    assert view.source_projections == {"v": FeatureViewProjection("v", features=(Field("x", Int64),))}
    assert view.request_sources["__input_schema__o"].schema == (Field("a", Int64), Field("b", String))


def test_projections() -> None:
    registry = pb.Registry()
    projection = pb.FeatureViewProjection(feature_view_name="v", feature_view_name_alias="a", version_tag=0)
    projection.join_key_map["id"] = "other_id"
    registry.feature_services.add(spec=pb.FeatureServiceSpec(name="s", project="p", features=[projection]))
    found = build_snapshot(registry, "p", 0).get_feature_service("s").feature_view_projections[0]
    assert found == FeatureViewProjection("v", "a", (), {"id": "other_id"}, 0)


def test_ttl_below_a_second() -> None:
    view = view_of(name="v")
    view.spec.ttl.FromTimedelta(timedelta(days=1, milliseconds=1500))
    assert build_snapshot(pb.Registry(feature_views=[view]), "p", 0).get_feature_view("v").ttl == timedelta(
        days=1, seconds=1.5
    )


def test_times_are_utc_with_microseconds() -> None:
    view = view_of(name="v")
    view.meta.created_timestamp.FromJsonString("2026-01-02T03:04:05.123456789Z")
    found = build_snapshot(pb.Registry(feature_views=[view]), "p", 0).get_feature_view("v")
    assert found.created_timestamp == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=timezone.utc)
    assert found.last_updated_timestamp is None


def test_an_object_that_makes_no_sense_is_named() -> None:
    view = view_of(name="v")
    view.meta.created_timestamp.seconds = 2**62
    with pytest.raises(errors.RegistryError, match="feature view v in the registry cannot be read"):
        build_snapshot(pb.Registry(feature_views=[view]), "p", 0)


def test_an_unknown_state_is_no_state() -> None:
    view = view_of(name="v")
    view.meta.MergeFromString(bytes.fromhex("3063"))  # state = 99
    assert build_snapshot(pb.Registry(feature_views=[view]), "p", 0).get_feature_view("v").state == 0
