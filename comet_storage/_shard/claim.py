"""Taking a shard: its lock, its state page, its end. The steps are numbered with what a crash after them leaves."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from comet_storage._format.limits import PAGE_BYTES, SEGMENT_HEADER_BYTES, aligned
from comet_storage._format.segment_header import SegmentHeader
from comet_storage._format.state_page import (
    ACTIVE_SEGMENT,
    ALLOCATED,
    CEILING,
    GENERATION,
    MAGIC_WORD,
    PAGE_MAGIC,
    Durable,
    decode_ceiling,
    encode_durable,
)
from comet_storage._os.door import sync_names
from comet_storage._os.locks import HOLDER_BYTES, LockFile
from comet_storage._segment.active import END_MARK, ActiveSegment
from comet_storage._segment.opening import begin_segment, prepare_segment, reopen_segment
from comet_storage._shard.ceiling import Ceiling
from comet_storage._shard.context import ShardContext
from comet_storage._shard.guard import Guard, take_guard
from comet_storage._shard.page import WriterPage
from comet_storage._shard.recovery import Evidence, Tail, find_tail, gather_evidence
from comet_storage.errors import LogBusyError, ShardOwnedError

OWNER_WAIT = 0.5
"""Seconds to wait for a lock that an owner would keep, but that others (shared mode, a recovery) free soon."""

_CEILING_OFFSET = HOLDER_BYTES
_CEILING_BYTES = 512

_LEVELS = 4
"""Directories of a shard: its own, its version's, its namespace's, and the log's."""


@dataclass
class Claim:
    """A shard that this process may write."""

    lock: LockFile
    page: WriterPage
    generation: int
    ceiling: Ceiling
    active: ActiveSegment
    guard: Guard | None = None


