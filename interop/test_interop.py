"""The same random questions to Feast and to fastserve, on data that Feast wrote: equal answers, but for what
`differences` names.

Of the SDKs: values of `to_dict`, exactly and with their types; event times of `to_dict`; statuses, event times and the
bytes of every Value of the protobuf message; versions of views. Of the servers: the parsed JSON, all of it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fastserve import FeatureStore
from interop import fastserve_side
from interop.comparing import Answers, compare
from interop.differences import feast_questions
from interop.exchange import answer, read_lines, write_lines
from interop.prepared import Prepared
from interop.sides import FEAST_PYTHON, FEAST_SERVE, OUR_SERVE, ROOT, STORES, ask_server, serving

IN_ONE_PROCESS = 60


@pytest.fixture(scope="module")
def feast_answers(bank: Prepared) -> dict[str, Answers]:
    """The answers of Feast's SDK, by store."""
    with ThreadPoolExecutor() as pool:
        found = {
            store: pool.submit(bank.feast.answers, repo, bank.questions_to_feast(bank.side(store)))
            for store, repo in bank.repos.items()
        }
        return {store: future.result() for store, future in found.items()}


@pytest.fixture(scope="module")
def server_answers(bank: Prepared) -> dict[str, tuple[Answers, Answers]]:
    """The answers of Feast's server and of fastserve's, by store."""

    def ask(store: str) -> tuple[Answers, Answers]:
        repo = bank.repos[store]
        with (
            # Feast's workers end after a thousand requests, unless told otherwise.
            serving(FEAST_SERVE, repo, bank.environment, "--max-requests", "1000000") as feast,
            serving(OUR_SERVE, repo, bank.environment) as ours,
        ):
            return (
                ask_server(feast, bank.questions_to_feast(bank.side(store, http=True))),
                ask_server(ours, bank.questions_over_http),
            )

    with ThreadPoolExecutor() as pool:
        return dict(zip(STORES, pool.map(ask, STORES), strict=True))


@pytest.mark.parametrize("store", STORES)
def test_sdk(bank: Prepared, feast_answers: dict[str, Answers], store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bank.environment.items():
        monkeypatch.setenv(name, value)
    with FeatureStore(repo_path=bank.repos[store]) as ours:
        answers = {q.id: answer(q, lambda q: fastserve_side.ask(ours, q)) for q in bank.questions}
    compare(bank.side(store), bank.questions, feast_answers[store], answers, feast_answers[store])


@pytest.mark.parametrize("store", STORES)
def test_http(
    bank: Prepared,
    feast_answers: dict[str, Answers],
    server_answers: dict[str, tuple[Answers, Answers]],
    store: str,
) -> None:
    side = bank.side(store, http=True)
    compare(side, bank.questions_over_http, *server_answers[store], feast_answers[store])


@pytest.mark.parametrize("first", ["feast", "fastserve"])
def test_one_process(bank: Prepared, first: str) -> None:
    """Both packages imported, in either order, and used in turn on both stores."""
    folder = bank.feast.folder / f"{first}-first"
    folder.mkdir()
    # Those that Feast answers in one go.
    questions = [q for q in bank.questions if feast_questions(bank.side("redis"), q) == [q]][:IN_ONE_PROCESS]
    write_lines(folder / "questions", (question.to_json() for question in questions))
    bank.feast.run("interop.both_sides", first, folder, *bank.repos.values(), environment=beside_feast(bank), bare=True)
    for store, repo in bank.repos.items():
        feasts, ours = ({a["id"]: a for a in read_lines(folder / f"{repo.name}-{name}")} for name in ("feast", "ours"))
        compare(bank.side(store), questions, feasts, ours, feasts)
    print((folder / "process").read_text())


def beside_feast(bank: Prepared) -> dict[str, str]:
    """Return variables with which `import fastserve` works beside Feast: none where setup.sh installed it."""
    if FEAST_PYTHON.is_relative_to(ROOT):
        return {}
    path = {"PYTHONPATH": f"{bank.feast.environment['PYTHONPATH']}:{ROOT}"}
    try:
        bank.feast.run("fastserve.feature_store", environment=path)
    except RuntimeError as exc:
        pytest.skip(f"FEAST_PYTHON cannot import fastserve: {str(exc).splitlines()[-1]}")
    return path
