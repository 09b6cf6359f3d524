"""A service that dies without a word. Its last spans arrive at the collector all the same.

    python examples/last_spans/dying_service.py ./telemetry segfault
    comet-shipper run --data-dir ./telemetry --endpoint http://localhost:4317

The second argument is how it dies: ``segfault``, ``os_exit``, ``oom`` or ``kill``. No exit handler runs in any of these
cases, so that the SDK's batching processor, which keeps spans in memory for up to five seconds, loses them all.
`CometSpanProcessor` has stored each span before its ``with`` block is left.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from comet_otel import CometLogRecordProcessor, CometSpanProcessor

MEMORY_MAX = 512 * 1024 * 1024


def segfault() -> None:
    """Read where there is no memory."""
    ctypes.string_at(0)


def os_exit() -> None:
    """Leave at once."""
    os._exit(1)


def out_of_memory() -> None:
    """Fill the memory up to a limit, and end as the kernel ends whoever it has no memory for: by SIGKILL."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    hoard: list[bytearray] = []
    try:
        while True:
            hoard.append(bytearray(1024 * 1024))
    except MemoryError:
        with trace.get_tracer("dying").start_as_current_span("out of memory", attributes={"mebibytes": len(hoard)}):
            pass
        os.kill(os.getpid(), signal.SIGKILL)


def kill() -> None:
    """Be killed by somebody."""
    os.kill(os.getpid(), signal.SIGKILL)


DEATHS = {"segfault": segfault, "os_exit": os_exit, "oom": out_of_memory, "kill": kill}


def main() -> None:
    """Work, and die."""
    data_dir, death = sys.argv[1:]
    service = Resource.create({"service.name": f"dying of {death}"})
    tracer_provider = TracerProvider(resource=service)
    tracer_provider.add_span_processor(CometSpanProcessor(data_dir=data_dir))
    trace.set_tracer_provider(tracer_provider)
    logger_provider = LoggerProvider(resource=service)
    logger_provider.add_log_record_processor(CometLogRecordProcessor(data_dir=data_dir))

    with trace.get_tracer("dying").start_as_current_span("request"):
        with trace.get_tracer("dying").start_as_current_span("last step", attributes={"death": death}):
            logger_provider.get_logger("dying").emit(body=f"about to die of {death}")
        DEATHS[death]()


if __name__ == "__main__":
    main()
