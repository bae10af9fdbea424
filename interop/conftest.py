"""What the comparison runs with; all of it can be set: INTEROP_SEED, INTEROP_REQUESTS, FEAST_PYTHON.

It may run in several processes, a file in one of them (pytest's `-n`, `--dist loadfile`): fixtures are expensive.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.prepared import Prepared, prepared
from interop.sides import FEAST_PYTHON, ZYGOTES
from tests.conftest import short_folder

__all__ = ["REQUESTS", "SEED", "short_folder"]

SEED = int(os.environ.get("INTEROP_SEED") or random.SystemRandom().getrandbits(32))
os.environ["INTEROP_SEED"] = str(SEED)  # which the processes that pytest starts inherit
REQUESTS = int(os.environ.get("INTEROP_REQUESTS") or 1000)


def pytest_report_header() -> str:
    return f"interop: INTEROP_SEED={SEED} INTEROP_REQUESTS={REQUESTS} FEAST_PYTHON={FEAST_PYTHON}"


@pytest.fixture(scope="session", autouse=True)
def zygotes() -> Iterator[None]:
    """End the processes from which those of Feast are forked."""
    yield
    ZYGOTES.stop()


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory, short_folder: Path) -> Iterator[Prepared]:
    """The bank that Feast wrote, for `test_interop` and then for `test_remote`, which writes to it in the end."""
    with prepared(tmp_path_factory.mktemp("interop"), short_folder / "interop", SEED, REQUESTS) as found:
        yield found
