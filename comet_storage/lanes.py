"""Lanes: many processes append to one stream without waiting for each other, each to a shard of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from comet_storage._os import fork
from comet_storage._shard.batch import check_batch
from comet_storage.errors import (
    CometError,
    LogFullError,
    LogMovedError,
    ReentrantAppendError,
    ShardLostError,
    ShardOwnedError,
)
from comet_storage.names import ShardName, parse_stream
from comet_storage.types import MessageIDs, message_ids

if TYPE_CHECKING:
    from comet_storage._shard.writer import ShardWriter
    from comet_storage.client import Client


class LaneWriter:
    """Appends to the first shard of a stream that no other process owns.

    The last lane is never owned: it is shared by all processes beyond the number of lanes, and by those for whose
    own segment the disk has no room. A dead process's lane is simply claimed by the next. Made by
    :meth:`comet_storage.Client.lanes`; safe to use from several threads and after a fork.
    """

    def __init__(self, client: Client, stream: str, lanes: int) -> None:
        self._namespace, self._version = parse_stream(stream)
        self._client = client
        self._lanes = lanes
        self._writer: ShardWriter | None = None
        fork.listen(self)

    def append(self, entries: Sequence[object]) -> MessageIDs:
        """Store entries as one publication in this process's lane. See :meth:`comet_storage.Client.append`.

        Raises:
            CometError: one of its kinds; nothing was stored.
        """
        if not fork.page[0]:
            fork.adopt()
        writer = self._writer
        if writer is None:
            check_batch(entries)
            if not entries:
                return message_ids(0, 0, 0)
            writer = self._claim()
        try:
            return self._client.appender(writer).append(entries)
        except ReentrantAppendError:
            # A signal handler interrupted an append of its own thread: the shared lane is not in the middle of one.
            shared = self._shared()
            if shared is writer:
                raise
            return shared.append(entries)
        except CometError as error:
            self._client.note_problem(error)
            if isinstance(error, ShardLostError | LogMovedError):
                self._client.drop_writer(writer)
                self._writer = None
            raise

    def after_fork_in_child(self) -> None:
        """In a forked child: the lane is the parent's."""
        self._writer = None

    def _claim(self) -> ShardWriter:
        # Without a lock: threads that come at the same time meet where the client opens the lane, and their wait ends.
        writer = self._first_free()
        self._writer = writer
        return writer

    def _first_free(self) -> ShardWriter:
        for lane in range(self._lanes - 1):
            try:
                return self._client.open_writer(self._name(lane), shared=False, wait=0)
            except (ShardOwnedError, ReentrantAppendError):
                # Also by a signal handler that interrupted this thread's own claim.
                continue
            except LogFullError:
                break
        return self._shared()

    def _shared(self) -> ShardWriter:
        return self._client.open_writer(self._name(self._lanes - 1), shared=True)

    def _name(self, lane: int) -> ShardName:
        return ShardName(self._namespace, self._version, lane)
