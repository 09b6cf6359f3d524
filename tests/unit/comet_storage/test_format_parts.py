"""Slots, footers, headers and group records: what proves itself is used, what does not is as if it were not there."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import pytest

from comet_storage._format import limits
from comet_storage._format.footer import decode_footer, encode_footer
from comet_storage._format.group_record import DELIVERED, REJECTED, GroupRecord, decode_group_file, encode_group_slot
from comet_storage._format.segment_header import SegmentHeader, decode_segment_header
from comet_storage._format.slots import decode_slot, encode_slot, newest_slot
from comet_storage.errors import UnsupportedFormatError

HEADER = SegmentHeader(b"0123456789abcdef", 0xDEADBEEF, 7, 4096, 5, 2, 65536, 1_700_000_000, "events:v1:shard:0003")
RECORD = GroupRecord(1, 20, 2, 3, 4, 5, 1, 9, ((25, 30, DELIVERED), (31, 32, REJECTED)))
SALT = 0x01020304


def flipped(data: bytes, at: int) -> bytes:
    """Return the bytes with one bit changed."""
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def test_the_sizes_of_the_format_relate_as_the_document_says() -> None:
    """Records that must not tear together lie in separate sectors, and frames start at whole words."""
    assert limits.SEGMENT_HEADER_BYTES == 2 * limits.SECTOR_BYTES
    assert limits.GROUP_SLOT_BYTES % limits.SECTOR_BYTES == 0
    assert limits.GROUP_FILE_BYTES == limits.PAGE_BYTES
    assert limits.FRAME_HEADER_BYTES % limits.FRAME_ALIGNMENT == 0
    assert [limits.aligned(size) for size in (0, 1, 8, 9, 1024)] == [0, 8, 8, 16, 1024]
    full = replace(RECORD, ranges=tuple((100 + 2 * index, 101 + 2 * index, DELIVERED) for index in range(64)))
    assert len(encode_group_slot(1, full)) <= limits.GROUP_SLOT_BYTES


@pytest.mark.parametrize("points", [[], [(0, 1024)], [(0, 1024), (10, 70000), (999, 2**31)]])
def test_a_footer_is_read_back_and_any_flipped_bit_makes_it_nothing(points) -> None:
    """The index behind the frames is used only if its checksum holds."""
    data = encode_footer(points, 1234, SALT)
    assert decode_footer(data, SALT) == (points, 1234)
    assert decode_footer(data + b"what follows", SALT) == (points, 1234)
    assert decode_footer(data, SALT ^ 1) is None
    for at in range(len(data)):
        assert decode_footer(flipped(data, at), SALT) is None
        assert decode_footer(data[:at], SALT) is None


def test_a_slot_is_read_back_and_any_flipped_bit_makes_it_nothing() -> None:
    """A slot of another kind, torn or damaged, is none."""
    data = encode_slot(b"KIND", 7, b"payload")
    assert decode_slot(b"KIND", data + b"\0" * 100) == (7, b"payload")
    assert decode_slot(b"ELSE", data) is None
    for at in range(len(data)):
        assert decode_slot(b"KIND", flipped(data, at)) is None
        assert decode_slot(b"KIND", data[:at]) is None


def test_the_newer_of_two_slots_counts_and_a_torn_one_leaves_the_other() -> None:
    """An update that tears costs only itself."""
    older, newer = encode_slot(b"KIND", 7, b"older"), encode_slot(b"KIND", 8, b"newer")
    assert newest_slot(b"KIND", older, newer) == newest_slot(b"KIND", newer, older) == (8, b"newer")
    assert newest_slot(b"KIND", older, newer[:-1]) == (7, b"older")
    assert newest_slot(b"KIND", b"", b"\0" * 100) is None


def test_a_segment_header_survives_the_loss_of_either_copy() -> None:
    """One good copy is enough; with none there is no header."""
    data = HEADER.encode()
    assert len(data) == limits.SEGMENT_HEADER_BYTES
    assert decode_segment_header(data) == HEADER
    assert decode_segment_header(bytes(512) + data[512:]) == HEADER
    assert decode_segment_header(data[:512]) == HEADER
    for at in range(512):
        assert decode_segment_header(flipped(data, at)) == HEADER
        assert decode_segment_header(flipped(flipped(data, at), 512 + at)) is None
    assert decode_segment_header(b"") is None


def test_a_segment_of_a_newer_minor_version_is_read_and_of_a_newer_major_refused() -> None:
    """Minor versions only add; major versions change what is there."""
    for offset, version in ((10, 9), (8, 2)):
        copy = bytearray(HEADER.encode()[:512])
        struct.pack_into("<H", copy, offset, version)
        struct.pack_into("<I", copy, 508, zlib.crc32(copy[:508]))
        if offset == 10:
            assert decode_segment_header(bytes(copy) * 2) == HEADER
        else:
            with pytest.raises(UnsupportedFormatError, match="version 2"):
                decode_segment_header(bytes(copy) * 2)


def test_a_group_record_is_read_back_from_the_newer_slot() -> None:
    """Sequence, counts and ranges come back; what is not delivered is known by subtraction."""
    slots = [b"", b""]
    for sequence, record in ((4, GroupRecord()), (5, RECORD)):
        slots[sequence % 2] = encode_group_slot(sequence, record).ljust(limits.GROUP_SLOT_BYTES, b"\0")
    assert decode_group_file(b"".join(slots)) == (5, 1, RECORD)
    assert decode_group_file(slots[0] + bytes(limits.GROUP_SLOT_BYTES)) == (4, 0, GroupRecord())
    assert decode_group_file(b"") is None
    assert RECORD.delivered == 20 - 1 - (2 + 3 + 4 + 5 + 1)


def test_ranges_that_do_not_fit_are_left_out_and_will_be_delivered_again() -> None:
    """The first 64 ranges are kept, and none that is longer than 32 bits."""
    many = tuple((100 + 2 * index, 101 + 2 * index, DELIVERED) for index in range(100))
    long = (10**12, 10**12 + 2**32, DELIVERED)
    data = encode_group_slot(0, GroupRecord(ranges=(long, *many))).ljust(limits.GROUP_FILE_BYTES, b"\0")
    found = decode_group_file(data)
    assert found is not None
    assert found.record.ranges == many[:64]
