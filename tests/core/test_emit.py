"""Batch -> Python, JSON, protobuf, buffers: all agree with each other and with the oracle."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve import _core
from fastserve._core import Batch, ReadPlan, Slot
from fastserve.errors import DecodeError
from fastserve.types import ValueType
from tests import goldens, reference
from tests.answers import FIRST_SECOND, LAST_SECOND, NULL_VAL, TYPES, Column, Row, columns, entity_key, is_null
from tests.core.strategies import stored_members
from tests.goldens import same

Response = reference.message_class("feast.serving.GetOnlineFeaturesResponse")
STATUS = ["INVALID", "PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]
ALL_TYPES = pytest.mark.parametrize("value_type", TYPES, ids=lambda value_type: value_type.name)
FEW = settings(max_examples=12)

INT32, INT64, FLOAT, DOUBLE = ValueType.INT32, ValueType.INT64, ValueType.FLOAT, ValueType.DOUBLE
BOOL, STRING, BYTES, SECONDS = ValueType.BOOL, ValueType.STRING, ValueType.BYTES, ValueType.UNIX_TIMESTAMP

STAMP = reference.encode_timestamp(1767323045, 678_901_000)
CUT_OFF = b"\x12\x05ab"


def encoded(value_type: ValueType, *values: Any) -> list[bytes]:
    return [_core.encode_value(value, value_type) for value in values]


def column(value_type: int, *values: bytes | None) -> Column:
    return Column(value_type, [Row(value, STAMP) for value in values])


def parsed_json(batch: Batch) -> Any:
    return json.loads(_core.json_response(batch), parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def nullness(data: bytes, n: int) -> list[bool]:
    return [not data[i >> 3] >> (i & 7) & 1 for i in range(n)]


# --- every type against the oracle -----------------------------------------------------------------------------------


@ALL_TYPES
def test_python_json_and_proto(value_type: ValueType) -> None:
    @FEW
    @given(columns(value_type))
    def check(found: Column) -> None:
        check_python(found)
        check_json(found)
        check_proto(found)

    check()


def check_python(found: Column) -> None:
    batch = found.batch()
    assert same(_core.python_columns(batch), reference.to_dict({"k": found.entities}, found.oracle))
    expected = reference.to_dict({"k": found.entities}, found.oracle, timestamps=True)
    with_times = _core.python_columns(batch, True)
    assert list(with_times) == ["k", "k__ts", "f", "f__ts"]
    assert same(with_times, expected)
    assert same(_core.slot_values(batch, batch.plan.outputs[0]), expected["f"])


def check_json(found: Column) -> None:
    expected = reference.to_json({"k": found.entities}, found.oracle)
    keys, features = expected["results"]
    if not found.rows:
        del keys["event_timestamps"], features["event_timestamps"]
    assert same(parsed_json(found.batch()), expected)
    assert _core.statuses(found.batch()) == {"k": keys["statuses"], "f": features["statuses"]}


def check_proto(found: Column) -> None:
    message = Response.FromString(_core.proto_response(found.batch()))
    cells = reference.cells(found.feature, found.oracle[0][1])
    keys, features = message.results
    assert list(message.metadata.feature_names.val) == ["k", "f"]
    assert [reference.value_to_python(value) for value in keys.values] == found.entities
    assert [value.WhichOneof("val") for value in features.values] == [cell.value.WhichOneof("val") for cell in cells]
    assert same(
        [reference.value_to_python(value) for value in features.values],
        [reference.value_to_python(cell.value) for cell in cells],
    )
    assert [STATUS[number] for number in features.statuses] == [cell.status for cell in cells]
    micros = [stamp.seconds * 1_000_000 + stamp.nanos // 1000 for stamp in features.event_timestamps]
    assert micros == [cell.event_time for cell in cells]
    assert list(keys.statuses) == [1] * len(found.rows)
    assert len(keys.event_timestamps) == len(found.rows)


BUFFERS: dict[str, Callable[[Batch, Slot], tuple[Any, ...]]] = {
    "fixed": _core.fixed_column,
    "text": _core.text_column,
    "list": _core.list_column,
}
FORMATS = {INT32: "i", INT64: "q", FLOAT: "f", DOUBLE: "d", BOOL: "?", SECONDS: "q"}


@pytest.mark.parametrize("value_type", FORMATS, ids=lambda value_type: value_type.name)
def test_fixed_buffers(value_type: ValueType) -> None:
    @FEW
    @given(columns(value_type))
    def check(found: Column) -> None:
        batch, n = found.batch(), len(found.rows)
        data, validity, null_count = _core.fixed_column(batch, batch.plan.outputs[0])
        numbers = list(struct.unpack(f"<{n}{FORMATS[value_type]}", data))
        nulls = [is_null(message) for message in found.messages]
        assert len(validity) == (n + 7) // 8
        assert nullness(validity, n) == nulls
        assert null_count == sum(nulls)
        stored = [getattr(message, TYPES[value_type]) for message in found.messages]
        assert same(numbers, [type(number)(0) if null else number for number, null in zip(stored, nulls, strict=True)])

    check()


TEXT_TYPES = [STRING, BYTES, *(ValueType[name] for name in ["PDF_BYTES", "JSON", "UUID", "TIME_UUID", "SCALAR_MAP"])]


def cut(data: bytes, offsets: bytes) -> list[bytes]:
    """Return the pieces between end offsets."""
    ends = struct.unpack(f"<{len(offsets) // 4}i", offsets)
    assert ends[0] == 0
    assert ends[-1] == len(data)
    return [data[start:end] for start, end in zip(ends, ends[1:])]  # noqa: B905, RUF007


@pytest.mark.parametrize("value_type", TEXT_TYPES, ids=lambda value_type: value_type.name)
def test_text_buffers(value_type: ValueType) -> None:
    @FEW
    @given(columns(value_type))
    def check(found: Column) -> None:
        batch, n = found.batch(), len(found.rows)
        data, offsets, validity, null_count = _core.text_column(batch, batch.plan.outputs[0])
        nulls = [is_null(message) for message in found.messages]
        assert nullness(validity, n) == nulls
        assert null_count == sum(nulls)
        for piece, message, null in zip(cut(data, offsets), found.messages, nulls, strict=True):
            stored = getattr(message, TYPES[value_type])
            if null:
                assert piece == b""
            elif value_type is ValueType.SCALAR_MAP:
                assert same(json.loads(piece), reference.value_to_json(message))
            else:
                assert piece == (stored if isinstance(stored, bytes) else stored.encode())

    check()


LIST_TYPES = [t for t in TYPES if (11 <= t <= 18) or (22 <= t <= 29)]
LIST_TYPES += [ValueType[name] for name in ["JSON_LIST", "UUID_LIST", "UUID_SET", "TIME_UUID_LIST", "TIME_UUID_SET"]]


@pytest.mark.parametrize("value_type", LIST_TYPES, ids=lambda value_type: value_type.name)
def test_list_buffers(value_type: ValueType) -> None:
    element = {t.name: t for t in ValueType}[value_type.name.rpartition("_")[0]]

    @FEW
    @given(columns(value_type))
    def check(found: Column) -> None:
        batch = found.batch()
        (data, ends, element_validity, null_elements), rows = _core.list_column(batch, batch.plan.outputs[0])
        offsets, validity, null_count = rows
        nulls = [is_null(message) for message in found.messages]
        assert nullness(validity, len(nulls)) == nulls
        assert null_count == sum(nulls)
        stored = [list(getattr(message, TYPES[value_type]).val) for message in found.messages]
        counts = [sum(map(len, stored[:i])) for i in range(len(nulls) + 1)]
        assert list(struct.unpack(f"<{len(nulls) + 1}i", offsets)) == counts
        flat = [item for items in stored for item in items]
        missing = [element is SECONDS and item == reference.NULL_SECONDS for item in flat]
        assert nullness(element_validity, len(flat)) == missing
        assert null_elements == sum(missing)
        if element in FORMATS:
            assert ends == b""
            expected = [0 if null else item for item, null in zip(flat, missing, strict=True)]
            assert same(list(struct.unpack(f"<{len(flat)}{FORMATS[element]}", data)), expected)
        else:
            assert cut(data, ends) == [i if isinstance(i, bytes) else i.encode() for i in flat]

    check()


# --- statuses --------------------------------------------------------------------------------------------------------


def now_seconds(ago: float) -> bytes:
    return reference.encode_timestamp(int(datetime.now(timezone.utc).timestamp() - ago))


@pytest.mark.parametrize("enforce", [False, True])
def test_age(enforce: bool) -> None:
    (one,) = encoded(INT64, 1)
    old, fresh = now_seconds(7200), now_seconds(1800)
    rows = [
        Row(one, old),
        Row(one, fresh),
        Row(b"", old),
        Row(None, None),
        Row(one, None),
        Row(one, now_seconds(-9999)),
    ]
    batch = Column(int(INT64), rows, ttl=3600).batch(enforce_ttl=enforce)
    expected = ["OUTSIDE_MAX_AGE", "PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND", "PRESENT", "PRESENT"]
    values = [None if enforce else 1, 1, None, None, 1, 1]
    assert _core.statuses(batch)["f"] == expected
    assert _core.python_columns(batch)["f"] == values
    assert parsed_json(batch)["results"][1]["statuses"] == expected
    assert parsed_json(batch)["results"][1]["values"] == values
    proto = Response.FromString(_core.proto_response(batch)).results[1]
    assert [STATUS[number] for number in proto.statuses] == expected
    assert [reference.value_to_python(value) for value in proto.values] == values
    data, validity, _ = _core.fixed_column(batch, batch.plan.outputs[0])
    assert nullness(validity, 6) == [value is None for value in values]
    assert list(struct.unpack("<6q", data)) == [value or 0 for value in values]
    assert _core.python_columns(batch, True)["f__ts"][0] > 0


def test_a_null_timestamp_is_null() -> None:
    """Feast writes -2**63 seconds for it."""
    data = reference.Value(unix_timestamp_val=reference.NULL_SECONDS).SerializeToString()
    batch = column(SECONDS, data, b"\x40\x00").batch()
    assert _core.statuses(batch)["f"] == ["NULL_VALUE", "PRESENT"]
    assert _core.fixed_column(batch, batch.plan.outputs[0])[2] == 1
    assert _core.python_columns(batch)["f"] == [None, datetime(1970, 1, 1, tzinfo=timezone.utc)]


# --- event times -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "nanos", "text"),
    [
        (0, 0, "1970-01-01T00:00:00Z"),
        (1767323045, 0, "2026-01-02T03:04:05Z"),
        (1767323045, 250_000_000, "2026-01-02T03:04:05.250Z"),
        (1767323045, 678_901_000, "2026-01-02T03:04:05.678901Z"),
        (1767323045, 678_901_999, "2026-01-02T03:04:05.678901Z"),
        (1767323045, 999, "2026-01-02T03:04:05Z"),
        (-1, 0, "1969-12-31T23:59:59Z"),
        (-1, 999_000_000, "1969-12-31T23:59:59.999Z"),
        (-1, 1000, "1969-12-31T23:59:59.000001Z"),
        (FIRST_SECOND, 0, "0001-01-01T00:00:00Z"),
        (FIRST_SECOND, 1000, "0001-01-01T00:00:00.000001Z"),
        (LAST_SECOND, 999_999_000, "9999-12-31T23:59:59.999999Z"),
        (951782400, 0, "2000-02-29T00:00:00Z"),
        (-2203891200, 0, "1900-03-01T00:00:00Z"),
    ],
)
def test_event_times(seconds: int, nanos: int, text: str) -> None:
    batch = Column(int(INT64), [Row(b"\x20\x01", reference.encode_timestamp(seconds, nanos))]).batch()
    assert parsed_json(batch)["results"][1]["event_timestamps"] == [text]
    micros = seconds * 1_000_000 + nanos // 1000
    assert _core.event_time_column(batch, batch.plan.outputs[0]) == struct.pack("<q", micros)
    assert _core.python_columns(batch, True)["f__ts"] == [seconds]
    stamp = Response.FromString(_core.proto_response(batch)).results[1].event_timestamps[0]
    assert (stamp.seconds, stamp.nanos) == (seconds, nanos // 1000 * 1000)


def test_event_times_of_two_views_are_not_mixed_up() -> None:
    """The text of a view's event times is kept for its next feature, and for no other."""
    rows = {view: reference.encode_timestamp(second) for second, view in enumerate("abc", 1)}
    groups = [
        _core.KeyGroup(["k"], ["k"], [2], [_core.StoredView("a", ["f", "g"], 0), _core.StoredView("b", ["f"], 3)], "p"),
        _core.KeyGroup(["q"], ["q"], [2], [_core.StoredView("c", ["f"], 0)], "p"),
    ]
    order = [
        ("a", 0, 0, 2),
        ("a", 0, 1, 2),
        ("b", 0, 3, 4),
        ("c", 1, 0, 1),
        ("a", 0, 0, 2),
        ("", -1, 0, 0),
        ("a", 0, 1, 2),
    ]
    slots = [Slot(f"{view}{i}", f"{view}:f", INT64, *place) for i, (view, *place) in enumerate(order)]
    plan = ReadPlan(groups, slots, join_keys={"k": 2, "q": 2}, required={})
    batch = Batch(plan, {"k": ["x"], "q": ["y"]}, 1)
    for view, group, _, event_time in order:
        if view:
            batch.put(group, 0, event_time, rows[view])
    batch.set_computed("5", [b""])
    times = [result["event_timestamps"][0][-3:-1] for result in parsed_json(batch)["results"][2:]]
    assert times == ["01", "01", "02", "03", "01", "00", "01"]


