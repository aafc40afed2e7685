"""Formats by their definitions, in numpy: what the library is compared with."""

from __future__ import annotations

import numpy as np

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float64)


def bf16_bits(x: np.ndarray) -> np.ndarray:
    """Nearest BF16, ties to even, as uint16."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_values(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def random_mxfp4(rng: np.random.Generator, n: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bytes (n, k / 2), scales (n, k / 32), values (n, k)."""
    values = rng.integers(0, 256, (n, k // 2), np.uint8)
    scales = rng.integers(118, 128, (n, k // 32), np.uint8)
    codes = np.stack([values & 15, values >> 4], -1).reshape(n, k)
    numbers = np.where(codes & 8, -1.0, 1.0) * E2M1[codes & 7]
    return values, scales, numbers * np.repeat(np.exp2(scales.astype(np.float64) - 127), 32, axis=1)


def int4_values(values: np.ndarray, scales: np.ndarray, group: int) -> np.ndarray:
    """Two's complement nibbles, the first in the low half; BF16 scales (n, k / group)."""
    codes = np.stack([values & 15, values >> 4], -1).reshape(values.shape[0], -1).astype(np.int64)
    return np.where(codes >= 8, codes - 16, codes) * np.repeat(bf16_values(scales), group, axis=1)


def _e4m3_table() -> np.ndarray:
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    magnitude = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * np.exp2(exponent - 10.0))
    magnitude[codes & 127 == 127] = np.nan
    return np.where(codes & 128, -magnitude, magnitude)


E4M3 = _e4m3_table()


def random_e4m3(rng: np.random.Generator, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n, k) of magnitudes from 2^-3 to 2^4, values."""
    codes = (rng.integers(4 * 8, 11 * 8, (n, k)) | rng.integers(0, 2, (n, k)) << 7).astype(np.uint8)
    return codes, E4M3[codes]


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """Frobenius norm of the difference over that of the reference."""
    return float(np.linalg.norm(got.astype(np.float64) - expected) / np.linalg.norm(expected))
