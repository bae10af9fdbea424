"""Sockets that connect, and wait, until a deadline."""

from __future__ import annotations

import socket
import time

import pytest

from fastserve.stores.sockets import Patience, connect_tcp, reason_of, time_left


def test_time_left() -> None:
    assert 0 < time_left(time.monotonic() + 10) <= 10
    with pytest.raises(TimeoutError):
        time_left(time.monotonic())


def test_a_host_with_several_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # localhost may be ::1 first, where nobody listens.
        with connect_tcp("localhost", listener.getsockname()[1], time.monotonic() + 10) as sock:
            assert sock.getpeername() == listener.getsockname()


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        connect_tcp("127.0.0.1", port, time.monotonic() + 10)


def test_waiting_ends_at_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        patience = Patience(ours)
        patience.limit(time.monotonic() + 0.01)
        with pytest.raises((TimeoutError, BlockingIOError)):
            ours.recv(1)
        patience.limit(time.monotonic() + 10)
        theirs.send(b"x")
        assert ours.recv(1) == b"x"
        with pytest.raises(TimeoutError):
            patience.limit(time.monotonic() - 1)


def test_a_limit_that_has_hardly_changed_costs_no_system_call() -> None:
    class Counting(socket.socket):
        calls = 0

        def setsockopt(self, *args: object) -> None:  # type: ignore[override]
            self.calls += 1

    with Counting() as sock:
        patience = Patience(sock)
        for _ in range(5):
            patience.limit(time.monotonic() + 100)
        assert sock.calls == 2
        patience.limit(time.monotonic() + 50)
        assert sock.calls == 4


def test_reasons() -> None:
    assert reason_of(OSError(111, "Connection refused")) == "Connection refused"
    assert reason_of(ValueError("odd")) == "odd"
    assert reason_of(EOFError()) == "EOFError"
