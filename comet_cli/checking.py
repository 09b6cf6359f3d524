"""Whether every byte of a log is whole, and what is not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from comet_storage import MissingEntries, ShardVerification

_MEANINGS = {
    "evicted": "deleted by retention",
    "lost": "taken by a power cut",
    "corrupt": "DAMAGED on the disk",
    "unsupported": "stored by a newer release, and whole",
}


def shard_lines(found: ShardVerification) -> list[str]:
    """One shard for people: what is whole, then each range that is missing."""
    verdict = f"DAMAGED: {found.corrupt:,} entries" if found.corrupt else "whole"
    first = (
        f"{found.stream}: {verdict}; {found.entries:,} entries of {found.entry_bytes:,} bytes "
        f"in {found.segments:,} segments"
    )
    return [first, *(f"  {_range_text(each)}: {_MEANINGS[each.reason]}" for each in found.missing)]


def shard_json(found: ShardVerification) -> dict[str, Any]:
    """One shard for programs."""
    return {**asdict(found), "corrupt": found.corrupt}


def _range_text(missing: MissingEntries) -> str:
    if missing.count == 1:
        return f"entry {missing.first}"
    return f"entries {missing.first} to {missing.last} ({missing.count:,})"
