"""What HTTP alone takes: a server that gives back, for a request that it knows byte by byte, the answer that it knows.

recorder.py UPSTREAM_PORT PORT

A request that is new is asked of the server at UPSTREAM_PORT, once. `GET /last` returns the request that was new last.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from wire import connect, exchange, split

KNOWN: dict[bytes, bytes] = {}


class Recorder(asyncio.Protocol):
    """One connection."""

    def __init__(self, upstream: int):
        self._upstream, self._data = upstream, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        ready = KNOWN.get(data) if not self._data else None
        if ready is not None:
            self._transport.write(ready)  # type: ignore[attr-defined]
            return
        self._data += data
        if (found := split(self._data)) is not None:
            request, self._data = self._data[: found[1]], self._data[found[1] :]
            self._transport.write(self._answer(request))  # type: ignore[attr-defined]

    def _answer(self, request: bytes) -> bytes:
        if request.startswith(b"GET /last "):
            last = list(KNOWN)[-1]
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(last), last)
        if request not in KNOWN:
            with connect(self._upstream) as sock:
                KNOWN[request] = exchange(sock, request)
        return KNOWN[request]


async def main(upstream: int, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Recorder(upstream), "127.0.0.1", port)
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