# --- whole answers ---------------------------------------------------------------------------------------------------


@given(
    values=st.tuples(*(st.none() | stored_members(TYPES[t]) for t in (INT64, STRING, DOUBLE))),
    names=st.lists(st.text(max_size=8), min_size=4, max_size=4, unique=True),
    entity=st.text(max_size=8),
)
@FEW
def test_any_names_and_texts_are_json(values: tuple[bytes | None, ...], names: list[str], entity: str) -> None:
    group = _core.KeyGroup(["k"], [names[3]], [2], [_core.StoredView("v", ["a", "b", "c"], 0)], "p")
    types = (INT64, STRING, DOUBLE)
    slots = [Slot(names[i], f"v:{i}", types[i], 0, i, 3) for i in range(3)]
    plan = ReadPlan([group], slots, join_keys={names[3]: 2}, required={}, view_versions=[(names[0], 0), (names[1], 7)])
    batch = Batch(plan, {names[3]: [entity]}, 1)
    for field, value in enumerate(values):
        if value is not None:
            batch.put(0, 0, field, value)
    answer = json.loads(_core.json_response(batch, True))
    ordered = [names[3], *names[:3]]
    assert answer["metadata"]["feature_names"] == ordered
    assert answer["metadata"]["feature_view_metadata"] == [{"name": names[0]}, {"name": names[1], "version": 7}]
    assert answer["results"][0]["values"] == [entity]
    expected = [reference.value_to_json(reference.parse_value(value or b"")) for value in values]
    assert same([result["values"][0] for result in answer["results"][1:]], expected)
    message = Response.FromString(_core.proto_response(batch, True))
    assert list(message.metadata.feature_names.val) == ordered
    assert [(m.name, m.version) for m in message.metadata.feature_view_metadata] == [(names[0], 0), (names[1], 7)]
    assert list(_core.python_columns(batch)) == ordered
    assert list(_core.statuses(batch)) == ordered


