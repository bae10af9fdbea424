"""Rows of Arrow columns -> stored bytes, beside the oracle's; calls, replies, latest rows."""

from __future__ import annotations

import struct
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._core import (
    EncodedRows,
    UnusualReply,
    WritePlan,
    decode_timestamp,
    encode_rows,
    encode_timestamp,
    field_id,
    key_hashes,
    latest_rows,
)
from fastserve.errors import EncodeError
from tests import goldens, reference
from tests.core.arrow import LARGE, SCALARS, TIME, arrow_column, arrow_type, batch_of
from tests.core.strategies import python_values
from tests.reference import BYTES, INT32, INT64, NULL_SECONDS, STRING, UNIX_TIMESTAMP
from tests.reference_encode import MEMBERS, encode_column

DOUBLE, FLOAT, BOOL = 5, 6, 7
SHA = b"0123456789abcdef0123456789abcdef01234567"
TYPES = sorted(MEMBERS.keys() - {19})
LISTS = [number + 10 for number in SCALARS]


def plan_of(value_type: int, version: int = 3) -> WritePlan:
    return WritePlan("view", ["id"], [INT64], ["feature"], [value_type], "bank", version)


def encoded(column: Any, value_type: int) -> list[bytes]:
    """Return the stored bytes of a column of features."""
    batch = pa.RecordBatch.from_arrays(
        [pa.array(range(len(column)), pa.int64()), column, pa.array([0] * len(column), TIME)],
        names=["id", "feature", "t"],
    )
    return [value for _, _, value, _ in encode_rows(plan_of(value_type), batch).items()]


def values_of(value_type: int) -> st.SearchStrategy[Any]:
    """Python values that a column of this type may hold."""
    if value_type in (30, 31):
        return st.binary()
    if value_type == UNIX_TIMESTAMP:
        return st.integers(-(2**63), 2**63 - 1)
    if value_type == UNIX_TIMESTAMP + 10:
        return st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)
    if value_type == BYTES:
        return st.binary()
    return python_values(MEMBERS[value_type])


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value_type", TYPES)
@given(data=st.data())
def test_every_type_is_stored_as_by_the_oracle(value_type: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | values_of(value_type), max_size=12))
    column = arrow_column(values, value_type)
    wanted = encode_column(values, value_type)
    found = encoded(column, value_type)
    if MEMBERS[value_type] in goldens_unordered():
        wanted, found = [sorted(item) for item in wanted], [sorted(item) for item in found]  # type: ignore[misc]
    assert found == wanted
    # The same out of the middle of a longer column, in the large form.
    padded = pa.concat_arrays([column, column, column]).slice(len(values), len(values))
    assert encoded(large(padded), value_type) == encoded(column, value_type)


def goldens_unordered() -> set[str]:
    """Members that are sets, or hold maps: their bytes have no one order."""
    return {name for name in MEMBERS.values() if "set" in name or "map" in name or "struct" in name}


def large(column: Any) -> Any:
    if pa.types.is_list(column.type):
        return column.cast(pa.large_list(LARGE.get(column.type.value_type, column.type.value_type)))
    return column.cast(LARGE.get(column.type, column.type))


@pytest.mark.parametrize("value_type", [number for number in LISTS if number != BYTES + 10])
def test_nulls_in_lists(value_type: int) -> None:
    zero = {STRING: "", UNIX_TIMESTAMP: NULL_SECONDS, BOOL: False}.get(value_type - 10, 0)
    one = {STRING: "a", BOOL: True, DOUBLE: 1.0, FLOAT: 1.0}.get(value_type - 10, 1)
    column = pa.array([[one, None], None, [], [None]], arrow_type(value_type))
    found = encoded(column, value_type)
    if value_type - 10 in (DOUBLE, FLOAT):  # Arrow's null becomes NumPy's in Feast
        zero = float("nan")
    assert found == [encode_column([[one, zero]], value_type)[0], b"", encode_column([[one], []], value_type)[1],
                     encode_column([[zero]], value_type)[0]]  # fmt: skip


@pytest.mark.parametrize("value_type", [DOUBLE, FLOAT])
def test_nan_is_null(value_type: int) -> None:
    column = pa.array([1.5, float("nan"), None, float("inf")], arrow_type(value_type))
    assert encoded(column, value_type) == encode_column([1.5, None, None, float("inf")], value_type)


