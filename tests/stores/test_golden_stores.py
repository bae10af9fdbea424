"""What Feast wrote, read back through the stores; and what Redis sees of a read, beside what it saw of Feast's.

The recorded hashes are the expectation: `reference.cells` says what each of their fields means.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fastserve import FeatureStore
from fastserve._core import Batch, ReadPlan, json_response, proto_response
from fastserve.config import RedisConnection
from fastserve.stores import Store
from fastserve.stores.redis import RedisStore
from fastserve.stores.sqlite import SqliteStore
from tests import goldens, reference
from tests.reference import FIELD_NUMBERS, INT64, STRING, Feature
from tests.servers import RedisServer
from tests.stores.conftest import Keep
from tests.stores.content import View, batch_of, plan
from tests.stores.scripted import Peer, ScriptedServer

Response = reference.message_class("feast.serving.GetOnlineFeaturesResponse")
STATUSES = ("INVALID", "PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE")

Hash = dict[bytes, bytes]


class Recorded(NamedTuple):
    """The recorded rows of some join keys."""

    names: tuple[str, ...]
    types: tuple[int, ...]
    rows: dict[tuple[Any, ...], Hash]


UNKNOWN: dict[int, Any] = {STRING: "nobody", INT64: 4711}


def check(store: Store, recorded: Recorded, views: Mapping[str, Iterable[str]], project: str, version: int = 3) -> int:
    """Read all rows, an unknown one and all rows again; compare every cell. Return the number of recorded fields."""
    read_plan = _plan(recorded, views, project, version)
    keys = [*recorded.rows, tuple(UNKNOWN[number] for number in recorded.types), *recorded.rows]
    hashes = [recorded.rows.get(key, {}) for key in keys]
    columns = {name: [key[i] for key in keys] for i, name in enumerate(recorded.names) if name != "__dummy_id"}
    batch = Batch(read_plan, columns, len(keys))
    store.read(batch)
    response = Response.FromString(proto_response(batch))
    assert list(response.metadata.feature_names.val) == [*columns, *(slot.name for slot in read_plan.outputs)]
    texts = json.loads(json_response(batch))["results"][len(columns) :]
    for slot, found, text in zip(read_plan.outputs, response.results[len(columns) :], texts, strict=True):
        _check_column(slot.name, found, text, hashes, recorded.names == ("__dummy_id",))
    return sum(len(row) for row in recorded.rows.values())


def _plan(recorded: Recorded, views: Mapping[str, Iterable[str]], project: str, version: int) -> ReadPlan:
    names, types = ((), ()) if recorded.names == ("__dummy_id",) else (recorded.names, recorded.types)
    return plan([View(view, list(features), names, types) for view, features in views.items()], version, project)


def _check_column(name: str, found: Any, text: Any, hashes: list[Hash], entityless: bool) -> None:
    view, _, feature = name.partition(":")
    if entityless:
        hashes = [next(row for row in hashes if row)] * len(hashes)
    cells = reference.cells(Feature(view, feature, name), hashes)
    assert [value.SerializeToString() for value in found.values] == [cell.value.SerializeToString() for cell in cells]
    assert [STATUSES[number] for number in found.statuses] == [cell.status for cell in cells]
    stamps = [stamp.seconds * 1_000_000 + stamp.nanos // 1000 for stamp in found.event_timestamps]
    assert stamps == [cell.event_time for cell in cells]
    assert text["statuses"] == [cell.status for cell in cells]
    assert text["event_timestamps"] == [reference.rfc3339(cell.event_time) for cell in cells]


# --- Redis -----------------------------------------------------------------------------------------------------------


def _bank_keys() -> dict[tuple[str, ...], list[tuple[tuple[int, ...], tuple[Any, ...]]]]:
    """Join keys -> (types, values) of every key in the bank's dump."""
    found: dict[tuple[str, ...], list[tuple[tuple[int, ...], tuple[Any, ...]]]] = {}
    for key in goldens.load("bank/redis_dump")["keys"]:
        entity = key["entity_key"]
        types = tuple(FIELD_NUMBERS[value["oneof"]] for value in entity["values"])
        values = tuple(value["value"] for value in entity["values"])
        found.setdefault(tuple(entity["join_keys"]), []).append((types, values))
    return found


