"""Processes of Feast's Python, each forked from one that has imported Feast already: see `zygote.py`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["Forked", "Zygotes"]

START_SECONDS = 300.0  # seconds of work, but others may work too
STOP_SECONDS = 20.0


class Forked:
    """A running process, with methods of `subprocess.Popen`.

    Args:
        connection: to a zygote that has got the job.
    """

    def __init__(self, args: Sequence[str], connection: socket.socket):
        self.args = args
        self.returncode: int | None = None
        self._connection = connection
        self._lines = connection.makefile()
        self.pid = int(self._lines.readline())

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def terminate(self) -> None:
        """Send it SIGTERM, if it runs."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL, if it runs."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _ended(self, timeout: float | None) -> int | None:
        # After the status the connection is closed, so there is something to see even if the status is here already.
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            self.returncode = int(self._lines.readline())
            self._lines.close()
            self._connection.close()
        return self.returncode


class Zygote:
    """A zygote; it goes on importing when this returns.

    Args:
        hash_seed: PYTHONHASHSEED of all that it forks; "" for a random one.
    """

    def __init__(self, python: Path, hash_seed: str):
        self._folder = Path(tempfile.mkdtemp(prefix="fs", dir="/tmp"))  # pytest's are too long for unix sockets
        self._address, self._log = str(self._folder / "socket"), self._folder / "log"
        seed = {"PYTHONHASHSEED": hash_seed} if hash_seed else {}
        environment = {**os.environ, **seed, "PYTHONWARNINGS": "ignore"}
        environment.pop("PYTHONPATH", None)
        command = [str(python), str(Path(__file__).with_name("zygote.py")), self._address]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
            )

    def start(self, arguments: Sequence[str], environment: dict[str, str], folder: Path, output: Path) -> Forked:
        """Start a process.

        Args:
            arguments: of Python: `-m` and a module, or the path of a script; and what follows.
            folder: the current one.
            output: a file, for what it prints.
        """
        job = {"arguments": arguments, "environment": environment, "folder": str(folder), "output": str(output)}
        connection = self._connect()
        connection.sendall(json.dumps(job).encode() + b"\n")
        return Forked(arguments, connection)

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            connection = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                connection.connect(self._address)
                return connection
            connection.close()
            time.sleep(0.05)
        raise RuntimeError(f"{self._process.args!r} does not start:\n{self._log.read_text()[-4000:]}")

    def stop(self) -> None:
        """End it, and not what it has forked."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(STOP_SECONDS)
        shutil.rmtree(self._folder)


class Zygotes:
    """The zygotes of one Python, one for each hash seed that is asked for."""

    def __init__(self, python: Path):
        self._python = python
        self._lock = threading.Lock()
        self._by_seed: dict[str, Zygote] = {}

    def start(self, arguments: Sequence[str], environment: dict[str, str], folder: Path, output: Path) -> Forked:
        """Start a process: as `Zygote.start`, with the PYTHONHASHSEED of its environment."""
        return self._of(environment.get("PYTHONHASHSEED", "")).start(arguments, environment, folder, output)

    def _of(self, seed: str) -> Zygote:
        with self._lock:
            if seed not in self._by_seed:
                self._by_seed[seed] = Zygote(self._python, seed)
            return self._by_seed[seed]

    def stop(self) -> None:
        """End all of them."""
        with self._lock:
            while self._by_seed:
                self._by_seed.popitem()[1].stop()
