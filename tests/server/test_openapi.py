"""The OpenAPI document against Feast's, and the page that shows it."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import msgspec

from fastserve.server.app import ROUTES as APP_ROUTES
from fastserve.server.body import GetOnlineFeaturesRequest
from fastserve.server.openapi import (
    ANSWER_EXAMPLES,
    REQUEST_EXAMPLES,
    ROUTES,
    WRITES,
    CompactFeaturesResponse,
    OnlineFeaturesResponse,
    docs_page,
    openapi_document,
)
from fastserve.server.read import ARROW, PROTOBUF, READ_PATH
from tests import goldens

OURS = {
    "GetOnlineFeaturesRequest": ("compact", "binary_entities", "time_entities"),
    "PushFeaturesRequest": ("binary",),
    "WriteToFeatureStoreRequest": ("binary",),
}
"""Fields of bodies that Feast does not have."""


def bare(schema: Any, names: bool = False) -> Any:
    """Drop titles and descriptions; `names` says that the keys at hand are names of properties.

    Lists (`anyOf`, `required`) are sorted: their order means nothing, and it differs between versions of msgspec.
    """
    if isinstance(schema, list):
        return sorted((bare(item) for item in schema), key=lambda item: json.dumps(item, sort_keys=True))
    if not isinstance(schema, dict):
        return schema
    return {k: bare(v, k == "properties") for k, v in schema.items() if names or k not in ("title", "description")}


def without_ours(document: dict[str, Any]) -> dict[str, Any]:
    """Take out what fastserve has beyond Feast: forms of the answer, errors, time-outs, examples."""
    for path in ("/livez", "/readyz", "/metrics"):
        del document["paths"][path]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            for status in set(responses) - {"200", "422"}:
                del responses[status]
            if "422" in responses:
                validation = {"$ref": "#/components/schemas/HTTPValidationError"}
                assert {"type": "string"} in responses["422"]["content"]["application/json"]["schema"]["anyOf"]
                responses["422"]["content"]["application/json"]["schema"] = validation
            if path == READ_PATH:
                del operation["parameters"], responses["200"]["content"][ARROW], responses["200"]["content"][PROTOBUF]
                del operation["requestBody"]["content"]["application/json"]["examples"]
                json_form = responses["200"]["content"]["application/json"]
                json_form["schema"] = json_form["schema"]["anyOf"][0]
                del json_form["examples"]
    schemas = document["components"]["schemas"]
    del schemas["CompactFeaturesResponse"]
    for form, names in OURS.items():
        for name in names:
            del schemas[form]["properties"][name]
    return document


def test_every_path_and_schema_equals_feasts() -> None:
    ours, feasts = without_ours(copy.deepcopy(openapi_document())), goldens.load("http_openapi")
    assert set(ours["paths"]) == {READ_PATH, "/health", *WRITES}
    assert bare(ours["paths"]) == bare({path: feasts["paths"][path] for path in ours["paths"]})
    schemas = ours["components"]["schemas"]
    assert bare(schemas) == bare({name: feasts["components"]["schemas"][name] for name in schemas})


def test_examples_fit_what_they_are_examples_of() -> None:
    for name, example in REQUEST_EXAMPLES.items():
        request = msgspec.convert(example, GetOnlineFeaturesRequest)
        assert request.compact is (name == "compact")
    assert msgspec.convert(ANSWER_EXAMPLES["features"], OnlineFeaturesResponse).results[1].values == [41, None]
    assert msgspec.convert(ANSWER_EXAMPLES["compact"], CompactFeaturesResponse).values[1] == [41, None]


def test_every_schema_that_is_named_is_there() -> None:
    document = openapi_document()
    named = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert named == set(document["components"]["schemas"])


def test_the_page_lists_every_route_without_a_network() -> None:
    page = docs_page().partition("<script")[0]
    assert [(method, path) for method, path, _ in ROUTES] == [
        (method, route.path) for route in APP_ROUTES for method in (route.methods or set()) - {"HEAD"}
    ]
    for method, path, what in ROUTES:
        assert f"<td>{method}</td><td><code>{path}</code></td><td>{what}</td>" in page
