"""The SQL registry: Feast's tables, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from fastserve import FeatureStore
from fastserve.config import parse_config
from fastserve.errors import RegistryError, RegistryNotFoundError
from fastserve.registry import database, open_registry
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.file import FileRegistry
from fastserve.registry.sql import SqlRegistry
from tests import goldens, registries
from tests.servers import PostgresServer

GOLDEN = goldens.BANK / "data/sql_registry.db"
Query = Callable[[str], list[Any]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the registry that Feast has written."""
    return Path(shutil.copy(GOLDEN, tmp_path / "registry.db"))


def opened(path: Path | str, project: str = "bank", **section: Any) -> SqlRegistry:
    url = f"sqlite:///{path}" if isinstance(path, Path) else path
    values = {"registry_type": "sql", "path": url, **section}
    registry = open_registry(parse_config({"project": project, "registry": values}))
    assert isinstance(registry, SqlRegistry)
    return registry


def rows(path: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def describe(message: pb.Registry) -> None:
    registries.named(message.feature_views, "txn_7d").spec.description += "!"


def filled(url: str) -> SqlRegistry:
    registry = opened(url)
    registry.update(lambda message: message.MergeFrom(registries.bank()), create=True)
    return registry


# ---- reading what Feast wrote ----


def test_it_says_what_the_file_says() -> None:
    from_sql = opened(GOLDEN).load()
    from_file = FileRegistry(str(goldens.BANK / "data/registry.db"), "bank").load()
    for kind in ("entities", "feature_views", "on_demand_feature_views", "feature_services", "data_sources"):
        assert set(getattr(from_sql, kind)) == set(getattr(from_file, kind))
    assert timeless(from_sql.message) == timeless(from_file.message)


def timeless(message: pb.Registry) -> Any:
    """Return all definitions, without what differs between two runs of the same `feast apply`."""
    found = without(MessageToDict(message, preserving_proto_field_name=True), TIMES)
    del found["feature_view_version_history"]
    return {kind: sorted(items, key=str) for kind, items in found.items() if kind != "registry_schema_version"}


TIMES = frozenset(
    "version_id last_updated created_timestamp last_updated_timestamp materialization_intervals state "
    "project_metadata".split()
)
TIMES |= {"data_source_class_type"}  # only the file has it


def without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {name: without(item, names) for name, item in value.items() if name not in names}
    return [without(item, names) for item in value] if isinstance(value, list) else value


def test_versions_come_from_their_table() -> None:
    snapshot = opened(GOLDEN).load()
    assert snapshot.get_feature_view_version("txn_7d", 0).name == "txn_7d"
    assert len(snapshot.message.feature_view_version_history.records) == 11


def test_it_is_as_old_as_its_last_write() -> None:
    [(seconds,)] = rows(GOLDEN, "SELECT metadata_value FROM feast_metadata WHERE metadata_key='last_updated_timestamp'")
    assert opened(GOLDEN).load().message.last_updated.seconds == int(seconds)


def test_a_store_serves_from_it(sqlite_bank_repo: Path) -> None:
    section = {"registry_type": "sql", "path": f"sqlite:///{GOLDEN}"}
    asked = {"features": ["txn_7d:amount_sum", "customer_profile:age"], "entity_rows": [{"customer_id": "C1"}]}
    settings = registries.yaml_of(sqlite_bank_repo)
    from_sql = FeatureStore(sqlite_bank_repo, settings | {"registry": section})
    from_file = FeatureStore(sqlite_bank_repo, settings)
    assert from_sql.get_online_features(**asked).to_dict() == from_file.get_online_features(**asked).to_dict()


def test_older_feast_has_fewer_tables(path: Path) -> None:
    for name in ("label_views", "feature_view_version_history"):
        change(path, f"DROP TABLE {name}")
    assert len(opened(path).load().feature_views) == 8
    with pytest.raises(RegistryError, match="lacks tables: feature_view_version_history, label_views; make them with"):
        opened(path, schema_mode="verify").load()
    assert len(opened(path).update(describe).feature_views) == 8
    assert len(opened(path, schema_mode="verify").load().feature_views) == 8


@pytest.mark.parametrize("damage", ["ffff", ""])
def test_a_damaged_row(path: Path, damage: str) -> None:
    change(path, f"UPDATE feature_views SET feature_view_proto = x'{damage}' WHERE feature_view_name = 'txn_7d'")
    with pytest.raises(RegistryError, match="row txn_7d of the registry's table feature_views is damaged"):
        opened(path).load()


def test_a_damaged_permission_is_left_out(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    change(path, "INSERT INTO permissions VALUES ('p', 'bank', 1, x'0a030a0170'), ('q', 'bank', 1, x'ffff')")
    assert [found.spec.name for found in opened(path).load().message.permissions] == ["p"]
    assert "permission q in the registry is damaged" in caplog.text
    opened(path).update(describe)
    assert rows(path, "SELECT count(*) FROM permissions") == [(2,)]


# ---- writing as Feast does ----


def schema(path: Path) -> dict[str, Any]:
    names = [name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    indexes = rows(path, "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    return {name: columns(path, name) for name in names} | {"indexes": sorted(indexes)}


def columns(path: Path, table: str) -> list[Any]:
    """Return (name, type, must be given, default, place in the primary key) of each column."""
    return [row[1:] for row in rows(path, f"PRAGMA table_info({table})")]


def test_the_tables_are_feasts(tmp_path: Path) -> None:
    opened(tmp_path / "new.db").create_schema()
    assert schema(tmp_path / "new.db") == schema(GOLDEN)
    opened(tmp_path / "new.db").create_schema()


def test_only_what_changed_is_written(path: Path) -> None:
    before = everything(path)
    opened(path).update(describe)
    changed = {key: row for key, row in everything(path).items() if row != before[key]}
    assert sorted(changed) == [
        ("feast_metadata", "bank", "last_updated_timestamp"),
        ("feature_views", "txn_7d", "bank"),
    ]
    row = changed["feature_views", "txn_7d", "bank"]
    assert row["last_updated_timestamp"] > before["feature_views", "txn_7d", "bank"]["last_updated_timestamp"]
    assert row["user_metadata"] is None
    assert pb.FeatureView.FromString(row["feature_view_proto"]).spec.project == ""
    stamp = changed["feast_metadata", "bank", "last_updated_timestamp"]
    assert stamp["metadata_value"] == str(stamp["last_updated_timestamp"])


def everything(path: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return all rows by table and primary key."""
    found = {}
    for table in set(schema(path)) - {"indexes"}:
        names = [column[0] for column in columns(path, table)]
        keys = [column[0] for column in columns(path, table) if column[4]]
        for values in rows(path, f"SELECT * FROM {table}"):
            row = dict(zip(names, values, strict=True))
            found[(table, *map(str, (row[key] for key in keys)))] = row
    return found


def test_columns_that_we_do_not_use_are_kept(path: Path) -> None:
    change(path, "UPDATE feature_views SET user_metadata = x'01', materialized_intervals = x'02'")
    change(path, "INSERT INTO permissions VALUES ('p', 'bank', 1, x'0a030a0170')")
    opened(path).update(describe)
    found = rows(path, "SELECT DISTINCT user_metadata, materialized_intervals FROM feature_views")
    assert found == [(b"\x01", b"\x02")]
    assert rows(path, "SELECT count(*) FROM permissions") == [(1,)]


def test_permissions_are_read(path: Path) -> None:
    change(path, "INSERT INTO permissions VALUES ('p', 'bank', 1, x'0a030a0170'), ('p', 'shop', 1, x'')")
    [permission] = opened(path).load().message.permissions
    assert (permission.spec.name, permission.spec.project) == ("p", "bank")


def test_a_new_project_gets_an_id(tmp_path: Path) -> None:
    registry = filled(f"sqlite:///{tmp_path}/new.db")
    found = dict(rows(tmp_path / "new.db", "SELECT metadata_key, metadata_value FROM feast_metadata"))
    [given] = [item.project_uuid for item in registries.bank().project_metadata] or [found["project_uuid"]]
    assert uuid.UUID(found["project_uuid"]) == uuid.UUID(given)
    registry.update(describe)
    assert dict(rows(tmp_path / "new.db", "SELECT metadata_key, metadata_value FROM feast_metadata")).keys() == {
        "project_uuid",
        "last_updated_timestamp",
    }


def test_metadata_can_be_left_out(tmp_path: Path) -> None:
    registry = opened(tmp_path / "new.db", purge_feast_metadata=True)
    registry.update(lambda message: message.MergeFrom(registries.bank()), create=True)
    assert rows(tmp_path / "new.db", "SELECT * FROM feast_metadata") == []


def test_teardown_leaves_the_tables_and_other_projects(path: Path) -> None:
    change(path, "INSERT INTO permissions VALUES ('p', 'bank', 1, x'0a030a0170'), ('p', 'shop', 1, x'')")
    opened(path).teardown()
    assert list(everything(path)) == [("permissions", "p", "shop")]
    assert schema(path) == schema(GOLDEN)


def test_what_cannot_be_a_row_is_refused(path: Path) -> None:
    def twice(message: pb.Registry) -> None:
        message.entities.add().CopyFrom(message.entities[0])

    def foreign(message: pb.Registry) -> None:
        message.entities[0].spec.project = "shop"

    before = everything(path)
    with pytest.raises(RegistryError, match=r"^__dummy is twice in entities$"):
        opened(path).update(twice)
    with pytest.raises(RegistryError, match=r"^__dummy in entities is of project 'shop'; this registry is of 'bank'$"):
        opened(path).update(foreign)
    assert everything(path) == before


@pytest.mark.parametrize("mode", ["verify", "skip"])
def test_tables_are_made_only_if_wanted(tmp_path: Path, mode: str) -> None:
    with pytest.raises(RegistryError, match=r"lacks tables: data_sources, entities, .*; make them with `fastserve reg"):
        opened(tmp_path / "new.db", schema_mode=mode).update(lambda message: None, create=True)
    opened(tmp_path / "new.db").create_schema()
    opened(tmp_path / "new.db", schema_mode=mode).update(lambda message: message.MergeFrom(registries.bank()))
    assert len(opened(tmp_path / "new.db").load().feature_views) == 8


# ---- addresses ----


def test_a_relative_path_starts_at_the_repository(path: Path) -> None:
    section = {"registry_type": "sql", "path": "sqlite:///registry.db"}
    registry = open_registry(parse_config({"project": "bank", "registry": section}, path.parent))
    assert len(registry.load().feature_views) == 8
    assert repr(registry) == f"<SqlRegistry sqlite:///{path}, project bank>"


def test_reading_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(
        RegistryNotFoundError, match=r"registry sqlite:///.*/no\.db does not exist; run `fastserve apply`"
    ):
        opened(tmp_path / "no.db").load()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://", "a registry in SQLite is a file: sqlite:///path"),
        ("sqlite:///:memory:", "a registry in SQLite is a file"),
        ("a secret", "registry.path is not a database URL"),
        ("cobol://user:secret@host/db", "its driver is not installed"),
        ("oracle://user:secret@host/db?password=secret", "its driver is not installed"),
        ("postgresql://user:secret@127.0.0.1:1/db", r"registry postgresql://127.0.0.1:1/db: .*refused"),
    ],
)
def test_addresses_that_do_not_work(url: str, reason: str) -> None:
    with pytest.raises(RegistryError, match=reason) as caught:
        opened(url).load()
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database\n" * 100)
    for ask in (opened(tmp_path / "text.db").load, lambda: opened(tmp_path / "text.db").update(describe)):
        with pytest.raises(RegistryError, match=r"registry sqlite:///.*/text\.db: file is not a database"):
            ask()


def test_options_reach_sqlalchemy(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RegistryError, match=r"registry\.sqlalchemy_config_kwargs: .*nonsense"):
        opened(path, sqlalchemy_config_kwargs={"nonsense": 1})
    caplog.set_level(logging.INFO)
    opened(path, sqlalchemy_config_kwargs={"echo": True, "pool_size": 2}).load()
    assert "SELECT" in caplog.text


def test_without_sqlalchemy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(RegistryError, match=r"sql needs SQLAlchemy: pip install 'fastserve\[sql\]'"):
        opened(GOLDEN)


def test_it_reads_from_the_read_path(path: Path, tmp_path: Path) -> None:
    replica = Path(shutil.copy(path, tmp_path / "replica.db"))
    registry = opened(path, read_path=f"sqlite:///{replica}")
    registry.update(describe)
    assert registries.named(registry.load().message.feature_views, "txn_7d").spec.description == ""
    assert registries.named(opened(path).load().message.feature_views, "txn_7d").spec.description == "!"


# ---- others at the same time ----


def test_sqlite_locked_by_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RegistryError, match=r"another writer has held it for 0\.05 s; try again later"):
        opened(path).update(describe)
    assert len(opened(path).load().feature_views) == 8
    other.close()


def test_a_registry_file_that_is_replaced(path: Path, tmp_path: Path) -> None:
    registry = opened(path)
    mark = registry.mark()
    Path(shutil.copy(GOLDEN, tmp_path / "new.db")).replace(path)
    assert registry.mark() != mark


def test_marks_in_wal_mode(path: Path) -> None:
    change(path, "PRAGMA journal_mode = WAL")
    registry, marks = opened(path), []
    for _ in range(4):
        marks.append(registry.mark())
        opened(path).update(describe)
    assert len(set(marks)) == 4


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.database(uuid.uuid4().hex)


def test_postgres_rows_that_feast_changes_meanwhile_are_not_lost(postgres_server: PostgresServer, url: str) -> None:
    registry = filled(url)
    view = registries.named(registries.bank().feature_views, "txn_7d")
    view.spec.owner = "by Feast"
    calls = []

    def edit(message: pb.Registry) -> None:
        calls.append(message)
        describe(message)
        if len(calls) == 1:
            statement = f"UPDATE feature_views SET feature_view_proto = '\\x{view.SerializeToString().hex()}'"
            postgres_server.psql(url.rpartition("/")[2], f"{statement} WHERE feature_view_name = 'txn_7d'")

    found = registries.named(registry.update(edit).message.feature_views, "txn_7d").spec
    assert (len(calls), found.owner, found.description) == (2, "by Feast", "!")


def test_postgres_rows_that_feast_adds_or_deletes_meanwhile(postgres_server: PostgresServer, url: str) -> None:
    registry = filled(url)
    name = url.rpartition("/")[2]
    calls = []

    def edit(message: pb.Registry) -> None:
        calls.append(message)
        if len(calls) == 1:
            postgres_server.psql(name, "INSERT INTO entities VALUES ('new', 'bank', 1, '\\x0a050a036e6577')")
        if len(calls) == 2:
            postgres_server.psql(name, "DELETE FROM entities WHERE entity_name = 'account'")
        for item in list(message.entities):
            if item.spec.name in ("new", "account"):
                message.entities.remove(item)
        message.entities.add().spec.MergeFrom(pb.EntitySpecV2(name="new", join_key="new", project="bank"))

    assert sorted(registry.update(edit).entities) == ["customer", "merchant", "new"]
    assert len(calls) == 3


def test_postgres_held_by_others(postgres_server: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = filled(url)
    monkeypatch.setattr(database, "WAIT_SECONDS", 1)

    def edit(message: pb.Registry) -> None:
        with pytest.raises(RegistryError, match="another writer has held it for 1 s; try again later"):
            opened(url).update(describe)

    registry.update(edit)
    registry.update(describe)


def test_postgres_that_restarts(postgres_server: PostgresServer, url: str) -> None:
    registry = filled(url)
    before = registry.mark()
    name = url.rpartition("/")[2]
    postgres_server.psql("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert registry.mark() == before
    assert len(registry.load().feature_views) == 8


def test_postgres_without_a_registry(url: str) -> None:
    with pytest.raises(RegistryNotFoundError, match=r"registry postgresql://127\.0\.0\.1:.* does not exist; run"):
        opened(url).load()


# ---- forks ----


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_forked_child_has_connections_of_its_own(kind: str, path: Path, request: pytest.FixtureRequest) -> None:
    registry = filled(request.getfixturevalue("url")) if kind == "postgresql" else opened(path)
    registry.load()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            registry.update(describe)
            code = 0 if registry.load().mark == registry.mark() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    mark = registry.mark()
    assert registries.named(registry.load().message.feature_views, "txn_7d").spec.description == "!"
    registry.update(describe)
    assert registry.mark() != mark
