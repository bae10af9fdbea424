"""References -> ReadPlan, over the recorded registry and over others made for the case."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve import errors
from fastserve._core import ReadPlan, Slot
from fastserve.model import FeatureService, FeatureViewProjection
from fastserve.plan import Reference, parse_reference
from fastserve.registry import Snapshot
from fastserve.registry import schema_pb2 as pb
from fastserve.types import Bool, Float64, Int32, Int64, String, UnixTimestamp, Uuid, ValueType
from tests import goldens, reference
from tests.registries import (
    bank,
    columns,
    compiled,
    named,
    on_demand_view,
    projection,
    registry,
    remember,
    service,
    snapshot,
    view,
)

BANK = snapshot(bank())
REFERENCES = [f"{v.name}:{f.name}" for v in BANK.feature_views.values() for f in v.features]
CODE = "def ratio(inputs):\n    return {'ratio': [1.0] * len(inputs['x'])}\n"


def check_places(plan: ReadPlan, references: list[str]) -> None:
    """Check that each slot points at the fields of its reference."""
    for slot, text in zip(plan.outputs, references, strict=True):
        view_name, _, feature = text.partition(":")
        group = plan.groups[slot.group]
        assert slot.label == text
        assert group.fields[slot.field] == reference.field_id(view_name, feature)
        assert group.fields[slot.event_time] == reference.timestamp_field(view_name)


# --- references ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "view_name", "version", "feature"),
    [
        ("txn_7d:amount_sum", "txn_7d", None, "amount_sum"),
        ("txn_7d@latest:amount_sum", "txn_7d", None, "amount_sum"),
        ("txn_7d@:amount_sum", "txn_7d", None, "amount_sum"),
        ("txn_7d@v0:f", "txn_7d", 0, "f"),
        ("txn_7d@v2:f", "txn_7d", 2, "f"),
        ("txn_7d@V12:f", "txn_7d", 12, "f"),
        ("txn_7d@version1:f", "txn_7d@version1", None, "f"),
        ("txn_7d@v:f", "txn_7d@v", None, "f"),
        ("txn_7d@v-1:f", "txn_7d@v-1", None, "f"),
        ("txn_7d@v٣:f", "txn_7d@v٣", None, "f"),
        ("txn_7d@v1@v2:f", "txn_7d@v1@v2", None, "f"),
        ("txn_7d@v" + "9" * 5000 + ":f", "txn_7d@v" + "9" * 5000, None, "f"),
        ("v:f:g", "v", None, "f:g"),
        ("v:f@v2", "v", None, "f@v2"),
        ("名:é", "名", None, "é"),
    ],
)
def test_references(text: str, view_name: str, version: int | None, feature: str) -> None:
    assert parse_reference(text) == Reference(FeatureViewProjection(view_name, version_tag=version), feature)


@pytest.mark.parametrize(
    "text", ["", "age", ":", ":age", "customer_profile:", "customer_profile@v1", "@v1:age", "@:age"]
)
def test_malformed_references(text: str) -> None:
    with pytest.raises(errors.FeatureReferenceError, match=re.escape(repr(text))):
        parse_reference(text)
    with pytest.raises(errors.FeatureReferenceError):
        compiled(BANK, ["txn_7d:txn_count", text])


@pytest.mark.parametrize("item", [None, 5, b"v:f", ["v:f"]])
def test_references_are_text(item: Any) -> None:
    with pytest.raises(errors.FeatureReferenceError, match="text"):
        compiled(BANK, ["txn_7d:txn_count", item])


def test_no_features() -> None:
    for nothing in ([], (), iter([]), FeatureService("empty")):
        with pytest.raises(errors.RequestError, match="No features"):
            compiled(BANK, nothing)


# --- groups and slots ------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(REFERENCES), min_size=1, max_size=12, unique=True))
def test_any_references(references: list[str]) -> None:
    """Outputs come in the order asked for, and each view's fields are asked for once."""
    plan = compiled(BANK, references, full=True)
    assert [slot.name for slot in plan.outputs] == [text.replace(":", "__") for text in references]
    check_places(plan, references)
    fields = [field for group in plan.groups for field in group.fields]
    views = {text.partition(":")[0] for text in references}
    assert len(fields) == len(set(fields)) == len(references) + len(views)
    assert len(plan.groups) == len({BANK.get_feature_view(name).join_keys for name in views})
    assert [slot.value_type for slot in plan.outputs] == [value_type_of(text) for text in references]


