"""The gate: which keys let which requests pass."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import parse_config
from fastserve.errors import AuthenticationError, ConfigError, FeastPermissionError, NotSupportedError
from fastserve.server import auth
from fastserve.server.auth import Gate, credential_of

READ, PUSH = "/get-online-features", "/push"


def gate(folder: Path, section: Any) -> Gate:
    return Gate(parse_config({"project": "p", "registry": "r.db", "auth": section}, folder))


def keyed(folder: Path) -> Gate:
    keys = ["all", {"name": "web", "key": "r", "allow": ["read"]}, {"name": "etl", "key": "w", "allow": ["write"]}]
    return gate(folder, {"type": "api_key", "keys": keys})


def test_without_auth_anybody_may_ask(tmp_path: Path) -> None:
    assert gate(tmp_path, None).is_open
    assert gate(tmp_path, None).pass_or_raise(PUSH, None) == ""


@pytest.mark.parametrize("kind", ["oidc", "kubernetes"])
def test_tokens_that_cannot_be_checked_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(NotSupportedError, match=f"auth.type: {kind}: fastserve does not check such tokens"):
        gate(tmp_path, {"type": kind})


def test_keys_let_pass_what_they_allow(tmp_path: Path) -> None:
    found = keyed(tmp_path)
    assert not found.is_open
    for credential, path, name in [
        ("all", READ, "key 1"),
        ("all", PUSH, "key 1"),
        ("r", READ, "web"),
        ("w", PUSH, "etl"),
    ]:
        assert found.pass_or_raise(path, credential) == name
    assert found.pass_or_raise("/metrics", "r") == "web"
    with pytest.raises(FeastPermissionError, match="web may not write: /materialize"):
        found.pass_or_raise("/materialize", "r")
    with pytest.raises(FeastPermissionError, match="etl may not read"):
        found.pass_or_raise(READ, "w")


@pytest.mark.parametrize("path", [READ, PUSH, "/metrics", "/no-such-route"])
@pytest.mark.parametrize(
    ("credential", "text"),
    [
        (None, "Missing authentication token"),
        ("x", "Invalid or expired"),
        ("", "Invalid"),
        ("all ", "Invalid"),
        ("é", "I"),
    ],
)
def test_others_are_refused(tmp_path: Path, path: str, credential: str | None, text: str) -> None:
    with pytest.raises(AuthenticationError, match=text):
        keyed(tmp_path).pass_or_raise(path, credential)


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/docs", "/openapi.json"])
def test_some_paths_are_open(tmp_path: Path, path: str) -> None:
    assert keyed(tmp_path).pass_or_raise(path, None) == ""


@pytest.mark.parametrize("credential", ["all", "w", "nothing"])
def test_all_keys_are_compared(tmp_path: Path, credential: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    compare_digest = hmac.compare_digest

    def compare(first: bytes, second: bytes) -> bool:
        compared.append(second)
        return compare_digest(first, second)

    found = keyed(tmp_path)
    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    if credential == "nothing":
        with pytest.raises(AuthenticationError):
            found.pass_or_raise("/metrics", credential)
    else:
        found.pass_or_raise("/metrics", credential)
    assert len(compared) == 3


@pytest.mark.parametrize(
    ("authorization", "api_key", "credential"),
    [
        (None, None, None),
        ("Bearer k", None, "k"),
        ("bearer   k ", None, "k"),
        ("Bearer", None, None),
        ("Bearer ", "x", "x"),
        ("Basic abc", None, None),
        ("Basic abc", "x", "x"),
        ("Bearer k", "x", "k"),
        (None, " x ", "x"),
        (None, " ", None),
    ],
)
def test_two_headers_carry_a_key(authorization: str | None, api_key: str | None, credential: str | None) -> None:
    assert credential_of(authorization, api_key) == credential


def test_a_file_of_keys_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("[first]")
    found = gate(tmp_path, {"type": "api_key", "keys_file": "keys.yaml"})
    path.write_text("[second, third]")
    with pytest.raises(AuthenticationError):
        found.pass_or_raise(READ, "second")
    found.refresh()
    assert found.pass_or_raise(READ, "third") == "key 2"
    with pytest.raises(AuthenticationError):
        found.pass_or_raise(READ, "first")

    path.write_text("{")
    found.refresh()
    assert "the old keys stay in use" in caplog.text
    assert found.pass_or_raise(READ, "third") == "key 2"
    caplog.clear()
    found.refresh()
    os.unlink(path)
    found.refresh()
    assert "cannot be read" in caplog.text
    assert found.pass_or_raise(READ, "second") == "key 1"


def test_a_server_needs_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody could ask"):
        gate(tmp_path, {"type": "api_key", "token": "t"})
