"""Differences between two states of a definition."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format

from fastserve.changes import Change, FieldChange, differences, is_same
from fastserve.registry import schema_pb2 as pb


def feature_view(text: str) -> pb.FeatureView:
    return text_format.Parse(text, pb.FeatureView())


def told(old: Any, new: Any) -> list[str]:
    assert is_same(old, new) == (not differences(old, new))
    return [str(change) for change in differences(old, new)]


AGE = 'features { name: "age" value_type: INT32 }'
CITY = 'features { name: "city" value_type: STRING }'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", []),
        ("ttl { seconds: 86400 }", "ttl { seconds: 3600 }", ["ttl: 1 day -> 1:00:00"]),
        ("ttl { seconds: 60 }", "", ["ttl: 0:01:00 -> (none)"]),
        ("online: true", "", ["online: True -> False"]),
        ('owner: "a"', "", ["owner: a -> (none)"]),
        ('tags { key: "k" value: "a" }', 'tags { key: "k" value: "b" }', ["tags.k: a -> b"]),
        ('tags { key: "k" value: "a" }', "", ["tags.k: a -> (none)"]),
        (AGE, AGE + CITY, ["features.city: (none) -> STRING"]),
        (AGE + CITY, AGE, ["features.city: STRING -> (none)"]),
        (AGE, AGE.replace("INT32", "INT64"), ["features.age.value_type: INT32 -> INT64"]),
        (AGE + CITY, CITY + AGE, ["features (order): age, city -> city, age"]),
        ('entities: "a"', 'entities: "b"', ["entities.a: a -> (none)", "entities.b: (none) -> b"]),
        ('batch_source { name: "a" }', "", ["batch_source: a -> (none)"]),
        (
            'batch_source { name: "a" file_options { uri: "x" } }',
            'batch_source { name: "a" file_options { uri: "y" } }',
            ["batch_source.file_options.uri: x -> y"],
        ),
        (
            'feature_transformation { user_defined_function { body: "ab" body_text: "a\\nb" } }',
            'feature_transformation { user_defined_function { body: "abc" body_text: "c" } }',
            [
                "feature_transformation.user_defined_function.body: 2 bytes -> 3 bytes",
                "feature_transformation.user_defined_function.body_text: 2 lines -> c",
            ],
        ),
    ],
)
def test_fields_of_a_view(old: str, new: str, said: list[str]) -> None:
    assert told(*(feature_view(f"spec {{ {text} }}") for text in (old, new))) == said


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("", 'version: "latest"'),
        ("", "ttl {}"),
        ("", 'project: "p"'),
        ('batch_source { name: "a" }', 'batch_source { name: "a" data_source_class_type: "x" meta {} }'),
        (
            'batch_source { file_options { uri: "a" } }',
            'batch_source { file_options { uri: "a" file_format { parquet_format {} } } }',
        ),
    ],
)
def test_spellings_of_one_definition(one: str, other: str) -> None:
    old, new = feature_view(f"spec {{ {one} }}"), feature_view(f"spec {{ {other} }} meta {{ state: CREATED }}")
    assert told(old, new) == told(new, old) == []
    assert new.meta.state == pb.CREATED  # the originals stay as they are


def test_services_and_sources() -> None:
    def service(*columns: str) -> pb.FeatureService:
        found = pb.FeatureService()
        part = found.spec.features.add(feature_view_name="view", feature_view_name_alias="alias")
        part.feature_columns.extend(pb.FeatureSpecV2(name=name, value_type=pb.ValueType.INT64) for name in columns)
        return found

    assert told(service("a"), service("a", "b")) == ["features.alias.feature_columns.b: (none) -> INT64"]
    source = pb.DataSource(name="s", timestamp_field="a")
    assert told(source, pb.DataSource(name="s", timestamp_field="b", project="p")) == ["timestamp_field: a -> b"]


def test_views_of_one_service_may_have_one_name() -> None:
    old, new = pb.FeatureService(), pb.FeatureService()
    for found in (old, new):
        found.spec.features.add(feature_view_name="v")
    new.spec.features.add(feature_view_name="v").feature_columns.add(name="x")
    assert told(old, new) == ["features.v#2: (none) -> x"]


def test_join_keys_among_the_features_of_a_stream_view() -> None:
    def stream(*names: str) -> pb.StreamFeatureView:
        found = pb.StreamFeatureView()
        found.spec.entity_columns.add(name="key")
        found.spec.features.extend(pb.FeatureSpecV2(name=name) for name in names)
        return found

    assert told(stream("key", "f"), stream("f", "key")) == told(stream("f"), stream("f", "key")) == []


def test_different_kinds_are_never_the_same() -> None:
    assert not is_same(pb.FeatureView(), pb.StreamFeatureView())


def test_texts() -> None:
    assert str(Change("entity", "driver", "created")) == "created entity driver"
    assert str(FieldChange("a", None, "b")) == "a: (none) -> b"
