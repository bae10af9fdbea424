"""From what Feast answers to what fastserve answers: the deliberate differences, one function each.

`expected` applies each where it belongs, and nowhere else; whatever then differs is a fault. The reasons are in
docs/feast-differences.md, the numbers are those of section 13 of the compatibility notes.

Answers are JSON objects as `exchange.answer` and `exchange.http_answer` make them.
"""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from interop.exchange import Json, Question
from interop.facts import Facts, Output, Projection
from interop.tagged import tag, untag

__all__ = ["Side", "expected", "feast_questions"]

Answers = dict[str, Json]

NO_TIME = ("0.000000000", "1970-01-01T00:00:00Z")
NULL_SECONDS = -(2**63)
BY_COLUMN = ("values", "statuses", "times", "raw", "seconds")  # HTTP has the first three


@dataclass
class Side:
    """What Feast is, when an answer of its is looked at.

    Args:
        store: "redis" or "sqlite".
        http: its server, not its SDK.
        now: seconds since the epoch.
        applied: counts the columns or answers that each difference changed.
    """

    facts: Facts
    store: str
    http: bool
    now: float
    applied: Counter[str]


# --- what Feast is asked ---------------------------------------------------------------------------------------------


def feast_questions(side: Side, question: Question) -> list[Question]:
    """Return what to ask Feast, so that its answers together tell what fastserve should answer.

    Mostly that is the question itself. Where Feast's answer has a known defect, further questions avoid it.
    """
    outputs = side.facts.outputs(question)
    asked = [question]
    if question.service and side.facts.services[question.service]["precomputed"]:
        asked = [references(question, outputs, "ordinary")]
        if vectors_can_answer(side, question):
            asked.append(changed(question, "vectors"))
    computed = [output for output in outputs if output.kind in ("python", "pandas")]
    if computed and question.full_feature_names:
        asked.append(only(side, references(question, computed, "short", full_feature_names=False)))
    if renewed := renewed_views(side, question):
        asked.append(only(side, references(question, renewed, "renewed")))
    if singletons := [output for output in outputs if output.kind == "singleton"]:
        asked += [
            only(side, references(row, singletons, f"row {number}", full_feature_names=False))
            for number, row in enumerate(single_rows(question))
        ]
    return asked


def changed(question: Question, suffix: str, **changes: Any) -> Question:
    return replace(question, id=f"{question.id}:{suffix}", **changes)


def references(question: Question, outputs: list[Output], suffix: str, **changes: Any) -> Question:
    """Return a question for some of the outputs, by reference."""
    features = tuple(output.reference for output in outputs)
    return changed(question, suffix, features=features, service="", form="columns", **changes)


def only(side: Side, question: Question) -> Question:
    """Return a question without the columns that it does not need; Feast would have to guess their types."""
    needs = side.facts.needs(side.facts.projections(question))
    names = {*needs.keys, *needs.data, *(side.facts.entities.get(key) for key in needs.keys)}
    entities = {name: values for name, values in question.entities.items() if name in names}
    return replace(question, entities=entities) if entities else question


def renewed_views(side: Side, question: Question) -> list[Output]:
    """The features that a service takes from the current version of a view that had earlier ones."""
    if not question.service:
        return []
    outputs = [output for output in side.facts.outputs(question) if output.view in side.facts.views]
    return [output for output in outputs if "@" not in output.view and side.facts.views[output.view]["version"]]


def vectors_can_answer(side: Side, question: Question) -> bool:
    """Feast: vectors are for Redis, full names, and rows that all have one."""
    views = ("customer_profile", "card_activity", "everything")
    known = {row["customer_id"] for view in views for row in side.facts.known_rows(view)}
    rows = question.entities.get("customer_id", [None])
    return side.store == "redis" and question.full_feature_names and all(str(row) in known for row in rows)


def single_rows(question: Question) -> list[Question]:
    columns = question.entities.items()
    return [replace(question, entities={name: [values[i]] for name, values in columns}) for i in range(question.n_rows)]


# --- what follows from its answers -----------------------------------------------------------------------------------


def expected(side: Side, question: Question, answers: Answers, sdk_answers: Answers) -> Json:
    """Return the answer that fastserve should give, or one with `error`.

    Args:
        answers: Feast's, by id, to `feast_questions`.
        sdk_answers: those of its SDK, where `answers` are those of its server.
    """
    own_id = question.id if question.id in answers else f"{question.id}:ordinary"
    related = [answer for id_, answer in answers.items() if id_.partition(":")[0] == question.id]
    if failed := [answer for answer in related if "error" in answer]:
        return failed[0]
    answer = copied(answers[own_id])
    outputs = side.facts.outputs(question)
    further_answers(side, question, answer, answers)
    for output in outputs:
        column_differences(side, answer, output, sdk_answers[own_id])
    versions_of_services(side, question, answer)
    several_versions(side, question, answer)
    order_of_features(answer, outputs)
    return answer


