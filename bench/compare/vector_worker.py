"""One subject of the benchmarks of precomputed vectors in a process of its own.

    vector_worker.py SUBJECT FOLDER

subject       reads                                                   answers
feast         Feast's vectors through Feast                           to_dict
blobs         Feast's vectors through fastserve                       to_dict
packed        packed vectors through fastserve                        to_dict
numpy         packed vectors through fastserve                        to_numpy
views         the views themselves through fastserve                  to_dict
floor         one MGET of the same keys as `packed`, bare socket      nothing
blobs_floor   the same HMGETs as `blobs` over a bare socket           nothing

Reads one request per line from stdin, {"keys": [...], "calls": n}, and answers as worker.py does. The job {"build":
true} builds the packed vectors and answers {"wall": seconds, "vectors": n}.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import hiredis
from floor import caller, connected, rows
from worker import Call, measure

SERVICE = "everything"


def sdk(store: Any, form: str, of_views: bool = False) -> Callable[[list[str]], Call]:
    service = store.get_feature_service(SERVICE)
    references = [
        f"{view.name}:{feature.name}" for view in service.feature_view_projections for feature in view.features
    ]
    features = references if of_views else service

    def prepare(keys: list[str]) -> Call:
        wanted = rows(keys)
        return lambda: getattr(store.get_online_features(features, wanted, full_feature_names=True), form)()

    return prepare


def bare_socket(store: Any) -> Callable[[list[str]], Call]:
    """The commands of a read and the bytes of its reply, nothing parsed."""
    from fastserve import online

    sock = connected(store)
    plan = store.plan(store.get_feature_service(SERVICE), True)

    def prepare(keys: list[str]) -> Call:
        batch = online.begin(plan, rows(keys))
        commands, n = b"".join(iter(batch.commands, None)), len(keys)
        if plan.groups[0].vector_format == "packed":
            prefix = plan.groups[0].vector_prefix
            commands, n = hiredis.pack_command(("MGET", *(prefix + key for key in batch.entity_keys(0)))), 1
        sock.sendall(commands)
        return caller(sock, commands, size_of_replies(sock, n))

    return prepare


def size_of_replies(sock: socket.socket, n: int) -> int:
    """Receive so many replies; return how many bytes they are."""
    reader, size = hiredis.Reader(), 0
    for _ in range(n):
        while reader.gets() is False:
            data = sock.recv(1 << 17)
            size += len(data)
            reader.feed(data)
    return size


def open_store(subject: str, folder: str) -> Any:
    if subject == "feast":
        from feast import FeatureStore

        return FeatureStore(repo_path=folder)
    import fastserve

    return fastserve.FeatureStore(repo_path=folder)


def main() -> None:
    subject, folder = sys.argv[1:]
    store = open_store(subject, folder)
    prepare = None
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("build"):
            start = time.perf_counter()
            count = store.precompute_feature_service(SERVICE)
            print(json.dumps({"wall": time.perf_counter() - start, "vectors": count}), flush=True)
            continue
        if prepare is None:
            form = "to_numpy" if subject == "numpy" else "to_dict"
            prepare = bare_socket(store) if subject.endswith("floor") else sdk(store, form, subject == "views")
        print(json.dumps(measure(prepare(request["keys"]), request["calls"])), flush=True)


if __name__ == "__main__":
    main()
