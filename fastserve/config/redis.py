"""The Redis part of feature_store.yaml: the section, and its connection string in Feast's form or as a URL."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from msgspec import field
from msgspec.structs import replace

from fastserve.config.check import Section, convert, read_section, refuse_unknown
from fastserve.errors import ConfigError

__all__ = ["RedisConfig", "RedisConnection", "parse_redis"]

logger = logging.getLogger("fastserve.config")

_Count = Annotated[int, msgspec.Meta(ge=1)]
# The upper bound is what a socket can take.
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e6)]


class RedisConnection(Section, frozen=True):
    """How to reach one Redis server.

    Attributes:
        unix_socket_path: if set, `host` and `port` do not count.
        username: None means that none is sent.
        password: the same.
        ssl_ca_certs: a file with certificates, or None for the system's.
        ssl_check_hostname: false whenever `ssl_cert_reqs` is "none".
        socket_timeout: seconds.
        socket_connect_timeout: seconds.
        options: options of redis-py that only redis-py acts on.
    """

    host: str = "localhost"
    port: int = 6379
    unix_socket_path: str | None = None
    db: Annotated[int, msgspec.Meta(ge=0)] = 0
    username: str | None = None
    password: str | None = None
    ssl: bool = False
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_cert_reqs: Literal["required", "optional", "none"] = "required"
    ssl_check_hostname: bool = True
    socket_timeout: _Seconds = 5.0
    socket_connect_timeout: _Seconds = 5.0
    max_connections: _Count = 64
    options: Mapping[str, object] = field(default_factory=dict)

    _secret: ClassVar[frozenset[str]] = frozenset({"password", "options"})

    @property
    def name(self) -> str:
        """How errors call the server, such as `redis localhost:6379/0`; without secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis {self.unix_socket_path or f'{host}:{self.port}'}/{self.db}"


class RedisConfig(Section, frozen=True):
    """An `online_store:` of type redis.

    Attributes:
        connection: to the first node.
        nodes: (host, port) of all nodes: start-up nodes of a cluster, or sentinels.
        key_ttl_seconds: lifetime of an entity's key from its last write; 0 means for ever.
        skip_dedup: writes do not look at what is stored.
        full_scan_for_deletion: removed views lose their data.
    """

    redis_type: Literal["redis", "redis_cluster", "redis_sentinel"]
    connection: RedisConnection
    nodes: tuple[tuple[str, int], ...]
    key_ttl_seconds: int = 0
    skip_dedup: bool = False
    full_scan_for_deletion: bool = True
    sentinel_master: str = "mymaster"


class _Redis(Section, frozen=True):
    type: str = "redis"
    redis_type: Literal["redis", "redis_cluster", "redis_sentinel"] = "redis"
    connection_string: str = "localhost:6379"
    sentinel_master: str = "mymaster"
    key_ttl_seconds: Annotated[int, msgspec.Meta(ge=0)] | None = None
    full_scan_for_deletion: bool = True
    skip_dedup: bool = False
    # Which client library Feast uses; fastserve has its own.
    client: Literal["redis", "glide"] = "redis"


