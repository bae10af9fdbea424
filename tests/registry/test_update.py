"""What every registry promises about changing it: one set of tests over a file, SQLite and PostgreSQL."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import parse_config
from fastserve.errors import RegistryError, RegistryNotFoundError
from fastserve.registry import Refresher, RegistrySource, Snapshot, open_registry
from fastserve.registry import schema_pb2 as pb
from tests import registries

Section = dict[str, Any]

WRITER = """
import json, sys, time
from fastserve.config import parse_config
from fastserve.registry import open_registry

registry = open_registry(parse_config({"project": "bank", "registry": json.loads(sys.argv[1])}))

def tag(name):
    def edit(message):
        message.projects[0].spec.tags[name] = "x"
    return edit

def hang(message):
    message.projects[0].spec.description = "half"
    print("in", flush=True)
    time.sleep(60)

if sys.argv[2] == "hang":
    registry.update(hang)
for number in range(int(sys.argv[3])):
    registry.update(tag(f"{sys.argv[2]}{number}"))
"""


@pytest.fixture(params=["file", "sqlite", "postgresql"])
def section(request: pytest.FixtureRequest, tmp_path: Path) -> Section:
    """The `registry:` section of a registry that is not there yet."""
    if request.param == "file":
        return {"path": str(tmp_path / "new/registry.db")}
    if request.param == "sqlite":
        return {"registry_type": "sql", "path": f"sqlite:///{tmp_path}/new/registry.db"}
    server = request.getfixturevalue("postgres_server")
    return {"registry_type": "sql", "path": server.database(uuid.uuid4().hex)}


@pytest.fixture
def registry(section: Section) -> RegistrySource:
    """The bank's registry."""
    made = opened(section)
    made.update(lambda message: message.MergeFrom(registries.bank()), create=True)
    return made


def opened(section: Section, project: str = "bank") -> RegistrySource:
    return open_registry(parse_config({"project": project, "registry": section}))


def describe(text: str, name: str = "txn_7d") -> Callable[[pb.Registry], None]:
    def edit(message: pb.Registry) -> None:
        registries.named(message.feature_views, name).spec.description = text

    return edit


def definitions(message: pb.Registry) -> pb.Registry:
    """Return what says nothing about when, by whom and in which order it was written."""
    copy = pb.Registry()
    copy.CopyFrom(message)
    for field in ("version_id", "last_updated", "project_metadata"):
        copy.ClearField(field)
    for items in (copy.feature_views, copy.entities, copy.on_demand_feature_views, copy.feature_services):
        items.sort(key=lambda item: item.spec.name)
    copy.data_sources.sort(key=lambda item: item.name)
    copy.feature_view_version_history.records.sort(key=lambda record: (record.feature_view_name, record.version_number))
    for record in copy.feature_view_version_history.records:
        record.created_timestamp.nanos = 0  # SQL keeps seconds
    return copy


def test_everything_is_there_again(registry: RegistrySource, section: Section) -> None:
    assert definitions(registry.load().message) == definitions(registries.bank())
    assert definitions(opened(section).load().message) == definitions(registries.bank())


def test_a_change(registry: RegistrySource) -> None:
    before = registry.load()
    after = registry.update(describe("seven days"))
    assert after.get_feature_view("txn_7d").features == before.get_feature_view("txn_7d").features
    assert registries.named(after.message.feature_views, "txn_7d").spec.description == "seven days"
    assert after.message == registry.load().message
    assert registry.mark() != before.mark


def test_objects_come_and_go(registry: RegistrySource) -> None:
    def edit(message: pb.Registry) -> None:
        message.feature_services.add().CopyFrom(message.feature_services[0])
        message.feature_services[-1].spec.name = "copy"
        del message.entities[0]
        message.feature_view_version_history.records.add(
            feature_view_name="txn_7d", project_id="bank", version_number=1, feature_view_type="feature_view"
        )

    gone = registry.load().message.entities[0].spec.name
    registry.update(edit)
    loaded = registry.load()
    assert "copy" in loaded.feature_services
    assert gone not in loaded.entities
    assert ("txn_7d", 1) in [
        (r.feature_view_name, r.version_number) for r in loaded.message.feature_view_version_history.records
    ]


def test_an_edit_that_changes_nothing_writes_nothing(registry: RegistrySource) -> None:
    mark = registry.mark()
    found = registry.update(lambda message: None)
    assert found.mark == mark == registry.mark()
    assert len(found.feature_views) == 8


