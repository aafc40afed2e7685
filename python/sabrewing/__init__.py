"""Quantized matrix products of Sabrewing: c[M, N] = a[M, K] @ dequantize(b)[N, K].T (+ bias[N]).

A thin layer over the C interface of ``libsabrewing.so``. It imports neither torch nor numpy: operands are torch
tensors, numpy arrays, or anything with ``__cuda_array_interface__`` or ``__dlpack__``.

    import sabrewing

    context = sabrewing.Context("cuda:0")
    plan = context.plan(sabrewing.MXFP4, n=5120, k=2880, max_m=1024)
    weight = plan.pack(blocks, scales)      # bytes as the checkpoint has them
    y = plan.run(x, weight)                 # on torch's current stream
"""

from ._abi import ABI_VERSION, library_path, log_to, version
from ._errors import (
    Corrupt,
    DeviceError,
    Error,
    InvalidArgument,
    IoError,
    NotFound,
    OutOfMemory,
    Unsupported,
)
from ._formats import (
    BF16,
    FP16,
    FP32,
    MXFP4,
    MXFP8,
    NVFP4,
    ActivationFormat,
    WeightFormat,
)
from ._gemm import Context, Feasibility, Plan, Weight

__version__ = version()

__all__ = [
    "ABI_VERSION",
    "BF16",
    "FP16",
    "FP32",
    "MXFP4",
    "MXFP8",
    "NVFP4",
    "ActivationFormat",
    "Context",
    "Corrupt",
    "DeviceError",
    "Error",
    "Feasibility",
    "InvalidArgument",
    "IoError",
    "NotFound",
    "OutOfMemory",
    "Plan",
    "Unsupported",
    "Weight",
    "WeightFormat",
    "library_path",
    "log_to",
    "version",
]
