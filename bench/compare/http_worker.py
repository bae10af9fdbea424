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
import sys
import time
from typing import Any

from httploop import Loop
from wire import connect, exchange, post

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


def load(job: Job) -> Job:
    loop = Loop(job["port"], *recorded(job), job["workers"])
    return summary(loop, *loop.closed(job["workers"], job["seconds"], ENOUGH))


def arrivals(job: Job) -> Job:
    loop = Loop(job["port"], *recorded(job), job["connections"])
    return summary(loop, *loop.arrivals(job["rate"], max(int(job["rate"] * job["seconds"]), ENOUGH)))


def recorded(job: Job) -> tuple[list[bytes], list[bytes]]:
    """Return the requests of a job, and the whole answers to them."""
    requests = [post(body.encode()) for body in job["bodies"]]
    with connect(job["port"]) as sock:
        answers = [exchange(sock, request) for request in requests]
    for answer in answers:
        checked(answer)
    return requests, answers


def summary(loop: Loop, n: int, seconds: float) -> Job:
    taken = sorted(loop.taken)
    quantiles = {str(q): taken[min(int(len(taken) * q), len(taken) - 1)] for q in QUANTILES}
    late = sorted(loop.late)[int(len(loop.late) * 0.99)]
    return {"rate": n / seconds, "n": len(taken), "late": late, "quantiles": quantiles}


def main() -> None:
    jobs = {"ask": ask, "calls": calls, "load": load, "arrivals": arrivals}
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(jobs[job.pop("do")](job)), flush=True)


if __name__ == "__main__":
    main()
