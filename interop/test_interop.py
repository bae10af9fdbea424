"""The same random questions to Feast and to fastserve, on data that Feast wrote: equal answers, but for what
`differences` names.

Of the SDKs: values of `to_dict`, exactly and with their types; event times of `to_dict`; statuses, event times and the
bytes of every Value of the protobuf message; versions of views. Of the servers: the parsed JSON, all of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastserve import FeatureStore
from interop import fastserve_side
from interop.comparing import Answers, compare
from interop.conftest import REQUESTS, SEED
from interop.differences import Side, feast_questions
from interop.exchange import Question, answer, read_lines, write_lines
from interop.facts import Facts
from interop.questions import random_questions
from interop.sides import (
    FEAST_PYTHON,
    FEAST_SERVE,
    OUR_SERVE,
    ROOT,
    STORES,
    FeastSide,
    ask_server,
    make_repository,
    serving,
)
from tests.servers import RedisServer

IN_ONE_PROCESS = 60


@dataclass
class World:
    """Two prepared repositories and the questions about them.

    Attributes:
        environment: variables that their feature_store.yaml names.
        repos: store -> folder.
    """

    feast: FeastSide
    environment: dict[str, str]
    repos: dict[str, Path]
    facts: Facts
    questions: list[Question]

    def side(self, store: str, http: bool = False) -> Side:
        return Side(self.facts, store, http, time.time(), Counter())

    @property
    def questions_over_http(self) -> list[Question]:
        return [question for question in self.questions if question.has_body]

    def questions_to_feast(self, side: Side) -> list[Question]:
        asked = self.questions_over_http if side.http else self.questions
        return [shadow for question in asked for shadow in feast_questions(side, question)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, short_folder: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("interop")
    repos = {store: make_repository(folder / store, store) for store in STORES}
    with RedisServer.start(short_folder / "interop") as redis:
        environment = {"INTEROP_REDIS_PORT": str(redis.port)}
        feast = FeastSide(folder / "feast", environment)
        feast.prepare(repos.values())
        facts = Facts.read(repos["redis"] / "facts.json")
        yield World(feast, environment, repos, facts, random_questions(facts, SEED, REQUESTS))


@pytest.fixture(scope="module")
def feast_answers(world: World) -> dict[str, Answers]:
    """The answers of Feast's SDK, by store."""
    with ThreadPoolExecutor() as pool:
        found = {
            store: pool.submit(world.feast.answers, repo, world.questions_to_feast(world.side(store)))
            for store, repo in world.repos.items()
        }
        return {store: future.result() for store, future in found.items()}


@pytest.fixture(scope="module")
def server_answers(world: World) -> dict[str, tuple[Answers, Answers]]:
    """The answers of Feast's server and of fastserve's, by store."""

    def ask(store: str) -> tuple[Answers, Answers]:
        repo = world.repos[store]
        with (
            # Feast's workers end after a thousand requests, unless told otherwise.
            serving(FEAST_SERVE, repo, world.environment, "--max-requests", "1000000") as feast,
            serving(OUR_SERVE, repo, world.environment) as ours,
        ):
            return (
                ask_server(feast, world.questions_to_feast(world.side(store, http=True))),
                ask_server(ours, world.questions_over_http),
            )

    with ThreadPoolExecutor() as pool:
        return dict(zip(STORES, pool.map(ask, STORES), strict=True))


@pytest.mark.parametrize("store", STORES)
def test_sdk(world: World, feast_answers: dict[str, Answers], store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    with FeatureStore(repo_path=world.repos[store]) as ours:
        answers = {q.id: answer(q, lambda q: fastserve_side.ask(ours, q)) for q in world.questions}
    compare(world.side(store), world.questions, feast_answers[store], answers, feast_answers[store])


@pytest.mark.parametrize("store", STORES)
def test_http(
    world: World,
    feast_answers: dict[str, Answers],
    server_answers: dict[str, tuple[Answers, Answers]],
    store: str,
) -> None:
    side = world.side(store, http=True)
    compare(side, world.questions_over_http, *server_answers[store], feast_answers[store])


@pytest.mark.parametrize("first", ["feast", "fastserve"])
def test_one_process(world: World, first: str) -> None:
    """Both packages imported, in either order, and used in turn on both stores."""
    folder = world.feast.folder / f"{first}-first"
    folder.mkdir()
    # Those that Feast answers in one go.
    questions = [q for q in world.questions if feast_questions(world.side("redis"), q) == [q]][:IN_ONE_PROCESS]
    write_lines(folder / "questions", (question.to_json() for question in questions))
    world.feast.run("interop.both_sides", first, folder, *world.repos.values(), environment=beside_feast(world))
    for store, repo in world.repos.items():
        feasts, ours = ({a["id"]: a for a in read_lines(folder / f"{repo.name}-{name}")} for name in ("feast", "ours"))
        compare(world.side(store), questions, feasts, ours, feasts)
    print((folder / "process").read_text())


def beside_feast(world: World) -> dict[str, str]:
    """Return variables with which `import fastserve` works beside Feast: none where setup.sh installed it."""
    if FEAST_PYTHON.is_relative_to(ROOT):
        return {}
    path = {"PYTHONPATH": f"{world.feast.environment['PYTHONPATH']}:{ROOT}"}
    try:
        world.feast.run("fastserve.feature_store", environment=path)
    except RuntimeError as exc:
        pytest.skip(f"FEAST_PYTHON cannot import fastserve: {str(exc).splitlines()[-1]}")
    return path
