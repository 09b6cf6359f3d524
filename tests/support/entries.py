"""Entries that say who wrote them: every byte follows from a writer and a sequence number, so each can be judged."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from comet_storage import StreamMessage

_KEY = struct.Struct("<III")
KEY_BYTES = _KEY.size

REPORT = struct.Struct("<QIII")
"""What a child writes to its pipe after each append: first number, count, writer, first sequence number."""


def make_entry(writer: int, sequence: int, size: int | None = None) -> bytes:
    """The entry of a writer with a sequence number; of ``size`` bytes, or of a size that follows from both."""
    if size is None:
        size = KEY_BYTES + (writer * 7919 + sequence * 104_729) % 180
    key = _KEY.pack(writer, sequence, size)
    filler = hashlib.shake_128(key).digest(size - KEY_BYTES)
    return key + filler


def key_of(data: bytes) -> tuple[int, int] | None:
    """Writer and sequence number of an entry, or None when not every byte of it is right."""
    if len(data) < KEY_BYTES:
        return None
    writer, sequence, size = _KEY.unpack_from(data)
    if size != len(data) or make_entry(writer, sequence, size) != data:
        return None
    return writer, sequence


@dataclass
class Verdict:
    """What was found wrong in a log."""

    entries: int = 0
    lost: list[int] = field(default_factory=list)
    duplicated: list[int] = field(default_factory=list)
    garbled: list[int] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    unordered: list[int] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing was found wrong."""
        return not (self.lost or self.duplicated or self.garbled or self.gaps or self.unordered)


def judge(messages: Iterable[StreamMessage], acknowledged: Mapping[int, tuple[int, int]], *, first: int = 0) -> Verdict:
    """Compare what a log holds with what was acknowledged; numbers below ``first`` may have been evicted."""
    verdict = Verdict()
    expected = first
    seen: set[tuple[int, int]] = set()
    latest: dict[int, int] = {}
    found: dict[int, tuple[int, int]] = {}
    for message in messages:
        number = message.id.entry_number
        verdict.entries += 1
        if number != expected:
            verdict.gaps.append((expected, number))
        expected = number + 1
        key = key_of(message.data)
        if key is None:
            verdict.garbled.append(number)
            continue
        if key in seen:
            verdict.duplicated.append(number)
        seen.add(key)
        writer, sequence = key
        if sequence < latest.get(writer, -1):
            verdict.unordered.append(number)
        latest[writer] = sequence
        found[number] = key
    verdict.lost = [number for number, key in acknowledged.items() if number >= first and found.get(number) != key]
    return verdict


def add_reports(acknowledged: dict[int, tuple[int, int]], data: bytes) -> int:
    """Note what a child reported. Returns how many entries that were."""
    total = 0
    for at in range(0, len(data) - len(data) % REPORT.size, REPORT.size):
        first, count, writer, sequence = REPORT.unpack_from(data, at)
        for index in range(count):
            if first + index in acknowledged:
                raise AssertionError(f"number {first + index} was given out twice")
            acknowledged[first + index] = (writer, sequence + index)
        total += count
    return total
