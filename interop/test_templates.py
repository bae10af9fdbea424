"""Every repository that `feast init` writes and that runs on one machine, both ways.

- Applied and loaded by Feast, and served by fastserve with nothing changed: random questions to both SDKs and servers,
  and through Feast's remote store to our server.
- Its definitions applied and loaded by fastserve, after the import is changed, and read by both.

Templates whose online store is none of fastserve's are made on Redis instead. Left out are those whose definitions
themselves need a cloud, a warehouse or a package that Feast does not bring along.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastserve import FeatureStore
from interop import fastserve_side
from interop.comparing import compare
from interop.conftest import SEED
from interop.differences import Side, feast_questions
from interop.exchange import Question, answer
from interop.facts import Facts
from interop.questions import random_questions
from interop.sides import FEAST_SERVE, OUR_SERVE, ROOT, FeastSide, ask_server, serving
from tests.servers import RedisServer

TEMPLATES = {
    "local": "sqlite",
    "pytorch_nlp": "sqlite",
    "milvus": "redis",
    "hbase": "redis",
    "cassandra": "redis",
    "hazelcast": "redis",
}
"""Template -> its online store here."""

OVER_HTTP = ("local", "hbase")
REQUESTS = 60


@dataclass
class Template:
    """A repository and what is known of it.

    Attributes:
        theirs: as Feast made it; ours: a copy whose definitions import fastserve, and which fastserve applied.
    """

    name: str
    feast: FeastSide
    theirs: Path
    ours: Path

    def side(self, facts: Facts, http: bool = False) -> Side:
        return Side(facts, TEMPLATES[self.name], http, time.time(), Counter())


@pytest.fixture(scope="module")
def redis(short_folder: Path) -> Iterator[RedisServer]:
    with RedisServer.start(short_folder / "templates") as server:
        yield server


@pytest.fixture(scope="module", params=TEMPLATES)
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Template:
    folder = tmp_path_factory.mktemp(request.param)
    feast = FeastSide(folder / "feast", {})
    number = 2 * list(TEMPLATES).index(request.param)
    address = f"127.0.0.1:{redis.port},db={number}" if TEMPLATES[request.param] == "redis" else ""
    feast.run("interop.template_side", "make", request.param, folder, *([address] if address else []))
    theirs = folder / "shop" / "feature_repo"
    ours = folder / "ours" / "feature_repo"
    translate(ours, f"db={number}", f"db={number + 1}")
    for words in (["apply"], ["materialize-incremental", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())]):
        fastserve(ours, *words)
    feast.run("interop.template_side", "facts", theirs, ours)
    return Template(request.param, feast, theirs, ours)


def translate(repo: Path, database: str, another: str) -> None:
    """Make a repository of Feast's one of fastserve's, with a Redis database of its own."""
    for path in repo.glob("*.py"):
        path.write_text(re.sub(r"^((?:from|import) )feast\b", r"\1fastserve", path.read_text(), flags=re.MULTILINE))
    config = repo / "feature_store.yaml"
    config.write_text(config.read_text().replace(database, another))


def fastserve(repo: Path, *words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fastserve", "-c", str(repo), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert not done.returncode, f"{words}: {done.stderr[-3000:]}"


def questions_about(facts: Facts, seed: int) -> list[Question]:
    """Return random questions, but for those that Feast mixes up: see `is_mixed_up`."""
    asked = random_questions(facts, seed, 2 * REQUESTS)
    return [question for question in asked if not is_mixed_up(facts, question)][:REQUESTS]


def is_mixed_up(facts: Facts, question: Question) -> bool:
    """Whether an on-demand view is beside views that have features of equal names: Feast gives it those of another."""
    if all(output.kind == "stored" for output in facts.outputs(question)):
        return False
    views = {stored.view for asked in facts.projections(question) for stored in facts.stored_projections(asked)}
    names = [name for view in views for name in facts.views[view]["features"]]
    return len(names) > len(set(names))


@pytest.mark.parametrize("who", ["theirs", "ours"])
def test_sdk(template: Template, who: str) -> None:
    """The same questions to both SDKs, about what Feast wrote, and about what fastserve wrote."""
    repo: Path = getattr(template, who)
    facts = Facts.read(repo / "facts.json")
    side, questions = template.side(facts), questions_about(facts, SEED)
    feasts = template.feast.answers(repo, [shadow for q in questions for shadow in feast_questions(side, q)])
    with FeatureStore(repo_path=repo) as store:
        answers = {q.id: answer(q, lambda q: fastserve_side.ask(store, q)) for q in questions}
    compare(side, questions, feasts, answers, feasts)


def test_http(template: Template) -> None:
    """The same questions to both servers, and to ours through Feast's remote store."""
    if template.name not in OVER_HTTP:
        pytest.skip("one template on each store is enough")
    facts = Facts.read(template.theirs / "facts.json")
    side, questions = template.side(facts, http=True), questions_about(facts, SEED + 1)
    asked = [shadow for q in questions for shadow in feast_questions(side, q)]
    with serving(FEAST_SERVE, template.theirs, {}) as feast, serving(OUR_SERVE, template.theirs, {}) as ours:
        feasts, answers = ask_server(feast, asked), ask_server(ours, questions)
        sdk = template.feast.answers(template.theirs, asked)
        compare(side, questions, feasts, answers, sdk)


def test_services_that_feast_itself_cannot_read(template: Template) -> None:
    """The function of pytorch_nlp needs a name of the module it was written in; Feast runs its text, which has none."""
    if template.name != "pytorch_nlp":
        pytest.skip("there are none")
    rows = [{"text_id": "text_0001", "user_id": "user_001", "input_text": "Fine!", "model_name": "m"}]
    question = Question("1", {name: [value] for name, value in rows[0].items()}, service="sentiment_analysis_v2")
    assert "NameError" in template.feast.answers(template.theirs, [question])["1"]["error"]
    for repo in (template.theirs, template.ours):
        with FeatureStore(repo_path=repo) as store:
            found = store.get_online_features(store.get_feature_service("sentiment_analysis_v2"), rows).to_dict()
        assert found["predicted_sentiment"] == ["neutral"]
        assert len(found["text_embedding"][0]) == 384
