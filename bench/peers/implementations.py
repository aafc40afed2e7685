"""The product of this repository and of its peers behind one interface. Needs torch and a GPU, and each peer its package;
`Implementation.missing` says in words what is absent."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pathlib
from typing import Any

import torch
from data import DEVICE, Activations, Weight

Copy = dict[str, Any]


class Implementation:
    """One kernel family with one pair of formats on one shape."""

    name = ""
    pairs: tuple[tuple[str, str], ...] = ()

    def __init__(self, weight: Weight, weights: str, activations: str) -> None:
        self.n, self.k = weight.n, weight.k
        self.weights, self.activations = weights, activations
        self.first = self.pack(weight)

    @classmethod
    def missing(cls) -> str:
        """Empty, or why this implementation cannot run here."""
        return ""

    @classmethod
    def refusal(cls, weights: str, activations: str, n: int, k: int) -> str:
        """Empty, or why it leaves out one of its pairs at this shape."""
        return ""

    def pack(self, weight: Weight) -> Copy:
        """The weight as the kernel takes it."""
        raise NotImplementedError

    def nbytes(self) -> int:
        return sum(part.numel() * part.element_size() for part in self.first.values() if isinstance(part, torch.Tensor))

    def copy(self) -> Copy:
        """The packed weight again, in other memory, with the same strides."""
        return {
            key: torch.empty_strided(part.shape, part.stride(), dtype=part.dtype, device=DEVICE).copy_(part)
            if isinstance(part, torch.Tensor)
            else part
            for key, part in self.first.items()
        }

    def operand(self, activations: Activations) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The activations as the kernel takes them."""
        return activations.parts(self.activations)

    def run(self, copy: Copy, operand: tuple[torch.Tensor, Any], out: torch.Tensor) -> torch.Tensor:
        """The product; in `out` where the kernel can write there."""
        raise NotImplementedError


class Sabrewing(Implementation):
    name = "sabrewing"
    pairs = (
        ("int4g128", "bf16"),
        ("int4g64", "bf16"),
        ("mxfp4", "bf16"),
        ("fp8row", "bf16"),
        ("int4g128", "fp8tok"),
        ("int4g64", "fp8tok"),
        ("int4g128", "int8tok"),
        ("int4g64", "int8tok"),
        ("mxfp4", "fp8tok"),
        ("fp8row", "fp8tok"),
        ("fp8block", "fp8g128"),
        ("fp8tensor", "fp8tensor"),
    )
    _context: Any = None

    @classmethod
    def missing(cls) -> str:
        try:
            sabrewing = importlib.import_module("sabrewing")
        except (ImportError, OSError) as error:
            return str(error)
        try:
            cls._context = cls._context or sabrewing.Context(f"cuda:{torch.cuda.current_device()}")
        except (sabrewing.Error, RuntimeError) as error:
            return str(error)
        return ""

    @staticmethod
    def formats(weights: str, activations: str) -> tuple[Any, Any]:
        """The library's names of a pair."""
        import sabrewing

        if weights.startswith("int4g"):
            weight = sabrewing.WeightFormat.grouped("int4", int(weights[5:]))
        else:
            weight = {
                "mxfp4": sabrewing.MXFP4,
                "fp8row": sabrewing.WeightFormat("float8e4m3", "fp32", 1),
                "fp8block": sabrewing.WeightFormat("float8e4m3", "fp32", 128, 128),
                "fp8tensor": sabrewing.WeightFormat("float8e4m3", "fp32"),
            }[weights]
        activation = sabrewing.ActivationFormat
        return weight, {
            "bf16": activation("bf16"),
            "fp8tok": activation.per_token("float8e4m3"),
            "int8tok": activation.per_token("int8"),
            "fp8g128": activation.per_group("float8e4m3", 128),
            "fp8tensor": activation.per_tensor("float8e4m3"),
        }[activations]

    @classmethod
    def refusal(cls, weights: str, activations: str, n: int, k: int) -> str:
        weight, activation = cls.formats(weights, activations)
        return cls._context.can_implement(weight, n, k, activation=activation).reason

    def pack(self, weight: Weight) -> Copy:
        parts = weight.parts(self.weights)
        # Offset nibbles to two's complement.
        values = parts[0] ^ -0x77777778 if self.weights.startswith("int4g") else parts[0]
        scales = parts[1].float() if self.weights == "fp8row" else parts[1]
        fmt, activation = self.formats(self.weights, self.activations)
        self.plan = self._context.plan(fmt, self.n, self.k, activation=activation)
        return {"weight": self.plan.pack(values.view(torch.uint8), scales)}

    def nbytes(self) -> int:
        return self.plan.packed_bytes

    def copy(self) -> Copy:
        return {"weight": self.first["weight"].copy()}

    def operand(self, activations: Activations) -> tuple[torch.Tensor, torch.Tensor | None]:
        operand, scale = activations.parts(self.activations)
        if scale is not None and self.activations == "fp8g128":
            scale = scale.t().contiguous()
        elif scale is not None:
            scale = scale.reshape(-1).expand(operand.shape[0]).contiguous()
        return operand, scale

    def run(self, copy: Copy, operand: tuple[torch.Tensor, Any], out: torch.Tensor) -> torch.Tensor:
        # As in a chain of layers: the launch overlaps with the end of the kernel in front.
        return self.plan.run(operand[0], copy["weight"], a_scales=operand[1], out=out, overlap=True)


