"""Where `feast.data_source` has these names; they live in `fastserve.definition`."""

from fastserve.definition import DataSource, KafkaSource, KinesisSource, PushMode, PushSource, RequestSource

__all__ = ["DataSource", "KafkaSource", "KinesisSource", "PushMode", "PushSource", "RequestSource"]
