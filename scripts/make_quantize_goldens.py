#!/usr/bin/env python3
"""Writes tests/data/formats/quantize_goldens.txt, the reference for src/formats/quantize.

Needs numpy and ml_dtypes. Each case is four lines:

  case ELEMENT GROUP SCALE           GROUP 0: per token
  row BITS...                        FP32 bit patterns (hex) of the input
  scales BITS...                     FP32 bit patterns; every NaN is 7fc00000
  codes CODES...                     element codes (hex), one per number
"""

import pathlib

import ml_dtypes
import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/formats/quantize_goldens.txt"
FLOATS = {
    "float8e4m3": (ml_dtypes.float8_e4m3fn, 448.0),
    "float8e5m2": (ml_dtypes.float8_e5m2, 57344.0),
    "float4e2m1": (ml_dtypes.float4_e2m1fn, 6.0),
}
INTEGERS = {"int8": 127.0, "int4": 7.0}


def encode(element, values):
    if element in FLOATS:
        kind, top = FLOATS[element]
        return np.clip(values, -top, top).astype(kind).view(np.uint8)
    top = INTEGERS[element]
    codes = np.clip(np.rint(values), -top, top).astype(np.int64)
    return (codes & (255 if element == "int8" else 15)).astype(np.uint8)


def quantize(element, group, exponents, row):
    top = np.float32(FLOATS[element][1] if element in FLOATS else INTEGERS[element])
    scales, codes = [], []
    for first in range(0, len(row), group or len(row)):
        part = row[first:first + (group or len(row))]
        if not np.isfinite(part).all():
            scales.append(np.float32(np.nan))
            codes.append(encode(element, np.zeros(len(part), np.float32)))
            continue
        largest = np.abs(part).max()
        scale = np.float32(1)
        if largest > 0:
            scale = max(np.float32(largest / top), np.finfo(np.float32).tiny)
            if exponents:
                scale = np.float32(2.0 ** np.ceil(np.log2(np.float64(scale))))
        scales.append(scale)
        codes.append(encode(element, (part / scale).astype(np.float32)))
    return np.array(scales, np.float32), np.concatenate(codes)


def patterns(values):
    bits = np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32))
    return " ".join(f"{b:08x}" for b in bits)


def rows(random):
    yield (random.standard_normal(96) * 3).astype(np.float32)
    wide = random.standard_normal(70) * np.exp2(random.integers(-30, 30, 70))
    wide[5] = 0
    yield wide.astype(np.float32)
    zeros = random.standard_normal(96).astype(np.float32)
    zeros[32:64] = 0
    zeros[10] = -0.0
    yield zeros
    broken = random.standard_normal(96).astype(np.float32)
    broken[40], broken[70] = np.nan, -np.inf
    yield broken
    yield np.array([1e-45, -3e-44, 0, 2e-42], np.float32)
    # Ties of every kind of element: the largest value makes the scale 1.
    for top in (448.0, 57344.0, 6.0, 127.0, 7.0):
        yield np.array([top, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -0.5, -1.5, -2.5, 17.0, 19.0, 0.0009765625],
                       np.float32).clip(-top, top)


def main():
    random = np.random.default_rng(7)
    lines = []
    for row in rows(random):
        for element in [*FLOATS, *INTEGERS]:
            for group, exponents in ((0, False), (32, False), (32, True)):
                scales, codes = quantize(element, group, exponents, row)
                lines += [f"case {element} {group} {'float8e8m0' if exponents else 'fp32'}", f"row {patterns(row)}",
                          f"scales {patterns(scales)}", "codes " + " ".join(f"{c:x}" for c in codes)]
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
