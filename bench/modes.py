"""The access modes: direct, asynchronous and remote SDK, and REST by feature list and by feature service; regular and
precomputed; latency by rows, and throughput by concurrent workers; beside Feast and beside the floor.

All subjects of a mode are measured in turn, round by round; each is a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import CORES, Subject, awake
from places import Places, bodies, keys_of
from serving import cpu_seconds

__all__ = ["MODES", "Plan", "modes"]

MODES = ("Direct SDK", "Async SDK", "Remote SDK", "REST", "REST, service")
WARM_UP = 50
CDF_ROWS = (1, 100)
CDF = [i / 40 for i in range(40)] + [0.99, 0.995, 1.0]


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        modes: which of MODES.
        rows: of a request.
        calls: of each subject at each number of rows.
        rounds: that they are spread over.
        all_vectors: whether the asynchronous and the remote SDK read Feast's vectors too.
        budget: seconds of one subject in one round, after which it makes fewer calls.
        load: (rows of a request, concurrent workers) of the measurements of throughput.
        seconds: of one measurement of throughput.
    """

    modes: tuple[str, ...] = MODES
    rows: tuple[int, ...] = (1, 5, 10, 50, 100, 500)
    calls: int = 200
    rounds: int = 4
    budget: float = 1.5
    load: tuple[tuple[int, int], ...] = ((1, 1), (1, 10), (1, 64), (100, 10))
    seconds: float = 1.0
    all_vectors: bool = True


@dataclass
class Case:
    """One subject of a mode: who reads, what, and how it is asked to.

    Attributes:
        product: feast, fastserve or floor.
        form: regular, feast (its precomputed vectors) or packed.
        features: as in compare/mode_worker.py.
        port, process: of its server, if it has one.
    """

    product: str
    form: str
    features: str
    subject: Subject
    port: int = 0
    process: int = 0

    @property
    def name(self) -> str:
        return f"{self.product} {self.form}"

    def job(self, many: list[list[str]]) -> dict[str, Any]:
        if self.port:
            return {"port": self.port, "bodies": bodies(self.features, many)}
        return {"features": self.features}

    def calls(self, keys: list[str], n: int, budget: float) -> dict[str, Any]:
        return self.subject.measure(do="calls", **self.job([keys]), keys=keys, n=n, budget=budget)

    def load(self, many: list[list[str]], workers: int, seconds: float) -> dict[str, float]:
        before = cpu_seconds(self.process) if self.process else 0.0
        found = self.subject.measure(do="load", **self.job(many), keys=many, workers=workers, seconds=seconds)
        if self.process:
            found["cpu"] = (cpu_seconds(self.process) - before) / found["n"]
        return {name: found[name] for name in ("rate", "cpu")}

    def answer(self, keys: list[str]) -> str:
        """Return what is equal for equal answers."""
        if not self.port:
            return str(self.calls(keys, 1, 0)["digest"])
        answer = json.loads(
            self.subject.measure(do="ask", port=self.port, body=bodies(self.features, [keys])[0])["body"]
        )
        columns = zip(answer["metadata"]["feature_names"], answer["results"], strict=True)
        return json.dumps(sorted((name, column["values"]) for name, column in columns))


def modes(found: Places, plan: Plan) -> dict[str, Any]:
    """Return mode -> `latency` (rows -> case -> figures, seconds) and `load` (rows -> workers -> case -> figures)."""
    results: dict[str, Any] = {}
    for mode in plan.modes:
        print(f"{mode}:", flush=True)
        with cases(found, mode, plan) as subjects:
            rand = random.Random(mode)
            same_answers(subjects, keys_of(rand.sample(range(found.stored), 10)), mode)
            with awake():
                taken = {rows: latency(subjects, plan, found.stored, rows, rand) for rows in plan.rows}
            results[mode] = {"latency": taken, "load": throughput(subjects, plan, found.stored, rand)}
    return results


# --- who is measured -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def cases(found: Places, mode: str, plan: Plan) -> Iterator[list[Case]]:
    with contextlib.ExitStack() as stack:
        if mode.startswith("REST"):
            made = rest(found, "list" if mode == "REST" else "")
        elif mode == "Remote SDK":
            made = remote(found, plan)
        else:
            made = direct(found, plan, "async" if mode == "Async SDK" else "sdk")
        for subject in {id(case.subject): case.subject for case in made}.values():
            stack.callback(subject.close)
        yield made


def direct(found: Places, plan: Plan, mode: str) -> list[Case]:
    """The client has the first core; Redis the last."""
    made = []
    for product, form, features, folder in (
        ("floor", "regular", "list", "regular"),
        ("fastserve", "regular", "list", "regular"),
        ("feast", "regular", "list", "regular"),
        ("floor", "feast", "everything", "vectors"),
        ("fastserve", "feast", "everything", "vectors"),
        ("feast", "feast", "everything", "vectors"),
        ("floor", "packed", "everything", "packed"),
        ("fastserve", "packed", "everything", "packed"),
    ):
        if mode == "async" and form == "feast" and (product != "feast" or not plan.all_vectors):
            continue
        made.append(Case(product, form, features, worker(found, product, mode, found.folders[folder], CORES[0])))
    return made


