"""Every repository that `feast init` writes and that runs on one machine, both ways.

- Applied and loaded by Feast, and served by fastserve with nothing changed: all services, all on-demand views and
  random references, asked of both SDKs and both servers; of Feast's server by our client, of ours by Feast's client.
- The same definitions bring no change to that registry, and applied and loaded by fastserve they are read by both.

Templates whose online store is none of fastserve's are made on Redis instead. docs/compatibility.md lists those that
are not here, because their definitions themselves need a cloud, a warehouse or another program.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastserve import FeatureStore
from interop import fastserve_side
from interop.comparing import Answers, compare
from interop.conftest import SEED
from interop.differences import Side, feast_questions
from interop.exchange import Question, answer
from interop.facts import Facts
from interop.questions import random_questions
from interop.sides import FEAST_SERVE, OUR_SERVE, ROOT, FeastSide, ask_server, serving
from tests.servers import PostgresServer, RedisServer

TEMPLATES = {
    "local": "sqlite",
    "pytorch_nlp": "sqlite",
    "milvus": "redis",
    "rag": "redis",
    "hbase": "redis",
    "cassandra": "redis",
    "hazelcast": "redis",
    "postgres": "redis",
    "ray": "sqlite",
}
"""Template -> its online store here."""

SOURCES_OF_FEAST = {"postgres", "ray"}
"""Their definitions have sources that fastserve reads from a registry, but that are not defined in it."""

ABSOLUTE_PATHS = {"pytorch_nlp"}
"""Its folder is part of its definitions, so that a copy is another repository."""

REQUESTS = 60
OVER_HTTP = 25


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
    with RedisServer.start(short_folder / "templates", "--databases", str(2 * len(TEMPLATES))) as server:
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer.start() as server:
        server.database("shop")
        yield server


@pytest.fixture(scope="module", params=TEMPLATES)
def template(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    redis: RedisServer,
    postgres: PostgresServer,
) -> Template:
    folder = tmp_path_factory.mktemp(request.param)
    feast = FeastSide(folder / "feast", {})
    number = 2 * list(TEMPLATES).index(request.param)
    address = f"127.0.0.1:{redis.port},db={number}" if TEMPLATES[request.param] == "redis" else ""
    feast.run("interop.template_side", "make", request.param, folder, address, str(postgres.port))
    found = Template(request.param, feast, folder / "shop" / "feature_repo", folder / "ours" / "feature_repo")
    repos = [found.theirs]
    if request.param not in SOURCES_OF_FEAST:
        load(found, f"db={number}", f"db={number + 1}")
        repos.append(found.ours)
    feast.run("interop.template_side", "facts", *repos)
    return found


def load(template: Template, database: str, another: str) -> None:
    """Make a copy one of fastserve's, look what it would change of Feast's registry, apply and materialize it."""
    config = template.ours / "feature_store.yaml"
    own = config.read_text().replace(database, another)
    for path in template.ours.glob("*.py"):
        path.write_text(re.sub(r"^((?:from|import) )feast\b", r"\1fastserve", path.read_text(), flags=re.MULTILINE))
    if template.name not in ABSOLUTE_PATHS:
        written = {**yaml.safe_load(own), "registry": str(template.theirs / "data" / "registry.db")}
        config.write_text(yaml.safe_dump(written))
        assert fastserve(template.ours, "plan") == "No changes to registry\n"
        config.write_text(own)
    fastserve(template.ours, "apply")
    fastserve(template.ours, "materialize-incremental", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()))


def fastserve(repo: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fastserve", "-c", str(repo), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert not done.returncode, f"{words}: {done.stderr[-3000:]}"
    return done.stdout


def questions_about(facts: Facts, seed: int, count: int) -> list[Question]:
    """Return random questions, and more until all services and on-demand views are asked for.

    Those that Feast mixes up are left out: see `is_mixed_up`.
    """
    asked = [q for q in random_questions(facts, seed, 10 * count) if not is_mixed_up(facts, q)]
    chosen = asked[:count]
    seen = {name for question in chosen for name in subjects(facts, question)}
    for question in asked[count:]:
        if subjects(facts, question) - seen:
            chosen.append(question)
            seen |= subjects(facts, question)
    assert seen == {*facts.services, *facts.on_demand}
    return chosen


def subjects(facts: Facts, question: Question) -> set[str]:
    """Return the service and the on-demand views that a question is about."""
    views = {projection.view for projection in facts.projections(question)}
    return views & set(facts.on_demand) | ({question.service} if question.service else set())


def is_mixed_up(facts: Facts, question: Question) -> bool:
    """Whether an on-demand view is beside views that have features of equal names: Feast gives it those of another."""
    if all(output.kind == "stored" for output in facts.outputs(question)):
        return False
    views = {stored.view for asked in facts.projections(question) for stored in facts.stored_projections(asked)}
    names = [name for view in views for name in facts.views[view]["features"]]
    return len(names) > len(set(names))


def test_the_documentation_names_all_templates(tmp_path: Path) -> None:
    FeastSide(tmp_path / "feast", {}).run("interop.template_side", "list", tmp_path / "names")
    found: dict[str, str] = {}
    for names, store in re.findall(r"^\| (`\w+`.*?) \| (Redis|SQLite|) ?\|", section("Templates"), flags=re.MULTILINE):
        found.update(dict.fromkeys(re.findall(r"`(\w+)`", names), store.lower()))
    assert found.keys() == set(json.loads((tmp_path / "names").read_text()))
    assert {name: store for name, store in found.items() if store} == TEMPLATES


def section(title: str) -> str:
    text = (ROOT / "docs" / "compatibility.md").read_text()
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("who", ["theirs", "ours"])
def test_sdk(template: Template, who: str) -> None:
    """The same questions to both SDKs, about what Feast wrote, and about what fastserve wrote."""
    if who == "ours" and template.name in SOURCES_OF_FEAST:
        pytest.skip("its sources are not defined in fastserve")
    repo: Path = getattr(template, who)
    facts = Facts.read(repo / "facts.json")
    side, questions = template.side(facts), questions_about(facts, SEED, REQUESTS)
    feasts = template.feast.answers(repo, [shadow for q in questions for shadow in feast_questions(side, q)])
    with FeatureStore(repo_path=repo) as store:
        answers = {q.id: answer(q, lambda q: fastserve_side.ask(store, q)) for q in questions}
    compare(side, questions, feasts, answers, feasts)


def test_http_and_remote(template: Template) -> None:
    """The same questions to both servers; then through each side's client to the other side's server."""
    facts = Facts.read(template.theirs / "facts.json")
    side, questions = template.side(facts, http=True), questions_about(facts, SEED + 1, OVER_HTTP)
    asked = [shadow for q in questions for shadow in feast_questions(side, q)]
    with serving(FEAST_SERVE, template.theirs, {}) as feast, serving(OUR_SERVE, template.theirs, {}) as ours:
        told = ask_server(feast, asked)
        clients = [
            remote_client(template, "on-ours", ours.base_url),
            remote_client(template, "on-feasts", feast.base_url),
        ]
        sdk, on_ours, on_feasts = template.feast.all_answers(
            [(template.theirs, asked), (clients[0], questions), (clients[1], questions)]
        )
        compare(side, questions, told, ask_server(ours, questions), sdk)
        our_client_on_feasts_server(clients[1], asked, told)
    feasts_client_on_our_server(questions, on_ours, on_feasts)


def remote_client(template: Template, name: str, url: Any) -> Path:
    """Make a repository of both sides' clients of a server."""
    config = yaml.safe_load((template.theirs / "feature_store.yaml").read_text())
    if isinstance(config["registry"], str):
        config["registry"] = str(template.theirs / config["registry"])
    config["online_store"] = {"type": "remote", "path": str(url).rstrip("/")}
    folder = template.theirs.parent / name
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    return folder


def our_client_on_feasts_server(repo: Path, questions: list[Question], told: Answers) -> None:
    """What Feast's server says arrives unchanged in the SDK's answer."""
    with FeatureStore(repo_path=repo) as client:
        for question in questions:
            wanted, found = told[question.id], fastserve_side.ask_in_json(client, question)
            assert ("error" in wanted and "error" in found) or found == wanted, question


def feasts_client_on_our_server(questions: list[Question], ours: Answers, feasts: Answers) -> None:
    """Feast's client gets from our server what it gets from Feast's, down to the bytes of the Values."""
    for question in questions:
        got, wanted = ours[question.id], feasts[question.id]
        assert ("error" in got) == ("error" in wanted), (question, got, wanted)
        if "error" not in wanted:
            assert sorted(got["names"]) == sorted(wanted["names"])  # Feast's order differs from process to process
            for part in ("values", "raw"):
                assert got[part] == wanted[part], (question, part)


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