def further_answers(side: Side, question: Question, answer: Json, answers: Answers) -> None:
    """Take from the answers to further questions what the answer to the question itself lacks or has wrong."""
    outputs = side.facts.outputs(question)
    if f"{question.id}:vectors" in answers:
        precomputed(side, answer, answers[f"{question.id}:vectors"], outputs)
    if f"{question.id}:renewed" in answers:
        current_versions(side, answer, answers[f"{question.id}:renewed"], renewed_views(side, question))
    if f"{question.id}:row 0" in answers:
        singletons(side, question, answer, answers, outputs)
    if (short := answers.get(f"{question.id}:short")) is not None:
        for output in outputs:
            if output.kind == "python":
                python_with_full_names(side, answer, short, output)
            if output.kind == "pandas":
                pandas_with_full_names(side, answer, short, output)


def parts_of(answer: Json) -> list[str]:
    return [part for part in BY_COLUMN if part in answer]


def copied(answer: Json) -> Json:
    columns = {part: dict(answer[part]) for part in parts_of(answer)}
    return {**answer, **columns, "names": list(answer["names"])}


def column_differences(side: Side, answer: Json, output: Output, sdk_answer: Json) -> None:
    if side.http and output.type.startswith("UNIX_TIMESTAMP"):
        null_times(side, answer, output.name)
    if side.http and output.type == "SCALAR_MAP":
        scalar_maps(side, answer, output.name, sdk_answer)
    if side.store == "redis" and output.kind == "stored":
        absent_rows(side, answer, output.name)
    null_values(side, answer, output.name)
    if output.ttl:
        old_rows(side, answer, output)


def put(side: Side, answer: Json, part: str, name: str, items: list[Any], difference: str) -> None:
    if items != answer[part][name]:
        side.applied[difference] += 1
        answer[part][name] = items


# --- the differences -------------------------------------------------------------------------------------------------


def absent_rows(side: Side, answer: Json, name: str) -> None:
    """15: on Redis Feast calls everything PRESENT; where a view has no row for an entity, fastserve says NOT_FOUND."""
    rows = zip(answer["statuses"][name], answer["values"][name], answer["times"][name], strict=True)
    statuses = ["NOT_FOUND" if value is None and time in NO_TIME else status for status, value, time in rows]
    put(side, answer, "statuses", name, statuses, "absent_rows")


def null_values(side: Side, answer: Json, name: str) -> None:
    """15: a stored null is PRESENT to Feast and NULL_VALUE to fastserve."""
    rows = zip(answer["statuses"][name], answer["values"][name], strict=True)
    statuses = ["NULL_VALUE" if (status, value) == ("PRESENT", None) else status for status, value in rows]
    put(side, answer, "statuses", name, statuses, "null_values")


def old_rows(side: Side, answer: Json, output: Output) -> None:
    """16: fastserve tells when a row is older than its view's ttl; the value stays."""

    def status_of(status: str, time: str) -> str:
        return "OUTSIDE_MAX_AGE" if status != "NOT_FOUND" and side.now - seconds_of(time) > output.ttl else status

    name = output.name
    statuses = list(map(status_of, answer["statuses"][name], answer["times"][name]))
    put(side, answer, "statuses", name, statuses, "old_rows")


def seconds_of(time: str) -> float:
    if "T" not in time:
        return float(time)
    return datetime.fromisoformat(time.removesuffix("Z")).replace(tzinfo=timezone.utc).timestamp()


def null_times(side: Side, answer: Json, name: str) -> None:
    """38: the null of timestamps is a null in fastserve's JSON, a number in Feast's."""
    sentinel = tag(NULL_SECONDS)

    def with_nulls(value: Any) -> Any:
        if isinstance(value, list) and value[0] == "list":
            return ["list", [with_nulls(item) for item in value[1]]]
        return None if value == sentinel else value

    put(side, answer, "values", name, [with_nulls(value) for value in answer["values"][name]], "null_times")


