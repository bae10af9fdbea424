"""A real `fastserve serve` for the tests, on a free port, stopped by its own process id.

with FeatureServer.start(repo, log) as server:
    server.client.post("/get-online-features", json={...})
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx

from tests.servers import free_port

START_SECONDS = 30.0
STOP_SECONDS = 15.0


@dataclass
class FeatureServer:
    """A running server; a context manager that stops it.

    Attributes:
        process: `fastserve serve`.
        client: asks it.
        log: what it wrote to stdout and stderr.
    """

    process: subprocess.Popen[bytes]
    port: int
    client: httpx.Client
    log: Path

    @classmethod
    def start(cls, repo: Path, log: Path, *options: str, authority: Path | None = None) -> FeatureServer:
        """Start a server of a repository and wait until it answers.

        Args:
            log: the file for what it writes.
            options: of `fastserve serve`.
            authority: vouches for its certificate; with it the client speaks TLS.

        Raises:
            RuntimeError: it did not start; the text is its log.
        """
        port = free_port()
        command = [sys.executable, "-m", "fastserve", "-c", str(repo), "serve", "-p", str(port), *options]
        scheme = "http" if authority is None else "https"
        verify = authority is None or ssl.create_default_context(cafile=str(authority))
        # Proxies of the environment are for other hosts than ours.
        client = httpx.Client(base_url=f"{scheme}://localhost:{port}", verify=verify, timeout=20, trust_env=False)
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment())
        server = cls(process, port, client, log)
        if not server.wait():
            server.stop()
            raise RuntimeError(f"fastserve serve did not start:\n{log.read_text()}")
        return server

    def wait(self) -> bool:
        """Wait until the server answers; False if it does not."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                return self.client.get("/health").status_code == 200
            except httpx.TransportError:
                time.sleep(0.05)
        return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the server by a signal and return its exit status; it may be stopped already."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def __enter__(self) -> FeatureServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a subprocess: ours, with variables, warnings that are errors, and no repository."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("FEATURE_", "FEAST_"))}
    return {**ours, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "error", **variables}
