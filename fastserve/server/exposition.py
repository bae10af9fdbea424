"""The text that Prometheus scrapes, from the cells of all processes of a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastserve.server.cells import Labels, Series
from fastserve.server.metrics import FAMILIES, Family

__all__ = ["CONTENT_TYPE", "metrics_text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Found = dict[Labels, list[int]]

VALUES = "fastserve_feature_values_total"
FEAST_VALUES = Family(
    "feast_online_features_status_total",
    "counter",
    "Values answered: present (also as null, and too old) or not found.",
    ("feature_view", "status"),
)


def metrics_text(series: Iterable[Series]) -> str:
    """Return the metrics in Prometheus' text format: counters and histograms of all processes that ever were, gauges of
    those that run.
    """
    by_name: dict[str, list[Series]] = {}
    for one in series:
        by_name.setdefault(one.name, []).append(one)
    lines: list[str] = []
    for name, family in FAMILIES.items():
        if name in by_name:
            found = _together(family, by_name[name])
            lines += _family(family, found)
            if name == VALUES:
                lines += _family(FEAST_VALUES, _feast_statuses(found))
    return "\n".join(lines) + "\n"


def _together(family: Family, series: list[Series]) -> Found:
    found: Found = {}
    for one in series:
        if family.kind == "gauge" and not one.is_alive:
            continue
        labels = (*one.labels, ("pid", str(one.pid))) if family.over == "pid" else one.labels
        merge = max if family.over == "max" else int.__add__
        known = found.get(labels)
        found[labels] = [*map(merge, known, one.values)] if known else [*one.values]
    return found


def _feast_statuses(found: Found) -> Found:
    """Feast tells two statuses apart; a null is a value for it, and so is one that is too old."""
    result: Found = {}
    for labels, (count,) in found.items():
        view, status = (value for _, value in labels)
        status = "not_found" if status == "not_found" else "present"
        result.setdefault((("feature_view", view), ("status", status)), [0])[0] += count
    return result


def _family(family: Family, found: Found) -> Iterator[str]:
    if not found:
        return
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.kind}"
    for labels, values in sorted(found.items()):
        if family.kind == "histogram":
            yield from _histogram(family, labels, values)
        else:
            yield f"{family.name}{_labels(labels)} {_number(values[0] / family.scale)}"


def _histogram(family: Family, labels: Labels, values: list[int]) -> Iterator[str]:
    total = 0
    for bound, count in zip([*map(float, family.bounds), "+Inf"], values, strict=False):
        total += count
        yield f"{family.name}_bucket{_labels((*labels, ('le', str(bound))))} {_number(total)}"
    yield f"{family.name}_sum{_labels(labels)} {_number(values[-1] / family.scale)}"
    yield f"{family.name}_count{_labels(labels)} {_number(total)}"


def _number(value: float) -> str:
    return repr(float(value))


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
