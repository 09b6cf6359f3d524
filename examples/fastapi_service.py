"""A FastAPI service; run it with any ASGI server and any number of workers.

    COMET_DATA_DIR=./telemetry uvicorn --app-dir examples --workers 2 fastapi_service:app

It answers on an event loop, which must never wait for a network; storing a span takes some ten microseconds.
"""

from __future__ import annotations

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from comet_otel import CometSpanProcessor

provider = TracerProvider(resource=Resource.create({"service.name": "orders"}))
provider.add_span_processor(CometSpanProcessor())
trace.set_tracer_provider(provider)

app = FastAPI()
FastAPIInstrumentor.instrument_app(app, exclude_spans=["send", "receive"])
tracer = trace.get_tracer("orders")


@app.get("/orders/{number}")
async def order(number: int) -> dict[str, int]:
    """Answer with an order."""
    with tracer.start_as_current_span("read order", attributes={"order.id": number}):
        return {"order": number}
