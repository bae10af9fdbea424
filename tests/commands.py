"""Running the command line in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastserve.cli import main

__all__ = ["Cli", "Run"]


class Run:
    """What one run of the command left: `status`, `out`, `err`."""

    def __init__(self, status: int, out: str, err: str):
        self.status, self.out, self.err = status, out, err

    def __repr__(self) -> str:
        return f"status {self.status}\n{self.out}\n{self.err}"

    def json(self) -> Any:
        assert (self.status, self.err) == (0, ""), self
        return json.loads(self.out)

    def error(self, status: int) -> str:
        """Return the one line of an error."""
        assert (self.status, self.out) == (status, ""), self
        lines = self.err.splitlines()
        assert len(lines) == 1, self
        assert lines[0].startswith("Error: ")
        return lines[0].removeprefix("Error: ")


class Cli:
    """Runs `fastserve` with a repository; `terminal` makes it write as if to one."""

    def __init__(self, repo: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch):
        self.repo, self._capture, self._patch = repo, capture, patch

    def __call__(self, *arguments: str, terminal: bool = False) -> Run:
        self._patch.setattr("fastserve.cli.terminal.is_terminal", lambda: terminal)
        self._capture.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["-c", str(self.repo), *arguments])
        out, err = self._capture.readouterr()
        return Run(int(end.value.code or 0), out, err)
