"""Processor that stores spans the moment they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from comet_otel import encoding
from comet_otel._interruptions import let_through
from comet_otel._processor import CrashProofProcessor
from comet_otel.streams import Signal

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from datetime import timedelta

    from opentelemetry.metrics import MeterProvider

    from comet_storage import CometConfig


class CometSpanProcessor(CrashProofProcessor[ReadableSpan], SpanProcessor):
    """Stores each sampled span before its ``end()`` returns, in a log on the local disk.

    What ended survives everything that ends the process: a segmentation fault, ``os._exit``, the OOM killer,
    ``kill -9``; the SDK's batching processor loses what is in its queue then. It takes the place of a span processor
    and of an exporter, and may stand beside others. Safe to use from any thread, in signal handlers and after a fork.
    It never raises an exception and never waits for a network.
    """

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        durability: str | None = None,
        compression: str | None = None,
        max_total_size: float | str | None = None,
        max_age: float | timedelta | str | None = None,
        meter_provider: MeterProvider | None = None,
        config: CometConfig | Mapping[str, Any] | str | None = None,
    ) -> None:
        """Join the log in `data_dir`; the arguments are those of `CometSpanExporter`.

        Raises:
            ConfigError: an argument has a wrong value.
        """
        super().__init__()
        self._start(
            Signal.TRACES,
            encoding.SPANS,
            meter_provider,
            data_dir=data_dir,
            durability=durability,
            compression=compression,
            max_total_size=max_total_size,
            max_age=max_age,
            config=config,
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Store the span if it is sampled."""
        try:
            context = span.context
            sampled = context is not None and context.trace_flags.sampled
        except Exception as error:  # noqa: BLE001 - one made by hand: the encoder tells what is wrong with it
            let_through(error)
            sampled = True
        if sampled:
            self._store(span)
