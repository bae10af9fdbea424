"""The oracle against the recorded data: what is wrong here would be wrong in every property test."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from tests import goldens, reference, reference_encode
from tests.goldens import evaluate, load, same

KEY_CASES = load("entity_keys")["cases"]
VALUE_CASES = load("values")["cases"]


def _key_arguments(case: dict[str, Any]) -> tuple[list[str], list[Any], list[int]]:
    """Return join keys, values and value types of a recorded key; an unset value has type 0."""
    values = [value or {"oneof": None, "value": None} for value in case["values"]]
    types = [reference.FIELD_NUMBERS.get(value["oneof"], 0) for value in values]
    return case["join_keys"], [bytes.fromhex(v["hex"]) if "hex" in v else v["value"] for v in values], types


@pytest.mark.parametrize("case", KEY_CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_entity_key(case: dict[str, Any], version: int) -> None:
    if f"v{version}_error" in case:
        with pytest.raises(ValueError):
            reference.serialize_entity_key(*_key_arguments(case), version)
    elif f"v{version}_hex" in case:
        data = reference.serialize_entity_key(*_key_arguments(case), version)
        assert data.hex() == case[f"v{version}_hex"]


@pytest.mark.parametrize("case", [c for c in KEY_CASES if "v3_roundtrip_values" in c], ids=lambda case: case["name"])
def test_deserialize_entity_key(case: dict[str, Any]) -> None:
    names, types, values = reference.deserialize_entity_key(bytes.fromhex(case["v3_hex"]))
    assert list(names) == [name.rstrip("\0") for name in case["v3_roundtrip_join_keys"]]
    assert list(types) == [reference.FIELD_NUMBERS[value["oneof"]] for value in case["v3_roundtrip_values"]]
    assert list(values) == [evaluate(value["repr"]) for value in case["v3_roundtrip_values"]]


@pytest.mark.parametrize("case", [c for c in KEY_CASES if "prefix_v3_hex" in c], ids=lambda case: case["name"])
def test_entity_key_prefix(case: dict[str, Any]) -> None:
    assert reference.entity_key_prefix(case["join_keys"], 3).hex() == case["prefix_v3_hex"]
    assert reference.entity_key_prefix(case["join_keys"], 2).hex() == case["prefix_v2_hex"]


def test_hash_fields() -> None:
    golden = load("redis_hash_fields")
    for case in golden["value_fields"]:
        assert reference.murmur3_32(bytes.fromhex(case["utf8_hex"])) == case["murmur3_32_seed0_unsigned"]
        view, _, feature = case["hashed_string"].partition(":")
        assert reference.field_id(view, feature).hex() == case["field_hex_little_endian"]
    for case in golden["timestamp_fields"]:
        assert reference.timestamp_field(case["feature_view"]).hex() == case["field_hex"]


@pytest.mark.parametrize("case", VALUE_CASES, ids=lambda case: case["name"])
def test_encode(case: dict[str, Any]) -> None:
    inputs = [evaluate(text) for text in case["python_inputs"]]
    if case["name"] == "unix_timestamp_nat":  # an error of Feast's; a null for us
        assert reference.decode_value(reference_encode.encode_column(inputs, 8)[0]) is None
    elif "error" in case:
        with pytest.raises((ValueError, TypeError)):
            reference_encode.encode_column(inputs, case["value_type_number"])
    else:
        encoded = reference_encode.encode_column(inputs, case["value_type_number"])
        assert [data.hex() for data in encoded] == [output["hex"] for output in case["outputs"]]


@pytest.mark.parametrize("output", [pytest.param(output, id=name) for name, output in goldens.value_outputs()])
def test_decode(output: dict[str, Any]) -> None:
    data = bytes.fromhex(output["hex"])
    assert reference.parse_value(data).WhichOneof("val") == output["oneof"]
    # A null that was written as such is None for us and 0 for Feast.
    expected = None if output["oneof"] == "null_val" else evaluate(output["to_dict_python"])
    assert same(reference.decode_value(data), expected)


@pytest.mark.parametrize("output", [pytest.param(output, id=name) for name, output in goldens.value_outputs()])
def test_json(output: dict[str, Any]) -> None:
    assert same(reference.decode_json(bytes.fromhex(output["hex"])), goldens.expected_json(output))


def test_every_member_has_a_case() -> None:
    seen = {output["oneof"] for _, output in goldens.value_outputs()}
    assert seen >= set(reference.FIELD_NUMBERS)


def test_redis_dump() -> None:
    golden = load("bank/redis_dump")
    for key in golden["keys"]:
        _check_key(key, golden["project"])
        for field in key["fields"]:
            _check_field(field)


def _check_key(key: dict[str, Any], project: str) -> None:
    entity_key = bytes.fromhex(key["key_hex"]).removesuffix(project.encode())
    names, types, values = reference.deserialize_entity_key(entity_key)
    assert list(names) == key["entity_key"]["join_keys"]
    assert list(values) == [value["value"] for value in key["entity_key"]["values"]]
    assert reference.serialize_entity_key(names, values, types) == entity_key


def _check_field(field: dict[str, Any]) -> None:
    name, data = bytes.fromhex(field["field_hex"]), bytes.fromhex(field["value_hex"])
    view, _, feature = field["meaning"].rpartition(":")
    if view == "_ts":
        assert name == reference.timestamp_field(feature)
        seconds, nanos = field["decoded"]["seconds"], field["decoded"]["nanos"]
        assert reference.decode_timestamp(data) == seconds * 1_000_000 + nanos // 1000
        assert reference.encode_timestamp(seconds, nanos) == data
        return
    assert name == reference.field_id(view, feature)
    if "repr" in field["decoded"]:
        assert same(reference.decode_value(data), evaluate(field["decoded"]["repr"]))


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1767323045678901, "2026-01-02T03:04:05.678901Z"),
        (1767323045678000, "2026-01-02T03:04:05.678Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (-62135596800000000, "0001-01-01T00:00:00Z"),
    ],
)
def test_rfc3339(microseconds: int, text: str) -> None:
    assert reference.rfc3339(microseconds) == text


def test_commands() -> None:
    framed = reference.hmget(b"key", [b"\x00\r\n\x01", b"_ts:v"])
    assert framed == b"*4\r\n$5\r\nHMGET\r\n$3\r\nkey\r\n$4\r\n\x00\r\n\x01\r\n$5\r\n_ts:v\r\n"
    assert reference.parse_reply(framed) == ([b"HMGET", b"key", b"\x00\r\n\x01", b"_ts:v"], len(framed))


def test_replies() -> None:
    replies = b"*2\r\n$-1\r\n$0\r\n\r\n:5\r\n_\r\n+OK\r\n*0\r\n"
    assert reference.parse_replies(replies) == [[None, b""], 5, None, b"OK", []]


def test_answer_of_recorded_hashes() -> None:
    hashes = [goldens.redis_hashes().get(_customer_key(name), {}) for name in ["C2", "C1", "NOPE", "C2"]]
    age = reference.Feature("customer_profile", "age", "age")
    income = reference.Feature("customer_profile", "income", "customer_profile__income")
    entities = {"customer_id": ["C2", "C1", "NOPE", "C2"]}
    assert reference.to_dict(entities, [(age, hashes), (income, hashes)], timestamps=True) == {
        "customer_id": ["C2", "C1", "NOPE", "C2"],
        "customer_id__ts": [0, 0, 0, 0],
        "age": [29, 41, None, 29],
        "age__ts": [1767312000, 1767323045, 0, 1767312000],
        "customer_profile__income": [None, 83000.5, None, None],
        "customer_profile__income__ts": [1767312000, 1767323045, 0, 1767312000],
    }
    answer = reference.to_json(entities, [(income, hashes)])
    assert answer["metadata"] == {"feature_names": ["customer_id", "customer_profile__income"]}
    assert answer["results"][1] == {
        "values": [None, 83000.5, None, None],
        "statuses": ["NULL_VALUE", "PRESENT", "NOT_FOUND", "NULL_VALUE"],
        "event_timestamps": [
            "2026-01-02T00:00:00Z",
            "2026-01-02T03:04:05.678901Z",
            "1970-01-01T00:00:00Z",
            "2026-01-02T00:00:00Z",
        ],
    }


def test_ttl() -> None:
    hashes = [goldens.redis_hashes()[_customer_key("C1")]]
    written = datetime(2026, 1, 5, 12, tzinfo=timezone.utc).timestamp()
    count = reference.Feature("txn_7d", "txn_count", "n", ttl=86400)
    assert reference.event_times("txn_7d", hashes) == [int(written * 1_000_000)]
    assert [cell.status for cell in reference.cells(count, hashes, written + 86400)] == ["PRESENT"]
    assert [cell.status for cell in reference.cells(count, hashes, written + 86401)] == ["OUTSIDE_MAX_AGE"]


def _customer_key(name: str) -> bytes:
    return reference.serialize_entity_key(["customer_id"], [name], [reference.STRING]) + b"bank"
