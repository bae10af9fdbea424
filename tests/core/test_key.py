"""Entity keys and hash fields: recorded cases, agreement with the oracle, refusals, hostile bytes."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastserve import _core
from fastserve.errors import DecodeError, EntityError
from tests import reference
from tests.conftest import Rand
from tests.goldens import evaluate, load
from tests.hostile import mutated
from tests.reference import BYTES, INT32, INT64, STRING, UNIX_TIMESTAMP

CASES = load("entity_keys")["cases"]
FIELDS = load("redis_hash_fields")

KEY_VALUES: dict[int, st.SearchStrategy[Any]] = {
    STRING: st.text(),
    BYTES: st.binary(),
    INT32: st.integers(-(2**31), 2**31 - 1),
    INT64: st.integers(-(2**63), 2**63 - 1),
    UNIX_TIMESTAMP: st.integers(-(2**63) + 1, 2**63 - 1),
}
keys = st.dictionaries(
    st.text(), st.sampled_from(sorted(KEY_VALUES)).flatmap(lambda t: st.tuples(st.just(t), KEY_VALUES[t])), max_size=4
)


def columns(key: dict[str, tuple[int, Any]]) -> tuple[list[str], list[Any], list[int]]:
    return list(key), [value for _, value in key.values()], [value_type for value_type, _ in key.values()]


def golden_columns(case: dict[str, Any]) -> tuple[list[str], list[Any], list[int]]:
    """Return join keys, values and value types of a recorded key; an unset value is None, of type STRING."""
    values = [value or {"oneof": "string_val", "value": None} for value in case["values"]]
    types = [reference.FIELD_NUMBERS[value["oneof"]] for value in values]
    return case["join_keys"], [bytes.fromhex(v["hex"]) if "hex" in v else v["value"] for v in values], types


# --- recorded --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_golden_keys(case: dict[str, Any], version: int) -> None:
    if f"v{version}_error" in case:
        with pytest.raises(EntityError, match=repr(case["join_keys"][0])):
            _core.serialize_entity_key(*golden_columns(case), version)
    elif f"v{version}_hex" in case:
        assert _core.serialize_entity_key(*golden_columns(case), version).hex() == case[f"v{version}_hex"]


@pytest.mark.parametrize("case", [c for c in CASES if "v3_roundtrip_values" in c], ids=lambda case: case["name"])
def test_golden_round_trip(case: dict[str, Any]) -> None:
    names, types, values = _core.deserialize_entity_key(bytes.fromhex(case["v3_hex"]))
    assert list(names) == [name.rstrip("\0") for name in case["v3_roundtrip_join_keys"]]
    assert list(types) == [reference.FIELD_NUMBERS[value["oneof"]] for value in case["v3_roundtrip_values"]]
    assert list(values) == [evaluate(value["repr"]) for value in case["v3_roundtrip_values"]]


@pytest.mark.parametrize("case", [c for c in CASES if "prefix_v3_hex" in c], ids=lambda case: case["name"])
def test_golden_prefixes(case: dict[str, Any]) -> None:
    assert _core.entity_key_prefix(case["join_keys"]).hex() == case["prefix_v3_hex"]
    assert _core.entity_key_prefix(case["join_keys"], 2).hex() == case["prefix_v2_hex"]


@pytest.mark.parametrize("case", FIELDS["value_fields"], ids=lambda case: case["hashed_string"])
def test_golden_fields(case: dict[str, Any]) -> None:
    view, _, feature = case["hashed_string"].partition(":")
    assert _core.field_id(view, feature).hex() == case["field_hex_little_endian"]
    assert _core.murmur3_32(bytes.fromhex(case["utf8_hex"])) == case["murmur3_32_seed0_unsigned"]


def test_golden_redis_keys() -> None:
    dump = load("bank/redis_dump")
    for key in dump["keys"]:
        names, types, values = _core.deserialize_entity_key(bytes.fromhex(key["key_hex"]).removesuffix(b"bank"))
        assert list(names) == key["entity_key"]["join_keys"]
        assert list(values) == [value["value"] for value in key["entity_key"]["values"]]
        assert _core.serialize_entity_key(names, values, types).hex() + b"bank".hex() == key["key_hex"]


# --- against the oracle ----------------------------------------------------------------------------------------------


@given(keys, st.sampled_from([2, 3, 4]))
def test_serialize_as_the_oracle(key: dict[str, tuple[int, Any]], version: int) -> None:
    data = _core.serialize_entity_key(*columns(key), version)
    assert data == reference.serialize_entity_key(*columns(key), version)
    assert data.startswith(_core.entity_key_prefix(list(key), version))


@given(keys)
def test_round_trip(key: dict[str, tuple[int, Any]]) -> None:
    data = _core.serialize_entity_key(*columns(key))
    decoded = _core.deserialize_entity_key(data)
    assert decoded == reference.deserialize_entity_key(data)
    if not any(name.endswith("\0") for name in key):
        names, types, values = decoded
        assert dict(zip(names, zip(types, values, strict=True), strict=True)) == key


@given(keys)
def test_order_of_join_keys_does_not_matter(key: dict[str, tuple[int, Any]]) -> None:
    reverse = dict(reversed(key.items()))
    assert _core.serialize_entity_key(*columns(key)) == _core.serialize_entity_key(*columns(reverse))


@given(st.binary(max_size=70))
@example(b"")
@example(b"\xff" * 7)
def test_murmur3_as_the_oracle(data: bytes) -> None:
    assert _core.murmur3_32(data) == reference.murmur3_32(data)


@given(st.text(), st.text())
def test_field_id_as_the_oracle(view: str, feature: str) -> None:
    assert _core.field_id(view, feature) == reference.field_id(view, feature)


# --- what may be a key -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "value_type", "canonical", "canonical_type"),
    [
        (5, STRING, "5", STRING),
        (True, STRING, "True", STRING),
        (np.str_("x"), STRING, "x", STRING),
        ("7", INT64, 7, INT64),
        (7.0, INT64, 7, INT64),
        (True, INT64, 1, INT64),
        (np.int32(7), INT64, 7, INT64),
        (np.float64(7.0), INT64, 7, INT64),
        (Decimal("7"), INT64, 7, INT64),
        ("7", INT32, 7, INT32),
        (datetime(1970, 1, 1, 0, 0, 7), UNIX_TIMESTAMP, 7, UNIX_TIMESTAMP),
        (datetime(1970, 1, 1, 0, 0, 7, 999999, tzinfo=timezone.utc), UNIX_TIMESTAMP, 7, UNIX_TIMESTAMP),
        (bytearray(b"x"), BYTES, b"x", BYTES),
        ("x", 0, "x", STRING),
        (7, 0, 7, INT64),
        (np.int32(7), 0, 7, INT32),
        (b"x", 0, b"x", BYTES),
        (datetime(1970, 1, 1, 0, 0, 7), 0, 7, UNIX_TIMESTAMP),
    ],
)
def test_key_values_are_converted(value: Any, value_type: int, canonical: Any, canonical_type: int) -> None:
    data = _core.serialize_entity_key(["k"], [value], [value_type])
    assert data == reference.serialize_entity_key(["k"], [canonical], [canonical_type])


@pytest.mark.parametrize(
    ("value", "value_type"),
    [
        (None, STRING),
        (float("nan"), STRING),
        (np.datetime64("NaT", "ns"), UNIX_TIMESTAMP),
        (b"x", STRING),
        (["x"], STRING),
        ("\ud800", STRING),
        (7.9, INT64),
        (np.float32(7.9), INT64),
        (Decimal("7.9"), INT64),
        (float("inf"), INT64),
        ("seven", INT64),
        ("7.0", INT64),
        ("", INT64),
        ([7], INT64),
        (b"7", INT64),
        (2**63, INT64),
        (-(2**63) - 1, INT64),
        ("9" * 30, INT64),
        (2**31, INT32),
        (-(2**31) - 1, INT32),
        ("x", BYTES),
        (2**63, UNIX_TIMESTAMP),
        ("yesterday", UNIX_TIMESTAMP),
        (1.5, 5),
        (1.5, 6),
        (True, 7),
        (UUID(int=1), 36),
        (Decimal(1), 44),
        ({"a": 1}, 20),
        (1.5, 0),
        (True, 0),
        (UUID(int=1), 0),
        (object(), 0),
        ("x", 99),
    ],
)
def test_refused_values_name_the_join_key(value: Any, value_type: int) -> None:
    with pytest.raises(EntityError, match="'customer_id'") as caught:
        _core.serialize_entity_key(["customer_id"], [value], [value_type])
    assert caught.value.join_key == "customer_id"


@pytest.mark.parametrize(
    ("join_keys", "values", "value_types"),
    [(["a", "b"], ["x"], [2, 2]), (["a"], ["x", "y"], [2]), (["a"], ["x"], []), ([], ["x"], [2])],
)
def test_columns_of_different_lengths(join_keys: list[str], values: list[Any], value_types: list[int]) -> None:
    with pytest.raises(ValueError):
        _core.serialize_entity_key(join_keys, values, value_types)


# --- hostile bytes ---------------------------------------------------------------------------------------------------


def check_hostile(data: bytes) -> None:
    """The bytes are a key to the core exactly when they are one to the oracle."""
    try:
        expected = reference.deserialize_entity_key(data)
    except reference.Unreadable:
        with pytest.raises(DecodeError) as caught:
            _core.deserialize_entity_key(data)
        assert 0 <= caught.value.offset <= len(data)
    else:
        assert _core.deserialize_entity_key(data) == expected


GOLDEN_KEYS = sorted({bytes.fromhex(case["v3_hex"]) for case in CASES if "v3_hex" in case})


@pytest.mark.parametrize("key", GOLDEN_KEYS, ids=bytes.hex)
def test_every_truncation(key: bytes) -> None:
    for size in range(len(key) + 1):
        check_hostile(key[:size])


def test_mutations(rand: Rand) -> None:
    for _ in range(10_000):
        check_hostile(mutated(rand, GOLDEN_KEYS))


@given(st.binary(max_size=60))
@example(b"\xff\xff\xff\xff")  # four billion names
@example(b"\x01\0\0\0\x02\0\0\0\xff\xff\xff\xff")
@example(b"\0\0\0\0\0")
def test_random_bytes(data: bytes) -> None:
    check_hostile(data)
