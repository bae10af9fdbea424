"""Who may ask: the keys of `auth: {type: api_key}`, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from collections.abc import Sequence

from fastserve.config import Config
from fastserve.config.auth import ApiKey, load_keys, parse_api_key_auth
from fastserve.errors import AuthenticationError, ConfigError, FeastPermissionError, NotSupportedError

__all__ = ["Gate", "credential_of"]

logger = logging.getLogger("fastserve.server")

OPEN_PATHS = frozenset({"/health", "/livez", "/readyz", "/docs", "/openapi.json"})
"""What anybody may ask."""

ACTIONS = {
    "/get-online-features": "read",
    "/push": "write",
    "/write-to-online-store": "write",
    "/materialize": "write",
    "/materialize-incremental": "write",
}
NO_TOKEN = "Missing authentication token"
BAD_TOKEN = "Invalid or expired access token"
"""Feast's words, which its clients may look for."""


class Gate:
    """Lets requests pass that carry a key: `Authorization: Bearer KEY`, or `X-API-Key: KEY`.

    Raises:
        ConfigError: there is no key, or the file of keys cannot be read.
        NotSupportedError: the configuration asks for tokens that fastserve cannot check: it would be open to all.
    """

    def __init__(self, config: Config):
        self._auth = None
        self._keys: Sequence[ApiKey] = ()
        self._repo_path = config.repo_path
        kind = config.auth["type"]
        if kind == "no_auth":
            return
        if kind != "api_key":
            raise NotSupportedError(
                f"auth.type: {kind}: fastserve does not check such tokens; use api_key, or no_auth behind a proxy"
            )
        self._auth = parse_api_key_auth(config.auth)
        self._mark = self._file_mark()
        self._keys = load_keys(self._auth, self._repo_path)

    @property
    def is_open(self) -> bool:
        """Whether anybody may ask."""
        return self._auth is None

    def pass_or_raise(self, path: str, credential: str | None) -> str:
        """Return the name of whoever asks, "" if anybody may.

        Args:
            path: of the request.
            credential: the key; see `credential_of`.
        Raises:
            AuthenticationError: there is no key, or none that is known.
            FeastPermissionError: the key does not allow that.
        """
        if self._auth is None or path in OPEN_PATHS:
            return ""
        if credential is None:
            raise AuthenticationError(NO_TOKEN)
        key = self._find(credential)
        if key is None:
            raise AuthenticationError(BAD_TOKEN)
        action = ACTIONS.get(path)
        if action is not None and action not in key.allow:
            raise FeastPermissionError(f"{key.name} may not {action}: {path}")
        return key.name

    def _find(self, credential: str) -> ApiKey | None:
        """Look at all keys, so that the time tells nothing of which one it is."""
        digest = hashlib.sha256(credential.encode("latin-1", "replace")).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(digest, key.digest):
                found = key
        return found

    def refresh(self) -> None:
        """Read the file of keys again if it has changed; when that fails the old keys stay."""
        if self._auth is None or (mark := self._file_mark()) == self._mark:
            return
        self._mark = mark
        try:
            self._keys = load_keys(self._auth, self._repo_path)
            logger.info("the keys were read again: %d", len(self._keys))
        except ConfigError as exc:
            logger.error("the old keys stay in use: %s", exc)

    def _file_mark(self) -> object:
        if self._auth is None or not self._auth.keys_file:
            return None
        try:
            status = os.stat(self._repo_path / self._auth.keys_file)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def credential_of(authorization: str | None, api_key: str | None) -> str | None:
    """Return the key that the two headers carry, or None.

    A header Authorization of another scheme carries none.
    """
    if authorization is not None:
        scheme, _, credential = authorization.strip().partition(" ")
        if scheme.lower() == "bearer" and credential.strip():
            return credential.strip()
    return api_key.strip() or None if api_key is not None else None
