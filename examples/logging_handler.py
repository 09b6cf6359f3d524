"""Python's `logging` stored line by line: the last lines before a crash are on the disk.

python examples/logging_handler.py ./telemetry
"""

from __future__ import annotations

import logging
import sys

from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource

from comet_otel import CometLogRecordProcessor


def read_card() -> None:
    """Fail."""
    raise TimeoutError("no answer from the card reader")


def main() -> None:
    """Log some lines."""
    data_dir = sys.argv[1] if len(sys.argv) > 1 else "./telemetry"
    provider = LoggerProvider(resource=Resource.create({"service.name": "till"}))
    provider.add_log_record_processor(CometLogRecordProcessor(data_dir=data_dir))
    logging.getLogger().addHandler(LoggingHandler(logger_provider=provider))
    logging.getLogger().setLevel(logging.INFO)

    logger = logging.getLogger("till")
    logger.info("opened with %d EUR", 100)
    try:
        read_card()
    except TimeoutError:
        logger.exception("payment failed")


if __name__ == "__main__":
    main()
