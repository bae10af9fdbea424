"""The port that Prometheus scrapes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import httpx
import pytest

from fastserve.server import metrics_port
from fastserve.server.metrics_port import serve_metrics


def run(text: Callable[[], str], ask: Callable[[str], Awaitable[None]]) -> None:
    """Ask a port; `ask` is given its URL."""

    async def serve() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = await serve_metrics(listener, text)
        await ask(url)
        server.close()

    asyncio.run(serve())


def test_any_path_is_answered_to_many() -> None:
    async def ask(url: str) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            paths = ["/metrics", "/", "/any/path?x=1"] * 5
            for answer in await asyncio.gather(*(client.get(url + path) for path in paths)):
                assert (answer.status_code, answer.text) == (200, "é 1\n" * 100_000)
                assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"

    run(lambda: "é 1\n" * 100_000, ask)


def test_what_goes_wrong_is_a_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def ask(url: str) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(url)).status_code == 500

    def fail() -> str:
        raise OSError("the folder is gone")

    run(fail, ask)
    assert "the folder is gone" in caplog.text


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"x" * 100_000], ids=["nothing", "a part", "too much"])
def test_who_does_not_ask_is_sent_away(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_port, "PATIENCE_SECONDS", 0.05)

    async def ask(url: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(said)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass  # it had not read everything
        writer.close()

    run(lambda: "", ask)