@ALL_TYPES
@pytest.mark.parametrize("n", [0, 1, 9])
def test_columns_of_nulls(value_type: ValueType, n: int) -> None:
    batch = column(value_type, *([None, b"", NULL_VAL] * 3)[:n]).batch()
    statuses = (["NOT_FOUND", "NULL_VALUE", "NULL_VALUE"] * 3)[:n]
    assert _core.python_columns(batch)["f"] == [None] * n
    assert _core.statuses(batch)["f"] == statuses
    result = parsed_json(batch)["results"][1]
    assert (result["values"], result["statuses"]) == ([None] * n, statuses)
    proto = Response.FromString(_core.proto_response(batch)).results[1]
    assert [reference.value_to_python(value) for value in proto.values] == [None] * n


def test_zero_rows() -> None:
    batch = Column(int(INT64), []).batch()
    empty = {"values": [], "statuses": []}
    assert parsed_json(batch) == {"results": [empty, empty], "metadata": {"feature_names": ["k", "f"]}}
    assert _core.fixed_column(batch, batch.plan.outputs[0]) == (b"", b"", 0)
    texts = Column(int(STRING), []).batch()
    assert _core.text_column(texts, texts.plan.outputs[0]) == (b"", bytes(4), b"", 0)
    assert _core.event_time_column(batch, batch.plan.outputs[0]) == b""


