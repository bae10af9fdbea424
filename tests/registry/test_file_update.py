"""Writing the registry file: what is special to a file, and to Feast writing the same one."""

from __future__ import annotations

import os
import stat
import threading
import uuid
from pathlib import Path

import pytest

from fastserve.errors import RegistryError
from fastserve.registry import file, lock
from fastserve.registry import schema_pb2 as pb
from fastserve.registry.file import FileRegistry
from tests import goldens, registries

BANK = (goldens.BANK / "data/registry.db").read_bytes()
UNKNOWN = bytes.fromhex("5a040a020a00")  # a saved dataset: field 11, which schema.proto leaves out


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.db"
    path.write_bytes(BANK)
    return path


def describe(message: pb.Registry) -> None:
    registries.named(message.feature_views, "txn_7d").spec.description += "!"


def test_each_write_is_stamped(path: Path) -> None:
    registry = FileRegistry(str(path), "bank")
    before = registry.load().message
    after = registry.update(describe).message
    assert uuid.UUID(after.version_id).version == 4
    assert after.version_id != before.version_id
    assert after.last_updated.seconds > before.last_updated.seconds
    assert after.registry_schema_version == "1"
    assert pb.Registry.FromString(path.read_bytes()) == after


def test_what_schema_proto_leaves_out_is_kept(path: Path) -> None:
    path.write_bytes(BANK + UNKNOWN)
    FileRegistry(str(path), "bank").update(describe)
    assert UNKNOWN in path.read_bytes()


def test_nothing_is_left_beside_it(path: Path) -> None:
    registry = FileRegistry(str(path), "bank")
    registry.update(describe)
    with pytest.raises(ZeroDivisionError):
        registry.update(lambda message: 1 // 0)  # type: ignore[arg-type, return-value]
    assert os.listdir(path.parent) == ["registry.db"]
    registry.teardown()
    assert os.listdir(path.parent) == []


def test_mode_and_owner_are_kept(path: Path) -> None:
    path.chmod(0o640)
    if os.getuid() == 0:
        os.chown(path, 1234, 2345)
    before = path.stat()
    FileRegistry(str(path), "bank").update(describe)
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    path = tmp_path / "a/b/registry.db"
    mask = os.umask(0o027)
    try:
        FileRegistry(str(path), "bank").update(lambda message: None, create=True)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    FileRegistry(str(link), "bank").update(describe)
    assert link.is_symlink()
    assert path.read_bytes() != BANK


def test_what_feast_writes_meanwhile_is_not_lost(path: Path) -> None:
    """Feast does not know the lock, and rewrites the file in place."""
    foreign = registries.bank()
    foreign.entities[0].spec.description = "by Feast"
    calls = []

    def edit(message: pb.Registry) -> None:
        calls.append(message)
        describe(message)
        if len(calls) == 1:
            path.write_bytes(foreign.SerializeToString())

    found = FileRegistry(str(path), "bank").update(edit).message
    assert len(calls) == 2
    assert found.entities[0].spec.description == "by Feast"
    assert registries.named(found.feature_views, "txn_7d").spec.description.endswith("!")


def test_a_file_that_others_write_all_the_time(path: Path) -> None:
    def edit(message: pb.Registry) -> None:
        describe(message)
        path.write_bytes(BANK)

    with pytest.raises(RegistryError, match=rf"registry {path} is being changed by others all the time"):
        FileRegistry(str(path), "bank").update(edit)
    assert path.read_bytes() == BANK


def test_a_file_that_feast_makes_meanwhile_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"

    def edit(message: pb.Registry) -> None:
        if not message.feature_views:
            path.write_bytes(BANK)
        message.projects.add().spec.name = "bank2"

    assert len(FileRegistry(str(path), "bank").update(edit, create=True).feature_views) == 8


def test_a_damaged_file_is_not_replaced(path: Path) -> None:
    path.write_bytes(BANK[:-1])
    with pytest.raises(RegistryError, match="is damaged"):
        FileRegistry(str(path), "bank").update(describe, create=True)
    assert path.read_bytes() == BANK[:-1]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file/registry.db"
    with pytest.raises(RegistryError, match=rf"registry {path} cannot be written: (File exists|Not a directory)"):
        FileRegistry(str(path), "bank").update(lambda message: None, create=True)


def test_a_leftover_of_a_killed_writer_does_no_harm(path: Path) -> None:
    Path(f"{path}.new").write_bytes(BANK[:100])
    Path(f"{path}.lock").write_bytes(b"12345")
    FileRegistry(str(path), "bank").update(describe)
    assert os.listdir(path.parent) == ["registry.db"]


def test_a_writer_that_does_not_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "LOCK_SECONDS", 0.05)
    with lock.hold(f"{path}.lock", 1):
        with pytest.raises(RegistryError, match=rf"{path}\.lock is held .* \(process {os.getpid()}\); try again later"):
            FileRegistry(str(path), "bank").update(describe)
    FileRegistry(str(path), "bank").update(describe)


def test_a_child_does_not_keep_the_lock(path: Path) -> None:
    with lock.hold(f"{path}.lock", 1):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)  # until the parent has closed its end
            os._exit(0)
        os.close(read)
    try:
        with lock.hold(f"{path}.lock", 1):
            pass
    finally:
        os.close(write)
        os.waitpid(child, 0)


def test_a_lock_is_one_holders(path: Path) -> None:
    inside, most = [], []

    def work() -> None:
        for _ in range(20):
            with lock.hold(f"{path}.lock", 30):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 160
