"""`make bench`: fastserve beside Feast and beside the floor, in interleaved rounds of one run.

    bench/run.py [--smoke | --full] [--only PART ...] [--write] [--rounds N] [--seconds N] [--entities-stored N]
                 [--features N] [--flat CALLS] [--out FOLDER]

Without an option it takes a quarter of an hour, with 48 features of 10,000 customers. `--smoke`, a minute, only shows
that everything runs and that answers are equal; `--full` takes hours. Figures go to FOLDER (build/bench): results.json,
README.md, report.html. `--write` puts them also into bench/results.json and into what is rendered from that; those of a
part that `--only` leaves out stay.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from async_reading import async_reads
from cost import cost
from counting import counted
from harness import BENCH, awake, compile_client, feast_python, redis_server, run
from load import CASES, SHARES, open_loop
from modes import MODES, Plan, modes
from on_demand import on_demand
from places import Places, places
from plugin import plugin
from reading import flat, micro, reads
from remote import remote
from scaling import Sizes, scaling
from serving import serving
from vectors import vectors
from writing import writes

SHARED = ("modes", "load", "cost", "scaling")
"""Parts that one set of databases and servers is enough for."""
PARTS = (*SHARED, "reads", "on_demand", "serving", "remote", "plugin", "vectors", "writes", "instructions")
ROUND_TRIPS = ("reads", "on_demand", "remote", "plugin", "vectors")
"""Parts in which one call waits for another, so that a core that sleeps is most of what a small one takes."""


@dataclass(frozen=True)
class Profile:
    """How much is measured.

    Attributes:
        entities: that are stored.
        rounds: of the parts beside SHARED.
        load: rounds and seconds of the open loop.
        features: of the repository.
        more_features: other numbers of them, of which the access modes are measured too.
        big: rows of the file whose materialization is watched.
        micro: options of pytest-benchmark; a round of many calls hides what it takes to look at the clock.
    """

    name: str = "minutes"
    parts: tuple[str, ...] = PARTS
    entities: int = 10_000
    features: int = 48
    more_features: tuple[int, ...] = ()
    rounds: int = 3
    seconds: int = 2
    plan: Plan = field(default_factory=Plan)
    load: tuple[int, float] = (3, 3.0)
    load_cases: tuple[str, ...] = tuple(CASES)
    shares: tuple[float, ...] = SHARES
    imports: int = 2
    sizes: Sizes = field(default_factory=Sizes)
    big: int = 1_000_000
    micro: tuple[str, ...] = ("--benchmark-min-rounds=3", "--benchmark-max-time=0.2", "--benchmark-min-time=0.0005")


SMOKE = Profile(
    name="smoke",
    parts=SHARED,
    entities=60,
    rounds=1,
    seconds=1,
    plan=Plan(modes=MODES, rows=(1, 10), calls=4, rounds=2, budget=0.2, load=((1, 4),), seconds=0.2, all_vectors=False),
    load=(1, 0.3),
    load_cases=("fastserve regular", "fastserve packed", "feast regular"),
    shares=(0.5,),
    imports=0,
    big=20_000,
    sizes=Sizes(workers=(1,), rows=(1, 10), feast_rows=0, features=(), entities=(), calls=4, seconds=0.2),
)
FULL = Profile(
    name="full",
    more_features=(50, 100, 250),
    rounds=7,
    seconds=5,
    plan=Plan(calls=1000, rounds=10, budget=60, load=((1, 1), (1, 2), (1, 5), (1, 10), (1, 64), (100, 10)), seconds=5),
    load=(5, 20.0),
    imports=5,
    sizes=Sizes(
        feast_rows=5000,
        features=(8, 50, 100, 250, 500),
        entities=(1_000, 10_000, 100_000, 1_000_000),
        calls=500,
        seconds=5,
    ),
    big=5_000_000,
    micro=("--benchmark-min-time=0.0005",),
)


def machine(profile: Profile, feast: str) -> dict[str, Any]:
    """Where, with what and how this was measured."""
    model = "unknown CPU"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=BENCH, capture_output=True, text=True, check=False
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": f"{model}, {os.cpu_count()} cores",
        "system": platform.platform(),
        "python": platform.python_version(),
        "redis": redis.removeprefix("v="),
        "feast": run([feast, "-c", "from importlib.metadata import version; print(version('feast'))"], BENCH).strip(),
        "commit": git.stdout.strip(),
        "command": " ".join(["make bench" if profile.name != "full" else "make bench-full", *sys.argv[1:]]).strip(),
        "profile": profile.name,
        "features": profile.features,
        "load_before": round(os.getloadavg()[0], 2),
    }


@contextlib.contextmanager
def repository(feast: str, stored: int, *more: str) -> Iterator[tuple[Path, int]]:
    """A repository that Feast has applied and materialized, and the process of its Redis; `more` of prepare_feast's."""
    with redis_server() as (port, redis), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run([feast, str(BENCH / "compare/prepare_feast.py"), str(folder), str(port), str(stored), *more], folder)
        yield folder, redis


def bench_on_demand(feast: str, profile: Profile, _: int) -> dict[str, Any]:
    stored = min(profile.entities, 2000)
    with repository(feast, stored, "on_demand") as (folder, redis):
        return {"on_demand": on_demand(feast, folder, redis, stored, profile.rounds)}


def bench_plugin(feast: str, profile: Profile, _: int) -> dict[str, Any]:
    stored = min(profile.entities, 2000)
    with repository(feast, stored) as (folder, redis):
        return {"plugin": plugin(feast, folder, redis, stored, profile.rounds)}


