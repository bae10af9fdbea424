"""What the benchmarks share: a Redis of their own, subjects in processes of their own, places on the cores."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

__all__ = [
    "ATTEMPTS",
    "BENCH",
    "CORES",
    "Subject",
    "awake",
    "compile_client",
    "cpu_time",
    "feast_python",
    "pin",
    "preferred",
    "redis_server",
    "remote_client",
    "run",
    "undisturbed",
]

BENCH = Path(__file__).parent
CORES = sorted(os.sched_getaffinity(0))

CLIENT = """\
project: bank
provider: local
registry: {registry}
online_store: {{type: remote, path: "http://127.0.0.1:{port}"}}
entity_key_serialization_version: 3
"""


@contextlib.contextmanager
def redis_server() -> Iterator[tuple[int, int]]:
    """A Redis of our own on a free port, without persistence: (port, process id)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def remote_client(folder: Path, repository: Path, port: int) -> Path:
    """Write the feature_store.yaml of a client of a repository's server, which both SDKs take; return its folder."""
    folder.mkdir(exist_ok=True)
    (folder / "feature_store.yaml").write_text(CLIENT.format(registry=repository / "registry.db", port=port))
    return folder


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Keep the cores from going to sleep between the two ends of a round trip.

    A virtual machine's core that has nothing to do is taken away, and how long it takes to come back, 30 us or 300,
    depends on the other guests of the machine. So each core has a process that runs only when no other wants to.
    """
    spin = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    spinners = []
    try:
        for core in CORES:
            spinners.append(subprocess.Popen([sys.executable, "-c", spin]))
            os.sched_setaffinity(spinners[-1].pid, {core})
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


ATTEMPTS = 3
STOLEN = 0.01  # of the cores' time: so much may be taken from a measurement without another attempt
TICKS = os.sysconf("SC_CLK_TCK")
T = TypeVar("T")


def undisturbed(measure: Callable[[], T], attempts: int = ATTEMPTS) -> tuple[T, float]:
    """Measure, again if the host gave our time to other guests; return what the quietest attempt found, and its share.

    The share is of all cores' time, by the kernel's count of what was stolen. With a tenth of it gone a rate halves and
    a p99 is the length of the gaps; a subject that works for milliseconds at a time shows it less than one woken
    for microseconds.
    """
    made = []
    for _ in range(attempts):
        before, start = stolen(), time.monotonic()
        found = measure()
        share = (stolen() - before) / (time.monotonic() - start) / (os.cpu_count() or 1)
        made.append((found, share))
        if share <= STOLEN:
            break
    return min(made, key=lambda attempt: attempt[1])


def stolen() -> float:
    """Seconds that all cores were ready to run and did not, because the host ran others."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / TICKS


def pin(process: int, core: int) -> None:
    """Bind all threads of a process to one core."""
    for thread in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


@contextlib.contextmanager
def preferred(process: int) -> Iterator[None]:
    """Let a process run at once whenever it wants to, before whoever shares its core, if that is allowed.

    Redis answers in microseconds, but the scheduler gives its neighbour, a busy client, milliseconds at a time. What a
    server waits for that is no property of the server, and where Redis has a machine of its own there is no such wait.
    """
    threads = [int(thread.name) for thread in Path(f"/proc/{process}/task").iterdir()]
    with contextlib.suppress(PermissionError):
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


class Subject:
    """A worker process that measures on demand; when all that were started have got ready.

    Args:
        script: the worker, in compare/.
        name: what it is to measure: feast, fastserve or floor.
        core: the core to bind it to; None leaves it free.
        arguments: more of the worker's.
    """

    def __init__(self, python: str, script: str, name: str, folder: Path, core: int | None = None, *arguments: str):
        command = [python, str(BENCH / "compare" / script), name, str(folder), *arguments]
        self.name = name
        environment = {**os.environ, "FEAST_USAGE": "False", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
        )
        if core is not None:
            os.sched_setaffinity(self.process.pid, {core})
        Subject._starting.append(self.process.pid)

    _starting: ClassVar[list[int]] = []

    def measure(self, **job: Any) -> dict[str, Any]:
        """Hand over one job and return what was measured. Ends the run if the worker has ended."""
        while Subject._starting:  # Feast imports for seconds, on the core that others are measured on
            wait_for_rest(Subject._starting.pop())
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with status {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the worker."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def wait_for_rest(process: int, seconds: float = 0.3) -> None:
    """Wait until a process has worked, and then not for so long: it has started, and waits for a job."""
    before, since, end = 0.0, time.monotonic(), time.monotonic() + 60
    while (before == 0 or time.monotonic() - since < seconds) and time.monotonic() < end:
        now = cpu_time(process)
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.02)


def cpu_time(process: int) -> float:
    """The CPU time of a process, and of its children that have ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def run(command: list[str], folder: Path) -> str:
    """Run a command to its end and return what it printed; a failure ends the run with it."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def compile_client() -> None:
    """Compile compare/httploop.pyx, if that was not done or it has changed since."""
    source = BENCH / "compare/httploop.pyx"
    built = list(source.parent.glob("httploop.*.so"))
    if not built or built[0].stat().st_mtime < source.stat().st_mtime:
        run([sys.executable, "-m", "Cython.Build.Cythonize", "-q", "-i", "-3", str(source)], BENCH.parent)


def feast_python() -> str:
    """The Python of Feast's environment: made by interop/setup.sh, or given as FEAST_PYTHON."""
    if given := os.environ.get("FEAST_PYTHON"):
        return given
    subprocess.run([str(BENCH.parent / "interop/setup.sh")], check=True)
    return str(BENCH.parent / ".venv-feast/bin/python")
