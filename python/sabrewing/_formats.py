"""What the numbers of a matrix mean."""

from __future__ import annotations

import ctypes
import dataclasses

from . import _abi

_ZERO_POINTS = {"none": 0, "integer": 1, "float": 2}
_GRANULARITIES = {"none": 0, "tensor": 1, "token": 2, "group": 3}


def element_type(name: str | None) -> _abi.ElementType:
    """The type called "int4", "uint3", "float4e2m1", "float8e8m0", "bf16", ...; None is no type."""
    out = _abi.ElementType()
    if name is not None:
        _abi.check(_abi.lib.sabrewing_parse_element_type(name.encode(), ctypes.byref(out)))
    return out


def element_name(element: _abi.ElementType) -> str | None:
    """The inverse of ``element_type``."""
    kind, bits = element.kind, element.bits
    if kind == 0:
        return None
    if kind == 1:
        return f"int{bits}"
    if kind == 2:
        return f"uint{bits}"
    if kind == 4:
        return {(16, 8): "bf16", (16, 5): "fp16"}.get((bits, element.exponent), "fp32")
    return f"float{bits}e{element.exponent}m{element.mantissa}"


@dataclasses.dataclass(frozen=True)
class WeightFormat:
    """value = decode(element, code) * scale of its block * second-level scale of the tensor.

    ``block_n`` rows by ``block_k`` columns share a scale; 0 stands for the whole extent: (1, 32) is a group of 32
    along K, (1, 0) an output channel, (0, 0) the tensor. ``zero_point`` is "none", "integer" or "float".
    """

    element: str
    scale: str | None = None
    block_n: int = 0
    block_k: int = 0
    second_scale: str | None = None
    zero_point: str = "none"

    @classmethod
    def grouped(cls, element: str, group: int, scale: str = "bf16") -> WeightFormat:
        """A scale for ``group`` columns of a row; 0: for the row."""
        return cls(element, scale, 1, group)

    def to_abi(self) -> _abi.WeightFormatDesc:
        if self.zero_point not in _ZERO_POINTS:
            raise ValueError(f"zero_point is {self.zero_point!r}: one of {', '.join(_ZERO_POINTS)} expected")
        return _abi.WeightFormatDesc(
            element=element_type(self.element),
            scale=element_type(self.scale),
            second_scale=element_type(self.second_scale),
            zero_point=_ZERO_POINTS[self.zero_point],
            block_n=self.block_n,
            block_k=self.block_k,
        )


@dataclasses.dataclass(frozen=True)
class ActivationFormat:
    """What the inner product reads as its activations. ``granularity``: "none", "tensor", "token" or "group"."""

    element: str
    granularity: str = "none"
    group: int = 0
    scale: str | None = None

    @classmethod
    def per_token(cls, element: str) -> ActivationFormat:
        """An FP32 scale for each row."""
        return cls(element, "token", 0, "fp32")

    @classmethod
    def per_tensor(cls, element: str) -> ActivationFormat:
        """One FP32 scale."""
        return cls(element, "tensor", 0, "fp32")

    @classmethod
    def per_group(cls, element: str, group: int, scale: str = "fp32") -> ActivationFormat:
        """A scale for each row and ``group`` columns."""
        return cls(element, "group", group, scale)

    def to_abi(self) -> _abi.ActivationFormatDesc:
        if self.granularity not in _GRANULARITIES:
            raise ValueError(f"granularity is {self.granularity!r}: one of {', '.join(_GRANULARITIES)} expected")
        return _abi.ActivationFormatDesc(
            element=element_type(self.element),
            scale=element_type(self.scale),
            granularity=_GRANULARITIES[self.granularity],
            group=self.group,
        )

    @classmethod
    def from_abi(cls, desc: _abi.ActivationFormatDesc) -> ActivationFormat:
        names = {number: name for name, number in _GRANULARITIES.items()}
        element = element_name(desc.element)
        assert element is not None
        return cls(element, names[desc.granularity], desc.group, element_name(desc.scale))


BF16 = WeightFormat("bf16")
FP16 = WeightFormat("fp16")
FP32 = WeightFormat("fp32")
MXFP4 = WeightFormat("float4e2m1", "float8e8m0", 1, 32)
MXFP8 = WeightFormat("float8e4m3", "float8e8m0", 1, 32)
NVFP4 = WeightFormat("float4e2m1", "float8e4m3", 1, 16, "fp32")
