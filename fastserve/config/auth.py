"""The section `auth:`, who may ask a server.

auth:
  type: api_key
  keys:                             # any of these three, or several
    - ${RANKING_KEY}                # may do everything
    - {name: etl, key: ${ETL_KEY}, allow: [write]}
    - {name: web, sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824, allow: [read]}
  keys_file: secrets/keys.yaml      # a list like `keys`; read again when it changes
  keys_env: API_KEYS                # a variable with keys, separated by commas
  token: ...                        # what a client of such a server sends; or token_env_var
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import yaml
from msgspec import field

from fastserve.config.check import Section, read_section, type_name
from fastserve.errors import ConfigError

__all__ = ["ApiKey", "ApiKeyAuth", "check_auth", "load_keys", "parse_api_key_auth"]

TYPES = ("no_auth", "api_key", "oidc", "kubernetes")
ACTIONS = frozenset({"read", "write"})
_Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")]


class ApiKey(Section, frozen=True):
    """A key, of which only the hash is kept.

    Attributes:
        name: what logs call whoever has it.
        digest: SHA-256 of the key.
        allow: what it may do.
    """

    name: str
    digest: bytes
    allow: frozenset[str] = ACTIONS

    _secret: ClassVar[frozenset[str]] = frozenset({"digest"})


class _KeyEntry(Section, frozen=True):
    name: str = ""
    key: str | None = None
    sha256: _Sha256 | None = None
    allow: list[str] = field(default_factory=lambda: ["read", "write"])

    _secret: ClassVar[frozenset[str]] = frozenset({"key", "sha256"})


class ApiKeyAuth(Section, frozen=True):
    """The section, with type api_key.

    Attributes:
        keys_file: relative to the repository.
        token, token_env_var: of a client.
    """

    type: str = "api_key"
    keys: list[Any] = field(default_factory=list)
    keys_file: str | None = None
    keys_env: str | None = None
    token: str | None = None
    token_env_var: str | None = None

    _secret: ClassVar[frozenset[str]] = frozenset({"keys", "token"})


def check_auth(values: object) -> Mapping[str, Any]:
    """Return the section as a mapping that has a `type`.

    Raises:
        ConfigError: it is wrong; the text has no key in it.
    """
    if values is None:
        values = "no_auth"
    section = {"type": values} if isinstance(values, str) else values
    if not isinstance(section, Mapping):
        raise ConfigError(f"auth: expected a mapping, got {type_name(section)}")
    if section.get("type") not in TYPES:
        raise ConfigError("auth.type: must be no_auth, api_key, oidc or kubernetes")
    if section["type"] == "api_key":
        parse_api_key_auth(section)
    return dict(section)


def parse_api_key_auth(section: Mapping[str, Any]) -> ApiKeyAuth:
    """Return the section, its keys checked. Raises ConfigError."""
    found = read_section(ApiKeyAuth, section, "auth")
    _keys(found.keys, "auth.keys")
    sources = (found.keys, found.keys_file, found.keys_env, found.token, found.token_env_var)
    if not any(sources):
        raise ConfigError("auth: no key: give keys, keys_file or keys_env (a client: token or token_env_var)")
    return found


def load_keys(auth: ApiKeyAuth, repo_path: Path) -> list[ApiKey]:
    """Return the keys that a server takes.

    Raises:
        ConfigError: there is none, the file cannot be read, or the variable is not set.
    """
    found = _keys(auth.keys, "auth.keys")
    if auth.keys_file:
        found += _keys_of_file(repo_path / auth.keys_file)
    if auth.keys_env:
        given = [key.strip() for key in os.environ.get(auth.keys_env, "").split(",")]
        found += _keys([key for key in given if key], f"auth.keys_env: {auth.keys_env}")
    if not found:
        raise ConfigError("auth: no key: keys, keys_file and keys_env are empty, nobody could ask the server")
    return found


def _keys_of_file(path: Path) -> list[ApiKey]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"auth.keys_file: {path} cannot be read: {exc}") from None
    except yaml.YAMLError:
        # Its words would show a part of the file.
        raise ConfigError(f"auth.keys_file: {path} is not valid YAML") from None
    return _keys(values, f"auth.keys_file: {path}")


def _keys(values: object, path: str) -> list[ApiKey]:
    if not isinstance(values, list):
        raise ConfigError(f"{path}: expected a list of keys, got {type_name(values)}")
    return [_key(value, f"{path}[{number}]", number) for number, value in enumerate(values)]


def _key(value: object, path: str, number: int) -> ApiKey:
    entry = read_section(_KeyEntry, {"key": value} if isinstance(value, str) else value, path)
    if (entry.key is None) == (entry.sha256 is None):
        raise ConfigError(f"{path}: exactly one of key and sha256 is needed")
    if not entry.allow or not ACTIONS.issuperset(entry.allow):
        raise ConfigError(f"{path}.allow: must be read, write or both")
    if entry.sha256 is not None:
        digest = bytes.fromhex(entry.sha256)
    else:
        digest = hashlib.sha256(_checked(entry.key or "", path).encode()).digest()
    return ApiKey(entry.name or f"key {number + 1}", digest, frozenset(entry.allow))


def _checked(key: str, path: str) -> str:
    if key.startswith("$"):
        raise ConfigError(f"{path}: begins with $: is the environment variable not set?")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{path}: a key has printable ASCII characters without spaces, and at least one")
    return key
