"""What is written to a terminal: tables, and cells that cannot steer it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["cell", "grid", "is_terminal"]


def is_terminal() -> bool:
    return sys.stdout.isatty()


def grid(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    from tabulate import tabulate

    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)


def cell(value: Any) -> str:
    if isinstance(value, str):
        # Quoted where it would be taken for something else, or could steer the terminal.
        return (
            value if value.isprintable() and value.strip() == value and value not in ("", "null") else json.dumps(value)
        )
    return json.dumps(value, ensure_ascii=not _is_printable(value))


def _is_printable(value: Any) -> bool:
    return json.dumps(value, ensure_ascii=False).isprintable()