def _bank_views() -> dict[tuple[str, ...], dict[str, list[str]]]:
    """Join keys -> view -> features, of all that is in the bank's dump, except vectors."""
    found: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for key in goldens.load("bank/redis_dump")["keys"]:
        views = found.setdefault(tuple(key["entity_key"]["join_keys"]), {})
        for field in key["fields"]:
            view, _, feature = field["meaning"].partition(":")
            if view != "_ts" and not view.startswith("__precomputed__") and feature not in views.get(view, []):
                views.setdefault(view, []).append(feature)
    return found


def _recorded(hashes: Mapping[bytes, Hash], names: tuple[str, ...], project: str, version: int) -> Recorded:
    types = _bank_keys()[names][0][0]
    rows = {}
    for _, values in _bank_keys()[names]:
        key = reference.serialize_entity_key(names, values, types, version) + project.encode()
        rows[values] = hashes.get(key, {})
    return Recorded(names, types, rows)


@pytest.fixture
def redis_store(redis_bank: RedisServer, keep: Keep) -> Store:
    return keep(RedisStore(RedisConnection(host="127.0.0.1", port=redis_bank.port)))


@pytest.mark.parametrize("names", _bank_keys(), ids="-".join)
def test_redis_dump(redis_store: Store, names: tuple[str, ...]) -> None:
    hashes = goldens.redis_hashes()
    recorded = _recorded(hashes, names, "bank", 3)
    assert all(recorded.rows.values()), "a recorded key was not found by its decoded form"
    assert check(redis_store, recorded, _bank_views()[names], "bank") > 2


def test_every_recorded_hash_is_read() -> None:
    rows = [_recorded(goldens.redis_hashes(), names, "bank", 3).rows for names in _bank_keys()]
    assert sum(len(some) for some in rows) == len(goldens.redis_hashes())


@pytest.mark.parametrize("names", [("customer_id",), ("account_id", "merchant_id")], ids="-".join)
def test_redis_entity_key_v2(empty_redis: RedisServer, keep: Keep, names: tuple[str, ...]) -> None:
    with empty_redis.client() as client:
        goldens.fill_redis(client, "redis_entity_key_v2")
    store = keep(RedisStore(RedisConnection(host="127.0.0.1", port=empty_redis.port)))
    recorded = _recorded(goldens.redis_hashes("redis_entity_key_v2"), names, "bank", 2)
    assert sum(bool(row) for row in recorded.rows.values()) == 3
    assert check(store, recorded, _bank_views()[names], "bank", 2) > 8


def test_redis_versioned(empty_redis: RedisServer, keep: Keep) -> None:
    with empty_redis.client() as client:
        goldens.fill_redis(client, "redis_versioned")
    store = keep(RedisStore(RedisConnection(host="127.0.0.1", port=empty_redis.port)))
    views: dict[str, list[str]] = {}
    for meaning in goldens.load("redis_versioned")["hash_fields"].values():
        view, _, feature = meaning.partition(":")
        views.setdefault(view, []).append(feature)
    assert set(views) == {"prof", "prof_v1", "prof_v2"}
    recorded = _recorded(goldens.redis_hashes("redis_versioned"), ("customer_id",), "ver", 3)
    assert sum(bool(row) for row in recorded.rows.values()) == 3
    assert check(store, recorded, views, "ver") == 27


