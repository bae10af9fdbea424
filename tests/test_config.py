"""feature_store.yaml -> Config."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import (
    Config,
    FastserveConfig,
    RedisConfig,
    RegistryConfig,
    RemoteConfig,
    SqliteConfig,
    load_config,
    parse_config,
    parse_config_text,
)
from fastserve.errors import ConfigError
from tests import goldens

MINIMAL: dict[str, Any] = {"project": "p", "registry": "data/registry.db"}


@pytest.fixture(autouse=True)
def no_feast_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEAST_FS_YAML_FILE_PATH", "FEAST_CA_CERT_FILE_PATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def config(**keys: Any) -> Config:
    return parse_config({**MINIMAL, **keys}, "/repo")


def fault(**keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config(**keys)
    return str(caught.value)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# ---- files ----


def test_the_bank() -> None:
    found = load_config(goldens.BANK)
    assert found.project == "bank"
    assert found.repo_path == goldens.BANK
    assert found.registry.path == str(goldens.BANK / "data/registry.db")
    assert found.registry.cache_ttl_seconds == 60
    assert isinstance(found.online_store, RedisConfig)
    assert found.online_store.nodes == (("localhost", 6379),)
    assert found.entity_key_serialization_version == 3


def test_the_current_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: here\nregistry: r.db\n")
    monkeypatch.chdir(tmp_path)
    assert load_config().project == "here"
    assert load_config().repo_path == tmp_path
    assert load_config(".").registry.path == str(tmp_path / "r.db")


def test_which_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("feature_store", "environment", "argument"):
        (tmp_path / f"{name}.yaml").write_text(f"project: {name}\nregistry: r.db\n")
    assert load_config(str(tmp_path)).project == "feature_store"
    monkeypatch.setenv("FEAST_FS_YAML_FILE_PATH", str(tmp_path / "environment.yaml"))
    assert load_config("/repo").project == "environment"
    assert load_config("/repo").registry.path == "/repo/r.db"
    assert load_config("/repo", tmp_path / "argument.yaml").project == "argument"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{tmp_path}/feature_store\.yaml does not exist; give the directory"):
        load_config(tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_bytes(b"project: \xff\n")
    with pytest.raises(ConfigError, match=r"feature_store\.yaml cannot be read: 'utf-8' codec"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be read: .*directory"):
        load_config(tmp_path, tmp_path)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "feature_store.yaml"
    path.write_text("project: p\nregistry: r\nonline_store: {type: redis, key_tll_seconds: 5}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert str(caught.value) == f"{path}: online_store.key_tll_seconds: unknown key; did you mean key_ttl_seconds?"


def test_feasts_certificates_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "/old")
    load_config(goldens.BANK)
    assert os.environ["SSL_CERT_FILE"] == "/old"
    monkeypatch.setenv("FEAST_CA_CERT_FILE_PATH", "/ca.pem")
    load_config(goldens.BANK)
    assert os.environ["SSL_CERT_FILE"] == os.environ["REQUESTS_CA_BUNDLE"] == "/ca.pem"


# ---- text ----


@pytest.mark.parametrize(
    ("text", "place"),
    [("project: p\nregistry: [\n", "line 3"), ("a: b: c\n", "line 1"), ("project: p\n\tregistry: r\n", "line 2")],
)
def test_text_that_is_not_yaml(text: str, place: str) -> None:
    with pytest.raises(ConfigError, match=rf"^my\.yaml, {place}: not valid YAML: "):
        parse_config_text(text, source="my.yaml")


def test_characters_that_yaml_does_not_allow() -> None:
    with pytest.raises(ConfigError, match=r"^feature_store\.yaml: not valid YAML: "):
        parse_config_text("project: \x00\n")


@pytest.mark.parametrize(("text", "kind"), [("", "nothing"), ("- a\n", "list"), ("text", "str")])
def test_text_that_is_no_mapping(text: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"the file: expected a mapping, got {kind}"):
        parse_config_text(text)


def test_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_NAME", "redis.internal")
    monkeypatch.setenv("TTL", "3600")
    monkeypatch.delenv("MISSING", raising=False)
    found = parse_config_text(
        "project: p\nregistry: ${MISSING}/$MISSING\n"
        "online_store:\n  type: redis\n  key_ttl_seconds: ${TTL}\n"
        "  connection_string: $HOST_NAME:6379,password=a$$b$\n",
        "/repo",
    )
    assert found.registry.path == "/repo/${MISSING}/$MISSING"
    assert isinstance(found.online_store, RedisConfig)
    assert found.online_store.connection.host == "redis.internal"
    assert found.online_store.connection.password == "a$$b$"
    assert found.online_store.key_ttl_seconds == 3600


# ---- top level ----


def test_defaults() -> None:
    found = config()
    assert found.provider == "local"
    assert found.online_store == SqliteConfig(path=Path("/repo/data/online.db"))
    assert found.auth == {"type": "no_auth"}
    assert found.feature_server == {}
    assert found.fastserve == FastserveConfig("status", True, None, 1024)
    assert found.materialization.online_write_batch_size is None
    assert found.project_description == ""


@pytest.mark.parametrize("key", ["project", "registry"])
def test_what_must_be_there(key: str) -> None:
    with pytest.raises(ConfigError, match=f"^config: {key}: required$"):
        parse_config({k: v for k, v in MINIMAL.items() if k != key})


def test_unknown_keys_at_the_top_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fastserve"):
        config(onlin_store="redis", flags={"a": 1}, offline_store={"type": "file"}, batch_engine="local", mlflow=None)
    assert warnings_of(caplog) == ["unknown key onlin_store is ignored; did you mean online_store?"]


@pytest.mark.parametrize("name", ["bank", "bank_2", "my-project", "2bank", "Bänk"])
def test_project_names(name: str) -> None:
    assert config(project=name, online_store="redis").project == name
    assert config(project=name).project == name


@pytest.mark.parametrize("name", ["", "_bank", "-bank", "my project", "a/b", "a.b", "bank\n"])
def test_project_names_that_are_none(name: str) -> None:
    assert fault(project=name).startswith(f"config: project: {name!r} is not a project name")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"project": 5}, "project: expected str, got int"),
        ({"provider": ["a"]}, "provider: expected str, got array"),
        ({"provider": "moon"}, "provider: unknown provider 'moon'; known are local, gcp, aws and azure"),
        ({"entity_key_serialization_version": "3"}, "entity_key_serialization_version: expected int, got str"),
        ({"entity_key_serialization_version": True}, "entity_key_serialization_version: expected int, got bool"),
        ({"entity_key_serialization_version": -1}, "entity_key_serialization_version: expected int >= 0"),
        (
            {"materialization": {"online_write_batch_size": 0}},
            "materialization.online_write_batch_size: expected int >= 1",
        ),
        ({"materialization": 5}, "materialization: expected a mapping, got int"),
    ],
)
def test_values_that_are_wrong(keys: dict[str, Any], text: str) -> None:
    assert fault(**keys) == f"config: {text}"


@pytest.mark.parametrize(("given", "meant"), [(0, 0), (2, 2), (3, 3), (4, 3), (99, 3)])
def test_key_versions(given: int, meant: int) -> None:
    assert config(entity_key_serialization_version=given).entity_key_serialization_version == meant


def test_providers_that_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fastserve"):
        assert config(provider="aws").provider == "aws"
        assert not caplog.records
        assert config(provider="my.module.Provider").provider == "my.module.Provider"
    assert "provider my.module.Provider is not used" in caplog.text


def test_materialization() -> None:
    found = config(materialization={"online_write_batch_size": 100, "pull_latest_features": True, "other": 1})
    assert found.materialization.online_write_batch_size == 100
    assert found.materialization.pull_latest_features


# ---- registry ----


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("r.db", "/repo/r.db"),
        ("/abs/r.db", "/abs/r.db"),
        ("file:///abs/my%20r.db", "/abs/my r.db"),
        ("file:r.db", "/repo/r.db"),
        ("s3://bucket/r.db", "s3://bucket/r.db"),
        ("d:/r.db", "/repo/d:/r.db"),
        ("odd name: r.db", "/repo/odd name: r.db"),
    ],
)
def test_registry_paths(given: str, path: str) -> None:
    assert config(registry=given).registry.path == path
    assert config(registry={"path": given}).registry.path == path


def test_the_registry_section(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fastserve"):
        found = config(
            registry={
                "registry_type": "sql",
                "path": "postgresql://u:secret@h/db",
                "cache_ttl_seconds": 0,
                "cache_mode": "thread",
                "enable_online_feature_view_versioning": True,
                "serve_features_while_materializing": True,
                "purge_feast_metadata": True,
                "read_path": "postgresql://u:secret@replica/db",
                "sqlalchemy_config_kwargs": {"echo": True},
                "schema_mode": "skip",
                "cache_ttl": 5,
            }
        ).registry
    assert found.path == "postgresql://u:secret@h/db"
    assert found.enable_online_feature_view_versioning
    assert found.sqlalchemy_config_kwargs == {"echo": True}
    assert warnings_of(caplog) == ["unknown key registry.cache_ttl is ignored; did you mean cache_ttl_seconds?"]


def test_defaults_of_the_registry() -> None:
    assert config().registry == RegistryConfig(path="/repo/data/registry.db")


@pytest.mark.parametrize(
    ("registry", "text"),
    [
        (None, "registry: expected a mapping, got nothing"),
        (5, "registry: expected a mapping, got int"),
        ({}, "registry.path: required"),
        ("", "registry.path: required"),
        ({"path": 5}, "registry.path: expected str, got int"),
        ({"path": "r", "cache_ttl_seconds": "5"}, "registry.cache_ttl_seconds: expected int, got str"),
        ({"path": "r", "cache_mode": "x"}, "registry.cache_mode: must be sync or thread"),
        (
            {"path": "r", "registry_type": "sqlite"},
            "registry.registry_type: must be file or sql or snowflake.registry or remote",
        ),
    ],
)
def test_registry_sections_that_are_wrong(registry: Any, text: str) -> None:
    assert fault(registry=registry) == f"config: {text}"


@pytest.mark.parametrize(
    ("registry", "fastserve", "seconds"),
    [
        ({}, {}, 1.0),
        ({"cache_ttl_seconds": 0}, {}, 1.0),
        ({"cache_mode": "thread"}, {}, 600.0),
        ({"cache_mode": "thread", "cache_ttl_seconds": 0}, {}, None),
        ({"cache_mode": "thread"}, {"registry_refresh_seconds": 2.5}, 2.5),
    ],
)
def test_how_often_the_registry_is_looked_at(registry: Any, fastserve: Any, seconds: float | None) -> None:
    assert config(registry={"path": "r", **registry}, fastserve=fastserve).registry_refresh_interval == seconds


# ---- online store ----


@pytest.mark.parametrize("value", [None, "none", "null", "None", {"type": None}, {"type": "none"}])
def test_no_online_store(value: Any) -> None:
    assert config(online_store=value).online_store is None


@pytest.mark.parametrize("name", ["redis", "feast.infra.online_stores.redis.RedisOnlineStore"])
def test_redis(name: str) -> None:
    for value in (name, {"type": name}):
        found = config(online_store=value).online_store
        assert isinstance(found, RedisConfig)
        assert found.connection.name == "redis localhost:6379/0"


@pytest.mark.parametrize("value", [{}, "sqlite", {"type": "feast.infra.online_stores.sqlite.SqliteOnlineStore"}])
def test_sqlite(value: Any) -> None:
    found = config(online_store=value).online_store
    assert isinstance(found, SqliteConfig)
    assert found.path == Path("/repo/data/online.db")


def test_sqlite_paths() -> None:
    for given, path in (("o.db", "/repo/o.db"), ("/abs/o.db", "/abs/o.db")):
        found = config(online_store={"type": "sqlite", "path": given, "vector_enabled": "false"}).online_store
        assert isinstance(found, SqliteConfig)
        assert found.path == Path(path)


def test_remote() -> None:
    found = config(online_store={"type": "remote", "path": "https://h:6566", "connection_retries": "5"}).online_store
    assert found == RemoteConfig(path="https://h:6566", connection_retries=5)


@pytest.mark.parametrize(
    ("store", "text"),
    [
        ("rediss", "online_store.type: unknown store type 'rediss'; known are redis, sqlite and remote"),
        ("dynamodb", "online_store.type: unknown store type 'dynamodb'; known are redis, sqlite and remote"),
        ({"type": 5}, "online_store.type: unknown store type 5; known are redis, sqlite and remote"),
        (5, "online_store: expected a store type or a mapping, got int"),
        ({"type": "sqlite", "pth": "x"}, "online_store.pth: unknown key; did you mean path?"),
        ({"type": "sqlite", "zzz": "x"}, "online_store.zzz: unknown key"),
        ({"type": "sqlite", "path": 5}, "online_store.path: expected str, got int"),
        ({"type": "remote", "connection_retries": -1}, "online_store.connection_retries: expected int >= 0"),
    ],
)
def test_stores_that_are_wrong(store: Any, text: str) -> None:
    assert fault(online_store=store) == f"config: {text}"


# ---- our section ----


def test_the_fastserve_section() -> None:
    found = config(
        fastserve={
            "ttl_mode": "enforce",
            "allow_on_demand": False,
            "registry_refresh_seconds": 5,
            "max_cached_plans": 10,
            "async_max_in_flight": 20,
            "async_max_waiting": 30,
        }
    )
    assert found.fastserve == FastserveConfig("enforce", False, 5.0, 10, async_max_in_flight=20, async_max_waiting=30)
    assert config(fastserve=None).fastserve == FastserveConfig()


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"ttl": "x"}, "fastserve.ttl: unknown key"),
        ({"ttl_mod": "x"}, "fastserve.ttl_mod: unknown key; did you mean ttl_mode?"),
        ({"ttl_mode": "x"}, "fastserve.ttl_mode: must be status or enforce or ignore"),
        ({"allow_on_demand": "no"}, "fastserve.allow_on_demand: expected bool, got str"),
        ({"registry_refresh_seconds": 0}, "fastserve.registry_refresh_seconds: expected float > 0.0"),
        ({"max_cached_plans": 0}, "fastserve.max_cached_plans: expected int >= 1"),
        ({"async_max_waiting": 0}, "fastserve.async_max_waiting: expected int >= 1"),
        ([], None),
        ("x", "fastserve: expected a mapping, got str"),
    ],
)
def test_fastserve_sections_that_are_wrong(section: Any, text: str | None) -> None:
    if text is None:
        assert config(fastserve=section).fastserve == FastserveConfig()
    else:
        assert fault(fastserve=section) == f"config: {text}"


# ---- feature server, auth ----


def test_feature_server() -> None:
    section = {"type": "mcp", "mcp_enabled": True, "metrics": {"enabled": True, "feature_count_bins": [1, 2]}}
    assert config(feature_server=section).feature_server == section
    assert config(feature_server={"feature_logging": {"enabled": True}}).feature_server["feature_logging"]["enabled"]


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"type": "x"}, "feature_server.type: must be local or mcp"),
        ({"mcp_enabled": True}, "feature_server.mcp_enabled: unknown key; did you mean enabled?"),
        ({"metrics": {"enabld": True}}, "feature_server.metrics.enabld: unknown key; did you mean enabled?"),
        ({"metrics": {"push": "x"}}, "feature_server.metrics.push: expected bool, got str"),
        (
            {"metrics": {"feature_count_bins": [2, 1]}},
            "feature_server.metrics.feature_count_bins: must increase strictly",
        ),
        ({"metrics": {"feature_count_bins": [0]}}, "feature_server.metrics.feature_count_bins[0]: expected int >= 1"),
        ({"audit_logging": {"sink": "x"}}, "feature_server.audit_logging.sink: must be stdout or file or logger"),
        ("x", "feature_server: expected a mapping, got str"),
    ],
)
def test_feature_servers_that_are_wrong(section: Any, text: str) -> None:
    assert fault(feature_server=section) == f"config: {text}"


@pytest.mark.parametrize("value", [None, "no_auth", {"type": "no_auth"}])
def test_no_auth(value: Any) -> None:
    assert config(auth=value).auth == {"type": "no_auth"}


def test_auth() -> None:
    section = {"type": "oidc", "auth_discovery_url": "https://h", "client_secret": "s3cret"}
    found = config(auth=section)
    assert found.auth == section
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize("value", ["x", {}, {"type": "x"}])
def test_auth_that_is_wrong(value: Any) -> None:
    assert fault(auth=value) == "config: auth.type: must be no_auth, api_key, oidc or kubernetes"


# ---- the whole ----


def test_no_repr_has_a_secret() -> None:
    found = config(
        registry={"registry_type": "sql", "path": "postgresql://u:s3cret@h/db"},
        online_store={"type": "redis", "connection_string": "rediss://u:s3cret@h/0"},
    )
    assert "s3cret" not in repr(found)


def test_a_config_can_be_pickled_and_compared() -> None:
    found = config(online_store="redis")
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(AttributeError):
        found.project = "other"  # type: ignore[misc]


def test_importing_it_is_light() -> None:
    heavy = {"pandas", "numpy", "pyarrow", "google", "redis", "pydantic", "sqlalchemy"}
    code = "import sys, fastserve.config; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())
