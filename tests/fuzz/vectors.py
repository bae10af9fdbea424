"""What the fuzzer does with precomputed vectors: packed ones, beside the oracle; Feast's; merging; replies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

from fastserve import _core
from fastserve._core import Batch, KeyGroup, ReadPlan, VectorLayout
from fastserve.errors import DecodeError, VectorStaleError, VectorVersionError
from tests import goldens, reference, reference_vector
from tests.core.requests import JOIN_KEY, PROJECT, frame_reply, typical
from tests.core.vectors import all_types, columns, every_form, stored_row, value, vector_plan, views_of
from tests.goldens import same
from tests.hostile import mutated

__all__ = ["TARGETS"]

REQUESTS = [typical(Random(1), 1, n_views=3), all_types()]
VIEWS = [views_of(request) for request in REQUESTS]
LAYOUTS = [VectorLayout(views) for views in VIEWS]
PLANS = [vector_plan(request.plan, layout) for request, layout in zip(REQUESTS, LAYOUTS, strict=True)]
VECTORS = [
    [
        reference_vector.pack(
            views, {view: stored_row(view, fs, request.hashes[0]) for view, fs in views if view != lost}
        )
        for lost in ("", "view_1")
    ]
    for request, views in zip(REQUESTS, VIEWS, strict=True)
]
FEAST = [bytes.fromhex(case["stored_value_hex"]) for case in goldens.load("precomputed_vectors")["stored"]]
REFUSALS = (DecodeError, VectorStaleError, VectorVersionError)


def fuzz_vector(rand: Random) -> None:
    """A packed vector that the oracle refuses is refused; of any other the answers are those of the hash it means."""
    which = rand.randrange(len(REQUESTS))
    data = mutated(rand, VECTORS[which])
    batch = batch_of(PLANS[which], data, REQUESTS[which].entities)
    try:
        rows = reference_vector.unpack(VIEWS[which], data)
    except reference.Unreadable:
        rows = None
    try:
        batch.unpack_vectors()
    except REFUSALS as error:
        check(rows is None, f"{data.hex()} is refused: {error}")
        check(not isinstance(error, DecodeError) or 0 <= error.offset <= len(data), f"offset of {error}")
        return
    check(rows is not None, f"{data.hex()} is not refused")
    assert rows is not None
    plain = REQUESTS[which].begin()
    for view in plain.groups[0].views:
        if row := rows.get(view.name):
            for name, stored in row.values.items():
                plain.put(0, 0, view.start + view.features.index(name), stored)
            clock = _core.encode_timestamp(row.event_time // 10**6, row.event_time % 10**6 * 1000)
            plain.put(0, 0, view.event_time, clock)
    for form in (every_form, columns):
        ours, theirs = outcome(form, batch), outcome(form, plain)
        # A null timestamp is an unset Value from a vector, and may be INT64_MIN seconds from a hash.
        check(same(ours, theirs) or has_null_seconds(rows), f"{data.hex()} is read as another hash")


def batch_of(plan: ReadPlan, vector: bytes, entities: list[str]) -> Batch:
    batch = Batch(plan, {JOIN_KEY: entities}, 1)
    batch.put(0, 0, 0, vector)
    return batch


def outcome(form: Callable[[Batch], object], batch: Batch) -> object:
    """Return the answer, or that there is none."""
    try:
        return form(batch)
    except DecodeError as error:
        check(error.field is not None and error.key is not None, f"{error} does not name its place")
        return DecodeError


def has_null_seconds(rows: dict[str, reference_vector.Row]) -> bool:
    sentinel = value(unix_timestamp_val=reference.NULL_SECONDS)
    return any(sentinel in row.values.values() for row in rows.values())


def feast_plan() -> ReadPlan:
    """Return a plan that reads the recorded vectors of Feast's."""
    from tests.core.test_vector_feast import CLOCKS, FIELD, NAMES, SLOTS, STORED

    options: Any = {"vector_format": "feast", "vector_field": FIELD, "vector_names": NAMES, "vector_views": CLOCKS}
    group = KeyGroup((JOIN_KEY,), (JOIN_KEY,), (2,), STORED, PROJECT, **options)
    return ReadPlan([group], SLOTS, join_keys={JOIN_KEY: 2}, required={JOIN_KEY: []})


FEAST_PLAN = feast_plan()


def fuzz_feast(rand: Random) -> None:
    """Feast's vectors, and every form of the answer."""
    batch = batch_of(FEAST_PLAN, mutated(rand, FEAST), ["C"])
    with contextlib.suppress(DecodeError, VectorStaleError):
        batch.unpack_vectors()
    outcome(every_form, batch)
    outcome(columns, batch)


def fuzz_merge(rand: Random) -> None:
    """merge_vectors of whatever is stored; what comes out has the form of a vector."""
    which = rand.randrange(len(REQUESTS))
    layout, source = LAYOUTS[which], rand.randrange(3)
    stored = rand.choice([None, *VECTORS[which], mutated(rand, VECTORS[which])])
    given = mutated(rand, VECTORS[which]) if rand.random() < 0.5 else rand.choice(VECTORS[which])
    try:
        merged, _ = _core.merge_vectors(layout, stored, given, source)
    except ValueError:
        return
    check(_core.merge_vectors(layout, merged, merged, source)[0] == merged, f"{merged.hex()} is not its own merger")


def fuzz_replies(rand: Random) -> None:
    """Replies to MGET of vectors, and to the script that merges them."""
    which = rand.randrange(len(REQUESTS))
    batch = Batch(PLANS[which], {JOIN_KEY: ["C", "D"]}, 2)
    batch.commands()
    reply = mutated(rand, [frame_reply([VECTORS[which][0], None]), frame_reply(VECTORS[which])])
    cut = rand.randrange(len(reply) + 1)
    with contextlib.suppress(_core.UnusualReply, *REFUSALS):
        _ = batch.feed(reply[:cut]) or batch.feed(reply[cut:])
        batch.unpack_vectors()
    outcome(every_form, batch)
    vectors = _core.pack_batch(LAYOUTS[which], REQUESTS[which].filled(), 0)
    vectors.commands(b"sha", b"", b"", b"")
    with contextlib.suppress(_core.UnusualReply):
        vectors.feed(mutated(rand, [b"*0\r\n", b"*1\r\n:1\r\n", b"*1\r\n:-1\r\n"]))
    check(all(row == 0 for row in vectors.unresolved), f"rows {vectors.unresolved} of 1")


def check(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


TARGETS = [fuzz_vector, fuzz_vector, fuzz_feast, fuzz_merge, fuzz_replies]