@pytest.mark.parametrize("unit, ticks", [("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9)])
def test_timestamps_of_any_unit_and_zone(unit: str, ticks: int) -> None:
    seconds = [0, -1, 1767225600, -(2**33)]
    for zone in (None, "UTC", "Europe/Prague"):
        column = pa.array([*(number * ticks + ticks // 2 for number in seconds), None], pa.timestamp(unit, zone))
        assert encoded(column, UNIX_TIMESTAMP) == encode_column([*seconds, NULL_SECONDS], UNIX_TIMESTAMP)


def test_fixed_size_lists() -> None:
    column = pa.array([[1.0, 2.0], None, [3.0, None]], pa.list_(pa.float32(), 2))
    nan = struct.pack("<f", float("nan"))
    assert encoded(column, FLOAT + 10)[:2] == encode_column([[1.0, 2.0], None], FLOAT + 10)
    assert encoded(column.slice(2), FLOAT + 10)[0].endswith(nan)


def test_a_column_of_nothing_but_empty_bytes_is_null() -> None:
    assert encoded(pa.array([b"", None], pa.binary()), BYTES) == [b"", b""]
    assert encoded(pa.array([b"", b"a"], pa.binary()), BYTES) == [b"\x0a\x00", b"\x0a\x01a"]


@pytest.mark.parametrize("size", [0, 1, 8, 9, 97, 98, 99, 100, 127, 128, 1000, 20000])
def test_texts_of_all_lengths(size: int) -> None:
    text = "é" * (size // 2) + "x" * (size % 2)
    assert encoded(pa.array([text, "y"]), STRING) == encode_column([text, "y"], STRING)


# --- keys and times --------------------------------------------------------------------------------------------------

KEYS: dict[int, st.SearchStrategy[Any]] = {
    STRING: st.text(),
    BYTES: st.binary(),
    INT32: st.integers(-(2**31), 2**31 - 1),
    INT64: st.integers(-(2**63), 2**63 - 1),
    UNIX_TIMESTAMP: st.integers(-(2**63), 2**63 - 1),
}


@given(data=st.data(), version=st.sampled_from([2, 3]))
def test_keys_are_the_oracles(data: st.DataObject, version: int) -> None:
    names = data.draw(st.lists(st.text(min_size=1, max_size=5), max_size=3, unique=True))
    types = [data.draw(st.sampled_from(sorted(KEYS))) for _ in names]
    rows = data.draw(st.lists(st.tuples(*(KEYS[number] for number in types)), max_size=5))
    plan = WritePlan("view", names, types, ["feature"], [BOOL], "bank", version)
    ordered = [[row[names.index(name)] for row in rows] for name in plan.join_keys]
    batch = batch_of(plan, [*ordered, [True] * len(rows)], [0] * len(rows))
    found = encode_rows(plan, batch)
    expected = [reference.serialize_entity_key(names or ["__dummy_id"], row or [""], types or [STRING], version)
                for row in rows]  # fmt: skip
    assert found.entity_keys() == expected
    assert all(plan.owns(key + b"bank") for key in expected)
    assert [command_of(found)[3 : 3 + len(rows)]] == [[key + b"bank" for key in expected]] if rows else True
    hashes = struct.unpack(f"<{len(rows)}Q", key_hashes(plan, batch))
    assert len(set(hashes)) == len(set(expected))


def test_undeclared_keys_take_the_type_of_their_column() -> None:
    plan = WritePlan("view", ["a", "b"], [0, 0], [], [], "bank")
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array(["x"]), pa.array([0], TIME)], names=["a", "b", "t"])
    assert encode_rows(plan, batch).entity_keys() == [
        reference.serialize_entity_key(["a", "b"], [1, "x"], [INT64, STRING])
    ]


def test_old_key_versions_have_four_bytes_for_integers() -> None:
    batch = batch_of(plan_of(BOOL), [[7], [True]], [0])
    assert encode_rows(plan_of(BOOL, 1), batch).entity_keys() == [
        reference.serialize_entity_key(["id"], [7], [INT64], 1)
    ]
    with pytest.raises(EncodeError, match=r"column 'id', row 1: 2147483648 does not fit"):
        encode_rows(plan_of(BOOL, 1), batch_of(plan_of(BOOL), [[7, 2**31], [True] * 2], [0] * 2))


@given(st.lists(st.integers(-62135596800_000000, 253402300799_999999), max_size=5))
def test_event_times(times: list[int]) -> None:
    plan = plan_of(BOOL)
    rows = encode_rows(plan, batch_of(plan, [range(len(times)), [True] * len(times)], times))
    assert [record[1] for record in rows.records()] == times
    if times:
        stored = command_of(rows)[3 + len(times) + 5 :][: len(times)]
        assert stored == [encode_timestamp(*divmod(micros, 10**6)[:1], micros % 10**6 * 1000) for micros in times]
        assert list(map(decode_timestamp, stored)) == times


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("seconds", [-1, 0, 1767225600])
def test_event_times_of_any_unit(unit: str, seconds: int) -> None:
    """Digits below a microsecond are dropped, downwards."""
    ticks = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[unit]
    batch = pa.RecordBatch.from_arrays(
        [pa.array([1]), pa.array([True]), pa.array([seconds * ticks - 1], pa.timestamp(unit))], names=["id", "f", "t"]
    )
    [(_, found, created, _)] = encode_rows(plan_of(BOOL), batch).records()
    assert (found, created) == (seconds * 10**6 - max(10**6 // ticks, 1), None)


def test_created_times() -> None:
    plan = plan_of(BOOL)
    batch = batch_of(plan, [[1, 2], [True, False]], [5, 6], created=[None, 7])
    assert [record[2] for record in encode_rows(plan, batch, True).records()] == [None, 7]


def test_only_some_rows() -> None:
    plan = plan_of(STRING)
    batch = batch_of(plan, [range(6), ["a", None, "c", "d", "e", "f"]], range(6))
    rows = encode_rows(plan, batch, rows=struct.pack("<3q", 5, 1, 2))
    assert [(value, time) for _, _, value, time in rows.items()] == [(b"\x12\x01f", 5), (b"", 1), (b"\x12\x01c", 2)]
    with pytest.raises(IndexError, match="row 6 of a batch of 6"):
        encode_rows(plan, batch, rows=struct.pack("<q", 6))
    with pytest.raises(IndexError):
        encode_rows(plan, batch, rows=struct.pack("<q", -1))


def test_what_feast_wrote() -> None:
    """The recorded commands, byte for byte; the older of two rows is left to the store."""
    golden = goldens.load("redis_commands")["write"]
    rows = golden["call"]["rows"]
    plan = WritePlan("txn_7d", ["customer_id"], [STRING], ["amount_sum", "txn_count", "avg_amount"], [5, 4, 6], "bank")
    times = [int(datetime.fromisoformat(row["event_timestamp"].replace("Z", "+00:00")).timestamp() * 10**6)
             for row in rows]  # fmt: skip
    batch = batch_of(plan, [[row[name] for row in rows] for name in plan.columns], times)
    found = {}
    for key, event_time, _, values in encode_rows(plan, batch).records():
        fields = {
            plan.fields[-1]: encode_timestamp(event_time // 10**6),
            **dict(zip(plan.fields, values, strict=False)),
        }
        found[key + b"bank", event_time] = fields
    wanted = [list(map(bytes.fromhex, command[1:])) for command in golden["commands"] if command[0] == "HSET"]
    assert len(wanted) == 2
    for key, *pairs in wanted:
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        assert fields in [item for (owner, _), item in found.items() if owner == key]


# --- what is refused -------------------------------------------------------------------------------------------------


def refused(plan: WritePlan, **columns: Any) -> str:
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    with pytest.raises(EncodeError) as caught:
        encode_rows(plan, batch)
    return str(caught.value)


def test_null_keys_and_times() -> None:
    good = {"id": pa.array([1, 2]), "feature": pa.array(["a", "b"]), "t": pa.array([0, 0], TIME)}
    plan = plan_of(STRING)
    assert refused(plan, **good | {"id": pa.array([1, None])}) == "column 'id', row 1: the value is null"
    assert refused(plan, **good | {"t": pa.array([None, 1], TIME)}) == "column 't', row 0: the value is null"
    far = pa.array([0, 253402300800], pa.timestamp("s"))
    assert refused(plan, **good | {"t": far}).startswith("column 't', row 1: 253402300800 s from the epoch")
    assert refused(plan, **good | {"t": pa.array([1, 2])}) == "column 't': a timestamp expected, got Arrow type 'l'"


def test_wrong_types() -> None:
    good = {"id": pa.array([1]), "feature": pa.array(["a"]), "t": pa.array([0], TIME)}
    assert "INT64 is not encoded from Arrow type 'i', but from 'l'" in refused(
        plan_of(STRING), **good | {"id": pa.array([1], pa.int32())}
    )
    assert "STRING is not encoded from Arrow type 'z'" in refused(
        plan_of(STRING), **good | {"feature": pa.array([b"a"])}
    )
    assert "from a dictionary" in refused(plan_of(STRING), **good | {"feature": pa.array(["a"]).dictionary_encode()})
    assert "DOUBLE_LIST is not encoded from Arrow type 'u'" in refused(plan_of(DOUBLE + 10), **good)
    assert "DOUBLE is not encoded from Arrow type 'f'" in refused(
        plan_of(DOUBLE + 10), **good | {"feature": pa.array([[1.0]], pa.list_(pa.float32()))}
    )
    assert "JSON is not encoded from Arrow type 'u'" in refused(plan_of(32), **good)
    plan = WritePlan("view", ["id"], [0], ["feature"], [STRING], "bank")
    assert "Arrow type 'g' cannot be a key" in refused(plan, **good | {"id": pa.array([1.5])})


@pytest.mark.parametrize("bad", [b"\xff", b"ok\xc3", b"12345678\x80", b"\xed\xa0\x80"])
def test_text_that_is_not_utf8(bad: bytes) -> None:
    text = pa.array([b"fine", bad]).view(pa.string())
    good = {"id": pa.array([1, 2]), "feature": pa.array(["a", "b"]), "t": pa.array([0, 0], TIME)}
    wanted = "row 1: the text is not UTF-8, so no reader could show it"
    assert refused(plan_of(STRING), **good | {"feature": text}) == f"column 'feature', {wanted}"
    plan = WritePlan("view", ["id"], [STRING], ["feature"], [STRING], "bank")
    assert refused(plan, **good | {"id": text}) == f"column 'id', {wanted}"
    lists = pa.ListArray.from_arrays([0, 1, 2], text)
    assert refused(plan_of(STRING + 10), **good | {"feature": lists}) == f"column 'feature', {wanted}"


def test_only_rows_that_are_written_are_looked_at() -> None:
    plan = plan_of(STRING)
    batch = pa.RecordBatch.from_arrays(
        [pa.array([1, None]), pa.array([b"a", b"\xff"]).view(pa.string()), pa.array([0, None], TIME)],
        names=["id", "feature", "t"],
    )
    assert encode_rows(plan, batch, rows=struct.pack("<q", 0)).n_rows == 1
    assert encode_rows(plan, batch.slice(0, 1)).n_rows == 1


def test_other_shapes() -> None:
    plan = plan_of(STRING)
    batch = batch_of(plan, [[1], ["a"]], [0])
    with pytest.raises(ValueError, match="view: 4 columns expected, the Arrow batch has 3"):
        encode_rows(plan, batch, True)
    with pytest.raises(ValueError, match="the Arrow batch is no struct"):
        encode_rows(plan, batch.column(0))
    with pytest.raises(AttributeError):
        encode_rows(plan, {"id": [1]})  # type: ignore[arg-type]
    with pytest.raises(EncodeError, match="row 1: the whole row is null"):
        encode_rows(plan, pa.array([{"id": 1, "feature": "a", "t": datetime(2026, 1, 1)}, None]))


class Capsules:
    """Something that gives out what it is told, once."""

    def __init__(self, batch: Any):
        self.capsules = batch.__arrow_c_array__()

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        return self.capsules  # type: ignore[no-any-return]


def test_a_batch_that_somebody_else_consumed() -> None:
    plan = plan_of(STRING)
    batch = Capsules(batch_of(plan, [[1], ["a"]], [0]))
    pa.RecordBatch._import_from_c_capsule(*batch.capsules)
    with pytest.raises(ValueError):
        encode_rows(plan, batch)


@given(offsets=st.lists(st.integers(-3, 9), min_size=3, max_size=3))
@pytest.mark.parametrize("value_type", [STRING, INT64 + 10])
def test_offsets_out_of_order(value_type: int, offsets: list[int]) -> None:
    """Of texts, whose end nobody tells, and of lists, whose elements are counted."""
    memory = bytearray(12)
    buffer = pa.py_buffer(memory)
    if value_type == STRING:
        column = pa.Array.from_buffers(pa.string(), 2, [None, buffer, pa.py_buffer(b"abcdefghi")])
    else:
        column = pa.Array.from_buffers(pa.list_(pa.int64()), 2, [None, buffer], children=[pa.array(range(5))])
    arrays = [pa.array([1, 2]), column, pa.array([0, 0], TIME)]
    batch = pa.RecordBatch.from_arrays(arrays, names=["id", "feature", "t"])
    memory[:] = struct.pack("<3i", *offsets)  # now, since pyarrow looks at what it is given
    if 0 <= offsets[0] <= offsets[1] <= offsets[2] <= (9 if value_type == STRING else 5):
        values = [value for _, _, value, _ in encode_rows(plan_of(value_type), batch).items()]
        assert values == encode_column(column.to_pylist(), value_type)
    else:
        with pytest.raises(
            EncodeError, match=r"column 'feature', row [01]: the Arrow offsets -?\d and -?\d are not in"
        ):
            encode_rows(plan_of(value_type), batch)


@given(data=st.data())
def test_any_slice_of_any_slice(data: st.DataObject) -> None:
    """Offsets of the batch, of its columns and of their validity add up."""
    plan = WritePlan("view", ["id"], [STRING], ["a", "b", "c", "d"], [INT64, STRING + 10, BOOL, DOUBLE + 10], "bank")
    values: list[list[Any]] = [
        [str(i) for i in range(40)],
        data.draw(st.lists(st.none() | st.integers(-5, 5), min_size=40, max_size=40)),
        data.draw(st.lists(st.none() | st.lists(st.text(max_size=3), max_size=3), min_size=40, max_size=40)),
        data.draw(st.lists(st.none() | st.booleans(), min_size=40, max_size=40)),
        data.draw(st.lists(st.none() | st.lists(st.floats(), max_size=3), min_size=40, max_size=40)),
    ]
    whole = pa.StructArray.from_arrays(batch_of(plan, values, range(40)).columns, names=list("kabcdt"))
    first, start = data.draw(st.integers(0, 20)), data.draw(st.integers(0, 10))
    n = data.draw(st.integers(0, 10))
    rows = encode_rows(plan, whole.slice(first).slice(start, n))
    expected = list(encode_rows(plan, whole).records())[first + start :][:n]
    assert list(rows.records()) == expected
    for i, name in enumerate("abcd"):
        column = values[1 + i][first + start :][:n]
        assert [record[3][i] for record in expected] == encode_column(column, plan.feature_types[i]), name


def test_an_empty_batch() -> None:
    plan = plan_of(STRING)
    rows = encode_rows(plan, batch_of(plan, [[], []], []))
    assert (len(rows), rows.n_rows, rows.entity_keys(), list(rows.items())) == (0, 0, [], [])
    assert rows.commands(SHA) is None
    assert latest_rows(plan, batch_of(plan, [[], []], [])) == key_hashes(plan, batch_of(plan, [[], []], [])) == b""


# --- calls and replies -----------------------------------------------------------------------------------------------


def command_of(rows: EncodedRows, **options: Any) -> list[bytes]:
    """Return the first of the calls, taken apart."""
    rows.rewind()
    sent = rows.commands(SHA, **options)
    assert sent is not None
    return list(reference.parse_replies(sent)[0])


def many(n: int, features: int = 2) -> EncodedRows:
    names = [f"f{i}" for i in range(features)]
    plan = WritePlan("view", ["id"], [INT64], names, [INT64] * features, "bank")
    columns = [range(n), *([None if i % 7 == 0 else i for i in range(n)] for _ in names)]
    return encode_rows(plan, batch_of(plan, columns, range(n)))


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("limit", [1, 5000, 1 << 20])
def test_calls(n: int, limit: int) -> None:
    rows = many(n)
    calls = []
    while (sent := rows.commands(SHA, key_ttl=60, always=True, limit=limit)) is not None:
        calls += reference.parse_replies(sent)
    assert len(calls) == rows.handed_out == -(-n // 64)
    records = list(rows.records())
    for call in calls:
        count = int(call[2])
        here, records = records[:count], records[count:]
        assert call[:2] == [b"EVALSHA", SHA]
        assert call[3 : 3 + count] == [key + b"bank" for key, *_ in here]
        assert call[3 + count :][:6] == [b"2", b"60", b"1", b"_ts:view", *rows.plan.fields[:2]]
        times, *columns = (call[9 + count + i * count :][:count] for i in range(3))
        assert list(map(decode_timestamp, times)) == [record[1] for record in here]
        assert [list(column) for column in columns] == [[record[3][i] for record in here] for i in range(2)]
        assert len(call) == 9 + 4 * count
    assert not records


def test_wide_views_have_fewer_rows_in_a_call() -> None:
    assert [many(1, features).plan.rows_per_call for features in (1, 62, 63, 1000, 5000)] == [64, 64, 63, 4, 1]


@given(st.lists(st.integers(0, 64), min_size=1, max_size=5), st.integers(1, 7))
def test_replies_in_pieces(counts: list[int], piece: int) -> None:
    rows = many(64 * len(counts))
    assert rows.commands(SHA) is not None
    data = b"".join(b":%d\r\n" % count for count in counts)
    for start in range(0, len(data), piece):
        assert rows.answered < len(counts)
        done = rows.feed(bytearray(data[start : start + piece]) + b"old", min(piece, len(data) - start))
    assert done
    assert (rows.applied, rows.answered) == (sum(counts), len(counts))


def test_an_error_reply() -> None:
    rows = many(200)
    rows.commands(SHA)
    with pytest.raises(UnusualReply) as caught:
        rows.feed(b":64\r\n-OOM no memory\r\n")
    assert caught.value.rest == b"-OOM no memory\r\n"
    assert caught.value.key == rows.entity_key(64)
    assert (rows.applied, rows.answered, rows.first_unanswered) == (64, 1, 64)


def test_one_reply_too_many() -> None:
    rows = many(1)
    rows.commands(SHA)
    with pytest.raises(UnusualReply):
        rows.feed(b":1\r\n:1\r\n")


def test_rewind() -> None:
    rows = many(130)
    first = rows.commands(SHA, limit=1)
    rows.feed(b":64\r\n")
    rows.rewind()
    assert rows.commands(SHA, limit=1) == first
    assert (rows.handed_out, rows.answered, rows.applied) == (1, 0, 64)


def test_rows_outlive_their_batch() -> None:
    plan = plan_of(STRING)
    rows = encode_rows(plan, batch_of(plan, [range(1000), [f"text {i}" for i in range(1000)]], range(1000)))
    pa.default_memory_pool().release_unused()
    assert [value for _, _, value, _ in rows.items()] == encode_column([f"text {i}" for i in range(1000)], STRING)


# --- plans -----------------------------------------------------------------------------------------------------------


def test_a_plan() -> None:
    plan = WritePlan("view_v2", ["b", "a"], [STRING, INT64], ["y", "x"], [BOOL, 32], "bank")
    assert plan.columns == ("a", "b", "y", "x")
    assert plan.key_types == (INT64, STRING)
    assert plan.fields == (*(reference.field_id("view_v2", name) for name in "yx"), b"_ts:view_v2")
    assert (plan.prefix, plan.suffix) == (reference.entity_key_prefix(["a", "b"]), b"bank")


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ((["a", "a"], [2, 2], ["x"], [2]), "v: a name occurs twice in a, a"),
        ((["a"], [2], ["x", "x"], [2, 2]), "v: a name occurs twice in x, x"),
        ((["a"], [7], ["x"], [2]), "v: join key a: BOOL cannot be a key"),
        ((["a"], [2], ["x"], [0]), "v:x: value type 0 cannot be stored"),
        ((["a"], [2], ["x"], [49]), "v:x: value type 49 cannot be stored"),
        ((["a"], [2], ["x"], []), "v: 1 features, 0 types"),
    ],
)
def test_plans_that_are_refused(arguments: Any, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        WritePlan("v", *arguments, "bank")
    assert str(caught.value) == reason


def test_features_that_share_a_field() -> None:
    seen: dict[bytes, str] = {}
    for i in range(1 << 20):
        name = f"f{i}"
        field = field_id("v", name)
        if field in seen:
            break
        seen[field] = name
    with pytest.raises(ValueError, match=f"the features {seen[field]} and {name} share the field {field.hex()}"):
        WritePlan("v", ["a"], [STRING], [seen[field], name], [BOOL, BOOL], "bank")


def test_whose_key() -> None:
    plan = WritePlan("v", ["id"], [STRING], [], [], "nk")
    key = reference.serialize_entity_key(["id"], ["ba"], [STRING])
    assert plan.owns(key + b"nk")
    for other in (
        key + b"bank",
        key,
        b"",
        key[:-1],
        key + b"nk2",
        b"\x00" + key + b"nk",
        key[:20] + b"\xff" * 9 + b"nk",
    ):
        assert not plan.owns(other)
    dummy = WritePlan("v", [], [], [], [], "nk")
    assert dummy.owns(reference.serialize_entity_key(["__dummy_id"], [""], [STRING]) + b"nk")


# --- latest rows -----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.integers(-2, 2), st.none() | st.integers(-2, 2))),
    st.booleans(),
)
def test_latest_rows(rows: list[tuple[int, str, int, int | None]], created: bool) -> None:
    plan = WritePlan("view", ["a", "b"], [INT64, STRING], ["feature"], [BOOL], "bank")
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    batch = batch_of(plan, [*columns[:2], [None] * len(rows)], columns[2], columns[3] if created else None)
    best: dict[Any, tuple[Any, int]] = {}
    for i, (a, b, time, made) in enumerate(rows):
        order = (time, (made is not None, made or 0) if created else 0)
        if (a, b) not in best or order >= best[a, b][0]:
            best[a, b] = order, i
    found = struct.unpack(f"<{len(best)}q", latest_rows(plan, batch, created))
    assert list(found) == sorted(i for _, i in best.values())


def test_latest_rows_of_many() -> None:
    plan = plan_of(BOOL)
    n = 50_000
    ids = [(i * 7919) % 10_007 for i in range(n)]
    found = latest_rows(plan, batch_of(plan, [ids, [True] * n], [0] * n))
    assert list(struct.unpack(f"<{len(found) // 8}q", found)) == sorted({key: i for i, key in enumerate(ids)}.values())
    assert len(found) // 8 == 10_007


def test_latest_rows_know_nanoseconds() -> None:
    plan = plan_of(BOOL)
    times = pa.array([2, 1], pa.timestamp("ns"))
    batch = pa.RecordBatch.from_arrays([pa.array([1, 1]), pa.array([True, True]), times], names=["id", "f", "t"])
    assert latest_rows(plan, batch) == struct.pack("<q", 0)


def test_latest_rows_refuse_nulls() -> None:
    plan = plan_of(BOOL)
    with pytest.raises(EncodeError, match="column 'id', row 1"):
        latest_rows(plan, batch_of(plan, [[1, None], [True] * 2], [0, 0]))
    with pytest.raises(EncodeError, match="column 'event_timestamp', row 0"):
        latest_rows(plan, batch_of(plan, [[1, 2], [True] * 2], [None, 0]))  # type: ignore[list-item]
    with pytest.raises(EncodeError, match="column 'id', row 0"):
        key_hashes(plan, pa.RecordBatch.from_arrays([pa.array([None], pa.int64())], names=["id"]))


def test_the_hash_of_a_key_needs_only_the_key() -> None:
    plan = plan_of(BOOL)
    alone = pa.RecordBatch.from_arrays([pa.array([1, 2])], names=["id"])
    assert key_hashes(plan, alone) == key_hashes(plan, batch_of(plan, [[1, 2], [True] * 2], [0, 0], created=[0, 0]))


def test_no_zone_is_utc() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    batch = pa.RecordBatch.from_arrays(
        [pa.array([1]), pa.array([True]), pa.array([moment.replace(tzinfo=None)], pa.timestamp("us"))],
        names=["id", "f", "t"],
    )
    assert [record[1] for record in encode_rows(plan_of(BOOL), batch).records()] == [int(moment.timestamp()) * 10**6]
