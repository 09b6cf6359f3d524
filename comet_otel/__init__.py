"""OpenTelemetry exporters that write to a crash-safe log on the local disk instead of to the network.

    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from comet_otel import CometSpanExporter

    provider.add_span_processor(BatchSpanProcessor(CometSpanExporter(data_dir="/var/lib/comet")))

When ``export`` returns success, the batch is in the log and survives ``kill -9`` of every process on the node. A
separate process, ``comet-shipper``, forwards it to an OTLP collector whenever one can be reached. The processors
``CometSpanProcessor`` and ``CometLogRecordProcessor`` take the place of the SDK's and of an exporter at once: they
store each span when it ends and each log record when it is emitted, without a queue in memory that a crash could empty.

All of them are imported when they are first asked for: the shipper uses `comet_otel.streams` without loading the
OpenTelemetry SDK, and neither side ever loads gRPC from here.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it; `typing` takes longer to load than all of this

if TYPE_CHECKING:
    from comet_otel.log_exporter import CometLogRecordExporter
    from comet_otel.log_processor import CometLogRecordProcessor
    from comet_otel.metric_exporter import CometMetricExporter
    from comet_otel.span_exporter import CometSpanExporter
    from comet_otel.span_processor import CometSpanProcessor

del TYPE_CHECKING

__all__ = [
    "CometLogRecordExporter",
    "CometLogRecordProcessor",
    "CometMetricExporter",
    "CometSpanExporter",
    "CometSpanProcessor",
]

_HOME_OF = {
    "CometLogRecordExporter": "comet_otel.log_exporter",
    "CometLogRecordProcessor": "comet_otel.log_processor",
    "CometMetricExporter": "comet_otel.metric_exporter",
    "CometSpanExporter": "comet_otel.span_exporter",
    "CometSpanProcessor": "comet_otel.span_processor",
}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    import importlib  # noqa: PLC0415 - for the same reason

    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
