"""Lets ``python -m comet_otel.receiver`` do what ``comet-receiver`` does."""

from __future__ import annotations

from comet_otel.receiver.cli import main

if __name__ == "__main__":
    main()