def value_type_of(text: str) -> int:
    view_name, _, feature = text.partition(":")
    return next(f.value_type for f in BANK.get_feature_view(view_name).features if f.name == feature)


def test_views_that_share_join_keys_share_a_command() -> None:
    asked = [
        "txn_7d:txn_count",
        "customer_profile:age",
        "stored_odfv:income_k",
        "txn_7d:avg_amount",
        "all_types:f_bool",
    ]
    plan = compiled(BANK, asked)
    (group,) = plan.groups
    assert group.join_keys == group.columns == ("customer_id",)
    assert group.value_types == (ValueType.STRING,)
    assert [(v.name, v.features) for v in group.views] == [
        ("txn_7d", ("txn_count", "avg_amount")),
        ("customer_profile", ("age",)),
        ("stored_odfv", ("income_k",)),
        ("all_types", ("f_bool",)),
    ]
    check_places(plan, asked)


def test_one_group_per_set_of_join_keys() -> None:
    plan = compiled(BANK, ["fx_rates:asof", "account_merchant:visits", "txn_7d:txn_count", "account_balance:balance"])
    assert [group.join_keys for group in plan.groups] == [
        ("__dummy_id",),
        ("account_id", "merchant_id"),
        ("customer_id",),
        ("account_id",),
    ]
    assert plan.groups[0].columns == ()
    assert plan.groups[1].value_types == (ValueType.INT64, ValueType.STRING)
    assert {group.suffix for group in plan.groups} == {b"bank"}
    assert plan.required == {
        "account_id": ["account_merchant", "account_balance"],
        "merchant_id": ["account_merchant"],
        "customer_id": ["txn_7d"],
    }


def test_join_keys_that_the_answer_repeats() -> None:
    plan = compiled(BANK, ["account_balance:balance"])
    assert plan.join_keys == {"account_id": ValueType.INT64, "customer_id": None, "merchant_id": None}
    assert plan.entity_names == {"customer": "customer_id", "account": "account_id", "merchant": "merchant_id"}
    assert compiled(BANK, ["fx_rates:asof"]).required == {}


def test_a_feature_named_as_an_unused_join_key_takes_its_name() -> None:
    owners = view("owners", {"account_id": Int64})
    plan = compiled(registry(owners, view("balance", {"x": Int64}, {"account_id": Int64})), ["owners:account_id"])
    assert plan.join_keys == {"customer_id": ValueType.STRING}


@pytest.mark.parametrize("version", [2, 3])
def test_the_key_version(version: int) -> None:
    (group,) = compiled(BANK, ["txn_7d:txn_count"], key_version=version).groups
    assert (group.version, group.prefix) == (version, reference.entity_key_prefix(["customer_id"], version))


def test_the_later_view_decides_the_type_of_a_column() -> None:
    message = registry(view("a", {"x": Int64}, {"k_id": String}), view("b", {"y": Int64}, {"k_id": Int64}))
    assert compiled(message, ["a:x", "b:y"]).join_keys["k_id"] == ValueType.INT64
    assert compiled(message, ["b:y", "a:x"]).join_keys["k_id"] == ValueType.STRING


def test_a_join_key_without_a_type() -> None:
    plan = compiled(registry(view("a", {"x": Int64}, {"k_id": ValueType.UNKNOWN})), ["a:x"])
    assert plan.join_keys == {"k_id": 0}


def test_a_stream_view_and_a_label_view() -> None:
    message = registry(view("a", {"x": Int64}))
    stream = message.stream_feature_views.add()
    stream.spec.name, stream.spec.project = "clicks", "test"
    label = message.label_views.add()
    label.spec.name, label.spec.project = "labels", "test"
    for spec in (stream.spec, label.spec):
        spec.entities.append("customer")
        spec.entity_columns.extend(columns({"customer_id": String}))
        spec.features.extend(columns({"customer_id": String, "n": Int64}))
    plan = compiled(message, ["clicks:n", "labels:n", "a:x"], full=True)
    check_places(plan, ["clicks:n", "labels:n", "a:x"])
    assert len(plan.groups) == 1


