"""Entities to measure with: from a store, and from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastserve import FeatureStore
from fastserve.errors import RequestError, StoreError
from fastserve.sampling import rows_of_file, rows_of_store, values_of_key
from tests.servers import RedisServer


def test_what_the_store_holds_is_sampled(store: FeatureStore) -> None:
    plan = store.plan(["customer_profile:age"])
    rows = rows_of_store(store.config, plan, 100)
    assert len(rows) > 1
    assert len({row["customer_id"] for row in rows}) == len(rows)
    answer = store.get_online_features(["customer_profile:age"], rows)
    assert "PRESENT" in answer.statuses["age"]
    assert rows_of_store(store.config, plan, 1) == rows_of_store(store.config, plan, 1)[:1]
    assert len(rows_of_store(store.config, plan, 2)) == 2


def test_keys_of_several_values_come_back_as_they_were(store: FeatureStore) -> None:
    plan = store.plan([_any_pair(store)])
    group = plan.groups[0]
    assert len(group.columns) == 2
    rows = rows_of_store(store.config, plan, 50)
    batch = store.begin_read([_any_pair(store)], rows)
    assert [values_of_key(group, key) for key in batch.entity_keys(0)] == [
        [row[column] for column in group.columns] for row in rows
    ]


def _any_pair(store: FeatureStore) -> str:
    return f"account_merchant:{store.get_feature_view('account_merchant').features[0].name}"


def test_a_key_of_other_names_or_cut_short_is_none(store: FeatureStore) -> None:
    group = store.plan(["customer_profile:age"]).groups[0]
    key = store.begin_read(["customer_profile:age"], [{"customer_id": "C1"}]).entity_keys(0)[0]
    assert values_of_key(group, key) == ["C1"]
    for broken in (key[:-1], key + b"x", b"", group.prefix, group.prefix + b"\xff" * 12):
        assert values_of_key(group, broken) is None


def test_views_of_other_keys_are_put_together(store: FeatureStore) -> None:
    plan = store.plan(["customer_profile:age", _any_pair(store)])
    rows = rows_of_store(store.config, plan, 3)
    assert rows
    assert all(row.keys() == plan.required.keys() for row in rows)


def test_an_empty_store_is_one_clear_error(redis_bank_repo: Path, redis_bank: RedisServer) -> None:
    with redis_bank.client() as client:
        client.flushall()
    with FeatureStore(redis_bank_repo) as store:
        plan = store.plan(["customer_profile:age"])
        with pytest.raises(RequestError, match="holds no entity of customer_id"):
            rows_of_store(store.config, plan, 10)


def test_a_store_that_fails_says_so(sqlite_bank_repo: Path) -> None:
    with FeatureStore(sqlite_bank_repo) as store:
        plan = store.plan(["customer_profile:age"])
        (sqlite_bank_repo / "data/online.db").write_bytes(b"no database at all" * 100)
        with pytest.raises(StoreError, match=r"online\.db"):
            rows_of_store(store.config, plan, 10)


ROWS: list[dict[str, Any]] = [{"customer_id": "C1", "n": 1}, {"customer_id": "C2", "n": 2}]


@pytest.mark.parametrize(
    "name, text",
    [
        ("rows.json", json.dumps(ROWS)),
        ("columns.json", json.dumps({"customer_id": ["C1", "C2"], "n": [1, 2]})),
        ("rows.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n"),
    ],
)
def test_a_file_of_rows(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert rows_of_file(tmp_path / name) == ROWS


def test_a_csv_file_has_texts(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("customer_id,n\nC1,1\nC2,2\n")
    assert rows_of_file(tmp_path / "rows.csv") == [{"customer_id": "C1", "n": "1"}, {"customer_id": "C2", "n": "2"}]


NO_ROWS = [("a.json", "{"), ("b.json", "[1]"), ("c.csv", "x\n"), ("d.jsonl", '{"a":1}\n{}')]


@pytest.mark.parametrize("name, text", NO_ROWS)
def test_a_file_that_is_none(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=name):
        rows_of_file(tmp_path / name)
