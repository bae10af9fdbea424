"""Feast and fastserve in one process, in the environment that has both.

    python -m interop.both_sides FIRST FOLDER REPO ...

FIRST, "feast" or "fastserve", is imported before the other. Both answer the questions in FOLDER/questions about each
repository in turn, into FOLDER/<repository>-feast and FOLDER/<repository>-ours; FOLDER/process gets where the packages
come from.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from interop.exchange import Json, Question, answer, read_lines, write_lines


def main(first: str, folder: Path, *repos: Path) -> None:
    """Import both, ask both, and look at the protobuf messages of both."""
    for package in sorted(("feast", "fastserve"), key=lambda name: name != first):
        importlib.import_module(package)
    for repo in repos:
        pairs = list(answers(folder / "questions", repo))
        write_lines(folder / f"{repo.name}-feast", (theirs for theirs, _ in pairs))
        write_lines(folder / f"{repo.name}-ours", (ours for _, ours in pairs))
    (folder / "process").write_text(json.dumps(about_the_process()))


def answers(questions: Path, repo: Path) -> Iterator[tuple[Json, Json]]:
    """Yield both answers to each question, by stores that live side by side."""
    import feast

    import fastserve
    from interop import fastserve_side, feast_side

    theirs = feast.FeatureStore(repo_path=str(repo))
    with fastserve.FeatureStore(repo_path=repo) as ours:
        for question in map(Question.from_json, read_lines(questions)):
            yield (
                answer(question, lambda q: feast_side.ask(theirs, q)),
                answer(question, lambda q: fastserve_side.ask(ours, q)),
            )


def about_the_process() -> Json:
    """Where the packages come from, and whether their messages live side by side in protobuf's one pool."""
    import feast
    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse as Theirs
    from google.protobuf import descriptor_pool

    import fastserve
    from fastserve.registry.schema_pb2 import GetOnlineFeaturesResponse as Ours

    names = [Ours.DESCRIPTOR.full_name, Theirs.DESCRIPTOR.full_name]
    pool = descriptor_pool.Default()
    assert [pool.FindMessageTypeByName(name).full_name for name in names] == names
    return {"fastserve": fastserve.__file__, "feast": feast.__file__, "messages": names}


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
