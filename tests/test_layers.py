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
    "fork_gate": frozenset(),
    "errors": frozenset(),
    "_core": frozenset({"errors"}),
    "types": frozenset({"errors"}),
    "model": frozenset({"errors", "types"}),
    "config": frozenset({"errors"}),
    "definition": CORE | {"types", "model"},
    "registry": frozenset({"errors", "types", "model", "config", "definition", "fork_gate", "source_text"}),
    "vectors": CORE | {"types"},
    "plan": CORE | {"types", "config", "model", "registry", "transform", "vectors"},
    "unpickle": frozenset(),
    "source_text": frozenset(),
    "transform": CORE | {"types", "model", "source_text", "unpickle"},
    # The answer as protobuf is one of the registry's messages.
    "response": CORE | {"model", "types", "registry.schema_pb2"},
    "online": CORE | {"plan", "transform"},
    "stores": CORE | {"model", "config", "fork_gate"},
    "arrow": CORE | {"types"},
    "sources": frozenset({"arrow", "errors", "model", "types"}),
    "parquet": frozenset({"arrow", "errors", "model", "sources"}),
    "offline": frozenset({"arrow", "errors", "model", "parquet", "sources"}),
    "latest": CORE,
    "write_on_demand": frozenset({"arrow", "model", "sources", "transform"}),
    "write": CORE | {"write_on_demand", "model", "plan", "registry", "sources", "stores.base", "types"},
    "progress": frozenset(),
    "precompute": CORE
    | {"types", "model", "plan", "progress", "registry", "stores.base", "stores.vector_store", "vectors"},
    "served_vectors": CORE | {"model", "plan", "registry", "stores.base", "stores.vector_store", "vectors"},
    "vector_admin": frozenset(
        {
            "errors",
            "apply",
            "changes",
            "config",
            "model",
            "plan",
            "precompute",
            "progress",
            "registry",
            "repo",
            "served_vectors",
            "vectors",
        }
    ),
    "materialize": frozenset(
        {"errors", "latest", "model", "parquet", "plan", "progress", "registry", "stores.base", "write"}
    ),
    "materialize_on_demand": frozenset(
        {
            "latest",
            "materialize",
            "model",
            "parquet",
            "plan",
            "progress",
            "registry",
            "stores.base",
            "write",
            "write_on_demand",
        }
    ),
    "ray_engine": frozenset(
        {
            "config",
            "errors",
            "latest",
            "materialize",
            "model",
            "parquet",
            "plan",
            "precompute",
            "progress",
            "stores",
            "write",
        }
    ),
    "remote_answers": CORE | {"types"},
    "remote_rows": frozenset({"arrow", "errors", "sources"}),
    "remote_client": frozenset({"errors", "model", "plan", "registry", "write"}),
    "remote": CORE | {"model", "online", "remote_answers", "remote_rows", "stores"},
    "writing": SDK
    | {
        "arrow",
        "materialize",
        "materialize_on_demand",
        "offline",
        "precompute",
        "progress",
        "ray_engine",
        "remote",
        "write_on_demand",
    },
    "repo": frozenset({"errors", "definition"}),
    "infer": frozenset({"errors", "types", "definition", "model", "parquet", "registry", "repo"}),
    "changes": frozenset({"registry", "source_text"}),
    "versions": frozenset({"errors", "changes", "definition", "registry"}),
    "stored": CORE | {"config", "model", "registry", "types", "versions"},
    "apply": frozenset(
        {
            "errors",
            "changes",
            "config",
            "definition",
            "infer",
            "model",
            "plan",
            "precompute",
            "registry",
            "repo",
            "stored",
            "stores.base",
            "versions",
        }
    ),
    "administration": frozenset(
        {
            "errors",
            "apply",
            "changes",
            "config",
            "definition",
            "model",
            "precompute",
            "registry",
            "repo",
            "stored",
            "stores.base",
        }
    ),
    "lookup": frozenset({"config", "errors", "model", "registry"}),
    "offline_half": frozenset({"errors"}),
    "registry_facade": frozenset({"errors", "feature_store", "registry"}),
    "templates": frozenset({"errors"}),
    "condition": frozenset({"registry", "stores.base"}),
    # `serve` starts the server, which is made of a FeatureStore.
    "feature_store": SDK
    | {
        "administration",
        "condition",
        "lookup",
        "offline_half",
        "precompute",
        "registry_facade",
        "remote",
        "remote_client",
        "served_vectors",
        "server",
        "vector_admin",
        "writing",
    },
    "charts": frozenset({"errors"}),
    "sampling": CORE | {"config", "stores"},
    "benchmark": CORE | {"config", "feature_store", "online", "response", "stores"},
    "server": CORE
    | {"_version", "config", "feature_store", "model", "response", "stores.base", "transform", "writing"},
    "cli": frozenset(
        {
            "_version",
            "benchmark",
            "changes",
            "charts",
            "config",
            "errors",
            "feature_store",
            "model",
            "registry",
            "sampling",
            "server",
            "templates",
            "vector_admin",
            "vectors",
            "writing",
        }
    ),
    "__main__": frozenset({"cli"}),
    "__init__": SDK | {"feature_store", "definition"},
    # An online store of Feast's own; the one module that imports it.
    "feast": CORE | {"feature_store", "model", "response", "sources", "types", "write"},
    "value_type": frozenset({"types"}),
    # Names where Feast has them, so that a features.py needs no more than another package's name.
    **dict.fromkeys(
        (
            "aggregation",
            "batch_feature_view",
            "data_format",
            "data_source",
            "entity",
            "feature_logging",
            "feature_service",
            "feature_view",
            "feature_view_projection",
            "field",
            "infra",
            "labeling",
            "on_demand_feature_view",
            "project",
            "stream_feature_view",
            "transformation",
        ),
        frozenset({"definition"}),
    ),
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
    if module == "feast":
        pytest.importorskip("feast")
    name = f"fastserve.{module}".removesuffix(".__init__")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import {name}"], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
