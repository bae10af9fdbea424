"""The layers: which part of the package may import which, and that every module can be imported on its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastserve

PACKAGE = Path(fastserve.__file__).parent

CORE = frozenset({"_core", "errors"})
BELOW_STORE = CORE | {"_version", "config", "model", "types", "registry", "plan", "transform", "response", "online"}
SDK = BELOW_STORE | {"stores", "sources", "write"}

MAY_IMPORT: dict[str, frozenset[str]] = {
    "_version": frozenset(),
    "errors": frozenset(),
    "_core": frozenset({"errors"}),
    "types": frozenset({"errors"}),
    "model": frozenset({"errors", "types"}),
    "config": frozenset({"errors"}),
    "registry": frozenset({"errors", "types", "model", "config"}),
    "plan": CORE | {"types", "model", "registry", "transform"},
    "transform": CORE | {"model"},
    # The answer as protobuf is one of the registry's messages.
    "response": CORE | {"model", "types", "registry.schema_pb2"},
    "online": CORE | {"plan", "transform"},
    "stores": CORE | {"model", "config"},
    "sources": frozenset({"errors", "model"}),
    "write": CORE | {"plan", "registry", "sources", "stores.base"},
    "feature_store": SDK,
    "server": frozenset({"_version", "errors", "config", "feature_store"}),
    "cli": frozenset({"_version", "errors", "config", "feature_store", "server"}),
    "__main__": frozenset({"cli"}),
    "__init__": SDK | {"feature_store"},
}
"""Part -> the parts it may import: the table of ARCHITECTURE.md. A part is a module, or a sub-package with all of its
modules; `stores.base` allows that one module of a sub-package. Imports inside functions and for type checkers count."""


def modules() -> list[str]:
    """Return the dotted names, below `fastserve`, of all modules."""
    paths = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    return [*sorted(".".join(path.parts) for path in paths), "_core"]


def part_of(module: str) -> str:
    return module.partition(".")[0]


def imports_of(module: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name below `fastserve`) of each import of our own code in a module."""
    if module == "_core":
        yield from compiled_imports()
        return
    for node in ast.walk(ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, below(alias.name)) for alias in node.names if is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and is_ours(name := full_name(module, node)):
            yield from ((node.lineno, below(resolve(name, alias.name))) for alias in node.names)


def full_name(module: str, node: ast.ImportFrom) -> str:
    """Return the dotted name after `from`, also of a relative import."""
    package = ["fastserve", *module.split(".")[:-1]]
    start = package[: len(package) + 1 - node.level] if node.level else []
    return ".".join([*start, *filter(None, [node.module])])


def compiled_imports() -> Iterator[tuple[int, str]]:
    source = PACKAGE / "_core.pyx"
    if source.exists():  # not in a wheel
        for number, line in enumerate(source.read_text().splitlines(), 1):
            words = line.split()
            if words[:1] in (["import"], ["from"]) and is_ours(words[1]):
                yield number, below(words[1])


def is_ours(name: str) -> bool:
    return part_of(name) == "fastserve"


def resolve(package: str, name: str) -> str:
    """Return what `from package import name` loads: a module of the package, or the package for a name in it."""
    full = f"{package}.{name}"
    return full if {below(full), f"{below(full)}.__init__"} & set(modules()) else package


def below(name: str) -> str:
    """Return a full dotted name without `fastserve.`; the package itself is `__init__`."""
    return name.partition(".")[2] or "__init__"


def is_allowed(part: str, imported: str) -> bool:
    return part_of(imported) == part or bool({imported, part_of(imported)} & MAY_IMPORT[part])


def test_every_module_is_in_the_table() -> None:
    assert {part_of(module) for module in modules()} <= set(MAY_IMPORT)


@pytest.mark.parametrize("module", modules())
def test_imports_only_what_the_table_allows(module: str) -> None:
    wrong = [
        f"{module}, line {line}: imports {imported}"
        for line, imported in imports_of(module)
        if not is_allowed(part_of(module), imported)
    ]
    assert not wrong


@pytest.mark.parametrize("module", [name for name in modules() if not name.endswith("__main__")])
def test_can_be_imported_alone(module: str) -> None:
    name = f"fastserve.{module}".removesuffix(".__init__")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import {name}"], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
