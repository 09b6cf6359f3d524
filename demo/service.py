"""The demo's application: a small web shop's API with the ordinary OpenTelemetry instrumentation.

Nothing in it knows of outages.
"""

from __future__ import annotations

import logging
import random

from fastapi import FastAPI, HTTPException
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.logging.handler import LoggingHandler

from demo.telemetry import set_up_telemetry, with_record_id


def create_app() -> FastAPI:
    """Build the application of one worker process."""
    tracer_provider, logger_provider, meter_provider = set_up_telemetry()
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(meter_provider)
    handler = LoggingHandler(logger_provider=logger_provider)
    handler.addFilter(with_record_id)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)

    logger = logging.getLogger("shop")
    tracer = trace.get_tracer("shop")
    meter = metrics.get_meter("shop")
    orders = meter.create_counter("shop.orders", unit="{order}")
    basket = meter.create_histogram("shop.basket.value", unit="EUR")

    app = FastAPI(title="shop")

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/orders/{order_id}")
    def order(order_id: int) -> dict[str, object]:
        value = round(random.uniform(1, 200), 2)
        with tracer.start_as_current_span("reserve stock", attributes={"order.id": order_id}) as span:
            span.add_event("stock reserved", {"warehouse": order_id % 3})
        with tracer.start_as_current_span("charge card", attributes={"order.id": order_id, "order.value": value}):
            if order_id % 50 == 0:
                logger.warning("card of order %d declined", order_id)
                raise HTTPException(402, "card declined")
        orders.add(1, {"shop.country": ("de", "fr", "it")[order_id % 3]})
        basket.record(value)
        logger.info("order %d taken", order_id, extra={"order.value": value})
        return {"order": order_id, "value": value}

    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=tracer_provider, meter_provider=meter_provider, excluded_urls="healthz"
    )
    return app
