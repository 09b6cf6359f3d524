"""Whether the body of a frame is stored compressed, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import zstandard

from comet_storage._os.zstd_keeping_gil import GilKeepingCompressor

GIL_KEEPING_CONTENT_BYTES = 256 * 1024
GIL_KEEPING_LEVEL_MAX = 3
"""Up to this size and level a call is over in a millisecond, and keeps the GIL; beyond, the other threads go first."""

CONTENT_BYTES_MIN = 32
"""Below this a zstd frame's own header eats up what can be saved."""

SAVED_PART = 16
"""One part in so many must be saved: less is not worth what every reader pays for it."""

FRUITLESS_IN_A_ROW = 16
"""After so many bodies in a row that did not shrink, only one in so many is tried, until one does."""


class Compression:
    """The compressor of one client, with counters that others may read at any time.

    Counters change by ``+=`` without a call in between, so no thread's addition is lost. They count what was packed;
    an append that then fails is counted all the same.

    Args:
        min_size: bodies below this size are never tried; None: none is.
        level: zstd's.
        clock: seconds of a clock that only goes forward.

    Attributes:
        min_size: the least size in effect.
        compressed_frames: bodies that are stored compressed.
        compressed_entries: entries in them.
        incompressible_frames: bodies that were large enough, and are stored as they are.
        incompressible_entries: entries in those.
        content_bytes: bytes of the compressed bodies before.
        stored_bytes: and after.
        spent_ns: nanoseconds of all threads that compressed, also in vain.
    """

    def __init__(self, *, min_size: int | None, level: int, clock: Callable[[], float]) -> None:
        self.min_size = None if min_size is None else max(min_size, CONTENT_BYTES_MIN)
        self.compressed_frames = 0
        self.compressed_entries = 0
        self.incompressible_frames = 0
        self.incompressible_entries = 0
        self.content_bytes = 0
        self.stored_bytes = 0
        self.spent_ns = 0
        self._clock = clock
        self._level = level
        self._compressor: GilKeepingCompressor | None = None
        self._keeps_gil = level <= GIL_KEEPING_LEVEL_MAX
        self._fruitless = 0

    @property
    def saved_bytes(self) -> int:
        """Bytes that are not stored because of compression."""
        return self.content_bytes - self.stored_bytes

    def compress(self, pieces: Sequence[bytes], size: int, count: int) -> list[bytes] | None:
        """The body of ``count`` entries as pieces of one zstd frame, or None if it is to be stored as it is."""
        fruitless = self._fruitless
        if fruitless < FRUITLESS_IN_A_ROW or fruitless % FRUITLESS_IN_A_ROW == 0:
            start = self._clock()
            found = self._compressed(pieces, size, size - size // SAVED_PART)
            spent_ns = int((self._clock() - start) * 1e9)
            self.spent_ns += spent_ns
        else:
            found = None
        if found is None:
            self._fruitless = fruitless + 1
            self.incompressible_frames += 1
            self.incompressible_entries += count
            return None
        stored = sum(map(len, found))
        self._fruitless = 0
        self.compressed_frames += 1
        self.compressed_entries += count
        self.content_bytes += size
        self.stored_bytes += stored
        return found

    def _compressed(self, pieces: Sequence[bytes], size: int, most: int) -> list[bytes] | None:
        if size <= GIL_KEEPING_CONTENT_BYTES and (compressor := self._gil_keeping()) is not None:
            whole = compressor.compress(pieces[0] if len(pieces) == 1 else b"".join(pieces), most)
            return None if whole is None else [whole]
        # A compressor per call: it is not made for several threads, and costs little beside the work.
        stream = zstandard.ZstdCompressor(level=self._level).compressobj(size=size)
        found = [part for piece in pieces if (part := stream.compress(piece))]
        found.append(stream.flush())
        return found if sum(map(len, found)) <= most else None

    def _gil_keeping(self) -> GilKeepingCompressor | None:
        if self._compressor is None and self._keeps_gil:
            try:
                self._compressor = GilKeepingCompressor(self._level)
            except OSError:
                self._keeps_gil = False
        return self._compressor
