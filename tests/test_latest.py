"""The latest row of each key, whatever the memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fastserve._core import WritePlan
from fastserve.errors import WriteError
from fastserve.latest import LatestRows, deal
from fastserve.types import ValueType
from tests.conftest import Rand

PLAN = WritePlan("v", ["k"], [ValueType.INT64], ["f"], [ValueType.INT64], "test")


def random_rows(rand: Rand, n_rows: int, n_keys: int) -> list[tuple[int, int, int, int | None]]:
    return [
        (rand.randrange(n_keys), number, rand.randrange(5), rand.choice([None, 0, 1, 2])) for number in range(n_rows)
    ]


def batches_of(rows: list[tuple[int, int, int, int | None]], size: int) -> Iterator[Any]:
    micros = pa.timestamp("us", "UTC")
    for start in range(0, len(rows), size):
        key, feature, event, created = zip(*rows[start : start + size], strict=True)
        arrays = [pa.array(key), pa.array(feature), pa.array(event, micros), pa.array(created, micros)]
        yield pa.RecordBatch.from_arrays(arrays, names=["k", "f", "ts", "created"])


def latest_by_hand(rows: list[tuple[int, int, int, int | None]]) -> dict[int, int]:
    found: dict[int, tuple[int, int, int]] = {}
    for key, feature, event, created in rows:
        order = (event, -1 if created is None else created, feature)
        found[key] = max(order, found.get(key, order))
    return {key: order[2] for key, order in found.items()}


@pytest.mark.parametrize("n_keys", [3, 2000, 10**9])
@pytest.mark.parametrize("budget", [1 << 30, 4000, 500])
def test_latest_rows_whatever_the_memory(rand: Rand, tmp_path: Path, n_keys: int, budget: int) -> None:
    rows = random_rows(rand, 3000, n_keys)
    with LatestRows(PLAN, True, budget, tmp_path) as latest:
        for batch in batches_of(rows, 100):
            latest.add(batch)
        found = [
            row
            for batch, numbers in latest.rows()
            for row in batch.take(pa.array(memoryview(numbers).cast("q"))).to_pylist()
        ]
        assert len(found) == len({row["k"] for row in found})
        assert {row["k"]: row["f"] for row in found} == latest_by_hand(rows)
    assert [*tmp_path.iterdir()] == []


def test_the_files_go_also_after_an_error(rand: Rand, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), LatestRows(PLAN, True, 500, tmp_path) as latest:
        for batch in batches_of(random_rows(rand, 500, 10**9), 100):
            latest.add(batch)
        assert [*tmp_path.iterdir()] != []
        next(latest.rows())
        raise KeyboardInterrupt
    assert [*tmp_path.iterdir()] == []


def test_batches_of_equal_meaning_may_differ_in_type(tmp_path: Path) -> None:
    with LatestRows(WritePlan("v", ["k"], [ValueType.STRING], [], [], "test"), False) as latest:
        for texts, unit in ((pa.string(), "us"), (pa.large_string(), "ns")):
            times = pa.array([1000], pa.timestamp(unit, "UTC"))
            latest.add(pa.RecordBatch.from_arrays([pa.array(["a"], texts), times], names=["k", "ts"]))
        assert [len(memoryview(numbers)) // 8 for _, numbers in latest.rows()] == [1]


def test_dealing_keeps_rows_of_a_key_together(rand: Rand) -> None:
    rows = random_rows(rand, 1000, 50)
    parts: dict[int, int] = {}
    for batch in batches_of(rows, 100):
        for part, found in deal(PLAN, batch, 8, 5):
            assert all(parts.setdefault(key, part) == part for key in found.column("k").to_pylist())
    assert 1 < len(set(parts.values())) <= 8


def test_a_damaged_text_names_the_view() -> None:
    text = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    times = pa.array([0], pa.timestamp("us", "UTC"))
    plan = WritePlan("v", ["k"], [ValueType.STRING], [], [], "test")
    with LatestRows(plan, False) as latest, pytest.raises(WriteError, match="feature view v: column 'k', row 0"):
        latest.add(pa.RecordBatch.from_arrays([text, times], names=["k", "ts"]))
        next(latest.rows())


@pytest.mark.parametrize("budget", [1 << 30, 4000, 500])
def test_how_many_there_will_be(rand: Rand, tmp_path: Path, budget: int) -> None:
    rows = random_rows(rand, 3000, 2000)
    with LatestRows(PLAN, True, budget, tmp_path) as latest:
        assert latest.count() == 0
        for batch in batches_of(rows, 100):
            latest.add(batch)
        expected = latest.count()
        found = sum(len(numbers) // 8 for _, numbers in latest.rows())
    assert found == len(latest_by_hand(rows))
    assert expected == found if budget == 1 << 30 else found <= expected <= len(rows)
