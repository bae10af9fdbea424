"""What the pages say of speed is what bench/results.json gives; and bench/compare.py."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "bench"

pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="a wheel has no bench/")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of bench/."""
    monkeypatch.syspath_prepend(str(BENCH))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # dataclasses look for their module there
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((BENCH / "results.json").read_text())
    return found


def test_blocks_of_pages_are_as_rendered(load: Any, results: dict[str, Any]) -> None:
    render, marked = load("render"), load("marked")
    assert render.BLOCKS
    for page, name, block in render.BLOCKS:
        assert marked.block_of((ROOT / page).read_text(), name) == block(results), f"{page}: run bench/render.py"


def test_the_page_of_figures_is_as_rendered(load: Any, results: dict[str, Any]) -> None:
    assert (BENCH / "README.md").read_text() == load("render").page(results)


def test_the_plot_is_of_these_results(load: Any, results: dict[str, Any]) -> None:
    headline = load("headline")
    text = (ROOT / headline.PLOT).read_text()
    for label, ratio in headline.ratios(results).items():
        assert label in text
        assert f" {ratio:,.3g}<" in text, f"{headline.PLOT}: run bench/render.py"


def test_what_vectors_cost(load: Any, results: dict[str, Any]) -> None:
    names = ("floor", "packed", "numpy", "views", "blobs_floor", "blobs", "feast")
    reads = {n: {name: {"wall": i * 1e-3, "cpu": i * 1e-3} for i, name in enumerate(names, 1)} for n in ("1", "500")}
    memory = {"hash": 900.0, "packed": 1500.0, "feast": 5000.0}
    found = {"stored": 2000, "reads": reads, "memory": memory, "build": {"feast": 2.0, "fastserve": 0.04}}
    tables = load("vector_tables")
    block = tables.vectors_block({**results, "vectors": found})
    assert "| packed vectors, `to_dict` | 2,000 | 2,000 | 1,500 |" in block
    assert "| the same by Feast itself, `to_dict` | 7,000 | 7,000 | 5,000 |" in block
    assert "50,000 a second, by Feast at 1,000" in block
    section = tables.vectors_section(found)
    assert (
        "| 500 | 1,000 | 2,000 | 2.00 | 4 | 3,000 | 3.00 | 2 | 6,000 | 1.20 | 4,000 | 7,000 | 2,000 | 7,000 | 4 |"
        in section
    )
    assert "(0.30 of that is ours)" in section


@pytest.mark.parametrize(
    ("unit", "figure", "verdict"),
    [
        ("x Feast", 30, "reached"),
        ("x Feast", 29.9, "short of the goal"),
        ("x Feast", 19.9, "**not reached**"),
        ("x floor", 19, "reached"),
        ("x floor", 30, "short of the goal"),
        ("x floor", 31, "**not reached**"),
        ("x Feast", None, "not measured"),
    ],
)
def test_what_is_said_of_a_goal(load: Any, unit: str, figure: float | None, verdict: str) -> None:
    goals = load("goals")
    less = unit != "x Feast"
    asked, aim = (30, 20) if less else (20, 30)
    assert goals.verdict(goals.Goal("", unit, asked, aim, lambda _: figure), figure) == verdict


def test_goals_that_were_not_measured_are_said_to_be_so(load: Any) -> None:
    goals = load("goals")
    text = goals.goals_section({})
    assert text.count("not measured") == len(goals.GOALS)
    assert "What holds" not in text


def test_a_block_is_replaced_and_nothing_else(load: Any) -> None:
    marked = load("marked")
    page = "a\n<!-- bench:x -->\nold\n<!-- end bench:x -->\nb\n"
    new = marked.replaced(page, "x", "new\n")
    assert new == "a\n<!-- bench:x -->\nnew\n<!-- end bench:x -->\nb\n"
    with pytest.raises(ValueError):
        marked.replaced(page, "y", "new\n")


def case(p50: float, p95: float) -> dict[str, float]:
    return {"n": 100, "p50": p50, "p95": p95, "p99": p95, "mean": p50}


@pytest.mark.parametrize(
    "old, new, mark",
    [
        (case(1.0, 1.05), case(1.3, 1.35), "worse"),
        (case(1.3, 1.35), case(1.0, 1.05), "better"),
        (case(1.0, 1.05), case(1.05, 1.1), ""),
        (case(1.0, 2.0), case(1.3, 2.0), ""),  # within the noise of the calls themselves
    ],
)
def test_two_files_of_results(old: dict[str, float], new: dict[str, float], mark: str, tmp_path: Path) -> None:
    for name, found in (("old", old), ("new", new)):
        (tmp_path / name).write_text(
            json.dumps({"machine": {}, "modes": {"REST": {"1": {"fastserve regular": found}}}})
        )
    done = compared(tmp_path)
    [line] = [line for line in done.stdout.splitlines() if " / p50 " in line]
    assert line.split()[-1] == (mark or f"{new['p50'] / old['p50']:.2f}")
    assert done.returncode == (mark == "worse"), done.stdout + done.stderr


def test_more_of_a_rate_is_better_and_feasts_do_not_count(tmp_path: Path) -> None:
    for name, rate in (("old", 100.0), ("new", 50.0)):
        (tmp_path / name).write_text(json.dumps({"load": {"feast regular": {"saturation": rate}}}))
    done = compared(tmp_path)
    assert "worse" in done.stdout
    assert done.returncode == 0


def compared(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / "compare.py"), str(folder / "old"), str(folder / "new")]
    return subprocess.run(command, capture_output=True, text=True, check=False)
