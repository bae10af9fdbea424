"""Buffers of columns as NumPy has them: from hashes and from vectors, with and without nulls."""

from __future__ import annotations

import sys
from random import Random
from typing import Any

import numpy as np
import pytest

from fastserve import _core
from tests import reference_vector
from tests.core.requests import Request, typical
from tests.core.vectors import key_of, one_view, packed, read, value, vector_of
from tests.goldens import same

DTYPES = {3: "<i4", 4: "<i8", 5: "<f8", 6: "<f4", 7: "?", 8: "<M8[s]"}


def expected(values: list[Any], value_type: int) -> tuple[Any, str] | None:
    """Return what the column must hold, as Python values, and its dtype."""
    has_null = None in values
    if value_type not in DTYPES or (has_null and value_type == 7):
        return None
    if value_type == 8:
        return [None if value is None else value.replace(tzinfo=None) for value in values], "<M8[s]"
    dtype = "<f8" if has_null and value_type in (3, 4) else DTYPES[value_type]
    return [float("nan") if value is None else np.array(value, dtype).item() for value in values], dtype


def arrays(batch: _core.Batch) -> dict[str, tuple[np.ndarray[Any, Any], str]]:
    """Return name -> array and name of its dtype, of the columns that have a fixed width."""
    found = {}
    for names, buffer, dtype in _core.numpy_columns(batch):
        rows = np.frombuffer(buffer, dtype).reshape(len(names), batch.n_rows)
        found.update({name: (array, dtype) for name, array in zip(names, rows, strict=True)})
    return found


def objects(batch: _core.Batch, slots: list[_core.Slot]) -> list[list[Any]]:
    """Return the values of some features, as an array of objects has them."""
    array = np.empty((len(slots), batch.n_rows), object)
    _core.put_objects(batch, slots, array)
    rows: list[list[Any]] = array.tolist()
    return rows


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 200])
@pytest.mark.parametrize("from_vectors", [False, True])
def test_columns(n: int, from_vectors: bool) -> None:
    request: Request = typical(Random(n), n, n_views=2)
    batch = packed(request)[0] if from_vectors else request.filled()
    found = arrays(batch)
    for slot in batch.plan.outputs:
        values = _core.slot_values(batch, slot)
        wanted = expected(values, slot.value_type)
        assert (slot.name in found) == (wanted is not None)
        if wanted is None:
            assert same(objects(batch, [slot])[0], values)
        else:
            array, dtype = found[slot.name]
            assert same((array.tolist(), dtype), wanted)
            assert array.flags.writeable


def test_rows_that_have_no_vector() -> None:
    plan = one_view([("a", 4), ("b", 7), ("c", 6)])
    batch, missing = read(plan, ["C1", "C1", "C2"], {})
    assert len(missing) == 2
    found = arrays(batch)
    assert {name: dtype for name, (_, dtype) in found.items()} == {"a": "<f8", "c": "<f4"}
    assert all(np.isnan(array).all() for array, _ in found.values())


def test_columns_of_one_type_with_and_without_nulls() -> None:
    plan = one_view([("a", 4), ("b", 4), ("c", 7), ("d", 7)])
    one = {"a": value(int64_val=1), "b": value(int64_val=2), "c": value(bool_val=True)}
    two = {"a": value(int64_val=3), "c": value(bool_val=False), "d": value(bool_val=True)}
    stored = {key_of(key): vector_of(plan, reference_vector.Row(1, row)) for key, row in (("C1", one), ("C2", two))}
    found = arrays(read(plan, ["C1", "C2"], stored)[0])
    assert {name: (array.tolist(), dtype) for name, (array, dtype) in found.items() if name != "b"} == {
        "a": ([1, 3], "<i8"),
        "c": ([True, False], "?"),
    }
    assert same(found["b"][0].tolist(), [2.0, float("nan")])


def test_objects() -> None:
    values: list[Any] = [[1, 2], "a\0", None, (1,)]
    array = np.empty(4, object)
    assert _core.fill_objects(values, array) is array
    assert all(ours is theirs for ours, theirs in zip(array, values, strict=True))
    assert _core.fill_objects([], np.empty(0, object)).tolist() == []


def test_objects_of_several_features() -> None:
    request: Request = typical(Random(7), 9, n_views=2)
    batch = packed(request)[0]
    slots = list(batch.plan.outputs)
    assert same(objects(batch, slots), [_core.slot_values(batch, slot) for slot in slots])


def test_objects_of_a_feature_take_the_place_of_what_there_was() -> None:
    plan = one_view([("a", 2)])
    vector = vector_of(plan, reference_vector.Row(1, {"a": value(string_val="x")}))
    batch, _ = read(plan, ["C1", "C2"], {key_of("C1"): vector})
    before = object()
    references = sys.getrefcount(before)
    array = np.array([before, before], object)
    _core.put_objects(batch, plan.outputs, array)
    assert array.tolist() == ["x", None]
    assert sys.getrefcount(before) == references


@pytest.mark.parametrize("array", [np.empty(3, object), np.empty(2, "<i8"), np.empty(4, object)[::2]])
def test_arrays_that_are_not_for_these_objects(array: Any) -> None:
    batch = read(one_view([("a", 2)]), ["C1", "C2"], {})[0]
    with pytest.raises(ValueError):
        _core.fill_objects(["a", "b"], array)
    with pytest.raises(ValueError):
        _core.put_objects(batch, batch.plan.outputs, array)
