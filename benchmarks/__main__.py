"""Run all measurements: ``python -m benchmarks``."""

from __future__ import annotations

from benchmarks import append, durability, processes, stalled_disk, tail_latency


def main() -> None:
    """Print every table."""
    append.main()
    tail_latency.main()
    durability.main()
    processes.main()
    stalled_disk.main()


if __name__ == "__main__":
    main()
