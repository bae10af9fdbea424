"""`fastserve serve`: its options, given as such or as variables. The server itself is tested in tests/server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from fastserve.cli import main
from fastserve.cli.serve import serve
from fastserve.server import run
from fastserve.server.run import ServeOptions

GIVEN: dict[str, tuple[str, dict[str, Any]]] = {
    "HOST": ("0.0.0.0", {"host": "0.0.0.0"}),
    "PORT": ("7001", {"port": 7001}),
    "TYPE": ("http", {}),
    "NO_ACCESS_LOG": ("true", {"access_log": False}),
    "WORKERS": ("3", {"workers": 3}),
    "WORKER_CONNECTIONS": ("7", {"worker_connections": 7}),
    "MAX_REQUESTS": ("8", {"max_requests": 8}),
    "MAX_REQUESTS_JITTER": ("9", {"max_requests_jitter": 9}),
    "KEEP_ALIVE_TIMEOUT": ("10", {"keep_alive_timeout": 10}),
    "REGISTRY_TTL_SEC": ("2.5", {"registry_ttl_sec": 2.5}),
    "TIMEOUT": ("1.5", {"timeout": 1.5}),
    "HEADER_TIMEOUT": ("2", {"header_timeout": 2.0}),
    "BODY_TIMEOUT": ("3", {"body_timeout": 3.0}),
    "MAX_BODY_BYTES": ("4096", {"max_body_bytes": 4096}),
    "MAX_ENTITIES": ("11", {"max_entities": 11}),
    "MAX_IN_FLIGHT": ("12", {"max_in_flight": 12}),
    "DRAIN_SECONDS": ("0.5", {"drain_seconds": 0.5}),
    "NO_FAST_LANE": ("1", {"fast_lane": False}),
    "METRICS": ("yes", {"metrics": True}),
    "METRICS_PORT": ("0", {"metrics_port": 0}),
    "LOG_FORMAT": ("json", {"log_format": "json"}),
}
PAIR = {"KEY": "k.pem", "CERT": "c.pem"}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServeOptions]:
    """The options that a server would have been started with."""
    found: list[ServeOptions] = []
    monkeypatch.setattr(run, "serve", lambda config, options: found.append(options))
    return found


def start(repo: Path, *arguments: str, **variables: str) -> object:
    """Run the command with these variables; return its exit status."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        for name, value in variables.items():
            patch.setenv(f"FASTSERVE_{name}", value)
        main(["-c", str(repo), "serve", *arguments])
    return end.value.code


@pytest.mark.parametrize("name", GIVEN)
def test_each_option_can_be_a_variable(sqlite_bank_repo: Path, served: list[ServeOptions], name: str) -> None:
    value, expected = GIVEN[name]
    assert start(sqlite_bank_repo, **{name: value}) == 0
    assert served == [ServeOptions(**expected)]


def test_key_and_certificate_can_be_variables(sqlite_bank_repo: Path, served: list[ServeOptions]) -> None:
    assert start(sqlite_bank_repo, **PAIR) == 0
    assert served == [ServeOptions(tls_key_path="k.pem", tls_cert_path="c.pem")]


def test_all_options_are_tried_here() -> None:
    names = {str(option.name).upper() for option in serve.params if isinstance(option, click.Option)}
    assert names == {*GIVEN, "TLS_KEY_PATH", "TLS_CERT_PATH"}


def test_an_option_wins_over_its_variable(sqlite_bank_repo: Path, served: list[ServeOptions]) -> None:
    assert start(sqlite_bank_repo, "-p", "7002", PORT="7001", WORKERS="2") == 0
    assert served == [ServeOptions(port=7002, workers=2)]


@pytest.mark.parametrize(("name", "value"), [("PORT", "x"), ("WORKERS", "0"), ("TIMEOUT", "-1"), ("LOG_FORMAT", "xml")])
def test_a_variable_that_is_wrong_is_refused(
    sqlite_bank_repo: Path, served: list[ServeOptions], name: str, value: str
) -> None:
    assert start(sqlite_bank_repo, **{name: value}) == 2
    assert served == []
