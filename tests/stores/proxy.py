"""A TCP proxy that treats what passes badly: it delays, splits, joins and cuts.

with ChaosProxy(server.port, rand) as proxy:
    RedisStore(RedisConnection(host="127.0.0.1", port=proxy.port))
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from random import Random
from types import TracebackType

SPLITS, DELAYS, CUTS = 0.5, 0.1, 0.01
"""How likely it is, for each piece of bytes that comes in, that each of this happens to it."""
LONGEST_DELAY = 0.01


class ChaosProxy:
    """Passes connections on to a port of this machine, from a thread of its own; a context manager.

    Attributes:
        port: of 127.0.0.1, where it listens.
        cut: how many connections it has cut.
    """

    port: int

    def __init__(self, target: int, rand: Random):
        self.cut = 0
        self._target = target
        self._rand = Random(rand.getrandbits(32))
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.ensure_future(self._pump(reader, upstream)),
            asyncio.ensure_future(self._pump(upstream_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            writer.transport.abort()
            upstream.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                chance = self._rand.random()
                if chance < CUTS:
                    self.cut += 1
                    writer.write(data[: self._rand.randint(0, len(data))])
                    return
                if chance < DELAYS:
                    await asyncio.sleep(self._rand.uniform(0, LONGEST_DELAY))
                if chance < SPLITS:
                    at = self._rand.randint(0, len(data))
                    writer.write(data[:at])
                    await asyncio.sleep(0)
                    data = data[at:]
                writer.write(data)
                await writer.drain()

    def __enter__(self) -> ChaosProxy:
        self._thread.start()
        assert self._listening.wait(10), "the proxy did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the proxy did not stop"
