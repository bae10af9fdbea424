"""Which feature_store.yaml a command or a server reads: options, then Feast's environment variables."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from fastserve.config import Config, load_config, parse_config_text
from fastserve.errors import ConfigError

__all__ = ["REPO_VARIABLE", "YAML_VARIABLE", "find_config"]

REPO_VARIABLE = "FEATURE_REPO_DIR_ENV_VAR"
YAML_VARIABLE = "FEATURE_STORE_YAML_BASE64"


def find_config(repo_path: str | Path | None = None, yaml_file: str | Path | None = None) -> Config:
    """Return the configuration that the arguments or the environment name.

    Args:
        repo_path: the repository; if not given, FEATURE_REPO_DIR_ENV_VAR, else the current directory.
        yaml_file: the file; if not given, the text in FEATURE_STORE_YAML_BASE64, else feature_store.yaml in the
            repository.

    Raises:
        ConfigError: there is none, or it is wrong.
    """
    root = repo_path or os.environ.get(REPO_VARIABLE) or "."
    encoded = os.environ.get(YAML_VARIABLE)
    if yaml_file is not None or not encoded:
        return load_config(root, yaml_file)
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise ConfigError(f"{YAML_VARIABLE}: not base64 of UTF-8 text: {exc}") from None
    return parse_config_text(text, root, YAML_VARIABLE)
