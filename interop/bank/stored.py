"""A bank, as a Feast repository: all of it that needs no on-demand view. `features.py` adds those.

With `fastserve` instead of `feast` in its imports it is a repository of fastserve's.

The Parquet files that the sources name are written by `rows.py`; the rows of `everything` go straight into the store.
"""

from datetime import timedelta
from typing import Any

from feast import (
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    LabelView,
    PushSource,
    StreamFeatureView,
    ValueType,
)
from feast.data_source import DataSource
from feast.types import (
    Array,
    Bool,
    Bytes,
    Decimal,
    FeastType,
    Float32,
    Float64,
    ImageBytes,
    Int32,
    Int64,
    Json,
    Map,
    PdfBytes,
    ScalarMap,
    Set,
    String,
    Struct,
    TimeUuid,
    UnixTimestamp,
    Uuid,
    ZonedTimestamp,
)

FOREVER = timedelta(0)

# --- entities: a key of every type that can be one -------------------------------------------------------------------

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING, tags={"pii": "yes"})
account = Entity(name="account", join_keys=["account_no"], value_type=ValueType.INT64)
merchant = Entity(name="merchant", join_keys=["merchant_id"], value_type=ValueType.STRING)
branch = Entity(name="branch", join_keys=["branch_no"], value_type=ValueType.INT32)
terminal = Entity(name="terminal", join_keys=["terminal_id"], value_type=ValueType.BYTES)
business_day = Entity(name="business_day", join_keys=["day"], value_type=ValueType.UNIX_TIMESTAMP)

KEYS = {
    customer: Field(name="customer_id", dtype=String),
    account: Field(name="account_no", dtype=Int64),
    merchant: Field(name="merchant_id", dtype=String),
    branch: Field(name="branch_no", dtype=Int32),
    terminal: Field(name="terminal_id", dtype=Bytes),
    business_day: Field(name="day", dtype=UnixTimestamp),
}


def source(name: str, **options: Any) -> FileSource:
    return FileSource(name=f"{name}_file", path=f"data/{name}.parquet", timestamp_field="at", **options)


def view(
    name: str,
    entities: list[Entity],
    ttl: timedelta = FOREVER,
    source_: DataSource | None = None,
    **features: FeastType,
) -> FeatureView:
    schema = [KEYS[entity] for entity in entities] + fields(**features)
    return FeatureView(name=name, entities=entities, ttl=ttl, source=source_ or source(name), schema=schema)


def fields(**features: FeastType) -> list[Field]:
    return [Field(name=name, dtype=dtype) for name, dtype in features.items()]


# --- views -----------------------------------------------------------------------------------------------------------

customer_profile = view(
    "customer_profile",
    [customer],
    age=Int32,
    income=Float64,
    segment=String,
    is_vip=Bool,
    opened_at=UnixTimestamp,
    nicknames=Array(String),
)
card_pushes = PushSource(name="card_pushes", batch_source=source("card_activity", created_timestamp_column="written"))
card_activity = view(
    "card_activity",
    [customer],
    timedelta(days=1),
    card_pushes,
    spend_sum=Float64,
    txn_count=Int64,
    avg_ticket=Float32,
    last_seen=UnixTimestamp,
)
# Some rows are of 2004, others of 2025: both sides of this ttl.
credit_score = view("credit_score", [customer], timedelta(days=3650), score=Float32, limits=Array(Int64), grade=String)
account_balance = view(
    "account_balance",
    [account],
    source_=source("account_balance", field_mapping={"bal": "balance", "cur": "currency"}),
    balance=Float64,
    history=Array(Float64),
    currency=String,
    overdrawn=Bool,
    größter_eingang=Float64,
)
account_merchant = view(
    "account_merchant", [merchant, account], spend=Float64, visits=Int64, last_note=String, merchant_age=Int32
)
merchant_stats = view("merchant__stats", [merchant], refunds=Int32, n__min=Int64, open_days=Array(Bool))
branch_load = view("branch_load", [branch], queue=Int32, waits=Array(Float32), staff=Array(String))
terminal_health = view("terminal_health", [terminal], firmware=Bytes, uptime=Float64)
day_calendar = view("day_calendar", [business_day], is_holiday=Bool, day_name=String)
visit = view(
    "visit", [customer, branch, business_day], timedelta(days=36500), visit_count=Int64, purposes=Array(String)
)
fx_rates = view("fx_rates", [], eur_usd=Float64, as_of=String, curve=Array(Float32))
base_rates = view("base_rates", [], timedelta(days=1), base_rate=Float32, decided_at=UnixTimestamp)

