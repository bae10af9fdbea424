"""The bodies of requests: bytes -> a struct, or the errors that Feast's server answers.

A good body is decoded by msgspec in one go. Whatever that refuses is read again by the standard library and looked at
field by field, since Feast takes a little more (booleans as text or number, NaN) and since its errors say where each
fault is and what was there instead.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec

__all__ = [
    "BodyError",
    "GetOnlineFeaturesRequest",
    "MaterializeIncrementalRequest",
    "MaterializeRequest",
    "PushFeaturesRequest",
    "UnreadableBody",
    "WriteToFeatureStoreRequest",
    "entities_of",
    "entities_text",
    "is_json",
    "parse_body",
    "with_binary",
]


class GetOnlineFeaturesRequest(msgspec.Struct):
    """The body of POST /get-online-features. Unknown fields are ignored.

    Attributes:
        entities: column -> values: join keys and request data.
        feature_service: wins over `features` when not empty.
        features: references `view:feature`; not to be changed, others may have the same object.
        compact: the answer is to be compact JSON; Feast does not have it.
        binary_entities: columns of bytes, in base64; Feast does not have it, nor the next.
        time_entities: the columns whose numbers are times, in seconds since 1970; others' are numbers.
    """

    entities: dict[str, list[Any]]
    feature_service: str | None = None
    features: list[str] = []
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False
    compact: bool = False
    binary_entities: dict[str, list[Any]] = {}
    time_entities: list[str] = []


# What the columns hold, the writer checks.
Frame = Annotated[dict[str, Any], msgspec.Meta(extra_json_schema={"additionalProperties": True})]


class PushFeaturesRequest(msgspec.Struct):
    """The body of POST /push.

    Attributes:
        to: online, offline or online_and_offline.
        binary: more columns, of bytes or lists of bytes, in base64; Feast does not have it.
    """

    push_source_name: str
    df: Frame
    allow_registry_cache: bool = True
    to: str = "online"
    transform_on_write: bool = True
    binary: Frame = {}


class WriteToFeatureStoreRequest(msgspec.Struct):
    """The body of POST /write-to-online-store; `binary` as in PushFeaturesRequest."""

    feature_view_name: str
    df: Frame
    allow_registry_cache: bool = True
    transform_on_write: bool = True
    binary: Frame = {}


class MaterializeRequest(msgspec.Struct):
    """The body of POST /materialize; the times are ISO 8601 texts."""

    start_ts: str | None = None
    end_ts: str | None = None
    feature_views: list[str] | None = None
    disable_event_timestamp: bool = False
    full_feature_names: bool = False
    version: str | None = None


class MaterializeIncrementalRequest(msgspec.Struct):
    """The body of POST /materialize-incremental."""

    end_ts: str
    feature_views: list[str] | None = None
    full_feature_names: bool = False
    version: str | None = None


EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
FIRST_SECOND, LAST_SECOND = -62135596800, 253402300799
"""Of the years 1 to 9999, which a datetime can be in."""

Form = TypeVar(
    "Form",
    GetOnlineFeaturesRequest,
    PushFeaturesRequest,
    WriteToFeatureStoreRequest,
    MaterializeRequest,
    MaterializeIncrementalRequest,
)


class BodyError(Exception):
    """The body does not fit.

    Attributes:
        detail: one dict with `type`, `loc`, `msg`, `input` and perhaps `ctx` for each fault.
    """

    def __init__(self, detail: list[dict[str, Any]]):
        super().__init__(f"{len(detail)} faults in the body")
        self.detail = detail


class UnreadableBody(Exception):
    """The body cannot even be looked at: it is not UTF-8, or nested too deeply."""


@cache
def _decoder(form: type[Form]) -> msgspec.json.Decoder[Form]:
    return msgspec.json.Decoder(form)


class _RawRead(msgspec.Struct):
    """GetOnlineFeaturesRequest, of which the references are not taken apart: most are asked for again and again."""

    entities: dict[str, list[Any]]
    feature_service: str | None = None
    features: msgspec.Raw = msgspec.Raw(b"[]")
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False
    compact: bool = False
    binary_entities: dict[str, list[Any]] = {}
    time_entities: list[str] = []


_raw_decoder = msgspec.json.Decoder(_RawRead)
_references: dict[bytes, Any] = {}
KNOWN_REFERENCES, KNOWN_BYTES = 1000, 1 << 15
"""Lists of references that are kept, and the length of such a text."""


def _decode_read(data: bytes) -> GetOnlineFeaturesRequest:
    raw = _raw_decoder.decode(data)
    return GetOnlineFeaturesRequest(
        raw.entities,
        raw.feature_service,
        _references_of(raw.features),
        raw.full_feature_names,
        raw.include_feature_view_version_metadata,
        raw.compact,
        raw.binary_entities,
        raw.time_entities,
    )


def _references_of(text: msgspec.Raw) -> Any:
    """Return the references in a JSON text, as a tuple that others have too."""
    key = bytes(text)
    found = _references.get(key)
    if found is None:
        found = tuple(msgspec.json.decode(key, type=list[str]))
        if len(key) <= KNOWN_BYTES:
            if len(_references) >= KNOWN_REFERENCES:
                _references.clear()
            _references[key] = found
    return found


class _Entities(msgspec.Struct):
    entities: msgspec.Raw


_entities_decoder = msgspec.json.Decoder(_Entities)


def entities_text(data: bytes) -> bytes | None:
    """Return the JSON text of the field `entities` of a body; None if it is not to be found."""
    try:
        return bytes(_entities_decoder.decode(data).entities)
    except msgspec.MsgspecError:
        return None


def parse_body(data: bytes, content_type: str | None, form: type[Form]) -> Form:
    """Return the request in a body.

    Args:
        form: the struct that it must fit.
    Raises:
        BodyError: it is not a JSON object of the right shape, or `content_type` is not that of JSON.
        UnreadableBody: it is not text, or nested too deeply.
    """
    # What nearly every client sends, before the question what else may stand in that header.
    if content_type != "application/json" and not is_json(content_type):
        raise BodyError([_missing_body() if not data else _not_an_object(_text(data))])
    try:
        decode: Any = _decode_read if form is GetOnlineFeaturesRequest else _decoder(form).decode
        found: Form = decode(data)
        return found
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _read_again(data, form)


def entities_of(request: GetOnlineFeaturesRequest) -> Mapping[str, list[Any]]:
    """Return the entities of a request with what JSON has no form for: bytes and times. Raises BodyError."""
    columns = with_binary(request.entities, request.binary_entities)
    if not request.time_entities:
        return columns
    times = {name: list(map(_time, columns[name])) for name in request.time_entities if name in columns}
    return {**columns, **times}


def _time(value: Any) -> Any:
    if not isinstance(value, int) or isinstance(value, bool) or not FIRST_SECOND <= value <= LAST_SECOND:
        return value  # whoever takes it says what is wrong with it
    return EPOCH + timedelta(seconds=value)


def with_binary(columns: Mapping[str, Any], binary: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return columns with those that came as base64. Raises BodyError."""
    if not binary:
        return columns
    try:
        return {**columns, **{name: _from_base64(cells) for name, cells in binary.items()}}
    except ValueError as exc:
        raise BodyError([_fault("base64", ["body", "binary"], f"Input should be base64: {exc}", None)]) from None


