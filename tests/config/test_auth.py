"""The section `auth` with keys."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from fastserve.config.auth import ApiKey, check_auth, load_keys, parse_api_key_auth
from fastserve.errors import ConfigError

SECRET = "s3cret-s3cret"
DIGEST = hashlib.sha256(SECRET.encode()).digest()


def keys(folder: Path, **section: Any) -> list[ApiKey]:
    return load_keys(parse_api_key_auth({"type": "api_key", **section}), folder)


def fault(folder: Path, **section: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        keys(folder, **section)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_keys_have_a_name_and_rights(tmp_path: Path) -> None:
    section = [SECRET, {"key": "k2", "allow": ["read"]}, {"name": "etl", "sha256": DIGEST.hex(), "allow": ["write"]}]
    first, second, third = keys(tmp_path, keys=section)
    assert (first.name, first.digest, first.allow) == ("key 1", DIGEST, {"read", "write"})
    assert (second.name, second.allow) == ("key 2", {"read"})
    assert (third.name, third.digest, third.allow) == ("etl", DIGEST, {"write"})


def test_keys_come_from_a_file_and_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys.yaml").write_text(f"- {{name: web, key: {SECRET}}}\n")
    monkeypatch.setenv("SOME_KEYS", "a, b,")
    found = keys(tmp_path, keys=["k"], keys_file="keys.yaml", keys_env="SOME_KEYS")
    assert [key.name for key in found] == ["key 1", "web", "key 1", "key 2"]
    assert found[1].digest == DIGEST
    assert found[3].digest == hashlib.sha256(b"b").digest()


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({}, "auth: no key: give keys, keys_file or keys_env"),
        ({"keys_env": "NO_SUCH_VARIABLE"}, "auth: no key: keys, keys_file and keys_env are empty"),
        ({"keys": "x"}, "auth.keys: expected array, got str"),
        ({"keys": [1]}, r"auth.keys[0]: expected a mapping, got int"),
        ({"keys": ["ok", {"name": "n"}]}, "auth.keys[1]: exactly one of key and sha256"),
        ({"keys": [{"key": SECRET, "sha256": DIGEST.hex()}]}, "auth.keys[0]: exactly one of key and sha256"),
        ({"keys": [{"sha256": SECRET}]}, "auth.keys[0].sha256:"),
        ({"keys": [{"key": SECRET, "allow": ["fly"]}]}, "auth.keys[0].allow"),
        ({"keys": [{"keey": SECRET}]}, "auth.keys[0].keey: unknown key; did you mean key?"),
        ({"keys": ["${UNSET_" + SECRET + "}"]}, "begins with $: is the environment variable not set?"),
        ({"keys": [""]}, "at least one"),
        ({"keys": [f"{SECRET} {SECRET}"]}, "without spaces"),
        ({"keys": [f"é{SECRET}"]}, "printable ASCII"),
        ({"key": SECRET}, "auth.key: unknown key; did you mean keys?"),
        ({"keys_file": "none.yaml"}, "none.yaml cannot be read"),
        ({"keys_file": "bad.yaml"}, "bad.yaml is not valid YAML"),
        ({"keys_file": "text.yaml"}, "text.yaml: expected a list of keys, got str"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_without_the_key(tmp_path: Path, section: dict[str, Any], text: str) -> None:
    (tmp_path / "bad.yaml").write_text(f"- [{SECRET}")
    (tmp_path / "text.yaml").write_text(SECRET)
    assert text in fault(tmp_path, **section)


def test_a_client_needs_no_keys_but_a_server_does(tmp_path: Path) -> None:
    section = {"type": "api_key", "token": SECRET}
    assert check_auth(section) == section
    with pytest.raises(ConfigError, match="nobody could ask the server"):
        keys(tmp_path, token=SECRET)


def test_no_repr_shows_a_key(tmp_path: Path) -> None:
    section = {"type": "api_key", "keys": [SECRET], "token": SECRET}
    assert SECRET not in repr(parse_api_key_auth(section))
    assert DIGEST.hex() not in repr(keys(tmp_path, keys=[SECRET]))
    assert repr(DIGEST) not in repr(keys(tmp_path, keys=[SECRET]))
