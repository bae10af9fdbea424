"""The core does not leak: each script of tests/isolated runs in a process of its own and tells how far it grew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LEAK = Path(__file__).parent / "isolated" / "leak.py"
PIECES = ["decode", "decode_json", "encode", "refuse", "keys", "answer", "broken_answer"]
MAX_BYTES = 5_000_000
MAX_BLOCKS = 1000
"""The rarest piece runs 1,600 times after the warm-up: a leak of one object each time is far more than this."""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", PIECES)
def test_does_not_leak(name: str) -> None:
    done = subprocess.run([sys.executable, str(LEAK), name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["rounds"] == 200_000
    assert result["bytes"] < MAX_BYTES
    assert result["blocks"] < MAX_BLOCKS


def test_every_piece_is_run() -> None:
    helped = subprocess.run([sys.executable, str(LEAK), "--help"], capture_output=True, text=True, check=True)
    choices = helped.stdout.partition("{")[2].partition("}")[0]
    assert sorted(PIECES) == choices.split(",")
