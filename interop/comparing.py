"""Feast's answers beside fastserve's: equal, but for what `differences` names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from interop.differences import BY_COLUMN, Side, expected, feast_questions
from interop.exchange import Json, Question

__all__ = ["Answers", "compare"]

MOST_FAULTS = 12

Answers = dict[str, Json]


def compare(side: Side, questions: list[Question], feasts: Answers, ours: Answers, sdk: Answers) -> None:
    """Fail with the first inequalities, if any; else say how much was equal.

    Args:
        feasts: Feast's answers by id, also to the further questions.
        ours: fastserve's.
        sdk: those of Feast's SDK, where `feasts` are those of its server.
    """
    assert questions
    faults: list[str] = []
    counts: Counter[str] = Counter()
    for question in questions:
        related = {id_: feasts[id_] for id_ in (q.id for q in feast_questions(side, question))}
        wanted, got = expected(side, question, related, sdk), ours[question.id]
        found = "; ".join(differing(wanted, got))
        if found:
            faults.append(f"question {question.id}: {found}\n  {json.dumps(question.to_json())[:600]}")
        count(counts, got)
    print(f"{len(questions)} questions on {side.store}, {'servers' if side.http else 'SDKs'}: {dict(counts)} compared")
    print(f"deliberate differences, in so many columns or answers: {dict(side.applied)}")
    assert not faults, f"{len(faults)} of {len(questions)} answers differ:\n" + "\n".join(faults[:MOST_FAULTS])


NULL_TIMESTAMP = "4080808080808080808001"
"""The Value that Feast stores, in hexadecimal: -2**63 seconds."""


def count(counts: Counter[str], got: Json) -> None:
    counts["columns"] += len(got.get("names", ()))
    counts["values"] += sum(map(len, got.get("values", {}).values()))


def differing(wanted: Json, got: Json) -> Iterator[str]:
    """Yield what differs, with place and both sides."""
    if "error" in wanted or "error" in got:
        yield f"Feast: {wanted.get('error', 'an answer')}, fastserve: {got.get('error', 'an answer')}"
        return
    got["versions"].sort()
    for part in ("names", "versions"):
        if wanted[part] != got[part]:
            yield f"{part}: {wanted[part]} expected, {got[part]} found"
    for part in (part for part in BY_COLUMN if part in wanted):
        for name in wanted["names"]:
            if name in got[part] and with_one_null(wanted[part][name]) != with_one_null(got[part][name]):
                yield differing_rows(part, name, wanted[part][name], got[part][name])


def with_one_null(cells: list[Any]) -> list[Any]:
    """Return cells in which a null timestamp is an empty Value: a packed vector does not tell the two apart."""
    return ["" if cell == NULL_TIMESTAMP else cell for cell in cells]


def differing_rows(part: str, name: str, wanted: list[Any], got: list[Any]) -> str:
    rows = [i for i, pair in enumerate(zip(wanted, got, strict=False)) if pair[0] != pair[1]]
    if len(wanted) != len(got) or not rows:
        return f"{part} of {name}: {len(wanted)} rows expected, {len(got)} found"
    return f"{part} of {name}, row {rows[0]}: {wanted[rows[0]]} expected, {got[rows[0]]} found ({len(rows)} rows)"