class Cublas(Implementation):
    name = "cublas"
    pairs = (("bf16", "bf16"), ("fp8tensor", "fp8tensor"), ("fp8row", "fp8tok"))

    def pack(self, weight: Weight) -> Copy:
        parts = weight.parts(self.weights)
        return {"q": parts[0]} if len(parts) == 1 else {"q": parts[0], "s": parts[1].float()}

    def run(self, copy: Copy, operand: tuple[torch.Tensor, Any], out: torch.Tensor) -> torch.Tensor:
        if self.weights == "bf16":
            return torch.mm(operand[0], copy["q"].t(), out=out)
        scale = copy["s"].view(1, -1) if self.weights == "fp8row" else copy["s"]
        return torch._scaled_mm(
            operand[0],
            copy["q"].t(),
            scale_a=operand[1],
            scale_b=scale,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
            out=out,
        )


class Humming(Implementation):
    """humming-kernels, called as vLLM calls it: N padded to 256, K to 128, its table of heuristics."""

    name = "humming"
    pairs = (
        ("int4g128", "bf16"),
        ("int4g64", "bf16"),
        ("mxfp4", "bf16"),
        ("mxfp4", "fp8tok"),
        ("int4g128", "fp8tok"),
        ("int4g64", "fp8tok"),
        ("int4g128", "int8tok"),
        ("int4g64", "int8tok"),
        ("fp8row", "bf16"),
        ("fp8row", "fp8tok"),
        ("fp8block", "fp8g128"),
    )
    _WEIGHTS = {
        "int4g128": {"b_dtype": "uint4", "weight_scale_group_size": 128},
        "int4g64": {"b_dtype": "uint4", "weight_scale_group_size": 64},
        "mxfp4": {"b_dtype": "float4e2m1", "bs_dtype": "float8e8m0", "weight_scale_group_size": 32},
        "fp8row": {"b_dtype": "float8e4m3"},
        "fp8block": {"b_dtype": "float8e4m3", "weight_scale_group_size": 128, "weight_scale_group_size_n": 128},
    }
    _ACTIVATIONS = {
        "bf16": {},
        "fp8tok": {"a_dtype": "float8e4m3"},
        "int8tok": {"a_dtype": "int8"},
        "fp8g128": {"a_dtype": "float8e4m3", "input_scale_group_size": 128},
    }

    @classmethod
    def missing(cls) -> str:
        try:
            importlib.import_module("humming.forward")
        except (ImportError, OSError) as error:
            return f"package humming-kernels: {error}"
        return ""

    def pack(self, weight: Weight) -> Copy:
        from humming.schema import HummingInputSchema, HummingWeightSchema
        from humming.transform import prepare_and_transform_humming_tensors
        from humming.tune import get_heuristics_config

        parts = weight.parts(self.weights)
        scale = parts[1].clone()
        tensors = {
            "weight": parts[0].view(torch.int32).clone(),
            "weight_scale": scale.view(torch.float8_e8m0fnu) if self.weights == "mxfp4" else scale,
        }
        device = torch.device(DEVICE, torch.cuda.current_device())
        self._config, packed = prepare_and_transform_humming_tensors(
            tensors=tensors,
            shape_n=self.n,
            shape_k=self.k,
            weight_schema=HummingWeightSchema(**self._WEIGHTS[self.weights]),
            input_schema=HummingInputSchema(**self._ACTIVATIONS[self.activations]),
            num_experts=None,
            has_bias=False,
            torch_dtype=torch.bfloat16,
            device=device,
            pad_n_to_multiple=256,
            pad_k_to_multiple=128,
        )
        self._intervals = get_heuristics_config(layer_config=self._config, gemm_type="dense", device=device)
        self._locks = torch.zeros(2048, dtype=torch.int32, device=DEVICE)
        self._compute = json.dumps({"use_batch_invariant": False, "use_f16_accum": False, "gemm_type": "dense"})
        return packed

    def operand(self, activations: Activations) -> tuple[torch.Tensor, Any]:
        m = activations.rows.shape[0]
        tuning = next((config for low, high, config in self._intervals if low < m <= high), None)
        if tuning is None:
            raise ValueError(f"no interval for {m} rows")
        operand, scale = activations.parts(self.activations)
        return operand, (scale, json.dumps(tuning))

    def run(self, copy: Copy, operand: tuple[torch.Tensor, Any], out: torch.Tensor) -> torch.Tensor:
        from humming.forward import humming_forward

        scale, tuning = operand[1]
        humming_forward(
            self._config,
            inputs=operand[0],
            weight=copy["weight"],
            weight_scale=copy.get("weight_scale"),
            bias=copy.get("bias"),
            weight_scale_2=copy.get("weight_scale_2"),
            input_scale=scale,
            outputs=out,
            locks=self._locks,
            compute_config=self._compute,
            tuning_config=tuning,
        )
        return out


