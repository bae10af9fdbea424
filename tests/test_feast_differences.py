"""docs/feast-differences.md: every row names tests that exist, and every difference in the tests has its row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.server import test_golden_http as golden
from tests.server import test_write_routes as writes

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "feast-differences.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| Feast |"))]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)(?:\[(\w+)\])?`", PAGE)

# Further examples of what a row with another name explains.
SAME_AS = dict.fromkeys(["feature_service_odfv", *writes.STATUSES], "features_full_names")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:60])
def test_a_row_is_complete(row: str) -> None:
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 4
    assert cells[0] and cells[1]
    assert re.fullmatch(r"`tests/[^`]+::[^`]+`(, `tests/[^`]+::[^`]+`)*", cells[3])


@pytest.mark.parametrize(("path", "function"), sorted({(path, function) for path, function, _ in NAMED}))
def test_the_test_exists(path: str, function: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_recorded_difference_has_a_row() -> None:
    differences = {*golden.CHANGED, *golden.ANSWERED, *golden.MISTAKES}
    differences |= {*golden.SQLITE_CHANGED, *golden.SQLITE_ANSWERED, *golden.SQLITE_MISTAKES}
    differences |= {*writes.MISTAKES, *writes.STATUSES}
    assert {SAME_AS.get(name, name) for name in differences} == {case for _, _, case in NAMED if case}
