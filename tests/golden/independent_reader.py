"""Reads a log with nothing but docs/disk-format.md: the numbers in brackets are its sections. Imports no engine."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard


@dataclass
class Segment:
    """What one segment file says (6)."""

    header: dict[str, Any]
    entries: list[tuple[int, int, bytes]] = field(default_factory=list)
    """(number, wall clock, bytes)"""
    frames: list[tuple[int, int, int]] = field(default_factory=list)
    """(offset, first number, count)"""
    compressed: list[int] = field(default_factory=list)
    """First numbers of the frames with codec 1."""
    damaged: list[tuple[int, int]] = field(default_factory=list)
    """Offsets [from, to) that hold no provable frame."""
    end: int = 1024
    tail: str = "nothing"
    points: list[tuple[int, int]] = field(default_factory=list)
    end_number: int | None = None


@dataclass
class Shard:
    """One shard directory."""

    segments: list[Segment]
    page: dict[str, Any]
    owner: dict[str, Any]
    owner_ceiling: int | None
    groups: dict[str, dict[str, Any]]

    def entries(self) -> list[tuple[int, int, bytes]]:
        """Return all entries in order."""
        return [entry for segment in self.segments for entry in segment.entries]


def read_json(path: Path) -> dict[str, Any]:
    """Read a checksummed JSON object (3)."""
    members: dict[str, Any] = json.loads(path.read_bytes())
    checksum = members.pop("checksum")
    if checksum != f"{zlib.crc32(json.dumps(members, sort_keys=True).encode()):08x}":
        raise ValueError(f"{path} does not prove itself")
    return members


def read_ledger(path: Path) -> int | None:
    """Read the ledger (4)."""
    data = path.read_bytes()
    value, _, check = struct.unpack_from("<QII", data, 1024)
    return value if check == zlib.crc32(data[1024:1036]) else None


def read_clock(path: Path) -> tuple[bytes, int, int, int] | None:
    """Read the log clock (4.1): boot, time since it, log clock, wall clock."""
    slot = read_pair(b"CLCK", path.read_bytes().ljust(2560, b"\0"), 1536, 2048, 512)
    return struct.unpack("<16sQQQ", slot[1]) if slot else None


def read_history(path: Path) -> list[tuple[int, int, int, int, int, int]]:
    """Read what was evicted (10.1): first number, end, entries, first and last time, reasons."""
    slot = read_pair(b"EVIC", path.read_bytes(), 0, 2048, 2048)
    if slot is None:
        raise ValueError(f"{path} does not prove itself")
    (count,) = struct.unpack_from("<I", slot[1])
    ranges = [struct.unpack_from("<QQQQQI", slot[1], 4 + 44 * index) for index in range(count)]
    if len(slot[1]) != 4 + 44 * count:
        raise ValueError(f"{path} has {len(slot[1])} bytes of payload")
    return ranges


def read_slot(kind: bytes, slot: bytes) -> tuple[int, bytes] | None:
    """Read one slot (9): its sequence and payload."""
    found, length, sequence = struct.unpack_from("<4sIQ", slot)
    if found != kind or 16 + length + 4 > len(slot):
        return None
    if struct.unpack_from("<I", slot, 16 + length)[0] != zlib.crc32(slot[: 16 + length]):
        return None
    return sequence, slot[16 : 16 + length]


def read_pair(kind: bytes, data: bytes, first: int, second: int, size: int) -> tuple[int, bytes] | None:
    """Read the newer of two slots, each where its sequence says (9)."""
    slots = []
    for parity, at in ((0, first), (1, second)):
        slot = read_slot(kind, data[at : at + size])
        if slot is not None:
            if slot[0] % 2 != parity:
                raise ValueError(f"sequence {slot[0]} is in the other slot's place")
            slots.append(slot)
    return max(slots, default=None)


def read_page(path: Path) -> dict[str, Any]:
    """Read a state page (9)."""
    data = path.read_bytes()
    words = struct.unpack_from("<8Q", data)
    if data[40:48] != b"COMETPAG":
        raise ValueError(f"{path} says nothing")
    page: dict[str, Any] = {
        "published": words[0],
        "hint_number": words[1],
        "hint_position": words[2],
        "generation": words[3],
        "active": words[4],
        "ceiling": words[6],
        "allocated": words[7],
    }
    identity = read_pair(b"IDNT", data, 512, 1024, 512)
    durable = read_pair(b"DURA", data, 1536, 2048, 512)
    page["identity"] = struct.unpack("<Q16sQQ", identity[1]) if identity else None
    page["durable"] = struct.unpack("<QQQ", durable[1]) if durable else None
    if any(data[64:512]) or any(data[2560:4096]) or len(data) != 4096:
        raise ValueError(f"{path} has bytes where the format has none")
    return page


def read_owner(path: Path) -> tuple[dict[str, Any], int | None]:
    """Read an owner lock (5): the holder, and the second copy of the ceiling."""
    data = path.read_bytes().ljust(1536, b"\0")
    slot = read_slot(b"DURA", data[1024:1536])
    return json.loads(data[:1024]), struct.unpack("<QQQ", slot[1])[2] if slot else None


def read_group(path: Path) -> dict[str, Any]:
    """Read a group's record (10)."""
    data = path.read_bytes()
    slots = [read_slot(b"GRUP", data[at : at + 1024]) for at in range(0, 4096, 1024)]
    slot = max((slot for slot in slots if slot is not None), default=None)
    if slot is None:
        raise ValueError(f"{path} does not prove itself")
    names = ("start", "offset", "rejected", "skipped", "evicted", "corrupt", "lost", "generation")
    record: dict[str, Any] = dict(zip(names, struct.unpack_from("<8Q", slot[1]), strict=True))
    (count,) = struct.unpack_from("<I", slot[1], 64)
    record["ranges"] = [struct.unpack_from("<QIH", slot[1], 68 + 14 * index) for index in range(count)]
    if len(slot[1]) != 68 + 14 * count:
        raise ValueError(f"{path} has {len(slot[1])} bytes of payload")
    return record


