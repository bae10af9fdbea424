"""The bank defined and written by fastserve alone, read by both; and both taking turns on one registry.

- What fastserve writes into store and registry is what Feast writes, from the same definitions and data.
- The same random questions to both, as in `test_interop`, about what fastserve wrote.
- `apply` and `materialize` of the one after those of the other: nothing is lost, nothing looks changed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fastserve import FeatureStore
from interop import fastserve_side
from interop.comparing import Answers, compare
from interop.conftest import REQUESTS, SEED
from interop.contents import Redis, Sqlite, differing_redis, differing_sqlite, of_redis, of_sqlite
from interop.differences import Side, feast_questions
from interop.exchange import Json, Question, answer, read_lines
from interop.facts import Facts
from interop.questions import random_questions
from interop.registries import differing, unnamed
from interop.repositories import IN_FEASTS_FORMAT, Pair, add_permission, make_pair
from interop.sides import FEAST_SERVE, OUR_SERVE, ROOT, FeastSide, ask_server, serving
from tests.servers import PostgresServer, RedisServer

PAIRS = [(store, registry) for store in ("redis", "sqlite") for registry in ("file", "sqlite", "postgres")]
WHOLE = [("redis", "file"), ("sqlite", "postgres")]  # all questions; a part of them for the other pairs
OVER_HTTP = [*WHOLE, ("redis", "sqlite")]  # vectors in Feast's format, and packed ones in SQLite and in Redis
TURNS = [
    ("redis", "file"),
    ("sqlite", "sqlite"),
    ("redis", "postgres"),
]  # where both sides apply, and Feast is first too
PART = 6

Name = tuple[str, str]
Step = tuple[str, Pair]
Printed = dict[str, list[str]]
"""Step -> what it printed, each time."""

MOST_FAULTS = 30


@dataclass
class World:
    """Two banks, by store and registry: one of them begun by fastserve, one by Feast."""

    feast: FeastSide
    folder: Path
    redis: RedisServer
    ours: dict[Name, Pair]
    theirs: dict[Name, Pair]

    def fastserve_does(self, steps: Sequence[Step]) -> dict[Name, Printed]:
        """Do steps through fastserve, in one process."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "interop.writing_side", "fastserve"]
        output = self.folder / f"printed-{time.monotonic_ns()}"
        words = [str(word) for step, pair in steps for word in (step, pair.ours)]
        done = subprocess.run(
            [*command, output, *words], env=environment, cwd=self.folder, capture_output=True, text=True
        )
        assert not done.returncode, f"{words}\n{done.stderr[-4000:]}"
        return printed(output, steps)

    def feast_does(self, steps: Sequence[Step]) -> dict[Name, Printed]:
        """Do steps through Feast, in one process."""
        output = self.folder / f"printed-{time.monotonic_ns()}"
        words = [word for step, pair in steps for word in (step, pair.theirs)]
        self.feast.run("interop.writing_side", "feast", output, *words, environment={"PYTHONHASHSEED": "0"})
        return printed(output, steps)

    def content(self, pair: Pair) -> Redis | Sqlite:
        """Return what is in the store."""
        if isinstance(pair.database, int):
            return of_redis(self.redis.client(db=pair.database))
        return of_sqlite(pair.database)


def printed(output: Path, steps: Sequence[Step]) -> dict[Name, Printed]:
    found: dict[Name, Printed] = {}
    for line, (step, pair) in zip(read_lines(output), steps, strict=True):
        found.setdefault(pair.name, {}).setdefault(step, []).append(line["printed"])
    return found


def at_once(*tasks: Callable[[], Any]) -> list[Any]:
    """Run tasks at the same time; return what they return."""
    with ThreadPoolExecutor() as pool:
        return [future.result() for future in [pool.submit(task) for task in tasks]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, short_folder: Path) -> Iterator[World]:
    """The repositories, with the Parquet files; nothing is applied yet."""
    folder = tmp_path_factory.mktemp("written")
    feast = FeastSide(folder / "feast", {})
    data = folder / "tables" / "data"
    data.mkdir(parents=True)
    feast.run("interop.writing_side", "feast", folder / "printed", "tables", data.parent)
    with RedisServer.start(short_folder / "written") as redis, PostgresServer.start() as postgres:

        def pair(who: str, number: int, name: Name) -> Pair:
            url = postgres.database(f"{who}{number}") if name[1] == "postgres" else ""
            return make_pair(folder / f"{who}-{'-'.join(name)}", data, name, f"127.0.0.1:{redis.port},db={number}", url)

        ours = {name: pair("ours", number, name) for number, name in enumerate(PAIRS)}
        theirs = {name: pair("theirs", len(PAIRS) + number, name) for number, name in enumerate(TURNS)}
        yield World(feast, folder, redis, ours, theirs)


