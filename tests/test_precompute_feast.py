"""Vectors in Feast's format: Feast's recorded ones are read, ours are what Feast makes; and both formats in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastserve import FeatureStore
from fastserve._core import field_id
from fastserve.errors import NotSupportedError, VectorMissingError
from fastserve.registry import schema_pb2 as pb
from fastserve.vectors import feast_view
from tests import goldens
from tests.servers import RedisServer
from tests.test_precompute import agrees, applied, load
from tests.vector_repos import (
    DEFINITIONS,
    MORE_SERVICES,
    USERS,
    answers,
    plainly,
    rows_a,
    rows_b,
    users,
    write_config,
    write_vector_repo,
)

SERVICE = "fraud_pre"
FIELD, CLOCK = field_id(feast_view(SERVICE), "vector"), b"_ts:__precomputed__fraud_pre"


def customers(*names: str) -> list[dict[str, str]]:
    return [{"customer_id": name} for name in names]


@pytest.fixture
def place(empty_redis: RedisServer) -> dict[str, Any]:
    return {"type": "redis", "connection_string": empty_redis.connection_string}


@pytest.fixture
def store(place: dict[str, Any], tmp_path: Path) -> Iterator[FeatureStore]:
    """The service `one`, whose vectors are built in Feast's format, loaded."""
    with FeatureStore(applied(write_vector_repo(tmp_path / "repo", place, vector_format="feast"))) as found:
        load(found)
        yield found


# --- Feast's ---------------------------------------------------------------------------------------------------------


def test_what_feast_built_is_read(redis_bank_repo: Path) -> None:
    with FeatureStore(redis_bank_repo) as store:
        assert store.vector_status(SERVICE).marker.current is None
        agrees(store, SERVICE, customers("C2", "nobody", "C1", "C2", "C3"))


def test_an_entity_that_feast_built_no_vector_of(redis_bank_repo: Path, redis_bank: RedisServer) -> None:
    with redis_bank.client() as client, FeatureStore(redis_bank_repo) as store:
        (key,) = client.scan_iter("*C1bank")
        client.hdel(key, FIELD, CLOCK)
        with pytest.raises(VectorMissingError, match="rows 1 of the request"):
            answers(store, SERVICE, customers("C2", "C1"))


def test_ours_are_what_feast_made(redis_bank_repo: Path, redis_bank: RedisServer) -> None:
    recorded = {
        bytes.fromhex(entry["redis_key_hex"]): bytes.fromhex(entry["vector_proto_hex"])
        for entry in goldens.load("precomputed_vectors")["stored"]
    }
    write_feast_format(redis_bank_repo)
    with redis_bank.client() as client, FeatureStore(redis_bank_repo) as store:
        for key in recorded:
            client.hdel(key, FIELD, CLOCK)
        assert store.precompute_feature_service(SERVICE) == len(recorded)
        for key, theirs in recorded.items():
            ours = pb.PrecomputedFeatureVector.FromString(client.hget(key, FIELD)[3:])
            expected = pb.PrecomputedFeatureVector.FromString(theirs)
            assert client.hget(key, CLOCK) == ours.precomputed_at.SerializeToString()
            ours.ClearField("precomputed_at")
            expected.ClearField("precomputed_at")
            assert ours == expected
        agrees(store, SERVICE, customers("C2", "nobody", "C1"))


def write_feast_format(repo: Path) -> None:
    with (repo / "feature_store.yaml").open("a") as file:
        file.write("fastserve: {vector_format: feast}\n")


# --- ours ------------------------------------------------------------------------------------------------------------


def test_written_rows_reach_the_vectors(store: FeatureStore) -> None:
    agrees(store, "one", users(*USERS, "nobody"))
    store.push("a_push", rows_a(["u1", "new"], 5, 100))
    store.write_to_online_store("b", rows_b(["u2"], 5.5, 100))
    agrees(store, "one", users("u1", "u2", "u3", "new"))
    status = store.vector_status("one")
    assert status.marker.current is not None
    assert (status.marker.current.format, status.marker.current.count) == ("feast", len(USERS))


def test_formats_take_turns_without_a_gap(store: FeatureStore, place: dict[str, Any], empty_redis: RedisServer) -> None:
    with FeatureStore(store.repo_path) as reader, empty_redis.client() as client:
        for step, vector_format in enumerate(["packed", "feast", "auto"]):
            agrees(reader, "one", users("u1", "u2"))
            write_config(store.repo_path, place, vector_format=vector_format)
            with FeatureStore(store.repo_path) as builder:
                builder.precompute_feature_service("one")
                builder.push("a_push", rows_a(["u1"], step, 500 + step))
                assert answers(reader, "one", users("u1", "u2")) == plainly(builder, "one", users("u1", "u2"))
            (key,) = (key for key in client.scan_iter("*u1p") if b"shop_id" not in key)
            is_feast = vector_format == "feast"
            assert client.hexists(key, field_id(feast_view("one"), "vector")) == is_feast
            assert bool(list(client.scan_iter("fsv:*user_id*u1"))) != is_feast


def test_they_go_with_the_service(store: FeatureStore, empty_redis: RedisServer) -> None:
    store.delete_feature_service("one")
    with empty_redis.client() as client:
        assert not any(field.startswith(b"_ts:__") for key in client.scan_iter("*id*p") for field in client.hkeys(key))
        assert set(client.scan_iter("fsv:*")) == {b"fsv:epoch:p"}


def test_services_that_it_cannot_hold(place: dict[str, Any], tmp_path: Path) -> None:
    folder = applied(write_vector_repo(tmp_path / "repo", place, DEFINITIONS + MORE_SERVICES))
    write_config(folder, place, vector_format="feast")
    with FeatureStore(folder) as store:
        with pytest.raises(NotSupportedError, match="feature service mixed cannot have vectors in Feast's format"):
            store.precompute_feature_service("mixed")
        with pytest.raises(VectorMissingError, match="feature service mixed: no precomputed vectors"):
            store.plan(store.get_feature_service("mixed"), True)
    write_config(folder, {"type": "sqlite", "path": "data/online.db"}, vector_format="feast")
    with FeatureStore(folder) as store:
        with pytest.raises(NotSupportedError, match=r"feature service one .* Feast has them in Redis only"):
            store.precompute_feature_service("one")
