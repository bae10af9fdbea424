"""HTTP for a ScriptedServer: requests as a server takes them, answers as it gives them.

with ScriptedServer(serve(ok(b"{}"))) as server, opened(server) as store: ...
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fastserve.config import RemoteConfig
from fastserve.stores.remote import RemoteStore
from tests.stores.scripted import PATIENCE, Peer, Script, ScriptedServer


@dataclass(frozen=True)
class Asked:
    """A request, as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


def take_request(peer: Peer) -> Asked:
    """Wait for a whole request. Raises EOFError: the client closed the connection."""
    while b"\r\n\r\n" not in peer.received:
        _receive(peer)
    head, _, rest = peer.received.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (text.split(": ", 1) for text in lines)}
    peer.received = rest
    while len(peer.received) < int(headers["content-length"]):
        _receive(peer)
    size = int(headers["content-length"])
    body, peer.received = peer.received[:size], peer.received[size:]
    return Asked(line, headers, body)


def _receive(peer: Peer) -> None:
    data = peer.sock.recv(1 << 16)
    if not data:
        raise EOFError
    peer.received += data


def answer_bytes(body: bytes = b"null", status: int = 200, **headers: str) -> bytes:
    """Return an answer with Content-Length; of a header's name underscores are hyphens."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def json_bytes(value: Any, status: int = 200, **headers: str) -> bytes:
    """Return an answer with JSON."""
    return answer_bytes(json.dumps(value).encode(), status, content_type="application/json", **headers)


def serve(*answers: bytes, asked: list[Asked] | None = None) -> Script:
    """Return a script that gives these answers to the requests of a connection, the last one again and again."""

    def script(peer: Peer) -> None:
        with contextlib.suppress(EOFError):
            number = 0
            while True:
                request = take_request(peer)
                if asked is not None:
                    asked.append(request)
                peer.send(answers[min(number, len(answers) - 1)])
                number += 1

    return script


def after_request(act: Callable[[Peer], object]) -> Script:
    """Return a script that takes one request and then does something else than to answer it."""

    def script(peer: Peer) -> None:
        take_request(peer)
        act(peer)

    return script


@contextlib.contextmanager
def opened(server: ScriptedServer, timeout: float = PATIENCE, **options: Any) -> Iterator[RemoteStore]:
    """Yield a store that asks the server, and close it in the end."""
    token = options.pop("token", None)
    scheme = options.pop("scheme", "http")
    store = RemoteStore(RemoteConfig(path=f"{scheme}://localhost:{server.port}", **options), timeout, token)
    try:
        yield store
    finally:
        store.close()
