"""Buffers of columns as NumPy has them: from hashes and from vectors, with and without nulls."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from fastserve import _core
from tests.core.requests import Request, typical
from tests.core.vectors import one_view, packed, read
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


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 200])
@pytest.mark.parametrize("from_vectors", [False, True])
def test_columns(n: int, from_vectors: bool) -> None:
    request: Request = typical(Random(n), n, n_views=2)
    batch = packed(request)[0] if from_vectors else request.filled()
    for slot, found in zip(batch.plan.outputs, _core.numpy_columns(batch), strict=True):
        wanted = expected(_core.slot_values(batch, slot), slot.value_type)
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            array = np.frombuffer(found[0], found[1])
            assert same((array.tolist(), found[1]), wanted)
            assert array.flags.writeable


def test_rows_that_have_no_vector() -> None:
    plan = one_view([("a", 4), ("b", 7), ("c", 6)])
    batch, missing = read(plan, ["C1", "C1", "C2"], {})
    assert len(missing) == 2
    (whole, _), objects, (fraction, dtype) = _core.numpy_columns(batch)  # type: ignore[misc]
    assert objects is None
    assert np.isnan(np.frombuffer(whole, "<f8")).tolist() == [True] * 3
    assert (np.isnan(np.frombuffer(fraction, dtype)).tolist(), dtype) == ([True] * 3, "<f4")


def test_objects() -> None:
    values: list[Any] = [[1, 2], "a\0", None, (1,)]
    array = np.empty(4, object)
    assert _core.fill_objects(values, array) is array
    assert all(ours is theirs for ours, theirs in zip(array, values, strict=True))
    assert _core.fill_objects([], np.empty(0, object)).tolist() == []


@pytest.mark.parametrize("array", [np.empty(3, object), np.empty(2, "<i8"), np.empty(4, object)[::2]])
def test_arrays_that_are_not_for_these_objects(array: Any) -> None:
    with pytest.raises(ValueError):
        _core.fill_objects(["a", "b"], array)
