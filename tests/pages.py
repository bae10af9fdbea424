"""The pages of docs/: their code blocks, run as a reader would; their headings and links.

What is run, in the order of the page:

    python                   executed; all blocks of a page share their names
    python title="x.py"      written to that file of the repository
    console                  lines with `$ ` are commands, `> ` goes on with one, the others are what it prints
    text title="prints"      what the block before it prints
    yaml title="feature_store.yaml"     checked as a part of that file

`...` stands for anything, also for lines. `fastserve serve` is started on a free port, which takes the place of 6566 in
all later blocks. A comment `<!-- not run: why -->` before a block keeps it from being run.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fastserve import FeatureStore
from fastserve.cli import main
from fastserve.config import parse_config
from tests.server.serving import FeatureServer

__all__ = ["DOCS", "ROOT", "Block", "Page", "anchors", "blocks_of", "links_of", "write_program"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^(?P<indent> *)```(?P<head>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: \S[^>]*-->\s*$")
_PORT = "6566"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language, title: what its first line says, or "".
        line: the number of its first line of text, from 1.
        is_run: False behind the comment that says so.
    """

    language: str
    title: str
    text: str
    line: int
    is_run: bool


def blocks_of(text: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    found = []
    for match in _FENCE.finditer(text):
        language, _, rest = match["head"].strip().partition(" ")
        title = re.search(r'title="([^"]*)"', rest)
        line = text.count("\n", 0, match.start()) + 2
        is_run = not _NOT_RUN.search(text[: match.start()])
        body = "".join(piece.removeprefix(match["indent"]) for piece in match["text"].splitlines(keepends=True))
        found.append(Block(language, title[1] if title else "", body, line, is_run))
    return found


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as Python-Markdown makes them."""
    prose = _FENCE.sub("", text)
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", t) for t in re.findall(r"^#+ +(.+?) *$", prose, re.MULTILINE)]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title.replace("`", "")).strip().lower()) for title in titles}


def links_of(text: str) -> list[str]:
    """Return the targets of a page's links that lead to other pages of ours, or to places on this one."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))
    targets = re.findall(r"\[[^]\n]*\]\(([^)\s]+)\)", prose)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


class Page:
    """Runs the blocks of one page, in a folder of its own.

    Args:
        path: of the page.
        folder: where commands start and files are written.
        programs: a folder with the program `fastserve`.
    """

    def __init__(self, path: Path, folder: Path, programs: Path):
        self._path, self._folder = path, folder
        self._environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        self._names: dict[str, Any] = {"__name__": "page"}
        self._printed = ""
        self._port = _PORT
        self._exits = contextlib.ExitStack()
        self.n_run = 0

    def run(self) -> None:
        """Run all blocks. Raises AssertionError, or what a block raises, with its line in the traceback."""
        before = Path.cwd()
        try:
            for block in blocks_of(self._path.read_text(encoding="utf-8")):
                self._run(block)
        finally:
            os.chdir(before)
            self._close()

    def _run(self, block: Block) -> None:
        os.chdir(self._folder)
        name = {"python": "_python", "console": "_console", "text": "_text", "yaml": "_yaml"}.get(block.language)
        if block.is_run and name is not None:
            getattr(self, name)(block)

    def _python(self, block: Block) -> None:
        self.n_run += 1
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
            return
        tree = ast.parse(self._with_port(block.text), str(self._path))
        ast.increment_lineno(tree, block.line - 1)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(tree, str(self._path), "exec"), self._names)
        self._printed = printed.getvalue()

    def _text(self, block: Block) -> None:
        if block.title == "prints":
            self._compare(block.text, self._printed, block.line)

    def _yaml(self, block: Block) -> None:
        if block.title == "feature_store.yaml":
            self.n_run += 1
            needed = {"project": "shop", "registry": "data/registry.db"}
            parse_config({**needed, **yaml.safe_load(os.path.expandvars(block.text))}, self._folder)

    def _console(self, block: Block) -> None:
        self.n_run += 1
        line = block.line
        for piece in re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE):
            if piece.startswith("$ "):
                command, expected = _split(piece.removeprefix("$ "))
                self._command(command, expected, line)
            line += piece.count("\n")

    def _command(self, command: str, expected: str, line: int) -> None:
        first = command.split()[0]
        if first == "cd":
            self._folder = self._folder / command.split()[1]
            os.chdir(self._folder)
        elif re.match(r"fastserve\b.* serve\b|fastserve serve\b", command):
            self._serve()
        else:
            status, printed, complaint = self._in_process(command) if _is_plain(command) else self._in_shell(command)
            assert status == 0, f"{self._path.name}:{line}: {command}\n{complaint}"
            self._compare(expected, printed, line)

    def _in_process(self, command: str) -> tuple[int, str, str]:
        """Run a command of fastserve here, which saves most of its time: starting Python."""
        printed, complaint = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complaint):
            try:
                main(shlex.split(command)[1:])
            except SystemExit as end:
                return int(end.code or 0), printed.getvalue(), complaint.getvalue()
        raise AssertionError(f"{command} did not exit")

    def _in_shell(self, command: str) -> tuple[int, str, str]:
        words = ["bash", "-c", self._with_port(command)]
        done = subprocess.run(words, env=self._environment, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def _serve(self) -> None:
        server = FeatureServer.start(self._folder, self._folder / "server.log", "--no-access-log")
        self._exits.enter_context(server)
        self._port = str(server.port)

    def _with_port(self, text: str) -> str:
        return text.replace(f":{_PORT}", f":{self._port}")

    def _compare(self, expected: str, printed: str, line: int) -> None:
        parts = [re.escape(part.strip()) for part in expected.strip().split("...")]
        matches = re.fullmatch(r"\s*" + r"[\s\S]*".join(parts) + r"\s*", printed) or not expected.strip()
        assert matches, f"{self._path.name}:{line}: expected\n{expected}\nbut printed was\n{printed}"

    def _close(self) -> None:
        for value in self._names.values():
            if isinstance(value, FeatureStore):
                value.close()
        self._exits.close()


def _split(text: str) -> tuple[str, str]:
    """Return a command, which may go on in further lines, and what it is to print."""
    match = re.match(r"(.*(?:\n> .*|(?<=\\)\n.*)*)\n?", text)
    assert match is not None
    return match[1].replace("\\\n", "").replace("\n> ", "\n"), text[match.end() :]


def _is_plain(command: str) -> bool:
    return command.startswith("fastserve ") and not set(command) & set("$|<>;&")


def write_program(folder: Path) -> None:
    """Write a program `fastserve` that runs this source tree."""
    folder.mkdir()
    program = folder / "fastserve"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m fastserve "$@"\n')
    program.chmod(0o755)
