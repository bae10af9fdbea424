"""The bank, defined and written by Feast on both stores, and the questions about it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from interop.differences import Side, feast_questions
from interop.exchange import Question
from interop.facts import Facts
from interop.questions import random_questions
from interop.sides import STORES, FeastSide, make_repository
from tests.servers import RedisServer

__all__ = ["Prepared", "prepared"]


@dataclass
class Prepared:
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
        """Return what `differences` needs to know of the answers about a repository, from now on."""
        return Side(self.facts, store, http, time.time(), Counter())

    @property
    def questions_over_http(self) -> list[Question]:
        """Those that JSON can ask."""
        return [question for question in self.questions if question.has_body]

    def questions_to_feast(self, side: Side) -> list[Question]:
        """Return the questions, and those that Feast is asked besides."""
        asked = self.questions_over_http if side.http else self.questions
        return [shadow for question in asked for shadow in feast_questions(side, question)]


@contextlib.contextmanager
def prepared(folder: Path, redis_folder: Path, seed: int, requests: int) -> Iterator[Prepared]:
    """Let Feast apply and load both repositories; stop their Redis in the end.

    Args:
        redis_folder: for the Redis, with a path that is short enough for a unix socket.
        seed, requests: of the questions.
    """
    repos = {store: make_repository(folder / store, store) for store in STORES}
    with RedisServer.start(redis_folder) as redis:
        environment = {"INTEROP_REDIS_PORT": str(redis.port)}
        feast = FeastSide(folder / "feast", environment)
        feast.prepare(repos.values())
        facts = Facts.read(repos["redis"] / "facts.json")
        yield Prepared(feast, environment, repos, facts, random_questions(facts, seed, requests))
