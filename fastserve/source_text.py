"""Functions that a registry holds as source text.

They run in a namespace with pandas, NumPy and the names of `typing`. One that needs other names of the module that it
was written in is found out here: it can only run from its pickle, which has them.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import textwrap
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

__all__ = ["load_source", "unresolved_names"]

_LIBRARIES = {"np": "numpy", "numpy": "numpy", "pd": "pandas", "pandas": "pandas"}
"""Name in the namespace -> module."""

_KNOWN = frozenset({*typing.__all__, *_LIBRARIES, *dir(builtins), "__name__"})


def load_source(text: str, name: str) -> Callable[[Any], Any]:
    """Execute the text of a function, without its decorators, and return the function.

    Raises:
        ValueError: the text has no function.
        Exception: whatever executing it raises.
    """
    tree = _without_decorators(text)
    namespace = _namespace(text)
    exec(compile(tree, f"<{name}>", "exec"), namespace)
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    found = namespace.get(name) or (namespace[functions[0]] if functions else None)
    if not callable(found):
        raise ValueError(f"no function {name} in the source text")
    function: Callable[[Any], Any] = found
    return function


def _without_decorators(text: str) -> ast.Module:
    tree = ast.parse(textwrap.dedent(text))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            node.decorator_list.clear()
    return tree


def _namespace(text: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {name: getattr(typing, name) for name in typing.__all__}
    # pandas takes half a second to import, and may not be there: only code that names it pays for it.
    named = set(re.findall(r"\w+", text)).intersection(_LIBRARIES)
    namespace.update({name: import_module(_LIBRARIES[name]) for name in named})
    return namespace


def unresolved_names(text: str) -> set[str]:
    """Return the names that a function's text uses and nobody defines where it is run; of no text, what is missing.

    A text that is no Python lacks everything: `{"*"}`.
    """
    try:
        table = symtable.symtable(ast.unparse(_without_decorators(text)), "<source>", "exec")
    except SyntaxError:
        return {"*"}
    defined = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    defined |= {child.get_name() for child in table.get_children()}
    return ({"*"} if not table.get_children() else set(_global_names(table))) - defined - _KNOWN


def _global_names(table: symtable.SymbolTable) -> Iterator[str]:
    top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (top or symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _global_names(child)
