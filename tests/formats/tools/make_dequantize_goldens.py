#!/usr/bin/env python3
"""Writes tests/data/formats/dequantize_goldens.txt with numpy and ml_dtypes.

One matrix a line: NAME ROWS K DATA SCALES SECOND_SCALE VALUES...; DATA and SCALES are the stored bytes in hex ("-" for
none), SECOND_SCALE and VALUES are FP32 bit patterns in hex.
"""

import pathlib

import ml_dtypes
import numpy as np

OUT = pathlib.Path(__file__).resolve().parents[3] / "tests/data/formats/dequantize_goldens.txt"


def f32_hex(values):
    return [f"{b:x}" for b in np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint32)]


def main():
    random = np.random.default_rng(7)
    lines = []

    def emit(name, data, scales, second, values):
        rows, k = values.shape
        scale_hex = scales.tobytes().hex() if scales is not None else "-"
        lines.append(" ".join([name, str(rows), str(k), data.tobytes().hex(), scale_hex, *f32_hex(second),
                               *f32_hex(values)]))

    def expand(scales, rows, k, block_n, block_k):
        full = np.repeat(np.repeat(scales.astype(np.float32), block_n, axis=0), block_k, axis=1)
        return full[:rows, :k]

    for name, dtype in (("bf16", ml_dtypes.bfloat16), ("fp16", np.float16), ("fp32", np.float32)):
        values = random.standard_normal((3, 5)).astype(dtype)
        emit(name, values, None, 1.0, values.astype(np.float32))

    # MXFP4: the packed bytes are random, the low nibble is the even element.
    packed = random.integers(0, 256, (4, 48), dtype=np.uint8)
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(4, 96)
    scales = random.integers(100, 150, (4, 3), dtype=np.uint8)
    scales[0] = [0, 127, 252]
    elements = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    emit("mxfp4", packed, scales, 1.0, elements * expand(scales.view(ml_dtypes.float8_e8m0fnu), 4, 96, 1, 32))

    # NVFP4 over the same elements.
    nv_scales = random.uniform(0.5, 400, (4, 6)).astype(ml_dtypes.float8_e4m3fn)
    second = np.float32(0.0371)
    emit("nvfp4", packed, nv_scales, second, elements * expand(nv_scales, 4, 96, 1, 16) * second)

    # E4M3 in 2x3 blocks, the last ones partial.
    weights = random.standard_normal((5, 7)).astype(ml_dtypes.float8_e4m3fn)
    for name, dtype in (("block_fp32", np.float32), ("block_bf16", ml_dtypes.bfloat16)):
        block_scales = random.uniform(0.01, 2, (3, 3)).astype(dtype)
        emit(name, weights, block_scales, 1.0, weights.astype(np.float32) * expand(block_scales, 5, 7, 2, 3))

    # Signed 3-bit integers with a scale per row; each row of 11 is a bit stream of 5 bytes.
    ints = random.integers(-4, 4, (2, 11))
    rows = []
    for row in ints:
        stream = sum((int(value) & 7) << (3 * i) for i, value in enumerate(row))
        rows.append(np.frombuffer(stream.to_bytes(5, "little"), dtype=np.uint8))
    row_scales = random.uniform(0.01, 2, (2, 1)).astype(np.float16)
    emit("int3_channel", np.stack(rows), row_scales, 1.0, ints.astype(np.float32) * row_scales.astype(np.float32))

    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
