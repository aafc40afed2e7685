#!/usr/bin/env python3
"""Times this repository's kernels beside the best public ones in one process: weights rotated past the L2 cache, CUDA
graphs, random data, all implementations taking turns, bursts after a pause from --burst-from rows on. Writes rows
{n, k, m, weights, activations, impl, us, floor_us, error}; `tables.py` and scripts/plot_kernels.py read them.

Needs a GPU, torch, and for each peer its package (README.md). Activation quantization is not in the times."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2] / "python"))

import cases  # noqa: E402
import tables  # noqa: E402

IMPLEMENTATIONS = (
    "sabrewing",
    "cublas",
    "humming",
    "marlin",
    "machete",
    "cutlass_w4a8",
    "cutlass_fp8",
    "deepgemm",
)
REQUIRED = ("sabrewing", "cublas", "humming")  # a comparison without them says little
ERROR_ROWS = 1024  # the error of larger products is that of as many rows


def integers(text: str) -> list[int]:
    values = [int(part) for part in text.split(",")]
    if min(values) < 1:
        raise argparse.ArgumentTypeError("sizes begin at 1")
    return values


def names(text: str) -> list[str]:
    chosen = text.split(",")
    for name in chosen:
        if name not in IMPLEMENTATIONS:
            raise argparse.ArgumentTypeError(f"{name}: one of {', '.join(IMPLEMENTATIONS)} expected")
    return chosen


def pairs(text: str) -> list[tuple[str, str]]:
    chosen = []
    for part in text.split(","):
        weights, _, activations = part.partition("/")
        if (weights, activations) not in cases.FORMATS:
            known = ", ".join("/".join(pair) for pair in cases.FORMATS)
            raise argparse.ArgumentTypeError(f"{part}: one of {known} expected")
        chosen.append((weights, activations))
    return chosen


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Examples:\n  bench/peers/run.py --list\n  bench/peers/run.py --only 4096x4096 --m 1,16,256 --out r.json",
    )
    parser.add_argument("--list", action="store_true", help="what can run here, and why the rest cannot")
    parser.add_argument("--dry-run", action="store_true", help="print the cells and their floors, time nothing")
    parser.add_argument("--shapes", type=pathlib.Path, default=cases.SHAPES_FILE, help="a file like %(default)s")
    parser.add_argument("--only", default="", help="shapes as NxK, separated by commas")
    parser.add_argument("--m", type=integers, help="numbers of rows; default: those of --shapes")
    parser.add_argument("--formats", type=pairs, default=cases.FORMATS, help="weights/activations, by commas")
    parser.add_argument("--impl", type=names, default=list(IMPLEMENTATIONS), help="implementations, by commas")
    parser.add_argument("--burst-from", type=int, default=128, metavar="M")
    parser.add_argument("--deadline", type=float, default=3600, metavar="SECONDS")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file; written after each size")
    return parser.parse_args(arguments)


def select(options: argparse.Namespace) -> tuple[list[cases.Shape], list[int]]:
    shapes, sizes = cases.load_shapes(options.shapes)
    if options.only:
        wanted = options.only.split(",")
        known = {str(shape): shape for shape in shapes}
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise SystemExit(f"run.py: no shape {', '.join(unknown)} in {options.shapes}")
        shapes = [known[name] for name in wanted]
    return shapes, options.m or sizes


def fitting(shape: cases.Shape, formats: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs of formats that fit a shape."""
    pairs_ = [(cases.fitted(asked, shape.n, shape.k), activations) for asked, activations in formats]
    return [(weights, acts) for weights, acts in pairs_ if weights is not None and cases.activations_fit(acts, shape.k)]


def cells(
    shapes: list[cases.Shape], sizes: list[int], formats: list[tuple[str, str]]
) -> list[tuple[cases.Shape, int, str, str, float]]:
    """Every shape, size and pair of formats that fit, with its floor."""
    out = []
    for shape in shapes:
        for weights, activations in fitting(shape, formats):
            for m in sizes:
                out.append((shape, m, weights, activations, cases.floor_us(weights, activations, shape.n, shape.k, m)))
    return out


def available(chosen: list[str]) -> tuple[list[Any], dict[str, str]]:
    """Classes that can run, and why the others cannot."""
    try:
        import torch
    except ImportError as error:
        return [], dict.fromkeys(chosen, str(error))
    if not torch.cuda.is_available():
        return [], dict.fromkeys(chosen, "torch finds no CUDA device")
    import implementations

    usable, reasons = [], {}
    for cls in implementations.ALL:
        if cls.name in chosen:
            reason = cls.missing()
            if reason:
                reasons[cls.name] = reason
            else:
                usable.append(cls)
    return usable, reasons