# --- services --------------------------------------------------------------------------------------------------------


def test_a_service() -> None:
    plan = compiled(BANK, "fraud_svc")
    assert [slot.label for slot in plan.outputs] == [
        "txn_7d:amount_sum",
        "txn_7d:txn_count",
        "txn_7d:avg_amount",
        "customer_profile:age",
        "customer_profile:segment",
    ]
    assert [slot.name for slot in plan.outputs] == [slot.label.partition(":")[2] for slot in plan.outputs]
    assert len(plan.groups) == 1
    assert plan.view_versions == (("txn_7d", 0), ("customer_profile", 0))


def test_aliases_and_mapped_join_keys() -> None:
    plan = compiled(BANK, "transfer_svc", full=True)
    payer, payee = plan.groups
    assert [group.columns for group in plan.groups] == [("payer_id",), ("payee_id",)]
    assert payer.join_keys == payee.join_keys == ("customer_id",)
    assert payer.fields == payee.fields == (reference.field_id("customer_profile", "age"), b"_ts:customer_profile")
    assert [slot.name for slot in plan.outputs] == ["payer__age", "payee__age"]
    assert plan.required == {"payer_id": ["customer_profile"], "payee_id": ["customer_profile"]}
    assert plan.join_keys["payer_id"] == ValueType.STRING
    assert plan.join_keys["customer_id"] is None
    assert plan.view_versions == (("payer", 0), ("payee", 0))


def test_a_view_under_its_own_name_and_under_an_alias() -> None:
    """Feast, which sorts projections by their aliases, fails."""
    found = view("v", {"a": Float64})
    payer = projection(found, "a", alias="payer", join_key_map={"customer_id": "payer_id"})
    plan = compiled(registry(found, service("both", payer, projection(found, "a"))), "both", full=True)
    assert [slot.name for slot in plan.outputs] == ["payer__a", "v__a"]
    assert [group.columns for group in plan.groups] == [("payer_id",), ("customer_id",)]


def test_an_alias_is_not_a_reference() -> None:
    with pytest.raises(errors.FeatureViewNotFoundException, match="payer"):
        compiled(BANK, ["payer:age"])


def test_mapped_names_may_change_the_order_of_columns_but_not_of_keys() -> None:
    message = registry(view("pairs", {"x": Int64}, {"b_id": Int64, "a_id": String}))
    pairs = message.feature_views[0]
    message.feature_services.append(service("s", projection(pairs, join_key_map={"a_id": "z_id", "b_id": "c_id"})))
    (group,) = compiled(message, "s").groups
    assert (group.join_keys, group.columns) == (("a_id", "b_id"), ("z_id", "c_id"))
    assert group.value_types == (ValueType.STRING, ValueType.INT64)


def test_a_stored_on_demand_view_is_an_ordinary_view() -> None:
    """It lists its join key among its features; a service may name it, and it is then the key, not a feature."""
    message = bank()
    stored = named(message.on_demand_feature_views, "stored_odfv")
    stored.spec.features.extend(columns({"customer_id": String}))
    svc = pb.FeatureService()
    svc.spec.name, svc.spec.project = "stored_svc", "bank"
    svc.spec.features.append(projection(stored))
    message.feature_services.append(svc)
    plan = compiled(message, "stored_svc")
    assert [slot.label for slot in plan.outputs] == ["stored_odfv:income_k"]
    assert plan.transforms == ()
    check_places(plan, ["stored_odfv:income_k"])
    with pytest.raises(errors.FeatureNotFoundException, match=r"nothing.*stored_odfv.*income_k"):
        compiled(message, ["stored_odfv:nothing"])


def test_a_service_that_names_what_is_gone() -> None:
    message = bank()
    message.feature_views.remove(named(message.feature_views, "txn_7d"))
    with pytest.raises(errors.FeatureViewNotFoundException, match="txn_7d"):
        compiled(message, "fraud_svc")


