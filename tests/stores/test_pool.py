"""Which connections a pool gives out, keeps and closes."""

from __future__ import annotations

import threading
import time

import pytest

from fastserve.errors import StoreTimeoutError
from fastserve.stores.pool import Pool


class Thing:
    """A connection to nothing."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.quiet = True
        self.closed = False

    def is_quiet(self) -> bool:
        return self.quiet

    def close(self) -> None:
        self.closed = True


def pool_of(limit: int = 2, idle_timeout: float = 0) -> Pool[Thing]:
    return Pool(Thing, limit, idle_timeout, "the server", "some_limit")


def soon() -> float:
    return time.monotonic() + 10


def test_the_last_one_given_is_the_first_one_taken() -> None:
    pool = pool_of()
    one, other = pool.take(soon()), pool.take(soon())
    pool.give(one)
    pool.give(other)
    assert pool.take(soon()) is other
    assert pool.take(soon()) is one


def test_one_that_is_not_quiet_is_replaced() -> None:
    pool = pool_of(limit=1)
    one = pool.take(soon())
    pool.give(one)
    one.quiet = False
    assert pool.take(soon()) is not one
    assert one.closed


def test_at_the_limit_one_waits() -> None:
    pool = pool_of(limit=1)
    one = pool.take(soon())
    with pytest.raises(StoreTimeoutError, match=r"the server: all 1 connections \(some_limit\) were in use"):
        pool.take(time.monotonic() + 0.01)
    giver = threading.Timer(0.01, pool.give, [one])
    giver.start()
    assert pool.take(soon()) is one
    giver.join()


def test_a_discarded_one_leaves_its_place() -> None:
    pool = pool_of(limit=1)
    one = pool.take(soon())
    pool.discard(one)
    assert one.closed
    assert pool.take(soon()) is not one


def test_one_that_was_lost_leaves_its_place() -> None:
    pool = pool_of(limit=1)
    pool.take(soon())  # and dropped, as by an exception between two lines
    assert pool.take(soon())


def test_what_lay_idle_for_too_long_is_closed() -> None:
    pool = pool_of(limit=3, idle_timeout=100)
    old, older, new = pool.take(soon()), pool.take(soon()), pool.take(soon())
    for thing in (older, old):
        pool.give(thing)
        thing.idle_since -= 101
    pool.give(new)
    assert older.closed and old.closed and not new.closed
    new.idle_since -= 101
    assert pool.take(soon()) is not new
    assert new.closed


def test_without_a_limit_of_idleness_nothing_is_closed() -> None:
    pool = pool_of()
    one = pool.take(soon())
    pool.give(one)
    one.idle_since -= 10**9
    assert pool.take(soon()) is one


def test_closing_closes_the_idle_ones() -> None:
    pool = pool_of()
    one, other = pool.take(soon()), pool.take(soon())
    pool.give(one)
    pool.close()
    assert one.closed and not other.closed
    pool.give(other)
    assert pool.take(soon()) is other
