"""`make bench ARGS=--smoke`: everything that it measures runs, and Feast and fastserve answer alike; not how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from interop.sides import FEAST_PYTHON, ROOT

CASES = {"fastserve regular", "feast regular", "floor regular"}


def test_the_benchmark_runs_and_answers_are_equal(tmp_path: Path) -> None:
    environment = {**os.environ, "FEAST_PYTHON": str(FEAST_PYTHON)}
    command = [sys.executable, str(ROOT / "bench/run.py"), "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    for mode, one in found["modes"].items():
        assert CASES <= one["latency"]["1"].keys(), mode
        assert all(case["n"] for rows in one["latency"].values() for case in rows.values())
    assert found["load"]["fastserve regular"]["shares"]["0.5"]["p99"] > 0
    assert found["cost"]["reads"]["1"]["feast regular"]["redis_in"] > 0
    assert found["scaling"]["rows"]["10"]["fastserve"] > 0
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert "## Access modes" in (tmp_path / "README.md").read_text()
