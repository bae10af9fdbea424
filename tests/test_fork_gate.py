"""Who waits for whom at the gate between SQLite and forks."""

from __future__ import annotations

import threading
import time

import pytest

from fastserve import fork_gate
from tests.stores.forks import in_child
from tests.stores.scripted import PATIENCE

SHORT = 0.3


def test_a_fork_waits_for_reads_under_way_and_later_reads_for_the_fork() -> None:
    gate = fork_gate.ForkGate()
    done: list[str] = []

    def fork() -> None:
        gate.shut()
        done.append("fork")
        gate.open()

    def read() -> None:
        with gate:
            done.append("read")

    threads = [threading.Thread(target=fork), threading.Thread(target=read)]
    with gate:
        for thread in threads:
            thread.start()
            time.sleep(SHORT)
        with gate:  # a signal's, say: it must not wait for the fork, which waits for it
            assert done == []
    for thread in threads:
        thread.join(PATIENCE)
    assert done == ["fork", "read"]


def test_a_thread_that_forks_can_read() -> None:
    """A signal may come while the fork is waited for."""
    gate = fork_gate.ForkGate()
    gate.shut()
    with gate:
        pass
    gate.open()


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is inside may be waiting for whoever forks."""
    monkeypatch.setattr(fork_gate, "LONGEST_WAIT_SECONDS", 0.01)
    gate, inside, leave = fork_gate.ForkGate(), threading.Event(), threading.Event()

    def read() -> None:
        with gate:
            inside.set()
            leave.wait(PATIENCE)

    reader = threading.Thread(target=read)
    reader.start()
    assert inside.wait(PATIENCE)
    gate.shut()
    gate.open()
    leave.set()
    reader.join(PATIENCE)


def test_a_thread_that_reads_can_fork_whenever() -> None:
    gate = fork_gate.ForkGate()
    with gate, gate:
        gate.shut()
        gate.open()
    gate.shut()
    gate.open()


def test_an_error_leaves_the_gate_too(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = fork_gate.ForkGate()
    with pytest.raises(KeyError), gate:
        raise KeyError
    assert gate._inside == []


def test_a_child_has_a_gate_of_its_own() -> None:
    """Nobody is inside, though the parent's thread was, and children can fork as well."""
    before = fork_gate.current()

    def child() -> tuple[bool, list[int], bool]:
        gate = fork_gate.current()
        return gate is before, [*gate._inside], in_child(lambda: fork_gate.current() is gate)

    with before:
        assert in_child(child) == (False, [], False)
        assert before._inside == [threading.get_ident()]
    assert fork_gate.current() is before
    assert (before._inside, before._forking) == ([], [])
