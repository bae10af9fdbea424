"""The floors: the very bytes that fastserve sends, over a bare socket, and as many bytes received, nothing parsed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import hiredis
from wire import connect, exchange, split

__all__ = ["caller", "connected", "hmget", "http", "redis", "rows", "size_of_replies"]

Prepare = Callable[[list[str]], Callable[[], None]]


def rows(keys: list[str]) -> list[dict[str, str]]:
    return [{"customer_id": key} for key in keys]


def connected(store: Any) -> socket.socket:
    """A connection to the database of a store."""
    connection = store.config.online_store.connection
    sock = connect(connection.port)
    if connection.db:
        sock.sendall(b"SELECT %d\r\n" % connection.db)
        assert sock.recv(100) == b"+OK\r\n"
    return sock


def redis(store: Any, features: Any, full_names: bool) -> Prepare:
    """Commands of a read and the bytes of their replies."""
    from fastserve import online

    sock = connected(store)
    plan = store.plan(features, full_names)

    def prepare(keys: list[str]) -> Callable[[], None]:
        batch = online.begin(plan, rows(keys))
        commands = b"".join(iter(batch.commands, None))
        sock.sendall(commands)
        size, done = 0, False
        while not done:
            data = sock.recv(1 << 17)
            size += len(data)
            done = batch.feed(data)
        return caller(sock, commands, size)

    return prepare


def hmget(store: Any, features: Any, full_names: bool) -> Prepare:
    """As `redis`, but one HMGET of the wanted fields for each entity, whatever the plan does."""
    from fastserve import online

    sock = connected(store)
    plan = store.plan(features, full_names)
    (group,) = plan.groups

    def prepare(keys: list[str]) -> Callable[[], None]:
        names = [key + group.suffix for key in online.begin(plan, rows(keys)).entity_keys(0)]
        commands = b"".join(hiredis.pack_command(("HMGET", name, *group.fields)) for name in names)
        sock.sendall(commands)
        return caller(sock, commands, size_of_replies(sock, len(names)))

    return prepare


def size_of_replies(sock: socket.socket, n: int) -> int:
    """Receive so many replies; return how many bytes they are."""
    reader, size = hiredis.Reader(), 0
    for _ in range(n):
        while reader.gets() is False:
            data = sock.recv(1 << 17)
            size += len(data)
            reader.feed(data)
    return size


def http(store: Any, features: Any, full_names: bool) -> Prepare:
    """The request of a remote read and its answer; the repository's server is a recorder (recorder.py)."""
    port = urlsplit(store.config.online_store.path).port
    assert port
    sock = connect(port)

    def prepare(keys: list[str]) -> Callable[[], None]:
        store.get_online_features(features, rows(keys), full_feature_names=full_names)
        told = exchange(sock, b"GET /last HTTP/1.1\r\n\r\n")
        found = split(told)
        assert found
        request = told[found[0] : found[1]]
        return caller(sock, request, len(exchange(sock, request)))

    return prepare


def caller(sock: socket.socket, sent: bytes, size: int) -> Callable[[], None]:
    """A call that sends these bytes and receives so many."""

    def call() -> None:
        sock.sendall(sent)
        left = size
        while left:
            left -= len(sock.recv(1 << 17))

    return call
