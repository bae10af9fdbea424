"""HTTP byte by byte: what a client sends that no HTTP library would.

with Raw(port) as client:
    client.send(request("GET", "/health"))
    status, headers, body = client.answer()
"""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any

READ = "/get-online-features"
AGE = {"features": ["customer_profile:age"], "entities": {"customer_id": ["C1"]}}

Answer = tuple[int, dict[str, str], bytes]


def request(method: str, path: str, body: object = None, **headers: str) -> bytes:
    """Return a request; a body that is not bytes is sent as JSON."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Host": "test", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if data:
        given = {"Content-Type": "application/json", "Content-Length": str(len(data)), **given}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + data


def read_request(body: object = None, **headers: str) -> bytes:
    """Return a read of one customer's age, or of another body."""
    return request("POST", READ, AGE if body is None else body, **headers)


def age_of(answer: Answer) -> Any:
    """Return the column `age` of an answer to a read."""
    status, _, body = answer
    assert status == 200, body
    return json.loads(body)["results"][1]["values"]


class Raw:
    """A connection."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self._input = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def answer(self) -> Answer:
        """Read one answer, whose length must be announced."""
        line = self._input.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        headers = {}
        while (header := self._input.readline()) not in (b"\r\n", b""):
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers, self._input.read(int(headers["content-length"]))

    def ask(self, data: bytes) -> Answer:
        """Send bytes and read one answer."""
        self.send(data)
        return self.answer()

    def is_closed(self) -> bool:
        """Wait for what comes next; whether it is the end of the connection."""
        return self._input.read(1) == b""

    def close(self) -> None:
        """Leave."""
        self._input.close()
        self.socket.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
