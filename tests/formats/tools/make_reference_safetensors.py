#!/usr/bin/env python3
"""Writes tests/data/formats/reference.safetensors with the safetensors library (needs numpy, safetensors)."""

import pathlib

import numpy as np
from safetensors import TensorSpec, serialize_file

OUT = pathlib.Path(__file__).resolve().parents[3] / "tests/data/formats/reference.safetensors"
SIZES = {
    "bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "uint64": 8, "int64": 8,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e8m0fnu": 1, "bfloat16": 2, "float16": 2, "float32": 4, "float64": 8,
}
NAMES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0", "bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64",
}


def main():
    arrays, specs = [], {}

    def add(name, dtype, shape, data):
        array = np.frombuffer(data, dtype=np.uint8).copy() if data else np.zeros(1, np.uint8)
        arrays.append(array)
        specs[name] = TensorSpec(dtype=dtype, shape=shape, data_ptr=array.ctypes.data, data_len=len(data))

    for dtype, size in SIZES.items():
        data = bytes(i % 2 if dtype == "bool" else i for i in range(15 * size))
        add(NAMES[dtype], dtype, [3, 5], data)
    add("scalar", "float32", [], np.float32(2.5).tobytes())
    add("empty", "float16", [0, 7], b"")
    serialize_file(specs, str(OUT), {"format": "pt", "note": 'naïve "quotes"'})


if __name__ == "__main__":
    main()
