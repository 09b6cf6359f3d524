"""A Flask service under gunicorn; each worker writes to the same log, in a lane of its own.

    COMET_DATA_DIR=./telemetry gunicorn --workers 4 --pythonpath examples flask_gunicorn:app

Works the same with ``--preload``, where the workers inherit the pipeline of the master. `CometSpanProcessor` stores a
span before the request that it tells of is answered, so a worker that is killed takes none along.
"""

from __future__ import annotations

from flask import Flask
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from comet_otel import CometSpanProcessor

provider = TracerProvider(resource=Resource.create({"service.name": "orders"}))
provider.add_span_processor(CometSpanProcessor())
trace.set_tracer_provider(provider)

app = Flask(__name__)
FlaskInstrumentor().instrument_app(app)
tracer = trace.get_tracer("orders")


@app.get("/orders/<int:number>")
def order(number: int) -> dict[str, int]:
    """Answer with an order."""
    with tracer.start_as_current_span("read order", attributes={"order.id": number}):
        return {"order": number}
