"""One of each kind of definition, with Feast's imports; the tests replace them. OBJECTS is what messages.json holds."""

from datetime import timedelta

from feast import (
    Aggregation,
    BatchFeatureView,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewState,
    Field,
    FileSource,
    KafkaSource,
    KinesisSource,
    Project,
    PushSource,
    RequestSource,
    StreamFeatureView,
    ValueType,
)
from feast.data_format import AvroFormat, DeltaFormat, JsonFormat, ParquetFormat, ProtoFormat
from feast.data_source import PushMode
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.labeling import ConflictPolicy, LabelView
from feast.transformation.mode import TransformationMode
from feast.types import (
    Array, Bool, Bytes, Decimal, Float32, Float64, ImageBytes, Int32, Int64, Json, Map, PdfBytes, ScalarMap, Set, String,
    Struct, TimeUuid, UnixTimestamp, Uuid, ZonedTimestamp,
)

project = Project(name="zoo", description="One of each", tags={"t": "1"}, owner="o@example.org")
customer = Entity(name="customer", join_keys=["cid"], value_type=ValueType.STRING, description="c", tags={"a": "b"}, owner="o")
account = Entity(name="account", value_type=ValueType.INT64)

plain = FileSource(path="data/plain.parquet")
full = FileSource(
    name="full", path="s3://bucket/full", file_format=ParquetFormat(), timestamp_field="ts", created_timestamp_column="made",
    field_mapping={"raw": "cooked"}, s3_endpoint_override="http://minio:9000", description="d", tags={"t": "1"}, owner="o",
)
delta = FileSource(name="delta", path="data/delta", file_format=DeltaFormat(), timestamp_field="ts")
push = PushSource(name="push", batch_source=full, description="d", tags={"t": "2"}, owner="o")
lonely = PushSource(name="lonely")
request = RequestSource(name="request", schema=[Field(name="amount", dtype=Float64), Field(name="place", dtype=String)], description="d", tags={"t": "3"})
kafka = KafkaSource(
    name="kafka", kafka_bootstrap_servers="a:9092,b:9092", topic="t", message_format=JsonFormat("{}"), timestamp_field="ts",
    batch_source=full, watermark_delay_threshold=timedelta(minutes=5), description="d", field_mapping={"q": "w"},
)
kafka_avro = KafkaSource(name="kafka_avro", bootstrap_servers="a:9092", topic="t", message_format=AvroFormat("{}"), timestamp_field="ts", batch_source=plain)
kinesis = KinesisSource(name="kinesis", region="r", stream_name="s", record_format=ProtoFormat("org.example.A"), timestamp_field="ts", batch_source=full)

wide = FeatureView(
    name="wide", entities=[customer, account], source=push, ttl=timedelta(hours=1.5, microseconds=3),
    schema=[Field(name="account", dtype=Int64), Field(name="x", dtype=Int64, description="d", tags={"k": "v"}), Field(name="cid", dtype=String)],
    description="d", tags={"t": "1"}, owner="o", org="ads", offline=True, enable_validation=True, version="v2", mode="python",
)
off = FeatureView(name="off", entities=[account], source=plain, online=False, enabled=False, ttl=None, schema=[Field(name="account", dtype=Int64), Field(name="y", dtype=Bool)])
streamed = FeatureView(name="streamed", entities=[account], source=kafka, mode=TransformationMode.SPARK_SQL, schema=[Field(name="account", dtype=Int64), Field(name="y", dtype=Int32)])
vectors = FeatureView(
    name="vectors", entities=[account], source=plain,
    schema=[Field(name="account", dtype=Int64), Field(name="v", dtype=Array(Float32), vector_index=True, vector_length=3, vector_search_metric="cosine")],
)
kinds = FeatureView(
    name="kinds", entities=[account], source=plain,
    schema=[Field(name="account", dtype=Int64)] + [
        Field(name=f"f{number}", dtype=dtype, tags={"own": "tag"} if number % 2 else None) for number, dtype in enumerate([
            Bytes, String, Int32, Int64, Float32, Float64, Bool, UnixTimestamp, Map, Json, Uuid, TimeUuid, Decimal, ScalarMap,
            ZonedTimestamp, PdfBytes, ImageBytes, Array(Bytes), Array(String), Array(Int32), Array(Int64), Array(Float32),
            Array(Float64), Array(Bool), Array(UnixTimestamp), Array(Map), Array(Json), Array(Uuid), Array(TimeUuid),
            Array(Decimal), Set(Bytes), Set(String), Set(Int32), Set(Int64), Set(Float32), Set(Float64), Set(Bool),
            Set(UnixTimestamp), Set(Uuid), Set(TimeUuid), Set(Decimal), Struct({"a": String, "b": Array(Int64)}),
            Struct({"inner": Struct({"c": Float32})}), Array(Struct({"d": Bool})), Array(Array(Int64)), Set(Array(String)),
            Array(Set(Float64)), Array(Array(Array(Bool))), Array(Array(Struct({"e": Int32}))),
        ])
    ],
)
derived = FeatureView(name="derived", source=[off], sink_source=full, entities=[account], schema=[Field(name="account", dtype=Int64), Field(name="z", dtype=Int64)])
batch = BatchFeatureView(name="batch", mode="python", entities=[account], source=full, schema=[Field(name="account", dtype=Int64), Field(name="z", dtype=Int64)])
stream = StreamFeatureView(
    name="stream", entities=[account], source=kafka, timestamp_field="ts", mode="spark", ttl=timedelta(days=2), org="o", owner="w",
    schema=[Field(name="account", dtype=Int64), Field(name="total", dtype=Float64), Field(name="n", dtype=Int64)],
    aggregations=[Aggregation("amount", "sum", timedelta(hours=1), timedelta(minutes=5)), Aggregation(column="amount", function="count", time_window=timedelta(hours=2), name="n")],
    enable_tiling=True, tiling_hop_size=timedelta(minutes=1), version="latest", enable_validation=True, tags={"t": "1"}, description="d",
)
pushed_stream = StreamFeatureView(name="pushed_stream", entities=[account], source=push, schema=[Field(name="account", dtype=Int64), Field(name="n", dtype=Int64)])
labels = LabelView(
    name="labels", entities=[customer], source=push, ttl=timedelta(days=9), labeler_field="who", description="d", tags={"t": "1"}, owner="o",
    schema=[Field(name="cid", dtype=String), Field(name="good", dtype=Bool), Field(name="who", dtype=String)],
    conflict_policy=ConflictPolicy.MAJORITY_VOTE, reference_feature_view="wide", online=False,
)

service = FeatureService(
    name="service", features=[wide, off[["y"]], wide[["x"]].with_name("other").with_join_key_map({"cid": "payer"}), labels, stream[["n"]]],
    tags={"t": "1"}, description="d", owner="o", precompute_online=True,
    logging_config=LoggingConfig(destination=FileLoggingDestination(path="logs", partition_by=["day"], s3_endpoint_override="http://x"), sample_rate=0.25),
)
empty = FeatureService(name="empty", features=[])

OBJECTS = [
    project, customer, account, plain, full, delta, push, lonely, request, kafka, kafka_avro, kinesis,
    wide, off, streamed, vectors, kinds, derived, batch, stream, pushed_stream, labels, service, empty,
]
