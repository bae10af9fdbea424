"""One subject that writes, in a process of its own.

    write_worker.py feast|fastserve|floor FOLDER

Reads one job per line from stdin, {"work": "materialize" | "write", "rows": n}, does it on an empty database and
answers with one line: {"wall": seconds, "cpu": seconds of this process}. The floor sends the very commands that
fastserve sends, framed beforehand, over a bare socket, and reads the replies without parsing them.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

VIEW = "customer_profile"
START, END = datetime(2025, 1, 1, tzinfo=timezone.utc), datetime(2026, 6, 1, tzinfo=timezone.utc)

Job = Callable[[], Any]


def frame(folder: str, n: int) -> Any:
    import pandas as pd

    return pd.read_parquet(Path(folder) / "data/profile.parquet").head(n)


def sdk(store: Any, folder: str) -> Callable[[str, int], Job]:
    def prepare(work: str, n: int) -> Job:
        if work == "materialize":
            return lambda: store.materialize(START, END, feature_views=[VIEW])
        rows = frame(folder, n)
        return lambda: store.write_to_online_store(VIEW, df=rows)

    return prepare


def feast(folder: str) -> Callable[[str, int], Job]:
    from feast import FeatureStore

    return sdk(FeatureStore(repo_path=folder), folder)


def fastserve(folder: str) -> Callable[[str, int], Job]:
    from fastserve import FeatureStore

    return sdk(FeatureStore(repo_path=folder), folder)


def floor(folder: str) -> Callable[[str, int], Job]:
    from fastserve import FeatureStore
    from fastserve.stores.redis_write import BYTES_AT_A_TIME, SCRIPT, SCRIPT_SHA
    from fastserve.write import prepare as encoded

    store = FeatureStore(repo_path=folder)
    writer = store._writer(store.get_feature_view(VIEW))
    connection = store.config.online_store.connection
    sock = socket.create_connection((connection.host, connection.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(b"*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$%d\r\n%b\r\n" % (len(SCRIPT), SCRIPT))
    assert sock.recv(1 << 16).startswith(b"$40")

    def prepare(work: str, n: int) -> Job:
        rows = encoded(writer, frame(folder, n))
        pieces = list(iter(lambda: rows.commands(SCRIPT_SHA, 0, False, BYTES_AT_A_TIME), None))
        calls = sum(piece.count(b"\r\nEVALSHA\r\n") for piece in pieces)

        def send() -> None:
            for piece in pieces:
                sock.sendall(piece)

        def job() -> None:
            sender = threading.Thread(target=send)
            sender.start()
            left = calls
            while left:
                left -= sock.recv(1 << 16).count(b"\n")
            sender.join()

        return job

    return prepare


def measure(job: Job) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    job()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def main() -> None:
    prepare = {"feast": feast, "fastserve": fastserve, "floor": floor}[sys.argv[1]](sys.argv[2])
    said, sys.stdout = sys.stdout, sys.stderr  # Feast prints its progress
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(measure(prepare(job["work"], job["rows"]))), file=said, flush=True)


if __name__ == "__main__":
    main()
