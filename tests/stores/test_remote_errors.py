"""Answers that are errors: of our server, of Feast's, of a proxy's."""

from __future__ import annotations

import json

import pytest

from fastserve import errors
from fastserve.errors import (
    EntityError,
    FastserveError,
    FeatureNotFoundException,
    FeatureViewNotFoundException,
    PushSourceNotFoundException,
    RequestError,
    StoreError,
    StoreTimeoutError,
    WriteError,
    error_to_wire,
)
from fastserve.stores.http_wire import Answer
from fastserve.stores.remote_errors import error_of

PLACE = "POST http://features/get"

EXAMPLES: list[FastserveError] = [
    FeatureViewNotFoundException("x", "bank"),
    FeatureNotFoundException("f", "v", ["a", "b"]),
    errors.FeatureNameCollisionError(["a", "b"], False),
    EntityError("too long — “ñ”", join_key="id", row=3),
    errors.EncodeError("no number", column="c", row=1),
    errors.DecodeError("cut off", 7, key="00ff", field="v:f"),
    errors.DefinitionError("Entity", "e", "no name"),
    WriteError("v", "no rows"),
    StoreError("redis is gone"),
    StoreTimeoutError("redis is slow"),
    errors.NotSupportedError("not here"),
    errors.TransformError("view failed"),
]


def as_answered(error: FastserveError) -> Answer:
    """What our server answers."""
    return Answer(error.status, error_to_wire(error), json.dumps(error.to_error_detail()).encode(), True)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_of_ours_arrives_as_it_was(error: FastserveError) -> None:
    found = error_of(as_answered(error), PLACE)
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)
    assert found.status == error.status


def test_attributes_of_any_length_do_not_break_a_header() -> None:
    error = WriteError("v", "x" * 100_000)
    headers = error_to_wire(error)
    assert headers == {"x-fastserve-error": "WriteError"}
    assert str(error_of(as_answered(error), PLACE)) == str(error)


def test_headers_are_plain_text() -> None:
    for value in error_to_wire(EntityError("line\r\nbreak — ñ", join_key="ключ")).values():
        assert value.isascii() and value.isprintable()


def test_attributes_that_are_no_json_are_left_out() -> None:
    error = StoreError("x")
    error.cause = object()  # type: ignore[attr-defined]
    assert error_to_wire(error) == {"x-fastserve-error": "StoreError"}


def test_the_message_of_another_form() -> None:
    headers = {"x-fastserve-error": "BodyTooLargeError"}
    found = error_of(Answer(413, headers, b'{"detail":"too long"}', True), PLACE)
    assert type(found) is errors.BodyTooLargeError
    assert str(found) == "too long"


@pytest.mark.parametrize("fields", ["", "nonsense", "[1]", '{"status": 200, "no name": 1, "__class__": 2, "row": 3}'])
def test_a_server_cannot_set_what_belongs_to_the_class(fields: str) -> None:
    headers = {"x-fastserve-error": "EntityError", "x-fastserve-error-fields": fields}
    found = error_of(Answer(422, headers, b'"bad"', True), PLACE)
    assert type(found) is EntityError and found.status == 422
    assert set(vars(found)) <= {"row"}


@pytest.mark.parametrize("name", ["object", "SystemExit", "json", "Iterable", "NoSuchError", "_missing"])
def test_only_errors_of_ours_are_made(name: str) -> None:
    found = error_of(Answer(500, {"x-fastserve-error": name}, b'"text"', True), PLACE)
    assert type(found) is StoreError
    assert str(found) == f"{PLACE} answered 500: text"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("FeatureViewNotFoundException", FeatureViewNotFoundException),
        ("PushSourceNotFoundException", PushSourceNotFoundException),
        ("DataSourceObjectNotFoundException", errors.DataSourceNotFoundException),
    ],
)
def test_the_classes_that_feast_tells_of(name: str, kind: type[FastserveError]) -> None:
    detail = json.dumps({"module": "feast.errors", "class": name, "message": "it says"})
    found = error_of(Answer(404, {}, json.dumps(detail).encode(), True), PLACE)
    assert type(found) is kind
    assert str(found) == "it says"


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (500, b"\"'Feature x not found'\"", StoreError, "'Feature x not found'"),
        (500, b'"{\\"module\\": \\"m\\", \\"class\\": \\"Other\\", \\"message\\": \\"why\\"}"', StoreError, "why"),
        (404, b'{"detail":"Not Found"}', StoreError, "Not Found"),
        (401, b'{"detail":"Missing authentication token"}', StoreError, "Missing authentication token"),
        (405, b'{"detail":"Method Not Allowed"}', StoreError, "Method Not Allowed"),
        (
            409,
            b'{"error":"running","feature_views":["v"]}',
            RequestError,
            '{"error": "running", "feature_views": ["v"]}',
        ),
        (502, b"<html>\n<b>Bad Gateway</b></html>", StoreError, "<html> <b>Bad Gateway</b></html>"),
        (503, b"", StoreError, "an empty body"),
        (504, b"slow", StoreTimeoutError, "slow"),
        (307, b"", StoreError, "an empty body"),
        (413, b'{"detail":"too long"}', RequestError, "too long"),
        (
            422,
            b'{"detail":[{"type":"missing","loc":["body","entities"],"msg":"Field required","input":{}}]}',
            RequestError,
            "body.entities: Field required",
        ),
        (422, b'{"detail":["odd"]}', RequestError, "odd"),
        (500, b"[1]", StoreError, "1"),
        (500, b"\xff\xfe", StoreError, "\ufffd\ufffd"),
        (500, b"[" * 100_000, StoreError, "[" * 200),
    ],
)
def test_answers_without_class(status: int, body: bytes, kind: type[FastserveError], text: str) -> None:
    found = error_of(Answer(status, {}, body, True), PLACE)
    assert type(found) is kind
    assert str(found) == f"{PLACE} answered {status}: {text}"
