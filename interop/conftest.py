"""What the comparison runs with; all of it can be set: INTEROP_SEED, INTEROP_REQUESTS, FEAST_PYTHON."""

from __future__ import annotations

import os
import random

from interop.sides import FEAST_PYTHON
from tests.conftest import short_folder

__all__ = ["REQUESTS", "SEED", "short_folder"]

SEED = int(os.environ.get("INTEROP_SEED") or random.SystemRandom().getrandbits(32))
REQUESTS = int(os.environ.get("INTEROP_REQUESTS") or 1000)


def pytest_report_header() -> str:
    return f"interop: INTEROP_SEED={SEED} INTEROP_REQUESTS={REQUESTS} FEAST_PYTHON={FEAST_PYTHON}"