# What redis-py does with its connections or with replies, and our own connections do not: they need no such advice.
_REDIS_PY_OPTIONS = frozenset(
    "charset client_name cluster_error_retry_attempts decode_responses dynamic_startup_nodes encoding encoding_errors "
    "errors health_check_interval legacy_responses lib_name lib_version load_balancing_strategy protocol "
    "read_from_replicas reinitialize_steps require_full_coverage retry_on_error retry_on_timeout sentinel_kwargs "
    "single_connection_client skip_full_coverage_check socket_keepalive socket_keepalive_options socket_read_size "
    "socket_type timeout".split()
)
_CONNECTION_OPTIONS = frozenset(RedisConnection.__struct_fields__) - {"host", "port", "options"}
_TEXT_OPTIONS = frozenset({"username", "password", "unix_socket_path", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_STRING_PATH = "online_store.connection_string"

Node = tuple[str, int]


def parse_redis(section: Mapping[str, Any]) -> RedisConfig:
    """Return an `online_store:` section of type redis; ConfigError names the key by its path."""
    found = read_section(_Redis, section, "online_store", lax=True)
    if re.match(r"(redis|rediss|unix)://", found.connection_string):
        nodes, options = _split_url(found.connection_string)
    else:
        nodes, options = _split_nodes(found.connection_string)
    if found.redis_type == "redis" and len(nodes) > 1:
        # Not which: a password with a comma in it ends up here.
        logger.warning("%s has %d nodes; redis_type redis uses the first only", _STRING_PATH, len(nodes))
    return RedisConfig(
        redis_type=found.redis_type,
        connection=_connection(nodes[0], options),
        nodes=tuple(nodes),
        key_ttl_seconds=found.key_ttl_seconds or 0,
        skip_dedup=found.skip_dedup,
        full_scan_for_deletion=found.full_scan_for_deletion,
        sentinel_master=found.sentinel_master,
    )


def _split_nodes(text: str) -> tuple[list[Node], dict[str, Any]]:
    """Split Feast's form: `host:port,host:port,option=value,option=value`."""
    nodes: list[Node] = []
    options: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if equals:
            options[name] = _option(name, value)
        else:
            nodes.append(_node(part.strip()))
    if not nodes:
        raise ConfigError(f"{_STRING_PATH}: names no server; expected host:port")
    return nodes, options


def _option(name: str, value: str) -> Any:
    try:
        decoded = json.loads(value)
    except ValueError:
        return value
    # Feast would make a number of a password of digits; "quotes" or null it takes as meant.
    keep = name in _TEXT_OPTIONS and decoded is not None and not isinstance(decoded, str)
    return value if keep else decoded


def _node(text: str) -> Node:
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            raise ConfigError(f"{_STRING_PATH}: an IPv6 address is written as [address]:port")
        port = port[1:]
    else:
        host, colon, port = text.rpartition(":")
        if not colon:
            host, port = text, ""
        if ":" in host:
            raise ConfigError(f"{_STRING_PATH}: an IPv6 address is written as [address]:port")
    if not host:
        raise ConfigError(f"{_STRING_PATH}: a server has no host; expected host:port")
    return host, _port(port or "6379")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ConfigError(f"{_STRING_PATH}: a port must be a number from 1 to 65535")
    return int(text)


def _split_url(text: str) -> tuple[list[Node], dict[str, Any]]:
    """Split `redis[s]://[user:password@]host:port/db?option=value` or `unix://[user:password@]/path?option=value`."""
    try:
        url = urlsplit(text)
        node = (url.hostname or "localhost", url.port or 6379)
    except ValueError:
        # The reason that urllib gives may quote a part of the URL.
        raise ConfigError(f"{_STRING_PATH}: is not a URL with a host and a port from 1 to 65535") from None
    if url.scheme == "unix" and not url.path.strip("/"):
        raise ConfigError(f"{_STRING_PATH}: names no socket; expected unix:///path")
    options: dict[str, Any] = {}
    if url.scheme != "unix":
        options["db"] = unquote(url.path).strip("/") or 0
    options |= parse_qsl(url.query)
    if url.scheme == "unix":
        options["unix_socket_path"] = unquote(url.path)
    options["ssl"] = url.scheme == "rediss"
    if url.username:
        options["username"] = unquote(url.username)
    if url.password:
        options["password"] = unquote(url.password)
    return [node], options


def _connection(node: Node, options: Mapping[str, Any]) -> RedisConnection:
    refuse_unknown(options, _CONNECTION_OPTIONS | _REDIS_PY_OPTIONS, _STRING_PATH, "option")
    # redis-py takes None for "do not verify", and for everything else as "not given".
    given = {name: value for name, value in options.items() if value is not None and name in _CONNECTION_OPTIONS}
    if "ssl_cert_reqs" in options:
        given["ssl_cert_reqs"] = str(options["ssl_cert_reqs"] or "none").lower()
    found = convert(RedisConnection, {"host": node[0], "port": node[1], **given}, _STRING_PATH, lax=True)
    return replace(
        found,
        ssl_check_hostname=found.ssl_check_hostname and found.ssl_cert_reqs != "none",
        options={name: value for name, value in options.items() if name in _REDIS_PY_OPTIONS},
    )
