"""Markers and layouts, without a store."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fastserve.errors import VectorError, VectorVersionError
from fastserve.vectors import Build, Group, Marker, differences, feast_view, new_build, places

USER = Group(("user_id",), (("a", (("x", 4), ("text", 2))), ("b", (("y", 5),))))
SHOP = Group(("shop_id",), (("c", (("z", 4),)),))
NAMES = (("a", "a", "x"), ("a", "a", "text"), ("other", "a", "x"), ("b", "b", "y"), ("c", "c", "z"))


def build() -> Build:
    return new_build("p", "s", "packed", [USER, SHOP], NAMES)


def test_a_marker_goes_through_the_store() -> None:
    current = build().finished(5)
    marker = Marker("s", current, build().without_views(["b"]))
    again = Marker.parse("s", marker.to_bytes())
    assert again == replace(marker, data=marker.to_bytes())
    assert again.builds == [marker.building, current]
    assert Marker.parse("s", None) == Marker("s")


def test_its_content_is_as_documented() -> None:
    content = json.loads(Marker("s", build().finished(5)).to_bytes())
    assert content.keys() == {"version", "service", "current", "building"}
    assert (content["version"], content["service"], content["building"]) == (1, "s", None)
    assert content["current"].keys() == {"format", "generation", "groups", "names", "built_at", "count"}
    group = content["current"]["groups"][0]
    assert group.keys() == {"join_keys", "views", "tag", "dropped", "fingerprint"}
    assert group["fingerprint"] == f"{USER.layout.fingerprint:016x}"
    assert group["views"] == [["a", [["x", 4], ["text", 2]]], ["b", [["y", 5]]]]


def test_each_generation_has_keys_of_its_own() -> None:
    tags = [group.tag for found in (build(), build()) for group in found.groups]
    assert len(set(tags)) == 4
    assert all(len(tag) == 16 and int(tag, 16) >= 0 for tag in tags)
    assert build().groups[0].prefix.startswith(b"fsv:")
    assert [group.tag for group in new_build("p", "s", "feast", [USER], NAMES).groups] == [""]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"1", b'{"version": 1}', b'{"version": 1, "current": 5, "building": 1}']
)
def test_damaged_markers_are_errors(data: bytes) -> None:
    with pytest.raises(VectorError, match="feature service s: its marker in the online store is damaged"):
        Marker.parse("s", data)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"format": "packed"', '"format": "other"'), ('"fingerprint": "', '"fingerprint": "0'), ('"x", 4', '"x", 5')],
)
def test_a_marker_that_does_not_agree_with_itself(old: str, new: str) -> None:
    text = Marker("s", build()).to_bytes().decode()
    assert old in text
    with pytest.raises(VectorError, match="damaged"):
        Marker.parse("s", text.replace(old, new, 1).encode())


def test_a_later_version_is_refused() -> None:
    with pytest.raises(
        VectorVersionError, match="feature service s: its vectors are in version 2 of the format"
    ) as raised:
        Marker.parse("s", b'{"version": 2, "anything": "else"}')
    assert raised.value.version == 2


def test_what_vectors_lack_is_said() -> None:
    found = build()
    assert differences([USER, SHOP], found) == []
    assert differences([Group(("user_id",), (("b", (("y", 5),)),))], found) == []
    more = Group(("user_id",), (("a", (("x", 5), ("new", 4))), ("d", (("q", 4),))))
    far = Group(("far_id", "x"), (("e", (("q", 4),)), ("f", (("q", 4),))))
    assert differences([more, far], found) == [
        "feature a:new was added",
        "feature a:x is DOUBLE, and was INT64 when they were built",
        "view d was added",
        "views with the join keys far_id, x were added: e, f",
    ]
    assert differences([USER], found.without_views(["b", "other"])) == ["view b was deleted and made anew"]


def test_places_in_feasts_format() -> None:
    fields: dict[tuple[str, str | None], int] = {
        key: i
        for i, key in enumerate(
            [("a", "x"), ("a", "text"), ("a", None), ("b", "y"), ("b", None), ("c", "z"), ("c", None)]
        )
    }
    names, views = places(build(), fields)
    assert names == [("a__x", 0), ("a__text", 1), ("other__x", 0), ("b__y", 3), ("c__z", 5)]
    assert views == [("a", 2), ("other", 2), ("b", 4), ("c", 6)]
    assert feast_view("s") == "__precomputed__s"