class Recorder:
    """Rows, what was left out and what failed."""

    def __init__(self, path: pathlib.Path | None, machine: dict[str, Any], absent: dict[str, str]) -> None:
        self.path, self.machine, self.absent = path, machine, absent
        self.rows: list[tables.Row] = []
        self.skipped: dict[str, str] = {}
        self.failures: dict[str, str] = {}

    def skip(self, where: str, reason: str) -> None:
        self.skipped[where] = reason
        print(f"skipped: {where}: {reason}", file=sys.stderr, flush=True)

    def fail(self, where: str, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}".splitlines()[0][:500]
        self.failures[where] = text
        print(f"failed: {where}: {text}", file=sys.stderr, flush=True)

    def save(self) -> None:
        if self.path is None:
            return
        head = {"machine": self.machine, "absent": self.absent, "skipped": self.skipped, "failures": self.failures}
        lines = ",\n  ".join(json.dumps(row) for row in self.rows)
        text = json.dumps(head, indent=1)[:-2] + ',\n "rows": [\n  ' + lines + "\n ]\n}\n"
        self.path.write_text(text)


def machine() -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def variants(
    shape: cases.Shape, formats: list[tuple[str, str]], classes: list[Any], recorder: Recorder
) -> list[tuple[Any, str, str]]:
    """Class, weights and activations of what can run at a shape; what an implementation refuses is recorded."""
    out = []
    for weights, activations in fitting(shape, formats):
        for cls in classes:
            if (weights, activations) not in cls.pairs:
                continue
            if reason := cls.refusal(weights, activations, shape.n, shape.k):
                recorder.skip(f"{cls.name}/{weights}/{activations} {shape}", reason)
            else:
                out.append((cls, weights, activations))
    return out


def time_shape(
    shape: cases.Shape,
    sizes: list[int],
    options: argparse.Namespace,
    classes: list[Any],
    recorder: Recorder,
    end: float,
) -> None:
    import data
    import timing
    import torch

    weight = data.Weight(shape.n, shape.k)
    live = []
    for cls, weights, activations in variants(shape, options.formats, classes, recorder):
        try:
            implementation = cls(weight, weights, activations)
            count = timing.copies_of(implementation.nbytes())
            live.append((implementation, [implementation.first, *(implementation.copy() for _ in range(count - 1))]))
            torch.cuda.synchronize()
        except Exception as error:  # a peer's failure must not end the others' run
            recorder.fail(f"{cls.name}/{weights}/{activations} {shape}", error)
    exact: dict[str, torch.Tensor] = {}
    for m in sizes:
        if time.monotonic() > end:
            recorder.fail(f"{shape} M={m}", TimeoutError("the deadline has passed"))
            return
        rows = data.Activations(m, shape.k)
        graphs, waiting = [], []
        for implementation, copies in live:
            weights, activations = implementation.weights, implementation.activations
            floor = cases.floor_us(weights, activations, shape.n, shape.k, m)
            out = torch.full((m, shape.n), float("nan"), dtype=torch.bfloat16, device=data.DEVICE)
            try:
                operand = implementation.operand(rows)
                result = implementation.run(copies[0], operand, out)
                if weights not in exact:
                    exact[weights] = weight.exact(weights)
                expected = rows.exact(activations)[:ERROR_ROWS] @ exact[weights].t()
                error = data.relative_error(result[:ERROR_ROWS], expected)
                calls = [
                    lambda i=i, c=copies, v=implementation, q=operand, y=out: v.run(c[i % len(c)], q, y)
                    for i in range(timing.calls_per_graph(len(copies), m, floor))
                ]
                graphs.append(timing.Graph(calls))
                waiting.append((implementation, floor, error))
            except Exception as error:
                recorder.fail(f"{implementation.name}/{weights}/{activations} {shape} M={m}", error)
        if not graphs:
            continue
        for (implementation, floor, error), us in zip(waiting, timing.time_together(graphs, m >= options.burst_from)):
            recorder.rows.append(
                {
                    "n": shape.n,
                    "k": shape.k,
                    "m": m,
                    "weights": implementation.weights,
                    "activations": implementation.activations,
                    "impl": implementation.name,
                    "us": round(us, 3),
                    "floor_us": round(floor, 3),
                    "error": float(f"{error:.3g}"),
                }
            )
        recorder.save()
    print(f"{shape} {shape.name}: {len(recorder.rows)} rows", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    shapes, sizes = select(options)
    if options.dry_run:
        for shape, m, weights, activations, floor in cells(shapes, sizes, options.formats):
            print(f"{shape!s:>12} {shape.name:20} M={m:<5} {weights}/{activations}: floor {floor:.2f} us")
        return 0
    classes, absent = available(options.impl)
    if options.list:
        for name in options.impl:
            print(f"{name}: {absent.get(name, 'ready')}")
        return 0
    for name in REQUIRED:
        if name in absent:
            print(f"run.py: {name} cannot run: {absent[name]}", file=sys.stderr)
            if name in options.impl:
                return 1
    recorder = Recorder(options.out, machine(), absent)
    end = time.monotonic() + options.deadline
    for shape in shapes:
        if time.monotonic() > end:
            recorder.fail(str(shape), TimeoutError("the deadline has passed"))
            continue
        time_shape(shape, sizes, options, classes, recorder, end)
    recorder.save()
    print(tables.tables(recorder.rows))
    print(tables.ratio_table(recorder.rows))
    return 1 if recorder.failures else 0


if __name__ == "__main__":
    sys.exit(main())