def _from_base64(cell: Any) -> Any:
    if isinstance(cell, list):
        return [_from_base64(item) for item in cell]
    return base64.b64decode(cell, validate=True) if isinstance(cell, str) else cell


def is_json(content_type: str | None) -> bool:
    """Whether a Content-Type is `application/json` or another `application/...+json`."""
    main, _, subtype = (content_type or "").partition(";")[0].strip().lower().partition("/")
    return main == "application" and (subtype == "json" or subtype.endswith("+json"))


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise UnreadableBody from exc


def _read_again(data: bytes, form: type[Form]) -> Form:
    if not data:
        raise BodyError([_missing_body()])
    return _Reader().read(_load(data), form)


def _load(data: bytes) -> Any:
    try:
        value = json.loads(data)
        # The standard library lets halves of surrogate pairs pass; they are no text that could be looked up.
        msgspec.json.encode(value)
    except json.JSONDecodeError as exc:
        raise BodyError([_not_json(exc.msg, exc.pos)]) from None
    except UnicodeEncodeError as exc:
        raise BodyError([_not_json(f"Unpaired surrogate {exc.object[exc.start]!a}", 0)]) from None
    except (ValueError, RecursionError) as exc:
        raise UnreadableBody from exc
    return value


def _not_json(reason: str, position: int) -> dict[str, Any]:
    detail = _fault("json_invalid", ["body", position], "JSON decode error", {})
    return detail | {"ctx": {"error": reason}}


