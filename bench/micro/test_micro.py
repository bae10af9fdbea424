"""The steps of a read, done by the compiled core and by the protobuf package with plain Python (`tests/reference.py`).

    python -m pytest bench/micro --benchmark-group-by=group,param:n --benchmark-columns=median,iqr,rounds

Six views of eight features that share a join key, for 1 and for 100 customers. Both sides start from the same bytes,
and are checked to give the same result before they are measured. Not part of the tests: `make bench` runs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from fastserve import _core
from tests import reference, reference_vector
from tests.core.requests import JOIN_KEY, Request, typical
from tests.core.vectors import layout_of, replies_to, vector_plan, views_of
from tests.goldens import same

SIZES = [1, 100]


@pytest.fixture(params=SIZES, ids=lambda n: f"{n}-entities")
def request_(request: pytest.FixtureRequest) -> Request:
    """The request that is measured: the same in every run."""
    return typical(Random(2026), request.param)


# --- key serialisation: rows -> commands -----------------------------------------------------------------------------


def core_keys(request: Request) -> Callable[[], bytes | None]:
    plan, columns, n = request.plan, {JOIN_KEY: request.entities}, len(request.entities)
    return lambda: _core.Batch(plan, columns, n).commands()


def reference_keys(request: Request) -> Callable[[], bytes]:
    fields = request.plan.groups[0].fields

    def run() -> bytes:
        keys = {
            reference.serialize_entity_key([JOIN_KEY], [name], [reference.STRING]) + b"bank"
            for name in request.entities
        }
        return b"".join(reference.hmget(key, fields) for key in keys)

    return run


# --- reply decoding: RESP -> the Python value of every feature -------------------------------------------------------


def core_replies(request: Request) -> Callable[[], list[list[Any]]]:
    replies, batch = request.replies(), request.begin()

    def run() -> list[list[Any]]:
        batch.rewind()
        batch.commands()  # a Batch takes only replies to what it asked for
        batch.feed(replies)
        return [_core.slot_values(batch, slot) for slot in request.plan.outputs]

    return run


def reference_replies(request: Request) -> Callable[[], list[list[Any]]]:
    replies, fields = request.replies(), request.plan.groups[0].fields

    def run() -> list[list[Any]]:
        hashes = [dict(zip(fields, reply, strict=True)) for reply in reference.parse_replies(replies)]
        return [
            [reference.decode_value(row[reference.field_id(feature.view, feature.name)]) for row in hashes]
            for feature in request.features
        ]

    return run


# --- response dict: what is stored -> to_dict with event times -------------------------------------------------------


def core_dict(request: Request) -> Callable[[], dict[str, list[Any]]]:
    batch = request.filled()
    return lambda: _core.python_columns(batch, True)


def reference_dict(request: Request) -> Callable[[], dict[str, list[Any]]]:
    return lambda: reference.to_dict({JOIN_KEY: request.entities}, request.columns, timestamps=True)


# --- JSON: what is stored -> the body of the HTTP answer -------------------------------------------------------------


def core_json(request: Request) -> Callable[[], bytes]:
    batch = request.filled()
    return lambda: _core.json_response(batch)


def reference_json(request: Request) -> Callable[[], bytes]:
    def run() -> bytes:
        answer = reference.to_json({JOIN_KEY: request.entities}, request.columns)
        return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()

    return run


# --- packed vectors: the replies of MGET -> to_dict ------------------------------------------------------------------


def core_packed(request: Request) -> Callable[[], dict[str, list[Any]]]:
    layout = layout_of(request)
    vectors = dict(_core.pack_batch(layout, request.filled(), 0).items())
    batch = _core.Batch(vector_plan(request.plan, layout), {JOIN_KEY: request.entities}, len(request.entities))
    replies = replies_to(batch, vectors)

    def run() -> dict[str, list[Any]]:
        batch.rewind()
        batch.commands()
        batch.feed(replies)
        batch.unpack_vectors()
        return _core.python_columns(batch)

    return run


def reference_packed(request: Request) -> Callable[[], dict[str, list[Any]]]:
    views, layout = views_of(request), layout_of(request)
    vectors = [vector for _, vector in _core.pack_batch(layout, request.filled(), 0).items()]

    def run() -> dict[str, list[Any]]:
        found = [reference_vector.unpack(views, vector) for vector in vectors]
        answer: dict[str, list[Any]] = {JOIN_KEY: list(request.entities)}
        for feature in request.features:
            answer[feature.output] = [reference.decode_value(rows[feature.view].values[feature.name]) for rows in found]
        return answer

    return run


GROUPS: dict[str, dict[str, Callable[[Request], Callable[[], Any]]]] = {
    "keys": {"core": core_keys, "reference": reference_keys},
    "replies": {"core": core_replies, "reference": reference_replies},
    "dict": {"core": core_dict, "reference": reference_dict},
    "packed": {"core": core_packed, "reference": reference_packed},
    "json": {"core": core_json, "reference": reference_json},
}


def comparable(result: Any) -> Any:
    """Return what two results must agree in: JSON as what it says, commands without their order."""
    if not isinstance(result, bytes):
        return result
    return json.loads(result) if result.startswith(b"{") else sorted(map(repr, reference.parse_replies(result)))


@pytest.mark.parametrize("side", ["core", "reference"])
@pytest.mark.parametrize("group", list(GROUPS))
def test_micro(benchmark: Any, group: str, side: str, request_: Request) -> None:
    run = GROUPS[group][side](request_)
    assert same(comparable(run()), comparable(GROUPS[group]["reference"](request_)()))
    benchmark.group = f"{group}, {len(request_.entities)} entities"
    benchmark(run)
