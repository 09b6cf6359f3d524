"""Requests on their way into the log: prepared, and several appended in one call. Runs in worker threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comet_otel._export import ENTRY_BYTES_MAX
from comet_otel._logging import TroubleLog
from comet_otel.receiver.errors import InternalError, NotStoredError, ReceiverError, TooLargeError
from comet_otel.receiver.preparing import Entries, LargeError, LargeWork, Preparer, Request
from comet_otel.streams import Signal, route_of_signal
from comet_storage import BatchTooLarge, Client, ClosedError, CometConfig, CometError, EntryTooLarge, LogMovedError

if TYPE_CHECKING:
    from comet_otel.receiver.duplicates import Duplicates

__all__ = ["Stored", "Storing", "entry_bytes_max"]

_SHARE_OF_LOG_MIN = 8
"""In a very small log, no entry takes more than one part in this many of it."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer to a request that is in the log.

    Attributes:
        rejected_items: spans, log records or data points that are not, because the log takes none of their size.
        message: why.
        entries: entries that the request became.
        duplicate: whether it was in the log before.
    """

    rejected_items: int = 0
    message: str = ""
    entries: int = 0
    duplicate: bool = False


_FULLY_STORED = Stored(entries=1)


def entry_bytes_max(config: CometConfig) -> int:
    """Bytes from which on a request is split; the log takes larger entries, but few collectors take larger requests."""
    storage = config.storage
    share_of_log = config.retention.max_total_size // _SHARE_OF_LOG_MIN
    return min(ENTRY_BYTES_MAX, storage.max_entry_bytes, storage.max_append_bytes, share_of_log)


class Storing:
    """Stores groups of requests, and tells of each what became of it.

    Attributes:
        broken: the error after which this client stores nothing any more and a new one is needed; None: it works.
    """

    def __init__(self, client: Client, preparer: Preparer, duplicates: Duplicates) -> None:
        self.broken: CometError | None = None
        self._client = client
        self._preparer = preparer
        self._duplicates = duplicates
        self._large_turn = threading.Lock()
        self._append_bytes_max = client.config.storage.max_append_bytes
        self._trouble = TroubleLog(_logger, f"storing what was received in {client.data_dir}")

    def store(self, signal: Signal, requests: Sequence[Request]) -> list[Stored | ReceiverError | None]:
        """Store requests of one signal, and return for each what its answer is. Returns when they are stored.

        Nothing is raised, whatever the requests are. None: it has turned out to be large, has been marked as such, and
        is to be given here once more, beside others that are.
        """
        with LargeWork(self._large_turn if any(request.is_large for request in requests) else None) as work:
            return self._store(signal, requests, work)

    def _store(
        self, signal: Signal, requests: Sequence[Request], work: LargeWork
    ) -> list[Stored | ReceiverError | None]:
        prepared = [self._prepare(request, work) for request in requests]
        good = [entries for entries in prepared if isinstance(entries, Entries) and entries.payloads]
        failure: ReceiverError | None = None
        if good:
            failure = self._append(signal, [payload for entries in good for payload in entries.payloads])
        return [self._answer(entries, failure) for entries in prepared]

    def _prepare(self, request: Request, work: LargeWork) -> Entries | ReceiverError | None:
        try:
            return self._preparer.prepare(request, work)
        except LargeError:
            request.is_large = True
            return None
        except ReceiverError as error:
            return error.detached()
        except Exception:
            _logger.exception("a request of %d bytes of %s failed", len(request.body), request.signal.value)
            return InternalError("the receiver failed on this request; its log says how")

    def _answer(
        self, entries: Entries | ReceiverError | None, failure: ReceiverError | None
    ) -> Stored | ReceiverError | None:
        if not isinstance(entries, Entries):
            return entries
        if entries.payloads and failure is not None:
            return failure
        if entries.key is not None and not entries.rejected_items:
            self._duplicates.remember(entries.key)
        if len(entries.payloads) == 1 and not entries.rejected_items:
            return _FULLY_STORED
        return Stored(entries.rejected_items, entries.message, len(entries.payloads), entries.duplicate)

    def _append(self, signal: Signal, payloads: list[bytes]) -> ReceiverError | None:
        """Append entries, in one call if the log takes that much at once.

        A failure between two calls leaves the first ones stored; since the whole request is then refused, its sender
        sends them again.
        """
        try:
            lanes = self._client.lanes(route_of_signal(signal).stream)
            for batch in _batches(payloads, self._append_bytes_max):
                lanes.append(batch)
        except (EntryTooLarge, BatchTooLarge) as error:
            return TooLargeError(str(error))
        except CometError as error:
            if isinstance(error, ClosedError | LogMovedError):
                self.broken = error
            self._trouble.failed(
                f"{len(payloads)} entries of {signal.value} are refused; {type(error).__name__}: {error}"
            )
            return NotStoredError(f"not stored: {type(error).__name__}")
        except Exception as error:
            self._trouble.failed(f"{type(error).__name__}: {error}")
            _logger.debug("storing failed", exc_info=True)
            return NotStoredError(f"not stored: {type(error).__name__}")
        self._trouble.recovered()
        return None


def _batches(payloads: list[bytes], most: int) -> list[list[bytes]]:
    if sum(map(len, payloads)) <= most:
        return [payloads]
    batches: list[list[bytes]] = []
    room = 0
    for payload in payloads:
        if len(payload) > room or not batches:
            batches.append([])
            room = most
        batches[-1].append(payload)
        room -= len(payload)
    return batches
