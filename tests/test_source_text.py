"""Functions as source text: what they need of the module that they were written in."""

from __future__ import annotations

import sys

import pytest

from fastserve.source_text import load_source, unresolved_names


def test_decorators_are_not_run() -> None:
    text = "    @nobody(knows=this)\n    def f(x):\n        return {'y': x['a'] + 1}\n"
    assert load_source(text, "f")({"a": 1}) == {"y": 2}
    assert load_source(text, "another_name")({"a": 1}) == {"y": 2}
    with pytest.raises(ValueError, match="no function f in the source text"):
        load_source("x = 1", "f")


def test_code_that_names_no_library_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """`inputs`, which most functions take, has the letters of `np` in it."""
    for library in ("numpy", "pandas"):
        monkeypatch.setitem(sys.modules, library, None)
    assert load_source("def od(inputs):\n    return {'y': inputs['x']}\n", "od")({"x": [1]}) == {"y": [1]}
    with pytest.raises(ImportError, match="numpy"):
        load_source("def od(inputs):\n    return {'y': np.array(inputs['x'])}\n", "od")


def test_pandas_and_numpy_are_there() -> None:
    function = load_source("def f(x: Dict[str, Any]) -> pd.DataFrame:\n    return pd.DataFrame(x), np.sqrt(9)\n", "f")
    frame, root = function({"a": [1]})
    assert (frame["a"].tolist(), root) == ([1], 3.0)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def f(x):\n    return helper(x)\n", {"helper"}),
        ("@dec(a)\ndef f(x):\n    return {k: len(v) for k, v in x.items()}\n", set()),
        ("def f(x):\n    global model\n    return model(x)\n", {"model"}),
        ("def f(x):\n    import math\n    return [math.sqrt(v) for v in x]\n", set()),
        ("def f(x: Optional[pd.DataFrame], y=LIMIT) -> Mine:\n    return np.array(x)\n", {"LIMIT", "Mine"}),
        ("def f(x):\n    def g(y):\n        return y + RATE + x\n    return g\n", {"RATE"}),
        ("def f(x):\n    return g(x)\ndef g(x):\n    return x\n", set()),
        ("def f(", {"*"}),
        ("", {"*"}),
    ],
)
def test_names_that_only_the_module_has(text: str, names: set[str]) -> None:
    assert unresolved_names(text) == names
