"""What is written of the benchmarks of precomputed vectors: a section of bench/README.md, and a table for other pages."""

# ruff: noqa: E501  (the page has tables)

from __future__ import annotations

from typing import Any

__all__ = ["vectors_block", "vectors_section"]

# What is read, and by whom -> subject of the benchmark, and of `memory`.
WAYS = {
    "the views, `to_dict`": ("views", "hash"),
    "packed vectors, `to_dict`": ("packed", "packed"),
    "packed vectors, `to_numpy`": ("numpy", "packed"),
    "vectors in Feast's format, `to_dict`": ("blobs", "feast"),
    "the same by Feast itself, `to_dict`": ("feast", "feast"),
}


def vectors_section(found: dict[str, Any]) -> str:
    """Return the section of bench/README.md."""
    lines = [
        "\n## Precomputed vectors of all 48 features\n\n",
        "Feast reads vectors of its own, with full names; the floors are one MGET of the packed vectors, and one HMGET of each "
        "of Feast's, over a bare socket. A core each.\n\n",
        "| entities | floor, us | packed, `to_dict` | x floor | Feast / that | packed, `to_numpy` | x floor | Feast / that "
        "| Feast's vectors by fastserve, `to_dict` | x their floor | the views, `to_dict` | Feast "
        "| CPU of a call: packed, `to_dict` | Feast | Feast / that |\n" + "| ---: " * 15 + "|\n",
    ]
    for entities, one in found["reads"].items():
        wall = {name: each["wall"] for name, each in one.items()}
        cells = [entities, micros(wall["floor"])]
        for name in ("packed", "numpy"):
            cells += [micros(wall[name]), f"{wall[name] / wall['floor']:.2f}", f"{wall['feast'] / wall[name]:.0f}"]
        cells += [micros(wall["blobs"]), f"{wall['blobs'] / wall['blobs_floor']:.2f}"]
        cells += [micros(wall["views"]), micros(wall["feast"])]
        ours, feast = one["packed"]["cpu"], one["feast"]["cpu"]
        cells += [micros(ours), micros(feast), f"{feast / ours:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |\n")
    build, memory = found["build"], found["memory"]
    return "".join(lines) + (
        f"\nA build from the hashes makes {found['stored'] / build['fastserve']:,.0f} vectors a second, Feast's "
        f"{found['stored'] / build['feast']:,.0f} ({build['feast'] / build['fastserve']:.0f} times). An entity's hash and packed "
        f"vector take {memory['packed']:,.0f} bytes of Redis, Feast's hash with its vector in it {memory['feast']:,.0f} "
        f"({memory['packed'] / memory['feast']:.2f} of that is ours).\n"
    )


def micros(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}"


def vectors_block(results: dict[str, Any]) -> str:
    """Return the table that says what each way to read a service costs, and when it was measured."""
    if "vectors" not in results:
        return "Not measured yet: `bench/run.py --only vectors --write`.\n"
    found, machine = results["vectors"], results["machine"]
    sizes = [size for size in ("1", "500") if size in found["reads"]]
    heads = "".join(f" | {size} entit{'y' if size == '1' else 'ies'}, us" for size in sizes)
    lines = [f"| 48 features, read from{heads} | bytes of an entity in Redis |\n", "| --- " + "| ---: " * 3 + "|\n"]
    for name, (subject, kept) in WAYS.items():
        cells = [name, *(micros(found["reads"][size][subject]["wall"]) for size in sizes)]
        lines.append(f"| {' | '.join([*cells, format(found['memory'][kept], ',.0f')])} |\n")
    return "".join(lines) + (
        f"\nMeasured on {machine['date']}: {machine['cpu']}, redis-server {machine['redis']} on loopback, Feast {machine['feast']}. "
        f"All vectors are built anew by fastserve at {found['stored'] / found['build']['fastserve']:,.0f} a second, by Feast at "
        f"{found['stored'] / found['build']['feast']:,.0f}.\n"
    )
