"""The worked example of docs/vector-format.md is what the core, and the oracle, make of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from fastserve import _core
from fastserve._core import Batch, KeyGroup, ReadPlan, StoredView, VectorLayout
from tests import reference, reference_vector
from tests.core.requests import PROJECT

DOC = (Path(__file__).parents[2] / "docs" / "vector-format.md").read_text()
BLOCKS = re.findall(r"```(json|text)\n(.*?)```", DOC, re.DOTALL)
LAYOUT, ROWS = (json.loads(text) for kind, text in BLOCKS if kind == "json")
FINGERPRINT_TEXT, LISTING = (text for kind, text in BLOCKS if kind == "text")
LINES = [re.fullmatch(r" *(\d+)  ([0-9a-f]+) +(\S.*)", line) for line in LISTING.splitlines() if line]
VECTOR = b"".join(bytes.fromhex(line[2]) for line in LINES if line)


def rows() -> dict[str, reference_vector.Row]:
    return {
        view: reference_vector.Row(
            row["event_time"],
            {name: reference.Value(**members).SerializeToString() for name, members in row["values"].items()},
        )
        for view, row in ROWS.items()
    }


def test_the_offsets_are_those_of_the_bytes() -> None:
    assert all(LINES)
    at = 0
    for line in LINES:
        assert line is not None
        assert int(line[1]) == at
        at += len(line[2]) // 2
    assert f"The vector, {at} bytes:" in DOC


def test_the_fingerprint() -> None:
    found = VectorLayout(LAYOUT).fingerprint.to_bytes(8, "little")
    assert f"the digest `{found.hex()}`" in DOC
    text = json.dumps([1, LAYOUT], ensure_ascii=False, separators=(",", ":"))
    assert text == FINGERPRINT_TEXT.strip()
    assert reference_vector.fingerprint(LAYOUT) == found


def test_the_oracle_reads_and_writes_the_example() -> None:
    assert reference_vector.pack(LAYOUT, rows()) == VECTOR
    assert reference_vector.unpack(LAYOUT, VECTOR) == rows()


def test_the_core_writes_the_example() -> None:
    views, start = [], 0
    for name, features in LAYOUT:
        views.append(StoredView(name, [feature for feature, _ in features], start))
        start += len(features) + 1
    group = KeyGroup(("id",), ("id",), (reference.INT64,), views, PROJECT)
    plan = ReadPlan([group], [], join_keys={"id": reference.INT64}, required={"id": []})
    batch = Batch(plan, {"id": [1]}, 1)
    for view in views:
        if row := rows().get(view.name):
            for feature, value in row.values.items():
                batch.put(0, 0, view.start + view.features.index(feature), value)
            clock = _core.encode_timestamp(row.event_time // 10**6, row.event_time % 10**6 * 1000)
            batch.put(0, 0, view.event_time, clock)
    assert [vector for _, vector in _core.pack_batch(VectorLayout(LAYOUT), batch, 0).items()] == [VECTOR]
