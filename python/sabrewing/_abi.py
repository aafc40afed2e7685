"""The C interface (include/sabrewing/sabrewing.h) in ctypes."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import pathlib
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint8, c_uint32, c_void_p

from ._errors import Error, NotFound, error_of

ABI_VERSION = 1

_NAME = f"libsabrewing.so.{ABI_VERSION}"
LOG_CALLBACK = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)


class ElementType(ctypes.Structure):
    _fields_ = [("kind", c_uint8), ("bits", c_uint8), ("exponent", c_uint8), ("mantissa", c_uint8)]


class Descriptor(ctypes.Structure):
    """A structure that begins with its size, which is set on construction."""

    def __init__(self, **fields: object) -> None:
        super().__init__(struct_size=ctypes.sizeof(type(self)), **fields)


class WeightFormatDesc(Descriptor):
    _fields_ = [
        ("struct_size", c_size_t),
        ("element", ElementType),
        ("scale", ElementType),
        ("second_scale", ElementType),
        ("zero_point", c_int32),
        ("block_n", c_int64),
        ("block_k", c_int64),
    ]


class ActivationFormatDesc(Descriptor):
    _fields_ = [
        ("struct_size", c_size_t),
        ("element", ElementType),
        ("scale", ElementType),
        ("granularity", c_int32),
        ("reserved", c_int32),
        ("group", c_int64),
    ]


class ContextDesc(Descriptor):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_char_p),
        ("cpu_tier", c_char_p),
        ("nvrtc_path", c_char_p),
        ("kernel_cache", c_char_p),
        ("threads", c_int32),
        ("reserved", c_int32),
    ]


class GemmDesc(Descriptor):
    _fields_ = [
        ("struct_size", c_size_t),
        ("weight", POINTER(WeightFormatDesc)),
        ("activation", POINTER(ActivationFormatDesc)),
        ("n", c_int64),
        ("k", c_int64),
        ("min_m", c_int64),
        ("max_m", c_int64),
        ("output", c_int32),
        ("accuracy", c_int32),
        ("bias", c_int32),
        ("reserved", c_int32),
    ]


class WeightRows(Descriptor):
    _fields_ = [
        ("struct_size", c_size_t),
        ("values", c_void_p),
        ("values_bytes", c_size_t),
        ("row_stride", c_int64),
        ("scales", c_void_p),
        ("scales_bytes", c_size_t),
        ("scale_row_stride", c_int64),
        ("rows", c_int64),
        ("zeros", c_void_p),
        ("zeros_bytes", c_size_t),
        ("zero_row_stride", c_int64),
    ]


class WeightSource(Descriptor):
    _fields_ = [
        ("struct_size", c_size_t),
        ("parts", POINTER(WeightRows)),
        ("part_count", c_size_t),
        ("second_scale", c_float),
        ("reserved", c_int32),
    ]


class GemmArgs(Descriptor):
    _fields_ = [
        ("struct_size", c_size_t),
        ("a", c_void_p),
        ("a_stride", c_int64),
        ("b", c_void_p),
        ("bias", c_void_p),
        ("c", c_void_p),
        ("c_stride", c_int64),
        ("m", c_int64),
        ("workspace", c_void_p),
        ("workspace_bytes", c_size_t),
        ("a_dtype", c_int32),
        ("overlap", c_int32),
        ("a_scales", c_void_p),
    ]


_STATUS_FUNCTIONS = {
    "sabrewing_set_log_callback": [c_void_p, c_void_p],
    "sabrewing_parse_element_type": [c_char_p, POINTER(ElementType)],
    "sabrewing_context_create": [POINTER(ContextDesc), POINTER(c_void_p)],
    "sabrewing_context_destroy": [c_void_p],
    "sabrewing_context_describe": [c_void_p, POINTER(c_char_p)],
    "sabrewing_can_implement": [c_void_p, POINTER(GemmDesc)],
    "sabrewing_preferred_activation": [c_void_p, POINTER(WeightFormatDesc), c_int32, POINTER(ActivationFormatDesc)],
    "sabrewing_plan_create": [c_void_p, POINTER(GemmDesc), POINTER(c_void_p)],
    "sabrewing_plan_destroy": [c_void_p],
    "sabrewing_plan_kernel_name": [c_void_p, POINTER(c_char_p)],
    "sabrewing_plan_explain": [c_void_p, POINTER(c_char_p)],
    "sabrewing_plan_workspace_bytes": [c_void_p, c_int64, POINTER(c_size_t)],
    "sabrewing_plan_packed_bytes": [c_void_p, POINTER(c_size_t)],
    "sabrewing_weight_pack": [c_void_p, POINTER(WeightSource), c_void_p, c_size_t, POINTER(c_void_p)],
    "sabrewing_weight_copy": [c_void_p, c_void_p, c_size_t, POINTER(c_void_p)],
    "sabrewing_weight_destroy": [c_void_p],
    "sabrewing_weight_data": [c_void_p, POINTER(c_void_p), POINTER(c_size_t)],
    "sabrewing_gemm_enqueue": [c_void_p, POINTER(GemmArgs), c_void_p],
}


def _open() -> tuple[ctypes.CDLL, str]:
    """The library named by SABREWING_LIBRARY, else the one in this package, else the system's."""
    wanted = os.environ.get("SABREWING_LIBRARY")
    packaged = pathlib.Path(__file__).with_name(_NAME)
    candidates = [wanted] if wanted else [str(packaged), _NAME]
    failures = []
    for candidate in candidates:
        try:
            return ctypes.CDLL(candidate), candidate
        except OSError as error:
            failures.append(f"{candidate}: {error}")
    raise NotFound(f"[library] {_NAME} cannot be opened (SABREWING_LIBRARY names it): " + "; ".join(failures))


