"""The background refresh, with real files."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastserve.errors import RegistryError
from fastserve.registry import Refresher, Snapshot
from fastserve.registry.file import FileRegistry
from tests import goldens

BANK = (goldens.BANK / "data/registry.db").read_bytes()
MORE = BANK + bytes.fromhex("8a01070a050a036e6577")  # a project "new"
TICK = 0.02


class Watched:
    """A registry file, a Refresher over it, and the snapshots that it has handed over."""

    def __init__(self, path: Path, interval: float | None = TICK):
        self.path = path
        path.write_bytes(BANK)
        self.source = FileRegistry(str(path), "bank")
        self.first = self.source.load()
        self.seen: list[Snapshot] = []
        self.refresher = Refresher(self.source, interval, self.seen.append, mark=self.first.mark)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path / "registry.db")
    yield watched
    watched.refresher.stop()


def until(condition: Callable[[], object]) -> None:
    """Wait for something that must come; the limit only ends a test that has failed."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fastserve-registry"]


def test_a_rewrite_is_found(watched: Watched) -> None:
    watched.refresher.start()
    watched.path.write_bytes(MORE)
    until(lambda: watched.seen)
    assert list(watched.seen[0].projects) == ["bank", "new"]
    assert watched.seen[0].mark == watched.source.mark() != watched.first.mark
    assert watched.refresher.failures == 0


def test_a_replaced_file_is_found(watched: Watched) -> None:
    watched.refresher.start()
    other = watched.path.with_suffix(".new")
    other.write_bytes(MORE)
    other.replace(watched.path)
    until(lambda: watched.seen)
    assert "new" in watched.seen[0].projects


def test_nothing_happens_without_a_change(watched: Watched) -> None:
    for _ in range(3):
        watched.refresher.look()
    assert not watched.seen


def test_the_first_look_reads_when_no_mark_is_given(watched: Watched) -> None:
    refresher = Refresher(watched.source, None, watched.seen.append)
    refresher.look()
    refresher.look()
    assert len(watched.seen) == 1


def test_a_truncated_file_keeps_the_old_snapshot(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.path.write_bytes(BANK[:4000])
    with caplog.at_level(logging.ERROR, "fastserve"):
        for _ in range(3):
            watched.refresher.look()
    assert watched.refresher.failures == 3
    assert not watched.seen
    assert len(caplog.records) == 1
    assert "is damaged" in caplog.text
    watched.path.write_bytes(MORE)
    watched.refresher.look()
    assert len(watched.seen) == 1
    assert watched.refresher.failures == 3


def test_each_distinct_failure_is_logged_once(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "fastserve"):
        watched.path.unlink()
        watched.refresher.look()
        watched.refresher.look()
        watched.path.mkdir()
        watched.refresher.look()
        watched.path.rmdir()
        watched.refresher.look()
    assert [("does not exist" in r.message, "cannot be read" in r.message) for r in caplog.records] == [
        (True, False),
        (False, True),
        (True, False),
    ]
    assert watched.refresher.failures == 4


def test_a_success_makes_the_same_failure_news_again(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "fastserve"):
        for _ in range(2):
            watched.path.unlink()
            watched.refresher.look()
            watched.path.write_bytes(MORE)
            watched.refresher.look()
    assert len(caplog.records) == 2


def test_a_deleted_file_that_comes_back(watched: Watched) -> None:
    watched.refresher.start()
    watched.path.unlink()
    until(lambda: watched.refresher.failures)
    assert not watched.seen
    watched.path.write_bytes(MORE)
    until(lambda: watched.seen)


def test_a_failing_receiver_is_asked_again(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Snapshot] = []

    def receive(snapshot: Snapshot) -> None:
        calls.append(snapshot)
        if len(calls) == 1:
            raise ValueError("no plan")

    refresher = Refresher(watched.source, None, receive)
    with caplog.at_level(logging.ERROR, "fastserve"):
        for _ in range(3):
            refresher.look()
    assert len(calls) == 2
    assert refresher.failures == 1
    assert "ValueError: no plan" in caplog.text


def test_refresh_now(watched: Watched) -> None:
    watched.refresher.refresh_now()
    assert len(watched.seen) == 1
    watched.refresher.look()
    assert len(watched.seen) == 1
    watched.path.unlink()
    with pytest.raises(RegistryError, match="does not exist"):
        watched.refresher.refresh_now()
    assert watched.refresher.failures == 0


def test_stop_and_start(watched: Watched) -> None:
    watched.refresher.start()
    watched.refresher.start()
    assert len(threads()) == 1
    assert threads()[0].daemon
    assert watched.refresher.running
    watched.refresher.stop()
    watched.refresher.stop()
    assert not watched.refresher.running
    assert not threads()
    watched.path.write_bytes(MORE)
    watched.refresher.start()
    until(lambda: watched.seen)


@pytest.mark.parametrize("interval", [None, 0, 0.0])
def test_no_interval_no_thread(tmp_path: Path, interval: float | None) -> None:
    watched = Watched(tmp_path / "registry.db", interval)
    watched.refresher.start()
    assert not watched.refresher.running
    assert not threads()


def test_it_may_be_stopped_from_its_own_thread(watched: Watched) -> None:
    refresher = Refresher(watched.source, TICK, lambda _: refresher.stop())
    refresher.start()
    until(lambda: not threads())


def test_a_forgotten_refresher_ends(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "registry.db", 3600)
    watched.refresher.start()
    reference = weakref.ref(watched.refresher)
    del watched
    gc.collect()
    assert reference() is None
    until(lambda: not threads())


FORK = """
import os, sys, time
from fastserve.registry import Refresher
from fastserve.registry.file import FileRegistry

path, more = sys.argv[1:]
source = FileRegistry(path, "bank")
seen = []
refresher = Refresher(source, 0.02, seen.append, mark=source.load().mark)
idle = Refresher(source, 0.02, seen.append)
refresher.start()
refresher._lock.acquire()  # as if the thread were in the middle of a look
child = os.fork()
if child == 0:
    assert refresher.running and not idle.running
    open(path, "ab").write(bytes.fromhex(more))
    deadline = time.monotonic() + 30
    while not seen and time.monotonic() < deadline:
        time.sleep(0.005)
    refresher.stop()
    os._exit(0 if [list(s.projects) for s in seen] == [["bank", "new"]] else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
refresher._lock.release()
assert refresher.running
refresher.stop()
sys.exit(code)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_a_thread_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    path.write_bytes(BANK)
    # Later Pythons warn of forks in processes with threads, which is what is tested here.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(path), MORE[len(BANK) :].hex()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