def segment_capacity(segment_size: int, frame_size: int) -> int:
    """Largest file size of a segment whose first frame has ``frame_size`` bytes."""
    least = SEGMENT_HEADER_BYTES + frame_size + len(END_MARK)
    return -(-max(segment_size, least) // PAGE_BYTES) * PAGE_BYTES


def open_lock(context: ShardContext) -> LockFile:
    """Make the shard's directory if need be, and open its lock file.

    1. The directories are made. A crash leaves an empty shard.
    2. The lock file is made. The same.
    """
    layout = context.layout
    if not layout.exists():
        # Three directories and the lock file.
        context.reserve(4 * PAGE_BYTES, lambda: context.door.make_directories(layout.directory))
    lock = LockFile(context.door, layout.owner_lock)
    context.held.append(lock)
    return lock


def claim_shard(context: ShardContext, wait: float) -> Claim:
    """Own a shard until the claim's lock is closed, trying for ``wait`` seconds.

    Raises:
        ShardOwnedError: another live writer has it.
    """
    lock = open_lock(context)
    try:
        try:
            lock.acquire(wait)
        except LogBusyError:
            raise ShardOwnedError(f"shard {context.name} is owned by {lock.holder()}; nothing was stored") from None
        guard = take_guard(context, wait)
        claim = recover_shard(context, lock)
        claim.guard = guard
        return claim
    except BaseException:
        context.let_go()
        raise


def recover_shard(context: ShardContext, lock: LockFile) -> Claim:
    """Find the end of a shard under its lock and make the page say so.

    1. What an interrupted rotation left is removed.
    2. If the end is in doubt, the page gets the new generation and the new segment's name, so that no other process
       of a shared shard goes on in what it has open. A crash leaves that, and the next process finds the end anew.
    3. The new segment is begun (:func:`begin_segment`). A crash leaves it empty and last.
    4. The abandoned segment gets its end mark and loses its unused blocks. A crash leaves blocks taken.
    5. The lock file names this process and boot. A crash leaves a holder without a claim.
    6. A page of another boot loses its magic: its words are not of this boot, and nobody may take them for that. A
       crash leaves a page that says nothing.
    7. The page gets the new identity. A crash leaves the same, or in the same boot a page that the next claim verifies.
    8. What this writer will rely on is synced. The same.
    9. The page gets the hot words.
    """
    door, layout = context.door, context.layout
    for leftover in (layout.prepared, layout.prepared_ahead, layout.replacement):
        with contextlib.suppress(FileNotFoundError):
            door.unlink(leftover)
    details = lock.holder_details()
    lock_ceiling = decode_ceiling(door.read(lock.fd, _CEILING_BYTES, _CEILING_OFFSET))
    page = WriterPage(door, layout.state_page, mapped=context.settings.mapped, reserve=context.reserve)
    active = None
    try:
        evidence = gather_evidence(page, holder_boot=str(details.get("boot", "")), lock_ceiling=lock_ceiling)
        tail = find_tail(context, evidence)
        door.failpoint("claim.before_segment")
        allocated = page.words[ALLOCATED] if evidence.same_page else 0
        generation = _next_generation(page, evidence, details)
        active = _continued(context, tail, allocated)
        if active is None:
            page.words[ALLOCATED] = 0
            page.words[ACTIVE_SEGMENT] = tail.next_number
            page.words[GENERATION] = generation
            active = _begun(context, tail)
        door.failpoint("claim.before_page")
        lock.write_holder(boot=door.boot_id().hex(), generation=generation)
        if not evidence.same_page:
            page.words[MAGIC_WORD] = 0
        page.write_identity(page.make_identity(generation))
        offset, number = active.cursor
        durable = _believable_durable(evidence, tail, offset + active.delta)
        _sync_what_counts(context, page, evidence, active, durable)
        page.publish(
            offset + active.delta,
            number,
            generation=generation,
            active=active.first_entry,
            allocated=active.allocated,
            ceiling=max(durable.ceiling, number),
        )
        ceiling = Ceiling(durable, keep=lambda recorded: _write_lock_ceiling(context, lock, recorded))
        return Claim(lock, page, generation, ceiling, active)
    except BaseException:
        if active is not None:
            active.close()
        page.close()
        raise


def _sync_what_counts(
    context: ShardContext, page: WriterPage, evidence: Evidence, active: ActiveSegment, durable: Durable
) -> None:
    """Have on the disk what is relied on from here on: whoever made it may have died before it was synced."""
    door, layout = context.door, context.layout
    if durable != evidence.durable:
        page.write_durable(durable)
        page.sync()
    elif not evidence.same_page or page.words[CEILING] < durable.ceiling:
        # Only in this boot, and behind a sync of the slot, the word was raised to it.
        page.sync()
    if context.settings.sync_each_append:
        door.sync_data(active.fd)
        door.sync_directory(layout.directory)
    if not durable.position:
        # Nothing was ever flushed, so nobody may have synced the names that lead here.
        sync_names(door, layout.directory, levels=_LEVELS)


def _write_lock_ceiling(context: ShardContext, lock: LockFile, durable: Durable) -> None:
    """Keep a second copy of the ceiling where a lost state page does not take it along."""
    context.door.write(lock.fd, encode_durable(0, durable).ljust(_CEILING_BYTES, b"\0"), _CEILING_OFFSET)


def _continued(context: ShardContext, tail: Tail, allocated: int) -> ActiveSegment | None:
    """The last segment, to go on in, if nothing about its end is in doubt and nothing was stored behind it."""
    if not tail.exact or tail.segment is None:
        return None
    path = context.layout.segment(tail.segment.first_entry)
    cursor = (tail.offset, tail.next_number)
    segment = reopen_segment(
        context.door, path, tail.segment, cursor, mapped=context.settings.mapped, allocated=allocated
    )
    behind = context.door.read(segment.fd, len(END_MARK), tail.offset)
    if any(behind):
        segment.close()
        return None
    return segment


def _begun(context: ShardContext, tail: Tail) -> ActiveSegment:
    """A new segment behind everything that any reader can have seen or any writer can have numbered."""
    old = tail.segment
    prepared = prepare_segment(
        context.door,
        context.layout.prepared,
        segment_capacity(context.settings.segment_size, 0),
        mapped=context.settings.mapped,
        reserve=context.reserve,
    )
    header = SegmentHeader(
        log_id=context.settings.log_id,
        salt=prepared.salt,
        first_entry=tail.next_number,
        base_position=tail.position,
        # As at a rotation: an empty segment is replaced, and what it told of a loss goes on.
        lost_from=min(tail.lost_from, old.lost_from) if old and old.first_entry == tail.next_number else tail.lost_from,
        lost_total=(old.lost_total if old else 0) + tail.next_number - tail.valid_number,
        capacity=prepared.capacity,
        created_ns=context.door.wall_clock_ns(),
        shard_name=str(context.name),
        created_log_ns=context.log_time(),
    )
    new = begin_segment(prepared, context.layout.segment(tail.next_number), header)
    if old is not None and old.first_entry != header.first_entry:
        _retire(context, context.layout.segment(old.first_entry), tail.offset)
    return new


def _retire(context: ShardContext, path: str, end: int) -> None:
    """Mark the end of an abandoned segment and trim the preallocated bytes to which nothing was ever stored."""
    door = context.door
    fd = door.open(path, write=True)
    try:
        used = end
        offset, size = end, door.descriptor_status(fd).size
        while offset < size:
            chunk = door.read(fd, 1 << 20, offset)
            if not chunk:
                break
            stored = len(chunk.rstrip(b"\0"))
            used = offset + stored if stored else used
            offset += len(chunk)
        if used <= end:
            door.write(fd, END_MARK, end)
            used = end + len(END_MARK)
        if aligned(used) < size:
            door.truncate(fd, aligned(used))
    finally:
        door.close(fd)


def _next_generation(page: WriterPage, evidence: Evidence, details: dict[str, object]) -> int:
    recorded = details.get("generation")
    known = [recorded if isinstance(recorded, int) and 0 <= recorded < 1 << 62 else 0]
    if evidence.identity is not None:
        known.append(evidence.identity.generation)
    if evidence.same_page and page.words[MAGIC_WORD] == PAGE_MAGIC and page.words[GENERATION] < 1 << 62:
        known.append(page.words[GENERATION])
    return max(known) + 1


def _believable_durable(evidence: Evidence, tail: Tail, position: int) -> Durable:
    """The durable position to go on from; nothing is known to be durable where the page was lost."""
    found = evidence.durable
    ceiling = max(evidence.ceiling, 0)
    if found is None or found.position > position or found.number > tail.next_number:
        return Durable(0, 0, max(ceiling, tail.next_number))
    return found._replace(ceiling=max(ceiling, found.ceiling))
