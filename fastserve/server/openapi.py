"""The OpenAPI document, made from the structs, and the page /docs that shows it."""

from __future__ import annotations

import html
import json
from typing import Any

import msgspec

from fastserve._version import __version__
from fastserve.server.body import (
    GetOnlineFeaturesRequest,
    MaterializeIncrementalRequest,
    MaterializeRequest,
    PushFeaturesRequest,
    WriteToFeatureStoreRequest,
)
from fastserve.server.read import ARROW, PROTOBUF

__all__ = ["docs_page", "openapi_document"]

Json = dict[str, Any]


class FeatureVectorResponse(msgspec.Struct):
    values: list[Any] = []
    statuses: list[str] = []
    event_timestamps: list[str] = []


class FeatureViewMetadataResponse(msgspec.Struct):
    name: str = ""
    version: int = 0


class OnlineFeaturesMetadataResponse(msgspec.Struct):
    feature_names: list[str] = []
    feature_view_metadata: list[FeatureViewMetadataResponse] = []


class OnlineFeaturesResponse(msgspec.Struct):
    metadata: OnlineFeaturesMetadataResponse | None = None
    results: list[FeatureVectorResponse] = []
    status: bool | None = None


class CompactFeaturesResponse(msgspec.Struct):
    feature_names: list[str]
    values: list[list[Any]]
    statuses: dict[str, list[str]] | msgspec.UnsetType = msgspec.UNSET
    feature_view_metadata: list[FeatureViewMetadataResponse] | msgspec.UnsetType = msgspec.UNSET


class ValidationError(msgspec.Struct):
    loc: list[str | int]
    msg: str
    type: str
    input: Any | msgspec.UnsetType = msgspec.UNSET
    ctx: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class HTTPValidationError(msgspec.Struct):
    detail: list[ValidationError] | msgspec.UnsetType = msgspec.UNSET


WRITES: dict[str, type] = {
    "/push": PushFeaturesRequest,
    "/write-to-online-store": WriteToFeatureStoreRequest,
    "/materialize": MaterializeRequest,
    "/materialize-incremental": MaterializeIncrementalRequest,
}
STRUCTS = (
    *(GetOnlineFeaturesRequest, OnlineFeaturesResponse, CompactFeaturesResponse, HTTPValidationError),
    *WRITES.values(),
)
ERRORS = {
    400: "The request is wrong as a whole",
    401: "The server wants a key, and the request has none that it knows",
    403: "The key does not allow that",
    404: "A view, feature, service or request data is missing",
    408: "The request did not come in time",
    413: "The body, or the number of entity rows, is over the limit",
    500: "The server failed",
    501: "Feast has it, fastserve does not",
    503: "The store is out of reach, or the server has too much at hand",
    504: "No answer within the time-out",
}

REQUEST_EXAMPLES: dict[str, Json] = {
    "features": {"features": ["customer_profile:age"], "entities": {"customer_id": ["C1", "NOPE"]}},
    "feature service": {
        "feature_service": "transfer_svc",
        "entities": {"payer_id": ["C1"], "payee_id": ["C2"]},
        "full_feature_names": True,
    },
    "compact": {"features": ["customer_profile:age"], "entities": {"customer_id": ["C1", "NOPE"]}, "compact": True},
}
_EPOCH = "1970-01-01T00:00:00Z"
ANSWER_EXAMPLES: dict[str, Json] = {
    "features": {
        "results": [
            {"values": ["C1", "NOPE"], "statuses": ["PRESENT", "PRESENT"], "event_timestamps": [_EPOCH, _EPOCH]},
            {
                "values": [41, None],
                "statuses": ["PRESENT", "NOT_FOUND"],
                "event_timestamps": ["2026-01-02T03:04:05.678901Z", _EPOCH],
            },
        ],
        "metadata": {"feature_names": ["customer_id", "age"]},
    },
    "compact": {
        "feature_names": ["customer_id", "age"],
        "values": [["C1", "NOPE"], [41, None]],
        "statuses": {"age": ["PRESENT", "NOT_FOUND"]},
    },
}

REFERENCE = "#/components/schemas/{name}"

ROUTES = (
    ("POST", "/get-online-features", "The latest features of some entities"),
    ("POST", "/push", "Write rows to the feature views of a push source"),
    ("POST", "/write-to-online-store", "Write rows to a feature view"),
    ("POST", "/materialize", "Load feature views from their sources"),
    ("POST", "/materialize-incremental", "Load what came since the last time"),
    ("GET", "/health", "200 while the registry can be read, else 503"),
    ("GET", "/livez", "200 while the server runs"),
    ("GET", "/readyz", "200 when requests can be answered, else 503"),
    ("GET", "/metrics", "Figures for Prometheus"),
    ("GET", "/docs", "This page"),
    ("GET", "/openapi.json", "The OpenAPI document"),
)