# --- names that collide ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "full", "names"),
    [
        (["customer_profile:age", "offline_only:age"], False, "age"),
        (["customer_profile:age", "customer_profile:age"], False, "age"),
        (["customer_profile:age", "customer_profile:age"], True, "customer_profile__age"),
        (["txn_7d:txn_count", "customer_profile:age", "offline_only:age", "txn_7d:txn_count"], False, "age, txn_count"),
        (["risk_py:ratio", "risk_py:ratio"], False, "ratio"),
    ],
)
def test_collisions(features: list[str], full: bool, names: str) -> None:
    with pytest.raises(errors.FeatureNameCollisionError, match=f"named {names} in the answer"):
        compiled(BANK, features, full)


def test_equal_short_names_with_full_names() -> None:
    plan = compiled(BANK, ["customer_profile:age", "offline_only:age"], full=True)
    assert [slot.name for slot in plan.outputs] == ["customer_profile__age", "offline_only__age"]
    with pytest.raises(errors.FeatureNameCollisionError, match="age"):
        compiled(BANK, "transfer_svc")


def test_a_feature_named_as_a_join_key_that_is_needed() -> None:
    message = registry(view("a", {"b_id": Int64}), view("b", {"x": Int64}, {"b_id": Int64}))
    with pytest.raises(errors.FeatureNameCollisionError, match="b_id"):
        compiled(message, ["a:b_id", "b:x"])
    assert compiled(message, ["a:b_id", "b:x"], full=True).outputs[0].name == "a__b_id"