def test_floats_that_json_lacks() -> None:
    numbers = [float("inf"), float("-inf"), float("nan"), -0.0, 5e-324, 1.7976931348623157e308]
    batch = column(DOUBLE, *(reference.Value(double_val=number).SerializeToString() for number in numbers)).batch()
    result = parsed_json(batch)["results"][1]["values"]
    assert same(result, ["Infinity", "-Infinity", "NaN", -0.0, 5e-324, 1.7976931348623157e308])


@pytest.mark.parametrize("value_type", sorted(reference.UUID_TYPES))
def test_uuids_that_were_stored_as_text(value_type: int) -> None:
    """Feast wrote them so before it had types for them."""
    text = "550e8400-e29b-41d4-a716-446655440000"
    is_list = reference.split_member(TYPES[ValueType(value_type)])[1] != ""
    value = reference.Value(string_list_val={"val": [text]}) if is_list else reference.Value(string_val=text)
    found = column(value_type, value.SerializeToString())
    expected = reference.to_dict({"k": ["0"]}, found.oracle)
    assert same(_core.python_columns(found.batch()), expected)


def test_a_recorded_row() -> None:
    """All features of a customer as Feast decoded them."""
    golden = goldens.load("bank/redis_dump")["keys"]
    fields = [f for key in golden for f in key["fields"] if f["meaning"].startswith("all_types:") if f["value_hex"]]
    assert len(fields) > 38
    for field in fields:
        data = bytes.fromhex(field["value_hex"])
        assert same(_core.python_columns(column(0, data).batch())["f"][0], reference.decode_value(data))
        assert same(parsed_json(column(0, data).batch())["results"][1]["values"][0], reference.decode_json(data))


