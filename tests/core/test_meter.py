"""Counters, histograms and what a read adds to."""

from __future__ import annotations

import struct
import time
from random import Random

import pytest

from fastserve._core import Batch, Counter, Histogram, PlanMeter, ReadMeter, ReadPlan, statuses
from tests import reference
from tests.core.requests import Request, make_plan, typical
from tests.core.test_vector import packed
from tests.reference import Feature, Value

STATUSES = ("PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE")


def numbers(buffer: bytearray) -> list[int]:
    return list(struct.unpack(f"{len(buffer) // 8}q", buffer))


def by_view(plan: ReadPlan, buffer: bytearray) -> PlanMeter:
    """Return a meter with four counters per view, one view after the other."""
    views: dict[str, list[int]] = {}
    for index, slot in enumerate(plan.outputs):
        views.setdefault(slot.label.partition(":")[0], []).append(index)
    counters = [[Counter(buffer, 4 * i + k) for k in range(4)] for i in range(len(views))]
    return PlanMeter(plan, None, None, zip(views.values(), counters, strict=True))


def expected(batch: Batch, views: list[str]) -> list[int]:
    """Count the statuses that the answer has."""
    answer = statuses(batch)
    found = [
        [status for name, column in answer.items() if name.startswith(f"{view}__") for status in column]
        for view in views
    ]
    return [column.count(status) for column in found for status in STATUSES]


# --- cells -----------------------------------------------------------------------------------------------------------


def test_a_counter_adds_to_its_cell_alone() -> None:
    buffer = bytearray(24)
    counter = Counter(buffer, 1)
    counter.add()
    counter.add(5)
    assert (numbers(buffer), counter.value) == ([0, 6, 0], 6)
    counter.set(-2)
    assert numbers(buffer) == [0, -2, 0]


def test_a_bound_belongs_to_the_bucket_below() -> None:
    buffer = bytearray(40)
    histogram = Histogram(buffer, 0, [10, 20])
    for value in (0, 10, 11, 20, 21, 1000):
        histogram.observe(value)
    assert numbers(buffer) == [2, 2, 2, 1062, 0]


@pytest.mark.parametrize(("size", "first"), [(8, 1), (8, -1), (7, 0), (0, 0)])
def test_cells_outside_of_the_buffer_are_refused(size: int, first: int) -> None:
    with pytest.raises(ValueError, match=f"not in a buffer of {size} bytes"):
        Counter(bytearray(size), first)
    with pytest.raises(ValueError, match="not in a buffer"):
        Histogram(bytearray(16), 0, [1])


def test_a_buffer_must_be_writable_and_stays_in_place() -> None:
    with pytest.raises(BufferError):
        Counter(bytes(8), 0)
    buffer = bytearray(8)
    counter = Counter(buffer, 0)
    with pytest.raises(BufferError):
        buffer.extend(bytes(8))
    with pytest.raises(ValueError, match="open already"):
        counter.__init__(buffer, 0)  # type: ignore[misc]
    del counter
    buffer.extend(bytes(8))


# --- statuses --------------------------------------------------------------------------------------------------------


def test_statuses_are_counted_per_view(rand: Random) -> None:
    request = typical(rand, 20, 3)
    request.hashes[3].clear()
    views = ["view_0", "view_1", "view_2"]
    buffer = bytearray(8 * 12)
    batch = request.filled()
    meter = by_view(request.plan, buffer)
    meter.count(batch)
    assert numbers(buffer) == expected(batch, views)
    assert sum(numbers(buffer)) == 20 * 24
    assert numbers(buffer)[2] >= 8  # the row that has nothing
    meter.count(batch)
    assert numbers(buffer) == [2 * count for count in expected(batch, views)]