# --- what does not exist, or is not ready ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("nothing:age", errors.FeatureViewNotFoundException, "Feature view nothing does not exist in project bank"),
        ("txn_7d@version1:x", errors.FeatureViewNotFoundException, "txn_7d@version1"),
        ("customer_profile:nothing", errors.FeatureNotFoundException, "nothing.*customer_profile.*age, income"),
        ("customer_profile:customer_id", errors.FeatureNotFoundException, "customer_id"),
        ("customer_profile:Age", errors.FeatureNotFoundException, "Age"),
        ("risk_py:nothing", errors.FeatureNotFoundException, "nothing.*risk_py.*ratio, flag"),
        ("fraud_svc:age", errors.FeatureViewNotFoundException, "fraud_svc"),
        ("txn_7d@v1:amount_sum", errors.FeatureReferenceError, "txn_7d@v1.*enable_online_feature_view_versioning"),
    ],
)
def test_unknown_names(text: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        compiled(BANK, ["txn_7d:txn_count", text])


def test_an_entity_that_is_missing_from_the_registry() -> None:
    message = bank()
    message.entities.remove(named(message.entities, "account"))
    with pytest.raises(errors.EntityNotFoundException, match="Entity account does not exist in project bank"):
        compiled(message, ["account_balance:balance"])
    assert compiled(message, ["txn_7d:txn_count"])


@pytest.mark.parametrize("dtype", [Uuid, Float64, Bool, ValueType.DECIMAL, ValueType.FLOAT])
def test_types_that_cannot_be_keys(dtype: Any) -> None:
    message = registry(view("a", {"x": Int64}), view("b", {"x": Int64}, {"k_id": dtype}))
    with pytest.raises(errors.EntityError, match="feature view b") as caught:
        compiled(message, ["b:x"])
    assert caught.value.join_key == "k_id"


@pytest.mark.parametrize("dtype", [String, Int32, Int64, UnixTimestamp, ValueType.BYTES])
def test_types_that_can(dtype: Any) -> None:
    plan = compiled(registry(view("b", {"x": Int64}, {"k_id": dtype})), ["b:x"])
    assert plan.join_keys["k_id"] == plan.groups[0].value_types[0]


def test_states() -> None:
    """A view that is being materialised, or whose last run failed, is served; Feast refuses both."""
    states = {"unspecified": 0, "created": 1, "generated": 2, "materializing": 3, "available": 4}
    message = registry(*(view(name, {"x": Int64}, state=number) for name, number in states.items()))
    for name in states.keys() - {"created"}:
        assert compiled(message, [f"{name}:x"]).outputs[0].label == f"{name}:x"
    with pytest.raises(errors.FeatureViewUnavailableError, match="created is in state CREATED"):
        compiled(message, ["unspecified:x", "created:x"], full=True)


def test_disabled_views() -> None:
    message = registry(view("a", {"x": Int64}), view("b", {"x": Int64}, disabled=True))
    on_demand = on_demand_view("ratio", CODE, {"ratio": Float64}, sources=[projection(message.feature_views[1])])
    message.on_demand_feature_views.append(on_demand)
    for text in ["b:x", "ratio:ratio"]:
        with pytest.raises(errors.FeatureViewUnavailableError, match="Feature view b is disabled"):
            compiled(message, [text])
    message.feature_views[1].spec.disabled = False
    message.on_demand_feature_views[0].spec.disabled = True
    with pytest.raises(errors.FeatureViewUnavailableError, match="Feature view ratio is disabled"):
        compiled(message, ["ratio:ratio"])
    assert compiled(message, ["b:x"])


def test_an_offline_view_is_read_all_the_same() -> None:
    """As with Feast: `online` says what materialization does."""
    assert compiled(BANK, ["offline_only:age"]).outputs


# --- ttl -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "kept", "enforced"), [("status", 1, 0), ("enforce", 1, 1), ("ignore", 0, 0)])
def test_ttl(mode: str, kept: int, enforced: int) -> None:
    plan = compiled(BANK, ["txn_7d:txn_count", "customer_profile:age", "account_balance:balance"], ttl_mode=mode)
    day = 86_400_000_000
    assert [slot.ttl for slot in plan.outputs] == [day * kept, 0, 3650 * day * kept]
    assert plan.enforce_ttl == bool(enforced)


def test_a_ttl_of_less_than_a_second() -> None:
    plan = compiled(registry(view("a", {"x": Int64}, ttl_seconds=0.25)), ["a:x"])
    assert plan.outputs[0].ttl == 250_000


# --- versions --------------------------------------------------------------------------------------------------------


def versions_registry() -> pb.Registry:
    """Return the registry of redis_versioned.json: `prof` had age, then income, then segment."""
    all_features = {"age": Int32, "income": Float64, "segment": String}
    history = [view("prof", dict(list(all_features.items())[: n + 1]), number=n) for n in range(3)]
    message = registry(history[2])
    for number, item in enumerate(history):
        remember(message, number, item)
    return message


def stored_fields(plan: ReadPlan) -> dict[str, str]:
    return {slot.name: plan.groups[slot.group].fields[slot.field].hex() for slot in plan.outputs}


def test_versions_are_stored_under_names_of_their_own() -> None:
    golden = {name: field for field, name in goldens.load("redis_versioned")["hash_fields"].items()}
    asked = ["prof:segment", "prof@v0:age", "prof@v1:income", "prof@V1:age", "prof@v2:income", "prof@latest:age"]
    plan = compiled(versions_registry(), asked, full=True, versioning=True)
    assert stored_fields(plan) == {
        "prof__segment": golden["prof_v2:segment"],
        "prof@v0__age": golden["prof:age"],
        "prof@v1__income": golden["prof_v1:income"],
        "prof@v1__age": golden["prof_v1:age"],
        "prof@v2__income": golden["prof_v2:income"],
        "prof__age": golden["prof_v2:age"],
    }
    (group,) = plan.groups
    assert [v.name for v in group.views] == ["prof_v2", "prof", "prof_v1"]
    # One entry per name and version; Feast has one per name.
    assert plan.view_versions == (("prof", 2), ("prof", 0), ("prof", 1))


def test_without_versioning_the_name_is_bare() -> None:
    plan = compiled(versions_registry(), ["prof:segment", "prof@latest:age"])
    assert plan.groups[0].fields[2] == b"_ts:prof"
    assert plan.view_versions == (("prof", 2),)
    with pytest.raises(errors.FeatureReferenceError, match="prof@v1"):
        compiled(versions_registry(), ["prof@v1:age"])


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("prof@v3:age", errors.FeatureViewVersionNotFound, "v3 of feature view prof"),
        ("prof@v999999999999:age", errors.FeatureViewVersionNotFound, "prof"),
        ("prof@v0:income", errors.FeatureNotFoundException, "income.*prof.*age"),
        ("none@v0:income", errors.FeatureViewNotFoundException, "none"),
    ],
)
def test_unknown_versions(text: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        compiled(versions_registry(), [text], versioning=True)


def test_a_service_pins_a_version() -> None:
    message = versions_registry()
    prof = message.feature_views[0]
    pinned = projection(prof, "age", "income", version=1)
    message.feature_services.append(service("pinned", pinned, projection(prof, "segment")))
    message.feature_services.append(service("named", projection(prof, "age", alias="who", version=1)))
    plan = compiled(message, "pinned", full=True, versioning=True)
    assert [slot.name for slot in plan.outputs] == ["prof@v1__age", "prof@v1__income", "prof__segment"]
    assert [v.name for v in plan.groups[0].views] == ["prof_v1", "prof_v2"]
    assert plan.view_versions == (("prof", 1), ("prof", 2))
    plan = compiled(message, "named", full=True, versioning=True)
    assert [slot.name for slot in plan.outputs] == ["who@v1__age"]
    assert plan.view_versions == (("who", 1),)
    with pytest.raises(errors.FeatureReferenceError, match="prof@v1"):
        compiled(message, "pinned")


def test_an_old_version_may_have_other_join_keys() -> None:
    message = registry(view("a", {"x": Int64}, number=1), view("b", {"y": Int64}, {"acc_id": Int64}))
    remember(message, 0, view("a", {"x": Int64}, {"acc_id": Int64}))
    plan = compiled(message, ["a@v0:x", "a:x"], full=True, versioning=True)
    assert [(group.join_keys, group.views[0].name) for group in plan.groups] == [
        (("acc_id",), "a"),
        (("customer_id",), "a_v1"),
    ]


# --- on-demand views -------------------------------------------------------------------------------------------------


def places(plan: ReadPlan, slots: list[Slot]) -> list[str]:
    return [f"{slot.label} {plan.groups[slot.group].fields[slot.field].hex()}" for slot in slots]


def test_an_on_demand_view() -> None:
    plan = compiled(BANK, ["risk_py:flag", "txn_7d:txn_count", "risk_py:ratio"])
    assert [(slot.name, slot.group) for slot in plan.outputs] == [("flag", -1), ("txn_count", 0), ("ratio", -1)]
    (transform,) = plan.transforms
    assert transform.view is BANK.get_on_demand_feature_view("risk_py")
    assert [(name, full) for name, full, _ in transform.inputs] == [
        (n, f"txn_7d__{n}") for n in ["amount_sum", "txn_count", "avg_amount"]
    ]
    inputs = [slot for _, _, slot in transform.inputs]
    assert places(plan, inputs) == [f"txn_7d:{s.name} {reference.field_id('txn_7d', s.name).hex()}" for s in inputs]
    assert transform.request_data == plan.request_data == ("amount",)
    assert transform.outputs == (("flag", "flag", ValueType.BOOL), ("ratio", "ratio", ValueType.DOUBLE))
    # The source is read once, though it is asked for directly too.
    assert [(v.name, len(v.features)) for v in plan.groups[0].views] == [("txn_7d", 3)]


def test_full_names_of_on_demand_outputs() -> None:
    plan = compiled(BANK, ["risk_py:ratio", "risk_pd:double_amount", "risk_single:single_sum"], full=True)
    names = ["risk_py__ratio", "risk_pd__double_amount", "risk_single__single_sum"]
    assert [slot.name for slot in plan.outputs] == names
    assert [transform.outputs[0][1] for transform in plan.transforms] == names
    assert plan.request_data == ("amount",)


def test_an_on_demand_view_under_an_alias() -> None:
    message = bank()
    risk = named(message.on_demand_feature_views, "risk_py")
    svc = pb.FeatureService()
    svc.spec.name, svc.spec.project = "alias_svc", "bank"
    svc.spec.features.extend([projection(risk, "ratio", alias="danger"), projection(risk, "flag")])
    message.feature_services.append(svc)
    plan = compiled(message, "alias_svc", full=True)
    assert [slot.name for slot in plan.outputs] == ["danger__ratio", "risk_py__flag"]
    assert [transform.view.name for transform in plan.transforms] == ["risk_py", "risk_py"]
    assert len(plan.groups) == 1


def test_inputs_under_an_alias_and_with_mapped_keys() -> None:
    """What the on-demand view says of its sources counts, not how they are asked for directly."""
    a = view("a", {"x": Int64})
    source = projection(a, alias="payer", join_key_map={"customer_id": "payer_id"})
    message = registry(a, on_demand_view("ratio", CODE, {"ratio": Float64}, sources=[source]))
    plan = compiled(message, ["ratio:ratio", "a:x"])
    assert [group.columns for group in plan.groups] == [("customer_id",), ("payer_id",)]
    ((name, full_name, slot),) = plan.transforms[0].inputs
    assert (name, full_name, slot.group) == ("x", "payer__x", 1)
    assert plan.required == {"customer_id": ["a"], "payer_id": ["a"]}


def test_inputs_of_a_version() -> None:
    message = versions_registry()
    source = projection(message.feature_views[0], "age", version=1)
    message.on_demand_feature_views.append(on_demand_view("ratio", CODE, {"ratio": Float64}, sources=[source]))
    plan = compiled(message, ["ratio:ratio"], versioning=True)
    assert [v.name for v in plan.groups[0].views] == ["prof_v1"]
    assert plan.view_versions == (("prof", 1),)


def test_an_on_demand_view_whose_source_is_gone() -> None:
    message = bank()
    message.feature_views.remove(named(message.feature_views, "txn_7d"))
    with pytest.raises(errors.FeatureViewNotFoundException, match="txn_7d"):
        compiled(message, ["risk_py:ratio"])


def test_on_demand_views_may_be_forbidden() -> None:
    with pytest.raises(errors.NotSupportedError, match=r"risk_py.*allow_on_demand"):
        compiled(BANK, ["risk_py:ratio"], allow_on_demand=False)
    assert compiled(BANK, ["txn_7d:txn_count", "stored_odfv:income_k"], allow_on_demand=False)


def test_request_data_named_as_an_unused_join_key_is_request_data() -> None:
    a = view("a", {"x": Int64})
    other = view("b", {"y": Int64}, {"amount": Int64})
    message = registry(a, other, on_demand_view("ratio", CODE, {"ratio": Float64}, request={"amount": Float64}))
    plan = compiled(message, ["ratio:ratio"])
    assert plan.request_data == ("amount",)
    assert "amount" not in plan.join_keys
    assert compiled(message, ["ratio:ratio", "b:y"]).join_keys["amount"] == ValueType.INT64


def test_snapshots_are_not_changed() -> None:
    """Compiling leaves what it reads alone."""
    before = str(BANK.message)
    for features in (["risk_py:ratio", "txn_7d:txn_count"], "transfer_svc"):
        compiled(BANK, features, full=True)
    assert str(BANK.message) == before
    assert isinstance(BANK, Snapshot)


# --- HGETALL or HMGET ------------------------------------------------------------------------------------------------


def whole_hash(*views: pb.FeatureView, services: tuple[pb.FeatureService, ...] = (), **options: Any) -> bool:
    """Whether all features of the first view are read by HGETALL."""
    references = [f"{views[0].spec.name}:{feature.name}" for feature in views[0].spec.features]
    (group,) = compiled(registry(*views, *services), references, **options).groups
    return group.whole_hash


def wide(name: str, n: int) -> pb.FeatureView:
    return view(name, {f"{name}{i}": Int64 for i in range(n)})


def test_most_of_a_wide_hash_is_read_whole() -> None:
    assert whole_hash(wide("a", 30))
    assert whole_hash(wide("a", 30), wide("b", 14))
    assert not whole_hash(wide("a", 30), wide("b", 15))
    assert not whole_hash(wide("a", 22))


def test_a_hash_that_may_hold_more_than_the_registry_says_is_not_read_whole() -> None:
    vectors = service("s")
    vectors.spec.precompute_online = True
    assert not whole_hash(wide("a", 30), services=(vectors,))
    assert not whole_hash(wide("a", 30), versioning=True)
