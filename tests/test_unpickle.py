"""Pickled functions: those of this Python run, all others are refused before they can do harm."""

from __future__ import annotations

import opcode
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from fastserve import unpickle
from fastserve.unpickle import VERSION, load_pickle
from tests import goldens

pytest.importorskip("dill")

RECORDED = ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13"]
INPUTS = {"amount": [1.0, 0.0, 4.0]}
OUTPUTS = {"ratio": {"y": [2.0, None, 0.5]}, "closure": {"y": [3.0, 0.0, 12.0]}}
ALIKE = {"3.11", "3.12"}


def recorded(version: str, name: str) -> bytes:
    """Return a function as dill pickled it under a version of Python."""
    return bytes.fromhex(goldens.load(f"pickles/{version}")[name])


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("version", RECORDED)
def test_functions_of_another_python_are_refused(version: str, name: str) -> None:
    if version == VERSION:
        assert load_pickle(recorded(version, name))(INPUTS) == OUTPUTS[name]
        return
    with pytest.raises(ValueError, match="its bytecode is that of Python") as caught:
        load_pickle(recorded(version, name))
    told, _, this = str(caught.value).removeprefix("its bytecode is that of Python ").partition(", and this is Python ")
    assert version in told.split(" or ")
    assert this == VERSION


@pytest.mark.parametrize("version", RECORDED)
def test_what_may_be_of_another_python_is_refused(version: str) -> None:
    """Functions as simple as `return inputs` are the same in 3.11 and 3.12."""
    if version == VERSION and version not in ALIKE:
        assert load_pickle(recorded(version, "plain"))(INPUTS) == INPUTS
        return
    with pytest.raises(ValueError, match=f"its bytecode is that of Python .*, and this is Python {VERSION}"):
        load_pickle(recorded(version, "plain"))


@pytest.mark.parametrize("version", RECORDED)
def test_pickles_without_code(version: str) -> None:
    assert load_pickle(recorded(version, "no_code"))(4) == 2.0


def dilled(function: Callable[..., Any]) -> bytes:
    import dill

    function.__module__ = "__main__"  # as Feast does: the function goes into the pickle, not its name
    data: bytes = dill.dumps(function, recurse=True)
    return data


def test_functions_of_this_python() -> None:
    factor = 3

    class Row:
        def __init__(self, value: float):
            self.value = value

    def od(inputs: dict[str, list[float]]) -> dict[str, list[float | None]]:
        rows = [Row(value) for value in inputs["x"]]
        try:
            return {"y": [row.value * factor if row.value else None for row in rows]}
        finally:
            rows.clear()

    assert load_pickle(dilled(od))({"x": [1.5, 0.0]}) == {"y": [4.5, None]}
    assert load_pickle(dilled(lambda inputs: {"y": inputs["x"]}))({"x": [1]}) == {"y": [1]}


def code_objects(code: CodeType) -> Iterator[CodeType]:
    """Yield the code object and those inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_objects(constant)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 is told by the members alone")
def test_no_bytecode_of_this_python_is_taken_for_another_s() -> None:
    """All of it in some large modules of the standard library; nearly all of it is told for certain."""
    paths = [path for path in Path(opcode.__file__).parent.glob("*.py") if path.stat().st_size > 20_000]
    assert len(paths) > 40
    codes = [code for path in paths for code in code_objects(compile(path.read_bytes(), path.name, "exec"))]
    makers = [unpickle._makers_of_bytecode(code.co_code) for code in codes]
    assert all(VERSION in found for found in makers)
    assert makers.count([VERSION]) > 0.7 * len(codes)


@pytest.mark.parametrize(
    ("members", "makers"),
    [
        ((0,) * 15, ["3.7"]),
        ((0,) * 16, ["3.8", "3.9", "3.10"]),
        ((b"", *(0,) * 16), ["3.10"]),
        ((b"", *(0,) * 17), ["PyPy 3.11"]),
        ((b"", *(0,) * 6, b"\x97\0\x7c\x01\x53\0", *(0,) * 11), ["3.11", "3.12"]),
        ((b"", *(0,) * 6, b"\x95\1\x97\0", *(0,) * 11), ["3.11", "3.12"]),
        ((b"", *(0,) * 6, b"\x95\0", *(0,) * 11), ["3.13"]),
        ((b"", *(0,) * 6, b"\x80\0", *(0,) * 11), ["3.14"]),
        (((0,) * 6) + (b"\x80\0",) + (0,) * 11, ["3.14"]),
        ((b"", *(0,) * 6, b"\x80", *(0,) * 11), ["an unknown version"]),
        ((b"", *(0,) * 6, b"", *(0,) * 11), ["an unknown version"]),
        ((b"", *(0,) * 6, "text", *(0,) * 11), ["an unknown version"]),
        ((b"", *(0,) * 20), ["an unknown version"]),
    ],
)
def test_what_the_members_tell(members: tuple[Any, ...], makers: list[str]) -> None:
    assert unpickle._makers(members) == makers
