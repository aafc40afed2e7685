"""What is timed, and the least time that it can take."""

from __future__ import annotations

import dataclasses
import json
import pathlib

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SHAPES_FILE = REPOSITORY / "bench" / "shapes_cuda.json"

BYTES_PER_US = 4.28e6  # memory rate measured on an H200
FLOPS_PER_US = {16: 790e6, 8: 1580e6}  # by the width of the wider operand after conversion

# (weights, activations) that some implementation computes. Weights: int4gN symmetric with a BF16 scale for N columns,
# mxfp4, fp8row (E4M3, a scale for an output channel), fp8block (128x128), fp8tensor, bf16. Activations: bf16, fp8tok,
# int8tok (a scale for a token), fp8g128 (for a token and 128 columns), fp8tensor.
FORMATS = [
    ("int4g128", "bf16"),
    ("mxfp4", "bf16"),
    ("fp8row", "bf16"),
    ("int4g128", "fp8tok"),
    ("int4g128", "int8tok"),
    ("mxfp4", "fp8tok"),
    ("fp8row", "fp8tok"),
    ("fp8block", "fp8g128"),
    ("fp8tensor", "fp8tensor"),
    ("bf16", "bf16"),
]


@dataclasses.dataclass(frozen=True)
class Shape:
    name: str
    n: int
    k: int

    def __str__(self) -> str:
        return f"{self.n}x{self.k}"


def load_shapes(path: pathlib.Path = SHAPES_FILE) -> tuple[list[Shape], list[int]]:
    """Shapes and numbers of rows of a file like bench/shapes_cuda.json."""
    data = json.loads(path.read_text())
    return [Shape(item["name"], item["n"], item["k"]) for item in data["shapes"]], list(data["m"])


def fitted(weights: str, n: int, k: int) -> str | None:
    """The format that a shape gets where `weights` does not divide it; None when there is none."""
    if weights == "int4g128" and k % 128:
        return "int4g64" if k % 64 == 0 else None
    if weights == "mxfp4" and k % 32:
        return None
    if weights == "fp8block" and (n % 128 or k % 128):
        return None
    return weights


def activations_fit(activations: str, k: int) -> bool:
    return activations != "fp8g128" or k % 128 == 0


def weight_bytes(weights: str, n: int, k: int) -> float:
    """Bytes of a weight with its scales, without padding."""
    if weights.startswith("int4g"):
        return n * k / 2 + n * (k / int(weights[5:])) * 2
    return {
        "mxfp4": n * k / 2 + n * k / 32,
        "fp8row": n * k + 4 * n,
        "fp8block": n * k + n * k / 4096,
        "fp8tensor": n * k + 4,
        "bf16": 2 * n * k,
    }[weights]


def activation_bytes(activations: str, m: int, k: int) -> float:
    if activations == "bf16":
        return 2 * m * k
    return m * k + {"fp8tok": 4 * m, "int8tok": 4 * m, "fp8g128": m * k / 32, "fp8tensor": 4}[activations]


def floor_us(weights: str, activations: str, n: int, k: int, m: int) -> float:
    """max(bytes / memory rate, arithmetic / its rate) on an H200, microseconds."""
    moved = weight_bytes(weights, n, k) + activation_bytes(activations, m, k) + 2 * m * n
    rate = FLOPS_PER_US[16 if activations == "bf16" else 8]
    return max(moved / BYTES_PER_US, 2 * m * n * k / rate)
