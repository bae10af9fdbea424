"""Limits and requests at hand, without a server."""

from __future__ import annotations

import pytest

from fastserve.errors import RequestError, ServerBusyError, TooManyEntitiesError
from fastserve.server.limits import Life, Limits


def test_none_asked_for_is_the_servers_own() -> None:
    assert Limits().deadline(None) is None
    assert Limits(timeout=2).deadline(None) == 2


def test_a_client_can_only_shorten_it() -> None:
    assert Limits().deadline("1500") == 1.5
    assert Limits(timeout=1).deadline("1500") == 1
    assert Limits(timeout=2).deadline("1500") == 1.5


@pytest.mark.parametrize("text", ["0", "000", "-5", "1.5", "", "ten", "٣", "9" * 12, " 5"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="X-Request-Timeout-Ms"):
        Limits().deadline(text)


def test_rows_are_those_of_the_longest_column() -> None:
    limits = Limits(entities=2)
    limits.check_entities({})
    limits.check_entities({"a": [1, 2], "b": []})
    with pytest.raises(TooManyEntitiesError, match="3 entity rows; this server takes 2"):
        limits.check_entities({"a": [1], "b": [1, 2, 3]})
    Limits(entities=0).check_entities({"a": [1] * 1000})


def test_requests_at_hand_are_counted() -> None:
    life = Life(Limits(in_flight=2))
    with life:
        life.enter()
        with pytest.raises(ServerBusyError, match="2 requests at hand"):
            life.enter()
        life.leave()
        with pytest.raises(ZeroDivisionError), life:
            raise ZeroDivisionError
        assert life.in_flight == 1
    assert life.in_flight == 0
    unlimited = Life(Limits(in_flight=0))
    for _ in range(5000):
        unlimited.enter()