def test_statuses_of_packed_vectors_are_the_same(rand: Random) -> None:
    request = typical(rand, 20, 3)
    for name in (*request.plan.groups[0].views[0].features, ""):
        request.hashes[3].pop(reference.field_id("view_0", name) if name else reference.timestamp_field("view_0"))
    buffer = bytearray(8 * 12)
    batch, _ = packed(request)
    by_view(batch.plan, buffer).count(batch)
    assert numbers(buffer) == expected(batch, ["view_0", "view_1", "view_2"])
    assert numbers(buffer)[2] >= 8
    assert sum(numbers(buffer)[1::4]) > 0


def test_old_values_are_counted_as_such() -> None:
    old, new = int(time.time()) - 90_000, int(time.time()) - 10
    features = (Feature("v", "f", "v__f", reference.FIELD_NUMBERS["int64_val"], ttl=86_400),)
    hashes: list[reference.Hash] = [
        {
            reference.field_id("v", "f"): Value(int64_val=1).SerializeToString(),
            reference.timestamp_field("v"): reference.encode_timestamp(moment, 0),
        }
        for moment in (old, new, old)
    ]
    request = Request(make_plan(features), features, ["a", "b", "c"], hashes)
    buffer = bytearray(32)
    by_view(request.plan, buffer).count(request.filled())
    assert numbers(buffer) == [1, 0, 0, 2]


def test_nulls_have_three_forms() -> None:
    names = ("string_val", "int64_val", "unix_timestamp_val", "unix_timestamp_val", "null_val")
    values = (Value(), Value(null_val=0), Value(unix_timestamp_val=-(2**63)), Value(unix_timestamp_val=0), Value())
    features = tuple(
        Feature("v", f"f{i}", f"v__f{i}", reference.FIELD_NUMBERS[name]) for i, name in enumerate(names[:4])
    )
    stored: reference.Hash = {
        reference.field_id("v", f"f{i}"): value.SerializeToString() for i, value in enumerate(values[:4])
    }
    request = Request(make_plan(features), features, ["a"], [stored])
    buffer = bytearray(32)
    batch = request.filled()
    by_view(request.plan, buffer).count(batch)
    assert numbers(buffer) == [1, 3, 0, 0] == expected(batch, ["v"])


@pytest.mark.parametrize("n_rows", [0, 1, 64, 65, 127, 128, 129, 500])
def test_of_many_rows_some_stand_for_all(rand: Random, n_rows: int) -> None:
    request = typical(rand, n_rows, 1)
    buffer = bytearray(32)
    batch = request.filled()
    by_view(request.plan, buffer).count(batch)
    assert sum(numbers(buffer)) == 8 * n_rows
    if n_rows <= 64:
        assert numbers(buffer) == expected(batch, ["view_0"])
    for stored in request.hashes:
        stored.clear()
    by_view(request.plan, buffer).count(request.filled())
    assert numbers(buffer)[2] == 8 * n_rows


def test_a_damaged_value_is_no_error_here(rand: Random) -> None:
    request = typical(rand, 1, 1)
    for stored in request.hashes:
        stored.update({field: b"\xff" for field in stored if not field.startswith(b"_ts:")})
    buffer = bytearray(32)
    by_view(request.plan, buffer).count(request.filled())
    assert numbers(buffer) == [8, 0, 0, 0]


def test_a_meter_wants_outputs_and_counters(rand: Random) -> None:
    plan = typical(rand, 1, 1).plan
    four = [Counter(bytearray(8), 0)] * 4
    with pytest.raises(IndexError):
        PlanMeter(plan, None, None, [([8], four)])
    with pytest.raises(TypeError, match="Counter expected, got int"):
        PlanMeter(plan, None, None, [([0], [1, 2, 3, 4])])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="values to unpack"):
        PlanMeter(plan, None, None, [([0], four[:3])])


# --- reads -----------------------------------------------------------------------------------------------------------


