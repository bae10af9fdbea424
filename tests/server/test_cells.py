"""Cells that outlive the process that counts in them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter as Tally
from pathlib import Path

import pytest

from fastserve._core import Counter
from fastserve.server.cells import CHUNK_BYTES, MANY_DEAD, Cells, Series, make_folder, read_folder, remove_folder
from tests.server.serving import environment

CHILD = """
import os, sys
from pathlib import Path
from fastserve._core import Counter
from fastserve.server.cells import Cells
cells = Cells(Path(sys.argv[1]))
Counter(*cells.series("c", (("who", sys.argv[2]),), 1)).add(int(sys.argv[3]))
print("ready", flush=True)
sys.stdin.read()
"""


def child(folder: Path, who: str, n: int) -> subprocess.Popen[bytes]:
    """Start a process that counts `n` and then waits for the end of its input."""
    command = [sys.executable, "-c", CHILD, str(folder), who, str(n)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def sums(series: list[Series]) -> dict[str, int]:
    """Return label value -> sum of the first cells."""
    found: Tally[str] = Tally()
    for one in series:
        found[one.labels[0][1]] += one.values[0]
    return dict(found)


def ended(folder: Path, who: str, n: int) -> None:
    """Leave the files of a process that has ended."""
    cells = Cells(folder)
    Counter(*cells.series("c", (("who", who),), 1)).add(n)
    cells.close()


@pytest.mark.parametrize("private", [True, False])
def test_series_have_their_own_cells(tmp_path: Path, private: bool) -> None:
    cells = Cells(None if private else tmp_path)
    Counter(*cells.series("a", (), 1)).add(3)
    buffer, first = cells.series("b", (("x", "é"), ("y", '"')), 3)
    Counter(buffer, first + 2).add(-4)
    assert [(one.name, one.labels, one.values) for one in cells.read()] == [
        ("a", (), (3,)),
        ("b", (("x", "é"), ("y", '"')), (0, 0, -4)),
    ]
    assert all(one.is_alive and one.pid == os.getpid() for one in cells.read())
    cells.close()


@pytest.mark.parametrize("private", [True, False])
def test_there_is_room_for_more_than_a_chunk(tmp_path: Path, private: bool) -> None:
    cells = Cells(None if private else tmp_path)
    n = CHUNK_BYTES // 8 // 10 - 1
    for i in range(25):
        Counter(*cells.series("c", (("who", str(i)),), n)).add(i)
    assert sums(cells.read()) == {str(i): i for i in range(25)}
    assert {len(one.values) for one in cells.read()} == {n}
    cells.close()


def test_all_processes_are_read_also_those_that_were_killed(tmp_path: Path) -> None:
    first, second = child(tmp_path, "x", 1), child(tmp_path, "x", 10)
    mine = Cells(tmp_path)
    Counter(*mine.series("c", (("who", "x"),), 1)).add(100)
    os.kill(first.pid, signal.SIGKILL)
    end(first)
    found = read_folder(tmp_path)
    assert sums(found) == {"x": 111}
    assert {(one.pid, one.is_alive) for one in found} == {
        (first.pid, False),
        (second.pid, True),
        (os.getpid(), True),
    }
    end(second)
    assert sums(mine.read()) == {"x": 111}
    mine.close()


def test_files_of_the_dead_are_summed_up(tmp_path: Path) -> None:
    living = child(tmp_path, "living", 5)
    for i in range(3 * MANY_DEAD):
        ended(tmp_path, f"{i % 2}", 1)
    assert len(list(tmp_path.glob("*.names"))) <= MANY_DEAD + 1
    assert sums(read_folder(tmp_path)) == {"0": 3 * MANY_DEAD / 2, "1": 3 * MANY_DEAD / 2, "living": 5}
    assert [one.is_alive for one in read_folder(tmp_path) if one.labels[0][1] == "living"] == [True]
    end(living)


def test_an_interrupted_sum_counts_nothing_twice(tmp_path: Path) -> None:
    for _ in range(MANY_DEAD):
        ended(tmp_path, "x", 1)
    kept = {path: path.read_bytes() for path in [*tmp_path.glob("*.names"), *tmp_path.glob("*.cells")]}
    ended(tmp_path, "x", 1)
    assert json.loads((tmp_path / "dead.json").read_text())["series"] == [["c", {"who": "x"}, [MANY_DEAD]]]
    for path, content in kept.items():  # as if the process had died before it deleted them
        path.write_bytes(content)
    assert sums(read_folder(tmp_path)) == {"x": MANY_DEAD + 1}


def test_half_a_line_is_not_read(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    Counter(*cells.series("a", (), 1)).add(3)
    (names,) = tmp_path.glob("*.names")
    with names.open("ab") as file:
        file.write(b'["b", {}')
    assert [one.name for one in cells.read()] == ["a"]
    cells.close()


def test_the_folder_comes_and_goes() -> None:
    folder = make_folder()
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0
    ended(folder, "x", 1)
    read_folder(folder)
    remove_folder(folder)
    assert not folder.exists()
