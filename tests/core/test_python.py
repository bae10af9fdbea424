"""Values decoded while replies are on their way: the same as those decoded when all are in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import numpy as np
import pytest

from fastserve import _core
from fastserve._core import Batch, ReadPlan
from fastserve.errors import DecodeError
from tests import reference_vector
from tests.core.requests import JOIN_KEY, Request, frame_reply, make_plan, typical
from tests.core.test_vector_feast import plan_of, vector
from tests.core.vectors import key_of, layout_of, one_view, replies_to, value, vector_of, vector_plan
from tests.goldens import same

N = 40
ENTITIES = [f"C{i}" for i in range(N)]


def hashes(n: int = N) -> tuple[Request, ReadPlan, bytes]:
    request = typical(Random(5), n, n_views=2)
    return request, make_plan(request.features), request.replies()


def vectors(n: int = N) -> tuple[Request, ReadPlan, bytes]:
    request = typical(Random(6), n, n_views=2)
    layout = layout_of(request)
    stored = dict(_core.pack_batch(layout, request.filled(), 0).items())
    plan = vector_plan(request.plan, layout)
    return request, plan, replies_to(Batch(plan, {JOIN_KEY: request.entities}, n), stored)


def feast_vectors(n: int = N) -> tuple[Request, ReadPlan, bytes]:
    """Vectors with a value that is long, in other orders, and with views that nobody asked for."""
    texts = ["x" * (i * 9 % 300) for i in range(n)]
    times = [("txn_7d", 5), ("customer_profile", 6), ("other", 7)]
    stored = [
        vector(values=[value(double_val=i), b"", value(float_val=2), value(int32_val=i), value(string_val=text)],
               times=times[i % 3 :] + times[: i % 3])
        for i, text in enumerate(texts)
    ]  # fmt: skip
    stored[7] = vector(values=[b""] * 5, times=[])
    request = Request(plan_of(), (), [f"C{i}" for i in range(n)], [])
    return request, request.plan, b"".join(frame_reply([None if i == 9 else one]) for i, one in enumerate(stored))


def fed(plan: ReadPlan, entities: list[str], pieces: Iterator[bytes]) -> Batch:
    batch = Batch(plan, {JOIN_KEY: entities}, len(entities))
    assert b"".join(iter(batch.commands, None))
    assert [batch.feed(piece) for piece in pieces][-1]
    batch.unpack_vectors()
    return batch


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 13, 500, 4000])
@pytest.mark.parametrize("kind", [hashes, vectors, feast_vectors])
def test_the_same_values(kind: Callable[[], tuple[Request, ReadPlan, bytes]], size: int) -> None:
    request, plan, replies = kind()
    at_once = fed(plan, request.entities, cut(replies, size))
    assert at_once.ahead is None, "nobody has asked for Python values so far"
    expected = _core.python_columns(at_once, True)
    ahead = fed(plan, request.entities, cut(replies, size))
    assert ahead.ahead is not None
    assert sum(len(column) - column.count(None) for column in ahead.ahead) > N * len(ahead.ahead) // 3
    assert same(_core.python_columns(ahead, True), expected)
    again = _core.python_columns(ahead, True)
    assert same(again, expected)
    assert again[plan.outputs[0].name] is not expected[plan.outputs[0].name]
    fed(plan, request.entities, cut(replies, size))
    assert fed(plan, request.entities, cut(replies, size)).ahead is None, "the last answer was asked for in no form"


def arrays(batch: Batch) -> list[object]:
    """Return all that makes up the answer for NumPy, twice."""
    slots = [slot for slot in batch.plan.outputs if slot.value_type in (1, 2)]
    found: list[object] = []
    for _ in range(2):
        found.append([(names, bytes(values), dtype) for names, values, dtype in _core.numpy_columns(batch)])
        objects = np.empty((len(slots), N), object)
        _core.put_objects(batch, slots, objects)
        found[-1] = found[-1], objects.tolist()
    return found


@pytest.mark.parametrize("size", [1, 13, 500, 4000])
@pytest.mark.parametrize("kind", [hashes, vectors, feast_vectors])
def test_the_same_arrays(kind: Callable[[], tuple[Request, ReadPlan, bytes]], size: int) -> None:
    request, plan, replies = kind()
    expected, again = arrays(fed(plan, request.entities, cut(replies, size)))
    ahead = fed(plan, request.entities, cut(replies, size))
    assert ahead.ahead is not None
    assert len(ahead.ahead) == sum(slot.value_type == 2 for slot in plan.outputs)
    assert expected == again
    assert arrays(ahead) == [expected, again]
    assert fed(plan, request.entities, cut(replies, size)).ahead is not None
    batch = fed(plan, request.entities, cut(replies, size))
    assert same(_core.python_columns(batch), _core.python_columns(ahead)), "another form than that which was begun"


def test_rows_that_share_entities_are_decoded_at_the_end() -> None:
    request, plan, replies = hashes()
    entities = [*request.entities, request.entities[0]]
    expected = _core.python_columns(fed(plan, entities, cut(replies, 500)))
    batch = fed(plan, entities, cut(replies, 500))
    assert batch.ahead == [[None] * (N + 1) for _ in plan.outputs]
    assert same(_core.python_columns(batch), expected)


@pytest.mark.parametrize("enforce", [False, True])
def test_ttl(enforce: bool) -> None:
    plan = one_view([("a", 4)], ttl=60, enforce_ttl=enforce)
    stored = {key_of(e): vector_of(plan, reference_vector.Row(5_000_000, {"a": value(int64_val=7)})) for e in ENTITIES}
    replies = replies_to(Batch(plan, {JOIN_KEY: ENTITIES}, N), stored)
    for _ in range(2):
        batch = fed(plan, ENTITIES, cut(replies, 200))
        assert _core.python_columns(batch)["a"] == [None if enforce else 7] * N


def test_a_damaged_value_is_named_when_all_are_in() -> None:
    """Decoding ahead ends there, and so it does not for the next request."""
    request, plan, _ = hashes()
    field = plan.groups[0].fields[0]
    request.hashes[3][field] = b"\x12\x05ab"
    damaged = request.replies()
    _core.python_columns(fed(plan, ENTITIES[:1], cut(frame_reply([None] * len(plan.groups[0].fields)), 50)))
    batch = fed(plan, request.entities, cut(damaged, 500))
    assert batch.ahead is None
    for _ in range(2):
        with pytest.raises(DecodeError) as raised:
            _core.python_columns(batch)
        assert (raised.value.key, raised.value.field) == (key_of(request.entities[3]).hex(), plan.outputs[0].label)
    request.hashes[3][field] = b""
    assert fed(plan, request.entities, cut(request.replies(), 500)).ahead is not None


def test_a_rewound_batch_decodes_anew() -> None:
    request, plan, replies = hashes()
    expected = _core.python_columns(fed(plan, request.entities, cut(replies, 500)))
    batch = Batch(plan, {JOIN_KEY: request.entities}, N)
    others = typical(Random(9), N, n_views=2).replies()
    batch.commands()
    assert not batch.feed(others[:-50])
    assert batch.ahead is not None
    batch.rewind()
    assert batch.ahead is None
    batch.commands()
    assert [batch.feed(piece) for piece in cut(replies, 500)][-1]
    assert same(_core.python_columns(batch), expected)