fraud_pushes = PushSource(name="fraud_pushes", batch_source=source("fraud_labels"))
fraud_labels = LabelView(
    name="fraud_labels",
    entities=[customer],
    source=fraud_pushes,
    schema=[KEYS[customer], *fields(is_fraud=Bool, labeler=String, confidence=Float64)],
)
login_pushes = PushSource(name="login_pushes", batch_source=source("logins"))
logins = StreamFeatureView(
    name="logins",
    entities=[customer],
    ttl=timedelta(days=1),
    source=login_pushes,
    timestamp_field="at",
    schema=[KEYS[customer], *fields(devices=Array(String), failed_logins=Int32, last_login=UnixTimestamp)],
)

STREET = {"street": String, "number": Int64}
everything = view(
    "everything",
    [customer],
    f_bytes=Bytes,
    f_string=String,
    f_int32=Int32,
    f_int64=Int64,
    f_double=Float64,
    f_float=Float32,
    f_bool=Bool,
    f_time=UnixTimestamp,
    f_zoned=ZonedTimestamp,
    f_uuid=Uuid,
    f_time_uuid=TimeUuid,
    f_decimal=Decimal,
    f_json=Json,
    f_map=Map,
    f_struct=Struct(STREET),
    f_scalar_map=ScalarMap,
    f_pdf=PdfBytes,
    f_image=ImageBytes,
    l_bytes=Array(Bytes),
    l_string=Array(String),
    l_int32=Array(Int32),
    l_int64=Array(Int64),
    l_double=Array(Float64),
    l_float=Array(Float32),
    l_bool=Array(Bool),
    l_time=Array(UnixTimestamp),
    l_uuid=Array(Uuid),
    l_time_uuid=Array(TimeUuid),
    l_decimal=Array(Decimal),
    l_json=Array(Json),
    l_map=Array(Map),
    l_struct=Array(Struct(STREET)),
    l_list=Array(Array(Int64)),
    l_set=Array(Set(String)),
    s_bytes=Set(Bytes),
    s_string=Set(String),
    s_int32=Set(Int32),
    s_int64=Set(Int64),
    s_double=Set(Float64),
    s_float=Set(Float32),
    s_bool=Set(Bool),
    s_time=Set(UnixTimestamp),
    s_uuid=Set(Uuid),
    s_time_uuid=Set(TimeUuid),
    s_decimal=Set(Decimal),
    s_list=Set(Array(Int64)),
)


def tier(**features: FeastType) -> FeatureView:
    """A view that is applied in three versions, one after the other."""
    return view("tier", [customer], **features)


TIERS = [
    tier(tier_name=String),
    tier(tier_name=String, tier_points=Int64),
    tier(tier_points=Int64, tier_since=UnixTimestamp),
]

# --- services --------------------------------------------------------------------------------------------------------


def party(view_: FeatureView, name: str, key: str) -> FeatureView:
    return view_.with_name(name).with_join_key_map({"customer_id": key})


fraud_v1 = FeatureService(
    name="fraud_v1",
    features=[card_activity, customer_profile[["segment", "age"]], fraud_labels, logins[["failed_logins", "devices"]]],
    tags={"tier": "1"},
)
transfer_v1 = FeatureService(
    name="transfer_v1",
    features=[
        party(customer_profile[["age", "segment"]], "payer", "payer_id"),
        party(customer_profile[["age", "segment"]], "payee", "payee_id"),
        party(credit_score[["score"]], "payee_credit", "payee_id"),
    ],
)
pairs_v1 = FeatureService(
    name="pairs_v1",
    features=[
        account_merchant[["spend"]].with_name("outgoing").with_join_key_map({"account_no": "from_account"}),
        account_merchant[["visits"]]
        .with_name("incoming")
        .with_join_key_map({"account_no": "to_account", "merchant_id": "shop_id"}),
        account_balance[["balance"]].with_join_key_map({"account_no": "from_account"}),
    ],
)
visits_v1 = FeatureService(name="visits_v1", features=[visit, fx_rates, base_rates, branch_load[["queue"]]])
everything_v1 = FeatureService(name="everything_v1", features=[everything, merchant_stats])
pinned_v1 = FeatureService(name="pinned_v1", features=["tier@v1", "card_activity"])
fast_v1 = FeatureService(
    name="fast_v1",
    features=[card_activity, customer_profile[["segment", "nicknames"]], credit_score[["score"]]],
    precompute_online=True,
)

VIEWS = [
    customer_profile,
    card_activity,
    credit_score,
    account_balance,
    account_merchant,
    merchant_stats,
    branch_load,
    terminal_health,
    day_calendar,
    visit,
    fx_rates,
    base_rates,
    everything,
    logins,
]
SERVICES = [fraud_v1, transfer_v1, pairs_v1, visits_v1, everything_v1, pinned_v1, fast_v1]
OBJECTS = [*KEYS, card_pushes, fraud_pushes, fraud_labels, login_pushes, *VIEWS, *SERVICES]
