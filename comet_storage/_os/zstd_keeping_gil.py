"""zstd that keeps the GIL, for what is compressed in less time than getting the GIL back can take.

``zstandard`` releases the GIL in every call, and a thread that lets the GIL go gets it back only after up to 5 ms per
busy thread, where compressing 100 kB takes 0.3 ms. The same library is called here through :class:`ctypes.PyDLL`.
Its wheels carry it in a module whose symbols can be found; where that is not so, there is no compressor of this kind.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util

_LEVEL_PARAMETER = 100
"""``ZSTD_c_compressionLevel``, part of the library's stable interface since 1.4."""


def _load() -> ctypes.PyDLL | None:
    spec = importlib.util.find_spec("zstandard._cffi")
    if spec is None or spec.origin is None:
        return None
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.PyDLL(spec.origin)
        library.ZSTD_createCCtx.restype = ctypes.c_void_p
        library.ZSTD_freeCCtx.argtypes = (ctypes.c_void_p,)
        library.ZSTD_CCtx_setParameter.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
        library.ZSTD_CCtx_setParameter.restype = ctypes.c_size_t
        library.ZSTD_compress2.argtypes = (
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_char_p,
            ctypes.c_size_t,
        )
        library.ZSTD_compress2.restype = ctypes.c_size_t
        library.ZSTD_isError.argtypes = (ctypes.c_size_t,)
        library.ZSTD_isError.restype = ctypes.c_uint
        return library
    return None


_library = _load()


class GilKeepingCompressor:
    """One compression context. Any thread may use it: under the GIL there is one call at a time.

    Raises (on construction):
        OSError: the library cannot be called this way here.
    """

    def __init__(self, level: int) -> None:
        self._context = None
        if _library is None:
            raise OSError("zstd cannot be called without releasing the GIL")
        self._library = _library
        self._context = _library.ZSTD_createCCtx()
        if not self._context or _library.ZSTD_isError(
            _library.ZSTD_CCtx_setParameter(self._context, _LEVEL_PARAMETER, level)
        ):
            raise OSError(f"zstd refused a context of level {level}")

    def compress(self, data: bytes, most: int) -> bytes | None:
        """One zstd frame of ``data`` that states its size, or None if it would have more than ``most`` bytes."""
        target = bytearray(most)
        start = ctypes.byref(ctypes.c_char.from_buffer(target))
        size = self._library.ZSTD_compress2(self._context, start, most, data, len(data))
        return None if self._library.ZSTD_isError(size) else bytes(memoryview(target)[:size])

    def __del__(self) -> None:
        if self._context:
            self._library.ZSTD_freeCCtx(self._context)
