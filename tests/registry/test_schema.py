"""The generated messages are Feast's on the wire, and ours by name."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from fastserve.registry import schema_pb2 as pb
from tests import goldens

SCHEMA = goldens.load("proto_schema")
PACKAGES = ("feast.core.", "feast.types.", "feast.serving.")
BANK = (goldens.BANK / "data/registry.db").read_bytes()


def ours(descriptor: Descriptor | EnumDescriptor) -> str:
    return descriptor.full_name.removeprefix("fastserve.feast.")


def with_nested(descriptors: list[Descriptor]) -> list[Descriptor]:
    found = [d for d in descriptors if not d.GetOptions().map_entry]
    return found + [n for d in found for n in with_nested(list(d.nested_types))]


MESSAGES = with_nested(list(pb.DESCRIPTOR.message_types_by_name.values()))
ENUMS = [*pb.DESCRIPTOR.enum_types_by_name.values(), *(e for d in MESSAGES for e in d.enum_types)]
SCALARS = {
    getattr(FieldDescriptor, f"TYPE_{n.upper()}"): n for n in "string bytes bool int32 int64 float double".split()
}


def golden_of(kind: str, name: str) -> Any:
    found = [SCHEMA[kind][package + name] for package in PACKAGES if package + name in SCHEMA[kind]]
    assert len(found) == 1, name
    return found[0]


def type_text(field: FieldDescriptor) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"map<{type_text(key)}, {type_text(value)}>"
    named = field.message_type or field.enum_type
    return ours(named) if named is not None else SCALARS[field.type]


def golden_type(text: str) -> str:
    for package in PACKAGES:
        text = text.replace(package, "")
    return text


@pytest.mark.parametrize("message", MESSAGES, ids=ours)
def test_fields_are_feasts(message: Descriptor) -> None:
    golden = {field["number"]: field for field in golden_of("messages", ours(message))["fields"]}
    for field in message.fields:
        expected = golden[field.number]
        assert field.name == expected["name"]
        assert type_text(field) == golden_type(expected["type"])
        assert is_repeated(field) == (expected["repeated"] or expected["type"].startswith("map<"))
        oneof = field.containing_oneof
        real = oneof.name if oneof is not None and not oneof.name.startswith("_") else None
        assert real == expected.get("oneof")
        assert bool(oneof and not real) == expected.get("proto3_optional", False)


def is_repeated(field: FieldDescriptor) -> bool:
    # protobuf 7 has no `label` any more, and older ones no `is_repeated`.
    found = getattr(field, "is_repeated", None)
    return bool(getattr(field, "label", 0) == FieldDescriptor.LABEL_REPEATED if found is None else found)


@pytest.mark.parametrize("enum", ENUMS, ids=ours)
def test_enums_are_feasts(enum: EnumDescriptor) -> None:
    assert {value.name: value.number for value in enum.values} == golden_of("enums", ours(enum))


def test_names_are_ours() -> None:
    assert pb.DESCRIPTOR.package == "fastserve.feast"
    assert pb.DESCRIPTOR.name == "fastserve/registry/schema.proto"


def test_the_recorded_registry_reads_as_recorded() -> None:
    decoded = MessageToDict(pb.Registry.FromString(BANK), preserving_proto_field_name=True)
    assert decoded == goldens.load("bank/registry_decoded")


def test_the_recorded_registry_survives_rewriting() -> None:
    registry = pb.Registry.FromString(BANK)
    again = registry.SerializeToString()
    assert len(again) == len(BANK)
    assert pb.Registry.FromString(again) == registry


UNKNOWN = bytes.fromhex("c2ff07026869")  # field 16376, bytes "hi"


def inject(path: str) -> tuple[pb.Registry, bytes]:
    """Return the registry with an unknown field in the message at `path`, and its bytes."""
    registry = pb.Registry.FromString(BANK)
    target: Any = registry
    for part in path.split():
        target = target[int(part)] if part.isdigit() else getattr(target, part)
    target.MergeFromString(UNKNOWN)
    return registry, registry.SerializeToString()


@pytest.mark.parametrize(
    "path",
    ["", "feature_views 0 spec", "feature_views 0 spec features 0", "projects 0 meta", "data_sources 0 file_options"],
)
def test_unknown_fields_survive(path: str) -> None:
    registry, data = inject(path)
    assert data.count(UNKNOWN) == 1
    again = pb.Registry.FromString(data)
    assert again == registry
    assert again.SerializeToString().count(UNKNOWN) == 1


def test_what_the_schema_leaves_out_survives() -> None:
    # Registry.infra, saved_datasets and validation_references, DataSource.snowflake_options: of a later Feast.
    left_out = bytes.fromhex("5203aabbcc5a006a04deadbeef")
    source = pb.DataSource(name="s", type=pb.DataSource.BATCH_SNOWFLAKE)
    source.MergeFromString(bytes.fromhex("9a01030a0174"))
    registry = pb.Registry.FromString(left_out)
    registry.data_sources.append(source)
    again = pb.Registry.FromString(registry.SerializeToString())
    assert again.data_sources[0].SerializeToString() == source.SerializeToString()
    assert all(part in again.SerializeToString() for part in (left_out[:5], left_out[7:]))


def test_a_later_type_number_survives() -> None:
    spec = pb.FeatureSpecV2.FromString(bytes.fromhex("0a016110e807"))
    assert spec.value_type == 1000
    assert spec.SerializeToString() == bytes.fromhex("0a016110e807")


@pytest.mark.parametrize(("name", "output"), goldens.value_outputs())
def test_values_are_feasts(name: str, output: dict[str, Any]) -> None:
    value = pb.Value.FromString(bytes.fromhex(output["hex"]))
    assert value.WhichOneof("val") == output["oneof"]
    assert value.SerializeToString(deterministic=True).hex() == output["hex"]


def test_vectors_are_feasts() -> None:
    golden = goldens.load("precomputed_vectors")["synthetic"]
    vector = pb.PrecomputedFeatureVector.FromString(bytes.fromhex(golden["vector_proto_hex"]))
    assert list(vector.feature_names) == golden["fields"]["feature_names"]
    assert [
        [t.feature_view_name, t.event_timestamp.seconds, t.event_timestamp.nanos] for t in vector.fv_timestamps
    ] == (golden["fields"]["fv_timestamps"])
    assert vector.SerializeToString().hex() == golden["vector_proto_hex"]


@pytest.mark.parametrize("kind", [pb.GetOnlineFeaturesRequest, pb.GetOnlineFeaturesResponse, pb.EntityKey])
def test_messages_of_servers_exist(kind: type[Message]) -> None:
    assert kind.FromString(b"") == kind()
