"""Checking sections: unknown keys, wrong types, places in errors."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import pytest

from fastserve.config.check import Section, read_section, refuse_unknown
from fastserve.errors import ConfigError


class Inner(Section, frozen=True):
    size: int = 0


class Outer(Section, frozen=True):
    name: str
    count: int = 1
    inner: Inner = Inner()
    many: tuple[int, ...] = ()
    token: str = ""

    _secret: ClassVar[frozenset[str]] = frozenset({"token"})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "a.b.name: required"),
        ({"name": 1}, "a.b.name: expected str, got int"),
        ({"name": "n", "count": "1"}, "a.b.count: expected int, got str"),
        ({"name": "n", "inner": {"size": "x"}}, "a.b.inner.size: expected int, got str"),
        ({"name": "n", "many": [1, "x"]}, "a.b.many[1]: expected int, got str"),
        ({"name": "n", "cuont": 2}, "a.b.cuont: unknown key; did you mean count?"),
        ({"name": "n", 5: 2}, "a.b.5: unknown key"),
        ([], "a.b: expected a mapping, got list"),
        (None, "a.b: expected a mapping, got nothing"),
    ],
)
def test_errors_name_the_place(values: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_section(Outer, values, "a.b")
    assert str(caught.value) == text


def test_text_for_numbers() -> None:
    assert read_section(Outer, {"name": "n", "count": "5"}, "a", lax=True).count == 5
    with pytest.raises(ConfigError, match=r"^a\.name: expected str, got int$"):
        read_section(Outer, {"name": 5}, "a", lax=True)


def test_unknown_keys_may_be_ignored(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fastserve"):
        found = read_section(Outer, {"name": "n", "nmae": "s3cret"}, "", unknown_is_fatal=False)
    assert found == Outer("n")
    assert caplog.messages == ["unknown key nmae is ignored; did you mean name?"]


def test_secrets_are_not_shown() -> None:
    assert repr(Outer("n", token="s3cret")) == "Outer(name='n', count=1, inner=Inner(size=0), many=())"


def test_refuse_unknown_with_another_noun() -> None:
    refuse_unknown(["count"], {"count"}, "a", "option")
    with pytest.raises(ConfigError, match=r"^a: ' count': unknown option; did you mean count\?$"):
        refuse_unknown([" count"], {"count"}, "a", "option")
