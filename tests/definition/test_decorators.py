"""Views made from functions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fastserve.definition import (
    BatchFeatureView,
    Entity,
    Field,
    FileSource,
    PushSource,
    StreamFeatureView,
    batch_feature_view,
    stream_feature_view,
)
from fastserve.types import Int64, ValueType

KEY = Entity(name="customer", value_type=ValueType.STRING)
FILE = FileSource(path="a.parquet", timestamp_field="ts")
SCHEMA = [Field("x", Int64)]


@stream_feature_view(source=PushSource(name="p", batch_source=FILE), entities=[KEY], schema=SCHEMA, ttl=timedelta(1))
def streamed(frame: Any) -> Any:
    return frame


@batch_feature_view(source=FILE, entities=[KEY], schema=SCHEMA, mode="pandas")
def batched(frame: Any) -> Any:
    return frame


def test_stream_view() -> None:
    assert isinstance(streamed, StreamFeatureView)
    assert (streamed.name, streamed.mode, streamed.ttl, streamed.online) == ("streamed", "spark", timedelta(1), True)
    assert streamed.udf is not None and streamed.udf(1) == 1
    assert streamed.udf_string.startswith("@stream_feature_view(")


def test_batch_view() -> None:
    assert isinstance(batched, BatchFeatureView)
    assert (batched.name, batched.mode, batched.online, batched.offline) == ("batched", "pandas", True, True)
    assert batch_feature_view(name="own", source=FILE)(lambda frame: frame).name == "own"


def test_function_without_source_text() -> None:
    function: Any = eval("lambda frame: frame")
    assert batch_feature_view(name="b", source=FILE)(function).udf_string == ""
