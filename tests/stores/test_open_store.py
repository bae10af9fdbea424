"""Which store a configuration opens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import Config, parse_config
from fastserve.errors import ConfigError, NotSupportedError
from fastserve.stores import open_store
from fastserve.stores.redis import RedisStore
from fastserve.stores.remote import RemoteStore
from fastserve.stores.sqlite import SqliteStore
from tests.stores.content import PROJECT, read, write_sqlite
from tests.stores.scripted import PLAN, VIEW, numbers_of, rows


def config(online_store: object, folder: Path) -> Config:
    return parse_config({"project": PROJECT, "registry": "registry.db", "online_store": online_store}, folder)


def test_redis(tmp_path: Path) -> None:
    store = open_store(config({"type": "redis", "connection_string": "127.0.0.1:1,db=3"}, tmp_path))
    assert isinstance(store, RedisStore)


@pytest.mark.parametrize("section", [{"type": "sqlite", "path": "online.db"}, None])
def test_sqlite(tmp_path: Path, section: dict[str, Any] | None) -> None:
    """The path is relative to the repository, and has a default."""
    path = tmp_path / (section["path"] if section else "data/online.db")
    path.parent.mkdir(exist_ok=True)
    write_sqlite(path, VIEW, rows([1]))
    store = open_store(config(section or {"type": "sqlite"}, tmp_path))
    assert isinstance(store, SqliteStore)
    assert read(store, PLAN, id=[1]).values["numbers:number"] == numbers_of([1])


@pytest.mark.parametrize("kind", ["redis_cluster", "redis_sentinel"])
def test_redis_of_another_kind(tmp_path: Path, kind: str) -> None:
    section = {"type": "redis", "redis_type": kind, "connection_string": "127.0.0.1:1"}
    with pytest.raises(NotSupportedError, match=rf"online_store.redis_type: {kind} is not supported"):
        open_store(config(section, tmp_path))


def test_remote(tmp_path: Path) -> None:
    store = open_store(config({"type": "remote", "path": "http://127.0.0.1:1"}, tmp_path))
    assert isinstance(store, RemoteStore)


def test_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="online_store"):
        open_store(config(None, tmp_path))


def test_stores_that_are_not_configured_are_not_imported() -> None:
    code = (
        "import sys, fastserve.stores; print([m for m in ('hiredis', 'redis', 'sqlite3', 'ssl') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
