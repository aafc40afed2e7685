#!/usr/bin/env python3
"""Holds figures of gpu.sh against what is asked of them. The last line is the figure; exit status 1: a claim fails.

Usage: gpu_claims.py quantizers FILE | a8 FILE | peers FILE... [--shapes NxK,...] [--m M,...]"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import sys
from collections.abc import Iterable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "peers"))

import claims  # noqa: E402
import tables  # noqa: E402

# FP8 per token, microseconds by (K, M): the faster of Humming 0.1.19 and vLLM 0.33.0 on one H200.
QUANTIZER_PEERS = {
    (8192, 1): 2.0,
    (8192, 64): 2.2,
    (8192, 1024): 7.6,
    (8192, 8192): 62.0,
    (2880, 1): 2.1,
    (2880, 64): 2.2,
    (2880, 1024): 3.2,
    (2880, 8192): 20.8,
}
# The fastest of Humming 0.1.19, cuBLAS, vLLM 0.33.0's CUTLASS and Marlin on one H200, microseconds by M; quantizing the
# activations apart. Names as in the covering set.
A8_SIZES = (1, 16, 64, 256, 1024, 4096)
A8_PEERS = {
    ("mxfp4", "fp8", 8192, 8192): (16.4, 16.9, 19.6, 31.1, 106.0, 434.0),
    ("mxfp4", "fp8", 5120, 2880): (8.8, 9.2, 11.6, 16.4, 34.6, 101.0),
    ("mxfp4", "fp8", 4096, 4096): (9.4, 9.9, 11.4, 14.0, 31.8, 106.0),
    ("int4:g128:bf16", "fp8", 8192, 8192): (16.7, 17.9, 22.8, 33.9, 91.3, 367.0),
    ("int4:g128:bf16", "fp8", 4096, 4096): (9.3, 9.8, 10.8, 14.8, 26.5, 95.5),
    ("int4:g128:bf16", "int8", 8192, 8192): (15.9, 16.2, 21.3, 49.0, 179.0, 702.0),
    ("int4:g128:bf16", "int8", 4096, 4096): (8.6, 8.9, 10.8, 14.3, 49.1, 184.0),
    ("fp8row", "fp8", 8192, 8192): (19.0, 19.3, 20.1, 27.0, 94.4, 363.0),
    ("fp8row", "fp8", 5120, 2880): (7.2, 7.4, 7.7, 11.5, 27.2, 87.0),
    ("fp8row", "fp8", 4096, 4096): (7.5, 7.5, 8.1, 13.8, 24.7, 94.0),
}
LEAST_RATIO = 0.95


def quantizers(path: pathlib.Path) -> int:
    data = json.loads(path.read_text())
    worst, behind, seen, wrong = 0.0, 0, 0, 0
    for row in data["rows"]:
        peer = QUANTIZER_PEERS.get((row["k"], row["m"])) if row["activations"] == "fp8" else None
        text = f"{row['activations']:8} K={row['k']:<5} M={row['m']:<5} {row['us']:7.2f} us, serial {row['us_serial']:7.2f}"
        if row["difference"]:
            wrong += 1
            text += f", wrong: {row['difference']}"
        if peer is not None:
            seen += 1
            worst = max(worst, row["us"] / peer)
            behind += row["us"] > peer
            text += f", peer {peer:.1f}{' FAIL' if row['us'] > peer else ''}"
        print(text)
    print(f"{seen} of {len(QUANTIZER_PEERS)} sizes seen, {behind} behind the peer, the slowest {worst:.2f} of its time, {wrong} wrong")
    return int(seen < len(QUANTIZER_PEERS) or behind > 0 or wrong > 0)


def a8(path: pathlib.Path) -> int:
    best: dict[tuple[str, str, int, int, int], dict[str, float | str]] = {}
    for row in json.loads(path.read_text()):
        key = (row["weights"], row["activations"], row["n"], row["k"], row["m"])
        if key not in best or row["us"] < best[key]["us"]:
            best[key] = row
    logarithms: dict[tuple[str, str], list[float]] = {}
    missing = behind = 0
    for (weights, activations, n, k), times in A8_PEERS.items():
        for m, peer in zip(A8_SIZES, times):
            row = best.get((weights, activations, n, k, m))
            if row is None:
                missing += 1
                continue
            ratio = peer / float(row["us"])
            behind += ratio < LEAST_RATIO
            logarithms.setdefault((weights, activations), []).append(math.log(ratio))
            print(
                f"{weights:15} x {activations:5} {n}x{k} M={m:<5} {row['us']:8.2f} us, peer {peer:6.1f}, "
                f"{ratio:.2f}{' FAIL' if ratio < LEAST_RATIO else ''}  {row['kernel']}"
            )
    means = ", ".join(
        f"{weights} x {activations} {math.exp(sum(values) / len(values)):.2f}"
        for (weights, activations), values in logarithms.items()
    )
    print(f"mean ratios to the fastest peer: {means or 'none'}; {behind} sizes below {LEAST_RATIO}, {missing} not timed")
    return int(behind > 0 or missing > 0)


def peers(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpu_claims.py peers", description="Judges rows of bench/peers/run.py.")
    parser.add_argument("files", nargs="+", type=pathlib.Path, help="later rows replace earlier ones of the same case")
    parser.add_argument("--shapes", help="NxK, by commas; default: every shape that is asked")
    parser.add_argument("--m", help="numbers of rows, by commas; default: every one that is asked")
    options = parser.parse_args(arguments)
    shapes: Iterable[tuple[int, int]] = claims.SHAPES
    sizes: Iterable[int] = claims.SIZES
    try:
        if options.shapes:
            shapes = [(int(n), int(k)) for n, k in (text.split("x") for text in options.shapes.split(","))]
        if options.m:
            sizes = [int(m) for m in options.m.split(",")]
    except ValueError as error:
        parser.error(str(error))
    try:
        rows = tables.load(options.files)
    except (OSError, ValueError) as error:
        print(f"gpu_claims.py: {error}")
        return 1
    verdict = claims.judge(rows, shapes, sizes)
    print("\n".join([*verdict.lines, verdict.summary()]))
    return int(not verdict.holds)


def main(arguments: list[str]) -> int:
    if len(arguments) >= 2 and arguments[0] == "peers":
        return peers(arguments[1:])
    commands = {"quantizers": quantizers, "a8": a8}
    if len(arguments) != 2 or arguments[0] not in commands:
        print(__doc__, file=sys.stderr)
        return 2
    return commands[arguments[0]](pathlib.Path(arguments[1]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
