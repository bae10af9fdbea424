"""The fixtures themselves: a broken server would look like a broken store."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import redis
import yaml

from tests import goldens
from tests.conftest import Rand
from tests.servers import Certificates, RedisServer


def test_redis_holds_the_bank(redis_bank: RedisServer) -> None:
    with redis_bank.client() as client:
        keys = client.keys()
        assert set(keys) == set(goldens.redis_hashes())
        assert all(client.hgetall(key) == fields for key, fields in goldens.redis_hashes().items())


def test_databases_are_emptied(empty_redis: RedisServer) -> None:
    with empty_redis.client() as client:
        assert client.dbsize() == 0


def test_other_dumps(empty_redis: RedisServer) -> None:
    with empty_redis.client() as client:
        assert goldens.fill_redis(client, "redis_versioned") == len(goldens.redis_hashes("redis_versioned"))
        assert goldens.fill_redis(client, "redis_entity_key_v2") == len(goldens.redis_hashes("redis_entity_key_v2"))


def test_secure_redis(secure_redis: RedisServer, certificates: Certificates) -> None:
    password = secure_redis.password
    assert secure_redis.tls_port is not None
    with redis.Redis(unix_socket_path=str(secure_redis.unix_socket), password=password) as client:
        assert client.ping()
    with redis.Redis(
        host="localhost", port=secure_redis.tls_port, password=password, ssl=True, ssl_ca_certs=str(certificates.ca)
    ) as client:
        assert client.ping()


def test_stop_twice(short_folder: Path) -> None:
    server = RedisServer.start(short_folder / "short-lived")
    server.stop()
    server.stop()
    assert server.process.returncode == 0


def test_repositories(bank_repo: Path) -> None:
    config = yaml.safe_load((bank_repo / "feature_store.yaml").read_text())
    assert config["project"] == "bank"
    assert (bank_repo / config["registry"]["path"]).is_file()
    if config["online_store"]["type"] == "sqlite":
        connection = sqlite3.connect(bank_repo / config["online_store"]["path"])
        assert connection.execute("SELECT count(*) FROM bank_txn_7d").fetchone() == (6,)
        connection.close()


def test_rand_can_be_repeated(rand: Rand) -> None:
    assert Rand(rand.first_seed).random() == rand.random()
    assert str(rand.first_seed) in repr(rand)
