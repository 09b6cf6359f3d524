"""Lets ``python -m comet_cli`` do what ``comet`` does."""

from __future__ import annotations

from comet_cli.cli import main

if __name__ == "__main__":
    main()