def test_redis_versions_one_by_one(empty_redis: RedisServer, keep: Keep) -> None:
    """Each version holds the features that it had when it was applied, and no others."""
    with empty_redis.client() as client:
        goldens.fill_redis(client, "redis_versioned")
    store = keep(RedisStore(RedisConnection(host="127.0.0.1", port=empty_redis.port)))
    present = {}
    for view in ("prof", "prof_v1", "prof_v2"):
        batch = batch_of(plan([View(view, ["age", "income", "segment"])], project="ver"), customer_id=["C1"])
        store.read(batch)
        results = json.loads(json_response(batch))["results"][1:]
        present[view] = [result["values"][0] for result in results]
    assert present == {
        "prof": [41, None, None],
        "prof_v1": [41, 83000.5, None],
        "prof_v2": [41, 83000.5, "gold"],
    }


# --- SQLite ----------------------------------------------------------------------------------------------------------


def _sqlite_hashes() -> dict[bytes, Hash]:
    """The recorded rows as the hashes that Redis would have of them."""
    hashes: dict[bytes, Hash] = {}
    for table, recorded in goldens.load("sqlite_online_store")["tables"].items():
        view = table.removeprefix("bank_")
        for row in recorded["rows"]:
            fields = hashes.setdefault(bytes.fromhex(row["entity_key_hex"]) + b"bank", {})
            fields[reference.field_id(view, row["feature_name"])] = bytes.fromhex(row["value_hex"])
            fields[reference.timestamp_field(view)] = reference.encode_timestamp(row["event_ts"])
    return hashes


@pytest.mark.parametrize("names", _bank_keys(), ids="-".join)
def test_sqlite_online_store(tmp_path: Path, keep: Keep, names: tuple[str, ...]) -> None:
    store = keep(SqliteStore(goldens.build_sqlite(tmp_path / "online.db"), "bank"))
    tables = goldens.load("sqlite_online_store")["tables"]
    views = {view: features for view, features in _bank_views()[names].items() if f"bank_{view}" in tables}
    recorded = _recorded(_sqlite_hashes(), names, "bank", 3)
    assert check(store, recorded, views, "bank") > 2


def test_every_recorded_row_of_sqlite_is_read() -> None:
    rows = [_recorded(_sqlite_hashes(), names, "bank", 3).rows for names in _bank_keys()]
    assert sum(bool(row) for some in rows for row in some.values()) == len(_sqlite_hashes())


# --- commands --------------------------------------------------------------------------------------------------------


class Recorder:
    """A script that passes bytes on to a real server, and keeps what the client sends."""

    def __init__(self, server: RedisServer):
        self._server = server
        self.sent = b""

    def __call__(self, peer: Peer) -> None:
        with socket.create_connection(("127.0.0.1", self._server.port)) as upstream:
            while True:
                ready, _, _ = select.select([peer.sock, upstream], [], [])
                for source, target in ((peer.sock, upstream), (upstream, peer.sock)):
                    if source in ready:
                        data = source.recv(1 << 16)
                        if not data:
                            return
                        target.sendall(data)
                        self.sent += data if source is peer.sock else b""

    @property
    def commands(self) -> list[list[bytes]]:
        return reference.parse_replies(self.sent)


def test_redis_commands(redis_bank: RedisServer, tmp_path: Path) -> None:
    """The same keys and fields as Feast, one HMGET for all views of a key, all in one write."""
    golden = goldens.load("redis_commands")["read"]
    asked_by_feast: dict[bytes, list[bytes]] = {}
    for name, key, *fields in golden["commands"]:
        assert name == "HMGET"
        asked_by_feast.setdefault(bytes.fromhex(key), []).extend(map(bytes.fromhex, fields))
    with ScriptedServer(recorder := Recorder(redis_bank)) as proxy:
        address = {"type": "redis", "connection_string": f"127.0.0.1:{proxy.port}"}
        with FeatureStore(goldens.copy_bank(tmp_path / "bank", address)) as store:
            answer = store.get_online_features(**golden["call"]).to_dict()
    assert answer["age"] == [29, 41, 29]
    assert answer["txn_count"] == [7, 2, 7]
    assert all(command[0] == b"HMGET" for command in recorder.commands)
    asked = {command[1]: command[2:] for command in recorder.commands}
    assert len(asked) == len(recorder.commands), "a key was asked for twice"
    assert asked == asked_by_feast
