"""The file registry: reading it while others write it, and telling what is wrong with it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from fastserve.config import parse_config
from fastserve.errors import NotSupportedError, RegistryError
from fastserve.registry import file, open_registry
from fastserve.registry.file import FileRegistry
from tests import goldens

BANK = (goldens.BANK / "data/registry.db").read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.db"
    path.write_bytes(BANK)
    return path


def test_load(path: Path) -> None:
    registry = FileRegistry(str(path), "bank")
    mark = registry.mark()
    snapshot = registry.load()
    assert snapshot.mark == mark == registry.mark()
    assert len(snapshot.feature_views) == 8
    assert repr(registry) == f"<FileRegistry {path}, project bank>"


def test_open_takes_relative_paths_from_the_repository(path: Path) -> None:
    for value in ("registry.db", f"file://{path}", str(path), {"path": "registry.db", "registry_type": "file"}):
        config = parse_config({"project": "bank", "registry": value}, path.parent)
        assert open_registry(config).load().project == "bank"


@pytest.mark.parametrize("kind", ["remote", "snowflake.registry"])
def test_other_registries_are_refused(kind: str) -> None:
    config = parse_config({"project": "bank", "registry": {"registry_type": kind, "path": "sqlite:///:secret:"}})
    with pytest.raises(NotSupportedError, match=rf"registry\.registry_type: {kind} is not supported") as caught:
        open_registry(config)
    assert "secret" not in str(caught.value)


def test_other_stores_of_files_are_refused() -> None:
    config = parse_config({"project": "bank", "registry": {"registry_store_type": "S3RegistryStore", "path": "r.db"}})
    with pytest.raises(NotSupportedError, match=r"registry\.registry_store_type: S3RegistryStore is not supported"):
        open_registry(config)


@pytest.mark.parametrize("uri", ["s3://bucket/r.db", "gs://bucket/r.db", "hdfs://h/r.db", "x+y:r.db"])
def test_other_schemes_are_refused(uri: str) -> None:
    config = parse_config({"project": "bank", "registry": uri})
    with pytest.raises(RegistryError, match=r"scheme not supported: (s3|gs|hdfs|x\+y);"):
        open_registry(config)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    registry = FileRegistry(str(tmp_path / "r.db"), "bank")
    for look in (registry.mark, registry.load):
        with pytest.raises(RegistryError, match=r"registry .*/r\.db does not exist; run `fastserve apply`"):
            look()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=f"registry {tmp_path} cannot be read: Is a directory"):
        FileRegistry(str(tmp_path), "bank").load()


@pytest.mark.parametrize(
    "data",
    [b"", BANK[:-1], BANK[: len(BANK) // 2], b"not a registry\n", b"PK\x03\x04", b"\xff" * 64],
    ids=["empty", "last byte", "half", "text", "archive", "noise"],
)
def test_a_damaged_file(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(RegistryError, match=f"registry {path} is damaged .*; write it again with `fastserve apply`"):
        FileRegistry(str(path), "bank").load()


def test_a_file_that_is_being_rewritten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feast cuts the file off and writes it again; the second half comes while the reader waits."""
    path.write_bytes(BANK[:5000])
    monkeypatch.setattr(time, "sleep", lambda _: path.write_bytes(BANK))
    assert len(FileRegistry(str(path), "bank").load().feature_views) == 8


def test_a_file_cut_off_between_two_objects_is_not_believed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a file parses: only its age tells that somebody may still be writing."""
    snapshot = FileRegistry(str(path), "bank").load()
    entities_only = snapshot.message.__class__(entities=snapshot.message.entities).SerializeToString()
    path.write_bytes(entities_only)
    monkeypatch.setattr(time, "sleep", lambda _: path.write_bytes(BANK))
    assert len(FileRegistry(str(path), "bank").load().feature_views) == 8


def test_a_file_that_never_rests_is_read_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_is_fresh", lambda _: True)
    assert len(FileRegistry(str(path), "bank").load().feature_views) == 8


def test_a_file_from_the_future_is_read_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(path, (4e9, 4e9))
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited"))
    assert len(FileRegistry(str(path), "bank").load().feature_views) == 8


def test_marks_tell_changes(path: Path) -> None:
    registry = FileRegistry(str(path), "bank")
    marks = [registry.mark()]
    path.write_bytes(BANK + b"\x1a\x01\x31")
    marks.append(registry.mark())
    os.utime(path, (1, 1))
    marks.append(registry.mark())
    other = path.with_suffix(".new")
    shutil.copy2(path, other)
    other.replace(path)
    marks.append(registry.mark())
    assert len(set(marks)) == 4


def test_no_half_registry_is_ever_seen(path: Path) -> None:
    """A writer that works as Feast does, as fast as it can, beside a reader."""
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            with open(path, "wb", buffering=0) as out:
                out.write(BANK[:9000])
                out.write(BANK[9000:])
            stop.wait(0.1)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(20):
            assert len(FileRegistry(str(path), "bank").load().feature_views) == 8
    finally:
        stop.set()
        writer.join()
