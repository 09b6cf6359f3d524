"""What delivery tests share: a clock that a test moves, senders that answer what they are told, logs with entries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from comet_otel.streams import Route, Signal, route_of_signal
from comet_storage import Client
from shipper.delivery.clock import Clock, SystemClock
from shipper.delivery.dead_letters import DeadLetters
from shipper.delivery.pace import Pace
from shipper.delivery.pipeline import Pipeline
from shipper.endpoint import parse_endpoint
from shipper.outcome import Delivered, Outcome, Partial
from shipper.settings import DestinationConfig, PacingConfig, RetryConfig, SignalConfig

ROUTE = route_of_signal(Signal.TRACES)
SHARD = "traces:v1:shard:0000"
GROUP = "shipper"


class ManualClock:
    """Time that passes when somebody waits, and then at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.epoch = 1_700_000_000.0

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self.now

    def wall(self) -> float:
        """Return seconds since 1970."""
        return self.epoch + self.now

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Let the time pass, unless the event is set."""
        if not event.is_set():
            self.now += seconds


class InlineCrew:
    """Does each job at once, in the pipeline's own thread."""

    def submit(self, job: Callable[[], None]) -> None:
        """Do it."""
        job()

    def close(self) -> None:
        """Do nothing."""


class ScriptedSender:
    """Answers as it is told, and remembers what it got."""

    def __init__(self, answer: Callable[[bytes], Outcome] | None = None) -> None:
        self.answer = answer or (lambda _: Delivered())
        self.bodies: list[bytes] = []
        self.ids: list[str] = []
        self.delivered: list[bytes] = []
        self._lock = threading.Lock()

    def send(self, route: Route, body: bytes, request_id: str) -> Outcome:
        """Answer one request."""
        outcome = self.answer(body)
        with self._lock:
            self.bodies.append(body)
            self.ids.append(request_id)
            if isinstance(outcome, Delivered | Partial):
                self.delivered.append(body)
        return outcome

    def close(self) -> None:
        """Do nothing."""


def span_request(*names: str, padding: int = 0, service: str = "shop") -> bytes:
    """Return a request with spans of these names."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    attribute = resource.resource.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", service
    scope = resource.scope_spans.add()
    for name in names:
        scope.spans.add(name=name, trace_state="x" * padding)
    return request.SerializeToString()


def span_names(bodies: list[bytes]) -> list[str]:
    """Return the names of all spans in these requests, in order."""
    return [
        span.name
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def destination(**options: Any) -> DestinationConfig:
    """Return a destination with short pauses."""
    retry = {"first": 0.01, "longest": 0.1, "pause_longest": 0.2, **options.pop("retry", {})}
    signal = SignalConfig(signal=Signal.TRACES, endpoint=parse_endpoint("http://collector:4317"))
    defaults: dict[str, Any] = {"name": "remote", "group": GROUP, "signals": (signal,), "max_request_wait": 0.0}
    return DestinationConfig(**{**defaults, **options}, retry=RetryConfig(**retry))


@contextmanager
def pipeline(
    client: Client,
    sender: Any,
    config: DestinationConfig,
    *,
    clock: Clock | None = None,
    share: int = 64 * 1024 * 1024,
    **options: Any,
) -> Iterator[Pipeline]:
    """Run a pipeline until the block ends."""
    stop = threading.Event()
    clock = clock or SystemClock()
    made = Pipeline(
        client,
        config,
        ROUTE,
        sender,
        Pace(config.pacing or PacingConfig(), clock),
        DeadLetters(client, share),
        stop,
        clock=clock,
        **options,
    )
    made.start()
    try:
        yield made
    finally:
        stop.set()
        made.join(20)
        assert not made.is_alive()


def drain(client: Client, sender: Any, config: DestinationConfig, **options: Any) -> Pipeline:
    """Run a pipeline until everything is delivered or given up."""
    with pipeline(client, sender, config, once=True, **options) as made:
        made.join(60)
        assert made.drained, made.state()
    return made