class Metered:
    """A ReadMeter over a buffer, with one bound of an hour in each histogram."""

    def __init__(self) -> None:
        self.buffer = bytearray(8 * 64)
        self.counters = {name: i for i, name in enumerate(("requests", "succeeded", "failed", "in_flight"))}
        names = ("entities", "queue", "store", "decode", "failed_latency", "latency")
        self.histograms = {name: 4 + 3 * i for i, name in enumerate(names)}
        self.made: list[ReadPlan] = []
        named = {name: Histogram(self.buffer, first, [3600 * 10**9]) for name, first in self.histograms.items()}
        self.latency = named.pop("latency")
        counters = {name: Counter(self.buffer, first) for name, first in self.counters.items()}
        self.meter = ReadMeter(self.plan_meter, **counters, **named)  # type: ignore[arg-type]

    def plan_meter(self, plan: ReadPlan, owner: ReadMeter) -> PlanMeter:
        self.made.append(plan)
        return PlanMeter(plan, owner, self.latency, [])

    def counts(self) -> dict[str, int]:
        """Return what is not 0: counters, and how many values each histogram has."""
        cells = numbers(self.buffer)
        found = {name: cells[i] for name, i in self.counters.items()}
        found |= {name: cells[i] + cells[i + 1] for name, i in self.histograms.items()}
        return {name: count for name, count in found.items() if count}

    def total(self, name: str) -> int:
        return numbers(self.buffer)[self.histograms[name] + 2]


def test_a_read_is_counted_once_with_its_stages(rand: Random) -> None:
    metered = Metered()
    timer = metered.meter.begin()
    assert metered.counts() == {"in_flight": 1}
    timer.sent()
    timer.answered()
    batch = typical(rand, 3, 1).filled()
    timer.done(batch)
    expected = dict.fromkeys(("requests", "succeeded", "entities", "queue", "store", "decode", "latency"), 1)
    assert metered.counts() == expected
    timer.done(batch)
    timer.failed()
    assert metered.counts() == expected
    assert metered.total("entities") == 3
    stages = sum(metered.total(stage) for stage in ("queue", "store", "decode"))
    assert stages == metered.total("latency") == timer.nanoseconds > 0


def test_the_time_of_arrival_can_be_given(rand: Random) -> None:
    metered = Metered()
    before = time.monotonic_ns() - 5 * 10**9
    timer = metered.meter.begin(before)
    timer.done(typical(rand, 1, 1).filled())
    assert timer.arrived == before
    assert timer.nanoseconds >= 5 * 10**9
    assert metered.meter.begin().arrived >= before + 5 * 10**9


def test_the_meter_of_a_plan_is_made_once(rand: Random) -> None:
    metered, other = Metered(), Metered()
    request = typical(rand, 1, 1)
    for _ in range(3):
        metered.meter.begin().done(request.filled())
    assert metered.made == [request.plan]
    other.meter.begin().done(request.filled())
    assert other.made == [request.plan]
    assert other.counts()["latency"] == 1


@pytest.mark.parametrize("asked", [False, True])
def test_a_failure_is_counted(asked: bool) -> None:
    metered = Metered()
    timer = metered.meter.begin()
    if asked:
        timer.sent()
    timer.failed()
    expected = {"requests": 1, "failed": 1, "failed_latency": 1}
    assert metered.counts() == (expected | {"store": 1} if asked else expected)


def test_who_leaves_is_not_in_flight() -> None:
    metered = Metered()
    timers = [metered.meter.begin() for _ in range(3)]
    assert metered.counts() == {"in_flight": 3}
    timers[0].left()
    timers[0].left()
    timers[0].failed()
    assert metered.counts() == {"in_flight": 2}
    del timers
    assert metered.counts() == {}


def test_what_is_switched_off_is_left_out(rand: Random) -> None:
    request = typical(rand, 1, 1)
    meter = ReadMeter(lambda plan, owner: PlanMeter(plan, owner, None, []))
    timer = meter.begin()
    timer.sent()
    timer.answered()
    timer.done(request.filled())
    meter.begin().failed()
    meter.begin().left()
    assert timer.nanoseconds > 0
