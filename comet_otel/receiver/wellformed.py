"""Whether bytes are an OTLP request in protobuf's wire format, found out at the speed of C and in bounded memory.

The parser of `protobuf` checks what matters: that every length fits, and that every text is UTF-8. With the generated
messages it would build an object for each two bytes of a malicious body, fifty times its size. So it is given messages
of the same fields in which everything that is repeated stands once: on the wire that is the same, and the parser uses
one object over and over.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from comet_otel.receiver.errors import UndecodableError
from comet_otel.streams import Signal

__all__ = ["check"]

_REQUESTS: Final[dict[Signal, Any]] = {
    Signal.TRACES: trace_service_pb2.ExportTraceServiceRequest,
    Signal.METRICS: metrics_service_pb2.ExportMetricsServiceRequest,
    Signal.LOGS: logs_service_pb2.ExportLogsServiceRequest,
}


def check(signal: Signal, body: bytes) -> None:
    """Return if the body is a request of the signal; fields that are not known are no reason to refuse it.

    Raises:
        UndecodableError: it is none.
    """
    try:
        _CHECKS[signal].FromString(body)
    except DecodeError:
        name = _REQUESTS[signal].DESCRIPTOR.name
        raise UndecodableError(
            f"the body is not a protobuf {name}: it is truncated, has a wrong length, or a text that is not UTF-8"
        ) from None


def _add_with_nothing_repeated(file: FileDescriptor, pool: descriptor_pool.DescriptorPool, done: set[str]) -> None:
    if file.name in done:
        return
    done.add(file.name)
    for dependency in file.dependencies:
        _add_with_nothing_repeated(dependency, pool, done)
    copy = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(copy)
    messages = [*copy.message_type]
    while messages:
        message = messages.pop()
        messages += message.nested_type
        for field in message.field:
            if field.type == field.TYPE_MESSAGE:
                field.label = field.LABEL_OPTIONAL
    pool.Add(copy)


def _checks() -> dict[Signal, type[Message]]:
    pool: Any = descriptor_pool.DescriptorPool()
    done: set[str] = set()
    found = {}
    for signal, request in _REQUESTS.items():
        _add_with_nothing_repeated(request.DESCRIPTOR.file, pool, done)
        found[signal] = message_factory.GetMessageClass(pool.FindMessageTypeByName(request.DESCRIPTOR.full_name))
    return found


_CHECKS: Final = _checks()
