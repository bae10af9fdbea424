"""Latency under load: requests arrive at a constant rate, whatever the server does, and their latency counts from the
moment at which they became due; so a pause of the server is met by all who came meanwhile. Every answer is compared."""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any

from harness import CORES, Subject, preferred, undisturbed
from places import Places, bodies, keys_of

__all__ = ["SHARES", "open_loop"]

SHARES = (0.25, 0.5, 0.75, 0.9)
CASES = {
    "fastserve regular": ("fastserve", "regular", "list", 1),
    "fastserve packed": ("fastserve", "packed", "everything", 1),
    "fastserve regular, 100 rows": ("fastserve", "regular", "list", 100),
    "feast regular": ("feast", "regular", "list", 1),
    "feast feast": ("feast", "vectors", "everything", 1),
}
CONNECTIONS = 64
MORE = 512
"""Connections that an open loop may have."""


def open_loop(
    found: Places, names: Iterable[str], shares: Iterable[float], rounds: int, seconds: float
) -> dict[str, Any]:
    """Return case -> `saturation` (requests per second over 64 connections) and `shares` (share -> figures).

    Servers have the first core; the client and Redis share the last, where Redis runs whenever it wants to.

    Args:
        names: of CASES.
        seconds: of one measurement.
    """
    client = Subject(sys.executable, "http_worker.py", "http", found.base, CORES[-1])
    with preferred(found.redis):
        results = {name: case(found, client, name, shares, rounds, seconds) for name in names}
    client.close()
    return results


def case(
    found: Places, client: Subject, name: str, shares: Iterable[float], rounds: int, seconds: float
) -> dict[str, Any]:
    product, place, features, rows = CASES[name]
    found.close()  # what the others do from time to time, on the same core, would be this one's latency
    port, _ = found.served(product, place)
    rand = random.Random(name)
    many = [keys_of(rand.sample(range(found.stored), rows)) for _ in range(16)]
    job = {"port": port, "bodies": bodies(features, many)}
    taken = [client.measure(do="load", **job, workers=CONNECTIONS, seconds=seconds)["rate"] for _ in range(2)]
    results: dict[str, Any] = {"saturation": max(*taken, 1.0), "shares": {}}
    for share in shares:
        results["shares"][share] = one = at_rate(client, job, results["saturation"] * share, rounds, seconds)
        print(f"{name}: " + line(share, one), flush=True)
    return results


def at_rate(client: Subject, job: dict[str, Any], rate: float, rounds: int, seconds: float) -> dict[str, float]:
    """Return medians over the rounds: latencies, requests answered per second, and how late this client sent."""
    measure = partial(client.measure, do="arrivals", **job, rate=rate, seconds=seconds, connections=MORE)
    taken = [undisturbed(measure)[0] for _ in range(rounds)]
    found = {f"p{float(q) * 100:g}": [one["quantiles"][q] for one in taken] for q in ("0.5", "0.99", "0.999")}
    medians = {name: round(statistics.median(values), 8) for name, values in found.items()}
    late = statistics.median(one["late"] for one in taken)
    return {"due": rate, "rate": statistics.median(one["rate"] for one in taken), "late": late, **medians}


def line(share: float, one: dict[str, float]) -> str:
    return (
        f"{share:.0%} of saturation, {one['due']:,.0f} requests/s: p50 {one['p50'] * 1e3:.2f} ms, "
        f"p99 {one['p99'] * 1e3:.2f}, p99.9 {one['p99.9'] * 1e3:.2f}; p99 / p50 {one['p99'] / one['p50']:.1f}; "
        f"sent late by {one['late'] * 1e3:.2f} ms, p99"
    )