# --- the same content ------------------------------------------------------------------------------------------------


@dataclass
class Written:
    """What is where, after the first writing: contents of the stores, and parsed registries."""

    our_stores: dict[Name, Redis | Sqlite]
    their_stores: dict[Name, Redis | Sqlite]
    our_registries: dict[Name, Json]
    their_registries: dict[Name, Json]


@pytest.fixture(scope="module")
def written(world: World) -> Written:
    def steps(pairs: dict[Name, Pair], store: str, *words: str) -> list[Step]:
        return [(word, pair) for name, pair in pairs.items() if name[0] == store for word in words]

    *_, redis, sqlite = at_once(
        lambda: world.fastserve_does([*steps(world.ours, "redis", "write"), *steps(world.ours, "sqlite", "write")]),
        lambda: world.feast_does(steps(world.theirs, "redis", "write", "registry")),
        lambda: world.feast_does(steps(world.theirs, "sqlite", "write", "registry")),
    )
    our_stores = {name: world.content(pair) for name, pair in world.ours.items()}
    their_stores = {name: world.content(pair) for name, pair in world.theirs.items()}
    # For the questions. Some are answered from vectors that fastserve built, others from those that Feast builds now.
    needed = [name for name in world.ours if name[0] == "redis" and name not in IN_FEASTS_FORMAT]
    vectors = [("vectors", world.ours[name]) for name in needed]
    found = world.feast_does([*((word, p) for p in world.ours.values() for word in ("registry", "facts")), *vectors])
    return Written(our_stores, their_stores, parsed(found), parsed(redis | sqlite))


def parsed(found: dict[Name, Printed], number: int = 0) -> dict[Name, Json]:
    return {name: json.loads(texts["registry"][number]) for name, texts in found.items()}


@pytest.mark.parametrize("name", PAIRS, ids="-".join)
def test_the_stores_content(written: Written, name: Name) -> None:
    theirs = next(content for other, content in written.their_stores.items() if other[0] == name[0])
    named: Counter[str] = Counter()
    compare_stores = differing_redis if name[0] == "redis" else differing_sqlite
    faults = compare_stores(written.our_stores[name], theirs, named)  # type: ignore[arg-type]
    print(f"{size(written.our_stores[name])} compared; deliberate differences: {dict(named)}")
    assert not faults, f"{len(faults)} differences\n" + "\n".join(faults[:MOST_FAULTS])


def size(content: Redis | Sqlite) -> str:
    if isinstance(content, Sqlite):
        return f"{len(content.rows)} tables, {sum(map(len, content.rows.values()))} rows"
    return f"{len(content)} keys, {sum(map(len, content.values()))} fields"


NAMED_IN_REGISTRIES = {
    # What is different each time.
    "times and random numbers": r"changed .*(created_timestamp|last_updated(_timestamp)?|version_id|project_uuid)"
    r"|changed /feast_metadata/(project_uuid|last_updated_timestamp)/metadata_value",
    # Feast's own `apply` of a view that has not changed forgets the active version, the state, the class of its source.
    "forgotten version": r"removed /feature_views/tier/.*(current_version_number|data_source_class_type|meta/state)",
    # A new version of a view that is loaded has its state with fastserve, none with Feast.
    "state in history": r"removed /feature_view_version_history/tier \d/feature_view_proto/meta/state",
    # In its SQL registry Feast does not say of which class of Feast's a source is; fastserve always does.
    "class of a source": r"removed /data_sources/\w+/data_source_proto/(batch_source/)?data_source_class_type",
    "class of a pinned source": r"removed /feature_services/pinned_v1/.*/data_source_class_type",
    # Pickles say in which file and line a function was written; its text is what both sides run.
    "pickles": r"changed .*/user_defined_function/body",
    # Feast's list of the tables it made; fastserve makes them when they are missing, and keeps no list.
    "infra": r"(added|removed) (/registry//infra|/managed_infra).*",
    # Where Feast's SQL registry has never loaded a view, its message names the project; the column does so in any case.
    "project in messages": r"added .*/feature_view_proto/spec/project",
}


@pytest.mark.parametrize("name", TURNS, ids="-".join)
def test_the_registrys_content(written: Written, name: Name) -> None:
    same(written.our_registries[name], written.their_registries[name], NAMED_IN_REGISTRIES)


def same(one: Json, other: Json, named: dict[str, str]) -> None:
    """Fail with the differences that have no name."""
    counts: Counter[str] = Counter()
    faults = unnamed(differing(one, other), named, counts)
    print(f"{sum(map(len, one.values()))} objects compared; named differences: {dict(counts)}")
    assert not faults, f"{len(faults)} differences\n" + "\n".join(faults[:MOST_FAULTS])