def read_header(data: bytes) -> dict[str, Any]:
    """Read a segment header from the first copy that proves itself (6.1)."""
    for copy in (data[:512], data[512:1024]):
        if copy[:8] == b"COMETSEG" and struct.unpack_from("<I", copy, 508)[0] == zlib.crc32(copy[:508]):
            fields = struct.unpack_from("<HHI16sI4xQQQQQQQ", copy, 8)
            names = ("major", "minor", "size", "log_id", "salt", "first", "base", "lost_from", "lost_total", "capacity")
            header: dict[str, Any] = dict(zip((*names, "created", "created_log"), fields, strict=True))
            (length,) = struct.unpack_from("<H", copy, 128)
            header["shard"] = copy[130 : 130 + length].decode("ascii")
            if header["major"] != 1:
                raise ValueError("another major version")
            if any(copy[36:40]) or any(copy[96:128]) or any(copy[130 + length : 508]):
                raise ValueError("bytes where the format has none")
            return header
    raise ValueError("no copy of the header proves itself")


def read_frame(data: bytes, at: int, end: int, salt: int, number: int) -> tuple[int, int, int, list[bytes]] | None:
    """Read the frame at an offset (6.2): first number, wall clock, size, entries; None if it is not valid."""
    if at + 32 > end:
        return None
    length, body_check, masked, clock, kind, check = struct.unpack_from("<IIQQII", data, at)
    if check != zlib.crc32(data[at : at + 28], salt ^ at):
        return None
    count, codec = kind & 0xFFFFFF, kind >> 24 & 15
    first = masked ^ (salt << 32)
    body = data[at + 32 : at + 32 + length]
    if count == 0 or codec > 1 or at + 32 + length > end or first < number or zlib.crc32(body, salt) != body_check:
        return None
    size = (32 + length + 7) // 8 * 8
    if codec == 1:
        if zstandard.frame_content_size(body) > 335_544_320:
            return None
        body = zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
        length = len(body)
    lengths = struct.unpack_from(f"<{count}I", body) if count > 1 else (length,)
    start = 4 * count if count > 1 else 0
    entries = []
    for entry_length in lengths:
        entries.append(body[start : start + entry_length])
        start += entry_length
    return (first, clock, size, entries) if start == length else None


def read_segment(data: bytes, end: int | None) -> Segment:
    """Read a segment up to its end (7), and what stands behind its last frame (6.3)."""
    header = read_header(data)
    segment = Segment(header)
    salt = header["salt"]
    end = min(len(data), header["capacity"], header["capacity"] if end is None else end - header["base"] + 1024)
    at, number = 1024, header["first"]
    while at < end:
        frame = read_frame(data, at, end, salt, number)
        if frame is None:
            # The plain form of the search: every multiple of 8 is tried.
            start = at
            while at < end and frame is None:
                at += 8
                frame = read_frame(data, at, end, salt, number)
            segment.damaged.append((start, min(at, end)))
            continue
        first, clock, size, entries = frame
        segment.frames.append((at, first, len(entries)))
        if data[at + 27] & 15 == 1:
            segment.compressed.append(first)
        segment.entries += [(first + index, clock, entry) for index, entry in enumerate(entries)]
        number = first + len(entries)
        at += size
        segment.end = at
    _read_tail(segment, data, salt)
    return segment


def _read_tail(segment: Segment, data: bytes, salt: int) -> None:
    at = segment.end
    word = data[at : at + 8]
    if word == b"COMETEND":
        segment.tail = "mark"
    elif word == b"COMETIDX":
        count, check = struct.unpack_from("<II", data, at + 8)
        if check == zlib.crc32(data[at + 16 : at + 24 + 16 * count], salt):
            segment.tail = "footer"
            (segment.end_number,) = struct.unpack_from("<Q", data, at + 16)
            segment.points = [struct.unpack_from("<QQ", data, at + 24 + 16 * index) for index in range(count)]
    elif any(word):
        segment.tail = "doubt"


def read_shard(directory: Path) -> Shard:
    """Read one shard: each segment ends where the next one begins, the last one at what is published (7)."""
    paths = sorted(directory.glob("*.segment"))
    page = read_page(directory / "state")
    data = [path.read_bytes() for path in paths]
    ends = [read_header(following)["base"] for following in data[1:]] + [page["published"]]
    segments = [read_segment(content, end) for content, end in zip(data, ends, strict=True)]
    for path, segment in zip(paths, segments, strict=True):
        if path.name != f"{segment.header['first']:020d}.segment":
            raise ValueError(f"{path} is named wrongly")
    groups = {path.name.removeprefix("group-"): read_group(path) for path in directory.glob("group-*")}
    return Shard(segments, page, *read_owner(directory / "owner.lock"), groups)


def read_log(directory: Path) -> tuple[dict[str, Any], dict[str, Shard]]:
    """Read a whole log (2): the settings, and the shards by their full name."""
    shards = {}
    for path in sorted(directory.glob("*/*/shard-*")):
        namespace, version, shard = path.relative_to(directory).parts
        shards[f"{namespace}:{version}:shard:{shard.removeprefix('shard-')}"] = read_shard(path)
    return read_json(directory / "log.json"), shards
