#!/usr/bin/env python3
"""Writes tests/data/formats/numeric_goldens.txt, the reference for src/formats/numeric.

Needs numpy and ml_dtypes. The lines of the output:

  decode TYPE SOURCE BITS...        FP32 bit patterns (hex) of the codes 0, 1, 2, ...; every NaN is 7fc00000
  decode_hash TYPE SOURCE HASH      FNV-1a (64 bits, over the little-endian bytes) of the same for a 16-bit type
  edges TYPE SOURCE IN:CODE...      encoding of FP32 bit patterns around every value and midpoint
  sweep TYPE SOURCE STRIDE HASH     FNV-1a of the codes (as 16-bit words) of the FP32 patterns 0, STRIDE, 2*STRIDE, ...
                                    NaN inputs left out

SOURCE is "ml_dtypes", or "exact" where the values come from the definition in rational arithmetic.
ml_dtypes overflows E4M3, E5M2 and E8M0 to NaN or infinity; here inputs are clamped to the finite range first.
"""

import pathlib
from fractions import Fraction

import ml_dtypes
import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/formats/numeric_goldens.txt"
SATURATING = {
    "float4e2m1": ml_dtypes.float4_e2m1fn,
    "float6e3m2": ml_dtypes.float6_e3m2fn,
    "float6e2m3": ml_dtypes.float6_e2m3fn,
    "float8e4m3": ml_dtypes.float8_e4m3fn,
    "float8e5m2": ml_dtypes.float8_e5m2,
    "float8e8m0": ml_dtypes.float8_e8m0fnu,
}
IEEE = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}
INTEGERS = {
    "int1": ml_dtypes.int1, "int2": ml_dtypes.int2, "int4": ml_dtypes.int4, "int8": np.int8,
    "uint1": ml_dtypes.uint1, "uint2": ml_dtypes.uint2, "uint4": ml_dtypes.uint4, "uint8": np.uint8,
}
STRIDE = 4099


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def bits_of(values):
    values = np.asarray(values, dtype=np.float32)
    return np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32))


def decode_all(dtype, bits):
    if bits == 16:
        return np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(np.float32)
    codes = np.arange(1 << bits, dtype=np.uint8)
    if np.dtype(dtype).name.startswith("int"):
        # ml_dtypes keeps sub-byte integers sign-extended in a byte.
        codes = (codes << (8 - bits)).view(np.int8) >> (8 - bits)
    return codes.view(dtype).astype(np.float32)


def encode_all(dtype, values, saturating):
    if saturating:
        finite = decode_all(dtype, 8 if np.dtype(dtype).name.startswith("float8") else
                            int(np.dtype(dtype).name[5])).astype(np.float32)
        limit = np.nanmax(np.where(np.isinf(finite), np.nan, finite))
        low = 2.0**-126 if "e8m0" in np.dtype(dtype).name else -limit
        values = np.clip(values, np.float32(low), limit)
        return values.astype(dtype).view(np.uint8).astype(np.uint16)
    return values.astype(dtype).view(np.uint16)


def edge_inputs(table):
    """FP32 values at, beside and halfway between all neighbours of a table of values."""
    finite = np.unique(table[np.isfinite(table)].astype(np.float64))
    top = finite[-1] + (finite[-1] - finite[-2])
    points = np.concatenate([finite, (finite[1:] + finite[:-1]) / 2, [(finite[-1] + top) / 2, top, 2 * top]])
    points = np.concatenate([points, -points])
    points = points[np.abs(points) < 3e38].astype(np.float32)
    inf = np.float32(np.inf)
    points = np.concatenate([points, np.nextafter(points, inf), np.nextafter(points, -inf)])
    points = np.concatenate([points, np.float32([0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38])])
    return np.unique(points.view(np.uint32)).view(np.float32)


def exact_value(code, exponent_bits, mantissa_bits):
    magnitude_bits = exponent_bits + mantissa_bits
    sign, magnitude = code >> magnitude_bits, code & ((1 << magnitude_bits) - 1)
    exponent, mantissa = magnitude >> mantissa_bits, magnitude & ((1 << mantissa_bits) - 1)
    bias = 2 ** (exponent_bits - 1) - 1
    if exponent == 0:
        value = Fraction(mantissa, 1 << mantissa_bits) * Fraction(2) ** (1 - bias)
    else:
        value = (1 + Fraction(mantissa, 1 << mantissa_bits)) * Fraction(2) ** (exponent - bias)
    result = np.float32(float(value))
    assert Fraction(float(result)) == value
    return -result if sign else result


def main():
    lines = []

    def emit(*words):
        lines.append(" ".join(str(word) for word in words))

    sweep = np.arange(0, 1 << 32, STRIDE, dtype=np.uint64).astype(np.uint32).view(np.float32)
    sweep = sweep[~np.isnan(sweep)]

    for name, dtype in SATURATING.items():
        bits = int(name[5])
        table = decode_all(dtype, bits)
        emit("decode", name, "ml_dtypes", *(f"{b:x}" for b in bits_of(table)))
        # ml_dtypes takes no zero, negative or subnormal input for E8M0.
        positive = name == "float8e8m0"
        inputs = edge_inputs(table)
        if positive:
            inputs = inputs[inputs >= np.float32(2.0**-126)]
        codes = encode_all(dtype, inputs, True)
        emit("edges", name, "ml_dtypes", *(f"{b:x}:{c:x}" for b, c in zip(inputs.view(np.uint32), codes)))
        if not positive:
            emit("sweep", name, "ml_dtypes", STRIDE, fnv1a(encode_all(dtype, sweep, True).tobytes()))

    for name, dtype in IEEE.items():
        table = decode_all(dtype, 16)
        emit("decode_hash", name, "ml_dtypes", fnv1a(bits_of(table).tobytes()))
        sample = edge_inputs(np.concatenate([table[:40], table[0x3BF8:0x3C08], table[0x7BF0:0x7C00],
                                             table[0x03F8:0x0408], table[0x7F70:0x7F80]]))
        with np.errstate(over="ignore"):
            codes = encode_all(dtype, sample, False)
            emit("edges", name, "ml_dtypes", *(f"{b:x}:{c:x}" for b, c in zip(sample.view(np.uint32), codes)))
            emit("sweep", name, "ml_dtypes", STRIDE, fnv1a(encode_all(dtype, sweep, False).tobytes()))

    for name, dtype in INTEGERS.items():
        emit("decode", name, "ml_dtypes", *(f"{b:x}" for b in bits_of(decode_all(dtype, int(name[-1])))))
    for bits in range(1, 9):
        for name, low in ((f"int{bits}", -(1 << bits) // 2), (f"uint{bits}", 0)):
            if name not in INTEGERS:
                values = [low + (code - low) % (1 << bits) for code in range(1 << bits)]
                emit("decode", name, "exact", *(f"{b:x}" for b in bits_of(values)))

    for bits in range(3, 9):
        for exponent in range(1, bits):
            name = f"float{bits}e{exponent}m{bits - 1 - exponent}"
            if name not in SATURATING:
                table = [exact_value(code, exponent, bits - 1 - exponent) for code in range(1 << bits)]
                emit("decode", name, "exact", *(f"{b:x}" for b in bits_of(table)))

    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
