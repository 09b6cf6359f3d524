"""Making a shard durable, from the flusher's thread or a caller of ``sync``; and closing it."""

from __future__ import annotations

import contextlib
import threading

from comet_storage._format.state_page import CEILING, Durable
from comet_storage._shard.layout import holding
from comet_storage._shard.replacement import replace_segment
from comet_storage._shard.writer import ShardWriter
from comet_storage.errors import CometError, ReentrantAppendError


def flush_writer(writer: ShardWriter) -> None:
    """Return when everything published before the call is on the disk, and the page says so.

    1. Closed segments get their index and are trimmed.
    2. Every segment since the last durable position is synced, then the directory. A crash: all is verified again.
    3. The durable slot is written and synced, with a ceiling that is far enough ahead. A crash: the same.
    4. The ceiling becomes usable.

    Raises:
        CometError: the writer is lost, or the disk refused; what was durable before still is.
    """
    door, layout = writer.context.door, writer.context.layout
    started = door.monotonic()
    writer.finish_closed()
    writer.look_at_page()
    active, position, number = writer.end()
    with writer.recording():
        durable = writer.page.durable() or writer.ceiling.durable
        ceiling = writer.ceiling.ahead(writer.page, number)
    writer.pace(position)
    # A segment that was begun to jump over lost numbers may be empty: then the number alone tells that it is new.
    is_known = (durable.position, durable.number) == (position, number)
    if is_known and durable.ceiling >= ceiling:
        writer.flushed_at = started
        return
    if not is_known:
        segments = [active]
        if durable.number < active:
            names = layout.segments()
            segments = names[holding(names, durable.number) :] if names else []
        for first_entry in segments:
            try:
                _sync_segment(writer, first_entry)
            except FileNotFoundError:
                # Evicted meanwhile: then there is nothing to keep.
                writer.sync_state.stored_again(first_entry)
        door.sync_directory(layout.directory)
    with writer.recording():
        known = writer.page.durable() or durable
        newest = max((known.position, known.number), (position, number))
        writer.ceiling.record(writer.page, Durable(*newest, max(ceiling, known.ceiling)))
    _sync_path(writer, layout.state_page)
    with writer.recording():
        # Another process may have lowered it meanwhile, on closing.
        known = writer.page.durable() or durable
        writer.page.words[CEILING] = max(writer.page.words[CEILING], min(ceiling, known.ceiling))
    writer.flushed_at = started
    writer.counters.checkpoints += 1
    writer.counters.last_checkpoint_ns = door.wall_clock_ns()


def close_writer(writer: ShardWriter, failure: CometError) -> None:
    """Make everything durable and let go of the shard; later appends raise ``failure``.

    Does not raise; what fails is left to the next claim.
    """
    with contextlib.suppress(CometError, OSError):
        flush_writer(writer)
        with writer.exclusive():
            writer.close_segment()
    try:
        with writer.turn():
            writer.release(failure)
    except ReentrantAppendError:
        # By a signal handler that interrupted an append to it: when that has ended.
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=close_writer, args=(writer, failure), name="comet-closer").start()
    except CometError:
        return


def _sync_segment(writer: ShardWriter, first_entry: int) -> None:
    """Sync one segment; where that fails, store it again.

    Raises:
        OSError: that failed as well; it is tried again by the next round.
    """
    state = writer.sync_state
    if first_entry not in state.unsynced:
        try:
            _sync_path(writer, writer.context.layout.segment(first_entry))
        except FileNotFoundError:
            raise
        except OSError as error:
            state.note(error, first_entry)
        else:
            return
    try:
        with writer.exclusive() as active:
            replaced = active.first_entry == first_entry
            if replaced:
                writer.replace_active()
        if not replaced:
            path = writer.context.layout.segment(first_entry)
            replace_segment(writer.context, first_entry, writer.context.door.status(path).size)
            state.stored_again(first_entry)
    except OSError as error:
        state.note(error, first_entry)
        if writer.context.settings.refuse_unsynced:
            writer.refuse(error)
        raise


def _sync_path(writer: ShardWriter, path: str) -> None:
    """Sync by name: the append path may close its own descriptors of a segment meanwhile."""
    door = writer.context.door
    fd = door.open_kept(path)
    try:
        door.sync_data(fd)
    finally:
        door.close(fd)
