"""Reading `tests/golden/`, and filling real stores from it.

load(name)                       a JSON file
evaluate(text)                   the Python object of a recorded `repr`
same(left, right)                strict equality: types, NaN, zones, sign of zero
fill_redis(client, name)         one of the Redis dumps -> number of keys
build_sqlite(path)               sqlite_online_store.json -> a file like Feast's
copy_bank(folder, online_store)  the bank repository, reading the given store
"""

from __future__ import annotations

import datetime
import json
import math
import shutil
import sqlite3
import uuid
import zoneinfo
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import redis
import yaml

GOLDEN = Path(__file__).parent / "golden"
BANK = GOLDEN / "bank"


def load(name: str) -> Any:
    """Return the content of a JSON file; `name` is relative to the golden folder and has no suffix."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def value_outputs() -> list[tuple[str, dict[str, Any]]]:
    """Return (id, output) of every stored value in values.json, whether made from Python inputs or directly."""
    golden = load("values")
    pairs = [
        (f"{case['name']}-{index}", output)
        for case in golden["cases"]
        for index, output in enumerate(case.get("outputs", []))
    ]
    return pairs + [(case["name"], case) for case in golden["direct"]]


def expected_json(output: Mapping[str, Any]) -> Any:
    """Return the HTTP form of a recorded value, with fastserve's two differences from Feast.

    A null timestamp is null, where Feast has its sentinel; a scalar map is an object, where Feast has null.
    """
    if output["oneof"] == "scalar_map_val":
        return _SCALAR_MAPS[output["hex"][:16]]
    return None if output["http_json"] == -(2**63) else output["http_json"]


_SCALAR_MAPS: dict[str, Any] = {
    "fa02250a090a0210": {"1": "a", "-2": 2.5},
    "fa02720a2c0a2642": {
        "550e8400-e29b-41d4-a716-446655440000": 1,
        "1.5": None,
        "aw==": "v",
        "true": "t",
        "1.25": "f",
        "1767270896": "ts",
    },
}
"""The objects of the recorded scalar maps, by the first bytes of their stored form."""


def value_bytes() -> list[bytes]:
    """Return every distinct stored value of values.json and of the Redis dump of the bank."""
    stored = {bytes.fromhex(output["hex"]) for _, output in value_outputs()}
    for key in load("bank/redis_dump")["keys"]:
        stored |= {bytes.fromhex(f["value_hex"]) for f in key["fields"] if not f["meaning"].startswith("_ts:")}
    return sorted(stored)


def evaluate(text: str) -> Any:
    """Return the object that a recorded `repr` shows."""
    import numpy as np
    import pandas as pd

    names = {"datetime": datetime, "zoneinfo": zoneinfo, "UUID": uuid.UUID, "Decimal": Decimal, "np": np}
    return eval(text, {**names, "NaT": pd.NaT, "nan": math.nan, "inf": math.inf})


def same(left: Any, right: Any) -> bool:
    """Whether two decoded values are equal in every respect that a caller could see.

    Stricter than `==`: 1, 1.0 and True differ, as do 0.0 and -0.0 and times in different zones; NaN equals NaN. Sets
    are compared as such, dicts without regard to order, since protobuf leaves that open.
    """
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return _same_sets(list(left.items()), list(right.items()))
    if isinstance(left, set):
        return _same_sets(list(left), list(right))
    if isinstance(left, tuple):
        return all(map(same, left, right))
    return _same_scalars(left, right)


def _same_sets(left: list[Any], right: list[Any]) -> bool:
    if len(left) != len(right):
        return False
    rest = list(right)
    for item in left:
        match = next((index for index, other in enumerate(rest) if same(item, other)), None)
        if match is None:
            return False
        del rest[match]
    return True


def _same_scalars(left: Any, right: Any) -> bool:
    if isinstance(left, float):
        if math.isnan(left):
            return math.isnan(right)
        return bool(left == right) and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(left, datetime.datetime):
        return bool(left == right and left.utcoffset() == right.utcoffset() and str(left.tzinfo) == str(right.tzinfo))
    if isinstance(left, Decimal):
        return str(left) == str(right)
    return bool(left == right)


# --- stores ----------------------------------------------------------------------------------------------------------


def redis_hashes(name: str = "bank/redis_dump") -> dict[bytes, dict[bytes, bytes]]:
    """Return key -> field -> value of a Redis dump: `bank/redis_dump`, `redis_versioned` or `redis_entity_key_v2`."""
    return {bytes.fromhex(key["key_hex"]): _fields(key["fields"]) for key in load(name)["keys"]}


def _fields(fields: Any) -> dict[bytes, bytes]:
    pairs = fields.items() if isinstance(fields, Mapping) else [(f["field_hex"], f["value_hex"]) for f in fields]
    return {bytes.fromhex(field): bytes.fromhex(value) for field, value in pairs}


def fill_redis(client: redis.Redis, name: str = "bank/redis_dump") -> int:
    """Write a dump into the client's database, which is not emptied first; return the number of keys."""
    hashes = redis_hashes(name)
    with client.pipeline(transaction=False) as pipeline:
        for key, fields in hashes.items():
            pipeline.hset(key, mapping=fields)  # type: ignore[arg-type]
        pipeline.execute()
    return len(hashes)


def build_sqlite(path: Path) -> Path:
    """Create an online store file with the recorded tables, indexes and rows; the folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        golden = load("sqlite_online_store")
        for name, table in golden["tables"].items():
            connection.execute(table["create_sql"])
            for row in table["rows"]:
                _insert(connection, name, row)
        for index in golden["indexes"]:
            connection.execute(index["create_sql"])
    connection.close()
    return path


def _insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> None:
    columns = {name.removesuffix("_hex"): bytes.fromhex(v) if name.endswith("_hex") else v for name, v in row.items()}
    marks = ", ".join("?" * len(columns))
    connection.execute(f'INSERT INTO "{table}" ({", ".join(columns)}) VALUES ({marks})', list(columns.values()))


def copy_bank(folder: Path, online_store: Mapping[str, Any], **settings: Any) -> Path:
    """Copy the bank repository into `folder`, with this `online_store` section and other top-level settings."""
    shutil.copytree(BANK, folder, dirs_exist_ok=True)
    yaml_file = folder / "feature_store.yaml"
    config = yaml.safe_load(yaml_file.read_text()) | {"online_store": dict(online_store)} | settings
    yaml_file.write_text(yaml.safe_dump(config, sort_keys=False))
    return folder
