"""The on-demand half of the bank, as a Feast repository."""

import pandas as pd
from feast import FeatureService, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

from interop.bank import stored
from interop.bank.stored import (
    TIERS,
    account_balance,
    card_activity,
    credit_score,
    customer,
    customer_profile,
    fields,
    fx_rates,
)

# --- on-demand views -------------------------------------------------------------------------------------------------

payment = RequestSource(name="payment", schema=fields(amount=Float64))
letter = RequestSource(name="letter", schema=fields(title=String, copies=Int64, written_at=UnixTimestamp))


@on_demand_feature_view(
    sources=[card_activity, payment],
    schema=fields(ratio=Float64, is_large=Bool, steps=Array(Int64)),
    mode="python",
)
def amount_ratio(inputs: dict) -> dict:
    pairs = list(zip(inputs["amount"], inputs["card_activity__spend_sum"], strict=True))
    return {
        "ratio": [a / s if a is not None and s else None for a, s in pairs],
        "is_large": [None if s is None else (a or 0) > s for a, s in pairs],
        "steps": [[int(a)] * 2 if a is not None else None for a, _ in pairs],
    }


@on_demand_feature_view(
    sources=[card_activity, payment],
    schema=fields(doubled=Float64, count_text=String, late=Bool),
    mode="pandas",
)
def amount_scaled(inputs: pd.DataFrame) -> pd.DataFrame:
    frame = pd.DataFrame()
    frame["doubled"] = inputs["amount"] * 2
    frame["count_text"] = inputs["txn_count"].map(lambda n: "none" if pd.isna(n) else f"{int(n)} payments")
    frame["late"] = inputs["card_activity__txn_count"].isna()
    return frame


@on_demand_feature_view(
    sources=[credit_score, account_balance],
    schema=fields(headroom=Float64, limit_texts=Array(String)),
    mode="python",
)
def headroom(inputs: dict) -> dict:
    def headroom_of(limits, balance):
        return None if balance is None else (limits[0] if limits else 0) + balance

    return {
        "headroom": list(map(headroom_of, inputs["limits"], inputs["balance"])),
        "limit_texts": [[str(n) for n in ls or []] for ls in inputs["credit_score__limits"]],
    }


@on_demand_feature_view(
    sources=[customer_profile],
    schema=fields(age_next=Int64, segment_upper=String, open_year=Int64, income_k=Float32, nickname_count=Int32),
    mode="pandas",
)
def profile_summary(inputs: pd.DataFrame) -> pd.DataFrame:
    frame = pd.DataFrame(index=inputs.index)
    frame["age_next"] = inputs["age"].map(lambda age: 0 if pd.isna(age) else int(age) + 1)
    frame["segment_upper"] = inputs["segment"].map(lambda s: s.upper() if isinstance(s, str) else None)
    frame["open_year"] = inputs["opened_at"].map(lambda t: t.year if hasattr(t, "year") and not pd.isna(t) else -1)
    frame["income_k"] = (pd.to_numeric(inputs["income"]) / 1000).astype("float32")
    frame["nickname_count"] = inputs["nicknames"].map(lambda names: 0 if names is None else len(names)).astype("int32")
    return frame


@on_demand_feature_view(
    sources=[customer_profile, letter],
    schema=fields(greeting=String, pages=Int64),
    mode="python",
    singleton=True,
)
def greeting_letter(inputs: dict) -> dict:
    names = inputs["nicknames"] or ["customer"]
    return {
        "greeting": f"{inputs['title']!r} {names[0]} {inputs['written_at']!r}",
        "pages": (inputs["copies"] or 1) * len(names),
    }


@on_demand_feature_view(sources=[customer_profile, letter], schema=fields(letter_dates=String), mode="python")
def letter_dates(inputs: dict) -> dict:
    return {"letter_dates": [repr(pair) for pair in zip(inputs["written_at"], inputs["opened_at"], strict=True)]}


@on_demand_feature_view(sources=[customer_profile, letter], schema=fields(posted=String), mode="pandas")
def letter_posted(inputs: pd.DataFrame) -> pd.DataFrame:
    kinds = {name: str(inputs[name].dtype) for name in ("written_at", "opened_at")}
    return pd.DataFrame({"posted": [f"{kinds} {time}" for time in inputs["written_at"]]})


@on_demand_feature_view(sources=[fx_rates, payment], schema=fields(amount_usd=Float64), mode="python")
def converted(inputs: dict) -> dict:
    pairs = zip(inputs["amount"], inputs["eur_usd"], strict=True)
    return {"amount_usd": [a * r if a is not None and r else None for a, r in pairs]}


@on_demand_feature_view(
    entities=[customer],
    sources=[customer_profile],
    schema=fields(customer_id=String, band=String, band_floor=Int64),
    mode="python",
    write_to_online_store=True,
)
def income_band(inputs: dict) -> dict:
    floors = [None if i is None or i != i else int(i // 10_000) * 10_000 for i in inputs["income"]]
    return {"band": [None if f is None else f"from {f}" for f in floors], "band_floor": floors}


# --- services --------------------------------------------------------------------------------------------------------

checkout_v1 = FeatureService(name="checkout_v1", features=[card_activity[["txn_count"]], amount_ratio, amount_scaled])
renamed_v1 = FeatureService(
    name="renamed_v1",
    features=[
        amount_scaled.with_name("scaled"),
        customer_profile[["age"]].with_name("person"),
        amount_ratio[["steps", "ratio"]].with_name("share"),
    ],
)
summary_v1 = FeatureService(name="summary_v1", features=[profile_summary[["open_year", "age_next"]], headroom])
bands_v1 = FeatureService(
    name="bands_v1",
    features=[income_band[["band_floor", "band"]], customer_profile[["income"]], TIERS[-1][["tier_points"]]],
)

ON_DEMAND = [
    amount_ratio,
    amount_scaled,
    headroom,
    profile_summary,
    greeting_letter,
    letter_dates,
    letter_posted,
    converted,
    income_band,
]
SERVICES = [checkout_v1, renamed_v1, summary_v1, bands_v1]
OBJECTS = [*stored.OBJECTS, *ON_DEMAND, *SERVICES]
