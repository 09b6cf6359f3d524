"""An application that knows nothing of Comet: everything is said in the environment.

    pip install comet-otel opentelemetry-distro

    export OTEL_TRACES_EXPORTER=comet OTEL_LOGS_EXPORTER=comet OTEL_METRICS_EXPORTER=comet
    export COMET_DATA_DIR=./telemetry COMET_MAX_TOTAL_SIZE="256 MiB"
    opentelemetry-instrument python examples/by_environment.py

Instead of by `opentelemetry-instrument` the SDK can be configured from the same variables by one call, as here.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.sdk._configuration import _OTelSDKConfigurator


def main() -> None:
    """Make one span with whatever exporter the environment names."""
    _OTelSDKConfigurator().configure()
    with trace.get_tracer("by_environment").start_as_current_span("work"):
        print("working")


if __name__ == "__main__":
    main()
