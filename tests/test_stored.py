"""The plan of each view of a registry, by which the store makes room for it or drops it."""

from __future__ import annotations

from typing import Any

import pytest

from fastserve.config import Config, parse_config
from fastserve.registry import schema_pb2 as pb
from fastserve.stored import store_plans
from fastserve.types import Float64, Int64, String, ValueType
from tests.registries import CUSTOMER, columns, on_demand_view, registry, remember, view

STRING, INT64, DOUBLE = (int(number) for number in (ValueType.STRING, ValueType.INT64, ValueType.DOUBLE))


def config(versioning: bool = False, **settings: Any) -> Config:
    found = {"path": "data/registry.db", "enable_online_feature_view_versioning": versioning}
    return parse_config({"project": "test", "provider": "local", "registry": found, **settings})


def plans_of(message: pb.Registry, **settings: Any) -> dict[str, tuple[dict[str, int], dict[str, int]]]:
    """Return name -> (join keys, features) of the plans."""
    found = store_plans(config(**settings), message)
    assert all(plan.view == name for name, plan in found.items())
    return {
        name: (
            dict(zip(plan.join_keys, plan.key_types, strict=True)),
            dict(zip(plan.features, plan.feature_types, strict=True)),
        )
        for name, plan in found.items()
    }


def of_kind(kind: Any, name: str) -> Any:
    """Return a view of another kind, with the columns of a feature view."""
    message, like = kind(), view(name, {"f": Float64})
    message.spec.name, message.spec.project = name, "test"
    message.spec.entities.extend(like.spec.entities)
    message.spec.entity_columns.extend(like.spec.entity_columns)
    message.spec.features.extend(like.spec.features)
    return message


def stored_on_demand(name: str, stored: bool = True) -> pb.OnDemandFeatureView:
    message = on_demand_view(name, "", {"f": Float64})
    message.spec.entity_columns.extend(columns(CUSTOMER))
    message.spec.write_to_online_store = stored
    return message


def test_keys_and_features_with_their_types() -> None:
    message = registry(view("v", {"f": Float64, "n": Int64}, {"customer_id": String, "account_id": Int64}))
    assert plans_of(message) == {
        "v": ({"customer_id": STRING, "account_id": INT64}, {"f": DOUBLE, "n": INT64}),
    }


@pytest.mark.parametrize("version", [2, 3])
def test_project_and_key_version_are_those_of_the_configuration(version: int) -> None:
    message = registry(view("v", {"f": Float64}))
    plan = store_plans(config(entity_key_serialization_version=version), message)["v"]
    assert (plan.project, plan.version) == ("test", version)


def test_nothing_of_an_empty_registry() -> None:
    assert plans_of(pb.Registry()) == {}


def test_all_kinds_of_views_that_are_stored() -> None:
    message = registry(view("plain", {"f": Float64}), stored_on_demand("computed"), stored_on_demand("never", False))
    message.stream_feature_views.append(of_kind(pb.StreamFeatureView, "stream"))
    message.label_views.append(of_kind(pb.LabelView, "labels"))
    expected = {"customer_id": STRING}, {"f": DOUBLE}
    assert plans_of(message) == dict.fromkeys(["plain", "stream", "labels", "computed"], expected)


def test_join_keys_among_the_features_are_keys_only() -> None:
    stream = of_kind(pb.StreamFeatureView, "stream")
    stream.spec.features.extend(columns(CUSTOMER))
    message = registry()
    message.stream_feature_views.append(stream)
    assert plans_of(message) == {"stream": ({"customer_id": STRING}, {"f": DOUBLE})}


def test_views_of_other_projects_are_passed_over() -> None:
    message = registry(view("v", {"f": Float64}), view("w", {"f": Float64}))
    message.feature_views[1].spec.project = "other"
    assert list(plans_of(message)) == ["v"]


@pytest.mark.parametrize("told", [True, False], ids=["dummy", "nothing"])
def test_a_view_without_entities_has_the_dummy_key(told: bool) -> None:
    message = registry(view("v", {"f": Float64}, {}))
    if not told:
        del message.feature_views[0].spec.entity_columns[:]
        del message.feature_views[0].spec.entities[:]
    # Whatever type a registry gives to it.
    for column in message.feature_views[0].spec.entity_columns:
        column.value_type = pb.ValueType.INVALID
    assert plans_of(message) == {"v": ({"__dummy_id": STRING}, {"f": DOUBLE})}


def test_in_registries_of_old_feasts_the_entities_tell_the_keys() -> None:
    message = registry(view("v", {"f": Float64}, {"customer_id": Int64}))
    del message.feature_views[0].spec.entity_columns[:]
    namesake = message.entities.add()
    namesake.CopyFrom(message.entities[0])
    namesake.spec.project, namesake.spec.join_key = "other", "another"
    message.feature_views[0].spec.entities.append("unknown")
    assert plans_of(message) == {"v": ({"customer_id": INT64}, {"f": DOUBLE})}


def test_a_view_whose_key_cannot_be_stored_has_no_plan() -> None:
    message = registry(view("v", {"f": Float64}, {"half": Float64}), view("w", {"f": Float64}))
    assert list(plans_of(message)) == ["w"]


def versioned() -> pb.Registry:
    """Return a registry with a view in version 2 of three."""
    forms = [view("v", {"f": Float64}), view("v", {"f": Int64}), view("v", {"f": Int64, "g": String}, number=2)]
    message = registry(forms[-1])
    for number, form in enumerate(forms):
        remember(message, number, form)
    return message


def test_versions_count_only_where_they_are_stored() -> None:
    assert list(plans_of(versioned())) == ["v"]


def test_versions_after_the_first_are_stored_under_names_of_their_own() -> None:
    keys = {"customer_id": STRING}
    assert plans_of(versioned(), versioning=True) == {
        "v": (keys, {"f": INT64, "g": STRING}),
        "v_v1": (keys, {"f": INT64}),
        "v_v2": (keys, {"f": INT64, "g": STRING}),
    }


def test_versions_that_are_nobodys_are_passed_over() -> None:
    message = versioned()
    records = message.feature_view_version_history.records
    records[1].project_id = "other"
    records[2].feature_view_type = "hologram"
    assert list(plans_of(message, versioning=True)) == ["v"]


def test_a_version_of_an_on_demand_view_counts_if_that_version_was_stored() -> None:
    message = registry(stored_on_demand("computed"))
    remember(message, 1, stored_on_demand("computed", False))
    remember(message, 2, stored_on_demand("computed"))
    assert list(plans_of(message, versioning=True)) == ["computed", "computed_v2"]
