"""Two packed vectors of an entity become one: segment by segment, as the oracle has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._core import VectorLayout, merge_vectors
from tests import reference_vector
from tests.core.vectors import value
from tests.reference_vector import Row

VIEWS = [("a", [("x", 4), ("y", 2)]), ("b", []), ("c", [(str(i), 7) for i in range(9)])]
LAYOUT = VectorLayout(VIEWS)
TIMES = [-(2**50), -1, 0, 1, 2**32 - 1, 2**32, 2**33]


@st.composite
def vectors(draw: st.DrawFn) -> bytes:
    rows = {}
    for name, features in VIEWS:
        if draw(st.booleans()):
            stored = [feature for feature in features if draw(st.integers(0, 3))]
            members = {4: "int64_val", 2: "string_val", 7: "bool_val"}
            held = {4: draw(st.integers(0, 9)), 2: draw(st.text(max_size=3)), 7: draw(st.booleans())}
            values = {feature: value(**{members[number]: held[number]}) for feature, number in stored}
            rows[name] = Row(draw(st.sampled_from(TIMES)), values)
    return reference_vector.pack(VIEWS, rows)


@given(st.none() | vectors(), vectors(), st.sampled_from([0, 1, 2]))
def test_merging_is_that_of_the_oracle(stored: bytes | None, given_vector: bytes, source: int) -> None:
    assert merge_vectors(LAYOUT, stored, given_vector, source) == reference_vector.merge(
        VIEWS, stored, given_vector, source
    )


@given(vectors(), vectors(), st.sampled_from([0, 1]))
def test_merging_twice_is_merging_once(stored: bytes, given_vector: bytes, source: int) -> None:
    once, _ = merge_vectors(LAYOUT, stored, given_vector, source)
    assert merge_vectors(LAYOUT, once, given_vector, source)[0] == once


@pytest.mark.parametrize("stored", [b"", b"junk", VectorLayout([("z", [])]).head + bytes(50)])
def test_what_is_no_vector_is_replaced(stored: bytes) -> None:
    vector = reference_vector.pack(VIEWS, {"a": Row(5, {})})
    assert merge_vectors(LAYOUT, stored, vector) == (vector, True)
    assert merge_vectors(LAYOUT, stored, vector, 1) == (vector, False)


def test_only_vectors_of_the_layout_are_merged() -> None:
    with pytest.raises(ValueError, match="not a vector of the layout"):
        merge_vectors(LAYOUT, None, b"junk")
