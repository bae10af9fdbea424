"""Requests that schemathesis makes from the OpenAPI document, good and bad, to both lanes: what comes back is in it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.server.serving import FeatureServer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def server(
    sqlite_repo: Path, lane: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FeatureServer]:
    with FeatureServer.start(sqlite_repo, tmp_path_factory.mktemp("log") / "log", "--no-access-log", *lane) as found:
        yield found


def operations(server: FeatureServer) -> dict[str, Any]:
    document = server.client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    return {found.ok().path: found.ok() for found in schema.get_all_operations()}


@pytest.mark.parametrize(
    "path",
    [
        *("/get-online-features", "/push", "/write-to-online-store", "/materialize", "/materialize-incremental"),
        "/health",
    ],
)
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_answers_are_in_the_document(server: FeatureServer, lane: tuple[str, ...], path: str, mode: str) -> None:
    if lane and path != "/get-online-features":
        pytest.skip("it goes through ASGI in either lane, and was asked in the other")
    operation = operations(server)[path]
    if mode == "NEGATIVE" and path == "/health":
        pytest.skip("nothing can be wrong with it")

    @EXAMPLES
    @given(operation.as_strategy(generation_mode=getattr(schemathesis.GenerationMode, mode)))
    def ask(case: Any) -> None:
        check(case, send(server, case), mode)

    ask()
    assert "Traceback" not in server.log.read_text()


def send(server: FeatureServer, case: Any) -> httpx.Response:
    arguments = case.as_transport_kwargs(base_url=f"http://127.0.0.1:{server.port}")
    wanted = {
        name: arguments[name] for name in ("headers", "params", "json", "data") if arguments.get(name) is not None
    }
    if "data" in wanted:
        wanted["content"] = wanted.pop("data")
    return server.client.request(arguments["method"], arguments["url"], **wanted)


def check(case: Any, answer: httpx.Response, mode: str) -> None:
    documented = case.operation.definition.raw["responses"]
    assert str(answer.status_code) in {*documented, "405"}, answer.text
    assert answer.status_code != 500 or isinstance(answer.json(), str)
    if answer.content and answer.status_code != 200:
        assert answer.headers["content-type"] == "application/json"
        json.loads(answer.content)