def _load() -> tuple[ctypes.CDLL, str]:
    library, path = _open()
    try:
        library.sabrewing_abi_version.restype = c_uint32
        library.sabrewing_abi_version.argtypes = []
        found = library.sabrewing_abi_version()
    except AttributeError as error:
        raise NotFound(f"[library] {path} is not a library of Sabrewing: {error}") from None
    if found != ABI_VERSION:
        raise NotFound(f"[library] {path} has ABI version {found}, this package needs {ABI_VERSION}")
    for name in ("sabrewing_version", "sabrewing_last_error"):
        function = getattr(library, name)
        function.restype = c_char_p
        function.argtypes = []
    for name, arguments in _STATUS_FUNCTIONS.items():
        function = getattr(library, name)
        function.restype = c_int32
        function.argtypes = arguments
    return library, path


lib, _path = _load()


def last_error() -> str:
    """The library's sentence on this thread's latest failure."""
    return (lib.sabrewing_last_error() or b"").decode(errors="replace")


def check(status: int) -> None:
    """Raises the exception of a status other than 0."""
    if status != 0:
        raise error_of(status, last_error())


def version() -> str:
    """The library's version, "0.1.0"."""
    return lib.sabrewing_version().decode()


def library_path() -> str:
    """The file that was opened."""
    return _path


_LEVELS = {0: logging.DEBUG, 1: logging.INFO, 2: logging.WARNING, 3: logging.ERROR}
_log_callback: object = None


def log_to(logger: logging.Logger | None) -> None:
    """Sends the library's warnings to ``logger``; None drops them, which is how it starts."""
    global _log_callback
    callback = None
    if logger is not None:

        def forward(level: int, message: bytes, _user: object) -> None:
            logger.log(_LEVELS.get(level, logging.ERROR), "%s", message.decode(errors="replace"))

        callback = LOG_CALLBACK(forward)
    check(lib.sabrewing_set_log_callback(ctypes.cast(callback, c_void_p) if callback else None, None))
    _log_callback = callback  # the library calls it until another one is set


def _stop_logging() -> None:
    try:
        log_to(None)
    except Error:
        pass  # nothing is left to tell it to


atexit.register(_stop_logging)
