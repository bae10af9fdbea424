"""Connecting to Redis: addresses, passwords, databases and TLS, right and wrong."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import socket
import ssl
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from fastserve.config import RedisConnection
from fastserve.errors import StoreError, StoreTimeoutError
from tests.conftest import PASSWORD
from tests.servers import Certificates, RedisServer, free_port
from tests.stores import scripted
from tests.stores.content import write_redis
from tests.stores.scripted import (
    PATIENCE,
    Peer,
    ScriptedServer,
    batch,
    connection_to,
    hang_up,
    numbers,
    numbers_of,
    opened,
    send_and_close,
    send_once,
    swallow,
)

IDS = [1, 2, 3]
SHORT = 0.3


def ask(options: RedisConnection) -> None:
    """Read ids, which must be stored there."""
    with opened(options) as connection:
        asked = batch(IDS)
        connection.read(asked, time.monotonic() + PATIENCE)
        assert numbers(asked) == numbers_of(IDS)


def fault(options: RedisConnection) -> StoreError:
    """Fail to connect, or to read ids; return the error, which names the server but no password."""
    with pytest.raises(StoreError) as caught:
        ask(options)
    text = str(caught.value)
    assert text.startswith(f"{options.name}: ")
    assert not options.password or options.password not in text
    return caught.value


def to(server: RedisServer, **options: Any) -> RedisConnection:
    return RedisConnection(**{"host": "127.0.0.1", "port": server.port, **options})


@pytest.fixture(scope="module")
def locked(short_folder: Path, certificates: Certificates) -> Iterator[RedisServer]:
    """A server with a password, TLS and the ids in databases 0 and 3."""
    with RedisServer.start(short_folder / "locked", password=PASSWORD, tls=certificates) as server:
        for db in (0, 3):
            with server.client(db=db) as client:
                write_redis(client, scripted.VIEW, scripted.rows(IDS))
        yield server


@pytest.fixture
def filled(empty_redis: RedisServer) -> RedisServer:
    """The open server with the ids in database 0."""
    with empty_redis.client() as client:
        write_redis(client, scripted.VIEW, scripted.rows(IDS))
    return empty_redis


class TestAddresses:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_tcp(self, filled: RedisServer, host: str) -> None:
        ask(to(filled, host=host))

    def test_unix_socket(self, filled: RedisServer) -> None:
        ask(RedisConnection(unix_socket_path=str(filled.unix_socket), port=free_port()))

    def test_refused(self) -> None:
        assert "Connection refused" in str(fault(RedisConnection(host="127.0.0.1", port=free_port())))

    def test_unknown_host(self) -> None:
        error = fault(RedisConnection(host="no-such-host.invalid", port=6379))
        assert "redis no-such-host.invalid:6379/0: cannot connect: " in str(error)

    @pytest.mark.parametrize("host", ["x" * 70, "a..b", "nul\0"])
    def test_impossible_host(self, host: str) -> None:
        assert "cannot connect: " in str(fault(RedisConnection(host=host)))

    def test_missing_unix_socket(self, tmp_path: Path) -> None:
        options = RedisConnection(unix_socket_path=str(tmp_path / "none.sock"))
        assert str(fault(options)) == f"redis {tmp_path}/none.sock/0: cannot connect: No such file or directory"

    def test_unix_socket_nobody_listens_on(self, short_folder: Path) -> None:
        path = short_folder / "deserted.sock"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
            assert "Connection refused" in str(fault(RedisConnection(unix_socket_path=str(path))))

    def test_unix_socket_path_too_long(self) -> None:
        assert "path too long" in str(fault(RedisConnection(unix_socket_path="/" + "x" * 200)))

    def test_every_address_of_a_host_is_tried(self, filled: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first refuses, the second never answers, the third is it."""
        with _full_listener() as (black_hole, _):
            found = [_tcp(free_port()), _tcp(black_hole), _tcp(filled.port)]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            ask(to(filled, host="several", socket_connect_timeout=3 * SHORT))

    def test_no_address_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with _full_listener() as (black_hole, _):
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [_tcp(black_hole)] * 3)
            start = time.monotonic()
            error = fault(RedisConnection(host="several", socket_connect_timeout=SHORT))
        assert isinstance(error, StoreTimeoutError)
        assert time.monotonic() - start < 3 * SHORT + 1