# --- join keys -------------------------------------------------------------------------------------------------------


def test_join_keys_of_every_type() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    given_columns: dict[str, list[Any]] = {
        "s": ["é\n", "5"], "b": [b"\0\xff", b""], "i": [-7, 2**31 - 1], "q": [2**53 + 1, -(2**63)],
        "t": [moment, moment + timedelta(days=1)], "echo": ["x", None], "number": [1, 2],
    }  # fmt: skip
    types = {"s": 2, "b": 1, "i": 3, "q": 4, "t": 8, "echo": None, "number": None}
    batch = Batch(ReadPlan([], [], join_keys=types, required={}), given_columns, 2)
    assert same(_core.python_columns(batch), given_columns)
    assert same(_core.key_values(batch), given_columns)
    seconds = [1767323045, 1767323045 + 86400]
    values = {name: result["values"] for name, result in zip(types, parsed_json(batch)["results"], strict=True)}
    assert values == {**given_columns, "b": ["AP8=", ""], "t": seconds}
    message = Response.FromString(_core.proto_response(batch))
    assert same(
        {name: [reference.value_to_python(v) for v in result.values] for name, result in zip(types, message.results)},  # noqa: B905
        given_columns,
    )
    assert [v.WhichOneof("val") for v in message.results[2].values] == ["int32_val"] * 2


def test_answers_are_not_shared() -> None:
    """Whoever changes one answer changes no other, and nothing that the caller gave."""
    names = ["C1", "C2"]
    batch = Batch(ReadPlan([], [], join_keys={"k": 2}, required={}), {"k": names}, 2)
    _core.python_columns(batch)["k"].clear()
    _core.key_values(batch)["k"].clear()
    assert _core.python_columns(batch) == {"k": ["C1", "C2"]}
    names.clear()
    assert _core.python_columns(batch) == {"k": ["C1", "C2"]}


# --- damaged values --------------------------------------------------------------------------------------------------

