"""Memory of arrays and tensors of any library, without importing one."""

from __future__ import annotations

import ctypes
import dataclasses
import sys
from typing import Any

_TORCH_TYPES = {
    "torch.bfloat16": "bf16",
    "torch.float16": "f16",
    "torch.float32": "f32",
    "torch.float8_e4m3fn": "f8e4m3",
    "torch.float8_e5m2": "f8e5m2",
    "torch.float8_e8m0fnu": "f8e8m0",
    "torch.int8": "i8",
    "torch.uint8": "u8",
}
# Kind and bytes of array interfaces; BF16 has no name there, so that its bits come as uint16 or as a void type.
_INTERFACE_TYPES = {"f4": "f32", "f2": "f16", "u2": "bf16", "V2": "bf16", "i1": "i8", "u1": "u8"}
_DLPACK_TYPES = {
    (2, 32): "f32",
    (2, 16): "f16",
    (4, 16): "bf16",
    (0, 8): "i8",
    (1, 8): "u8",
    (10, 8): "f8e4m3",
    (12, 8): "f8e5m2",
    (14, 8): "f8e8m0",
}
_DLPACK_CPU = {1, 3}  # host memory, pinned or not
_DLPACK_CUDA = {2, 13}


@dataclasses.dataclass
class Array:
    """Strided memory. ``dtype`` is "f32", "f16", "bf16", "f8e4m3", "f8e5m2", "f8e8m0", "i8", "u8" (of arrays also the bits
    of 8-bit floats), or what the library calls another type."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # elements
    item_bytes: int
    dtype: str
    device: str  # "cpu", "cuda:0"
    read_only: bool
    owner: Any

    def is_contiguous(self) -> bool:
        expected = _contiguous(self.shape)
        return 0 in self.shape or all(n <= 1 or a == b for n, a, b in zip(self.shape, self.strides, expected))

    def rows(self, what: str) -> tuple[int, int, int]:
        """Rows, bytes of a row and bytes from row to row; what follows the first axis is contiguous."""
        if len(self.shape) == 0:
            raise ValueError(f"{what} has no axes")
        if self.shape[0] > 1 and self.strides[0] <= 0:
            raise ValueError(f"{what}: rows lie on each other or backwards (strides {self.strides})")
        if len(self.shape) == 1:
            return self.shape[0], self.item_bytes, self.strides[0] * self.item_bytes
        expected = 1
        for extent, stride in zip(reversed(self.shape[1:]), reversed(self.strides[1:])):
            if extent != 1 and stride != expected:
                raise ValueError(f"{what}: rows are not contiguous (shape {self.shape}, strides {self.strides})")
            expected *= extent
        return self.shape[0], expected * self.item_bytes, self.strides[0] * self.item_bytes


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def _from_torch(tensor: Any) -> Array:
    device = str(tensor.device)
    if device.startswith("cuda") and ":" not in device:
        device = f"cuda:{tensor.device.index or 0}"
    return Array(
        tensor.data_ptr(),
        tuple(tensor.shape),
        tuple(tensor.stride()),
        tensor.element_size(),
        _TORCH_TYPES.get(str(tensor.dtype), str(tensor.dtype)),
        device,
        False,
        tensor,
    )


def _from_interface(source: Any, interface: dict[str, Any], device: str) -> Array:
    typestr = interface["typestr"]
    item_bytes = int(typestr[2:])
    if typestr[0] == ">" and item_bytes > 1:
        raise ValueError(f"big-endian elements ({typestr}) are not supported")
    shape = tuple(interface["shape"])
    strides = interface.get("strides")
    if strides is None:
        strides = _contiguous(shape)
    else:
        if any(stride % item_bytes for stride in strides):
            raise ValueError(f"strides of {strides} bytes are no whole elements of {item_bytes}")
        strides = tuple(stride // item_bytes for stride in strides)
    pointer, read_only = interface["data"]
    return Array(
        pointer, shape, strides, item_bytes, _INTERFACE_TYPES.get(typestr[1:], typestr), device, read_only, source
    )


class _DlDevice(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class _DlTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _DlDevice),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


def _from_dlpack(source: Any) -> Array:
    capsule = source.__dlpack__()
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    # The capsule is not consumed: the producer frees it with the capsule, which the result keeps.
    tensor = _DlTensor.from_address(get_pointer(capsule, b"dltensor"))
    if tensor.lanes != 1 or tensor.bits % 8 != 0:
        raise ValueError(f"DLPack elements of {tensor.bits} bits and {tensor.lanes} lanes are not supported")
    if tensor.device.type in _DLPACK_CPU:
        device = "cpu"
    elif tensor.device.type in _DLPACK_CUDA:
        device = f"cuda:{tensor.device.id}"
    else:
        raise ValueError(f"DLPack device type {tensor.device.type} is neither CPU nor CUDA")
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else _contiguous(shape)
    dtype = _DLPACK_TYPES.get((tensor.code, tensor.bits), f"DLPack type {tensor.code} of {tensor.bits} bits")
    pointer = (tensor.data or 0) + tensor.byte_offset
    return Array(pointer, shape, strides, tensor.bits // 8, dtype, device, False, (source, capsule))


def describe(source: Any, what: str) -> Array:
    """The memory of ``source``. Raises TypeError for an object that shows none."""
    if hasattr(source, "data_ptr") and hasattr(source, "stride"):
        return _from_torch(source)
    interface = getattr(source, "__cuda_array_interface__", None)
    if interface is not None:
        device = getattr(source, "device", None)
        index = getattr(device, "id", getattr(device, "index", 0))
        return _from_interface(source, interface, f"cuda:{index or 0}")
    interface = getattr(source, "__array_interface__", None)
    if interface is not None:
        return _from_interface(source, interface, "cpu")
    if hasattr(source, "__dlpack__"):
        return _from_dlpack(source)
    raise TypeError(
        f"{what} is a {type(source).__name__}: a torch tensor, a numpy array, or an object with "
        "__cuda_array_interface__ or __dlpack__ expected"
    )


def on_host(source: Any, what: str) -> Any:
    """``source``, copied to the host when it is a torch tensor on a GPU."""
    if hasattr(source, "data_ptr") and hasattr(source, "cpu") and str(source.device) != "cpu":
        return source.cpu()
    array = describe(source, what)
    if array.device != "cpu":
        raise ValueError(f"{what} is on {array.device}; checkpoint bytes are packed from host memory")
    return source


def current_stream(device: str) -> int:
    """torch's current stream of a CUDA device when torch is in use, else the default stream."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return 0
    return int(torch.cuda.current_stream(device).cuda_stream)


def stream_handle(stream: Any) -> int:
    """The CUstream of an int, a torch stream, a cupy stream, or an object with ``__cuda_stream__``."""
    if isinstance(stream, int):
        return stream
    for name in ("cuda_stream", "ptr"):
        handle = getattr(stream, name, None)
        if handle is not None:
            return int(handle)
    if hasattr(stream, "__cuda_stream__"):
        protocol = stream.__cuda_stream__
        return int((protocol() if callable(protocol) else protocol)[1])
    raise TypeError(f"stream is a {type(stream).__name__}: an int or a stream of torch or cupy expected")


def new_output(like: Array, rows: int, columns: int, dtype: str) -> Any:
    """A matrix of the library that ``like`` came from: torch, or numpy (BF16 as uint16 bits)."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like.owner, torch.Tensor):
        kind = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype]
        return torch.empty(rows, columns, dtype=kind, device=like.owner.device)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(like.owner, numpy.ndarray):
        return numpy.empty((rows, columns), {"f32": numpy.float32, "f16": numpy.float16, "bf16": numpy.uint16}[dtype])
    raise TypeError("a is neither a torch tensor nor a numpy array: pass out")
