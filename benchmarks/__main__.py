"""Run all measurements: ``python -m benchmarks``."""

from __future__ import annotations

from benchmarks import (
    append,
    backlog,
    compression,
    consume,
    durability,
    encoding,
    exporting,
    json_transcoding,
    open_scaling,
    processes,
    processors,
    receiver,
    request_latency,
    shipping,
    stalled_disk,
    tail_latency,
    zero_copy,
)


def main() -> None:
    """Print every table."""
    append.main()
    consume.main()
    tail_latency.main()
    open_scaling.main()
    durability.main()
    processes.main()
    stalled_disk.main()
    compression.main()
    zero_copy.main()
    receiver.main()
    json_transcoding.main()
    backlog.main()
    shipping.main()
    encoding.main()
    exporting.main()
    request_latency.main()
    processors.main()


if __name__ == "__main__":
    main()
