#!/usr/bin/env python3
"""Draws time against M with the floor, one panel for each shape, from rows of bench/peers/run.py or `sabrewing bench
kernel --device cuda --json`. Needs matplotlib.

    scripts/plot_kernels.py --weights mxfp4 --activations bf16 --out kernels.svg bench/results/FILE.json..."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench" / "peers"))

import tables  # noqa: E402


def series(
    rows: list[tables.Row], weights: str, activations: str
) -> dict[tuple[int, int], dict[str, list[tuple[int, float]]]]:
    """For each shape and implementation its (M, us), and the floor under the name "floor". int4g64 stands in for
    int4g128 where that does not divide K."""
    accepted = {weights, "int4g64"} if weights == "int4g128" else {weights}
    out: dict[tuple[int, int], dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        if row["weights"] not in accepted or row["activations"] != activations:
            continue
        lines = out.setdefault((row["n"], row["k"]), {})
        lines.setdefault(row["impl"], []).append((row["m"], row["us"]))
        floor = lines.setdefault("floor", [])
        if all(m != row["m"] for m, _ in floor):
            floor.append((row["m"], row["floor_us"]))
    for lines in out.values():
        for points in lines.values():
            points.sort()
    return out


def draw(shapes: dict[tuple[int, int], dict[str, list[tuple[int, float]]]], title: str) -> Any:
    """A matplotlib figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(3, len(shapes))
    lines_of_panels = -(-len(shapes) // columns)
    figure, axes = pyplot.subplots(
        lines_of_panels, columns, figsize=(5 * columns, 3.6 * lines_of_panels), squeeze=False, layout="constrained"
    )
    panels = list(axes.flat)
    for panel, ((n, k), lines) in zip(panels, sorted(shapes.items(), reverse=True)):
        for name, points in sorted(lines.items()):
            own, floor = name == "sabrewing", name == "floor"
            panel.plot(
                [m for m, _ in points],
                [us for _, us in points],
                label=name,
                color="black" if floor else None,
                linestyle=":" if floor else "-",
                linewidth=2.2 if own else 1.2,
                marker=None if floor else "o",
                markersize=3,
            )
        panel.set(xscale="log", yscale="log", title=f"N={n}, K={k}", xlabel="M", ylabel="us")
        panel.set_xscale("log", base=2)
        panel.grid(True, which="major", alpha=0.3)
        panel.legend(fontsize="small")
    for panel in panels[len(shapes) :]:
        panel.set_visible(False)
    figure.suptitle(title)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--weights", default="mxfp4")
    parser.add_argument("--activations", default="bf16")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="SVG, PNG or PDF")
    options = parser.parse_args(arguments)
    shapes = series(tables.load(options.files), options.weights, options.activations)
    if not shapes:
        print(f"plot_kernels.py: no row with {options.weights}/{options.activations}", file=sys.stderr)
        return 1
    figure = draw(shapes, f"{options.weights} weights, {options.activations} activations")
    figure.savefig(options.out)
    print(f"{options.out}: {len(shapes)} shapes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
