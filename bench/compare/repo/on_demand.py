"""An on-demand view in Python mode over three views of the repository, for Feast to apply."""

from feast import Field, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bool, Float64
from features import VIEWS

payment = RequestSource(name="payment", schema=[Field(name="amount", dtype=Float64)])


@on_demand_feature_view(
    sources=[VIEWS[0][["profile_0"]], VIEWS[1][["balances_1"]], VIEWS[2][["cards_5"]], payment],
    schema=[
        Field(name="share", dtype=Float64),
        Field(name="is_large", dtype=Bool),
        Field(name="score", dtype=Float64),
    ],
    mode="python",
)
def spending(columns: dict[str, list]) -> dict[str, list]:
    amounts, totals, balances = columns["amount"], columns["profile_0"], columns["balances_1"]
    return {
        "share": [amount / (total or 1.0) for amount, total in zip(amounts, totals, strict=True)],
        "is_large": [amount > (balance or 0) / 100 for amount, balance in zip(amounts, balances, strict=True)],
        "score": [(score or 0.0) * 2.0 for score in columns["cards_5"]],
    }