# --- the same answers ------------------------------------------------------------------------------------------------


@dataclass
class Asked:
    """The questions about each pair, and all answers.

    Attributes:
        feasts: of Feast's SDK; ours: of fastserve's; servers: of Feast's server and of ours.
    """

    facts: Facts
    questions: dict[Name, list[Question]]
    feasts: dict[Name, Answers]
    ours: dict[Name, Answers]
    servers: dict[Name, tuple[Answers, Answers]]

    def side(self, name: Name, http: bool = False) -> Side:
        return Side(self.facts, name[0], http, time.time(), Counter())


@pytest.fixture(scope="module")
def asked(world: World, written: Written) -> Asked:
    texts = {(pair.theirs / "facts.json").read_text() for pair in world.ours.values()}
    assert len(texts) == 1, "Feast does not find the same in all registries"
    facts = Facts.read(world.ours[PAIRS[0]].theirs / "facts.json")
    questions = random_questions(facts, SEED, REQUESTS)
    parts = [name for name in PAIRS if name not in WHOLE]
    asked = Asked(facts, dict.fromkeys(WHOLE, questions), {}, {}, {})
    asked.questions |= {name: questions[number::PART] for number, name in enumerate(parts)}
    sdk, asked.servers = at_once(lambda: feast_answers(world, asked), lambda: server_answers(world, asked))
    asked.feasts = dict(zip(PAIRS, sdk, strict=True))
    asked.ours = {name: our_answers(pair, asked.questions[name]) for name, pair in world.ours.items()}
    return asked


def to_feast(side: Side, questions: list[Question]) -> list[Question]:
    return [shadow for question in questions for shadow in feast_questions(side, question)]


def feast_answers(world: World, asked: Asked) -> list[Answers]:
    return world.feast.all_answers(
        [(pair.theirs, to_feast(asked.side(name), asked.questions[name])) for name, pair in world.ours.items()]
    )


def our_answers(pair: Pair, questions: list[Question]) -> Answers:
    with FeatureStore(repo_path=pair.ours) as store:
        return {q.id: answer(q, lambda q: fastserve_side.ask(store, q)) for q in questions}


def over_http(questions: list[Question]) -> list[Question]:
    return [question for question in questions if question.has_body]


def server_answers(world: World, asked: Asked) -> dict[Name, tuple[Answers, Answers]]:
    def ask(name: Name) -> tuple[Answers, Answers]:
        pair, questions = world.ours[name], over_http(asked.questions[name])
        with (
            serving(FEAST_SERVE, pair.theirs, {}, "--max-requests", "1000000") as feast,
            serving(OUR_SERVE, pair.ours, {}) as ours,
        ):
            shadows = to_feast(asked.side(name, http=True), questions)
            return ask_server(feast, shadows), ask_server(ours, questions)

    return {name: ask(name) for name in OVER_HTTP}


@pytest.mark.parametrize("name", PAIRS, ids="-".join)
def test_sdk(asked: Asked, name: Name) -> None:
    feasts = asked.feasts[name]
    compare(asked.side(name), asked.questions[name], feasts, asked.ours[name], feasts)


@pytest.mark.parametrize("name", OVER_HTTP, ids="-".join)
def test_http(asked: Asked, name: Name) -> None:
    questions = over_http(asked.questions[name])
    compare(asked.side(name, http=True), questions, *asked.servers[name], asked.feasts[name])


# --- taking turns ----------------------------------------------------------------------------------------------------


@dataclass
class Turns:
    """Registries, parsed: before the other side's turn, after it, and after the first side's next; what was printed.

    Attributes:
        theirs, ours: by step: what Feast's commands printed, and fastserve's.
    """

    before: dict[Name, Json]
    between: dict[Name, Json]
    after: dict[Name, Json]
    theirs: dict[Name, Printed]
    ours: dict[Name, Printed]


@pytest.fixture(scope="module")
def feast_first(world: World, written: Written) -> Turns:
    """fastserve applies and materializes on what Feast began, with a permission and more; then Feast again."""
    pairs = list(world.theirs.values())
    for pair in pairs:
        add_permission(pair)
    begun = world.feast_does([(word, pair) for pair in pairs for word in ("apply", "extras", "plan", "registry")])
    ours = world.fastserve_does([(word, pair) for pair in pairs for word in ("plan", "apply", "load")])
    theirs = world.feast_does([(word, pair) for pair in pairs for word in ("registry", "plan", "apply", "registry")])
    both = {name: {"first plan": begun[name]["plan"], **theirs[name]} for name in begun}
    return Turns(parsed(begun), parsed(theirs), parsed(theirs, 1), both, ours)


