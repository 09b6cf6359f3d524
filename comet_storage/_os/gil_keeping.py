"""System calls of the append path that keep the GIL.

The first store to a preallocated page through a map costs a fault with a journal transaction (4-30 us); a ``pwrite``
to it costs 1 us, and faults after it 0.3 us. But :func:`os.pwrite` releases the GIL, and a thread that lets the GIL go
gets it back only after up to 5 ms per busy thread. So small stores go through the map, to pages that were touched
with zeros before, and large ones by this call.
"""

from __future__ import annotations

import ctypes
import os

_ZEROS = bytes(128 * 1024)

TOUCH_BYTES = len(_ZEROS)
"""Bytes that are touched ahead at a time: about 50 us."""

_library = ctypes.PyDLL(None, use_errno=True)
_rename = _library.rename
_rename.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
_rename.restype = ctypes.c_int
_pwrite = _library.pwrite
_pwrite.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int64)
_pwrite.restype = ctypes.c_ssize_t
_lseek = _library.lseek
_lseek.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int)
_lseek.restype = ctypes.c_int64


def position_keeping_gil(fd: int) -> int:
    """File position of a descriptor.

    Raises:
        OSError: as :func:`os.lseek`.
    """
    position: int = _lseek(fd, 0, os.SEEK_CUR)
    if position < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return position


def write_keeping_gil(fd: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``.

    Raises:
        OSError: as :func:`os.pwrite`.
    """
    while data:
        written = _pwrite(fd, data, len(data), offset)
        if written < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        offset += written
        data = data[written:] if written < len(data) else b""


def rename_keeping_gil(source: str, target: str) -> None:
    """Give a file a new name, replacing what had it.

    Raises:
        OSError: as :func:`os.rename`.
    """
    if _rename(os.fsencode(source), os.fsencode(target)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source)


def prefault(fd: int, offset: int, length: int) -> None:
    """Store zeros to ``[offset, offset + length)``."""
    while length > 0:
        size = min(length, TOUCH_BYTES)
        write_keeping_gil(fd, _ZEROS if size == TOUCH_BYTES else bytes(size), offset)
        offset += size
        length -= size
