"""Plots as SVG, and pages that hold them: what `fastserve bench --html` and the project's own benchmarks show.

Needs matplotlib (the extra `bench`). The same figures give the same bytes.
"""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

from fastserve.errors import NotSupportedError

__all__ = ["Series", "bars", "lines", "page", "table"]

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Label -> points (x, y)."""

COLOURS = ("#1769aa", "#d9822b", "#4c9a2a", "#8f3f97", "#c23030", "#6b7785", "#0f9ba8", "#a67c00")

STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1c2127 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .2rem .7rem; text-align: right }
th:first-child, td:first-child { text-align: left } thead th { border-bottom: 2px solid #c5cbd3 }
tbody tr:nth-child(even) { background: #f6f7f9 } figure { margin: 1rem 0 } svg { max-width: 100%; height: auto }
"""


def _axes(title: str, x: str, y: str, size: tuple[float, float]) -> tuple[Any, Any]:
    try:
        from matplotlib import rcParams
        from matplotlib.figure import Figure
    except ModuleNotFoundError as exc:
        raise NotSupportedError("plots need matplotlib: pip install 'fastserve[bench]'") from exc
    rcParams["svg.hashsalt"] = "fastserve"
    rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, which="major", color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any) -> str:
    """Return the SVG element alone, which HTML takes as it is, and a file too."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return "".join(line.rstrip() + "\n" for line in text[text.index("<svg") :].splitlines())


def _plain(axis: Any) -> None:
    """Write a logarithmic axis's powers of ten as plain numbers."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(NullFormatter())


def lines(title: str, series: Series, x: str, y: str, *, log_x: bool = True, log_y: bool = True) -> str:
    """Return a plot with a line for each series."""
    figure, axes = _axes(title, x, y, (8.6, 4))
    for number, (label, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3.5, linewidth=1.6, label=label, color=colour)
    if log_x:
        axes.set_xscale("log")
        _plain(axes.xaxis)
    if log_y:
        axes.set_yscale("log")
        _plain(axes.yaxis)
    ticks = sorted({point[0] for points in series.values() for point in points})
    if log_x and len(ticks) <= 10:
        axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks], minor=False)
        axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return _svg(figure)


def bars(title: str, values: Mapping[str, float], x: str, *, log: bool = False) -> str:
    """Return horizontal bars, the first on top, each with its value."""
    figure, axes = _axes(title, x, "", (7.2, 0.9 + 0.36 * len(values)))
    names = list(values)[::-1]
    drawn = axes.barh(names, [values[name] for name in names], color=COLOURS[0], height=0.6)
    axes.bar_label(drawn, labels=[f" {values[name]:,.3g}" for name in names], fontsize=8)
    axes.grid(False, axis="y")
    axes.margins(x=0.12)
    if log:
        axes.set_xscale("log")
        _plain(axes.xaxis)
    return _svg(figure)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table of texts."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in headers)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>\n"


def page(title: str, sections: Sequence[tuple[str, Sequence[str]]], note: str = "") -> str:
    """Return a whole HTML page, which needs nothing from elsewhere.

    Args:
        sections: of each its heading and its parts: HTML or SVG.
        note: a text for below the title.
    """
    parts = [f"<h1>{html.escape(title)}</h1>\n<p>{html.escape(note)}</p>\n"]
    for heading, contents in sections:
        parts.append(f"<h2>{html.escape(heading)}</h2>\n")
        parts += [f"<figure>{part}</figure>\n" if part.startswith("<svg") else part for part in contents]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title>\n<style>\n{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{"".join(parts)}</body></html>\n'
