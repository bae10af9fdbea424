"""The bank's rows: the same for the same seed. Runs beside Feast, which brings pandas and pyarrow."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

UTC = timezone.utc
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(2004, 6, 1, tzinfo=UTC)

# --- keys ------------------------------------------------------------------------------------------------------------

ODD_NAMES = ["Zoë Ångström", "客户-7", "a b\tc", "quote\"d 'n' back\\slash", "💳", "x" * 300, "line\r\nbreak"]
CUSTOMERS = ["70017", "-3", *ODD_NAMES, *(f"C{n:04d}" for n in range(400))]
ACCOUNTS = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), *range(1000, 1300)]
MERCHANTS = [f"M{n}" for n in range(60)]
BRANCHES = [0, -5, 2**31 - 1, -(2**31), *range(1, 40)]
TERMINALS = [b"\x00", b"$-1\r\n", bytes(range(256)), *(b"term-%d" % n for n in range(30))]
DAYS = [datetime(1969, 12, 31, tzinfo=UTC), *(datetime(2025, 3, 1, tzinfo=UTC) + timedelta(days=n) for n in range(50))]


# --- values ----------------------------------------------------------------------------------------------------------

TEXTS = ["", "gold", "naïve café", "日本", 'tab\tquote"back\\slash', "\x00\x1f\x7f", "🏦", "</script>", "null"]
ZONES = [ZoneInfo("America/Los_Angeles"), ZoneInfo("Asia/Kolkata"), UTC, timezone(timedelta(hours=5, minutes=30)), None]


class Rows(random.Random):
    """Random numbers, and random values of the kinds that columns hold."""

    def maybe(self, value: Any, share_of_nulls: float = 0.15) -> Any:
        return None if self.random() < share_of_nulls else value

    def text(self) -> str:
        return self.choice(TEXTS) if self.random() < 0.5 else f"text {self.randrange(10_000)}"

    def bytes_(self) -> bytes:
        return self.randbytes(self.randrange(1, 20))

    def int32(self) -> int:
        return self.choice([0, 1, -1, 2**31 - 1, -(2**31), self.randrange(-1000, 1000)])

    def int64(self) -> int:
        return self.choice([0, -1, 2**53 + 1, 2**63 - 1, -(2**63), self.randrange(-(10**12), 10**12)])

    def double(self) -> float:
        edge = [0.0, -0.0, 1e300, 5e-324, 0.1, -1 / 3, math.inf, -math.inf, 1e16, 123456789.125]
        return self.choice([*edge, self.uniform(-1e6, 1e6), float(self.randrange(1000))])

    def float_(self) -> float:
        edge = [0.0, -0.0, 0.1, 3.4e38, 1e-45, math.inf]
        return self.choice([*edge, self.uniform(-100, 100), float(self.randrange(100))])

    def moment(self) -> datetime:
        return FIRST + timedelta(microseconds=self.randrange(300 * 86_400_000_000))

    def time(self) -> datetime:
        """A timestamp as a feature: whole seconds, before and after the epoch."""
        seconds = self.choice([0, -1, self.randrange(-(10**9), 4 * 10**9)])
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)

    def zoned(self) -> datetime:
        return self.time().astimezone(UTC).replace(tzinfo=self.choice(ZONES))

    def list_of(self, make: Callable[[], Any], shortest: int = 0) -> list[Any]:
        return [make() for _ in range(self.randrange(shortest, 6))]

    def set_of(self, make: Callable[[], Any]) -> set[Any]:
        return set(self.list_of(make, 1))

    def uuid_(self) -> uuid.UUID:
        return uuid.UUID(int=self.getrandbits(128), version=4)

    def time_uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.getrandbits(128), version=1)

    def decimal(self) -> Decimal:
        odd = self.choice(["0", "-0.00", "1E+3", "123456789012345678901234567890.123"])
        return self.decimal_number() if self.random() < 0.5 else Decimal(odd)

    def decimal_number(self) -> Decimal:
        return Decimal(f"{self.randrange(10**6)}.50")

    def json(self, depth: int = 2) -> Any:
        leaves = [self.text(), self.int64(), round(self.uniform(-9, 9), 3), True, None]
        if depth == 0 or self.random() < 0.3:
            return self.choice(leaves)
        inner = self.list_of(lambda: self.json(depth - 1))
        return inner if self.random() < 0.4 else {f"key {n}": value for n, value in enumerate(inner)}

    def json_object(self) -> Any:
        return {"name": self.text(), "more": self.json()}

    def map_(self, depth: int = 1) -> dict[str, Any]:
        leaves: list[Callable[[], Any]] = [
            self.text, self.int64, self.double, self.bytes_, self.uuid_, self.decimal, self.time,
            lambda: None, lambda: True, lambda: [1, 2], lambda: ["a", ""], lambda: [0.5, math.nan],
        ]  # fmt: skip
        if depth:
            leaves.append(lambda: self.map_(depth - 1))
            leaves.append(lambda: [self.map_(depth - 1)])
        return {f"k{n}é": self.choice(leaves)() for n in range(self.randrange(0, 6))}

    def struct(self) -> dict[str, Any]:
        return {"street": self.text(), "number": self.randrange(1000)}

    def scalar_map(self) -> dict[Any, Any]:
        """A map whose keys are no text; in JSON all of them are, and these stay apart there."""
        keys = [
            self.randrange(2, 9),
            2**40 + self.randrange(9),
            self.uniform(0, 1),
            self.choice([True, False]),
            self.uuid_(),
            self.decimal_number(),
            self.bytes_(),
            self.moment().replace(microsecond=0),
        ]
        return {key: self.choice([self.text(), self.int64(), 0.5, True, [1, 2]]) for key in self.sample(keys, 3)}


def makers(rows: Rows) -> dict[str, Callable[[], Any]]:
    """The maker of each feature of the view `everything`."""
    single: dict[str, Callable[[], Any]] = {
        "bytes": rows.bytes_,
        "string": rows.text,
        "int32": rows.int32,
        "int64": rows.int64,
        "double": rows.double,
        "float": rows.float_,
        "bool": lambda: rows.random() < 0.5,
        "time": rows.time,
        "uuid": rows.uuid_,
        "time_uuid": rows.time_uuid,
        "decimal": rows.decimal,
    }
    many = {**single, "json": rows.json_object, "map": rows.map_, "struct": rows.struct}
    return {
        **{f"f_{name}": make for name, make in many.items()},
        **{f"l_{name}": partial(rows.list_of, make) for name, make in many.items()},
        **{f"s_{name}": partial(rows.set_of, make) for name, make in single.items()},
        "f_zoned": rows.zoned,
        "f_scalar_map": rows.scalar_map,
        "f_pdf": lambda: b"%PDF-1.7\n" + rows.bytes_(),
        "f_image": lambda: b"\x89PNG\r\n" + rows.bytes_(),
        "l_list": lambda: rows.list_of(lambda: rows.list_of(rows.int64)),
        "l_set": lambda: rows.list_of(lambda: rows.set_of(rows.text)),
        "s_list": lambda: rows.list_of(lambda: rows.list_of(rows.int64, 1), 1),
    }


# --- tables ----------------------------------------------------------------------------------------------------------


def everything(rows: Rows) -> tuple[list[str], list[datetime], dict[str, list[Any]]]:
    """Rows of the view `everything`: keys, event times and one column per feature."""
    customers = rows.sample(CUSTOMERS, 250)
    columns = {name: [rows.maybe(make()) for _ in customers] for name, make in makers(rows).items()}
    return customers, [rows.moment() for _ in customers], columns


def tables(rows: Rows) -> dict[str, pd.DataFrame]:
    """The tables of the file sources, by name."""
    return {name: pd.DataFrame(make(rows)) for name, make in TABLES.items()}


def write(folder: Path, seed: int = 0) -> Rows:
    """Write the Parquet files into `folder`; return the random numbers that follow."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = Rows(seed)
    for name, table in tables(rows).items():
        path = folder / f"{name}.parquet"
        table.to_parquet(path, coerce_timestamps="us", allow_truncated_timestamps=True, index=False)
    return rows


