"""What plain sockets share: connecting before a deadline (of `time.monotonic`), and operations that end at one."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from typing import Any

__all__ = ["Patience", "connect_tcp", "connected", "reason_of", "time_left"]


def time_left(deadline: float) -> float:
    """Return the seconds until a deadline. Raises TimeoutError when it is over."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def reason_of(exc: Exception) -> str:
    """Return what an error of the system's says, without its number."""
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__


def connect_tcp(host: str, port: int, deadline: float) -> socket.socket:
    """Try the addresses of a host in turn; each may take its share of the time that is left. Raises OSError."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for untried, (family, *_, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            return connected(family, address, time_left(deadline) / untried)
        except OSError:
            if untried == 1:
                raise
    raise OSError("the host has no address")


def connected(family: int, address: Any, timeout: float) -> socket.socket:
    """Return a socket that is connected within `timeout` seconds. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
        return sock
    except BaseException:
        sock.close()
        raise


class Patience:
    """Limits how long the operations of a socket take.

    The kernel keeps the time: with Python's own time-outs each operation would take a second system call to wait. Under
    TLS an operation is more than one call, so there it is Python's. So the end of the time is a BlockingIOError or a
    TimeoutError.
    """

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self._seconds = 0.0

    def limit(self, deadline: float) -> None:
        """Let the next operations take no longer than what is left, give or take a twentieth. Raises TimeoutError."""
        left = time_left(deadline)
        if not self._seconds * 0.95 <= left <= self._seconds * 1.05:
            self._set(left)

    def _set(self, seconds: float) -> None:
        if isinstance(self._sock, ssl.SSLSocket):
            self._sock.settimeout(seconds)
        else:
            self._sock.settimeout(None)
            value = _timeval(seconds)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
        self._seconds = seconds


def _timeval(seconds: float) -> bytes:
    """C's struct timeval; never 0, which would mean to wait for ever."""
    whole = int(seconds)
    return struct.pack("ll", whole, max(int((seconds - whole) * 1_000_000), 0 if whole else 1))
