"""The processes of the comparison: redis-server, Feast's side, and the servers. Each is stopped by its own id."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from interop.exchange import Json, Question, http_answer, read_lines, write_lines
from interop.forked import Forked, Zygotes
from tests.servers import free_port

__all__ = ["FEAST_PYTHON", "STORES", "ZYGOTES", "FeastSide", "ask_server", "make_repository", "serving"]

ROOT = Path(__file__).resolve().parent.parent
FEAST_PYTHON = Path(os.environ.get("FEAST_PYTHON") or ROOT / ".venv-feast" / "bin" / "python")
ZYGOTES = Zygotes(FEAST_PYTHON)
STORES = ("redis", "sqlite")

START_SECONDS = 90.0
STOP_SECONDS = 20.0


def make_repository(folder: Path, store: str) -> Path:
    """Make the folder of a repository on one store; nothing is applied yet."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "interop" / "bank" / f"{store}.yaml", folder / "feature_store.yaml")
    return folder


class FeastSide:
    """Runs Python modules in the environment that has Feast.

    Args:
        folder: for questions, answers and logs.
        environment: variables that feature_store.yaml names.
    """

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder = folder
        library = folder / "lib"
        library.mkdir(parents=True)
        # The folder `interop` and nothing else of the project: fastserve must be the installed one.
        (library / "interop").symlink_to(ROOT / "interop")
        self.environment = {**os.environ, **environment, "PYTHONPATH": str(library), "PYTHONWARNINGS": "ignore"}

    def run(self, *arguments: str | Path, environment: dict[str, str] | None = None, bare: bool = False) -> None:
        """Run `python -m ...`.

        Args:
            bare: in a Python that has imported nothing; otherwise in one that has imported Feast.

        Raises:
            RuntimeError: with the end of what it printed.
        """
        command = ["-m", *map(str, arguments)]
        variables = {**self.environment, **(environment or {})}
        with tempfile.NamedTemporaryFile(dir=self.folder) as output:
            process = (start if bare else ZYGOTES.start)(command, variables, self.folder, Path(output.name))
            if process.wait():
                said = Path(output.name).read_text()[-4000:]
                raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}\n{said}")

    def prepare(self, repos: Iterable[Path]) -> None:
        """Apply and materialize each repository, all at the same time."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda repo: self.run("interop.feast_side", "prepare", repo), repos))

    def answers(self, repo: Path, questions: Sequence[Question]) -> dict[str, Json]:
        """Return the answers of Feast's SDK by the questions' ids."""
        return self.all_answers([(repo, questions)])[0]

    def all_answers(self, asked: Sequence[tuple[Path, Sequence[Question]]]) -> list[dict[str, Json]]:
        """Do the same for several repositories, one after the other in one process."""
        files = [(repo, self.folder / f"{repo.name}-asked", self.folder / f"{repo.name}-answered") for repo, _ in asked]
        for (_, path, _), (_, questions) in zip(files, asked, strict=True):
            write_lines(path, (question.to_json() for question in questions))
        self.run("interop.feast_side", "answer", *(path for three in files for path in three))
        return [{answer["id"]: answer for answer in read_lines(answered)} for _, _, answered in files]


# --- processes -------------------------------------------------------------------------------------------------------

Process = Forked | subprocess.Popen[bytes]


def start(command: list[str], environment: dict[str, str], folder: Path, output: Path) -> subprocess.Popen[bytes]:
    """Start a Python of Feast's that has imported nothing; as `ZYGOTES.start`."""
    return popen([str(FEAST_PYTHON), *command], environment, folder, output)


def popen(command: list[str], environment: dict[str, str], folder: Path, output: Path) -> subprocess.Popen[bytes]:
    """Start a program that reads nothing."""
    with output.open("wb") as file:
        return subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )


FEAST_SERVE = [str(FEAST_PYTHON.with_name("feast"))]
OUR_SERVE = [sys.executable, "-c", "from fastserve.cli import main; main()"]


@contextlib.contextmanager
def serving(command: list[str], repo: Path, environment: dict[str, str], *options: str) -> Iterator[httpx.Client]:
    """Start `feast serve` or `fastserve serve` on a free port and yield a client of it; stop it in the end."""
    log = repo.with_name(f"{repo.name}-{Path(command[0]).name}.log")
    port = free_port()
    arguments = [*command, "-c", str(repo), "serve", "-p", str(port), "--no-access-log", *options]
    begin = ZYGOTES.start if command is FEAST_SERVE else popen
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        process = begin(arguments, {**os.environ, **environment}, ROOT, log)
        try:
            wait_until_healthy(process, client, log)
            yield client
        finally:
            stop(process)


def wait_until_healthy(process: Process, client: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if client.get("/health").status_code == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} does not answer:\n{log.read_text()[-4000:]}")


def stop(process: Process) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ask_server(client: httpx.Client, questions: Iterable[Question]) -> dict[str, Json]:
    """Return the answers of a server by the questions' ids."""
    return {question.id: http_answer_to(client, question) for question in questions}


def http_answer_to(client: httpx.Client, question: Question) -> Json:
    answer = client.post("/get-online-features", json=question.body())
    kind = answer.headers.get("content-type")
    if (answer.status_code, kind) != (200, "application/json"):
        return {"id": question.id, "error": f"{answer.status_code} {kind} {answer.text[:500]}"}
    return http_answer(question.id, answer.json())
