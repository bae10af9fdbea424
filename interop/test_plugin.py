"""`fastserve.feast.OnlineStore`: Feast's own SDK and server, reading and writing through fastserve's core.

- What Feast writes through it is what Feast writes to its own Redis store.
- The same random questions to Feast with it and to fastserve, as in `test_interop`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastserve import FeatureStore
from fastserve._core import field_id
from interop import fastserve_side
from interop.comparing import Answers, differing
from interop.conftest import REQUESTS, SEED
from interop.contents import differing_redis, of_redis
from interop.exchange import Question, answer
from interop.facts import Facts
from interop.questions import random_questions
from interop.sides import FEAST_PYTHON, FEAST_SERVE, OUR_SERVE, ROOT, FeastSide, ask_server, make_repository, serving
from tests.servers import RedisServer

PLUGIN, OWN = 1, 2
"""Databases: filled by Feast through the plug-in, and through Feast's own store."""

SHARE = 4  # of the questions of `test_interop`


@dataclass
class World:
    feast: FeastSide
    redis: RedisServer
    repo: Path
    environment: dict[str, str]
    questions: list[Question]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, short_folder: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("plugin")
    repos = {number: make_repository(folder / name, "redis") for name, number in (("plugin", PLUGIN), ("own", OWN))}
    with RedisServer.start(short_folder / "plugin") as redis:
        # Sets come in the order of their hashes.
        environment = {"INTEROP_REDIS_PORT": str(redis.port), "PYTHONHASHSEED": "0"}
        feast = FeastSide(folder / "feast", environment)
        if not FEAST_PYTHON.is_relative_to(ROOT):  # else fastserve is installed there
            environment["PYTHONPATH"] = f"{feast.environment['PYTHONPATH']}:{ROOT}"
            feast.environment["PYTHONPATH"] = environment["PYTHONPATH"]
        require_fastserve(feast)
        for number, repo in repos.items():
            choose_store(repo / "feature_store.yaml", number)
        feast.prepare(repos.values())
        facts = Facts.read(repos[PLUGIN] / "facts.json")
        yield World(feast, redis, repos[PLUGIN], environment, random_questions(facts, SEED, max(REQUESTS // SHARE, 20)))


def require_fastserve(feast: FeastSide) -> None:
    try:
        feast.run("fastserve.feature_store")
    except RuntimeError as exc:
        pytest.skip(f"FEAST_PYTHON cannot import fastserve: {str(exc).splitlines()[-1]}")


def choose_store(config: Path, database: int) -> None:
    text = config.read_text().replace("${INTEROP_REDIS_PORT}", f"${{INTEROP_REDIS_PORT}},db={database}")
    if database == PLUGIN:
        text = text.replace("type: redis", "type: fastserve.feast.OnlineStore\n  ttl_mode: status")
    config.write_text(text)


def test_what_is_written(world: World) -> None:
    ours, theirs = (of_redis(world.redis.client(db=number)) for number in (PLUGIN, OWN))
    named: Counter[str] = Counter()
    # They have the time of their making.
    made = [field_id("__precomputed__fast_v1", "vector"), b"_ts:__precomputed__fast_v1", b"_ts:income_band"]
    for row in (*ours.values(), *theirs.values()):
        for field in made:
            row.pop(field, None)
    faults = differing_redis(ours, theirs, named)
    print(f"{len(ours)} keys compared; deliberate differences: {dict(named)}")
    assert not faults, "\n".join(faults[:10])


def without_encoding(found: Answers) -> Answers:
    """Leave the bytes of Values out: Feast's message has entries of maps in an order of its own."""
    return {id_: {part: what for part, what in one.items() if part != "raw"} for id_, one in found.items()}


def compare(world: World, questions: list[Question], feasts: Answers, ours: Answers) -> None:
    for found in feasts.values():
        found.get("versions", []).sort()
    faults = [(q.id, fault) for q in questions for fault in differing(feasts[q.id], ours[q.id])]
    refused = [found for found in feasts.values() if "error" in found]
    print(f"{len(questions)} questions, {len(refused)} of them refused")
    assert len(refused) < len(questions) / 10
    assert not [fault for fault in faults if not same_refusal(feasts[fault[0]], ours[fault[0]])], faults[:5]


def same_refusal(one: dict[str, object], other: dict[str, object]) -> bool:
    return "error" in one and "error" in other


def test_sdk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feast's SDK through the plug-in gives fastserve's answers: values and times, by `to_dict` and as its message."""
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    feasts = world.feast.answers(world.repo, world.questions)
    with FeatureStore(repo_path=world.repo, config=None) as store:
        store_answers = {q.id: answer(q, lambda q: fastserve_side.ask(store, q)) for q in world.questions}
    print(f"{time.monotonic() - began:.1f} s")
    compare(world, world.questions, without_encoding(feasts), without_encoding(store_answers))


def test_http(world: World) -> None:
    """`feast serve` through the plug-in, and `fastserve serve`: the same statuses, times and values."""
    questions = [question for question in world.questions if question.has_body][:100]
    with (
        serving(FEAST_SERVE, world.repo, world.environment, "--max-requests", "1000000") as feast,
        serving(OUR_SERVE, world.repo, world.environment) as ours,
    ):
        feasts, answers = ask_server(feast, questions), ask_server(ours, questions)
    faults = []
    for question in questions:
        one, other = feasts[question.id], answers[question.id]
        same = {part: one.get(part) == other.get(part) for part in ("names", "statuses", "times")}
        if "error" not in one and not all(same.values()):
            faults.append((question.id, same))
    assert not faults, faults[:5]
