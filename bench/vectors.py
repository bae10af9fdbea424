"""Precomputed vectors: reads of packed ones and of Feast's beside Feast and beside the bare socket; how fast they are
built; how much memory they take."""

from __future__ import annotations

import random
import shutil
import socket
import statistics
import sys
from pathlib import Path
from typing import Any

from harness import BENCH, CORES, Subject, pin, redis_server, run

__all__ = ["SERVICE", "loaded", "vectors"]

SIZES = {1: 2000, 10: 1000, 100: 200, 500: 60}  # entities of a request -> calls of fastserve in one round
FEAST_SHARE = 20  # Feast makes a twentieth of the calls: it takes longer
SUBJECTS = ("floor", "packed", "numpy", "objects", "views", "blobs_floor", "blobs", "feast")
DATABASES = {"feast": 0, "packed": 1}
SERVICE = "everything"  # the one that is precomputed, in compare/repo


def vectors(feast: str, stored: int, rounds: int) -> dict[str, Any]:
    """Measure all of it, over a Redis with two databases: one that Feast wrote and built, one that fastserve did.

    Args:
        feast: Feast's Python.
        stored: how many entities there are.
    Returns:
        reads: entities of a request -> subject -> median seconds of a call, wall and CPU; build: seconds by subject for
        all entities; memory: bytes of an entity in Redis, hash and vector, by subject; and of the hash alone.
    """
    import tempfile

    with redis_server() as (port, redis), tempfile.TemporaryDirectory() as temporary:
        places, feast_build = loaded(feast, Path(temporary), port, stored)
        pin(redis, CORES[-1])
        # Alone: others that start meanwhile would take a core from it.
        builder = subject(feast, "packed", places)
        build = measure_builds(builder, rounds)
        builder.close()
        subjects = [subject(feast, name, places) for name in SUBJECTS]
        results = {
            "stored": stored,
            "build": {"feast": feast_build, "fastserve": build},
            "memory": memory(port),
            "reads": {entities: reads(subjects, stored, rounds, entities) for entities in SIZES},
        }
        for one in subjects:
            one.close()
    print(
        f"build of {stored} vectors: Feast {feast_build:.2f} s, fastserve {build:.3f} s ({feast_build / build:.0f} x)"
    )
    print("bytes of an entity:", results["memory"], f"({results['memory']['packed'] / results['memory']['feast']:.2f})")
    return results


def loaded(feast: str, folder: Path, port: int, stored: int) -> tuple[dict[str, Path], float]:
    """Return the two repositories, loaded and their vectors built, and the seconds of Feast's build."""
    places = {name: folder / name for name in DATABASES}
    prepare = [feast, str(BENCH / "compare/prepare_feast.py"), str(places["feast"]), str(port), str(stored)]
    places["feast"].mkdir()
    feast_build = float(run([*prepare, "vectors"], places["feast"]).split()[-1])
    second_repository(places, port)
    return places, feast_build


def subject(feast: str, name: str, places: dict[str, Path]) -> Subject:
    python = feast if name == "feast" else sys.executable
    place = "packed" if name in ("floor", "packed", "numpy", "objects", "views") else "feast"
    return Subject(python, "vector_worker.py", name, places[place], CORES[0])


def second_repository(places: dict[str, Path], port: int) -> None:
    """Copy the repository to another database, and let fastserve load it, with vectors."""
    shutil.copytree(places["feast"], places["packed"])
    config = (places["packed"] / "feature_store.yaml").read_text()
    config = config.replace(f"{places['feast']}/", f"{places['packed']}/")
    config = config.replace(f'"127.0.0.1:{port}"', f'"127.0.0.1:{port},db={DATABASES["packed"]}"')
    (places["packed"] / "feature_store.yaml").write_text(config)
    times = ("2025-01-01", "2026-06-01")
    run([sys.executable, "-m", "fastserve", "-c", str(places["packed"]), "materialize", *times], places["packed"])


def measure_builds(packed: Subject, rounds: int) -> float:
    """Median seconds of a build of all vectors."""
    taken: list[float] = [packed.measure(build=True)["wall"] for _ in range(max(rounds, 1))]
    return statistics.median(taken)


def reads(subjects: list[Subject], stored: int, rounds: int, entities: int) -> dict[str, dict[str, float]]:
    rand = random.Random(entities)
    taken: dict[str, list[dict[str, Any]]] = {one.name: [] for one in subjects}
    for _ in range(rounds):
        # In order and once each: of others Feast's vectors go to wrong rows.
        keys = [f"C{i:06d}" for i in sorted(rand.sample(range(stored), entities))]
        for one in subjects:
            calls = SIZES[entities]
            taken[one.name].append(
                one.measure(keys=keys, calls=max(calls // FEAST_SHARE, 2) if one.name == "feast" else calls)
            )
    for answers in zip(*(taken[name] for name in ("packed", "views", "blobs", "feast")), strict=True):
        assert len({answer["digest"] for answer in answers}) == 1, f"answers differ at {entities} entities"
    found = {
        name: {kind: statistics.median(each[kind] for each in rows) for kind in ("wall", "cpu")}
        for name, rows in taken.items()
    }
    print(report_line(entities, {name: each["wall"] for name, each in found.items()}), flush=True)
    return found


def report_line(entities: int, wall: dict[str, float]) -> str:
    feast, floor, blobs = wall["feast"], wall["floor"], wall["blobs"]

    def told(name: str) -> str:
        return f"{wall[name] * 1e6:8.1f} us ({wall[name] / floor:.2f} x floor, Feast {feast / wall[name]:.0f} x)"

    return (
        f"{entities:4} entities: floor {floor * 1e6:8.1f} us   "
        f"to_dict {told('packed')}   to_numpy {told('numpy')}   "
        f"Feast's blobs {blobs * 1e6:8.1f} us ({blobs / wall['blobs_floor']:.2f} x their floor)   "
        f"Feast {feast * 1e6:9.1f} us"
    )


def memory(port: int) -> dict[str, float]:
    """Return the bytes of an entity, by what is kept of it."""
    packed, feast = (bytes_per_entity(port, DATABASES[name]) for name in ("packed", "feast"))
    return {"hash": packed[0], "packed": sum(packed), "feast": sum(feast)}


def bytes_per_entity(port: int, database: int) -> tuple[float, float]:
    """Return what Redis takes for an entity on average, as MEMORY USAGE says: its hash, and its packed vector."""
    with socket.create_connection(("127.0.0.1", port)) as sock, sock.makefile("rb") as replies:

        def call(*words: bytes) -> Any:
            sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
            return reply(replies)

        call(b"SELECT", b"%d" % database)
        taken, hashes = {False: 0, True: 0}, 0
        for key in call(b"KEYS", b"*"):
            if b"customer_id" in key:
                is_vector = key.startswith(b"fsv:")
                taken[is_vector] += call(b"MEMORY", b"USAGE", key, b"SAMPLES", b"0")
                hashes += not is_vector
        return taken[False] / hashes, taken[True] / hashes


def reply(replies: Any) -> Any:
    line = replies.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"*":
        return [reply(replies) for _ in range(int(rest))]
    if kind == b"$":
        return replies.read(int(rest) + 2)[:-2]
    return int(rest) if kind == b":" else rest
