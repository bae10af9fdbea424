"""Pickled functions: bytecode is for one version of Python, and that of another may crash the interpreter.

A pickle does not say which Python wrote it, but what dill writes of each code object does:

    its members         15: 3.7   16: 3.8 to 3.10   17: PyPy   18: 3.11 and later; since 3.10 lnotab comes before them
    number of RESUME    151: 3.11 and 3.12   149: 3.13   128: 3.14
    cache entries       most instructions of 3.11 and 3.12 have the same number, but more or fewer entries after them
"""

from __future__ import annotations

import io
import opcode
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["load_pickle"]

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
UNKNOWN = ["an unknown version"]

RESUME = {151: ["3.11", "3.12"], 149: ["3.13"], 128: ["3.14"]}
if sys.version_info >= (3, 15):
    # It may have kept the number of an earlier one.
    RESUME.setdefault(opcode.opmap["RESUME"], []).append(VERSION)

INSTRUCTIONS = {number: name for name, number in opcode.opmap.items() if 0 < number < 256}
CACHE_ENTRIES: Any = getattr(opcode, "_inline_cache_entries", {})  # by number in 3.11 and 3.12, then by name
# Those by which 3.11 and 3.12 differ.
TELLING = frozenset(
    "BINARY_SUBSCR CALL COMPARE_OP FOR_ITER LOAD_ATTR LOAD_GLOBAL LOAD_METHOD PRECALL RETURN_CONST".split()
)


def load_pickle(data: bytes) -> Any:
    """Return what dill pickled.

    Raises:
        ImportError: dill is not installed.
        ValueError: it has bytecode that this Python did not write for certain; the text names both versions.
        Exception: whatever else unpickling raises.
    """
    found: list[list[str]] = []
    result = _unpickler(data, found).load()
    if found and [VERSION] not in found:  # one Python made them all, so it is enough if one tells
        raise _foreign(found[0])
    return result


def _unpickler(data: bytes, found: list[list[str]]) -> Any:
    """Return an unpickler that adds the possible makers of each code object to `found`."""
    import dill

    class Unpickler(dill.Unpickler):  # type: ignore[misc]
        def find_class(self, module: str, name: str) -> Any:
            create = super().find_class(module, name)
            return _checked(create, found) if name == "_create_code" else create

    return Unpickler(io.BytesIO(data))


def _checked(create: Callable[..., Any], found: list[list[str]]) -> Callable[..., Any]:
    def create_code(*members: Any) -> Any:
        # Before the code object exists: even making one reads instructions where this Python expects them.
        found.append(_makers(members))
        if VERSION not in found[-1]:
            raise _foreign(found[-1])
        return create(*members)

    return create_code


def _foreign(makers: list[str]) -> ValueError:
    return ValueError(f"its bytecode is that of Python {' or '.join(makers)}, and this is Python {VERSION}")


def _makers(members: tuple[Any, ...]) -> list[str]:
    """Return the versions of Python that may have written a code object."""
    after_lnotab = not isinstance(members[0], int)
    count = len(members) - after_lnotab
    if count == 18 and isinstance(code := members[after_lnotab + 6], bytes):
        return _makers_of_bytecode(code)
    if count == 16:
        return ["3.10"] if after_lnotab else ["3.8", "3.9", "3.10"]
    return {15: ["3.7"], 17: ["PyPy 3.11"]}.get(count, UNKNOWN)


def _makers_of_bytecode(code: bytes) -> list[str]:
    pairs = zip(code[::2], code[1::2], strict=False)
    makers = next((RESUME[number] for number, argument in pairs if number in RESUME and not argument), UNKNOWN)
    if len(makers) == 1 or VERSION not in makers:
        return makers
    names = _instructions(code)
    if names is None:
        return [maker for maker in makers if maker != VERSION]
    return makers if TELLING.isdisjoint(names) else [VERSION]


def _instructions(code: bytes) -> set[str] | None:
    """Return the names of the instructions, or None if this Python could not have written them so."""
    names = set()
    at = 0
    while at < len(code):
        name = INSTRUCTIONS.get(code[at])
        if name is None:
            return None
        caches = CACHE_ENTRIES.get(name, 0) if isinstance(CACHE_ENTRIES, dict) else CACHE_ENTRIES[code[at]]
        end = at + 2 + 2 * caches
        if any(code[at + 2 : end]):
            return None
        names.add(name)
        at = end
    return names
