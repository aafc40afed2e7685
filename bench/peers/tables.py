"""Rows {n, k, m, weights, activations, impl, us, floor_us, error} as tables for people."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any

Row = dict[str, Any]
KEYS = ("n", "k", "m", "weights", "activations", "impl", "us", "floor_us", "error")


def load(paths: list[pathlib.Path]) -> list[Row]:
    """Rows of files that are a list or have "rows"; a later row replaces an earlier one of the same case."""
    rows: dict[tuple[Any, ...], Row] = {}
    for path in paths:
        data = json.loads(path.read_text())
        for row in data["rows"] if isinstance(data, dict) else data:
            absent = [key for key in KEYS[:-1] if key not in row]
            if absent:
                raise ValueError(f"{path}: a row without {', '.join(absent)}: {row}")
            rows[tuple(row[key] for key in KEYS[:6])] = row
    return list(rows.values())


def figure(us: float) -> str:
    return f"{us:.1f}" if us < 99.95 else f"{us:.0f}"


def group_of(row: Row) -> str:
    """Rows that compete: by the weights' width and the activations."""
    four = row["weights"].startswith("int4") or row["weights"] == "mxfp4"
    wide = row["activations"] == "bf16"
    if four:
        return "W4A16" if wide else "W4A8"
    return "8-bit weights and BF16"


def tables(rows: list[Row]) -> str:
    """One table for each shape and group: microseconds, the fastest in bold, and floor / time of the fastest."""
    out = []
    for n, k in sorted({(row["n"], row["k"]) for row in rows}, reverse=True):
        out.append(f"### N={n}, K={k}\n")
        here = [row for row in rows if (row["n"], row["k"]) == (n, k)]
        sizes = sorted({row["m"] for row in here})
        for group in ("W4A16", "W4A8", "8-bit weights and BF16"):
            members = [row for row in here if group_of(row) == group]
            if members:
                out += [f"{group}:\n", *_table(members, sizes), ""]
    return "\n".join(out)


def _table(rows: list[Row], sizes: list[int]) -> list[str]:
    names: list[str] = []
    cells: dict[tuple[str, int], Row] = {}
    for row in rows:
        name = f"{row['impl']}/{row['weights']}/{row['activations']}"
        if name not in names:
            names.append(name)
        cells[name, row["m"]] = row
    fastest = {m: min((row for row in rows if row["m"] == m), key=lambda row: row["us"], default=None) for m in sizes}
    lines = ["| impl / weights / activations | " + " | ".join(map(str, sizes)) + " |", "|---|" + "---:|" * len(sizes)]
    for name in names:
        texts = []
        for m in sizes:
            row = cells.get((name, m))
            text = "-" if row is None else figure(row["us"])
            texts.append(f"**{text}**" if row is not None and row is fastest[m] else text)
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    fractions = [f"{best['floor_us'] / best['us']:.2f}" if (best := fastest[m]) else "-" for m in sizes]
    lines.append("| *fastest: floor / time* | " + " | ".join(fractions) + " |")
    return lines


BUCKETS = (("M 1-16", 1, 16), ("M 32-128", 32, 128), ("M 256-1024", 256, 1024), ("M >= 2048", 2048, 1 << 62))


def ratios(rows: list[Row], own: str = "sabrewing") -> dict[tuple[str, str], dict[str, tuple[float, float, int]]]:
    """For each pair of formats and range of M: geometric mean and least of (fastest peer's time) / (ours), and the
    number of cells; cells without a peer or without us do not count."""
    out: dict[tuple[str, str], dict[str, tuple[float, float, int]]] = {}
    pairs = {(row["weights"], row["activations"]) for row in rows if row["impl"] == own}
    for pair in sorted(pairs):
        for bucket, low, high in BUCKETS:
            values = []
            for row in rows:
                if row["impl"] != own or (row["weights"], row["activations"]) != pair or not low <= row["m"] <= high:
                    continue
                case = [row[key] for key in KEYS[:5]]
                peers = [r["us"] for r in rows if r["impl"] != own and [r[key] for key in KEYS[:5]] == case]
                if peers:
                    values.append(min(peers) / row["us"])
            if values:
                mean = math.exp(sum(map(math.log, values)) / len(values))
                out.setdefault(pair, {})[bucket] = (mean, min(values), len(values))
    return out


def ratio_table(rows: list[Row]) -> str:
    """`ratios` as a table: mean (least of count)."""
    lines = [
        "| weights / activations | " + " | ".join(bucket[0] for bucket in BUCKETS) + " |",
        "|---|" + "---:|" * len(BUCKETS),
    ]
    for pair, found in ratios(rows).items():
        texts = ["{:.2f} ({:.2f} of {})".format(*found[b[0]]) if b[0] in found else "-" for b in BUCKETS]
        lines.append(f"| {pair[0]} / {pair[1]} | " + " | ".join(texts) + " |")
    return "\n".join(lines)
