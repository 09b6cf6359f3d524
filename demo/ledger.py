"""Append-only files of item ids that survive ``kill -9`` of whoever writes them."""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIGNALS = ("traces", "logs", "metrics")


class Ledger:
    """One process's file. Each note is one write to the kernel, which keeps it when the process dies."""

    def __init__(self, path: Path) -> None:
        """Append to `path`."""
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        # A predecessor killed in the middle of a write may have left half a line.
        os.write(self._file, b"\n")

    @classmethod
    def of_this_process(cls, folder: Path) -> Ledger:
        """Return a ledger of this process's own in a folder that several processes share."""
        return cls(folder / f"{os.getpid()}-{uuid.uuid4().hex}.jsonl")

    def note(self, signal: str, ids: list[str], **details: Any) -> None:
        """Write down the ids of one batch."""
        os.write(self._file, json.dumps({"signal": signal, "ids": ids, **details}).encode() + b"\n")


def read_notes(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the notes of a ledger, or of all ledgers in a folder; half lines are left out."""
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path] if path.exists() else []
    for file in files:
        for line in file.read_bytes().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def count_ids(path: Path) -> dict[str, Counter[str]]:
    """Return for each signal how many times each id was noted."""
    counts: dict[str, Counter[str]] = {signal: Counter() for signal in SIGNALS}
    for note in read_notes(path):
        counts[note["signal"]].update(note["ids"])
    return counts
