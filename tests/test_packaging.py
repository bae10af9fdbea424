"""The package as such: its version, and what `import fastserve` costs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastserve
from fastserve._version import __version__

ROOT = Path(__file__).parent.parent
PACKAGE = Path(fastserve.__file__).parent

HEAVY = {"httptools", "httpx", "numpy", "pandas", "psycopg", "pyarrow", "sqlalchemy", "starlette", "uvicorn", "uvloop"}
"""Libraries that only some users need, or that take long to load."""

PROBE = """
import json, sys, threading
{}
print(json.dumps([sorted(sys.modules), [thread.name for thread in threading.enumerate()]]))
"""


def imported(statement: str) -> tuple[list[str], list[str]]:
    """Return the modules and threads of a fresh interpreter after one import."""
    command = [sys.executable, "-W", "error", "-c", PROBE.format(statement)]
    done = subprocess.run(command, cwd=PACKAGE.parent, stdout=subprocess.PIPE, check=True)
    modules, threads = json.loads(done.stdout)
    return modules, threads


@pytest.mark.parametrize("statement", ["import fastserve", "from fastserve import FeatureStore"])
def test_import_loads_nothing_heavy_and_starts_no_thread(statement: str) -> None:
    modules, threads = imported(statement)
    assert not {name.partition(".")[0] for name in modules} & HEAVY
    assert threads == ["MainThread"]


def test_import_of_the_package_loads_no_generated_code_and_no_server() -> None:
    modules, _ = imported("import fastserve")
    assert not [name for name in modules if name.endswith("_pb2") or name.startswith("fastserve.server")]


def test_changelog_opens_with_the_version() -> None:
    headings = re.findall(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == __version__


def test_version_is_public() -> None:
    assert fastserve.__version__ == __version__


def test_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "_core.pyi").is_file()
