"""Finding the end of a shard: where the next frame goes and which number it gets. Only ever run under the shard's lock.

What is known to be published is verified from the last durable position on; if that walk ends exactly there, the
writer goes on in the same segment. In any other case the last segment is searched as a whole, its valid end is noted,
and the writer goes on in a new segment: no file is shortened that a reader may have open, and no number is used twice.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace

from comet_storage._format.limits import PAGE_BYTES, SEGMENT_HEADER_BYTES, aligned
from comet_storage._format.segment_header import SegmentHeader
from comet_storage._format.state_page import (
    HINT_NUMBER,
    HINT_POSITION,
    MAGIC_WORD,
    PAGE_MAGIC,
    PUBLISHED,
    Durable,
    Identity,
)
from comet_storage._segment.file import Frame, SegmentFile
from comet_storage._shard.context import ShardContext
from comet_storage._shard.group_file import read_group_record
from comet_storage._shard.layout import holding
from comet_storage._shard.page import WriterPage

_PLAUSIBLE = 1 << 62
"""No shard gets as far as this number or position, so a word beyond is damaged."""


@dataclass(frozen=True)
class Tail:
    """The end of a shard.

    Attributes:
        segment: header of the last usable segment, None in an empty shard.
        offset: where the valid frames of that segment end.
        valid_number: the number behind the last entry found.
        next_number: the number to go on with; what lies between was lost.
        position: a log position that no reader has seen the shard beyond.
        lost_from: missing numbers from here on count as lost, not as damaged.
        exact: nothing is in doubt; the segment can be continued if there is nothing behind ``offset``.
    """

    segment: SegmentHeader | None
    offset: int
    valid_number: int
    next_number: int
    position: int
    lost_from: int
    exact: bool


@dataclass(frozen=True)
class Evidence:
    """What the state page and the lock file say, as far as it proves itself."""

    published: int | None
    identity: Identity | None
    durable: Durable | None
    hint: int | None
    same_page: bool
    """The page is in place and was last claimed in this boot: nothing that was stored can have been lost."""
    same_boot: bool
    """The lock file says that the last holder ran in this boot."""
    ceiling: int


def gather_evidence(page: WriterPage, *, holder_boot: str, lock_ceiling: int) -> Evidence:
    """Read page and lock file."""
    identity, durable = page.identity(), page.durable()
    here = page.make_identity(0)
    sane = page.words[MAGIC_WORD] == PAGE_MAGIC
    known_boot = any(here.boot_id)
    same_page = (
        sane
        and known_boot
        and identity is not None
        and (identity.boot_id, identity.device, identity.inode) == (here.boot_id, here.device, here.inode)
    )
    published = page.words[PUBLISHED] if sane and page.words[PUBLISHED] < _PLAUSIBLE else None
    # The hint is stored behind the publication: one that is ahead proves that the position was damaged.
    hint = None
    if published is not None and published <= page.words[HINT_POSITION] < _PLAUSIBLE > page.words[HINT_NUMBER]:
        hint = page.words[HINT_NUMBER]
        published = published if published == page.words[HINT_POSITION] else None
    return Evidence(
        published,
        identity,
        durable,
        hint,
        same_page,
        known_boot and holder_boot == here.boot_id.hex(),
        max(lock_ceiling, durable.ceiling if durable else 0),
    )


def find_tail(context: ShardContext, evidence: Evidence) -> Tail:
    """Decide where the shard ends."""
    segments, groups = context.layout.contents()
    floor = _number_floor(context, segments, groups)
    while segments:
        path = context.layout.segment(segments[-1])
        try:
            segment = SegmentFile(context.door, path)
        except FileNotFoundError:
            segments.pop()
            continue
        try:
            # A segment without a header is left where it is; its name still tells a number that is used up.
            if segment.header is not None:
                unreadable = floor.unreadable if floor.unreadable > segments[-1] else 0
                tail = _tail_of(
                    segment, segment.header, evidence, max(floor.offsets, unreadable), doubt=bool(unreadable)
                )
                return tail if tail.exact else replace(tail, lost_from=_lost_from(context, segments, evidence, tail))
        finally:
            segment.close()
        floor = _Floor(floor.offsets, max(floor.unreadable, segments[-1] + 1))
        segments.pop()
    number = max(evidence.ceiling, floor.offsets, floor.unreadable, evidence.hint or 0)
    position = max(evidence.published or 0, evidence.durable.position if evidence.durable else 0)
    valid = evidence.durable.number if evidence.durable else 0
    return Tail(None, 0, min(valid, number), number, aligned(position), min(valid, number), exact=False)


@dataclass(frozen=True)
class _Floor:
    """Numbers that were certainly given out."""

    offsets: int
    unreadable: int


def _number_floor(context: ShardContext, segments: list[int], groups: list[str]) -> _Floor:
    """What group records and file names prove to be used up."""
    offsets = segments[-1] if segments else 0
    for group in groups:
        record = None
        try:
            record = read_group_record(context.door, context.layout.group(group))
        except OSError as error:
            # A bad sector there must not keep the shard from being written; a lack of descriptors is waited out.
            if error.errno != errno.EIO:
                raise
        if record is not None:
            offsets = max(offsets, record.offset, *(end for _, end, _ in record.ranges))
    return _Floor(offsets, 0)


def _tail_of(segment: SegmentFile, header: SegmentHeader, evidence: Evidence, floor: int, *, doubt: bool) -> Tail:
    published = _trusted_position(header, evidence)
    if published is not None and not doubt:
        found = _verify(segment, header, evidence.durable, published)
        if found is not None and found[1] >= floor:
            offset, number = found
            position = header.base_position + offset - SEGMENT_HEADER_BYTES
            return Tail(header, offset, number, number, position, number, exact=True)
    return _searched_tail(segment, header, evidence, floor, doubt=doubt)


def _trusted_position(header: SegmentHeader, evidence: Evidence) -> int | None:
    """The published position, if it is known and in this segment."""
    position = None
    if evidence.same_page:
        position = evidence.published
    elif evidence.durable is not None and evidence.durable.number == evidence.durable.ceiling:
        # Closed cleanly: everything was on the disk, whatever happened to the machine since.
        position = evidence.durable.position
    if position is None or not 0 <= position - header.base_position <= header.capacity - SEGMENT_HEADER_BYTES:
        return None
    return position


def _verify(
    segment: SegmentFile, header: SegmentHeader, durable: Durable | None, published: int
) -> tuple[int, int] | None:
    """Offset and number of the end if every frame from the last durable position on is whole, else None.

    Whole frames behind the published position are taken, too: a writer died before it could publish its last one. So a
    published position that damage made too low does not let numbers be used twice.
    """
    shift = SEGMENT_HEADER_BYTES - header.base_position
    offset, number = SEGMENT_HEADER_BYTES, header.first_entry
    if durable is not None and header.base_position <= durable.position <= published and durable.number >= number:
        offset, number = durable.position + shift, durable.number
    end = published + shift
    if end > segment.size():
        return None
    for found in segment.walk(offset, end, number):
        if not isinstance(found, Frame):
            return None
        offset = found.offset + found.header.size
        number = found.header.first_entry + found.header.count
    if offset != end:
        return None
    for found in segment.walk(offset, segment.size(), number):
        if not isinstance(found, Frame) or found.offset != offset or found.header.first_entry != number:
            break
        offset = found.offset + found.header.size
        number = found.header.first_entry + found.header.count
    return offset, number


def _searched_tail(segment: SegmentFile, header: SegmentHeader, evidence: Evidence, floor: int, *, doubt: bool) -> Tail:
    size = segment.size()
    offset, number = SEGMENT_HEADER_BYTES, header.first_entry
    for found in segment.walk(offset, size, number):
        if isinstance(found, Frame):
            offset = found.offset + found.header.size
            number = found.header.first_entry + found.header.count
    untouched = size >= header.capacity and not doubt and _zero_behind(segment, min(offset, size), size)
    next_number = max(number, floor)
    if evidence.same_page and evidence.hint is not None:
        next_number = max(next_number, evidence.hint)
    elif not (evidence.same_boot and untouched):
        next_number = max(next_number, evidence.ceiling, evidence.hint or 0)
    # Beyond anything that a reader can have seen of this segment.
    position = aligned(header.base_position + max(size, header.capacity) - SEGMENT_HEADER_BYTES)
    if evidence.published is not None and (evidence.same_page or evidence.published - position <= header.capacity):
        position = max(position, aligned(evidence.published))
    return Tail(header, offset, number, next_number, position, number, exact=False)


def _lost_from(context: ShardContext, segments: list[int], evidence: Evidence, tail: Tail) -> int:
    """The first number that a power cut took; the next number where there was none, or nothing is known of it."""
    if evidence.same_page or evidence.same_boot:
        return tail.next_number
    number = evidence.durable.number if evidence.durable is not None else tail.valid_number
    for first_entry in segments[holding(segments, number) :]:
        if first_entry > number:
            break
        try:
            segment = SegmentFile(context.door, context.layout.segment(first_entry))
        except FileNotFoundError:
            break
        try:
            for found in segment.walk(SEGMENT_HEADER_BYTES, segment.size(), first_entry):
                if isinstance(found, Frame) and found.header.first_entry <= number:
                    number = max(number, found.header.first_entry + found.header.count)
        finally:
            segment.close()
    return min(number, tail.next_number)


def _zero_behind(segment: SegmentFile, offset: int, size: int) -> bool:
    """Whether nothing was ever stored behind the last valid frame."""
    while offset < size:
        chunk = segment.read(min(PAGE_BYTES * 256, size - offset), offset)
        if not chunk or chunk.count(0) != len(chunk):
            return False
        offset += len(chunk)
    return True
