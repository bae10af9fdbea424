"""An HTTP client that measures, in a process of its own; every answer must be what the server gave at first.

    http_worker.py NAME FOLDER      (which it does not need)

Takes one job per line from stdin and answers each with one line:

{"do": "ask", "port": p, "body": b}
    one request: {"body": the answer's body}
{"do": "calls", "port": p, "bodies": [...], "n": n, "budget": seconds}
    n requests over one connection, or as many as the budget allows, but at least 2: {"taken": [seconds of each]}
{"do": "load", "port": p, "bodies": [...], "workers": n, "seconds": s}
    closed loop: n connections, each of which asks again when it has its answer; longer if a server is slow, until there
    are 20
{"do": "arrivals", "port": p, "bodies": [...], "rate": requests per second, "seconds": s, "connections": at most}
    open loop: a request becomes due every 1 / rate seconds, whatever the server does; its latency counts from that
    moment on, so that it holds the time that it waited for a free connection, or for this client

The last two answer {"rate", "n": requests answered, "late": seconds from due to sent, 99th percentile, "quantiles":
{"0.5": seconds, ...}}. A wrong answer ends the process.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque
from typing import Any

from wire import connect, exchange, post, split

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
ENOUGH = 20
Job = dict[str, Any]
clock = time.perf_counter


def ask(job: Job) -> Job:
    with connect(job["port"]) as sock:
        return {"body": checked(exchange(sock, post(job["body"].encode()))).decode()}


def checked(answer: bytes) -> bytes:
    """Return the body of an answer; ends the process if it is an error."""
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise SystemExit(f"not an answer of status 200: {answer[:500]!r}")
    return answer[answer.index(b"\r\n\r\n") + 4 :]


def calls(job: Job) -> Job:
    sock = connect(job["port"])
    requests = [post(body.encode()) for body in job["bodies"]]
    right = [checked(exchange(sock, request)) for request in requests]
    taken: list[float] = []
    end = clock() + job["budget"]
    while len(taken) < job["n"] and (clock() < end or len(taken) < 2):
        at = len(taken) % len(requests)
        start = clock()
        answer = exchange(sock, requests[at])
        taken.append(clock() - start)
        if not answer.endswith(right[at]):
            raise SystemExit(f"another answer than before: {answer[:500]!r}")
    sock.close()
    return {"taken": taken}


class Load:
    """Connections to one server, and what is measured over them.

    A request that finds no idle connection waits in line; its latency runs.
    """

    def __init__(self, port: int, bodies: list[str], connections: int):
        self._port, self._most = port, connections
        self._requests = [post(body.encode()) for body in bodies]
        with connect(port) as sock:
            self._right = [checked(exchange(sock, request)) for request in self._requests]
        self._poll = select.epoll()
        self._socks: dict[int, socket.socket] = {}
        self._idle: list[socket.socket] = []
        self._waiting: deque[tuple[int, float]] = deque()
        self._asked: dict[int, tuple[int, float]] = {}
        self._parts: dict[int, bytes] = {}
        self._n = 0
        self.taken: list[float] = []
        self.late: list[float] = []

    def begin(self, due: float) -> None:
        """A request became due at that moment."""
        self._waiting.append((self._n % len(self._requests), due))
        self._n += 1
        self.send()

    def send(self) -> None:
        while self._waiting and (self._idle or len(self._socks) < self._most):
            sock = self._idle.pop() if self._idle else self._connect()
            at, due = asked = self._waiting.popleft()
            self._asked[sock.fileno()] = asked
            data = self._requests[at]
            self.late.append(clock() - due)
            sent = sock.send(data)
            if sent < len(data):
                sock.setblocking(True)
                sock.sendall(data[sent:])
                sock.setblocking(False)

    def _connect(self) -> socket.socket:
        sock = connect(self._port)
        sock.setblocking(False)
        self._socks[sock.fileno()] = sock
        self._poll.register(sock, select.EPOLLIN)
        return sock

    def wait(self, seconds: float) -> int:
        """Take the answers that are there, or come within that time; return how many requests they end."""
        # epoll counts in milliseconds, select in microseconds.
        found = self._poll.poll(0)
        if not found and seconds > 0 and select.select([self._poll], [], [], seconds)[0]:
            found = self._poll.poll(0)
        ended = sum(self._receive(self._socks[number], number) for number, _ in found)
        self.send()
        return ended

    def _receive(self, sock: socket.socket, number: int) -> bool:
        data = sock.recv(1 << 18)
        if not data:
            self._closed(sock, number)
            return False
        before = self._parts.pop(number, b"")
        data = before + data if before else data
        if (found := split(data)) is None:
            self._parts[number] = data
            return False
        at, due = self._asked.pop(number)
        self.taken.append(clock() - due)
        if data[found[0] :] != self._right[at] or not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"another answer than before: {data[:500]!r}")
        self._idle.append(sock)
        return True

    def _closed(self, sock: socket.socket, number: int) -> None:
        """The server ended a connection that had been idle for long; what was asked at that moment is asked again."""
        if number in self._parts:
            raise SystemExit("the server closed a connection in the middle of an answer")
        if number in self._asked:
            self._waiting.appendleft(self._asked.pop(number))
        else:
            self._idle.remove(sock)
        self._poll.unregister(sock)
        del self._socks[number]
        sock.close()

    @property
    def open_requests(self) -> int:
        return len(self._asked) + len(self._waiting)

    def close(self) -> None:
        self._poll.close()
        for sock in self._socks.values():
            sock.close()


def load(job: Job) -> Job:
    found = Load(job["port"], job["bodies"], job["workers"])
    start = clock()
    end = start + job["seconds"]
    for _ in range(job["workers"]):
        found.begin(clock())
    while (now := clock()) < end or len(found.taken) < ENOUGH:
        for _ in range(found.wait(max(end - now, 0.01))):
            found.begin(clock())
    n, seconds = len(found.taken), clock() - start
    drain(found)
    return summary(found, n, seconds)


def arrivals(job: Job) -> Job:
    found = Load(job["port"], job["bodies"], job["connections"])
    interval, total = 1 / job["rate"], max(int(job["rate"] * job["seconds"]), 20)
    start = clock()
    begun = 0
    while begun < total:
        due = start + begun * interval
        now = clock()
        if now >= due:
            found.begin(due)
            begun += 1
            found.wait(0)
        else:
            found.wait(due - now)
    seconds = clock() - start
    n = len(found.taken)
    drain(found)
    return summary(found, n, seconds)


def drain(found: Load) -> None:
    end = clock() + 60
    while found.open_requests and clock() < end:
        found.wait(1)
    if found.open_requests:
        raise SystemExit(f"{found.open_requests} requests were not answered")
    found.close()


def summary(found: Load, n: int, seconds: float) -> Job:
    taken = sorted(found.taken)
    quantiles = {str(q): taken[min(int(len(taken) * q), len(taken) - 1)] for q in QUANTILES}
    late = sorted(found.late)[int(len(found.late) * 0.99)]
    return {"rate": n / seconds, "n": len(taken), "late": late, "quantiles": quantiles}


def main() -> None:
    jobs = {"ask": ask, "calls": calls, "load": load, "arrivals": arrivals}
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(jobs[job.pop("do")](job)), flush=True)


if __name__ == "__main__":
    main()