def _tcp(port: int) -> tuple[Any, ...]:
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)


class _full_listener:
    """A port whose queue of connections is full, so that the system leaves further ones without an answer."""

    def __enter__(self) -> tuple[int, list[socket.socket]]:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        port = int(self._listener.getsockname()[1])
        self._waiting: list[socket.socket] = []
        for _ in range(8):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            self._waiting.append(sock)
        return port, self._waiting

    def __exit__(self, *_: object) -> None:
        for sock in [*self._waiting, self._listener]:
            sock.close()


class TestDeadline:
    """`socket_connect_timeout` covers all of connecting."""

    def slow(self, options: RedisConnection) -> StoreTimeoutError:
        start = time.monotonic()
        error = fault(options)
        assert time.monotonic() - start < 3 * SHORT + 1
        assert isinstance(error, StoreTimeoutError)
        return error

    def test_no_connection(self) -> None:
        with _full_listener() as (port, _):
            error = self.slow(RedisConnection(host="127.0.0.1", port=port, socket_connect_timeout=SHORT))
        assert str(error) == f"redis 127.0.0.1:{port}/0: no connection within 0.3 s"

    def test_no_answer_to_auth(self) -> None:
        with ScriptedServer(swallow) as server:
            self.slow(connection_to(server, password=PASSWORD, socket_connect_timeout=SHORT))

    def test_an_answer_to_auth_one_byte_at_a_time(self) -> None:
        with ScriptedServer(lambda peer: peer.drip(b"+" + b"OK" * 100, 0.05)) as server:
            self.slow(connection_to(server, password=PASSWORD, socket_connect_timeout=SHORT))

    def test_no_answer_to_select(self) -> None:
        with ScriptedServer(swallow) as server:
            self.slow(connection_to(server, db=2, socket_connect_timeout=SHORT))

    def test_no_tls_handshake(self) -> None:
        with ScriptedServer(swallow) as server:
            self.slow(connection_to(server, ssl=True, socket_connect_timeout=SHORT))

    def test_a_tls_handshake_one_byte_at_a_time(self) -> None:
        record = b"\x16\x03\x03\x40\x00" + b"\x02" * 200
        with ScriptedServer(lambda peer: peer.drip(record, 0.05)) as server:
            self.slow(connection_to(server, ssl=True, socket_connect_timeout=SHORT))


class TestPasswordsAndDatabases:
    def test_right_password(self, locked: RedisServer) -> None:
        ask(to(locked, password=PASSWORD))

    def test_default_user_by_name(self, locked: RedisServer) -> None:
        ask(to(locked, username="default", password=PASSWORD))

    def test_no_password(self, locked: RedisServer) -> None:
        assert "NOAUTH" in str(fault(to(locked)))

    @pytest.mark.parametrize("password", ["wrong", PASSWORD + "\r\n", "пароль", "invalid"])
    def test_wrong_password(self, locked: RedisServer, password: str) -> None:
        assert ": AUTH: WRONGPASS" in str(fault(to(locked, password=password)))

    def test_password_that_is_not_asked_for(self, filled: RedisServer) -> None:
        assert ": AUTH: ERR" in str(fault(to(filled, password="superfluous")))

    @pytest.mark.parametrize("password", [None, ""])
    def test_empty_password_is_none(self, filled: RedisServer, password: str | None) -> None:
        ask(to(filled, password=password))

    def test_user(self, locked: RedisServer) -> None:
        with locked.client() as client:
            client.execute_command("ACL", "SETUSER", "reader", "on", ">readerpw", "~*", "+hmget", "+select")
            client.execute_command("ACL", "SETUSER", "open", "on", "nopass", "~*", "+hmget")
            client.execute_command("ACL", "SETUSER", "nobody", "on", ">nobodypw", "+select")
        ask(to(locked, username="reader", password="readerpw", db=3))
        ask(to(locked, username="open"))
        assert "WRONGPASS" in str(fault(to(locked, username="reader", password=PASSWORD)))
        assert "WRONGPASS" in str(fault(to(locked, username="stranger", password="readerpw")))
        assert "NOPERM" in str(fault(to(locked, username="nobody", password="nobodypw")))

    def test_password_that_the_server_repeats(self) -> None:
        """As Redis does for commands that it does not know: AUTH may have been renamed away."""
        text = b"-ERR unknown command 'AUTH', with args beginning with: 'me' 'top-secret' \r\n"
        with ScriptedServer(send_once(text)) as server:
            error = fault(connection_to(server, username="me", password="top-secret"))
        assert "unknown command 'AUTH', with args beginning with: 'me' '***'" in str(error)

    def test_database(self, locked: RedisServer) -> None:
        ask(to(locked, password=PASSWORD, db=3))
        with opened(to(locked, password=PASSWORD, db=1)) as connection:
            asked = batch(IDS)
            connection.read(asked, time.monotonic() + PATIENCE)
            assert numbers(asked) == [None] * 3

    def test_database_that_does_not_exist(self, filled: RedisServer) -> None:
        assert ": SELECT: ERR DB index is out of range" in str(fault(to(filled, db=99)))

    def test_database_over_unix_socket(self, locked: RedisServer) -> None:
        ask(RedisConnection(unix_socket_path=str(locked.unix_socket), password=PASSWORD, db=3))


