"""Plans, batches and vectors for the tests of packed vectors."""

from __future__ import annotations

from collections.abc import Mapping

from fastserve import _core
from fastserve._core import Batch, EncodedVectors, KeyGroup, ReadPlan, Slot, StoredView, VectorLayout
from tests import reference, reference_vector
from tests.core.requests import JOIN_KEY, PROJECT, Request, every_type, frame_reply

PREFIX = b"fsv:0011223344556677:"


def views_of(request: Request) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return the views of a request's layout."""
    views: dict[str, list[tuple[str, int]]] = {}
    for feature in request.features:
        views.setdefault(feature.view, []).append((feature.name, feature.value_type))
    return list(views.items())


def layout_of(request: Request) -> VectorLayout:
    return VectorLayout(views_of(request))


def vector_plan(plan: ReadPlan, layout: VectorLayout, enforce_ttl: bool = False) -> ReadPlan:
    """Return the plan that reads the same from vectors."""
    group = plan.groups[0]
    packed = KeyGroup(
        group.join_keys,
        group.columns,
        group.value_types,
        group.views,
        PROJECT,
        vector=layout,
        vector_prefix=PREFIX,
        vector_label="feature service all",
    )
    options = {"join_keys": plan.join_keys, "required": plan.required, "enforce_ttl": enforce_ttl}
    return ReadPlan([packed], plan.outputs, **options)  # type: ignore[arg-type]


def read(plan: ReadPlan, entities: list[str], vectors: dict[bytes, bytes]) -> tuple[Batch, list[tuple[int, int]]]:
    """Return a batch filled from vectors, and the entities that have none."""
    batch = Batch(plan, {JOIN_KEY: entities}, len(entities))
    if replies := replies_to(batch, vectors):
        assert batch.feed(replies)
    return batch, batch.unpack_vectors()


def replies_to(batch: Batch, vectors: Mapping[bytes, bytes]) -> bytes:
    """Let a batch hand out its MGETs; return what Redis answers if that is what it has, by entity key."""
    asked = [command[1:] for command in reference.parse_replies(b"".join(iter(batch.commands, None)))]
    assert [key for keys in asked for key in keys] == [PREFIX + key for key in batch.entity_keys(0)]
    return b"".join(frame_reply([vectors.get(key.removeprefix(PREFIX)) for key in keys]) for keys in asked)


def packed(request: Request) -> tuple[Batch, EncodedVectors]:
    """Return the request's batch as read from vectors, and the vectors."""
    layout = layout_of(request)
    vectors = _core.pack_batch(layout, request.filled(), 0)
    batch, missing = read(vector_plan(request.plan, layout), request.entities, dict(vectors.items()))
    assert missing == []
    return batch, vectors


def every_form(batch: Batch) -> list[object]:
    """Return the answer in every form that needs no columns."""
    return [
        _core.python_columns(batch, True),
        _core.json_response(batch, True),
        _core.compact_json(batch, True),
        _core.proto_response(batch, True),
        _core.statuses(batch),
        [_core.slot_values(batch, slot) for slot in batch.plan.outputs],
        [_core.event_time_column(batch, slot) for slot in batch.plan.outputs],
        [_core.status_column(batch, slot) for slot in batch.plan.outputs],
    ]


def columns(batch: Batch) -> list[object]:
    """Return the buffers of every feature that has some."""
    kinds = [
        (_core.fixed_column, range(3, 9)),
        (_core.text_column, (1, 2, 30, 31, 32, 36, 37, 44, 47)),
        (_core.list_column, (*range(11, 19), *range(22, 30), 33, *range(38, 42), 45, 46)),
    ]
    return [column(batch, slot) for slot in batch.plan.outputs for column, types in kinds if slot.value_type in types]


def value(**members: object) -> bytes:
    """Return a serialised Value."""
    return bytes(reference.Value(**members).SerializeToString())


def all_types() -> Request:
    """A feature of every type; the timestamp, which is recorded as the null of such columns, has a value."""
    request = every_type()
    field = reference.field_id("all", "unix_timestamp_val")
    request.hashes[0] = {**request.hashes[0], field: value(unix_timestamp_val=1_700_000_000)}
    return request


def stored_row(view: str, features: list[tuple[str, int]], stored: reference.Hash) -> reference_vector.Row:
    """Return what a hash holds of a view."""
    values = {name: stored.get(reference.field_id(view, name)) for name, _ in features}
    time = reference.decode_timestamp(stored[reference.timestamp_field(view)] or b"")
    return reference_vector.Row(time, {name: value for name, value in values.items() if value is not None})


def one_view(features: list[tuple[str, int]], ttl: int = 0, enforce_ttl: bool = False) -> ReadPlan:
    """Return a plan that reads the view `v` from vectors of it and of the view `w`."""
    layout = VectorLayout([("w", [("x", 2)]), ("v", features)])
    view = StoredView("v", [name for name, _ in features], 0)
    slots = [Slot(n, f"v:{n}", t, 0, i, view.event_time, ttl * 1_000_000) for i, (n, t) in enumerate(features)]
    group = KeyGroup((JOIN_KEY,), (JOIN_KEY,), (2,), [view], PROJECT)
    plan = ReadPlan([group], slots, join_keys={JOIN_KEY: 2}, required={JOIN_KEY: ["v"]})
    return vector_plan(plan, layout, enforce_ttl)


def vector_of(plan: ReadPlan, row: reference_vector.Row | None) -> bytes:
    """Return the vector that has this row of `v`."""
    layout = plan.groups[0].vector
    assert layout is not None
    return reference_vector.pack(layout.views, {} if row is None else {"v": row})


def key_of(entity: str) -> bytes:
    return reference.serialize_entity_key([JOIN_KEY], [entity], [2])