def test_an_edit_that_fails_writes_nothing(registry: RegistrySource) -> None:
    before, mark = registry.load().message, registry.mark()

    def edit(message: pb.Registry) -> None:
        del message.feature_views[:]
        raise FileNotFoundError("of the edit")

    with pytest.raises(FileNotFoundError, match=r"^of the edit$"):
        registry.update(edit)
    assert registry.mark() == mark
    assert registry.load().message == before
    assert registry.update(describe("afterwards")).message != before


def test_a_state_that_cannot_be_read_is_not_written(registry: RegistrySource) -> None:
    mark = registry.mark()

    def edit(message: pb.Registry) -> None:
        registries.named(message.feature_views, "txn_7d").spec.ttl.seconds = 10**14

    with pytest.raises(RegistryError, match="txn_7d"):
        registry.update(edit)
    assert registry.mark() == mark


def test_a_registry_that_is_not_there(section: Section) -> None:
    registry = opened(section)
    for ask in (registry.load, lambda: registry.update(lambda message: None)):
        with pytest.raises(RegistryNotFoundError, match="does not exist; run"):
            ask()
    registry.teardown()
    assert not registry.update(lambda message: None, create=True).feature_views
    assert not registry.load().projects


def test_create_keeps_what_is_there(registry: RegistrySource) -> None:
    assert len(registry.update(describe("x"), create=True).feature_views) == 8


def test_the_project_of_an_object_is_made(section: Section) -> None:
    def edit(message: pb.Registry) -> None:
        message.entities.add().spec.MergeFrom(pb.EntitySpecV2(name="a", join_key="a", value_type=2, project="bank"))

    found = opened(section).update(edit, create=True)
    assert list(found.projects) == ["bank"]
    assert found.message.projects[0].meta.created_timestamp.seconds > 1e9


def test_projects_share_a_registry(registry: RegistrySource, section: Section) -> None:
    """Neither sees, changes or tears down what the other one has."""
    view = registries.view("scores", {"score": registries.String})
    view.spec.project = "shop"
    shop = opened(section, "shop")
    assert list(shop.update(lambda message: message.feature_views.append(view)).feature_views) == ["scores"]
    assert len(registry.load().feature_views) == 8
    registry.teardown()
    assert list(shop.load().feature_views) == ["scores"]
    assert not registry.load().feature_views
    assert list(shop.load().projects) == ["shop"]


def test_teardown(registry: RegistrySource) -> None:
    registry.teardown()
    registry.teardown()
    assert not registry.update(lambda message: None, create=True).projects


def test_threads_lose_nothing(registry: RegistrySource, section: Section) -> None:
    def run(name: str, source: RegistrySource) -> None:
        def edit(message: pb.Registry) -> None:
            count = int(message.projects[0].spec.tags["count"] or 0)
            time.sleep(0.001)
            message.projects[0].spec.tags["count"] = str(count + 1)

        for _ in range(3):
            source.update(edit)

    sources = [registry, registry, opened(section), opened(section)]
    workers = [threading.Thread(target=run, args=(str(i), source)) for i, source in enumerate(sources)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert registry.load().message.projects[0].spec.tags["count"] == "12"


def writer(section: Section, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, json.dumps(section), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_lose_nothing(registry: RegistrySource, section: Section) -> None:
    writers = [writer(section, name, "4") for name in "abc"]
    for process in writers:
        process.communicate()
        assert process.returncode == 0
    tags = registry.load().message.projects[0].spec.tags
    assert {f"{name}{number}" for name in "abc" for number in range(4)} <= set(tags)


def test_a_writer_that_is_killed_leaves_the_old_state_and_no_lock(registry: RegistrySource, section: Section) -> None:
    before = registry.load().message
    with writer(section, "hang") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        assert registry.load().message == before  # readers do not wait
        process.send_signal(signal.SIGKILL)
    assert registry.load().message == before
    assert registry.update(describe("next")).message != before


def test_a_refresher_finds_changes(registry: RegistrySource, section: Section) -> None:
    seen: list[Snapshot] = []
    refresher = Refresher(registry, None, seen.append, mark=registry.load().mark)
    refresher.look()
    assert not seen
    opened(section).update(describe("from elsewhere"))
    refresher.look()
    assert [registries.named(s.message.feature_views, "txn_7d").spec.description for s in seen] == ["from elsewhere"]
    refresher.look()
    assert len(seen) == 1
    assert refresher.failures == 0


def test_marks_tell_changes_within_a_second(registry: RegistrySource, section: Section) -> None:
    """Rows say whole seconds, and the texts are of one length."""
    other, marks = opened(section), [registry.mark()]
    for number in range(5):
        other.update(describe(f"text {number}"))
        marks.append(registry.mark())
    assert len(set(marks)) == 6
