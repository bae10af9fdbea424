"""The processes of `fastserve serve`: one server, or several that share a socket, and their end.

Workers are forked from a process that has imported everything and started nothing: no thread, no connection, no event
loop. They share its memory as long as they do not write to it. One that dies is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn

from fastserve.server.limits import Life

__all__ = ["GRACE_SECONDS", "Server", "Workers"]

logger = logging.getLogger("fastserve.server")

GRACE_SECONDS = 30
"""How long requests at hand may take when the server is told to end."""

STARTUP_FAILURE = 3
"""Exit status of a worker that could not start: the next would not either."""

ENDED, NUMBERS = signal.SIGCHLD, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
MAX_PAUSE_SECONDS = 5.0


class Server(uvicorn.Server):
    """uvicorn's server, which drains before it ends.

    Told to end, it is not ready any more (/readyz says 503), closes connections with their answers, and goes on
    listening until the requests at hand are answered, and at least for `drain_seconds`: load balancers can notice.

    Args:
        parent: the process that has to live; without it the server ends.
    """

    def __init__(self, config: uvicorn.Config, life: Life, drain_seconds: float, parent: int | None = None):
        super().__init__(config)
        self.life = life
        self.drain_seconds = drain_seconds
        self.parent = parent

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; the second Ctrl-C ends at once."""
        self.life.draining = True
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals, those too that a worker was sent while it was being started."""
        with super().capture_signals():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
            yield

    async def on_tick(self, counter: int) -> bool:
        """Say whether it is time to end."""
        if self.parent is not None and os.getppid() != self.parent:
            logger.error("the process that started this worker is gone")
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, when what was begun is finished."""
        self.life.draining = True
        await self._drain()
        await super().shutdown(sockets)

    async def _drain(self) -> None:
        connections: set[Any] = {*self.server_state.connections}
        begun = [connection.cycle for connection in connections if connection.cycle is not None]
        for cycle in begun:
            cycle.keep_alive = False
        start = time.monotonic()
        while not self.force_exit and (waited := time.monotonic() - start) < GRACE_SECONDS:
            is_answered = all(cycle.response_complete or cycle.disconnected for cycle in begun)
            if is_answered and (waited >= self.drain_seconds or signal.SIGINT in self._captured_signals):
                return
            await asyncio.sleep(0.02)


class Workers:
    """Keeps some processes running until it is told to end."""

    def __init__(self, work: Callable[[], None], count: int):
        """Args:
        work: what a worker does; it takes SIGTERM for the end.
        count: of the workers.
        """
        self.work = work
        self.count = count
        self.started: dict[int, float] = {}  # process -> when
        self.pause = 0.0
        self.is_ending = False
        self.status = 0

    def run(self) -> int:
        """Return the exit status when all workers have ended."""
        # Signals wait until they are asked for: none is lost, and none interrupts anything.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {ENDED, *NUMBERS})
        try:
            self._keep_running(before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self.status

    def _keep_running(self, before: set[signal.Signals | int]) -> None:
        deadline = None
        while not self.is_ending or self.started:
            missing = 0 if self.is_ending else self.count - len(self.started)
            for _ in range(missing):
                self._start(before)
            info = signal.sigtimedwait({ENDED, *NUMBERS}, 1.0)
            if info is not None and info.si_signo != ENDED:
                self._end(info.si_signo)
            if self.is_ending and deadline is None:
                deadline = time.monotonic() + 2 * GRACE_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                self._tell(signal.SIGKILL)
            self._bury()

    def _start(self, before: set[signal.Signals | int]) -> None:
        time.sleep(self.pause)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self.started[pid] = time.monotonic()
            return
        status = 1
        try:
            for number in NUMBERS:
                signal.signal(number, _exit)  # when the server has ended
            signal.pthread_sigmask(signal.SIG_SETMASK, {*before, *NUMBERS})  # until the server takes them
            self.work()
            status = 0
        except SystemExit as exc:
            status = exc.code if isinstance(exc.code, int) else 1
        except BaseException:
            logger.exception("worker %d failed", os.getpid())
        finally:
            logging.shutdown()
            os._exit(status)  # what the parent would do at its end is not for us to do

    def _end(self, number: int) -> None:
        """Tell all workers to end; a second Ctrl-C makes them drop what they do."""
        self._tell(signal.SIGINT if self.is_ending and number == signal.SIGINT else signal.SIGTERM)
        self.is_ending = True

    def _tell(self, number: int) -> None:
        for pid in self.started:
            os.kill(pid, number)

    def _bury(self) -> None:
        """Take note of the workers that have ended."""
        for pid in list(self.started):
            found, state = os.waitpid(pid, os.WNOHANG)
            if found:
                self._bury_one(pid, os.waitstatus_to_exitcode(state))

    def _bury_one(self, pid: int, code: int) -> None:
        lived = time.monotonic() - self.started.pop(pid)
        if self.is_ending:
            return
        if code == STARTUP_FAILURE:
            logger.error("worker %d could not start; the server ends", pid)
            self.status = code
            self._end(signal.SIGTERM)
            return
        # One that dies young is likely to do so again; but not one that has had its number of requests.
        self.pause = min(max(2 * self.pause, 0.1), MAX_PAUSE_SECONDS) if code and lived < 1 else 0.0
        logger.log(
            logging.ERROR if code else logging.INFO, "worker %d ended (%s), another one starts", pid, _text(code)
        )


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _text(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
