"""Questions and answers, as they go from one environment to the other: one JSON text per line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from interop.tagged import tag, untag

__all__ = ["STATUSES", "Json", "Question", "answer", "http_answer", "read_lines", "write_lines"]

Json = dict[str, Any]

RESULT = frozenset({"values", "statuses", "event_timestamps"})
METADATA = frozenset({"feature_names", "feature_view_metadata"})
PARTS_OF_JSON = RESULT | METADATA | {"results", "metadata"}
STATUSES = ("INVALID", "PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE")


@dataclass(frozen=True)
class Question:
    """One request.

    Args:
        id: unique among the questions.
        entities: column -> values.
        features: references; empty for a service.
        service: name of a feature service.
        form: how the SDK gets the entities: "rows", "columns", "tuples", or as protobuf messages, "values", "repeated".
        types: column -> name of its value type, for the protobuf forms.
        versions: ask for the versions of the views too.
    """

    id: str
    entities: dict[str, list[Any]]
    features: tuple[str, ...] = ()
    service: str = ""
    form: str = "columns"
    full_feature_names: bool = False
    versions: bool = False
    types: dict[str, str] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """The number of rows asked about."""
        return len(next(iter(self.entities.values())))

    def to_json(self) -> Json:
        """Return the form that `from_json` reads."""
        return {**asdict(self), "entities": {name: tag(values) for name, values in self.entities.items()}}

    @classmethod
    def from_json(cls, text: Json) -> Question:
        """Read the form that `to_json` writes."""
        entities = {name: untag(values) for name, values in text["entities"].items()}
        return cls(**{**text, "entities": entities, "features": tuple(text["features"])})

    def entity_rows(self, value: type[Any], repeated: type[Any]) -> Any:
        """Return the entities in the question's form.

        Args:
            value, repeated: the classes of the protobuf messages Value and RepeatedValue.
        """
        if self.form == "rows":
            return [dict(zip(self.entities, row, strict=True)) for row in zip(*self.entities.values(), strict=True)]
        if self.form == "tuples":
            return {name: tuple(values) for name, values in self.entities.items()}
        if self.form == "columns":
            return self.entities
        columns = {name: self._messages(name, values, value) for name, values in self.entities.items()}
        return columns if self.form == "values" else {name: repeated(val=column) for name, column in columns.items()}

    def _messages(self, name: str, values: list[Any], value: type[Any]) -> list[Any]:
        member = self.types[name].lower() + "_val"
        return [value() if v is None else value(**{member: in_json(v)}) for v in values]

    @property
    def has_body(self) -> bool:
        """Whether the question can be asked over HTTP: JSON has no bytes."""
        return not any(isinstance(value, bytes) for values in self.entities.values() for value in values)

    def body(self) -> Json:
        """Return the body of the HTTP request."""
        asked = {"feature_service": self.service} if self.service else {"features": list(self.features)}
        return {
            **asked,
            "entities": {name: [in_json(value) for value in values] for name, values in self.entities.items()},
            "full_feature_names": self.full_feature_names,
            "include_feature_view_version_metadata": self.versions,
        }


def in_json(value: Any) -> Any:
    """Times are whole seconds in JSON and in protobuf; without a zone they are UTC."""
    if not isinstance(value, datetime):
        return value
    return int((value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp())


def answer(question: Question, ask: Callable[[Question], Any]) -> Json:
    """Return the SDK's answer to a question.

    Args:
        ask: returns the OnlineResponse, Feast's or fastserve's.
    Returns:
        `id`, and `error` or:
        `names`: of the columns, in order;
        by column, one item per row: `values` of `to_dict` (tagged), `statuses`, `times` and `raw` (hex) of the protobuf
        message, `seconds` of `to_dict`;
        `versions`: name and version of each view.
    """
    try:
        response = ask(question)
        columns = response.to_dict(include_event_timestamps=True)
        return {"id": question.id, **of_message(response.proto), **of_dict(columns, response)}
    except Exception as exc:  # what a side refuses, the other should refuse
        return {"id": question.id, "error": f"{type(exc).__name__}: {exc}"}


def of_dict(columns: dict[str, list[Any]], response: Any) -> Json:
    names = list(response.proto.metadata.feature_names.val)
    if len(columns) != 2 * len(set(names)):
        raise AssertionError(f"columns {list(columns)} for the names {names}")
    return {
        "values": {name: [tag(value) for value in columns[name]] for name in names},
        "seconds": {name: columns[f"{name}__ts"] for name in names},
    }


def of_message(message: Any) -> Json:
    names = list(message.metadata.feature_names.val)
    results = dict(zip(names, message.results, strict=True))
    return {
        "names": names,
        "statuses": {name: [STATUSES[status] for status in r.statuses] for name, r in results.items()},
        "times": {name: [f"{t.seconds}.{t.nanos:09}" for t in r.event_timestamps] for name, r in results.items()},
        "raw": {name: [v.SerializeToString(deterministic=True).hex() for v in r.values] for name, r in results.items()},
        "versions": [[view.name, view.version] for view in message.metadata.feature_view_metadata],
    }


def http_answer(id_: str, body: Json) -> Json:
    """Return what `answer` returns, from the JSON of a server; it has no `raw` and no `seconds`."""
    metadata = body["metadata"]
    names = metadata["feature_names"]
    results = dict(zip(names, body["results"], strict=True))
    unknown = {name for part in (body, metadata, *results.values()) for name in part} - PARTS_OF_JSON
    assert not unknown, f"unknown parts of an answer: {unknown}"
    return {
        "id": id_,
        "names": names,
        "values": {name: [tag(value) for value in result["values"]] for name, result in results.items()},
        "statuses": {name: result["statuses"] for name, result in results.items()},
        "times": {name: result["event_timestamps"] for name, result in results.items()},
        "versions": [[view["name"], view.get("version", 0)] for view in metadata.get("feature_view_metadata", [])],
    }


def write_lines(path: Path, items: Iterable[Json]) -> None:
    """Write one JSON text per line."""
    with path.open("w") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)


def read_lines(path: Path) -> Iterator[Json]:
    """Yield the JSON texts of a file."""
    with path.open() as file:
        for line in file:
            yield json.loads(line)
