"""The history of views: what is recorded when a view is new or changes, and what going back to a version gives."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from fastserve.errors import DefinitionError, FeatureViewPinConflict, RegistryError
from fastserve.registry import schema_pb2 as pb
from fastserve.types import Bool, FeastType, Float64, Int64
from fastserve.versions import VERSIONED, Versions
from tests.registries import columns, on_demand_view, registry, remember, view

KIND = "feature_views"
NOW = Timestamp(seconds=1767312000, nanos=5)


def defined(text: str = "", **features: FeastType) -> pb.FeatureView:
    """Return the definition of the view `v`, with this `version`."""
    message = view("v", features or {"f": Float64})
    message.spec.version = text
    return message


def changed(old: Any, text: str = "", **features: FeastType) -> Any:
    """Return a new definition of `v` with the meta of the old one, as an apply gives it to `advance`."""
    message = defined(text, **features)
    message.meta.CopyFrom(old.meta)
    return message


def opened(message: pb.Registry, promote: bool = True, project: str = "test") -> Versions:
    return Versions(message, project, NOW, promote)


def records(message: pb.Registry) -> list[tuple[str, int]]:
    return [(found.feature_view_name, found.version_number) for found in message.feature_view_version_history.records]


def started(text: str = "") -> tuple[pb.Registry, Versions, pb.FeatureView]:
    """Return a registry with one version of `v`, its history, and `v`."""
    message, old = registry(), defined(text)
    history = opened(message)
    history.start(KIND, old)
    return message, history, old


# --- new views -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "number"), [("", 0), ("latest", 0), ("v3", 3), ("version12", 12)])
def test_a_new_view_starts_with_its_pin_or_0(text: str, number: int) -> None:
    message, found = registry(), defined(text)
    assert opened(message).start(KIND, found) == number
    assert found.meta.current_version_number == number
    assert records(message) == [("v", number)]


def test_a_record_is_whole() -> None:
    message, history, found = started()
    (record,) = message.feature_view_version_history.records
    assert (record.project_id, record.feature_view_type, record.created_timestamp) == ("test", "feature_view", NOW)
    assert len(record.version_id) == 36
    assert pb.FeatureView.FromString(record.feature_view_proto) == found == history.recorded("v", 0)


@pytest.mark.parametrize("kind", VERSIONED)
def test_every_kind_of_view_has_a_history(kind: str) -> None:
    text, message_type = VERSIONED[kind]
    message, found = registry(), message_type()
    found.spec.name, found.spec.project = "v", "test"
    found.spec.features.extend(columns({"f": Float64}))
    history = opened(message)
    assert history.start(kind, found) == 0
    assert message.feature_view_version_history.records[0].feature_view_type == text
    assert isinstance(history.recorded("v", 0), message_type)
    other = message_type()
    other.CopyFrom(found)
    assert history.advance(kind, found, other) == (other, None)
    other.spec.features.extend(columns({"g": Float64}))
    assert history.advance(kind, found, other) == (other, 1)
    assert getattr(other.meta, "current_version_number", 1) == 1  # label views have nothing that says it


def test_a_pin_that_is_none_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"^FeatureView v: version must be 'latest' or 'vN'"):
        opened(registry()).start(KIND, defined("newest"))


# --- what is recorded ------------------------------------------------------------------------------------------------


def test_numbers_are_ascending_and_of_this_project_alone() -> None:
    message = registry()
    for number in (2, 0, 10):
        remember(message, number, defined())
    elsewhere = defined()
    elsewhere.spec.project = "other"
    remember(message, 7, elsewhere)
    assert opened(message).numbers("v") == [0, 2, 10]
    assert opened(message, project="other").numbers("v") == [7]
    assert opened(message).numbers("w") == []


def test_what_is_not_recorded_is_none() -> None:
    message, history, _ = started()
    assert history.recorded("v", 1) is None
    assert history.recorded("w", 0) is None
    message.feature_view_version_history.records[0].feature_view_type = "hologram"
    assert opened(message).recorded("v", 0) is None


def test_a_view_is_forgotten_with_all_of_its_versions() -> None:
    message, history, old = started()
    history.advance(KIND, old, changed(old, f=Int64))
    history.start(KIND, view("w", {"f": Float64}))
    elsewhere = defined()
    elsewhere.spec.project = "other"
    remember(message, 0, elsewhere)
    history.remove("v")
    history.remove("never")
    found = [(r.project_id, r.feature_view_name) for r in message.feature_view_version_history.records]
    assert found == [("test", "w"), ("other", "v")]
    assert (history.numbers("v"), history.numbers("w")) == ([], [0])
    assert history.start(KIND, defined()) == 0


# --- changes ---------------------------------------------------------------------------------------------------------


def more(spec: Any) -> None:
    spec.features.extend(columns({"g": Bool}))


def another_type(spec: Any) -> None:
    spec.features[0].value_type = pb.ValueType.INT32


def another_entity(spec: Any) -> None:
    spec.entities[0] = "driver"


def another_key(spec: Any) -> None:
    spec.entity_columns[0].name = "driver_id"


def another_order(spec: Any) -> None:
    spec.features.reverse()


def another_life(spec: Any) -> None:
    spec.ttl.seconds = 5
    spec.tags["team"] = "x"
    spec.online = not spec.online
    spec.batch_source.name = "other"


@pytest.mark.parametrize("edit", [more, another_type, another_entity, another_key])
def test_what_changes_the_stored_form_makes_a_version(edit: Any) -> None:
    old = defined(f=Float64, h=Int64)
    message = registry()
    history = opened(message)
    history.start(KIND, old)
    new = changed(old, f=Float64, h=Int64)
    edit(new.spec)
    assert history.advance(KIND, old, new) == (new, 1)
    assert new.meta.current_version_number == 1
    assert records(message) == [("v", 0), ("v", 1)]
    assert history.recorded("v", 1) == new


@pytest.mark.parametrize("edit", [another_order, another_life])
def test_everything_else_is_changed_in_place(edit: Any) -> None:
    old = defined(f=Float64, h=Int64)
    message = registry()
    history = opened(message)
    history.start(KIND, old)
    new = changed(old, f=Float64, h=Int64)
    edit(new.spec)
    assert history.advance(KIND, old, new) == (new, None)
    assert records(message) == [("v", 0)]


def test_another_function_makes_a_version() -> None:
    message = registry()
    history = opened(message)
    old, same, new = (
        on_demand_view("v", code, {"f": Float64}, pickle=pickle)
        for code, pickle in (("a", b"1"), ("a", b"2"), ("b", b"2"))
    )
    history.start("on_demand_feature_views", old)
    # Pickles differ from one Python to the next; the text says what it is.
    assert history.advance("on_demand_feature_views", old, same) == (same, None)
    assert history.advance("on_demand_feature_views", old, new) == (new, 1)


def test_a_change_back_is_a_change_too() -> None:
    _, history, first = started()
    second, number = history.advance(KIND, first, changed(first, f=Int64))
    third, last = history.advance(KIND, second, changed(second))
    assert (number, last, third.meta.current_version_number) == (1, 2, 2)


def test_the_next_number_follows_the_highest() -> None:
    message, _, old = started()
    remember(message, 7, defined())
    assert opened(message).advance(KIND, old, changed(old, f=Int64))[1] == 8


def test_a_changed_view_without_history_is_its_first_version() -> None:
    old = defined()
    message = registry(old)
    assert opened(message).advance(KIND, old, changed(old, f=Int64))[1] == 0


def test_a_version_that_is_not_promoted_leaves_the_view() -> None:
    message, _, old = started()
    old.meta.materialization_intervals.add().end_time.seconds = 5
    before = pb.FeatureView.FromString(old.SerializeToString())
    history = opened(message, promote=False)
    found, number = history.advance(KIND, old, changed(old, f=Int64))
    assert (found, number) == (before, 1)
    record = history.recorded("v", 1)
    assert [feature.value_type for feature in record.spec.features] == [pb.ValueType.INT64]
    # Nothing of it has been loaded.
    assert record.meta == pb.FeatureViewMeta(current_version_number=1)


# --- pins ------------------------------------------------------------------------------------------------------------


def pinned(text: str, **features: FeastType) -> tuple[Versions, pb.FeatureView, pb.FeatureView]:
    """Return a history of two versions, the second one, and a definition that is pinned."""
    _, history, first = started()
    second, _ = history.advance(KIND, first, changed(first, f=Int64))
    return history, second, changed(second, text, **features)


@pytest.mark.parametrize("features", [{"f": Int64}, {"f": Float64}], ids=["as the active one", "as the recorded one"])
def test_going_back_gives_what_was_recorded(features: dict[str, FeastType]) -> None:
    history, second, new = pinned("v0", **features)
    second.meta.state = new.meta.state = pb.AVAILABLE_ONLINE
    new.meta.materialization_intervals.add().end_time.seconds = 5
    new.spec.disabled = True
    found, number = history.advance(KIND, second, new)
    assert number is None and history.numbers("v") == [0, 1]
    assert [feature.value_type for feature in found.spec.features] == [pb.ValueType.DOUBLE]
    assert (found.spec.version, found.spec.disabled, found.spec.project) == ("v0", True, "test")
    # What the registry keeps about the view stays, but for the number.
    assert (found.meta.current_version_number, found.meta.state) == (0, pb.AVAILABLE_ONLINE)
    assert found.meta.materialization_intervals == new.meta.materialization_intervals


def test_a_recorded_version_is_not_changed_by_going_back() -> None:
    history, second, new = pinned("v0", f=Int64)
    before = history.recorded("v", 0)
    history.advance(KIND, second, new)
    assert history.recorded("v", 0) == before


def test_going_back_and_changing_is_a_conflict() -> None:
    history, second, new = pinned("v0", f=Bool)
    with pytest.raises(FeatureViewPinConflict, match=r"^FeatureView v: it is pinned to v0, and its definition differs"):
        history.advance(KIND, second, new)
    assert history.numbers("v") == [0, 1]


def test_a_view_that_is_pinned_to_the_active_version_may_change_in_place() -> None:
    history, second, new = pinned("v1", f=Int64)
    new.spec.tags["team"] = "x"
    assert history.advance(KIND, second, new) == (new, None)


def test_a_pin_to_a_number_that_is_not_there_records_it() -> None:
    history, second, new = pinned("v7", f=Int64)
    found, number = history.advance(KIND, second, new)
    assert (number, found.meta.current_version_number, history.numbers("v")) == (7, 7, [0, 1, 7])
    assert history.advance(KIND, found, changed(found, f=Bool))[1] == 8


def test_a_damaged_version_is_named() -> None:
    message, _, first = started()
    remember(message, 1, defined())
    message.feature_view_version_history.records[1].feature_view_proto = b"\xff"
    with pytest.raises(RegistryError, match="version v1 of feature view v in the registry is damaged"):
        opened(message).advance(KIND, first, changed(first, "v1"))
