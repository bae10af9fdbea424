"""The section `auth` of a client's feature_store.yaml -> the token that its requests carry.

Of type api_key, ours, `token` or `token_env_var`. Of type oidc these too, of type kubernetes `user_token`, as Feast has
them; without them the token is that of the environment variable FEAST_OIDC_TOKEN or LOCAL_K8S_TOKEN, or of the service
account of a pod. Variables and files are read again for each request, since tokens expire and others renew them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastserve.errors import ConfigError, NotSupportedError

__all__ = ["Token", "token_of"]

Token = Callable[[], str]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def token_of(auth: Mapping[str, Any]) -> Token | None:
    """Return what gives the token, or None when there is to be none.

    Raises:
        ConfigError: of type api_key, but without key.
        NotSupportedError: the token would have to be fetched from an OIDC provider first.
    """
    kind = auth.get("type", "no_auth")
    if kind == "no_auth":
        return None
    if given := auth.get("token") or auth.get("user_token"):
        return lambda: str(given)
    if variable := auth.get("token_env_var"):
        return lambda: _from_environment(str(variable))
    if kind == "api_key":
        raise ConfigError("auth: a client of another server needs token or token_env_var")
    if auth.get("client_secret"):
        raise NotSupportedError(
            "auth.client_secret: fastserve does not fetch tokens; give auth.token or auth.token_env_var"
        )
    return _from_kubernetes if kind == "kubernetes" else _from_oidc


def _from_environment(variable: str) -> str:
    token = os.environ.get(variable)
    if not token:
        raise ConfigError(f"auth.token_env_var: the environment variable {variable} is not set")
    return token


def _from_oidc() -> str:
    return os.environ.get("FEAST_OIDC_TOKEN") or _from_file() or _missing("FEAST_OIDC_TOKEN")


def _from_kubernetes() -> str:
    return os.environ.get("LOCAL_K8S_TOKEN") or _from_file() or _missing("LOCAL_K8S_TOKEN")


def _from_file() -> str:
    try:
        return SERVICE_ACCOUNT.read_text().strip()
    except OSError:
        return ""


def _missing(variable: str) -> str:
    raise ConfigError(f"auth: no token: neither auth.token nor {variable} nor {SERVICE_ACCOUNT} gives one")
