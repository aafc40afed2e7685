"""Random weights and activations in every format, with what they stand for in float64. Needs torch."""

from __future__ import annotations

import torch

DEVICE = "cuda"
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_E4M3_MAX = 448.0


def pack_nibbles(codes: torch.Tensor) -> torch.Tensor:
    """(N, K) codes of 4 bits -> (N, K / 8) int32, element 0 in the lowest nibble."""
    groups = codes.view(*codes.shape[:-1], -1, 8)
    packed = torch.zeros(groups.shape[:-1], dtype=torch.int32, device=codes.device)
    for i in range(8):
        packed |= groups[..., i].to(torch.int32) << (4 * i)
    return packed


class Weight:
    """One matrix of a normal distribution, quantized to each format when that is first asked for."""

    def __init__(self, n: int, k: int, device: str = DEVICE) -> None:
        torch.manual_seed(n * 7 + k)
        self.n, self.k = n, k
        self.dense = torch.randn(n, k, device=device) / k**0.5
        self._parts: dict[str, tuple[torch.Tensor, ...]] = {}

    def parts(self, weights: str) -> tuple[torch.Tensor, ...]:
        """int4gN: nibbles with offset 8 as int32 (N, K/8), BF16 scales (N, K/group), codes. mxfp4: nibbles, exponents
        (N, K/32), codes. fp8row, fp8block, fp8tensor: E4M3 (N, K), scales. bf16: the matrix."""
        if weights not in self._parts:
            self._parts[weights] = self._quantize(weights)
        return self._parts[weights]

    def _quantize(self, weights: str) -> tuple[torch.Tensor, ...]:
        w, n, k = self.dense, self.n, self.k
        if weights.startswith("int4g"):
            groups = w.view(n, -1, int(weights[5:]))
            scale = (groups.abs().amax(-1, keepdim=True) / 7.5).bfloat16()
            codes = (groups / scale.float()).round().add(8).clamp(0, 15).to(torch.uint8).view(n, k)
            return pack_nibbles(codes), scale.squeeze(-1), codes
        if weights == "mxfp4":
            groups = w.view(n, k // 32, 32)
            exponent = torch.floor(torch.log2(groups.abs().amax(-1).clamp_min(1e-30))) - 2
            scaled = groups / torch.exp2(exponent).unsqueeze(-1)
            codes = torch.zeros_like(scaled, dtype=torch.uint8)
            for i, border in enumerate((0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)):  # a tie goes to the even code
                codes += (scaled.abs() >= border) if i % 2 else (scaled.abs() > border)
            codes = (codes + 8 * (scaled < 0).to(torch.uint8)).view(n, k)
            return pack_nibbles(codes), (exponent + 127).clamp(1, 254).to(torch.uint8), codes
        if weights == "fp8row":
            scale = (w.abs().amax(-1, keepdim=True) / _E4M3_MAX).bfloat16()
            return (w / scale.float()).clamp(-_E4M3_MAX, _E4M3_MAX).to(torch.float8_e4m3fn), scale
        if weights == "fp8block":
            blocks = w.view(n // 128, 128, k // 128, 128)
            scale = blocks.abs().amax((1, 3)) / _E4M3_MAX
            return (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn).view(n, k), scale
        if weights == "fp8tensor":
            scale = (w.abs().amax() / _E4M3_MAX).reshape(1)
            return (w / scale).to(torch.float8_e4m3fn), scale
        if weights == "bf16":
            return (w.bfloat16(),)
        raise ValueError(f"unknown weights {weights}")

    def exact(self, weights: str) -> torch.Tensor:
        """(N, K) in float64."""
        parts = self.parts(weights)
        if weights.startswith("int4g"):
            numbers = (parts[2].double() - 8).view(self.n, -1, int(weights[5:]))
            return (numbers * parts[1].double().unsqueeze(-1)).view(self.n, self.k)
        if weights == "mxfp4":
            table = torch.tensor([*_E2M1, *(-x for x in _E2M1)], dtype=torch.float64, device=parts[2].device)
            scale = torch.exp2(parts[1].double() - 127).unsqueeze(-1)
            return (table[parts[2].long()].view(self.n, -1, 32) * scale).view(self.n, self.k)
        if weights == "fp8block":
            blocks = parts[0].double().view(self.n // 128, 128, self.k // 128, 128)
            return (blocks * parts[1].double()[:, None, :, None]).view(self.n, self.k)
        return parts[0].double() * parts[1].double() if len(parts) > 1 else parts[0].double()


class Activations:
    """BF16 rows, quantized to each format when that is first asked for."""

    def __init__(self, m: int, k: int, device: str = DEVICE) -> None:
        self.rows = torch.randn(m, k, device=device).bfloat16()
        self._parts: dict[str, tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]] = {}

    def parts(self, activations: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The operand and its scales."""
        return self._get(activations)[:2]

    def exact(self, activations: str) -> torch.Tensor:
        return self._get(activations)[2]

    def _get(self, activations: str) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        if activations not in self._parts:
            self._parts[activations] = self._quantize(activations)
        return self._parts[activations]

    def _quantize(self, activations: str) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        x = self.rows
        if activations == "bf16":
            return x, None, x.double()
        if activations == "int8tok":
            scale = x.float().abs().amax(-1, keepdim=True) / 127
            codes = (x.float() / scale).round().clamp(-127, 127).to(torch.int8)
            return codes, scale, codes.double() * scale.double()
        if activations == "fp8g128":
            groups = x.float().view(x.shape[0], -1, 128)
            scale = groups.abs().amax(-1) / _E4M3_MAX
            codes = (groups / scale.unsqueeze(-1)).clamp(-_E4M3_MAX, _E4M3_MAX).to(torch.float8_e4m3fn)
            return codes.view(x.shape), scale, (codes.double() * scale.double().unsqueeze(-1)).view(x.shape)
        if activations == "fp8tok":
            scale = x.float().abs().amax(-1, keepdim=True) / _E4M3_MAX
        elif activations == "fp8tensor":
            scale = (x.float().abs().amax() / _E4M3_MAX).reshape(1)
        else:
            raise ValueError(f"unknown activations {activations}")
        codes = (x.float() / scale).clamp(-_E4M3_MAX, _E4M3_MAX).to(torch.float8_e4m3fn)
        return codes, scale, codes.double() * scale.double()


def relative_error(got: torch.Tensor, exact: torch.Tensor) -> float:
    """Frobenius; NaN when anything is not finite."""
    got = got.double()
    if not torch.isfinite(got).all():
        return float("nan")
    return ((got - exact).norm() / exact.norm()).item()
