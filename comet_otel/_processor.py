"""What the two crash-proof processors have in common: one item is stored at once, by the thread that made it.

There is no queue and no thread of our own between the application and the log, so there is nothing that a crash could
take along. The price is that all of it happens on the application's own threads, any number of them, in its signal
handlers and finalizers, and inside one another; so beyond what an exporter has to observe:

- An item may be made while one is being stored, further up the same stack: by a signal handler, a finalizer, or a
  logging handler that gets one of our own lines. It is stored as well, up to a number at which it must be a loop.
- An exception that a signal handler of the application raises in here is the application's, and is passed on.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, set_value

from comet_otel._export import ExportPipeline, PipelineExporter
from comet_otel._interruptions import ApplicationInterruption, let_through, pass_on
from comet_otel.shared_client import LogUnavailableError

if TYPE_CHECKING:
    from comet_otel.encoding import EncodedBatch

NESTED_MAX: Final = 32
"""Items that are stored while one is: more than signal handlers make in that time, and few enough to cut off a loop."""

_ItemT = TypeVar("_ItemT")


class SynchronousPipeline(ExportPipeline[Sequence[_ItemT]], Generic[_ItemT]):
    """Stores on the application's own threads."""

    def export(self, batch: Sequence[_ItemT]) -> bool:
        """Store a batch; return whether that was done.

        In a copy of the context, which is gone with this call whatever ends it: an exception of a signal handler must
        not leave the application's instrumentation suppressed.

        Raises:
            ApplicationInterruption: a signal handler of the application raised an exception.
        """
        return copy_context().run(self._export_suppressed, batch)

    def _export_suppressed(self, batch: Sequence[_ItemT]) -> bool:
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, value=True))
        return self._attempt(batch)

    def _append(self, payload: bytes) -> None:
        try:
            super()._append(payload)
        except LogUnavailableError as error:
            pass_on(error)
            raise

    def _report_unencodable(self, encoded: EncodedBatch) -> None:
        for error in (encoded.first_error, encoded.first_attribute_error):
            if error is not None:
                pass_on(error)
        super()._report_unencodable(encoded)

    def _refuse(self, items: int, reason: Exception | str) -> None:
        if isinstance(reason, Exception):
            pass_on(reason)
        super()._refuse(items, reason)


class _Nesting(threading.local):
    """What one thread is storing: how deep in its stack, and how many items within the outermost one."""

    depth = 0
    items = 0


class CrashProofProcessor(PipelineExporter, Generic[_ItemT]):
    """What the SDK asks of both processors alike: an exporter's life, and one item at a time."""

    _pipeline_type = SynchronousPipeline

    def __init__(self) -> None:
        self._nesting = _Nesting()

    def _store(self, item: _ItemT) -> None:
        """Store a span or log record.

        Raises:
            BaseException: what a signal handler of the application raised meanwhile; nothing else, ever.
        """
        nesting = self._nesting
        depth = nesting.depth
        if not depth:
            nesting.items = 0
        elif nesting.items >= NESTED_MAX:
            self.counters.refused_items += 1
            return
        else:
            nesting.items += 1
        # Between this line and the `try` nothing is called, so no signal handler's exception leaves the depth raised.
        nesting.depth = depth + 1
        try:
            self._pipeline.export((item,))
        except ApplicationInterruption as interruption:
            self.counters.refused_items += 1
            raise interruption.error from None
        except Exception as error:  # noqa: BLE001 - passed on if it is the application's
            # Ours are caught where they arise; a logging handler of the application's may fail on the line about one.
            let_through(error)
        finally:
            nesting.depth = depth
