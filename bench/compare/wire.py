"""The least of HTTP/1.1 that a client needs: requests as ready bytes, answers cut off by their Content-Length."""

from __future__ import annotations

import re
import socket

__all__ = ["READ", "connect", "exchange", "post", "split"]

READ = "/get-online-features"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def post(body: bytes, path: str = READ) -> bytes:
    """Return a whole request."""
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def extent(data: bytes | bytearray) -> tuple[int, int] | None:
    """Return where the body of the first message in `data` begins, and will end; None if its head is not complete."""
    start = data.find(b"\r\n\r\n") + 4
    if start < 4:
        return None
    found = LENGTH.search(data, 0, start)
    return start, start + (int(found[1]) if found else 0)


def split(data: bytes | bytearray) -> tuple[int, int] | None:
    """Return where the body of the first message in `data` begins and ends; None if its end has not come yet."""
    found = extent(data)
    return found if found and len(data) >= found[1] else None


def exchange(sock: socket.socket, request: bytes) -> bytes:
    """Send a request and return its whole answer, head and body. Raises ConnectionError."""
    sock.sendall(request)
    data = b""
    while (found := extent(data)) is None:
        data += received(sock)
    parts, left = [data], found[1] - len(data)
    while left > 0:
        parts.append(received(sock))
        left -= len(parts[-1])
    return b"".join(parts)


def received(sock: socket.socket) -> bytes:
    data = sock.recv(1 << 18)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data
