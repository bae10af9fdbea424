"""The port that Prometheus scrapes with `--metrics`: any path, no authentication.

The socket listens before the workers split, and all of them accept from it: whichever answers shows the sums of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from fastserve.server.exposition import CONTENT_TYPE

__all__ = ["serve_metrics"]

logger = logging.getLogger("fastserve.server")

PATIENCE_SECONDS = 10
"""How long a client may take to ask."""


async def serve_metrics(listener: socket.socket, text: Callable[[], str]) -> asyncio.Server:
    """Answer on a listening socket until the server that is returned is closed.

    Args:
        text: returns what is answered; called in a thread.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever asks for nothing, or does not wait for the answer, gets none.
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError, ValueError, asyncio.TimeoutError):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
            writer.write(await asyncio.to_thread(_answer, text))
            await asyncio.wait_for(writer.drain(), PATIENCE_SECONDS)

    return await asyncio.start_server(answer, sock=listener)


def _answer(text: Callable[[], str]) -> bytes:
    try:
        status, body = "200 OK", text().encode()
    except Exception:
        # Whatever it is, Prometheus is to see that the scrape failed, and the operator why.
        logger.exception("the metrics cannot be read")
        status, body = "500 Internal Server Error", b"the metrics cannot be read; the log says why\n"
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: {CONTENT_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
