"""Lets ``python -m shipper`` do what ``comet-shipper`` does."""

from __future__ import annotations

from shipper.cli import main

if __name__ == "__main__":
    main()
