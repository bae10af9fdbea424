"""What is measured: one Redis with three databases of the same rows, a repository for each, and servers of them.

| repository | database | written by | vectors |
| --- | --- | --- | --- |
| regular | 0 | Feast | none |
| vectors | 1 | Feast | in Feast's format, built by Feast |
| packed | 2 | fastserve | packed, built by fastserve |

Services: `plain` and `everything` have all features; of the latter there are vectors.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import BENCH, CORES, pin, redis_server, remote_client, run
from serving import server

__all__ = ["WINDOW", "Places", "bodies", "keys_of", "places"]

DATABASES = {"regular": 0, "vectors": 1, "packed": 2}
WINDOW = ("2025-01-01", "2026-06-01")
OURS = [sys.executable, "-m", "fastserve"]


class Places:
    """The repositories, and the commands that serve them.

    Attributes:
        feast: Feast's Python.
        folders: repository -> its folder.
        stored: how many entities there are.
        port, redis: of the Redis, and its process.
    """

    def __init__(self, feast: str, base: Path, stored: int, port: int, redis: int):
        self.feast, self.base, self.stored, self.port, self.redis = feast, base, stored, port, redis
        self.folders = {name: base / name for name in DATABASES}
        self._running: dict[tuple[str, str], tuple[int, int]] = {}
        self._stack = contextlib.ExitStack()

    def prepare(self) -> None:
        """Fill the databases; the first two at the same time."""
        jobs = []
        for name in ("regular", "vectors"):
            self.folders[name].mkdir()
            target = [str(self.folders[name]), f"{self.port},db={DATABASES[name]}", str(self.stored)]
            options = ["vectors"] if name == "vectors" else []
            command = [self.feast, str(BENCH / "compare/prepare_feast.py"), *target, *options]
            jobs.append(
                subprocess.Popen(command, cwd=self.base, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            )
        for job in jobs:
            said = job.communicate()[0]
            if job.returncode:
                raise SystemExit(said)
        self._packed()

    def _packed(self) -> None:
        old, new = self.folders["vectors"], self.folders["packed"]
        shutil.copytree(old, new)
        file = new / "feature_store.yaml"
        config = file.read_text().replace(f"{old}/", f"{new}/")
        file.write_text(config.replace(f",db={DATABASES['vectors']}", f",db={DATABASES['packed']}"))
        run([*OURS, "-c", str(new), "materialize", *WINDOW], new)  # which builds the vectors too

    def served(self, product: str, name: str) -> tuple[int, int]:
        """Return port and process of a server of a repository, with one worker on the first core; started at first."""
        folder = str(self.folders[name])
        ours = [*OURS, "-c", folder, "serve", "--no-access-log", "-p"]
        feast = [str(Path(self.feast).with_name("feast")), "-c", folder, "serve", "--no-access-log"]
        return self._start(
            product, name, ours if product == "fastserve" else [*feast, "--max-requests", "1000000000", "-p"]
        )

    def recorded(self, upstream: int) -> tuple[int, int]:
        """Return the floor of HTTP: a server that repeats what the one at that port has answered."""
        return self._start(
            "recorder", str(upstream), [sys.executable, str(BENCH / "compare/recorder.py"), str(upstream)]
        )

    def _start(self, product: str, name: str, command: list[str]) -> tuple[int, int]:
        if (product, name) not in self._running:
            started = self._stack.enter_context(server(command, self.base))
            self._running[product, name] = started.port, started.process
        return self._running[product, name]

    def close(self) -> None:
        """End the servers; they are started again when they are wanted."""
        self._running.clear()
        self._stack.close()

    def client(self, name: str, port: int) -> Path:
        """Write the feature_store.yaml of a client of the server at a port, which both SDKs take."""
        folder = self.base / f"client-{port}"
        return remote_client(folder, self.folders[name], port)


@contextlib.contextmanager
def places(feast: str, stored: int) -> Iterator[Places]:
    """All of it, prepared; Redis has the last core."""
    with redis_server() as (port, redis), tempfile.TemporaryDirectory() as temporary:
        found = Places(feast, Path(temporary), stored, port, redis)
        with contextlib.closing(found):
            found.prepare()
            pin(redis, CORES[-1])
            yield found


def keys_of(numbers: list[int]) -> list[str]:
    """Entity keys in order: to others than those, Feast gives each other's vectors."""
    return [f"C{i:06d}" for i in sorted(numbers)]


def bodies(service: str, many: list[list[str]]) -> list[str]:
    """Bodies of HTTP requests for lists of entities. `service` as in compare/mode_worker.py."""
    import json

    sys.path.insert(0, str(BENCH / "compare"))
    from worker import references

    what = {"features": references()} if service == "list" else {"feature_service": service}
    names = {"full_feature_names": True} if service == "everything" else {}
    return [json.dumps({**what, "entities": {"customer_id": keys}, **names}) for keys in many]
