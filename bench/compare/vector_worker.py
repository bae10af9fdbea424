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
objects       nothing                                                 the objects of `packed`, made by loops in C

Reads one request per line from stdin, {"keys": [...], "calls": n}, and answers as worker.py does. The job {"build":
true} builds the packed vectors and answers {"wall": seconds, "vectors": n}.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from array import array
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import hiredis
from floor import caller, connected, rows, size_of_replies
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


def reader_of(store: Any, subject: str) -> Callable[[list[str]], Call]:
    if subject.endswith("floor"):
        return bare_socket(store)
    return sdk(store, "to_numpy" if subject == "numpy" else "to_dict", subject == "views")


def objects(store: Any) -> Callable[[list[str]], Call]:
    """The same dict of equal lists, each of objects that a loop in C makes anew."""
    read = sdk(store, "to_dict")

    def prepare(keys: list[str]) -> Call:
        answer = read(keys)()
        makers = {name: maker(values) for name, values in answer.items()}

        def make() -> dict[str, list[Any]]:
            return {name: made() for name, made in makers.items()}

        assert make() == answer
        return make

    return prepare


def maker(values: list[Any]) -> Callable[[], list[Any]]:
    """A call that makes a list of equal values, as new objects if there are no nulls in it."""
    first = values[0]
    if None in values or isinstance(first, bool):
        return values.copy
    if isinstance(first, (int, float)):
        return array("q" if isinstance(first, int) else "d", values).tolist
    if isinstance(first, str):
        return " ".join(values).split if all(values) and not any(" " in value for value in values) else values.copy
    seconds = [value.timestamp() for value in values]
    utc = itertools.repeat(timezone.utc)
    return lambda: list(map(datetime.fromtimestamp, seconds, utc))


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
            prepare = objects(store) if subject == "objects" else reader_of(store, subject)
        print(json.dumps(measure(prepare(request["keys"]), request["calls"])), flush=True)


if __name__ == "__main__":
    main()