class VllmLibrary(Implementation):
    """Kernels of the vLLM wheel's _C_stable_libtorch.abi3.so, in the folder PEER_SO or in an installed vLLM."""

    _loaded = False

    @classmethod
    def missing(cls) -> str:
        if VllmLibrary._loaded:
            return ""
        folder = os.environ.get("PEER_SO")
        if folder is None:
            spec = importlib.util.find_spec("vllm")
            if spec is None or spec.origin is None:
                return "neither PEER_SO nor a package vllm"
            folder = str(pathlib.Path(spec.origin).parent)
        library = pathlib.Path(folder) / "_C_stable_libtorch.abi3.so"
        try:
            torch.ops.load_library(str(library))
        except OSError as error:
            return f"{library}: {error}"
        VllmLibrary._loaded = True
        return ""


def _scalar_id(exponent: int, mantissa: int, signed: int, bias: int, finite: int, nan: int) -> int:
    """vLLM's number of a scalar type: fields of 8, 8, 1, 32, 1 and 8 bits."""
    return exponent | mantissa << 8 | signed << 16 | bias << 17 | finite << 49 | nan << 50


_UINT4_BIAS_8 = _scalar_id(0, 4, 0, 8, 0, 1)
_E2M1 = _scalar_id(2, 1, 1, 0, 1, 0)
_E4M3 = _scalar_id(4, 3, 1, 0, 1, 2)


def _shuffled(scales: torch.Tensor, order: list[int]) -> torch.Tensor:
    """Groups of len(order) scales along (K / group, N), each in this order."""
    index = torch.tensor(order, device=scales.device)
    return scales.reshape(-1, len(order))[:, index].reshape(-1, scales.shape[-1]).contiguous()


_ORDER_64 = [i + 8 * j for i in range(8) for j in range(8)]
_ORDER_32 = [2 * i + j for i in range(4) for j in (0, 1, 8, 9, 16, 17, 24, 25)]


class Marlin(VllmLibrary):
    name = "marlin"
    pairs = (
        ("int4g128", "bf16"),
        ("int4g64", "bf16"),
        ("mxfp4", "bf16"),
        ("fp8row", "bf16"),
        ("int4g128", "int8tok"),
        ("int4g64", "int8tok"),
    )

    def pack(self, weight: Weight) -> Copy:
        ops = torch.ops._C
        parts = weight.parts(self.weights)
        eight = self.activations != "bf16"
        self._factor = None
        scales = parts[1].t().contiguous()
        if self.weights.startswith("int4g"):
            packed = ops.gptq_marlin_repack(parts[0].t().contiguous(), self.k, self.n, 4, eight)
            scales = _shuffled(scales, _ORDER_32 if eight else _ORDER_64)
            if eight:  # integer scales, their unit in the activations' scale
                largest = scales.float().max()
                self._factor = largest / 4096
                scales = (scales.float() / largest * 4096).round().to(torch.int16).view(torch.bfloat16)
            self._type = _UINT4_BIAS_8
        elif self.weights == "mxfp4":
            packed = ops.gptq_marlin_repack(parts[0].t().contiguous(), self.k, self.n, 4, eight)
            scales = _shuffled(scales, _ORDER_64)
            scales = scales.view(-1, 4)[:, [0, 2, 1, 3]].reshape(scales.shape).contiguous()
            scales = scales.view(torch.float8_e8m0fnu)
            self._type = _E2M1
        else:
            packed = ops.gptq_marlin_repack(parts[0].view(torch.int32).t().contiguous(), self.k, self.n, 8, False)
            scales = _shuffled(scales, _ORDER_32) * torch.tensor(2.0**120, dtype=torch.bfloat16, device=DEVICE)
            self._type = _E4M3
        self._workspace = torch.zeros(132 * 4, dtype=torch.int32, device=DEVICE)
        return {"q": packed, "s": scales}

    def operand(self, activations: Activations) -> tuple[torch.Tensor, torch.Tensor | None]:
        operand, scale = activations.parts(self.activations)
        return operand, scale if self._factor is None or scale is None else scale * self._factor

    def run(self, copy: Copy, operand: tuple[torch.Tensor, Any], out: torch.Tensor) -> torch.Tensor:
        m = operand[0].shape[0]
        torch.ops._C.marlin_gemm(
            *(operand[0], out, copy["q"], None, copy["s"], operand[1], None, None, self._workspace, self._type),
            *(m, self.n, self.k, False, True, False),
        )
        return out


