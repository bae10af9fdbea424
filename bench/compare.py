"""Two files of results side by side: bench/compare.py OLD NEW [--threshold PERCENT]

Prints a line for each figure that both have: old, new, new / old, and a mark where that is outside of noise: by more
than the
threshold (10 %), and, where calls were measured one by one, by more than half of the distance from p50 to p95 of
either. Figures of different machines cannot be compared; those of the floor tell how alike two runs were.

The exit status is 1 if something of fastserve became worse.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MORE_IS_BETTER = ("rate", "requests_per_second", "saturation")
SKIPPED = ("machine", "cdf", "n", "calls", "due", "late", "digest")

Figure = tuple[float, float]
"""A value, and the noise that is known of it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--threshold", type=float, default=10.0)
    given = parser.parse_args()
    old, new = (json.loads(path.read_text()) for path in (given.old, given.new))
    for name, results in (("old", old), ("new", new)):
        print(f"{name}: {json.dumps(results.get('machine', {}))}")
    worse = compare(dict(walk(old)), dict(walk(new)), given.threshold / 100)
    sys.exit(bool(worse))


def walk(found: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Figure]]:
    """Yield all figures of a file, each with its path."""
    if isinstance(found, list):
        found = {str(item.get("group", i)) if isinstance(item, dict) else str(i): item for i, item in enumerate(found)}
    for name, value in found.items():
        if name in SKIPPED:
            continue
        if isinstance(value, (dict, list)):
            yield from walk(value, (*path, name))
        elif isinstance(value, (int, float)):
            yield (*path, name), (float(value), noise(found, name))


def noise(found: dict[str, Any], name: str) -> float:
    """Return how far apart two runs of a median may be, as a share of it."""
    return (found["p95"] / found["p50"] - 1) / 2 if name in ("p50", "mean") and "p95" in found and found["p50"] else 0.0


def compare(old: dict[tuple[str, ...], Figure], new: dict[tuple[str, ...], Figure], threshold: float) -> int:
    """Print the table, and return how many figures of fastserve became worse."""
    worse = 0
    shared = [path for path in old if path in new and old[path][0] > 0]
    width = max((len(" / ".join(path)) for path in shared), default=0)
    for path in shared:
        (before, noise_before), (after, noise_after) = old[path], new[path]
        mark = verdict(path, after / before, max(threshold, noise_before, noise_after))
        worse += mark == "worse" and any(part.startswith("fastserve") for part in path)
        print(f"{' / '.join(path):{width}}  {before:14.6g}  {after:14.6g}  {after / before:7.2f}  {mark}".rstrip())
    print(f"{len(shared)} figures; {worse} of fastserve are worse")
    return worse


def verdict(path: tuple[str, ...], ratio: float, noise: float) -> str:
    if 1 / (1 + noise) <= ratio <= 1 + noise:
        return ""
    more_is_better = any(name in path for name in MORE_IS_BETTER) or "workers" in path
    return "better" if (ratio > 1) == more_is_better else "worse"


if __name__ == "__main__":
    main()
