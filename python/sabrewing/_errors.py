"""Statuses of the C interface as exceptions; the message is the library's sentence."""

from __future__ import annotations


class Error(RuntimeError):
    """A call failed. ``status`` is the status's name: "invalid_argument", "unsupported", ..."""

    status = "internal"


class InvalidArgument(Error, ValueError):
    status = "invalid_argument"


class Unsupported(Error, NotImplementedError):
    status = "unsupported"


class NotFound(Error, FileNotFoundError):
    status = "not_found"


class IoError(Error, OSError):
    status = "io"


class Corrupt(Error, ValueError):
    status = "corrupt"


class OutOfMemory(Error, MemoryError):
    status = "out_of_memory"


class DeviceError(Error):
    status = "device"


_BY_NUMBER = {1: InvalidArgument, 2: Unsupported, 3: NotFound, 4: IoError, 5: Corrupt, 6: OutOfMemory, 7: DeviceError}


def error_of(status: int, message: str) -> Error:
    """The exception of a status other than 0."""
    return _BY_NUMBER.get(status, Error)(message)