def worker(found: Places, product: str, mode: str, folder: Path, core: int) -> Subject:
    python = found.feast if product == "feast" else sys.executable
    return Subject(python, "mode_worker.py", product, folder, core, mode)


def remote(found: Places, plan: Plan) -> list[Case]:
    """Servers have the first core, clients and Redis the last."""
    made = []
    for form, features, ours, feasts in (
        ("regular", "list", "regular", "regular"),
        ("feast", "everything", "", "vectors"),
        ("packed", "everything", "packed", ""),
    ):
        if ours:
            port, _ = found.served("fastserve", ours)
            recorder, _ = found.recorded(port)
            for product, at in (("floor", recorder), ("fastserve", port)):
                made.append((product, form, features, ours, at))
        if feasts and (form == "regular" or plan.all_vectors):
            made.append(("feast", form, features, feasts, found.served("feast", feasts)[0]))
    return [
        Case(product, form, features, worker(found, product, "remote", found.client(place, port), CORES[-1]))
        for product, form, features, place, port in made
    ]


def rest(found: Places, features: str) -> list[Case]:
    """As `remote`; one client asks all of them."""
    made = []
    client = Subject(sys.executable, "http_worker.py", "http", found.base, CORES[-1])
    for form, place in (("regular", "regular"), ("feast", "vectors"), ("packed", "packed")):
        if features and form != "regular":
            continue
        what = features or ("plain" if form == "regular" else "everything")
        ours = found.served("fastserve", place)
        floor = found.recorded(ours[0])
        made += [Case("floor", form, what, client, *floor), Case("fastserve", form, what, client, *ours)]
        if form != "packed":
            made.append(Case("feast", form, what, client, *found.served("feast", place)))
    return made


# --- what is measured ------------------------------------------------------------------------------------------------


def same_answers(subjects: list[Case], keys: list[str], mode: str) -> None:
    """End the run unless fastserve and Feast answer alike, with all forms."""
    answers: dict[str, dict[str, str]] = {}
    for case in subjects:
        if case.product != "floor":
            answers.setdefault(case.features, {})[case.name] = case.answer(keys)
    for features, found in answers.items():
        if len(set(found.values())) > 1:
            raise SystemExit(f"{mode}, {features}: the answers differ: {found}"[:2000])


def latency(subjects: list[Case], plan: Plan, stored: int, rows: int, rand: random.Random) -> dict[str, dict[str, Any]]:
    """Return case -> figures of single calls."""
    rows = min(rows, stored)
    taken: dict[str, list[float]] = {case.name: [] for case in subjects}
    cpu: dict[str, list[float]] = {case.name: [] for case in subjects}
    for case in subjects:
        case.calls(keys_of(rand.sample(range(stored), rows)), min(WARM_UP, plan.calls), plan.budget / 3)
    for _ in range(plan.rounds):
        keys = keys_of(rand.sample(range(stored), rows))
        for case in subjects:
            found = case.calls(keys, max(plan.calls // plan.rounds, 1), plan.budget)
            taken[case.name] += found["taken"]
            cpu[case.name].append(found.get("cpu", 0.0))
    results = {case.name: figures(taken[case.name], cpu[case.name], rows) for case in subjects}
    print(f"  {rows:4} rows: " + told({name: each["p50"] for name, each in results.items()}), flush=True)
    return results


def figures(taken: list[float], cpu: list[float], rows: int) -> dict[str, Any]:
    ordered = sorted(taken)

    def at(quantile: float) -> float:
        return round(ordered[min(int(len(ordered) * quantile), len(ordered) - 1)], 8)

    found: dict[str, Any] = {"n": len(taken), "mean": round(statistics.fmean(taken), 8)}
    found.update({name: at(q) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))})
    if any(cpu):
        found["cpu"] = round(statistics.median(cpu), 8)
    if rows in CDF_ROWS:
        found["cdf"] = [at(quantile) for quantile in CDF]
    return found


def told(wall: dict[str, float]) -> str:
    return "   ".join(f"{name} {seconds * 1e6:,.0f}" for name, seconds in wall.items()) + "   us, p50"


def throughput(subjects: list[Case], plan: Plan, stored: int, rand: random.Random) -> dict[int, dict[int, Any]]:
    """Return rows -> workers -> case -> reads per second, and CPU seconds of a read (by the server, if any)."""
    results: dict[int, dict[int, Any]] = {}
    for rows, workers in plan.load:
        rows = min(rows, stored)
        many = [keys_of(rand.sample(range(stored), rows)) for _ in range(16)]
        found = {
            case.name: case.load(many, workers, plan.seconds)
            for case in subjects
            if case.port or case.product != "floor"  # a bare socket takes one at a time
        }
        results.setdefault(rows, {})[workers] = found
        rates = "   ".join(f"{name} {each['rate']:,.0f}" for name, each in found.items())
        print(f"  {rows:4} rows, {workers} workers: {rates}   reads/s", flush=True)
    return results
