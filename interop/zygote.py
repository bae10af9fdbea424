"""Feast, imported once: a process that forks another for each job, which then need not import for many seconds.

    python zygote.py SOCKET

Runs in Feast's Python. It has imported what Feast's command line, SDK and server need, and used none of it: a job is a
Feast that has just started. It is a connection to the unix socket SOCKET, which says, as one line of JSON:

arguments    those of `python`: `-m` and a module, or the path of a script; and what follows
environment  all variables; PYTHONHASHSEED has to be the one that this process was started with
folder       the current one
output       a file, for all that the job prints

and is told in a line each: the id of the process, at once; and when that has ended its exit status, or minus the number
of the signal that ended it. The zygote ends with its standard input, and leaves alone what runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import select
import socket
import sys
from importlib import import_module
from typing import Any

IMPORTED = (
    "feast.cli.cli",
    "feast.feature_server",
    "feast.infra.compute_engines.local.compute",
    "feast.infra.offline_stores.dask",
    "feast.infra.online_stores.redis",
    "feast.infra.online_stores.remote",
    "feast.infra.online_stores.sqlite",
    "feast.infra.registry.sql",
    "psycopg",
    "pyarrow.dataset",
    "uvicorn_worker",
)


def job_of(listener: socket.socket) -> dict[str, Any]:
    """Return a job, in a process of its own; raise SystemExit in the zygote when there will be no more."""
    while sys.stdin not in select.select([sys.stdin, listener], [], [])[0]:
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            return watched(connection)
        connection.close()
        forget_ended()
    forget_ended()
    raise SystemExit


def forget_ended() -> None:
    """Let those that have watched a job to its end go."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def watched(connection: socket.socket) -> dict[str, Any]:
    """Return the job of a connection, in a process of its own; this one tells how that ends."""
    with connection, connection.makefile("rw") as lines:
        job: dict[str, Any] = json.loads(lines.readline())
        process = os.fork()
        if process:
            print(process, file=lines, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), file=lines, flush=True)
            os._exit(0)
    return job


def run(job: dict[str, Any]) -> None:
    """Be the Python that was started with these arguments, in that environment."""
    become(job)
    is_module = job["arguments"][0] == "-m"
    name, *sys.argv[1:] = job["arguments"][is_module:]
    sys.argv[0] = name
    path = job["environment"].get("PYTHONPATH", "")
    sys.path[:1] = [job["folder"] if is_module else os.path.dirname(name), *filter(None, path.split(os.pathsep))]
    if is_module:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(name, run_name="__main__")


def become(job: dict[str, Any]) -> None:
    import numpy

    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    redirect(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    redirect(output, 2)
    numpy.random.seed()  # Python's own generator looks after itself


def redirect(source: int, target: int) -> None:
    os.dup2(source, target)
    os.close(source)


def main(path: str) -> None:
    """Import, then wait for jobs."""
    for name in IMPORTED:
        import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        job = job_of(listener)
    run(job)


if __name__ == "__main__":
    main(sys.argv[1])