EMITTERS: dict[str, Callable[[Batch], object]] = {
    "python": _core.python_columns,
    "json": _core.json_response,
    "proto": _core.proto_response,
    "statuses": _core.statuses,
    "slot": lambda batch: _core.slot_values(batch, batch.plan.outputs[0]),
    **{name: lambda b, f=function: f(b, b.plan.outputs[0]) for name, function in BUFFERS.items()},  # type: ignore[misc]
}


@pytest.mark.parametrize("emitter", EMITTERS)
@pytest.mark.parametrize("data", [CUT_OFF, b"\xff", b"\x12\x01\xff", b"\x07"])
def test_a_damaged_value_is_named(emitter: str, data: bytes) -> None:
    value_type = {"fixed": INT64, "list": ValueType.INT64_LIST}.get(emitter, STRING)
    batch = column(value_type, b"", b"", data).batch()
    if emitter in ("proto", "statuses") and data == b"\x12\x01\xff":
        return  # they look no further than the member
    with pytest.raises(DecodeError) as caught:
        EMITTERS[emitter](batch)
    assert (caught.value.key, caught.value.field) == (entity_key(2).hex(), "v:f")
    assert "v:f" in str(caught.value)
    assert entity_key(2).hex() in str(caught.value)
    assert f"at byte {caught.value.offset}" in str(caught.value)


@pytest.mark.parametrize("emitter", ["python", "json", "proto", "statuses", "slot"])
def test_a_damaged_computed_value_names_its_row(emitter: str) -> None:
    batch = Batch(ReadPlan([], [Slot("r", "risk:r", STRING)], join_keys={}, required={}), {}, 2)
    batch.set_computed("r", [b"", CUT_OFF])
    with pytest.raises(DecodeError, match=r"risk:r.* row 1"):
        EMITTERS[emitter](batch)


PLAIN: list[tuple[int, list[Any]]] = [
    (DOUBLE, [1.5, None, float("inf"), -0.0]),
    (INT64, [2**63 - 1, -(2**63), None, 0]),
    (int(ValueType.INT32), [2**31 - 1, -(2**31), None, 0]),
    (STRING, ["", "text", None, "x" * 300]),
    (int(ValueType.BOOL), [True, False, None, True]),
]
NOT_PLAIN: list[tuple[int, Any]] = [
    (DOUBLE, 1),
    (DOUBLE, float("nan")),
    (INT64, 2**63),
    (INT64, True),
    (int(ValueType.INT32), 2**31),
    (int(ValueType.FLOAT), 1.5),
    (STRING, "\ud800"),
    (STRING, b"x"),
    (int(ValueType.BOOL), 1),
    (int(ValueType.BYTES), b"x"),
]


def computed(value_type: int, n_rows: int) -> Batch:
    return Batch(ReadPlan([], [Slot("r", "risk:r", value_type)], join_keys={}, required={}), {}, n_rows)


@pytest.mark.parametrize(("value_type", "values"), PLAIN)
def test_plain_computed_values_are_answered_as_serialised_ones(value_type: int, values: list[Any]) -> None:
    plain, serialised = computed(value_type, 4), computed(value_type, 4)
    given = values.copy()
    assert plain.set_plain("r", given, value_type)
    given[0] = None  # whoever computed them may go on using the list
    serialised.set_computed("r", _core.encode_column(values, value_type))
    for name in ("python", "slot", "json", "proto", "statuses", "text" if value_type == STRING else "fixed"):
        assert EMITTERS[name](plain) == EMITTERS[name](serialised)
    found = _core.python_columns(plain)
    found["r"][0] = None
    assert _core.python_columns(plain) == {"r": values}


OUTPUTS = (("ratio", "risk__ratio", int(ValueType.DOUBLE)), ("high", "high", int(ValueType.BOOL)))


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        ({"ratio": [1.5, None], "high": [True, None], "other": 1}, True),
        ({"ratio": [1.5, 2.5]}, False),
        ({"ratio": [1.5], "high": [True, True]}, False),
        ({"ratio": (1.5, 2.5), "high": [True, True]}, False),
        ({"ratio": [1.5, 2.5], "high": [True, 1]}, False),
    ],
)
def test_outputs_are_kept_if_none_needs_conversion(result: dict[str, Any], kept: bool) -> None:
    batch = computed(int(ValueType.DOUBLE), 2)
    assert _core.keep_plain_outputs(batch, result, OUTPUTS) == kept
    if kept:
        assert batch.plain == {"risk__ratio": ([1.5, None], ValueType.DOUBLE), "high": ([True, None], ValueType.BOOL)}


