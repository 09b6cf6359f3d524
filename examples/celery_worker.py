"""A Celery worker with processes that it forks in advance, and a program that gives it work.

    export COMET_DATA_DIR="$PWD/telemetry" BROKER_DIR="$PWD/broker"
    celery --workdir examples --app celery_worker worker --pool prefork --concurrency 2 &
    python examples/celery_worker.py Ada Grace

The pipeline is set up once, before the pool forks; each process of the pool goes on in a lane of its own. The broker is
a directory, so that the example needs no server.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from celery import Celery
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from comet_otel import CometSpanProcessor

provider = TracerProvider(resource=Resource.create({"service.name": "greeter"}))
provider.add_span_processor(CometSpanProcessor())
trace.set_tracer_provider(provider)

broker = Path(os.environ.get("BROKER_DIR", "./broker")).absolute()
broker.mkdir(parents=True, exist_ok=True)
app = Celery("greeter", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(broker),
    "data_folder_out": str(broker),
    "control_folder": str(broker / "control"),
}


@app.task(name="greet", ignore_result=True)
def greet(name: str) -> None:
    """Do some work that is worth telling."""
    with trace.get_tracer("greeter").start_as_current_span("greet", attributes={"name": name, "pid": os.getpid()}):
        print(f"hello {name}")


if __name__ == "__main__":
    for greeted in sys.argv[1:]:
        greet.delay(greeted)
