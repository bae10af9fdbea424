"""Answers that are errors -> the exceptions that the server raised.

A server of ours names the class in a header. Feast's puts class and message, as JSON, into the JSON string that is its
body; of other exceptions it has the text alone. A body that fits no form is a list of faults, or a page of a proxy's.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from fastserve.errors import (
    ERROR_HEADER,
    FIELDS_HEADER,
    FastserveError,
    RequestError,
    StoreError,
    StoreTimeoutError,
    error_from_wire,
)
from fastserve.stores.http_wire import Answer

__all__ = ["error_of"]

MAX_TEXT = 2000


def error_of(answer: Answer, place: str) -> FastserveError:
    """Return the error that an answer tells of.

    Args:
        answer: of a status other than 2xx.
        place: method and URL, for errors that the server does not tell the class of.
    """
    body = _json(answer.body)
    text = _text(body, answer)
    name = answer.headers.get(ERROR_HEADER) or (_detail(body)[0] if isinstance(body, str) else "")
    found = error_from_wire(name, text, answer.headers.get(FIELDS_HEADER)) if name else None
    return found or _by_status(answer, place, text)


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _detail(body: str) -> tuple[str, str]:
    """The class and the message in Feast's form of an error; without class the message is the text."""
    try:
        detail = json.loads(body)
    except (ValueError, RecursionError):
        return "", body
    if not isinstance(detail, dict) or not isinstance(detail.get("message"), str):
        return "", body
    return str(detail.get("class") or ""), detail["message"]


def _text(body: Any, answer: Answer) -> str:
    """What the answer says, in one line."""
    if isinstance(body, str):
        return _detail(body)[1]
    detail = body.get("detail", body) if isinstance(body, dict) else body
    if isinstance(detail, list):
        return "; ".join(map(_fault, detail))
    if body is None:
        return " ".join(answer.body[:200].decode("utf-8", "replace").split()) or "an empty body"
    return detail if isinstance(detail, str) else json.dumps(detail)[:MAX_TEXT]


def _fault(fault: Any) -> str:
    if not isinstance(fault, dict):
        return str(fault)[:MAX_TEXT]
    return f"{'.'.join(map(str, fault.get('loc', ())))}: {fault.get('msg', '')}"


def _by_status(answer: Answer, place: str, text: str) -> FastserveError:
    message = f"{place} answered {answer.status}: {text}"
    if answer.status in (408, 504):
        return StoreTimeoutError(message)
    if answer.status in (400, 409, 411, 413, 415, 422, 431):
        return RequestError(message)
    # Also 404, which is that of a wrong path, and 500, in which Feast has every mistake of the request too.
    return StoreError(message)