@pytest.mark.parametrize(("value_type", "value"), NOT_PLAIN)
def test_values_that_need_conversion_are_not_plain(value_type: int, value: Any) -> None:
    batch = computed(value_type, 2)
    assert not batch.set_plain("r", [None, value], value_type)
    assert batch.plain is None


def test_plain_columns_have_a_value_per_row() -> None:
    with pytest.raises(ValueError, match="r: 1 values for 2 rows"):
        computed(INT64, 2).set_plain("r", [1], INT64)


@pytest.mark.parametrize(
    "stamp", [b"\x08", b"\x08\xff", b"\x0a\x01", reference.encode_timestamp(LAST_SECOND)[:-1] + b"\x7f"]
)
@pytest.mark.parametrize("emitter", ["times", "json", "proto", "column", "ttl"])
def test_a_damaged_event_time_is_named(stamp: bytes, emitter: str) -> None:
    rows = [Row(b"\x20\x01", None), Row(b"\x20\x01", stamp)]
    batch = Column(int(INT64), rows, ttl=int(emitter == "ttl")).batch()
    emit: dict[str, Callable[[], object]] = {
        "times": lambda: _core.python_columns(batch, True),
        "json": lambda: _core.json_response(batch),
        "proto": lambda: _core.proto_response(batch),
        "column": lambda: _core.event_time_column(batch, batch.plan.outputs[0]),
        "ttl": lambda: _core.statuses(batch),
    }
    with pytest.raises(DecodeError) as caught:
        emit[emitter]()
    assert (caught.value.key, caught.value.field) == (entity_key(1).hex(), "v:f")


@pytest.mark.parametrize(
    ("value_type", "stored", "expected"),
    [
        (INT64, (INT32, -5), struct.pack("<q", -5)),
        (DOUBLE, (FLOAT, 0.5), struct.pack("<d", 0.5)),
        (DOUBLE, (INT32, -5), struct.pack("<d", -5.0)),
    ],
)
def test_types_that_widen(value_type: ValueType, stored: tuple[ValueType, Any], expected: bytes) -> None:
    batch = column(value_type, _core.encode_value(stored[1], stored[0])).batch()
    assert _core.fixed_column(batch, batch.plan.outputs[0])[0] == expected


@pytest.mark.parametrize(
    ("function", "value_type", "stored"),
    [
        ("fixed", INT32, (INT64, 5)),
        ("fixed", INT64, (DOUBLE, 5.0)),
        ("fixed", DOUBLE, (INT64, 5)),
        ("fixed", FLOAT, (DOUBLE, 5.0)),
        ("fixed", BOOL, (INT64, 1)),
        ("fixed", INT64, (STRING, "5")),
        ("fixed", SECONDS, (INT64, 5)),
        ("text", STRING, (INT64, 5)),
        ("text", STRING, (BYTES, b"x")),
        ("text", BYTES, (STRING, "x")),
        ("list", ValueType.INT64_LIST, (ValueType.STRING_LIST, ["a"])),
        ("list", ValueType.STRING_LIST, (STRING, "a")),
        ("list", ValueType.INT64_LIST, (ValueType.INT64_SET, [5])),
    ],
)
def test_types_that_do_not_fit(function: str, value_type: ValueType, stored: tuple[ValueType, Any]) -> None:
    """Buffers have one type; the other forms show what is stored."""
    found = column(value_type, b"", _core.encode_value(stored[1], stored[0]))
    with pytest.raises(
        DecodeError, match=f"{stored[0].name} is stored where the schema says {value_type.name}"
    ) as caught:
        BUFFERS[function](found.batch(), found.batch().plan.outputs[0])
    assert (caught.value.key, caught.value.field) == (entity_key(1).hex(), "v:f")
    assert same(_core.python_columns(found.batch()), reference.to_dict({"k": ["0", "1"]}, found.oracle))
