"""`fastserve serve`: uvicorn, its sockets, workers, certificates and signals.

Whatever can go wrong at the start is tried here, in the first process and before any worker starts, so that it ends in
one clear error. The listening socket is opened here too; stores, connections and threads belong to the workers.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from fastserve.config import Config
from fastserve.errors import FastserveError, RequestError
from fastserve.feature_store import FeatureStore
from fastserve.server.auth import Gate
from fastserve.server.logs import LOG_FORMATS, log_config

if TYPE_CHECKING:
    import uvicorn

    from fastserve.server.hooks import Observation
    from fastserve.server.limits import Life

__all__ = ["ServeOptions", "serve"]

logger = logging.getLogger("fastserve.server")

BACKLOG = 2048


NUMBERS = (
    *(
        "port",
        "metrics_port",
        "max_requests",
        "max_requests_jitter",
        "keep_alive_timeout",
        "registry_ttl_sec",
        "timeout",
    ),
    *("header_timeout", "body_timeout", "max_body_bytes", "max_entities", "max_in_flight", "drain_seconds"),
)
"""Options that are not negative."""


@dataclass(frozen=True)
class ServeOptions:
    """How to serve; names and defaults are those of `feast serve`, but workers are not recycled unless asked.

    Args:
        port: 0 takes a free one, which the log tells.
        access_log: log each request.
        workers: processes; -1 is twice the CPUs and one.
        worker_connections: of one worker at a time; further ones get 503.
        max_requests: after so many a worker is replaced; 0 is never.
        max_requests_jitter: up to so many more, so that the workers are not all replaced at once.
        keep_alive_timeout: seconds.
        registry_ttl_sec: seconds between two looks at the registry, instead of what the configuration says; 0 is never.
        tls_key_path, tls_cert_path: PEM files, both or none.
        log_level: of the server, such as "info".
        timeout: seconds that a read may take, then 504; the header X-Request-Timeout-Ms can shorten it. 0 leaves it to
            the online store's own time-out.
        header_timeout: seconds that the headers of a request may take to come, then 408; 0 is for ever.
        body_timeout: likewise the body.
        max_body_bytes: of a request, larger ones get 413; 0 is any.
        max_entities: rows of a read, more get 413; 0 is any.
        max_in_flight: reads and writes at hand of one worker, further ones get 503; 0 is any.
        drain_seconds: on SIGTERM, how long to go on answering (while /readyz says 503) before the socket is closed.
        fast_lane: answer reads past ASGI; the answers are the same.
        metrics: answer Prometheus on a port of its own too; `feature_server: metrics: enabled` does the same.
        metrics_port: that port; 0 takes a free one.
        log_format: of messages and access log: text or json.
    Raises:
        RequestError: an option is out of range, or only one of key and certificate is given.
    """

    host: str = "127.0.0.1"
    port: int = 6566
    access_log: bool = True
    workers: int = 1
    worker_connections: int = 1000
    max_requests: int = 0
    max_requests_jitter: int = 50
    keep_alive_timeout: int = 30
    registry_ttl_sec: float | None = None
    tls_key_path: str = ""
    tls_cert_path: str = ""
    log_level: str = "info"
    timeout: float = 0
    header_timeout: float = 10
    body_timeout: float = 60
    max_body_bytes: int = 64 << 20
    max_entities: int = 100_000
    max_in_flight: int = 1000
    drain_seconds: float = 0
    fast_lane: bool = True
    metrics: bool = False
    metrics_port: int = 8000
    log_format: str = "text"

    def __post_init__(self) -> None:
        if self.workers < 1 and self.workers != -1:
            raise RequestError(f"workers: {self.workers}; expected 1 or more, or -1 for twice the CPUs and one")
        if self.worker_connections < 1:
            raise RequestError(f"worker_connections: {self.worker_connections}; expected 1 or more")
        for name in NUMBERS:
            if not (getattr(self, name) or 0) >= 0:
                raise RequestError(f"{name}: {getattr(self, name)}; expected 0 or more")
        if self.log_format not in LOG_FORMATS:
            raise RequestError(f"log_format: {self.log_format!r}; expected {' or '.join(LOG_FORMATS)}")
        if bool(self.tls_key_path) != bool(self.tls_cert_path):
            raise RequestError("-k/--key and -c/--cert belong together: give both, or none")

    @property
    def process_count(self) -> int:
        """The number of workers."""
        return 2 * (os.cpu_count() or 1) + 1 if self.workers == -1 else self.workers


def serve(config: Config, options: ServeOptions | None = None) -> None:
    """Serve a repository over HTTP until SIGTERM or SIGINT, then finish the requests at hand and return.

    Call it from the main thread; it takes over the signals.

    Raises:
        ConfigError, RegistryError: the repository cannot be served.
        FastserveError: the address is taken, the certificate unreadable, or the extra `server` is not installed.
    """
    options = options or ServeOptions()
    if options.registry_ttl_sec is not None:
        section = replace(config.fastserve, registry_refresh_seconds=options.registry_ttl_sec)
        config = replace(config, fastserve=section)
    life = _life(options)
    _check_certificate(options)
    Gate(config)
    with FeatureStore(config=config) as store:
        store.check_registry()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(contextlib.closing(_listen(options.host, options.port)))
        observation = _observation(config, options, stack)
        server_config = _uvicorn_config(config, options, life, observation)
        stack.enter_context(_quiet_end())
        scheme = "https" if options.tls_cert_path else "http"
        address = _address(scheme, listener)
        logging.getLogger("uvicorn.error").info(
            "project %s on %s, documentation at %s/docs", config.project, address, address
        )
        _run(server_config, options, life, listener)


def _address(scheme: str, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _observation(config: Config, options: ServeOptions, stack: contextlib.ExitStack) -> Observation:
    """Return how the processes are observed; what they share is made here, and given back when the stack is closed."""
    from fastserve.server.cells import make_folder, remove_folder
    from fastserve.server.hooks import Observation

    section = config.feature_server.get("metrics") or {}
    listener = None
    if options.metrics or section.get("enabled"):
        listener = stack.enter_context(contextlib.closing(_listen(options.host, options.metrics_port)))
    folder = make_folder()
    stack.callback(remove_folder, folder)
    return Observation(folder, options.access_log, options.log_format, listener)


def _life(options: ServeOptions) -> Life:
    from fastserve.server.limits import Life, Limits

    limits = Limits(
        connections=options.worker_connections,
        in_flight=options.max_in_flight,
        body_bytes=options.max_body_bytes,
        entities=options.max_entities,
        timeout=options.timeout,
        header_timeout=options.header_timeout,
        body_timeout=options.body_timeout,
        keep_alive=options.keep_alive_timeout,
    )
    return Life(limits)


def _uvicorn_config(config: Config, options: ServeOptions, life: Life, observation: Observation) -> uvicorn.Config:
    try:
        import uvicorn

        from fastserve.server.app import create_app
        from fastserve.server.fastlane import FastLane
        from fastserve.server.protocol import HttpProtocol
        from fastserve.server.workers import GRACE_SECONDS
    except ModuleNotFoundError as exc:
        raise FastserveError(
            f"{exc.name} is not installed, the server needs it: pip install 'fastserve[server]'"
        ) from None
    return uvicorn.Config(
        functools.partial(create_app, config=config, life=life, observation=observation),
        factory=True,
        http=FastLane if options.fast_lane else HttpProtocol,
        interface="asgi3",
        lifespan="on",
        ws="none",
        access_log=False,  # ours has more in it
        log_level=options.log_level,
        log_config=log_config(options.log_format, options.log_level),
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=BACKLOG,
        ssl_keyfile=options.tls_key_path or None,
        ssl_certfile=options.tls_cert_path or None,
        **_recycling(options),
    )


def _recycling(options: ServeOptions) -> dict[str, Any]:
    if not options.max_requests:
        return {}
    return {"limit_max_requests": options.max_requests, "limit_max_requests_jitter": options.max_requests_jitter}


def _check_certificate(options: ServeOptions) -> None:
    if not options.tls_cert_path:
        return
    for path in (options.tls_cert_path, options.tls_key_path):
        try:
            with open(path, "rb"):
                pass
        except OSError as exc:
            raise FastserveError(f"{path} cannot be read: {exc.strerror}") from None
    try:
        # The password keeps an encrypted key from asking for one on the terminal.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls_cert_path, options.tls_key_path, password=lambda: b"")
    except (ssl.SSLError, ValueError) as exc:
        reason = getattr(exc, "reason", None) or exc
        files = f"certificate {options.tls_cert_path} and key {options.tls_key_path}"
        raise FastserveError(f"{files} cannot be used: {reason}") from None


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Now and not in the workers: only a listening socket keeps others off the port.
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as exc:
        listener.close()
        raise FastserveError(f"cannot listen on {host}:{port}: {getattr(exc, 'strerror', None) or exc}") from None
    listener.set_inheritable(True)
    return listener


def _run(config: uvicorn.Config, options: ServeOptions, life: Life, listener: socket.socket) -> None:
    from fastserve.server.workers import Server, Workers

    if options.process_count == 1 and not options.max_requests:
        server = Server(config, life, options.drain_seconds)
        server.run([listener])
        if not server.started:
            raise FastserveError("the server did not start; the log says why")
        return
    # A worker that ends after its last request needs somebody who starts the next.
    parent = os.getpid()
    workers = Workers(
        lambda: Server(config, life, options.drain_seconds, parent).run([listener]), options.process_count
    )
    if workers.run():
        raise FastserveError("the server did not start; the log says why")


@contextlib.contextmanager
def _quiet_end() -> Iterator[None]:
    """uvicorn finishes its work on SIGTERM and SIGINT and then raises the signal again; here that is the normal end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        signal.signal(signal.SIGTERM, lambda *_: None)
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
