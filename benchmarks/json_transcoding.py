"""OTLP/JSON to protobuf's wire format: the receiver's transcoder against ``json.loads`` and protobuf's ``ParseDict``.

Requests of 512 items as OpenTelemetry's JavaScript SDK writes them. ``ParseDict`` takes their hexadecimal ids for
base64 and gets wrong ones, which does not change what it costs; serializing its message is not counted.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.measure import console, interleaved, table
from comet_otel.receiver.json_transcoder import transcode
from comet_otel.streams import Signal

ITEMS = 512
ROUNDS = 15
RATIO_MIN = 4.0
START = 1_700_000_000_000_000_000
REQUESTS: dict[Signal, type[Message]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
}

Json = dict[str, object]


def attributes(**values: object) -> list[Json]:
    """Attributes as the JavaScript SDK has them."""
    kinds = {str: "stringValue", int: "intValue", bool: "boolValue", float: "doubleValue"}
    return [{"key": key.replace("_", "."), "value": {kinds[type(value)]: value}} for key, value in values.items()]


def span(choose: random.Random) -> Json:
    """One span with 8 attributes and an event with 2."""
    return {
        "traceId": choose.randbytes(16).hex(),
        "spanId": choose.randbytes(8).hex(),
        "parentSpanId": choose.randbytes(8).hex(),
        "name": "GET /cart/{id}",
        "kind": 2,
        "startTimeUnixNano": str(START + choose.getrandbits(40)),
        "endTimeUnixNano": str(START + choose.getrandbits(41)),
        "attributes": attributes(
            http_request_method="GET",
            url_path=f"/cart/{choose.randrange(1000)}",
            server_address="shop.example",
            http_response_status_code=200,
            network_peer_port=choose.randrange(65536),
            cache_hit=True,
            duration=choose.random(),
            user_id=f"{choose.getrandbits(64):x}",
        ),
        "droppedAttributesCount": 0,
        "events": [
            {
                "timeUnixNano": str(START + choose.getrandbits(40)),
                "name": "queried",
                "attributes": attributes(table="carts", rows=choose.randrange(100)),
                "droppedAttributesCount": 0,
            }
        ],
        "droppedEventsCount": 0,
        "links": [],
        "droppedLinksCount": 0,
        "status": {"code": 0},
        "flags": 257,
    }


def record(choose: random.Random) -> Json:
    """One log record with 4 attributes."""
    return {
        "timeUnixNano": str(START + choose.getrandbits(40)),
        "observedTimeUnixNano": str(START + choose.getrandbits(40)),
        "severityNumber": 9,
        "severityText": "INFO",
        "body": {"stringValue": f"order {choose.getrandbits(32)} completed after {choose.random():.3f} s"},
        "attributes": attributes(
            code_function="complete",
            code_lineno=choose.randrange(1000),
            user_id=f"{choose.getrandbits(64):x}",
            retried=False,
        ),
        "droppedAttributesCount": 0,
        "flags": 1,
        "traceId": choose.randbytes(16).hex(),
        "spanId": choose.randbytes(8).hex(),
    }


def metric(choose: random.Random) -> Json:
    """One metric with one data point: a sum or a histogram."""
    point: Json = {
        "attributes": attributes(route=f"/cart/{choose.randrange(50)}", method="GET"),
        "startTimeUnixNano": str(START),
        "timeUnixNano": str(START + choose.getrandbits(40)),
    }
    if choose.random() < 0.5:
        point["asInt"] = choose.getrandbits(20)
        return {
            "name": "requests",
            "unit": "1",
            "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]},
        }
    point |= {
        "count": 100,
        "sum": choose.random() * 100,
        "bucketCounts": [choose.randrange(20) for _ in range(16)],
        "explicitBounds": [0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000],
        "min": 0.1,
        "max": 99.5,
    }
    return {"name": "duration", "unit": "ms", "histogram": {"aggregationTemporality": 2, "dataPoints": [point]}}


def body(signal: Signal) -> bytes:
    """One request."""
    choose = random.Random(7)
    resource = {"attributes": attributes(service_name="shop", telemetry_sdk_language="webjs")}
    scope = {"name": "@opentelemetry/instrumentation-http", "version": "1.0.0"}
    root, middle, leaf, make = {
        Signal.TRACES: ("resourceSpans", "scopeSpans", "spans", span),
        Signal.METRICS: ("resourceMetrics", "scopeMetrics", "metrics", metric),
        Signal.LOGS: ("resourceLogs", "scopeLogs", "logRecords", record),
    }[signal]
    items = [make(choose) for _ in range(ITEMS)]
    tree = {root: [{"resource": resource, middle: [{"scope": scope, leaf: items}]}]}
    return json.dumps(tree, separators=(",", ":")).encode()


def main() -> None:
    """Measure and print."""
    rows, kept = [], True
    for signal, message in REQUESTS.items():
        request = body(signal)
        found = interleaved(
            ROUNDS,
            {
                "transcode": _timed(lambda signal=signal, request=request: transcode(signal, request)),
                "stock": _timed(lambda message=message, request=request: _stock(message, request)),
                "loads": _timed(lambda request=request: json.loads(request)),
            },
        )
        ratio = found["stock"] / found["transcode"]
        kept = kept and ratio >= RATIO_MIN
        rows.append(
            [
                signal.value,
                f"{len(request) / ITEMS:,.0f}",
                *(f"{found[name]:.1f}" for name in ("transcode", "stock", "loads")),
                f"{ratio:.1f}",
            ]
        )
    table(
        f"OTLP/JSON, requests of {ITEMS}: microseconds per item, median of {ROUNDS} interleaved rounds",
        ["signal", "bytes per item", "transcode", "loads + ParseDict", "loads alone", "ratio"],
        rows,
    )
    console.print(f"at least {RATIO_MIN:g} times faster than loads + ParseDict: {'kept' if kept else 'missed'}")


def _stock(message: type[Message], request: bytes) -> Message:
    return json_format.ParseDict(json.loads(request), message(), ignore_unknown_fields=True)


def _timed(run: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) / ITEMS * 1e6

    return timed


if __name__ == "__main__":
    main()
