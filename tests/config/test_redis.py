"""The Redis section and its connection strings."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fastserve.config.redis import RedisConfig, RedisConnection, parse_redis
from fastserve.errors import ConfigError


def redis(text: str, **keys: Any) -> RedisConfig:
    return parse_redis({"type": "redis", "connection_string": text, **keys})


def connection(text: str) -> RedisConnection:
    return redis(text).connection


def fault(text: str, **keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        redis(text, **keys)
    return str(caught.value)


def test_defaults() -> None:
    found = parse_redis({"type": "redis"})
    assert found == RedisConfig("redis", RedisConnection(), (("localhost", 6379),))
    assert found.connection.socket_timeout == found.connection.socket_connect_timeout == 5.0
    assert found.connection.max_connections == 64
    assert (found.key_ttl_seconds, found.skip_dedup, found.full_scan_for_deletion) == (0, False, True)


def test_all_keys() -> None:
    found = redis(
        "s1:26379,s2:26379,db=1",
        redis_type="redis_sentinel",
        sentinel_master="main",
        key_ttl_seconds="3600",
        full_scan_for_deletion="false",
        skip_dedup=True,
        client="glide",
    )
    assert found.redis_type == "redis_sentinel"
    assert found.nodes == (("s1", 26379), ("s2", 26379))
    assert found.sentinel_master == "main"
    assert (found.key_ttl_seconds, found.skip_dedup, found.full_scan_for_deletion) == (3600, True, False)


@pytest.mark.parametrize("value", [None, 0])
def test_no_ttl(value: int | None) -> None:
    assert redis("h:1", key_ttl_seconds=value).key_ttl_seconds == 0


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"key_ttl_seconds": "x"}, "online_store.key_ttl_seconds: expected int | null, got str"),
        ({"key_ttl_seconds": -1}, "online_store.key_ttl_seconds: expected int >= 0"),
        ({"redis_type": "x"}, "online_store.redis_type: must be redis or redis_cluster or redis_sentinel"),
        ({"skip_dedupe": True}, "online_store.skip_dedupe: unknown key; did you mean skip_dedup?"),
        ({"client": "x"}, "online_store.client: must be redis or glide"),
    ],
)
def test_sections_that_are_wrong(keys: dict[str, Any], text: str) -> None:
    assert fault("h:1", **keys) == text


# ---- Feast's form: the rows of the specification ----


def test_options() -> None:
    found = connection("h:1,db=2,ssl=true,password=abc,username=u,max_connections=7,socket_timeout=0.5")
    assert (found.host, found.port, found.db, found.ssl) == ("h", 1, 2, True)
    assert (found.username, found.password) == ("u", "abc")
    assert (found.max_connections, found.socket_timeout) == (7, 0.5)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("123456", "123456"),
        ("12e3", "12e3"),
        ("true", "true"),
        ('"quoted"', "quoted"),
        ('"123"', "123"),
        ("p=q=", "p=q="),
        ("0", "0"),
        ("[1]", "[1]"),
        ("", ""),
        ("null", None),
    ],
)
def test_passwords_stay_text(given: str, meant: str | None) -> None:
    assert connection(f"h:1,password={given}").password == meant
    assert connection(f"h:1,username={given}").username == meant


def test_a_comma_ends_a_password(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fastserve"):
        found = redis("h:1,password=a,b")
    assert found.connection.password == "a"
    assert found.nodes == (("h", 1), ("b", 6379))
    assert [record.getMessage() for record in caplog.records] == [
        "online_store.connection_string has 2 nodes; redis_type redis uses the first only"
    ]


def test_all_nodes_of_a_cluster_count(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fastserve"):
        assert len(redis("a:1, b:2,c:3", redis_type="redis_cluster").nodes) == 3
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("h", "h", 6379),
        ("h:1", "h", 1),
        ("10.0.0.1:65535", "10.0.0.1", 65535),
        ("[::1]:1", "::1", 1),
        ("[fe80::1]", "fe80::1", 6379),
    ],
)
def test_servers(text: str, host: str, port: int) -> None:
    found = connection(f"{text},db=1")
    assert (found.host, found.port, found.db) == (host, port, 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("h:1, db=3", "' db': unknown option; did you mean db?"),
        ("h:1,ssl_ca_cert=x", "'ssl_ca_cert': unknown option; did you mean ssl_ca_certs?"),
        ("h:1,ssl_password=s3cret", "'ssl_password': unknown option"),
        ("db=1", "names no server; expected host:port"),
        (":1", "a server has no host; expected host:port"),
        ("", "a server has no host; expected host:port"),
        ("h:1,", "a server has no host; expected host:port"),
        ("h:x", "a port must be a number from 1 to 65535"),
        ("h:0", "a port must be a number from 1 to 65535"),
        ("h:65536", "a port must be a number from 1 to 65535"),
        ("h:١", "a port must be a number from 1 to 65535"),
        ("::1:6379", "an IPv6 address is written as [address]:port"),
        ("[::1:6379", "an IPv6 address is written as [address]:port"),
        ("[::1]6379", "an IPv6 address is written as [address]:port"),
    ],
)
def test_strings_that_are_wrong(text: str, reason: str) -> None:
    found = fault(text)
    assert found.startswith(f"online_store.connection_string: {reason}")
    assert "s3cret" not in found


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("db=x", "db: expected int, got str"),
        ("db=-1", "db: expected int >= 0"),
        ("ssl=s3cret", "ssl: expected bool, got str"),
        ("ssl_cert_reqs=s3cret", "ssl_cert_reqs: must be required or optional or none"),
        ("max_connections=0", "max_connections: expected int >= 1"),
        ("socket_timeout=0", "socket_timeout: expected float > 0.0"),
        ("socket_timeout=Infinity", "socket_timeout: expected float <= 1000000.0"),
        ("socket_connect_timeout=x", "socket_connect_timeout: expected float, got str"),
    ],
)
def test_options_that_are_wrong(option: str, reason: str) -> None:
    assert fault(f"h:1,{option}") == f"online_store.connection_string.{reason}"


def test_tls() -> None:
    found = connection("h:1,ssl=True,ssl_ca_certs=/ca,ssl_certfile=/c,ssl_keyfile=/k,ssl_cert_reqs=optional")
    assert (found.ssl, found.ssl_ca_certs, found.ssl_certfile, found.ssl_keyfile) == (True, "/ca", "/c", "/k")
    assert found.ssl_cert_reqs == "optional"
    assert found.ssl_check_hostname
    assert not connection("h:1,ssl=true,ssl_check_hostname=false").ssl_check_hostname


@pytest.mark.parametrize("value", ["null", "none", "None", '"none"'])
def test_tls_without_verification(value: str) -> None:
    found = connection(f"h:1,ssl=true,ssl_cert_reqs={value}")
    assert found.ssl_cert_reqs == "none"
    assert not found.ssl_check_hostname


def test_null_is_not_given() -> None:
    assert connection("h:1,socket_timeout=null,db=null,ssl_ca_certs=null") == connection("h:1")


def test_unix_sockets() -> None:
    found = connection("h:1,unix_socket_path=/run/redis.sock,db=3")
    assert found.unix_socket_path == "/run/redis.sock"
    assert found.name == "redis /run/redis.sock/3"


def test_options_for_redis_py_only() -> None:
    found = connection(
        'h:1,health_check_interval=30,sentinel_kwargs={"password":"s3cret"},skip_full_coverage_check=true'
    )
    assert found.options == {
        "health_check_interval": 30,
        "sentinel_kwargs": {"password": "s3cret"},
        "skip_full_coverage_check": True,
    }
    assert "s3cret" not in repr(found)


# ---- URLs ----


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", RedisConnection("h")),
        ("redis://", RedisConnection()),
        ("redis://h:1/2", RedisConnection("h", 1, db=2)),
        ("redis://h/", RedisConnection("h")),
        ("redis://h/0?db=5", RedisConnection("h", db=5)),
        ("redis://[::1]:1/0", RedisConnection("::1", 1)),
        ("redis://:p%2Cw%40@h", RedisConnection("h", password="p,w@")),
        ("redis://u:12345@h", RedisConnection("h", username="u", password="12345")),
        ("redis://h?password=p%2Fw", RedisConnection("h", password="p/w")),
        ("rediss://h", RedisConnection("h", ssl=True)),
        ("rediss://h?ssl=false", RedisConnection("h", ssl=True)),
        ("redis://h?ssl_ca_certs=/ca", RedisConnection("h", ssl_ca_certs="/ca")),
        (
            "rediss://h?ssl_cert_reqs=none",
            RedisConnection("h", ssl=True, ssl_cert_reqs="none", ssl_check_hostname=False),
        ),
        (
            "redis://h?socket_timeout=2&max_connections=3&socket_connect_timeout=0.5",
            RedisConnection("h", socket_timeout=2.0, max_connections=3, socket_connect_timeout=0.5),
        ),
        ("unix:///run/my%20redis.sock", RedisConnection(unix_socket_path="/run/my redis.sock")),
        ("unix://u:p@/r.sock?db=3", RedisConnection(unix_socket_path="/r.sock", db=3, username="u", password="p")),
    ],
)
def test_urls(url: str, expected: RedisConnection) -> None:
    assert connection(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://h:s3cret", ": is not a URL with a host and a port from 1 to 65535"),
        ("redis://h:99999", ": is not a URL with a host and a port from 1 to 65535"),
        ("redis://[::1", ": is not a URL with a host and a port from 1 to 65535"),
        ("redis://h/s3cret", ".db: expected int, got str"),
        ("redis://h?sock_timeout=1", ": 'sock_timeout': unknown option; did you mean socket_timeout?"),
        ("unix://", ": names no socket; expected unix:///path"),
    ],
)
def test_urls_that_are_wrong(url: str, reason: str) -> None:
    assert fault(url) == f"online_store.connection_string{reason}"


def test_names() -> None:
    assert connection("redis://u:p@h:1/2").name == "redis h:1/2"
    assert connection("[::1]:1").name == "redis [::1]:1/0"
