"""Blocks of a page that are rendered from results: between `<!-- bench:NAME -->` and `<!-- end bench:NAME -->`.

render.py has the list of them; `tests/test_bench.py` compares what the pages have with what results.json gives.
"""

from __future__ import annotations

__all__ = ["block_of", "replaced"]


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- bench:{name} -->\n", f"<!-- end bench:{name} -->\n"


def block_of(page: str, name: str) -> str:
    """Return what is between the marks. Raises ValueError if they are not there."""
    begin, end = _marks(name)
    start = page.index(begin) + len(begin)
    return page[start : page.index(end, start)]


def replaced(page: str, name: str, block: str) -> str:
    """Return the page with another block; it ends with a newline. Raises as `block_of`."""
    begin, end = _marks(name)
    old = block_of(page, name)
    return page.replace(f"{begin}{old}{end}", f"{begin}{block}{end}")