@pytest.fixture(scope="module")
def fastserve_first(world: World, asked: Asked) -> Turns:
    """Feast plans, applies and materializes on what fastserve began; then fastserve again."""
    pairs = [world.ours[name] for name in TURNS]
    words = ("registry", "plan", "apply", "load", "registry")
    theirs = world.feast_does([(word, pair) for pair in pairs for word in words])
    ours = world.fastserve_does([(word, pair) for pair in pairs for word in ("plan", "apply", "more")])
    after = world.feast_does([("registry", pair) for pair in pairs])
    return Turns(parsed(theirs), parsed(theirs, 1), parsed(after), theirs, ours)


LOADED = {
    "times": r"changed (.*last_updated_timestamp|/registry//last_updated|/registry//version_id)"
    r"|changed /feast_metadata/last_updated_timestamp/metadata_value",
    "windows": r"added .*/(customer_profile|logins|fx_rates|visit)/.*materialization_intervals/\d+/(start|end)_time",
    "state": r"(added|changed) .*/(customer_profile|logins|fx_rates|visit)/.*meta/state",
}
"""What any materialize does to a registry."""

FEASTS_APPLY = LOADED | {
    "stamps of sources in views": r"(added|changed) .*/\w+_source/meta/\w+_timestamp",
    "classes of sources": r"(added|removed) .*data_source_class_type",
    "forgotten states": r"removed .*/meta/state",
    "forgotten versions": r"removed /feature_views/tier/.*current_version_number",
    "versions of stream views": r"added /feature_view_version_history/logins .*"
    r"|(added|changed) /stream_feature_views/logins/.*current_version_number",
    "infra": r"(added|removed) (/registry//infra|/managed_infra).*",
}
"""What an apply of Feast's does to a registry, also to its own, when no definition has changed."""


REMEMBERED = LOADED | {
    "remembered version": r"(added|changed) /feature_views/tier/.*meta/(current_version_number|last_updated_timestamp)"
}
"""What fastserve's next turn does to a registry in which Feast's `apply` forgot the active version of a view."""


def only_remembers(output: str) -> bool:
    """Whether fastserve tells of no change, or of that one."""
    told = [line for line in output.splitlines() if line and not line.startswith(" ")]
    return all(line == "Updated feature view tier" or line.startswith(("No changes", "Nothing was")) for line in told)


def reported(output: str) -> set[str]:
    """Return the changes of definitions that Feast tells of, such as `Updated feature view visit: batch_source`."""
    found, thing = set(), ""
    for line in output.splitlines():
        if line.startswith(("Created ", "Updated ", "Deleted ")):
            thing = "" if "sqlite table" in line else line.strip()
            found.add(thing)
        elif thing and re.match(r"\t\w+: ", line):
            found.add(f"{thing}: {line.split(':')[0].strip()}")
    return found - {""}


@pytest.mark.parametrize("name", TURNS, ids="-".join)
def test_fastserves_turn_on_what_feast_began(feast_first: Turns, name: Name) -> None:
    print(*feast_first.ours[name]["plan"], *feast_first.ours[name]["apply"], sep="\n")
    same(feast_first.before[name], feast_first.between[name], REMEMBERED)
    assert only_remembers(feast_first.ours[name]["plan"][0])
    assert only_remembers(feast_first.ours[name]["apply"][0])


@pytest.mark.parametrize("name", TURNS, ids="-".join)
def test_feasts_next_turn_on_what_feast_began(feast_first: Turns, name: Name) -> None:
    theirs = feast_first.theirs[name]
    same(feast_first.between[name], feast_first.after[name], FEASTS_APPLY)
    # It reports the same right after its own apply.
    more = reported(theirs["plan"][0]) - reported(theirs["first plan"][0])
    assert not more


@pytest.mark.parametrize("name", TURNS, ids="-".join)
def test_feasts_turn_on_what_fastserve_began(feast_first: Turns, fastserve_first: Turns, name: Name) -> None:
    same(fastserve_first.before[name], fastserve_first.between[name], FEASTS_APPLY)
    # It reports nothing that it does not report right after its own apply.
    more = reported(fastserve_first.theirs[name]["plan"][0]) - reported(feast_first.theirs[name]["first plan"][0])
    assert not more


@pytest.mark.parametrize("name", TURNS, ids="-".join)
def test_fastserves_next_turn_on_what_fastserve_began(fastserve_first: Turns, name: Name) -> None:
    print(*fastserve_first.ours[name]["plan"], *fastserve_first.ours[name]["apply"], sep="\n")
    same(fastserve_first.between[name], fastserve_first.after[name], REMEMBERED)
    assert only_remembers(fastserve_first.ours[name]["plan"][0])
    assert only_remembers(fastserve_first.ours[name]["apply"][0])