def some(rows: Rows, keys: Sequence[Any], share: float) -> list[Any]:
    """Keys of a table: not all, and a quarter of them more than once, in any order."""
    chosen = rows.sample(list(keys), int(len(keys) * share))
    repeated = chosen + rows.sample(chosen, len(chosen) // 4)
    rows.shuffle(repeated)
    return repeated


def column(keys: Sequence[Any], make: Callable[[], Any]) -> list[Any]:
    return [make() for _ in keys]


def integers(keys: Sequence[Any], make: Callable[[], int | None], dtype: str) -> pd.api.extensions.ExtensionArray:
    """Integers with nulls, which pandas keeps apart from floats only if asked."""
    return pd.array(column(keys, make), dtype=dtype)


def customer_profile(rows: Rows) -> dict[str, Any]:
    keys = some(rows, CUSTOMERS, 0.85)
    return {
        "customer_id": keys,
        "age": integers(keys, lambda: rows.maybe(rows.randrange(18, 99)), "Int32"),
        "income": column(keys, lambda: rows.maybe(round(rows.uniform(0, 200_000), 2))),
        "segment": column(keys, lambda: rows.maybe(rows.text())),
        "is_vip": column(keys, lambda: rows.maybe(rows.random() < 0.3)),
        "opened_at": column(keys, lambda: rows.maybe(rows.time())),
        "nicknames": column(keys, lambda: rows.maybe(rows.list_of(rows.text))),
        "at": column(keys, rows.moment),
    }


def card_activity(rows: Rows) -> dict[str, Any]:
    keys = some(rows, CUSTOMERS, 0.7)
    # Few event times, so that many rows of one customer have the same one and the time of writing decides.
    times = [FIRST + timedelta(days=n, microseconds=n * 1001) for n in range(3)]
    return {
        "customer_id": keys,
        "spend_sum": column(keys, lambda: rows.maybe(round(rows.uniform(0, 5000), 2))),
        "txn_count": integers(keys, lambda: rows.maybe(rows.randrange(100)), "Int64"),
        "avg_ticket": pd.Series(column(keys, lambda: rows.uniform(1, 100)), dtype="float32"),
        "last_seen": column(keys, lambda: rows.maybe(rows.time())),
        "at": column(keys, lambda: rows.choice(times)),
        "written": [FIRST + timedelta(days=9, seconds=n) for n in rows.sample(range(10_000), len(keys))],
    }


def credit_score(rows: Rows) -> dict[str, Any]:
    keys = some(rows, CUSTOMERS, 0.8)
    return {
        "customer_id": keys,
        "score": pd.Series(column(keys, lambda: rows.uniform(300, 850)), dtype="float32"),
        "limits": column(keys, lambda: rows.maybe(rows.list_of(rows.int64))),
        "grade": column(keys, lambda: rows.choice("ABCDE")),
        "at": column(keys, lambda: rows.choice([rows.moment(), LONG_AGO + timedelta(seconds=rows.randrange(10**6))])),
    }


def account_balance(rows: Rows) -> dict[str, Any]:
    keys = some(rows, ACCOUNTS, 0.9)
    return {
        "account_no": keys,
        "bal": column(keys, lambda: rows.maybe(rows.double())),
        "history": column(keys, lambda: rows.maybe(rows.list_of(lambda: rows.choice([rows.double(), math.nan])))),
        "cur": column(keys, lambda: rows.maybe(rows.choice(["EUR", "USD", "¥"]))),
        "overdrawn": column(keys, lambda: rows.random() < 0.1),
        "größter_eingang": column(keys, lambda: rows.maybe(rows.uniform(0, 1e5))),
        # Without a zone: Feast takes them as UTC.
        "at": column(keys, lambda: rows.moment().replace(tzinfo=None)),
    }


def account_merchant(rows: Rows) -> dict[str, Any]:
    pairs = [(a, m) for a in rows.sample(ACCOUNTS, 120) for m in rows.sample(MERCHANTS, 4)]
    return {
        "account_no": [a for a, _ in pairs],
        "merchant_id": [m for _, m in pairs],
        "spend": column(pairs, lambda: rows.maybe(rows.double())),
        "visits": column(pairs, lambda: rows.randrange(-(2**62), 2**62)),
        "last_note": column(pairs, lambda: rows.maybe(rows.text())),
        "merchant_age": integers(pairs, lambda: rows.maybe(rows.randrange(50)), "Int32"),
        "at": column(pairs, rows.moment),
    }


def merchant_stats(rows: Rows) -> dict[str, Any]:
    keys = some(rows, MERCHANTS, 0.8)
    return {
        "merchant_id": keys,
        "refunds": integers(keys, lambda: rows.maybe(rows.int32()), "Int32"),
        "n__min": column(keys, lambda: rows.randrange(10**15)),
        "open_days": column(keys, lambda: rows.maybe(rows.list_of(lambda: rows.random() < 0.7))),
        "at": column(keys, rows.moment),
    }


def branch_load(rows: Rows) -> dict[str, Any]:
    keys = some(rows, BRANCHES, 0.9)
    return {
        "branch_no": pd.array(keys, dtype="int32"),
        "queue": integers(keys, lambda: rows.maybe(rows.randrange(40)), "Int32"),
        "waits": column(keys, lambda: rows.maybe(rows.list_of(rows.float_))),
        "staff": column(keys, lambda: rows.maybe(rows.list_of(rows.text))),
        "at": column(keys, rows.moment),
    }


def terminal_health(rows: Rows) -> dict[str, Any]:
    keys = some(rows, TERMINALS, 0.9)
    return {
        "terminal_id": keys,
        "firmware": column(keys, lambda: rows.maybe(rows.bytes_())),
        "uptime": column(keys, lambda: rows.maybe(rows.uniform(0, 1))),
        "at": column(keys, rows.moment),
    }


def day_calendar(rows: Rows) -> dict[str, Any]:
    keys = some(rows, DAYS, 0.8)
    return {
        "day": keys,
        "is_holiday": column(keys, lambda: rows.random() < 0.1),
        "day_name": [day.strftime("%A") for day in keys],
        "at": column(keys, rows.moment),
    }


def visit(rows: Rows) -> dict[str, Any]:
    places = [(c, b) for c in rows.sample(CUSTOMERS, 60) for b in rows.sample(BRANCHES, 3)]
    keys = [(c, b, d) for c, b in places for d in rows.sample(DAYS, 2)]
    return {
        "customer_id": [c for c, _, _ in keys],
        "branch_no": pd.array([b for _, b, _ in keys], dtype="int32"),
        "day": [d for _, _, d in keys],
        "visit_count": column(keys, lambda: rows.randrange(9)),
        "purposes": column(keys, lambda: rows.maybe(rows.list_of(rows.text))),
        "at": column(keys, rows.moment),
    }


def fx_rates(rows: Rows) -> dict[str, Any]:
    times = [FIRST + timedelta(days=n) for n in range(5)]
    return {
        "eur_usd": column(times, lambda: rows.uniform(0.9, 1.3)),
        "as_of": [f"{time:%d %B}" for time in times],
        "curve": column(times, lambda: rows.list_of(rows.float_, 1)),
        "at": times,
    }


def base_rates(rows: Rows) -> dict[str, Any]:
    return {
        "base_rate": pd.Series([2.5, 2.25], dtype="float32"),
        "decided_at": [None, rows.time()],
        "at": [FIRST, FIRST + timedelta(days=40, microseconds=7)],
    }


def tier(rows: Rows) -> dict[str, Any]:
    keys = some(rows, CUSTOMERS, 0.5)
    return {
        "customer_id": keys,
        "tier_name": column(keys, lambda: rows.maybe(rows.text())),
        "tier_points": integers(keys, lambda: rows.maybe(rows.randrange(-(10**12), 10**12)), "Int64"),
        "tier_since": column(keys, lambda: rows.maybe(rows.time())),
        "at": column(keys, rows.moment),
    }


def logins(rows: Rows) -> dict[str, Any]:
    keys = some(rows, CUSTOMERS, 0.6)
    return {
        "customer_id": keys,
        "devices": column(keys, lambda: rows.maybe(rows.list_of(rows.text))),
        "failed_logins": integers(keys, lambda: rows.maybe(rows.randrange(20)), "Int32"),
        "last_login": column(keys, lambda: rows.maybe(rows.time())),
        "at": column(keys, rows.moment),
    }


def fraud_labels(rows: Rows) -> dict[str, Any]:
    """A label view is not materialized: it gets these rows by a push."""
    keys = rows.sample(CUSTOMERS, 150)
    return {
        "customer_id": keys,
        "is_fraud": column(keys, lambda: rows.maybe(rows.random() < 0.5)),
        "labeler": column(keys, lambda: rows.choice(["model", "Anna", "Βασίλης"])),
        "confidence": column(keys, lambda: rows.maybe(rows.random())),
        "at": column(keys, rows.moment),
    }


def keys_of_everything(rows: Rows) -> dict[str, Any]:
    """`apply` wants the file of a source to exist; nothing is materialized from this one."""
    return {"customer_id": ["nobody"], "at": [FIRST]}


TABLES: dict[str, Callable[[Rows], dict[str, Any]]] = {
    "customer_profile": customer_profile,
    "card_activity": card_activity,
    "credit_score": credit_score,
    "account_balance": account_balance,
    "account_merchant": account_merchant,
    "merchant__stats": merchant_stats,
    "branch_load": branch_load,
    "terminal_health": terminal_health,
    "day_calendar": day_calendar,
    "visit": visit,
    "fx_rates": fx_rates,
    "base_rates": base_rates,
    "tier": tier,
    "logins": logins,
    "fraud_labels": fraud_labels,
    "everything": keys_of_everything,
}


def card_pushes(rows: Rows) -> pd.DataFrame:
    """Rows for the push source: newer than the stored ones, older, and of customers that have none."""
    keys = rows.sample(CUSTOMERS, 60)
    times = [FIRST + timedelta(days=days, microseconds=n * 17) for days in (-300, 200) for n in range(30)]
    return pd.DataFrame(
        {
            "customer_id": keys,
            "spend_sum": column(keys, lambda: rows.maybe(rows.double())),
            "txn_count": integers(keys, lambda: rows.maybe(rows.randrange(10**6)), "Int64"),
            "avg_ticket": pd.Series(column(keys, rows.float_), dtype="float32"),
            "last_seen": column(keys, lambda: rows.maybe(rows.time())),
            "at": times,
            "written": column(keys, rows.moment),
        }
    )
