"""The port that Prometheus scrapes with `--metrics`: Feast's 8000, any path, no authentication."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fastserve.errors import FastserveError
from fastserve.server.exposition import CONTENT_TYPE

__all__ = ["MetricsPort"]

logger = logging.getLogger("fastserve.server")


class MetricsPort:
    """Listens from the start, and answers between `start` and `close`, on a thread of its own.

    Args:
        text: returns what is answered.
    Raises:
        FastserveError: the port is taken, or the address is none of this machine's.
    """

    def __init__(self, host: str, port: int, text: Callable[[], str]):
        try:
            self._server = _server(host, port, text)
        except (OSError, OverflowError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise FastserveError(f"cannot listen for metrics on {host}:{port}: {reason}") from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="fastserve-metrics", daemon=True)

    def start(self) -> None:
        """Start to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop, if it was started, and give the port back."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def _server(host: str, port: int, text: Callable[[], str]) -> ThreadingHTTPServer:
    import socket

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # a client that says nothing

        def do_GET(self) -> None:
            try:
                body, status = text().encode(), 200
            except Exception:
                # Whatever it is, Prometheus is to see that the scrape failed, and the operator why.
                logger.exception("the metrics cannot be read")
                body, status = b"the metrics cannot be read; the log says why\n", 500
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are not logged."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True

    return Server((host, port), Handler)
