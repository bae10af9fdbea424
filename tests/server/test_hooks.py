"""What surrounds a request in either lane."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import parse_config
from fastserve.errors import AuthenticationError, FeastPermissionError
from fastserve.server.hooks import FOLDER_VARIABLE, Exchange, Hooks, Observation
from fastserve.server.logs import REQUEST_ID

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Head:
    def __init__(self, request_id: str | None = None, traceparent: str | None = None, credential: str | None = None):
        self.request_id = request_id
        self.traceparent = traceparent
        self.credential = credential


def hooks(repo: Path, auth: Any = None, **options: Any) -> Hooks:
    return Hooks(parse_config({"project": "p", "registry": "r.db", "auth": auth}, repo), Observation(**options))


def begun(found: Hooks, path: str = "/push", **headers: str) -> Exchange:
    return found.begin("POST", path, Head(**headers), "1.2.3.4:5")


def shown(found: Hooks, start: str) -> list[str]:
    return [line for line in found.metrics().splitlines() if line.startswith(start) and not line.endswith(" 0.0")]


@pytest.mark.parametrize("given", ["abc-1", "x" * 128, "!~"])
def test_the_id_of_the_client_is_kept(tmp_path: Path, given: str) -> None:
    exchange = begun(hooks(tmp_path), request_id=given)
    assert exchange.id == given
    assert exchange.headers == [(b"x-request-id", given.encode())]


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "a\x01", "é"])
def test_otherwise_one_is_made(tmp_path: Path, given: str | None) -> None:
    found = hooks(tmp_path)
    headers = {} if given is None else {"request_id": given}
    first, second = begun(found, **headers), begun(found, **headers)
    assert re.fullmatch("[0-9a-f]{8}-1", first.id)
    assert second.id == first.id[:-1] + "2"
    assert begun(hooks(tmp_path)).id != first.id


def test_a_traceparent_is_handed_back(tmp_path: Path) -> None:
    found = hooks(tmp_path)
    assert begun(found, traceparent=TRACE).headers[1] == (b"traceparent", TRACE.encode())
    for wrong in ("", "x", TRACE.upper(), TRACE + "-1", TRACE + "\n"):
        assert len(begun(found, traceparent=wrong).headers) == 1


def test_who_may_not_ask_is_refused(tmp_path: Path) -> None:
    keys = [{"name": "web", "key": "k", "allow": ["read"]}]
    found = hooks(tmp_path, {"type": "api_key", "keys": keys})
    exchange, head = begun(found, "/get-online-features"), Head(credential="k")
    found.check(exchange, head)
    assert exchange.key == "web"
    with pytest.raises(FeastPermissionError):
        found.check(begun(found), head)
    with pytest.raises(AuthenticationError):
        found.check(begun(found), Head())


def test_an_answer_is_counted(tmp_path: Path) -> None:
    found = hooks(tmp_path)
    found.end(begun(found), 200, 5)
    found.end(begun(found, "/get-online-features"), 404, 5)
    found.end(begun(found, "/no/such/1"), 404, 5)
    found.end(begun(found, "/no/such/2"), 404, 5)
    found.end(begun(found, "/livez"), 200, 5)
    assert shown(found, "fastserve_http_responses_total") == [
        'fastserve_http_responses_total{endpoint="/get-online-features",code="404"} 1.0',
        'fastserve_http_responses_total{endpoint="/livez",code="200"} 1.0',
        'fastserve_http_responses_total{endpoint="/push",code="200"} 1.0',
        'fastserve_http_responses_total{endpoint="other",code="404"} 2.0',
    ]
    # Reads count themselves, and what is no work of ours does not count here.
    assert shown(found, "feast_feature_server_request_total") == [
        'feast_feature_server_request_total{endpoint="/push",status="success"} 1.0'
    ]


def test_an_answer_is_logged_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def run(found: Hooks) -> None:
        exchange = begun(found, request_id="id-1", traceparent=TRACE)
        exchange.key = "web"
        found.end(exchange, 200, 5)
        await asyncio.sleep(0)
        found.end(begun(found, request_id="id-2"), 503, 0)
        found.close()  # what is left is written

    asyncio.run(run(hooks(tmp_path, access_log=True)))
    first, second = capfd.readouterr().out.splitlines()
    assert re.search(rf'1\.2\.3\.4:5 - "POST /push HTTP/1\.1" 200 5 \d+\.\d{{3}}ms id-1 web {TRACE}$', first)
    assert re.search(r"503 0 \d+\.\d{3}ms id-2$", second)

    asyncio.run(run(hooks(tmp_path)))
    assert capfd.readouterr().out == ""


def test_messages_are_about_their_request(tmp_path: Path) -> None:
    found = hooks(tmp_path)
    with found.about(begun(found, request_id="id-1")):
        assert REQUEST_ID.get() == "id-1"
    assert REQUEST_ID.get() == ""


@pytest.mark.parametrize("by_variable", [True, False])
def test_processes_of_a_folder_are_shown_together(
    tmp_path: Path, by_variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_variable:
        monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    both = [hooks(tmp_path, folder=None if by_variable else tmp_path) for _ in range(2)]
    for found in both:
        found.end(begun(found), 200, 0)
    for found in both:
        assert shown(found, "fastserve_http_responses") == [
            'fastserve_http_responses_total{endpoint="/push",code="200"} 2.0'
        ]
        found.close()


def test_categories_of_the_configuration_are_switched_off(tmp_path: Path) -> None:
    section = {"metrics": {"enabled": True, "request": False}}
    config = parse_config({"project": "p", "registry": "r.db", "feature_server": section}, tmp_path)
    found = Hooks(config)
    found.end(begun(found), 200, 0)
    assert shown(found, "fastserve_http_responses") == []
