"""`tests/` holds the oracle and the requests; it is not installed, so the root of the project must be importable."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