class Machete(VllmLibrary):
    name = "machete"
    pairs = (("int4g128", "bf16"),)

    @classmethod
    def refusal(cls, weights: str, activations: str, n: int, k: int) -> str:
        return f"N {n} is no multiple of 128" if n % 128 else ""

    def pack(self, weight: Weight) -> Copy:
        parts = weight.parts(self.weights)
        columns = parts[0].t().contiguous().t().contiguous().t()  # (K / 8, N), column-major
        packed = torch.ops._C.machete_prepack_B(columns, torch.bfloat16, _UINT4_BIAS_8, torch.bfloat16)
        return {"q": packed, "s": parts[1].t().contiguous()}

    def run(self, copy: Copy, operand: tuple[torch.Tensor, Any], out: torch.Tensor) -> torch.Tensor:
        mm = torch.ops._C.machete_mm
        return mm(operand[0], copy["q"], _UINT4_BIAS_8, None, copy["s"], None, 128, None, None, None)


class CutlassW4A8(VllmLibrary):
    """Rounds the group scales to E4M3."""

    name = "cutlass_w4a8"
    pairs = (("int4g128", "fp8tok"),)

    def pack(self, weight: Weight) -> Copy:
        ops = torch.ops._C
        parts = weight.parts(self.weights)
        signed = (parts[0] ^ -0x77777778).t().contiguous().t().contiguous().t()
        scales = parts[1].float()
        channel = scales.abs().amax(1, keepdim=True) / 448
        rounded = ((scales / channel).to(torch.float8_e4m3fn).float() / 8).to(torch.float8_e4m3fn)
        return {
            "q": ops.cutlass_encode_and_reorder_int4b(signed),
            "s": ops.cutlass_pack_scale_fp8(rounded.t().contiguous()),
            "c": (channel * 8).contiguous(),
        }

    def run(self, copy: Copy, operand: tuple[torch.Tensor, Any], out: torch.Tensor) -> torch.Tensor:
        mm = torch.ops._C.cutlass_w4a8_mm
        return mm(operand[0], copy["q"], copy["s"], 128, copy["c"], operand[1], None, None)


class CutlassFp8(VllmLibrary):
    name = "cutlass_fp8"
    pairs = (("fp8row", "fp8tok"), ("fp8block", "fp8g128"), ("fp8tensor", "fp8tensor"))

    def pack(self, weight: Weight) -> Copy:
        parts = weight.parts(self.weights)
        return {"q": parts[0], "s": parts[1].float()}

    def operand(self, activations: Activations) -> tuple[torch.Tensor, torch.Tensor | None]:
        operand, scale = activations.parts(self.activations)
        if self.activations == "fp8g128" and scale is not None:
            scale = scale.t().contiguous().t()
        return operand, scale

    def run(self, copy: Copy, operand: tuple[torch.Tensor, Any], out: torch.Tensor) -> torch.Tensor:
        scale = copy["s"].t() if self.weights == "fp8block" else copy["s"]
        torch.ops._C.cutlass_scaled_mm(out, operand[0], copy["q"].t(), operand[1], scale, None)
        return out


class DeepGemm(Implementation):
    name = "deepgemm"
    pairs = (("fp8block", "fp8g128"),)

    @classmethod
    def missing(cls) -> str:
        try:
            importlib.import_module("deep_gemm")
        except (ImportError, OSError, RuntimeError) as error:
            return f"package deep_gemm (vllm/third_party on PYTHONPATH): {error}"
        return ""

    def pack(self, weight: Weight) -> Copy:
        parts = weight.parts(self.weights)
        return {"q": parts[0], "s": parts[1]}

    def operand(self, activations: Activations) -> tuple[torch.Tensor, torch.Tensor | None]:
        import deep_gemm

        operand, scale = activations.parts(self.activations)
        return operand, deep_gemm.utils.layout.get_mn_major_tma_aligned_tensor(scale)

    def run(self, copy: Copy, operand: tuple[torch.Tensor, Any], out: torch.Tensor) -> torch.Tensor:
        import deep_gemm

        deep_gemm.fp8_gemm_nt((operand[0], operand[1]), (copy["q"], copy["s"]), out)
        return out


ALL: tuple[type[Implementation], ...] = (
    Sabrewing,
    Cublas,
    Humming,
    Marlin,
    Machete,
    CutlassW4A8,
    CutlassFp8,
    DeepGemm,
)
