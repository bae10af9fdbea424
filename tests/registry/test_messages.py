"""What is written into a registry is what Feast writes for the same definitions, and `convert` reads it back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from fastserve import model
from fastserve.definition import (
    BatchFeatureView,
    DataSource,
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewProjection,
    Field,
    FileSource,
    LabelView,
    Project,
    PushSource,
    StreamFeatureView,
)
from fastserve.errors import DefinitionError
from fastserve.registry import convert, messages
from fastserve.registry import schema_pb2 as pb
from fastserve.types import Int64, String, ValueType
from tests import goldens
from tests.definition import repositories

ONE_OF_EACH = repositories.one_of_each()["OBJECTS"]
FEASTS = goldens.load("definitions/messages")
BANK = repositories.bank()
BANKS_OBJECTS = [item for item in BANK["OBJECTS"] if isinstance(item, Definition)]

KEYS = Entity(name="customer", join_keys=["cid"], value_type=ValueType.STRING)
FILE = FileSource(name="file", path="x.parquet", timestamp_field="ts", created_timestamp_column="made")
SCHEMA = [Field(name="cid", dtype=String), Field(name="x", dtype=Int64)]


def name_of(definition: Definition) -> str:
    return definition.name


def without_times(message: Any) -> Any:
    """Clear what depends on when and how often something was applied; stream views list features in any order."""
    for field in ("created_timestamp", "last_updated_timestamp", "current_version_number", "state"):
        if field in message.DESCRIPTOR.fields_by_name:
            message.ClearField(field)
    if isinstance(message, pb.FeatureViewMeta):
        message.ClearField("materialization_intervals")
    if isinstance(message, pb.StreamFeatureViewSpec):
        message.features.sort(key=lambda feature: feature.name)
    for inner in inner_messages(message):
        without_times(inner)
    return message


def inner_messages(message: Message) -> Iterator[Message]:
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from ([value] if isinstance(value, Message) else value)


def named(messages: Any, name: str) -> Any:
    return next(message for message in messages if message.spec.name == name)


def of_feast(name: str) -> Any:
    golden = FEASTS[name]
    return without_times(ParseDict(golden["message"], getattr(pb, golden["type"])()))


@pytest.mark.parametrize("definition", ONE_OF_EACH, ids=name_of)
def test_message_is_feasts(definition: Definition) -> None:
    message = without_times(messages.to_message(definition, ""))
    expected = of_feast(definition.name)
    if isinstance(definition, DataSource):  # Feast adds this in `apply`
        message.ClearField("data_source_class_type")
    if isinstance(definition, BatchFeatureView):  # and forgets it here
        message.spec.batch_source.ClearField("data_source_class_type")
        expected.spec.batch_source.ClearField("data_source_class_type")
    assert message == expected


BANKS = {
    (type(item).__name__, item.name if isinstance(item, pb.DataSource) else item.spec.name): item
    for kind in ("entities", "feature_views", "feature_services", "data_sources", "projects")
    for item in getattr(repositories.bank_registry(), kind)
}


@pytest.mark.parametrize("definition", [*BANKS_OBJECTS, BANK["txn_src"], BANK["txn_req"]], ids=name_of)
def test_message_is_what_feast_put_into_its_registry(definition: Definition) -> None:
    message: Any = messages.to_message(definition, "bank")
    expected = BANKS[type(message).__name__, definition.name]
    assert without_times(message) == without_times(expected)


def test_project_is_in_the_object_alone() -> None:
    push = PushSource(name="push", batch_source=FILE)
    view: Any = messages.to_message(FeatureView(name="v", entities=[KEYS], source=push, schema=SCHEMA), "bank")
    assert view.spec.project == "bank"
    assert view.spec.stream_source.project == view.spec.batch_source.project == ""
    source: Any = messages.to_message(push, "bank")
    assert (source.project, source.batch_source.project) == ("bank", "")


# --- and back again --------------------------------------------------------------------------------------------------

READERS: dict[type, Any] = {
    pb.FeatureView: convert.feature_view,
    pb.StreamFeatureView: convert.stream_feature_view,
    pb.LabelView: convert.label_view,
}


@pytest.mark.parametrize(
    "view", [item for item in ONE_OF_EACH if isinstance(item, FeatureView | LabelView)], ids=name_of
)
def test_views_are_read_back(view: Any) -> None:
    message: Any = messages.to_message(view, "zoo")
    read = READERS[type(message)](message, {})
    assert list(read.features) == view.features
    assert list(read.entity_columns) == view.entity_columns
    assert (read.ttl, read.online) == (view.ttl or timedelta(0), view.online)
    assert (read.tags, read.description, read.owner) == (view.tags, view.description, view.owner)
    assert [s and s.name for s in (read.batch_source, read.stream_source)] == [
        s and s.name for s in (view.batch_source, view.stream_source)
    ]


def test_service_over_views_of_a_registry_is_kept() -> None:
    found = repositories.bank_registry()
    views = {item.spec.name: convert.on_demand_feature_view(item, {}) for item in found.on_demand_feature_views}
    stored = convert.feature_view(named(found.feature_views, "txn_7d"), {})
    service = FeatureService(name="odfv_svc", features=[stored.projection, views["risk_py"]])
    message = messages.feature_service(service, "bank")
    expected = named(found.feature_services, "odfv_svc")
    assert [p.feature_view_name for p in message.spec.features] == ["txn_7d", "risk_py"]
    assert message.spec.features[1] == expected.spec.features[1]


def test_projection_of_a_registry_keeps_everything() -> None:
    given = model.FeatureViewProjection(
        "v", "alias", (Field("x", Int64),), join_key_map={"cid": "payer"}, version_tag=3, view_type="labelView"
    )
    message = messages.projection(FeatureViewProjection.from_model(given))
    assert convert.projection(message) == given


def test_times_states_and_versions_are_written() -> None:
    view = FeatureView(name="v", entities=[KEYS], source=FILE, schema=SCHEMA)
    moment = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    view.created_timestamp, view.last_updated_timestamp = moment, datetime(1969, 12, 31, 23, 59, 59, 500000)
    view.materialization_intervals = [(moment, moment + timedelta(days=1))]
    view.current_version_number, view.state = 2, model.FeatureViewState.AVAILABLE_ONLINE
    read = convert.feature_view(messages.feature_view(view, "p"), {})
    assert read.created_timestamp == moment
    assert read.last_updated_timestamp == datetime(1969, 12, 31, 23, 59, 59, 500000, tzinfo=timezone.utc)
    assert read.materialization_intervals == tuple(view.materialization_intervals)
    assert (read.current_version_number, read.state) == (2, model.FeatureViewState.AVAILABLE_ONLINE)


def test_absent_and_zero_ttl_differ() -> None:
    assert not messages.feature_view(FeatureView(name="v", source=FILE, ttl=None)).spec.HasField("ttl")
    assert messages.feature_view(FeatureView(name="v", source=FILE)).spec.HasField("ttl")


def test_push_source_follows_what_its_table_learns() -> None:
    table = FileSource(name="t", path="t.parquet")
    push = PushSource(name="push", batch_source=table)
    table.timestamp_field = "ts"
    assert messages.data_source(push).timestamp_field == "ts"


# --- functions -------------------------------------------------------------------------------------------------------


def doubled(frame: Any) -> Any:
    return frame * 2


def test_functions_are_kept_as_pickles_and_text() -> None:
    import dill

    batch = BatchFeatureView(name="b", source=FILE, udf=doubled, udf_string="text", mode="pandas")
    found = messages.feature_view(batch).spec.feature_transformation.user_defined_function
    assert (found.name, found.body_text, found.mode) == ("doubled", "text", "pandas")
    assert dill.loads(found.body)(21) == 42


def test_function_of_a_stream_view_is_in_both_places() -> None:
    push = PushSource(name="push", batch_source=FILE)
    spec = messages.stream_feature_view(StreamFeatureView(name="s", source=push, udf=doubled, udf_string="t"), "p").spec
    assert spec.user_defined_function.name == spec.feature_transformation.user_defined_function.name == "doubled"
    assert spec.user_defined_function.body == spec.feature_transformation.user_defined_function.body


def test_function_that_cannot_be_pickled_is_an_error() -> None:
    running = (number for number in range(3))  # nobody can pickle a generator

    def function(frame: Any) -> Any:
        return frame, next(running)

    batch = BatchFeatureView(name="b", source=FILE, udf=function)
    with pytest.raises(DefinitionError, match="BatchFeatureView b: its udf cannot be pickled"):
        messages.feature_view(batch)


# --- what is not kept in a registry ----------------------------------------------------------------------------------


class Other(DataSource):
    """A source that nobody knows."""


def test_unknown_definitions_are_refused() -> None:
    with pytest.raises(DefinitionError, match="Other o: this kind of source is not supported"):
        messages.to_message(Other(name="o"), "p")

    class Thing(Definition):
        name = "t"

    with pytest.raises(DefinitionError, match="Thing t: this kind of object is not kept"):
        messages.to_message(Thing(), "p")


def test_name_of_a_project_is_its_own() -> None:
    message: Any = messages.to_message(Project(name="own"), "other")
    assert message.spec.name == "own"
