"""`fastserve vectors`, and what `apply` says of vectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastserve import FeatureStore
from tests.commands import Cli
from tests.repos import change
from tests.servers import RedisServer
from tests.vector_repos import USERS, at, write_config, write_vector_repo

pytestmark = pytest.mark.usefixtures("no_environment")


@pytest.fixture
def fastserve(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line over an applied repository with the service `one`; its views are loaded."""
    folder = write_vector_repo(tmp_path / "repo", {"type": "sqlite", "path": "data/online.db"})
    with FeatureStore(folder) as store:
        store.apply_repo()
        store.materialize(at(-10), at(1000))
    return Cli(folder, capsys, monkeypatch)


def test_build_and_status_and_drop(fastserve: Cli) -> None:
    built = fastserve("vectors", "build", "one", "--batch-size", "3")
    assert (built.status, built.out) == (0, f"one: {len(USERS)} vectors\n")
    assert fastserve("vectors", "build").out == built.out
    status = fastserve("vectors", "status").out.splitlines()
    assert status[0].startswith(f"one: {len(USERS)} vectors, format packed, by user_id; built at 20")
    assert status[0].endswith(f", {len(USERS)} then")
    assert fastserve("vectors", "drop", "one").out == "Deleted the vectors of one\n"
    assert fastserve("vectors", "drop", "one").error(1) == "feature service one has no vectors here"
    assert fastserve("vectors", "status", "one").out == "one: none are built here; it is read from its views\n"


@pytest.mark.parametrize(
    ("kind", "vector_format", "told"),
    [
        ("sqlite", "packed", "it cannot be read until they are"),
        ("redis", "packed", "it cannot be read until they are"),
        ("redis", "auto", "Feast's are read if there are any"),
        ("redis", "feast", "Feast's are read if there are any"),
    ],
)
def test_what_is_read_where_none_are_built(
    fastserve: Cli, empty_redis: RedisServer, kind: str, vector_format: str, told: str
) -> None:
    redis = {"type": "redis", "connection_string": empty_redis.connection_string}
    place = redis if kind == "redis" else {"type": "sqlite", "path": "data/other.db"}
    write_config(fastserve.repo, place, vector_format=vector_format)
    assert fastserve("vectors", "status").out == f"one: none are built here; {told}\n"


def test_a_service_that_is_not_read_from_vectors(fastserve: Cli) -> None:
    change(fastserve.repo, ", precompute_online=True", "")
    fastserve("apply")
    for command in ("build", "status"):
        lines = fastserve("vectors", command, "one").out.splitlines()
        assert lines[1].strip().startswith("not read: the service has no precompute_online=True")
    assert fastserve("vectors", "status").error(1).endswith("name one to look at it all the same")


def test_without_a_verb_there_is_help(fastserve: Cli) -> None:
    told = fastserve("vectors")
    assert told.status in (0, 2)  # as the version of click has it
    lines = (told.out + told.err).splitlines()
    assert lines[0].startswith("Usage: ")
    assert [line.split()[0] for line in lines if line.startswith("  ")][-3:] == ["build", "drop", "status"]


def test_progress_is_told_off_a_terminal(fastserve: Cli, caplog: pytest.LogCaptureFixture) -> None:
    fastserve("vectors", "build", "one")
    assert [record.getMessage().split(",")[0] for record in caplog.records if record.name == "fastserve.progress"] == [
        f"one: building: at most {len(USERS)} rows",
        f"one: building: ended after {len(USERS)} rows",
    ]


def test_mistakes_are_one_line(fastserve: Cli) -> None:
    assert fastserve("vectors", "build", "onn").error(1).endswith("does not exist in project p; did you mean one?")
    assert "no such option" in fastserve("vectors", "build", "--nope").error(2).lower()
    change(fastserve.repo, ", precompute_online=True", "")
    fastserve("apply")
    assert fastserve("vectors", "build").error(1).startswith("no feature service has precompute_online=True")


def test_apply_says_what_is_to_be_built(fastserve: Cli) -> None:
    change(fastserve.repo, "features=[a, b]", "features=[a, b, c]")
    lines = fastserve("apply").out.splitlines()
    assert lines[0] == "Updated feature service one"
    assert lines[-1].strip() == (
        "views with the join keys shop_id, user_id were added: c; its vectors are to be built again: fastserve vectors "
        "build one"
    )
    assert fastserve("vectors", "status").out.splitlines()[1:] == [
        "    stale: views with the join keys shop_id, user_id were added: c"
    ]
    assert "stale" in fastserve("get", "one", "-e", "user_id=u1", "-e", "shop_id=1").error(1)
    fastserve("vectors", "build")
    assert fastserve("get", "one", "-e", "user_id=u1", "-e", "shop_id=1").status == 0
