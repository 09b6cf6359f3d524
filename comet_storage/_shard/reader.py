"""Reading a shard from an entry number on, by any process, without locks and without harm from writers or eviction."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from comet_storage._format.frame import CODEC_RAW
from comet_storage._format.limits import FRAME_HEADER_BYTES, INDEX_INTERVAL_BYTES, SEGMENT_HEADER_BYTES
from comet_storage._format.segment_header import SegmentHeader
from comet_storage._os.descriptors import LostDescriptorError
from comet_storage._os.door import Door
from comet_storage._segment.file import Damage, Frame, Run, SegmentFile, SegmentWalker
from comet_storage._segment.unreadable import UnreadableBlocks
from comet_storage._shard.layout import NUMBER_MAX, ShardLayout, holding
from comet_storage._shard.page import ReaderPage
from comet_storage._shard.pinned import PinnedViews
from comet_storage.config import IndexingConfig
from comet_storage.index import BinarySearchableIndex, EntryPosition

_SETTLING_SECONDS = 0.001
_INDEXED_BYTES = 4 * INDEX_INTERVAL_BYTES
"""A number that is further from the next known point is looked for by bisection."""
KEPT_BYTES = 2 * 1024 * 1024
"""A frame up to this size is kept for the next read, which may begin in the middle of it."""

GapKind = Literal["evicted", "corrupt", "lost"]


class Gap(NamedTuple):
    """Entry numbers that cannot be read any more, and why."""

    first: int
    end: int
    kind: GapKind


class ShardReader:
    """One reader's view of a shard; keeps at most one segment open.

    Args:
        revive: called when the state page is missing, damaged, or from before the last boot: recovers the shard if no
            live writer has it. None in read-only clients, which then search the last segment themselves.
        indexing: how densely places are remembered.
        pins: where the memory comes from that views may stay in.
    """

    def __init__(
        self,
        door: Door,
        layout: ShardLayout,
        revive: Callable[[], None] | None,
        indexing: IndexingConfig = IndexingConfig(),  # noqa: B008 - immutable
        pins: PinnedViews | None = None,
    ) -> None:
        self._pins = pins
        self._door = door
        self._layout = layout
        self._revive = revive
        self._page = ReaderPage(door, layout.state_page)
        self._segments: list[int] = []
        self._segment: SegmentFile | None = None
        self._segment_first = -1
        self._indexing = indexing
        self._index = BinarySearchableIndex()
        self._note_at: tuple[int, int] = (0, 0)
        self._closed_end: int | None = None
        self._walker: SegmentWalker | None = None
        self.bulk = self._last_in_bulk = False
        """Whether who reads wants a lot, and takes views of what it was read with."""
        self._last: Frame | Run | None = None
        self._resume: tuple[int, int] = (-1, 0)
        self._settled_below = 0
        self._unreadable = UnreadableBlocks(door)
        self._losses: dict[int, SegmentHeader | None] = {}

    def close(self) -> None:
        """Close the open segment and unmap the page."""
        self._drop_segment()
        self._page.close()

    def first_held(self) -> int | None:
        """Number that the oldest segment starts with, or None in a shard without segments."""
        segments = self._layout.segments()
        return segments[0] if segments else None

    def gone(self, number: int) -> list[Gap]:
        """Why numbers from ``number`` on are missing that lie before everything held."""
        self._segments = self._layout.segments()
        if not self._segments:
            return [Gap(number, max(number, self.next_number()), "evicted")]
        return list(self._evicted(number))

    def held(self) -> int:
        """Entries still held; numbers lost in power cuts do not count, damaged ones do."""
        segments = self._layout.segments()
        if not segments:
            return 0
        first, last = self._header(segments[0]), self._header(segments[-1])
        lost = last.lost_total - first.lost_total if first is not None and last is not None else 0
        return max(0, self.next_number() - segments[0] - lost)

    def lost_ever(self) -> int:
        """Numbers that power cuts took since the shard began."""
        segments = self._layout.segments()
        header = self._header(segments[-1]) if segments else None
        return header.lost_total if header is not None else 0

    def next_number(self) -> int:
        """The number that the next entry will get; found by reading where the page does not tell."""
        self._believable_published()
        number = self._page.next_number()
        if number is not None:
            return number
        segments = self._layout.segments()
        number = segments[-1] if segments else 0
        for found in self.frames(number):
            number = found.end if isinstance(found, Gap) else found.end_entry
        return number

    def position_of(self, number: int) -> tuple[int, int]:
        """Log positions of the first frame that holds ``number`` or what follows, and of the end."""
        published = self._believable_published() or 0
        for found in self.frames(number):
            if isinstance(found, Frame) and self._segment is not None and self._segment.header is not None:
                return self._segment.header.base_position + found.offset - SEGMENT_HEADER_BYTES, published
        return published, published

    def frames(self, number: int) -> Iterator[Frame | Gap]:
        """Frames that hold ``number`` (the first may begin lower) and what follows, as far as published, and gaps."""
        return (found for found in self._found(number, 0) if not isinstance(found, Run))

    def runs(self, number: int, limit: int) -> Iterator[Frame | Run | Gap]:
        """As :meth:`frames`, but frames of one raw entry each come together, at most ``limit`` (0: none), as a run.

        Goes on where the last walk ended, without a look at the directory, as long as that leads on.
        """
        for found in self._continued(number, limit):
            yield found
            number = found.end_entry
        yield from self._found(number, limit)

    def _continued(self, number: int, limit: int) -> Iterator[Frame | Run]:
        """What follows the last walk in the open segment without a gap; ends where anything is in doubt."""
        segment, walker, last = self._segment, self._walker, self._last
        in_last = last is not None and last.first_entry <= number < last.end_entry == self._resume[0]
        # A run that was read in bulk has views in it, which another reader does not want.
        in_last = in_last and (isinstance(last, Frame) or (limit > 0 and self._last_in_bulk == self.bulk))
        if segment is None or segment.header is None or walker is None or not (in_last or self._resume[0] == number):
            return
        end = self._closed_end
        if end is None:
            published = self._believable_published()
            if published is None:
                return
            end = published - segment.header.base_position + SEGMENT_HEADER_BYTES
        try:
            status = self._door.descriptor_status(segment.fd)
        except LostDescriptorError:
            return
        if end > segment.header.capacity or not status.links:
            return
        if in_last and last is not None:
            yield last
        (number, offset), end = self._resume, min(end, status.size)
        walker.extend(end, bulk=self.bulk)
        while offset < end:
            found = (walker.run(offset, number, limit) if limit else None) or walker.at(offset, number)
            if isinstance(found, Damage) or found.first_entry != number:
                return
            offset, number = offset + found.size, found.end_entry
            self._note(found)
            yield found

    def _found(self, number: int, limit: int) -> Iterator[Frame | Run | Gap]:
        published = self._believable_published()
        self._segments = self._list_segments(published)
        if not self._segments:
            return
        if number < self._segments[0]:
            yield from self._evicted(number)
            number = self._segments[0]
        index = holding(self._segments, number)
        while index < len(self._segments):
            try:
                self._open_segment(self._segments[index])
            except FileNotFoundError:
                # Evicted since the names were listed.
                self._segments = self._list_segments(published)
                if not self._segments or self._segments[0] <= number:
                    return
                yield from self._evicted(number)
                number, index = self._segments[0], 0
                continue
            for found in self._segment_frames(index, number, published, limit):
                yield found
                number = found.end if isinstance(found, Gap) else found.end_entry
            index += 1
        end = self._page.number_at(published) if published is not None else None
        if end is not None and end > number:
            yield Gap(number, end, "corrupt")

    def view(self, frame: Frame) -> memoryview | None:
        """The body of the frame at hand in memory that lives as long as a view of it does.

        None where all such memory would be too much: then it has to be copied.
        """
        if self._pins is None or self._segment is None:
            return None
        if frame.header.codec != CODEC_RAW:
            return self._pins.keep(frame.body)
        start = frame.offset + FRAME_HEADER_BYTES
        end = start + frame.header.body_length
        mapped = self._pins.map_segment(self._segment, end)
        return memoryview(mapped)[start:end] if mapped is not None else None

    def _list_segments(self, published: int | None) -> list[int]:
        """The segments of what lies below ``published``, which were there before the directory was listed.

        One that is listed while names are made in it may show a newer one and not an older one.
        """
        bound = self._page.number_at(published) if published is not None else None
        if bound is None:
            bound = max(self._layout.segments(), default=-1)
        segments = self._layout.segments()
        del segments[bisect_right(segments, bound) :]
        return segments

    def _segment_frames(
        self, index: int, number: int, published: int | None, limit: int
    ) -> Iterator[Frame | Run | Gap]:
        """Frames and gaps of the open segment, including the gap before its successor."""
        segment = self._segment
        header = segment.header if segment is not None else None
        successor = self._segments[index + 1] if index + 1 < len(self._segments) else None
        if segment is not None and header is not None:
            end = min(self._end(header, successor, published), segment.size())
            offset, low = self._locate(segment, number, end)
            for found in self._walk(segment, offset, end, low, limit, last=successor is None):
                if isinstance(found, Damage):
                    # A header tells which number follows its frame, but not beyond what a later segment starts with.
                    following = min(found.next_number or 0, NUMBER_MAX if successor is None else successor)
                    if following > number:
                        yield from self._missing(number, following, index)
                        number = following
                    continue
                self._note(found)
                if found.end_entry <= number:
                    continue
                if found.first_entry > number:
                    yield from self._missing(number, found.first_entry, index)
                number = found.end_entry
                yield found
        if successor is not None and number < successor:
            yield from self._missing(number, successor, index)

    def _walk(
        self, segment: SegmentFile, offset: int, end: int, number: int, limit: int, *, last: bool
    ) -> Iterator[Frame | Run | Damage]:
        """The open segment from ``offset`` on, where the next frame's number is ``number`` or higher.

        On weakly ordered processors the position of a frame may be seen before its bytes. So at the end of a shard new
        damage is looked at again after a pause; one pause is enough for all that was published before it.
        """
        settled = not last
        walker = self._walker = segment.walker(end, bulk=self.bulk)
        while walker is not None and offset < end:
            found: Frame | Run | Damage | None = walker.run(offset, number, limit) if limit else None
            found = found or walker.at(offset, number)
            if isinstance(found, Damage):
                if offset >= self._settled_below:
                    if not settled:
                        settled = True
                        self._door.sleep(_SETTLING_SECONDS)
                        walker = self._walker = segment.walker(end, bulk=self.bulk)
                        continue
                    self._settled_below = offset + 1
                offset, number = found.end, found.next_number or number
            else:
                offset, number = offset + found.size, found.end_entry
            yield found

    def _end(self, header: SegmentHeader, successor: int | None, published: int | None) -> int:
        """Offset behind the last published byte of the open segment."""
        limit: int | None = published
        if successor is not None:
            following = self._header(successor)
            limit = following.base_position if following is not None else None
        if limit is None:
            return header.capacity
        end = min(max(limit - header.base_position, 0) + SEGMENT_HEADER_BYTES, header.capacity)
        if successor is not None:
            self._closed_end = end
        return end

    def _locate(self, segment: SegmentFile, number: int, end: int) -> tuple[int, int]:
        """Offset of a frame at or before ``number``, and that frame's lowest possible number."""
        if self._resume[0] == number and self._resume[1] <= end:
            return self._resume[1], number
        if not len(self._index) and segment.header is not None:
            points = segment.footer(end, segment.header.salt)
            self._index.replace([number for number, _ in points], [offset for _, offset in points])
        position, found = self._index.get_scan_start_position(number) or (EntryPosition(0), 0)
        if position.byte_offset > end:
            position, found = EntryPosition(0), 0
        offset, found = max(position.byte_offset, SEGMENT_HEADER_BYTES), max(found, self._segment_first)
        known = self._index.find_following(number)
        following = min(known.byte_offset, end) if known is not None else end
        if following - offset > _INDEXED_BYTES:
            nearer = segment.find(number, offset, following)
            if nearer is not None:
                offset, found = nearer
                self._index.insert(found, (offset, 0))
        self._note_at = (found, offset)
        return offset, found

    def _note(self, found: Frame | Run) -> None:
        """Remember where the next read goes on, and, sparsely, where frames are, for those that start elsewhere."""
        if found.first_entry >= self._note_at[0] or found.offset >= self._note_at[1]:
            self._index.insert(found.first_entry, (found.offset, 0))
            number = found.first_entry + self._indexing.boundary_interval
            self._note_at = (number, found.offset + INDEX_INTERVAL_BYTES)
        self._resume = (found.end_entry, found.offset + found.size)
        self._last, self._last_in_bulk = found if found.size <= KEPT_BYTES else None, self.bulk
        if self._walker is not None:
            self._walker.forget()

    def _evicted(self, number: int) -> Iterator[Gap]:
        """The gap before the oldest segment; what was lost just before it did not live to be evicted."""
        first = self._segments[0]
        header = self._header(first)
        lost_from = max(number, min(header.lost_from, first)) if header is not None else first
        if number < lost_from:
            yield Gap(number, lost_from, "evicted")
        if lost_from < first:
            yield Gap(lost_from, first, "lost")

    def _missing(self, first: int, end: int, index: int) -> Iterator[Gap]:
        """Gaps for numbers that no frame holds: lost where a later segment began after a power cut, else corrupt."""
        for header in map(self._loss, self._segments[index + 1 :]):
            if header is None or header.lost_from >= end:
                continue
            if first < header.lost_from:
                yield Gap(first, header.lost_from, "corrupt")
                first = header.lost_from
            if first < min(end, header.first_entry):
                yield Gap(first, min(end, header.first_entry), "lost")
                first = min(end, header.first_entry)
        if first < end:
            yield Gap(first, end, "corrupt")

    def _loss(self, first_entry: int) -> SegmentHeader | None:
        """The header of a segment if numbers were lost before it; asked of the file once."""
        if first_entry not in self._losses:
            header = self._header(first_entry)
            self._losses[first_entry] = header if header is not None and header.lost_from < first_entry else None
        return self._losses[first_entry]

    def _header(self, first_entry: int) -> SegmentHeader | None:
        if first_entry == self._segment_first and self._segment is not None:
            return self._segment.header
        try:
            segment = SegmentFile(self._door, self._layout.segment(first_entry), self._unreadable)
        except FileNotFoundError:
            return None
        segment.close()
        return segment.header

    def _open_segment(self, first_entry: int) -> None:
        # An empty segment with a torn frame is replaced by another one of the same name; the old file has no name then.
        if first_entry == self._segment_first and self._segment is not None and self._segment.is_linked():
            return
        segment = SegmentFile(self._door, self._layout.segment(first_entry), self._unreadable)
        self._drop_segment()
        self._segment, self._segment_first = segment, first_entry

    def _drop_segment(self) -> None:
        # All that belongs to it goes before it is closed and another one comes: an interruption must not mix them.
        segment, self._segment = self._segment, None
        self._segment_first, self._walker, self._last, self._closed_end = -1, None, None, None
        self._index = BinarySearchableIndex(max_nodes=self._indexing.max_index_entries)
        self._note_at, self._resume, self._settled_below = (0, 0), (-1, 0), 0
        if segment is not None:
            segment.close()

    def _believable_published(self) -> int | None:
        """The published position; None where there is no page that can be believed, or in a page from another boot."""
        self._page.refresh()
        published = self._page.published()
        if published is not None and self._page.of_this_boot():
            return published
        if self._revive is None or not self._layout.segments():
            return None
        self._revive()
        self._page.refresh()
        published = self._page.published()
        # Without a page and without the lock, only what is closed for good can be trusted to be published.
        return published if published is not None else 0