def scalar_maps(side: Side, answer: Json, name: str, sdk_answer: Json) -> None:
    """38: maps with keys that are no text are objects in fastserve's JSON, null in Feast's; its SDK has the content."""
    assert not any(answer["values"][name]), "Feast's server answers scalar maps now; compare them"
    values = [None if value is None else tag(json_object(untag(value))) for value in sdk_answer["values"][name]]
    put(side, answer, "values", name, values, "scalar_maps")


def json_object(scalar_map: dict[Any, Any]) -> Json:
    """Return what a scalar map is in JSON; keys become the text of their own JSON form."""
    return {json_key(key): value for key, value in scalar_map.items()}


def json_key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, datetime):
        return str(int(key.timestamp()))
    if isinstance(key, bytes):
        return base64.b64encode(key).decode()
    return repr(key) if isinstance(key, float) else str(key)


def precomputed(side: Side, answer: Json, vectors: Json, outputs: list[Output]) -> None:
    """12, 16: vectors give the time of their making as event time, and statuses of their own; the values are the same.

    What fastserve answers is the ordinary read's answer, with true event times. The values are compared here: a vector
    that differs from what it was made of would be a fault of Feast's.
    """
    for output in outputs:
        assert vectors["values"][output.name] == answer["values"][output.name], f"stale vector of Feast's: {output}"
    side.applied["precomputed"] += 1


def python_with_full_names(side: Side, answer: Json, short: Json, output: Output) -> None:
    """18: with full names Feast loses the outputs of on-demand views in python mode; with short ones it has them."""
    assert output.name not in answer["names"], "Feast answers these now; compare them"
    answer["names"].append(output.name)
    for part in parts_of(answer):
        answer[part][output.name] = short[part][output.feature]
    side.applied["python_with_full_names"] += 1


def pandas_with_full_names(side: Side, answer: Json, short: Json, output: Output) -> None:
    """With full names Feast gives the outputs of on-demand views in pandas mode the type of what the function returned,
    such as INT64 where DOUBLE is declared; with short ones, as fastserve with both, the declared type."""
    for part in parts_of(answer):
        put(side, answer, part, output.name, short[part][output.feature], "pandas_with_full_names")


def singletons(side: Side, question: Question, answer: Json, answers: Answers, outputs: list[Output]) -> None:
    """19: Feast computes singletons for the first row only; fastserve for each, as Feast when asked row by row."""
    rows = [answers[f"{question.id}:row {i}"] for i in range(question.n_rows)]
    for output in (output for output in outputs if output.kind == "singleton"):
        if output.name not in answer["names"]:  # 18 again
            answer["names"].append(output.name)
        for part in parts_of(answer):
            answer[part][output.name] = [row[part][output.feature][0] for row in rows]
    side.applied["singletons"] += 1


def current_versions(side: Side, answer: Json, current: Json, outputs: list[Output]) -> None:
    """Asked for a service, Feast reads version 0 of a view without a pin, whatever its current version is; asked for
    references, it reads the current one, as fastserve does."""
    for output in outputs:
        for part in parts_of(answer):
            put(side, answer, part, output.name, current[part][output.name], "current_versions")


def versions_of_services(side: Side, question: Question, answer: Json) -> None:
    """In the answers for services Feast calls every view version 0; fastserve tells the version that was read."""
    if question.service and question.versions:
        numbers = {p.alias.partition("@")[0]: side.facts.views[p.view]["version"] for p in stored_views(side, question)}
        versions = [[name, numbers[name]] for name, _ in answer["versions"]]
        if versions != answer["versions"]:
            side.applied["versions_of_services"] += 1
            answer["versions"] = versions


def several_versions(side: Side, question: Question, answer: Json) -> None:
    """32: of a view that is read in several versions Feast names the first only."""
    views = {p.view for p in stored_views(side, question) if p.view.partition("@")[0] == "tier"}
    numbers = {side.facts.views[view]["version"] for view in views}
    if question.versions and len(numbers) > 1:
        others = [entry for entry in answer["versions"] if entry[0] != "tier"]
        answer["versions"] = [*others, *(["tier", number] for number in numbers)]
        side.applied["several_versions"] += 1


def stored_views(side: Side, question: Question) -> list[Projection]:
    return [p for requested in side.facts.projections(question) for p in side.facts.stored_projections(requested)]


def order_of_features(answer: Json, outputs: list[Output]) -> None:
    """17: features come in the order asked for; inside a view, Feast's order changes from process to process."""
    names = [output.name for output in outputs]
    missing = [name for name in names if name not in answer["names"]]
    assert not missing, f"Feast's answer lacks {missing}"
    answer["names"] = [name for name in answer["names"] if name not in names] + names
    answer["versions"] = sorted(answer["versions"])
