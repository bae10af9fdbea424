"""A few rounds of the fuzzer in every run of the tests; `make fuzz` gives it more time and the address sanitiser."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import Rand

FUZZ = Path(__file__).parent / "fuzz" / "fuzz_core.py"


def test_fuzz(rand: Rand) -> None:
    command = [sys.executable, str(FUZZ), "--seed", str(rand.first_seed), "--rounds", "5000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5000 rounds, 0 failed" in done.stdout


def test_a_round_can_be_repeated() -> None:
    command = [sys.executable, str(FUZZ), "--seed", "7", "--start", "123", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 rounds, 0 failed" in done.stdout
