"""feature_store.yaml -> Config.

The file is Feast's, with one section of our own, `fastserve:`. Errors name the file and the key by its path, such as
`online_store.key_ttl_seconds`. Values that can hold a password (addresses, connection strings, `auth`) appear in no
error, log line or repr.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import unquote

import msgspec
import yaml
from msgspec import field
from msgspec.structs import replace

from fastserve.config.auth import check_auth
from fastserve.config.check import Section, read_section, type_name
from fastserve.config.redis import RedisConfig, RedisConnection, parse_redis
from fastserve.errors import ConfigError

__all__ = [
    "Config",
    "FastserveConfig",
    "MaterializationConfig",
    "RedisConfig",
    "RedisConnection",
    "RegistryConfig",
    "RemoteConfig",
    "SqliteConfig",
    "StoreConfig",
    "load_config",
    "parse_config",
    "parse_config_text",
]

logger = logging.getLogger(__name__)

PositiveNumber = Annotated[float, msgspec.Meta(gt=0)]
PositiveInt = Annotated[int, msgspec.Meta(ge=1)]

FILE_NAME = "feature_store.yaml"


class RegistryConfig(Section, frozen=True):
    """The `registry:` section.

    Attributes:
        path: of a file registry an absolute path, or a URI of another scheme as written; else what `registry_type`
            needs (a database URL, an address).
        cache_ttl_seconds: 0 means that the registry is never read again.
    """

    registry_type: Literal["file", "sql", "snowflake.registry", "remote"] = "file"
    path: str = ""
    cache_ttl_seconds: int = 600
    cache_mode: Literal["sync", "thread"] = "sync"
    registry_store_type: str | None = None
    purge_feast_metadata: bool = False
    s3_additional_kwargs: dict[str, Any] | None = None
    enable_online_feature_view_versioning: bool = False
    serve_features_while_materializing: bool = False
    read_path: str | None = None
    sqlalchemy_config_kwargs: dict[str, Any] = field(default_factory=lambda: {"echo": False})
    thread_pool_executor_worker_count: int = 0
    schema_mode: Literal["auto", "verify", "skip"] = "auto"

    _secret: ClassVar[frozenset[str]] = frozenset(
        {"path", "read_path", "s3_additional_kwargs", "sqlalchemy_config_kwargs"}
    )


class SqliteConfig(Section, frozen=True):
    """An `online_store:` of type sqlite; `path` is absolute. The other keys are for vector search."""

    type: str = "sqlite"
    path: Path = Path("data/online.db")
    vector_enabled: bool = False
    similarity: str | None = "cosine"
    text_search_enabled: bool = False
    enable_openai_compatible_store: bool = False


class RemoteConfig(Section, frozen=True):
    """An `online_store:` of type remote: another feature server.

    Attributes:
        path: its URL.
        cert: a file with certificates, or "" for the system's.
        connection_idle_timeout: seconds; 0 means for ever.
    """

    type: str = "remote"
    path: str = "http://localhost:6566"
    cert: str | None = ""
    connection_pool_size: PositiveInt = 50
    connection_idle_timeout: Annotated[int, msgspec.Meta(ge=0)] = 300
    connection_retries: Annotated[int, msgspec.Meta(ge=0)] = 3


StoreConfig = RedisConfig | SqliteConfig | RemoteConfig


class MaterializationConfig(Section, frozen=True):
    """The `materialization:` section; without a batch size the writer chooses one."""

    online_write_batch_size: PositiveInt | None = None
    pull_latest_features: bool = False


class FastserveConfig(Section, frozen=True):
    """The `fastserve:` section.

    Attributes:
        ttl_mode: what happens to a value older than its view's ttl: "status" keeps the value and tells by its status,
            "enforce" makes it null, "ignore" does neither.
        allow_on_demand: whether code in the registry may be loaded and run.
        registry_refresh_seconds: how often to ask whether the registry has changed; None leaves it to the registry's
            own settings.
        max_cached_plans: how many request shapes are kept compiled.
        async_max_in_flight: of an event loop's connection to Redis, reads (or pieces of large ones) whose replies have
            not come; further reads wait.
        async_max_waiting: reads of an event loop that wait; further ones are StoreOverloadedError.
        remote_timeout_seconds: with an `online_store` of type remote, how long a request may take, its attempts and
            the pauses between them included.
        vector_format: of the precomputed vectors that are built: "packed", or "feast", which Feast reads too; "auto" is
            "packed". Read are those that were built last; of a service of which none were built here "auto" and "feast"
            read Feast's.
    """

    ttl_mode: Literal["status", "enforce", "ignore"] = "status"
    allow_on_demand: bool = True
    registry_refresh_seconds: PositiveNumber | None = None
    max_cached_plans: PositiveInt = 1024
    remote_timeout_seconds: PositiveNumber = 30.0
    vector_format: Literal["auto", "packed", "feast"] = "auto"
    async_max_in_flight: PositiveInt = 1024
    async_max_waiting: PositiveInt = 8192


class Config(Section, frozen=True):
    """A whole feature_store.yaml.

    Attributes:
        repo_path: absolute; the base of relative paths.
        online_store: None when there is none.
        entity_key_serialization_version: 0 to 3.
        feature_server: checked, but otherwise as written.
        auth: the same; it always has a `type`.
    """

    project: str
    provider: str
    repo_path: Path
    registry: RegistryConfig
    online_store: StoreConfig | None
    entity_key_serialization_version: int = 3
    feature_server: Mapping[str, Any] = field(default_factory=dict)
    auth: Mapping[str, Any] = field(default_factory=dict)
    materialization: MaterializationConfig = MaterializationConfig()
    fastserve: FastserveConfig = FastserveConfig()
    project_description: str = ""

    _secret: ClassVar[frozenset[str]] = frozenset({"auth"})

    @property
    def registry_refresh_interval(self) -> float | None:
        """Seconds between two looks at the registry, or None for never.

        What `fastserve.registry_refresh_seconds` says. Else, with `cache_mode: sync`, every second: Feast then looks at
        each request, and a look costs next to nothing. With `cache_mode: thread`, `cache_ttl_seconds`, of which 0 means
        never.
        """
        if self.fastserve.registry_refresh_seconds is not None:
            return self.fastserve.registry_refresh_seconds
        if self.registry.cache_mode == "sync":
            return 1.0
        return float(self.registry.cache_ttl_seconds) if self.registry.cache_ttl_seconds > 0 else None


def load_config(repo_path: str | Path | None = None, fs_yaml_file: str | Path | None = None) -> Config:
    """Read a feature_store.yaml.

    Args:
        repo_path: the repository; the current directory if not given.
        fs_yaml_file: the file; if not given, what the environment variable FEAST_FS_YAML_FILE_PATH says, else
            `feature_store.yaml` in the repository. Relative paths in it start at the repository in any case.

    Raises:
        ConfigError: the file cannot be read, or is wrong.
    """
    root = Path(repo_path or ".")
    path = Path(fs_yaml_file or os.environ.get("FEAST_FS_YAML_FILE_PATH") or root / FILE_NAME)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; give the directory that has a {FILE_NAME}, or the file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}") from exc
    _trust_feast_ca()
    return parse_config_text(text, root, str(path))


def _trust_feast_ca() -> None:
    bundle = os.environ.get("FEAST_CA_CERT_FILE_PATH")
    if bundle:
        os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = bundle


def parse_config_text(text: str, repo_path: str | Path = ".", source: str = FILE_NAME) -> Config:
    """Return the configuration of a YAML text, in which `$NAME` and `${NAME}` stand for environment variables.

    Args:
        source: how errors name the text.

    Raises:
        ConfigError: the text is not YAML, or wrong.
    """
    try:
        values = yaml.safe_load(os.path.expandvars(text))
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{place}: not valid YAML: {getattr(exc, 'problem', None) or exc}") from None
    return parse_config(values, repo_path, source)


def parse_config(values: Mapping[str, Any], repo_path: str | Path = ".", source: str = "config") -> Config:
    """Return the configuration of a mapping with the keys of feature_store.yaml.

    Args:
        repo_path: where relative paths start.
        source: how errors name the mapping.

    Raises:
        ConfigError: a key or value is wrong; the text names it by its path.
    """
    try:
        return _config(values, Path(os.path.abspath(repo_path)))
    except ConfigError as exc:
        raise ConfigError(f"{source}: {exc}") from None


# ---- sections ----


class _Top(Section, frozen=True):
    project: str
    registry: Any
    project_description: str | None = None
    provider: str = "local"
    online_store: Any = field(default_factory=dict)
    entity_key_serialization_version: Annotated[int, msgspec.Meta(ge=0)] = 3
    feature_server: Any = None
    auth: Any = None
    materialization: Any = None
    fastserve: Any = None
    # Feast's, without meaning for the online half.
    repo_path: Any = None
    offline_store: Any = None
    batch_engine: Any = None
    flags: Any = None
    coerce_tz_aware: Any = None
    embedding_model: Any = None
    openlineage: Any = None
    mlflow: Any = None
    data_quality_monitoring: Any = None


def _config(values: Mapping[str, Any], repo_path: Path) -> Config:
    top = read_section(_Top, values, "", unknown_is_fatal=False)
    return Config(
        project=_project(top.project),
        project_description=top.project_description or "",
        provider=_provider(top.provider),
        repo_path=repo_path,
        registry=_registry(top.registry, repo_path),
        online_store=_online_store(top.online_store, repo_path),
        # Feast takes any later number for 3.
        entity_key_serialization_version=min(top.entity_key_serialization_version, 3),
        feature_server=_feature_server(top.feature_server),
        auth=check_auth(top.auth),
        materialization=read_section(
            MaterializationConfig, top.materialization or {}, "materialization", unknown_is_fatal=False
        ),
        fastserve=read_section(FastserveConfig, top.fastserve or {}, "fastserve"),
    )


def _project(name: str) -> str:
    if not re.fullmatch(r"(?![_-])[\w-]+", name):
        raise ConfigError(
            f"project: {name!r} is not a project name; it may have letters, digits, underscores and hyphens, "
            "and must start with a letter or digit"
        )
    return name


def _provider(name: str) -> str:
    if name in ("local", "gcp", "aws", "azure"):
        return name
    if "." not in name and name not in ("unity_catalog", "chronon"):
        raise ConfigError(f"provider: unknown provider {name!r}; known are local, gcp, aws and azure")
    logger.warning("provider %s is not used: features are read from the online store directly", name)
    return name


def _registry(values: object, repo_path: Path) -> RegistryConfig:
    section = {"path": values} if isinstance(values, str) else values
    found = read_section(RegistryConfig, section, "registry", unknown_is_fatal=False)
    if not found.path:
        raise ConfigError("registry.path: required")
    return replace(found, path=_file_path(found.path, repo_path)) if found.registry_type == "file" else found


def _file_path(path: str, repo_path: Path) -> str:
    """Return an absolute path, or a URI of another scheme than `file` as it is."""
    scheme, colon, rest = path.partition(":")
    # One letter is a Windows drive.
    if not colon or len(scheme) == 1 or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return os.path.join(repo_path, path)
    return os.path.join(repo_path, unquote(rest.removeprefix("//"))) if scheme.lower() == "file" else path


_FEAST_STORES = "feast.infra.online_stores"
_STORES = {
    "redis": "redis",
    f"{_FEAST_STORES}.redis.RedisOnlineStore": "redis",
    "fastserve.feast.OnlineStore": "redis",
    "sqlite": "sqlite",
    f"{_FEAST_STORES}.sqlite.SqliteOnlineStore": "sqlite",
    "remote": "remote",
    f"{_FEAST_STORES}.remote.RemoteOnlineStore": "remote",
}


_OF_THE_PLUGIN = frozenset({"ttl_mode", "allow_on_demand"})
"""Keys of `fastserve.feast.OnlineStore` that have a place of their own in what fastserve itself reads."""


def _online_store(values: object, repo_path: Path) -> StoreConfig | None:
    section = {"type": values} if isinstance(values, str) else values
    if section is None:
        return None
    if not isinstance(section, Mapping):
        raise ConfigError(f"online_store: expected a store type or a mapping, got {type_name(section)}")
    name = section.get("type", "sqlite")
    if name is None or (isinstance(name, str) and name.lower() in ("none", "null")):
        return None
    if not isinstance(name, str) or name not in _STORES:
        raise ConfigError(f"online_store.type: unknown store type {name!r}; known are redis, sqlite and remote")
    if _STORES[name] == "redis":
        return parse_redis({key: value for key, value in section.items() if key not in _OF_THE_PLUGIN})
    if _STORES[name] == "remote":
        return read_section(RemoteConfig, section, "online_store", lax=True)
    sqlite = read_section(SqliteConfig, section, "online_store", lax=True)
    return replace(sqlite, path=repo_path / sqlite.path)


class _FeatureLogging(Section, frozen=True):
    enabled: bool = False
    flush_interval_secs: int = 600
    write_to_disk_interval_secs: int = 30
    queue_capacity: int = 100000
    emit_timeout_micro_secs: int = 10000


class _AuditLogging(Section, frozen=True):
    enabled: bool = False
    sink: Literal["stdout", "file", "logger"] = "stdout"
    file_path: str = "feast_audit.log"
    log_successful_reads: bool = True


class _Metrics(Section, frozen=True):
    enabled: bool = False
    resource: bool = True
    request: bool = True
    online_features: bool = True
    push: bool = True
    materialization: bool = True
    freshness: bool = True
    offline_features: bool = True
    audit_logging: bool = False
    feature_count_bins: list[PositiveInt] = field(default_factory=lambda: [10, 50, 200])


class _FeatureServer(Section, frozen=True):
    type: Literal["local", "mcp"] = "local"
    enabled: bool = False
    transformation_service_endpoint: str = "localhost:6569"
    feature_logging: Any = None
    metrics: Any = None
    audit_logging: Any = None
    offline_push_batching_enabled: bool | None = None
    offline_push_batching_batch_size: int | None = None
    offline_push_batching_batch_interval_seconds: int | None = None


class _McpServer(_FeatureServer, frozen=True):
    mcp_enabled: bool = False
    mcp_server_name: str | None = None
    mcp_server_version: str | None = None
    mcp_transport: Literal["sse", "http"] = "sse"


def _feature_server(values: object) -> Mapping[str, Any]:
    if values is None:
        return {}
    is_mcp = isinstance(values, Mapping) and values.get("type") == "mcp"
    found = read_section(_McpServer if is_mcp else _FeatureServer, values, "feature_server", lax=True)
    for name, kind in (("feature_logging", _FeatureLogging), ("audit_logging", _AuditLogging)):
        read_section(kind, getattr(found, name) or {}, f"feature_server.{name}", lax=True)
    metrics = read_section(_Metrics, found.metrics or {}, "feature_server.metrics", lax=True)
    if sorted(set(metrics.feature_count_bins)) != metrics.feature_count_bins:
        raise ConfigError("feature_server.metrics.feature_count_bins: must increase strictly")
    assert isinstance(values, Mapping)
    return dict(values)