class TestHandshakeAnswers:
    @pytest.mark.parametrize("script", [hang_up, send_and_close(b""), send_and_close(b"+O")])
    def test_closed(self, script: scripted.Script) -> None:
        with ScriptedServer(script) as server:
            fault(connection_to(server, password=PASSWORD))

    def test_reset(self) -> None:
        def script(peer: Peer) -> None:
            peer.commands()
            peer.reset()

        with ScriptedServer(script) as server:
            fault(connection_to(server, password=PASSWORD))

    def test_garbage(self) -> None:
        with ScriptedServer(send_once(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
            assert ": AUTH: the answer is not RESP" in str(fault(connection_to(server, password=PASSWORD)))

    def test_loading(self) -> None:
        with ScriptedServer(send_once(b"-LOADING Redis is loading the dataset in memory\r\n")) as server:
            assert ": SELECT: LOADING Redis is loading" in str(fault(connection_to(server, db=1)))


class TestTls:
    def tls(self, server: RedisServer, certificates: Certificates | None = None, **options: Any) -> RedisConnection:
        if certificates is not None:
            options["ssl_ca_certs"] = str(certificates.ca)
        return RedisConnection(
            **{"host": "localhost", "port": server.tls_port, "ssl": True, "password": PASSWORD, **options}
        )

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_known_authority(self, locked: RedisServer, certificates: Certificates, host: str) -> None:
        ask(self.tls(locked, certificates, host=host))

    def test_large_batch(self, locked: RedisServer, certificates: Certificates) -> None:
        ids = list(range(20_000))
        with opened(self.tls(locked, certificates)) as connection:
            asked = batch(ids)
            connection.read(asked, time.monotonic() + PATIENCE)
        assert numbers(asked)[1:4] == numbers_of(IDS)
        assert numbers(asked)[4:] == [None] * 19_996

    def test_unknown_authority(self, locked: RedisServer, tmp_path: Path) -> None:
        other = Certificates.make(tmp_path / "other")
        assert "certificate verify failed" in str(fault(self.tls(locked, other)))

    def test_no_authority_given(self, locked: RedisServer) -> None:
        assert "certificate verify failed" in str(fault(self.tls(locked)))

    def test_no_verification(self, locked: RedisServer) -> None:
        ask(self.tls(locked, ssl_cert_reqs="none", ssl_check_hostname=False))

    def test_optional_verification(self, locked: RedisServer, certificates: Certificates) -> None:
        ask(self.tls(locked, certificates, ssl_cert_reqs="optional"))

    def test_certificate_for_another_host(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("elsewhere.example").configure_cert(context)
        with ScriptedServer(scripted.answer, tls=context) as server:
            options = {"ssl": True, "ssl_ca_certs": str(tmp_path / "ca.pem")}
            assert "certificate is not valid for '127.0.0.1'" in str(fault(connection_to(server, **options)))
            ask(connection_to(server, **options, ssl_check_hostname=False))

    def test_missing_authority_file(self, locked: RedisServer, tmp_path: Path) -> None:
        error = fault(self.tls(locked, ssl_ca_certs=str(tmp_path / "none.pem")))
        assert f"ssl_ca_certs {tmp_path}/none.pem: No such file" in str(error)

    def test_authority_file_without_certificates(self, locked: RedisServer, tmp_path: Path) -> None:
        (tmp_path / "empty.pem").write_text("nothing\n")
        assert f"ssl_ca_certs {tmp_path}/empty.pem: " in str(
            fault(self.tls(locked, ssl_ca_certs=f"{tmp_path}/empty.pem"))
        )

    def test_client_certificate(self, locked: RedisServer, certificates: Certificates) -> None:
        """With TLS 1.3 our side is done with the handshake before the server misses our certificate.

        Its alert comes when we wait for the reply to AUTH. Closing with AUTH unread, it also resets the connection, and
        the reset may overtake the alert: so the server is asked for the reason.
        """
        own = {"ssl_certfile": str(certificates.client_cert), "ssl_keyfile": str(certificates.client_key)}
        with locked.client() as client:
            client.config_set("loglevel", "verbose")
            client.config_set("tls-auth-clients", "yes")
            try:
                ask(self.tls(locked, certificates, **own))
                assert "did not return a certificate" not in locked.log.read_text()
                assert re.search("ssl|reset|broken pipe|closed", str(fault(self.tls(locked, certificates))).lower())
            finally:
                client.config_set("tls-auth-clients", "optional")
                client.config_set("loglevel", "notice")
        assert "did not return a certificate" in locked.log.read_text()

    def test_missing_client_key(self, locked: RedisServer, certificates: Certificates, tmp_path: Path) -> None:
        own = {"ssl_certfile": str(certificates.client_cert), "ssl_keyfile": str(tmp_path / "none.pem")}
        error = fault(self.tls(locked, certificates, **own))
        assert f"ssl_certfile {certificates.client_cert}, ssl_keyfile {tmp_path}/none.pem: No such file" in str(error)

    def test_encrypted_client_key_asks_nobody(
        self, locked: RedisServer, certificates: Certificates, tmp_path: Path
    ) -> None:
        """OpenSSL's own way is to ask for the passphrase on the terminal, and to wait for it."""
        key = _encrypted(certificates.client_key, tmp_path)
        options = self.tls(locked, certificates, ssl_certfile=str(certificates.client_cert), ssl_keyfile=key)
        assert f"ssl_keyfile {key}: " in str(fault(options))
        assert _said_on_terminal(lambda: print(fault(options))).startswith(options.name)

    def test_plain_server(self, filled: RedisServer, certificates: Certificates) -> None:
        """It waits for the end of what it takes for a command."""
        own = {"ssl_ca_certs": str(certificates.ca), "socket_connect_timeout": SHORT}
        fault(RedisConnection(host="127.0.0.1", port=filled.port, ssl=True, **own))

    def test_plain_client(self, locked: RedisServer) -> None:
        fault(RedisConnection(host="127.0.0.1", port=locked.tls_port or 0, password=PASSWORD))

    def test_hung_up_during_the_handshake(self) -> None:
        with ScriptedServer(hang_up) as server:
            assert "cannot connect: " in str(fault(connection_to(server, ssl=True)))


def _encrypted(key: Path, folder: Path) -> str:
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(key.read_bytes(), None)
    scheme = serialization.BestAvailableEncryption(b"passphrase")
    text = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, scheme)
    (folder / "encrypted.pem").write_bytes(text)
    return str(folder / "encrypted.pem")


def _said_on_terminal(work: Callable[[], object]) -> str:
    """Return what a child that has a terminal of its own writes on it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child, terminal = pty.fork()
    if child == 0:
        with contextlib.suppress(BaseException), os.fdopen(1, "w") as sys.stdout:
            work()
        os._exit(0)
    text = b""
    with contextlib.suppress(OSError):  # the end of a terminal is an error
        while b"\n" not in text and select.select([terminal], [], [], PATIENCE)[0]:
            text += os.read(terminal, 4096)
            if b"phrase" in text:
                os.kill(child, signal.SIGKILL)
    os.close(terminal)
    os.waitpid(child, 0)
    return text.decode()
