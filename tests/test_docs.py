"""docs/: the pages' code blocks do what the pages say, links lead somewhere, and the lists of names are complete."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

import fastserve
from fastserve import FeatureStore
from fastserve.cli import cli
from fastserve.offline_half import OfflineHalfMixin
from fastserve.templates import write_repository
from tests.pages import DOCS, ROOT, Page, anchors, blocks_of, links_of, write_program

PAGES = sorted(DOCS.rglob("*.md"))
WITH_CODE = [
    page for page in PAGES if any(block.language in ("python", "console") for block in blocks_of(page.read_text()))
]
MAKES_ITS_OWN = "quickstart.md"

COMPATIBILITY = (DOCS / "compatibility.md").read_text()
NAMES = set(re.findall(r"`@?([\w-]+)`", COMPATIBILITY))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "bin"
    write_program(folder)
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the quickstart makes."""
    repository = write_repository(tmp_path_factory.mktemp("shop"), "shop", "local")
    with FeatureStore(repository) as store:
        store.apply_repo()
        store.materialize_incremental(datetime.now(timezone.utc))
    return repository


@pytest.mark.parametrize("path", WITH_CODE, ids=lambda path: path.stem)
def test_the_code_of_a_page(path: Path, shop: Path, programs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    if path.name == MAKES_ITS_OWN:
        folder.mkdir()
    else:
        shutil.copytree(shop, folder)
    page = Page(path, folder, programs)
    page.run()
    runnable = [
        block for block in blocks_of(path.read_text()) if block.is_run and block.language in ("python", "console")
    ]
    assert page.n_run >= len(runnable)


@pytest.mark.parametrize("text", ["['Lyon', 1]", "['Lyon', ...]", "..."])
def test_what_is_printed_is_compared(text: str, tmp_path: Path, programs: Path) -> None:
    page = _page(tmp_path, text)
    Page(page, tmp_path, programs).run()


def test_what_is_printed_must_be_as_the_page_says(tmp_path: Path, programs: Path) -> None:
    with pytest.raises(AssertionError, match=r"page.md:6: expected"):
        Page(_page(tmp_path, "['Lyon']"), tmp_path, programs).run()


def test_a_command_that_fails_fails_the_page(tmp_path: Path, programs: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ true\n$ fastserve get nothing\n```\n")
    with pytest.raises(AssertionError, match=r"page.md:3: fastserve get nothing\nError: "):
        Page(page, tmp_path, programs).run()


def _page(folder: Path, printed: str) -> Path:
    page = folder / "page.md"
    page.write_text(f"```python\nprint(['Lyon', 1])\n```\n\n```text title=\"prints\"\n{printed}\n```\n")
    return page


@pytest.mark.parametrize("path", [*PAGES, *sorted(ROOT.glob("*.md"))], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in links_of(path.read_text()):
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), f"{path.name}: {link}"
        if path.is_relative_to(DOCS):
            assert file.is_relative_to(DOCS), f"{path.name}: {link} is not part of the site"
        assert not anchor or anchor in anchors(file.read_text()), f"{path.name}: {link}"


def test_the_navigation_has_all_pages() -> None:
    lines = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"[\w/-]+\.md", str(yaml.safe_load(lines)["nav"])))
    assert {str(page.relative_to(DOCS)) for page in PAGES} == named


def test_the_reference_finds_the_sections_of_docstrings() -> None:
    """It takes `Raises:` for plain text where no empty line comes before."""
    described = {
        name: resolve_name(name)
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    }
    assert described
    for name, found in described.items():
        for doc in _docs(found):
            assert not re.search(r"\S\n(Args|Attributes|Raises|Returns):\n", doc), f"{name}: {doc}"


def _docs(found: object, depth: int = 0) -> Iterator[str]:
    """The docstrings of a module or class and of its public members."""
    yield inspect.getdoc(found) or ""
    names = getattr(found, "__all__", [name for name in dir(found) if not name.startswith("_")])
    if depth < 2 and (inspect.ismodule(found) or inspect.isclass(found)):
        for name in names:
            yield from _docs(inspect.getattr_static(found, name), depth + 1)


def test_commands_are_listed() -> None:
    assert set(cli.commands) <= NAMES


def test_methods_that_are_listed_exist() -> None:
    table = COMPATIBILITY.split("## `FeatureStore`")[1].split("##")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} <= _public(FeatureStore)


def test_methods_said_to_be_refused_are_those_that_are() -> None:
    table = COMPATIBILITY.split("## `FeatureStore`")[1].split("##")[0]
    rows = [row for row in table.splitlines() if "`NotSupportedError`" in row or row.endswith("| None |")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} - {"NotSupportedError"} == _public(
        OfflineHalfMixin
    )


def test_names_of_the_package_are_listed() -> None:
    assert {name for name in fastserve.__all__ if not name.startswith("_")} <= NAMES


def _public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}