def openapi_document() -> Json:
    """Return the OpenAPI 3.1 document: for its routes that of Feast's server, and what fastserve has beyond it."""
    _, schemas = msgspec.json.schema_components(STRUCTS, ref_template=REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {"title": "fastserve", "version": __version__},
        "paths": {
            "/get-online-features": {"post": _read_operation()},
            **{path: {"post": _write_operation(path, body)} for path, body in WRITES.items()},
            "/health": {"get": _health_operation()},
            "/livez": {"get": _watch_operation("livez", _content({}))},
            "/readyz": {"get": _watch_operation("readyz", _content({}), may_fail=True)},
            "/metrics": {"get": _watch_operation("metrics", {"text/plain": {"schema": {"type": "string"}}})},
        },
        "components": {"schemas": {name: _as_feast(schemas[name]) for name in sorted(schemas)}},
    }


def _read_operation() -> Json:
    compact = _reference(CompactFeaturesResponse)
    content = _content({"anyOf": [_reference(OnlineFeaturesResponse), compact]}, ANSWER_EXAMPLES)
    content |= {form: {"schema": {"type": "string", "contentMediaType": form}} for form in (ARROW, PROTOBUF)}
    return {
        "summary": "Get Online Features",
        "operationId": "get_online_features_get_online_features_post",
        "parameters": [_timeout()],
        "requestBody": {"content": _content(_reference(GetOnlineFeaturesRequest), REQUEST_EXAMPLES), "required": True},
        "responses": {"200": {"description": "Successful Response", "content": content}, **_errors()},
    }


def _write_operation(path: str, body: type) -> Json:
    name = path.strip("/").replace("-", "_")
    operation: Json = {
        "summary": name.replace("_", " ").title(),
        "operationId": f"{name}_{name}_post",
        "requestBody": {"content": _content(_reference(body)), "required": True},
        "responses": {"200": {"description": "Successful Response", "content": _content({})}, **_errors()},
    }
    if name.startswith("materialize"):
        operation["parameters"] = [_flag("async"), _flag("force")]
        accepted = {"description": "The work goes on after the answer", "content": _content({})}
        running = {"description": "One of the views is being loaded already", "content": _content({})}
        operation["responses"] |= {"202": accepted, "409": running}
    return operation


def _errors() -> Json:
    """What any route with a body may answer. The text of an error is a JSON string."""
    text = _content({"anyOf": [{"type": "string"}, {"type": "object", "required": ["detail"]}]})
    answers: Json = {str(status): {"description": what, "content": text} for status, what in ERRORS.items()}
    refused = {"anyOf": [_reference(HTTPValidationError), {"type": "string"}]}
    answers["422"] = {"description": "Validation Error", "content": _content(refused)}
    answers["503"]["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    return answers


def _timeout() -> Json:
    return {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "required": False,
        "description": "Answer within so many milliseconds, or 504; it can only shorten the server's own time-out.",
        "schema": {"type": "integer", "minimum": 1},
    }


def _flag(name: str) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": {"type": "boolean", "default": False}}


def _health_operation() -> Json:
    return {
        "summary": "Health",
        "operationId": "health_health_get",
        "responses": {"200": {"description": "Successful Response", "content": _content({})}},
    }


def _watch_operation(name: str, content: Json, may_fail: bool = False) -> Json:
    responses: Json = {"200": {"description": "Successful Response", "content": content}}
    if may_fail:
        responses["503"] = {"description": "Something is missing; the answer says what", "content": content}
    return {"summary": name.title(), "operationId": name, "responses": responses}


def _content(schema: Json, examples: Json | None = None) -> Json:
    content: Json = {"schema": schema}
    if examples is not None:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": content}


def _reference(struct: type) -> Json:
    return {"$ref": REFERENCE.format(name=struct.__name__)}


def _as_feast(schema: Any) -> Any:
    """Rewrite what msgspec words otherwise: it gives null defaults, no `items` for anything and no list of nothing."""
    if isinstance(schema, list):
        return [_as_feast(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _as_feast(value) for key, value in schema.items() if not _is_noise(key, value)}
    return found | {"items": {}} if found.get("type") == "array" and "items" not in found else found


def _is_noise(key: str, value: Any) -> bool:
    return (key == "default" and value is None) or (key == "required" and value == [])


SWAGGER = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5"

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fastserve</title>
<link rel="stylesheet" href="{swagger}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui">
<h1>fastserve {version}</h1>
<table>
<tr><th>Method</th><th>Path</th><th>What it is</th></tr>
{rows}
</table>
<p>A request, for instance:</p>
<pre>{example}</pre>
</div>
<script src="{swagger}/swagger-ui-bundle.js"></script>
<script>
// Without a network the table above stays.
if (window.SwaggerUIBundle) {{
  SwaggerUIBundle({{url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true}});
}}
</script>
</body>
</html>
"""


def docs_page() -> str:
    """Return the HTML page: a table of the routes, which Swagger UI replaces when it can be loaded."""
    rows = "\n".join(
        f"<tr><td>{method}</td><td><code>{path}</code></td><td>{html.escape(what)}</td></tr>"
        for method, path, what in ROUTES
    )
    command = f"curl -H 'Content-Type: application/json' -d '{json.dumps(REQUEST_EXAMPLES['features'])}' http://127.0.0.1:6566{ROUTES[0][1]}"
    return PAGE.format(swagger=SWAGGER, version=__version__, rows=rows, example=html.escape(command))
