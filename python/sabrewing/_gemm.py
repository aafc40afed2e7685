"""Contexts, plans and packed weights."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import _abi, _memory
from ._errors import Unsupported
from ._formats import ActivationFormat, WeightFormat

_DTYPES = {"bf16": 1, "f16": 2, "f32": 3}
_OPERAND_DTYPES = {**_DTYPES, "f8e4m3": 4, "f8e5m2": 5, "i8": 6}
_BITS_OF = {"float8e4m3": "f8e4m3", "float8e5m2": "f8e5m2"}  # what bytes without a type stand for, by activations
_ACCURACIES = {"default": 0, "high": 1, "exact": 2}
_BUFFER_ALIGNMENT = 64


class Feasibility(NamedTuple):
    """Whether a plan can be made; ``reason`` is the rule that is broken."""

    ok: bool
    reason: str

    def __bool__(self) -> bool:
        return self.ok


def _choice(table: dict[str, int], value: str, what: str) -> int:
    if value not in table:
        raise ValueError(f"{what} is {value!r}: one of {', '.join(table)} expected")
    return table[value]


class _Handle:
    """Owns one handle of the library."""

    def __init__(self, handle: int, destroy: Any) -> None:
        self._handle = handle
        self._finalizer = weakref.finalize(self, destroy, handle)

    def close(self) -> None:
        """Gives the handle back now instead of with the object; later uses raise InvalidArgument."""
        self._finalizer()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Context(_Handle):
    """A device: "cpu", "cuda" or "cuda:N".

    ``threads`` (0: all) and ``cpu_tier`` are for the CPU; ``nvrtc_path`` and ``kernel_cache`` (a folder, "" for none)
    for CUDA. Raises DeviceError without a usable driver, with the paths that were tried.
    """

    def __init__(
        self,
        device: str = "cpu",
        *,
        threads: int = 0,
        cpu_tier: str | None = None,
        nvrtc_path: str | None = None,
        kernel_cache: str | None = None,
    ) -> None:
        def text(value: str | None) -> bytes | None:
            return None if value is None else value.encode()

        desc = _abi.ContextDesc(
            device=text(device),
            cpu_tier=text(cpu_tier),
            nvrtc_path=text(nvrtc_path),
            kernel_cache=text(kernel_cache),
            threads=threads,
        )
        handle = ctypes.c_void_p()
        _abi.check(_abi.lib.sabrewing_context_create(ctypes.byref(desc), ctypes.byref(handle)))
        assert handle.value is not None
        super().__init__(handle.value, _abi.lib.sabrewing_context_destroy)
        self.device = "cuda:0" if device == "cuda" else device

    def __repr__(self) -> str:
        return f"<sabrewing.Context {self.device}>"

    def describe(self) -> str:
        """One line for people: device, tier, threads."""
        text = ctypes.c_char_p()
        _abi.check(_abi.lib.sabrewing_context_describe(self._handle, ctypes.byref(text)))
        return (text.value or b"").decode()

    def preferred_activation(self, weight: WeightFormat, accuracy: str = "default") -> ActivationFormat:
        """What the fastest kernel of ``accuracy`` reads."""
        out = _abi.ActivationFormatDesc()
        _abi.check(
            _abi.lib.sabrewing_preferred_activation(
                self._handle,
                ctypes.byref(weight.to_abi()),
                _choice(_ACCURACIES, accuracy, "accuracy"),
                ctypes.byref(out),
            )
        )
        return ActivationFormat.from_abi(out)

    def _desc(
        self,
        weight: WeightFormat,
        n: int,
        k: int,
        max_m: int,
        min_m: int,
        output: str | None,
        activation: ActivationFormat | None,
        bias: bool,
        accuracy: str,
    ) -> tuple[_abi.GemmDesc, str]:
        if output is None:
            output = "f32" if self.device == "cpu" else "bf16"
        desc = _abi.GemmDesc(
            weight=ctypes.pointer(weight.to_abi()),
            n=n,
            k=k,
            min_m=min_m,
            max_m=max_m,
            output=_choice(_DTYPES, output, "output"),
            accuracy=_choice(_ACCURACIES, accuracy, "accuracy"),
            bias=int(bias),
        )
        if activation is not None:
            desc.activation = ctypes.pointer(activation.to_abi())
        return desc, output

    def can_implement(
        self,
        weight: WeightFormat,
        n: int,
        k: int,
        *,
        max_m: int = 8192,
        min_m: int = 1,
        output: str | None = None,
        activation: ActivationFormat | None = None,
        bias: bool = False,
        accuracy: str = "default",
    ) -> Feasibility:
        """Whether ``plan`` with the same arguments works. Raises InvalidArgument for values that mean nothing."""
        desc, _ = self._desc(weight, n, k, max_m, min_m, output, activation, bias, accuracy)
        try:
            _abi.check(_abi.lib.sabrewing_can_implement(self._handle, ctypes.byref(desc)))
        except Unsupported as error:
            return Feasibility(False, str(error))
        return Feasibility(True, "")

    def plan(
        self,
        weight: WeightFormat,
        n: int,
        k: int,
        *,
        max_m: int = 8192,
        min_m: int = 1,
        output: str | None = None,
        activation: ActivationFormat | None = None,
        bias: bool = False,
        accuracy: str = "default",
    ) -> Plan:
        """Kernels for c[M, N] = a[M, K] @ weight[N, K].T with min_m <= M <= max_m.

        ``output`` is "f32", "bf16" or "f16" (default: f32 on the CPU, bf16 on CUDA). ``activation`` is what the inner
        product reads; by default what the fastest kernel of ``accuracy`` ("default", "high", "exact") reads; on CUDA
        quantized ones are handed to ``run`` as such. On CUDA this compiles what the cache lacks. Raises Unsupported with
        the rule that is broken.
        """
        desc, output = self._desc(weight, n, k, max_m, min_m, output, activation, bias, accuracy)
        handle = ctypes.c_void_p()
        _abi.check(_abi.lib.sabrewing_plan_create(self._handle, ctypes.byref(desc), ctypes.byref(handle)))
        assert handle.value is not None
        if activation is None:
            activation = self.preferred_activation(weight, accuracy)
        return Plan(handle.value, self.device, weight, activation, n, k, output, bias)


class Weight(_Handle):
    """A matrix in the layout of a plan's kernels."""

    def __init__(self, handle: int, device: str, buffer: Any) -> None:
        super().__init__(handle, _abi.lib.sabrewing_weight_destroy)
        self.device = device
        self._buffer = buffer  # of the caller; lives as long as the weight

    def copy(self) -> Weight:
        """The same weight in other memory, which the library owns."""
        handle = ctypes.c_void_p()
        _abi.check(_abi.lib.sabrewing_weight_copy(self._handle, None, 0, ctypes.byref(handle)))
        assert handle.value is not None
        return Weight(handle.value, self.device, None)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed matrix."""
        data, size = ctypes.c_void_p(), ctypes.c_size_t()
        _abi.check(_abi.lib.sabrewing_weight_data(self._handle, ctypes.byref(data), ctypes.byref(size)))
        return size.value


class Plan(_Handle):
    """What ``Context.plan`` chose. Immutable; may be used from several threads."""

    def __init__(
        self,
        handle: int,
        device: str,
        weight: WeightFormat,
        activation: ActivationFormat,
        n: int,
        k: int,
        output: str,
        bias: bool,
    ) -> None:
        super().__init__(handle, _abi.lib.sabrewing_plan_destroy)
        self.device = device
        self.weight = weight
        self.activation = activation
        self.n = n
        self.k = k
        self.output = output
        self.bias = bias
        self._scratch = threading.local()

    def __repr__(self) -> str:
        return f"<sabrewing.Plan {self.device} {self.weight} n={self.n} k={self.k}>"

    def _text(self, function: Any) -> str:
        text = ctypes.c_char_p()
        _abi.check(function(self._handle, ctypes.byref(text)))
        return (text.value or b"").decode()

    @property
    def kernel_name(self) -> str:
        """Kernel and what matters of its numbers."""
        return self._text(_abi.lib.sabrewing_plan_kernel_name)

    def explain(self) -> str:
        """Tiles, predicted times and why other kernels were rejected."""
        return self._text(_abi.lib.sabrewing_plan_explain)

    @property
    def packed_bytes(self) -> int:
        """Bytes of a packed weight."""
        size = ctypes.c_size_t()
        _abi.check(_abi.lib.sabrewing_plan_packed_bytes(self._handle, ctypes.byref(size)))
        return size.value

    def workspace_bytes(self, m: int) -> int:
        """Scratch of a call with ``m`` rows; ``run`` keeps it by thread."""
        size = ctypes.c_size_t()
        _abi.check(_abi.lib.sabrewing_plan_workspace_bytes(self._handle, m, ctypes.byref(size)))
        return size.value

    def pack(
        self,
        values: Any = None,
        scales: Any = None,
        zeros: Any = None,
        *,
        second_scale: float = 0.0,
        parts: Sequence[tuple[Any, ...]] | None = None,
        buffer: Any = None,
    ) -> Weight:
        """Packs a weight from the checkpoint's bytes; complete on return.

        ``values`` has one row for each output feature, ``scales`` and ``zeros`` one for each block of them (any trailing
        shape whose rows are contiguous: for MXFP4 (N, K/2) bytes and (N, K/32) bytes). Instead ``parts`` is a list of
        (values, scales, zeros) that are stacked along N. ``second_scale`` is that of a format which has one.
        Tensors on a GPU are copied to the host. ``buffer`` is memory of the plan's device of at least
        ``packed_bytes``, aligned to 256 bytes, that the result keeps; without it the library allocates.
        """
        if (values is None) == (parts is None):
            raise ValueError("pass either values or parts")
        triples = [(values, scales, zeros)] if parts is None else [(*part, None, None)[:3] for part in parts]
        rows = (_abi.WeightRows * len(triples))()
        owners = []

        def memory_of(part: Any, what: str) -> tuple[int, int, int, int]:
            """Pointer, rows, bytes in all, bytes from row to row."""
            array = _memory.describe(_memory.on_host(part, what), what)
            owners.append(array)
            if len(array.shape) == 0:
                array.shape, array.strides = (1,), (1,)
            count, row_bytes, stride = array.rows(what)
            return array.pointer, count, max(count - 1, 0) * stride + row_bytes, stride if count > 1 else 0

        for row, (part_values, part_scales, part_zeros) in zip(rows, triples):
            row.struct_size = ctypes.sizeof(_abi.WeightRows)
            row.values, row.rows, row.values_bytes, row.row_stride = memory_of(part_values, "values")
            if part_scales is not None:
                row.scales, _, row.scales_bytes, row.scale_row_stride = memory_of(part_scales, "scales")
            if part_zeros is not None:
                row.zeros, _, row.zeros_bytes, row.zero_row_stride = memory_of(part_zeros, "zeros")
        source = _abi.WeightSource(parts=rows, part_count=len(triples), second_scale=second_scale)
        pointer, size = None, 0
        if buffer is not None:
            memory = _memory.describe(buffer, "buffer")
            if memory.device != self.device or memory.read_only:
                raise ValueError(
                    f"buffer is {'read-only' if memory.read_only else 'on ' + memory.device}, the plan on {self.device}"
                )
            count, row_bytes, stride = memory.rows("buffer")
            if count > 1 and stride != row_bytes:
                raise ValueError("buffer is not contiguous")
            pointer, size = memory.pointer, count * row_bytes
        handle = ctypes.c_void_p()
        _abi.check(
            _abi.lib.sabrewing_weight_pack(self._handle, ctypes.byref(source), pointer, size, ctypes.byref(handle))
        )
        assert handle.value is not None
        return Weight(handle.value, self.device, buffer)

    def _workspace(self, m: int) -> tuple[int | None, int]:
        needed = self.workspace_bytes(m)
        if needed == 0:
            return None, 0
        memory = getattr(self._scratch, "memory", None)
        if memory is None or ctypes.sizeof(memory) < needed + _BUFFER_ALIGNMENT:
            memory = self._scratch.memory = (ctypes.c_char * (needed + _BUFFER_ALIGNMENT))()
        address = ctypes.addressof(memory)
        return (address + _BUFFER_ALIGNMENT - 1) // _BUFFER_ALIGNMENT * _BUFFER_ALIGNMENT, needed

    def _matrix(self, source: Any, columns: int, what: str) -> tuple[_memory.Array, int, int]:
        array = _memory.describe(source, what)
        if array.device != self.device:
            raise ValueError(f"{what} is on {array.device}, the plan on {self.device}")
        if len(array.shape) != 2 or array.shape[1] != columns:
            raise ValueError(f"{what} has shape {array.shape}: (M, {columns}) expected")
        if array.strides[1] != 1 and columns > 1:
            raise ValueError(f"{what}: rows are not contiguous (strides {array.strides})")
        if array.dtype == "u8":
            array.dtype = _BITS_OF.get(self.activation.element, "u8")
        if array.dtype not in _OPERAND_DTYPES:
            raise ValueError(f"{what} is {array.dtype}: one of {', '.join(_OPERAND_DTYPES)} expected")
        rows = array.shape[0]
        if rows > 1 and array.strides[0] <= 0:
            raise ValueError(f"{what}: rows lie on each other or backwards (strides {array.strides})")
        return array, rows, array.strides[0] if rows > 1 else 0

    def _scales(self, source: Any, m: int) -> int:
        """The memory of the scales of ``m`` rows of quantized activations."""
        array = _memory.describe(source, "a_scales")
        if array.device != self.device:
            raise ValueError(f"a_scales is on {array.device}, the plan on {self.device}")
        if self.activation.scale is None:
            raise ValueError(f"a_scales: the plan's activations, {self.activation.element}, have no scales")
        types = ("f8e8m0", "u8") if self.activation.scale == "float8e8m0" else ("f32",)
        if array.dtype not in types:
            raise ValueError(f"a_scales is {array.dtype}: {' or '.join(types)} expected")
        shape: tuple[int, ...] = (m,)
        if self.activation.granularity == "group":
            shape = (-(-self.k // self.activation.group), m)
        if array.shape != shape or not array.is_contiguous():
            raise ValueError(f"a_scales has shape {array.shape}, strides {array.strides}: contiguous {shape} expected")
        return array.pointer

    def run(
        self,
        a: Any,
        weight: Weight,
        *,
        a_scales: Any = None,
        bias: Any = None,
        out: Any = None,
        stream: Any = None,
        overlap: bool = False,
    ) -> Any:
        """c = a @ weight.T (+ bias), enqueued on ``stream`` (default: torch's current one); returns c.

        ``a`` is (M, K); arrays of uint16 are BF16 bits, of uint8 the bits of the plan's FP8 activations. ``a_scales`` are
        those of quantized activations on CUDA, contiguous: f32 (M) for scales per token, and per tensor the one M
        times; f32 or E8M0 (K / group, M) for groups. ``bias`` is (N) of f32. ``out`` is (M, N) of the plan's output
        type; without it a new tensor or array of ``a``'s library. With ``overlap`` (CUDA) the kernel may start while
        the one before it in the stream finishes.
        """
        if not isinstance(weight, Weight):
            raise TypeError(f"weight is a {type(weight).__name__}: the result of pack expected")
        source, m, a_stride = self._matrix(a, self.k, "a")
        if out is None:
            out = _memory.new_output(source, m, self.n, self.output)
        target, rows, c_stride = self._matrix(out, self.n, "out")
        if rows != m:
            raise ValueError(f"out has {rows} rows, a has {m}")
        if target.dtype != self.output or target.read_only:
            raise ValueError(f"out is {'read-only' if target.read_only else target.dtype}: {self.output} expected")
        args = _abi.GemmArgs(
            a=source.pointer,
            a_stride=a_stride,
            a_dtype=_OPERAND_DTYPES[source.dtype],
            b=weight._handle,
            c=target.pointer,
            c_stride=c_stride,
            m=m,
            overlap=int(overlap),
        )
        if a_scales is not None:
            args.a_scales = self._scales(a_scales, m)
        if bias is not None:
            values = _memory.describe(bias, "bias")
            if values.device != self.device or values.dtype != "f32" or values.shape != (self.n,):
                raise ValueError(
                    f"bias is {values.dtype} {values.shape} on {values.device}: f32 ({self.n},) on {self.device} expected"
                )
            if values.strides[0] != 1 and self.n > 1:
                raise ValueError("bias is not contiguous")
            args.bias = values.pointer
        if m != 0:
            args.workspace, args.workspace_bytes = self._workspace(m)
        handle = None
        if stream is not None:
            handle = _memory.stream_handle(stream)
        elif self.device != "cpu":
            handle = _memory.current_stream(self.device)
        _abi.check(_abi.lib.sabrewing_gemm_enqueue(self._handle, ctypes.byref(args), handle))
        return out