def _missing_body() -> dict[str, Any]:
    return _fault("missing", ["body"], "Field required", None)


def _not_an_object(value: Any) -> dict[str, Any]:
    message = "Input should be a valid dictionary or object to extract fields from"
    return _fault("model_attributes_type", ["body"], message, value)


def _fault(kind: str, place: list[str | int], message: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "loc": place, "msg": message, "input": value}


class _Reader:
    """One slow look at a body; collects all faults."""

    def __init__(self) -> None:
        self.faults: list[dict[str, Any]] = []

    def read(self, body: Any, form: type[Form]) -> Form:
        if not isinstance(body, dict):
            raise BodyError([_not_an_object(body)])
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(form):
            if field.name in body:
                values[field.name] = self.readers()[field.type](body[field.name], [field.name])
            elif field.required:
                self.fault("missing", [field.name], "Field required", body)
        if self.faults:
            raise BodyError(self.faults)
        return form(**values)

    def readers(self) -> Mapping[Any, Callable[[Any, list[str | int]], Any]]:
        """What reads a field, by its type."""
        return {
            str: self.text,
            str | None: self.optional_text,
            bool: self.boolean,
            list[str]: self.texts,
            list[str] | None: self.optional_texts,
            Frame: self.mapping,
            dict[str, list[Any]]: self.entities,
        }

    def fault(self, kind: str, place: list[str | int], message: str, value: Any) -> None:
        self.faults.append(_fault(kind, ["body", *place], message, value))

    def mapping(self, value: Any, place: list[str | int]) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.fault("dict_type", place, "Input should be a valid dictionary", value)
        return {}

    def entities(self, value: Any, place: list[str | int]) -> dict[str, list[Any]]:
        return {name: self.items(column, [*place, name]) for name, column in self.mapping(value, place).items()}

    def items(self, value: Any, place: list[str | int]) -> list[Any]:
        if isinstance(value, list):
            return value
        self.fault("list_type", place, "Input should be a valid list", value)
        return []

    def texts(self, value: Any, place: list[str | int]) -> list[str]:
        return [self.text(item, [*place, index]) for index, item in enumerate(self.items(value, place))]

    def text(self, value: Any, place: list[str | int]) -> str:
        if isinstance(value, str):
            return value
        self.fault("string_type", place, "Input should be a valid string", value)
        return ""

    def optional_texts(self, value: Any, place: list[str | int]) -> list[str] | None:
        return None if value is None else self.texts(value, place)

    def optional_text(self, value: Any, place: list[str | int]) -> str | None:
        return None if value is None else self.text(value, place)

    def boolean(self, value: Any, place: list[str | int]) -> bool:
        known = _BOOLEANS.get(value.lower() if isinstance(value, str) else value) if _is_scalar(value) else None
        if known is None:
            self.refuse_boolean(value, place)
        return bool(known)

    def refuse_boolean(self, value: Any, place: list[str | int]) -> None:
        message = "Input should be a valid boolean"
        if isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**63):
            self.fault("bool_parsing", place, f"{message}, unable to interpret input", value)
        else:
            self.fault("bool_type", place, message, value)


# True, 1 and 1.0 are one key of a dict, as are False, 0 and 0.0.
_BOOLEANS: dict[object, bool] = {
    **dict.fromkeys(["1", "on", "t", "true", "y", "yes"], True),
    **dict.fromkeys(["0", "off", "f", "false", "n", "no"], False),
    1: True,
    0: False,
}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))
