"""The OpenAPI document against Feast's, and the page that shows it."""

from __future__ import annotations

import json
import re
from typing import Any

from fastserve.server.app import ROUTES as APP_ROUTES
from fastserve.server.openapi import ROUTES, WRITES, docs_page, openapi_document
from tests import goldens


def bare(schema: Any, names: bool = False) -> Any:
    """Drop titles and descriptions; `names` says that the keys at hand are names of properties.

    Lists (`anyOf`, `required`) are sorted: their order means nothing, and it differs between versions of msgspec.
    """
    if isinstance(schema, list):
        return sorted((bare(item) for item in schema), key=lambda item: json.dumps(item, sort_keys=True))
    if not isinstance(schema, dict):
        return schema
    return {k: bare(v, k == "properties") for k, v in schema.items() if names or k not in ("title", "description")}


def test_every_path_and_schema_equals_feasts() -> None:
    ours, feasts = openapi_document(), goldens.load("http_openapi")
    assert set(ours["paths"]) == {"/get-online-features", "/health", *WRITES}
    assert bare(ours["paths"]) == bare({path: feasts["paths"][path] for path in ours["paths"]})
    schemas = ours["components"]["schemas"]
    assert bare(schemas) == bare({name: feasts["components"]["schemas"][name] for name in schemas})


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
