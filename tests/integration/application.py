"""An application for the tests: makes spans, log records and metrics until told to stop, through Comet's exporters.

    python -m tests.integration.application [--rounds N]

Directory and ledger come from the environment, as the demo's service has them. Prints a line once it has begun.
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading

from opentelemetry.instrumentation.logging.handler import LoggingHandler

from demo.telemetry import set_up_telemetry, with_record_id

PAUSE_SECONDS = 0.002


def main() -> None:
    """Work until SIGTERM or for a number of rounds, then shut the SDK down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1_000_000)
    rounds = parser.parse_args().rounds

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    tracer_provider, logger_provider, meter_provider = set_up_telemetry()
    handler = LoggingHandler(logger_provider=logger_provider)
    handler.addFilter(with_record_id)
    logger = logging.getLogger("application")
    logger.addHandler(handler)
    logger.propagate = False
    tracer = tracer_provider.get_tracer("application")
    counter = meter_provider.get_meter("application").create_counter("rounds")
    print("begun", flush=True)
    for number in range(rounds):
        with tracer.start_as_current_span("round", attributes={"number": number}):
            logger.warning("round %d", number)
        counter.add(1, {"kind": number % 3})
        if stop.wait(PAUSE_SECONDS):
            break
    for provider in (tracer_provider, logger_provider, meter_provider):
        provider.shutdown()


if __name__ == "__main__":
    main()
