"""Where the token of a client comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import ConfigError, NotSupportedError
from fastserve.stores import remote_auth
from fastserve.stores.remote_auth import token_of


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    file = tmp_path / "token"
    monkeypatch.setattr(remote_auth, "SERVICE_ACCOUNT", file)
    for name in ("FEAST_OIDC_TOKEN", "LOCAL_K8S_TOKEN", "MY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return file


def token(auth: dict[str, Any]) -> str:
    source = token_of(auth)
    assert source is not None
    return source()


def test_no_auth() -> None:
    assert token_of({"type": "no_auth"}) is None
    assert token_of({}) is None


@pytest.mark.parametrize(
    "auth",
    [
        {"type": "oidc", "token": "abc"},
        {"type": "kubernetes", "user_token": "abc"},
        {"type": "api_key", "token": "abc"},
    ],
    ids=lambda auth: auth["type"],
)
def test_a_token_in_the_configuration(auth: dict[str, Any]) -> None:
    assert token(auth) == "abc"


def test_a_variable_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    source = token_of({"type": "oidc", "token_env_var": "MY_TOKEN"})
    assert source is not None
    with pytest.raises(ConfigError, match="MY_TOKEN is not set"):
        source()
    for value in ("one", "two"):
        monkeypatch.setenv("MY_TOKEN", value)
        assert source() == value


@pytest.mark.parametrize(("kind", "variable"), [("oidc", "FEAST_OIDC_TOKEN"), ("kubernetes", "LOCAL_K8S_TOKEN")])
def test_without_any_key(kind: str, variable: str, monkeypatch: pytest.MonkeyPatch, nowhere: Path) -> None:
    with pytest.raises(ConfigError, match=f"neither auth.token nor {variable} nor"):
        token({"type": kind})
    nowhere.write_text("of the pod\n")
    assert token({"type": kind}) == "of the pod"
    monkeypatch.setenv(variable, "of the shell")
    assert token({"type": kind}) == "of the shell"


def test_a_server_s_keys_are_not_a_client_s() -> None:
    with pytest.raises(ConfigError, match="needs token or token_env_var"):
        token_of({"type": "api_key", "keys": ["abc"]})


def test_tokens_are_not_fetched() -> None:
    auth = {"type": "oidc", "client_secret": "s", "client_id": "i", "auth_discovery_url": "https://x"}
    with pytest.raises(NotSupportedError, match=r"auth\.client_secret"):
        token_of(auth)
