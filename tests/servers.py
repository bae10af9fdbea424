"""Real servers for the tests: each on a free port, stopped by its own process id.

with RedisServer.start(folder) as server:
    server.port, server.connection_string, server.client()

with RedisServer.start(folder, password="...", tls=Certificates.make(folder)) as server:
    server.unix_socket, server.tls_port, server.tls

with PostgresServer.start() as server:
    server.port, server.database("name"), server.psql("name", "SELECT 1")
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

START_SECONDS = 10.0
STOP_SECONDS = 5.0


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Certificates:
    """Files of a self-made authority and of a server and a client that it vouches for.

    Attributes:
        ca: the authority's certificate.
        cert, key: of the server, for `localhost` and `127.0.0.1`.
        client_cert, client_key: of a client, for servers that ask for one.
    """

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """Write new certificates into `folder`, which is created."""
        import trustme

        folder.mkdir(parents=True, exist_ok=True)
        files = cls(*(folder / f"{name}.pem" for name in ("ca", "cert", "key", "client_cert", "client_key")))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(files.ca))
        for issued, cert, key in [
            (authority.issue_cert("localhost", "127.0.0.1"), files.cert, files.key),
            (authority.issue_cert("client@bank.example"), files.client_cert, files.client_key),
        ]:
            issued.cert_chain_pems[0].write_to_path(str(cert))
            issued.private_key_pem.write_to_path(str(key))
        return files


@dataclass
class RedisServer:
    """A running redis-server; a context manager that stops it.

    Attributes:
        process: the server.
        port: of plain TCP on 127.0.0.1.
        unix_socket: path of the socket file.
        password: of the default user, or None.
        tls_port: of TLS on 127.0.0.1, or None.
        tls: the certificates, or None.
    """

    process: subprocess.Popen[bytes]
    port: int
    unix_socket: Path
    log: Path
    password: str | None = None
    tls_port: int | None = None
    tls: Certificates | None = None

    @classmethod
    def start(
        cls,
        folder: Path,
        *options: str,
        password: str | None = None,
        tls: Certificates | None = None,
        port: int | None = None,
    ) -> RedisServer:
        """Start a server that keeps nothing on disk, and wait until it answers.

        Args:
            folder: for the log and the socket; created. Its path must be short: a socket's has at most 107 bytes.
            options: more of redis-server's, such as "--maxmemory", "1mb".
            password: of the default user.
            tls: certificates; with them the server listens on a TLS port too, and asks clients for none.
            port: of a server that ran before; a free one by default.
        Raises:
            RuntimeError: it did not start; the text is the end of its log.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # Another process may take a free port between the look and the start.
        for _ in range(5):
            server = cls._launch(folder, options, password, tls, port or free_port())
            if server._wait():
                return server
            server.stop()
        raise RuntimeError(f"redis-server did not start:\n{server.log.read_text()[-2000:]}")

    @classmethod
    def _launch(
        cls, folder: Path, options: tuple[str, ...], password: str | None, tls: Certificates | None, port: int
    ) -> RedisServer:
        executable = shutil.which("redis-server")
        if executable is None:
            raise RuntimeError("redis-server is not installed; `make test` installs it")
        unix_socket, log = folder / "redis.sock", folder / "redis.log"
        command = [executable, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
        command += ["--dir", str(folder), "--unixsocket", str(unix_socket), "--logfile", str(log), *options]
        tls_port = free_port() if tls is not None else None
        if password is not None:
            command += ["--requirepass", password]
        if tls is not None:
            command += ["--tls-port", str(tls_port), "--tls-auth-clients", "optional"]
            command += ["--tls-ca-cert-file", str(tls.ca), "--tls-cert-file", str(tls.cert)]
            command += ["--tls-key-file", str(tls.key)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return cls(process, port, unix_socket, log, password, tls_port, tls)

    def _wait(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while time.monotonic() < deadline and self.process.poll() is None:
                # Another server on the same port would answer too: ask who it is.
                with contextlib.suppress(redis.RedisError):
                    info: Any = client.info("server")
                    return bool(info["process_id"] == self.process.pid)
                time.sleep(0.01)
        return False

    def client(self, **options: Any) -> redis.Redis:
        """Return a new redis-py client over plain TCP, with the password; the caller closes it."""
        return redis.Redis(host="127.0.0.1", port=self.port, password=self.password, **options)

    @property
    def connection_string(self) -> str:
        """Feast's form of the address over plain TCP: `host:port[,password=...]`."""
        return f"127.0.0.1:{self.port}" + (f",password={self.password}" if self.password else "")

    def stop(self) -> None:
        """Stop the server; it may be stopped already."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


POSTGRES_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
"""Where packages put the server's programs, of which Debian has only some on the path."""


@dataclass
class PostgresServer:
    """A running PostgreSQL; a context manager that stops it and removes its files.

    Attributes:
        process: the server.
        port: of 127.0.0.1; the user `postgres` needs no password.
        folder: its data and log.
    """

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    @classmethod
    def start(cls) -> PostgresServer:
        """Start a server with an empty cluster, and wait until it answers.

        The cluster is in a folder of its own in /tmp: the server refuses to be root, and whoever it is instead cannot
        get into pytest's folders.

        Raises:
            RuntimeError: it did not start; the text is the end of its log.
        """
        folder = Path(tempfile.mkdtemp(prefix="fspg", dir="/tmp"))
        if os.getuid() == 0:
            os.chown(folder, *_unprivileged())
        command = [_postgres_program("initdb"), "-D", str(folder / "data"), "-U", "postgres", "--auth=trust"]
        command += ["--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **_as_postgres(folder))
        for _ in range(5):
            server = cls._launch(folder)
            if server._wait():
                return server
            server._end()
        text = (folder / "log").read_text()[-2000:]
        shutil.rmtree(folder)
        raise RuntimeError(f"postgres did not start:\n{text}")

    @classmethod
    def _launch(cls, folder: Path) -> PostgresServer:
        port = free_port()
        command = [_postgres_program("postgres"), "-D", str(folder / "data"), "-p", str(port)]
        for setting in ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=60"):
            command += ["-c", setting]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **_as_postgres(folder))
        return cls(process, port, folder)

    def _wait(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            # Another server on the same port would answer too: the file tells when this one has it.
            with contextlib.suppress(OSError):
                if (self.folder / "data/postmaster.pid").read_text().rstrip().endswith("ready"):
                    return True
            time.sleep(0.02)
        return False

    def database(self, name: str) -> str:
        """Create an empty database and return its address, in Feast's form."""
        self.psql("postgres", f'CREATE DATABASE "{name}"')
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def psql(self, database: str, statement: str) -> list[Any]:
        """Run a statement and return its rows."""
        import psycopg

        address = f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        """Stop the server, whoever is connected, and remove its files."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)  # it ends its own children, which a kill would leave
        self.process.wait()

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _postgres_program(name: str) -> str:
    found = shutil.which(name) or max((p for f in POSTGRES_FOLDERS for p in glob.glob(f"{f}/{name}")), default=None)
    if found is None:
        raise RuntimeError(f"{name} of PostgreSQL is not installed; `make test` installs it")
    return found


def _unprivileged() -> tuple[int, int]:
    """Return user and group that a server may run as when the tests are root."""
    names = [user.pw_name for user in pwd.getpwall()]
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return user.pw_uid, user.pw_gid


def _as_postgres(folder: Path) -> dict[str, Any]:
    # Settings of the person who runs the tests, such as PGDATA, are not for this server.
    options: dict[str, Any] = {"cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}}
    if os.getuid() == 0:
        user, group = _unprivileged()
        options |= {"user": user, "group": group, "extra_groups": []}
    return options