def bench_reads(feast: str, profile: Profile, flat_calls: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    stored, rounds = min(profile.entities, 2000), profile.rounds
    with repository(feast, stored) as (folder, redis):
        results["sdk"] = reads(feast, folder, redis, stored, rounds)
        results["async"] = async_reads(feast, folder, redis, stored, max(rounds // 2, 1))
        if flat_calls:
            results["flat"] = flat(folder, flat_calls)
            print("flat:", results["flat"])
    results["micro"] = micro(*profile.micro)
    return results


def bench_remote(feast: str, profile: Profile, flat_calls: int) -> dict[str, Any]:
    stored = min(profile.entities, 2000)
    with repository(feast, stored) as (folder, redis):
        return {"remote": remote(feast, folder, redis, stored, profile.rounds, flat_calls)}


def bench_serving(feast: str, profile: Profile, _: int) -> dict[str, Any]:
    return {"serving": serving(feast, min(profile.entities, 2000), profile.rounds, profile.seconds)}


def bench_writes(feast: str, profile: Profile, _: int) -> dict[str, Any]:
    return {"writes": writes(feast, max(profile.rounds // 2, 1), profile.big)}


def bench_instructions(feast: str, profile: Profile, _: int) -> dict[str, Any]:
    with repository(feast, min(profile.entities, 500)) as (folder, _redis):
        return {"instructions": counted(folder)}


def bench_vectors(feast: str, profile: Profile, _: int) -> dict[str, Any]:
    return {"vectors": vectors(feast, min(profile.entities, 10_000), profile.rounds)}


Bench = Callable[[str, Profile, int], dict[str, Any]]
ALONE: dict[str, Bench] = {
    "reads": bench_reads,
    "on_demand": bench_on_demand,
    "serving": bench_serving,
    "remote": bench_remote,
    "plugin": bench_plugin,
    "vectors": bench_vectors,
    "writes": bench_writes,
    "instructions": bench_instructions,
}


def shared(found: Places, profile: Profile, part: str) -> dict[str, Any]:
    if part == "modes":
        return modes(found, profile.plan)
    if part == "load":
        return open_loop(found, profile.load_cases, profile.shares, *profile.load)
    if part == "cost":
        return cost(found, profile.imports, profile.plan.seconds)
    return scaling(found, profile.sizes)


@contextlib.contextmanager
def repository_of(features: int) -> Iterator[None]:
    """Let compare/repo/features.py, and what reads it, have so many features."""
    os.environ["BENCH_FEATURES"] = str(features)
    yield
    del os.environ["BENCH_FEATURES"]


def by_features(feast: str, profile: Profile) -> dict[int, Any]:
    """The access modes of other repositories."""
    results = {}
    for features in profile.more_features:
        with repository_of(features), places(feast, profile.entities) as found:
            results[features] = modes(found, profile.plan)
    return results


def measure(profile: Profile, flat_calls: int, feast: str) -> Iterator[dict[str, Any]]:
    """Yield what each part has found."""
    together = [part for part in profile.parts if part in SHARED]
    if together:
        with repository_of(profile.features), places(feast, profile.entities) as found:
            for part in together:
                yield {part: shared(found, profile, part)}
    if "modes" in profile.parts and profile.more_features:
        yield {"modes_by_features": by_features(feast, profile)}
    for part in profile.parts:
        if part in ALONE:
            with awake() if part in ROUND_TRIPS else contextlib.nullcontext():
                results = ALONE[part](feast, profile, flat_calls)
            yield results


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--smoke", action="store_const", dest="profile", const=SMOKE)
    size.add_argument("--full", action="store_const", dest="profile", const=FULL)
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; repeat for more")
    parser.add_argument("--rounds", type=int, help="of the parts but " + ", ".join(SHARED))
    parser.add_argument("--seconds", type=int, help="of one measurement of a server by wrk")
    parser.add_argument("--entities-stored", type=int, dest="entities")
    parser.add_argument("--features", type=int, help="of the repository of " + ", ".join(SHARED))
    parser.add_argument("--flat", type=int, default=0, metavar="CALLS")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--out", type=Path, default=BENCH.parent / "build/bench")
    parser.set_defaults(profile=Profile())
    return parser.parse_args()


def chosen(given: argparse.Namespace) -> Profile:
    from dataclasses import replace

    changes = {
        name: getattr(given, name) for name in ("rounds", "seconds", "entities", "features") if getattr(given, name)
    }
    parts = tuple(part for part in PARTS if part in given.only) if given.only else given.profile.parts
    return replace(given.profile, parts=parts, **changes)


def main() -> None:
    given = options()
    profile, begin = chosen(given), time.monotonic()
    if given.write and profile.name == "smoke":
        raise SystemExit("--write: what --smoke measures are no figures")
    feast = feast_python()
    compile_client()
    kept = BENCH / "results.json"
    results: dict[str, Any] = json.loads(kept.read_text()) if given.only and given.write else {}
    before = results.get("machine", {}).get("command", "")
    results["machine"] = machine(profile, feast)
    if before:  # each part is of the last of these that names it
        results["machine"]["command"] = f"{before}; {results['machine']['command']}"
    for found in measure(profile, given.flat, feast):
        results.update(found)
    results["machine"]["minutes"] = round((time.monotonic() - begin) / 60, 1)
    text = json.dumps(results, indent=1) + "\n"
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(text)
    render = [sys.executable, str(BENCH / "render.py")]
    subprocess.run([*render, "--out", str(given.out)], check=True)
    if given.write:
        kept.write_text(text)
        subprocess.run(render, check=True)
    print(f"{results['machine']['minutes']} minutes; {given.out / 'report.html'}")


if __name__ == "__main__":
    main()
