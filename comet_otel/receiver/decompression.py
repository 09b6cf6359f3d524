"""Request bodies as they were before their content encoding, in steps, and no further than the limit."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, Final

import zstandard
from isal import isal_zlib

from comet_otel.receiver.errors import TooLargeError, UndecodableError, UnsupportedMediaTypeError

__all__ = ["ACCEPTED_ENCODINGS", "decompress", "normalized_encoding"]

_STEP_BYTES: Final = 256 * 1024
_ZSTD_SLICE_BYTES: Final = 256
"""A zstd block of 4 bytes can stand for 128 KiB, and a call decompresses all that it is given: by so much more than
the limit can come out at once, 8 MiB."""
_ZSTD_WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024
"""What RFC 8878 asks every decoder to take, and no more, since it is memory."""

_GZIP: Final = 16 + isal_zlib.MAX_WBITS
_ZLIB: Final = isal_zlib.MAX_WBITS

_INFLATE_ERROR: Final[Any] = isal_zlib.error  # the stubs say that it is an instance

ACCEPTED_ENCODINGS: Final = ("gzip", "zstd", "deflate", "identity")
_OTHER_NAMES: Final = {"": "identity", "x-gzip": "gzip", "none": "identity"}


def normalized_encoding(value: str) -> str:
    """Return which of `ACCEPTED_ENCODINGS` a header ``Content-Encoding`` means.

    Raises:
        UnsupportedMediaTypeError: none of them.
    """
    name = value.strip().lower()
    name = _OTHER_NAMES.get(name, name)
    if name not in ACCEPTED_ENCODINGS:
        raise UnsupportedMediaTypeError(
            f"the content encoding {value[:80]!r} is not taken: use one of {', '.join(ACCEPTED_ENCODINGS)}"
        )
    return name


def decompress(body: bytes, encoding: str, most: int, growing: Callable[[int], None]) -> bytes:
    """Return the body without its encoding.

    Args:
        body: what was received.
        encoding: one of `ACCEPTED_ENCODINGS`.
        most: bytes that it may have decompressed.
        growing: called with the number of bytes that there are so far, whenever there are more.

    Raises:
        TooLargeError: it has more; at most a few megabytes more have been decompressed.
        UndecodableError: it is not of this encoding, or not whole.
    """
    if encoding == "identity":
        return body
    pieces = io.BytesIO()  # and not a list: a malicious body can come out byte by byte
    total = 0
    try:
        for piece in _unzstd(body) if encoding == "zstd" else _inflated(body, _GZIP if encoding == "gzip" else _ZLIB):
            total += len(piece)
            if total > most:
                raise TooLargeError(f"the body has more than {most} bytes when it is decompressed")
            growing(total)
            pieces.write(piece)
    except (_INFLATE_ERROR, zstandard.ZstdError, EOFError) as error:
        raise UndecodableError(f"the body is not {encoding}, or not whole: {error}") from None
    return pieces.getvalue()


def _inflated(body: bytes, window_bits: int) -> Iterator[bytes]:
    """Yield what gzip members, one after the other, or a zlib stream hold."""
    rest = body
    while True:
        stream = isal_zlib.decompressobj(wbits=window_bits)
        while not stream.eof:
            piece = stream.decompress(rest, _STEP_BYTES)
            if not piece and not stream.eof:
                raise EOFError("it ends too early")
            rest = stream.unconsumed_tail
            if piece:
                yield piece
        rest = stream.unused_data
        if not rest:
            return
        if window_bits != _GZIP:
            raise EOFError("there is more behind its end")


def _unzstd(body: bytes) -> Iterator[bytes]:
    """Yield what zstd frames, one after the other, hold."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    stream = decompressor.decompressobj()
    for start in range(0, len(body), _ZSTD_SLICE_BYTES):
        rest = body[start : start + _ZSTD_SLICE_BYTES]
        while rest:
            if stream.eof:
                stream = decompressor.decompressobj()
            if piece := stream.decompress(rest):
                yield piece
            rest = stream.unused_data if stream.eof else b""
    if not stream.eof:
        raise EOFError("it ends too early")
