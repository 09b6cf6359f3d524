"""Is everything that is written to disk read back as it was, and nothing else read at all?"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from comet_storage._format.footer import decode_footer, encode_footer
from comet_storage._format.frame import decode_header, encode_frame, entry_bounds
from comet_storage._format.group_record import GroupRecord, decode_group_file, encode_group_slot
from comet_storage._format.limits import GROUP_RANGES_MAX, GROUP_SLOT_BYTES
from comet_storage._format.segment_header import SegmentHeader, decode_segment_header
from comet_storage._format.slots import decode_slot, encode_slot, newest_slot
from comet_storage._format.state_page import (
    DURABLE_OFFSETS,
    IDENTITY_OFFSETS,
    Durable,
    Identity,
    decode_durable,
    decode_identity,
    encode_durable,
    encode_identity,
)

words = st.integers(0, 2**64 - 1)
salts = st.integers(0, 2**32 - 1)
offsets = st.integers(128, 2**28).map(lambda value: value * 8)
batches = st.lists(st.binary(max_size=60), min_size=1, max_size=40)
flips = st.integers(0, 7).map(lambda bit: 1 << bit)


@given(words, words, batches, salts, offsets)
def test_a_frame_comes_back_with_its_entries(first, timestamp, entries, salt, offset) -> None:
    """Header and every entry, whatever their sizes."""
    data = encode_frame(first, timestamp, entries, salt, offset)
    header = decode_header(data, 0, salt, offset)
    assert header is not None
    assert (header.first_entry, header.timestamp, header.count) == (first, timestamp, len(entries))
    assert header.size == len(data)
    body = data[32 : 32 + header.body_length]
    bounds = entry_bounds(header, body)
    assert bounds is not None
    assert [body[start:end] for start, end in pairwise(bounds)] == entries


@given(words, batches, salts, offsets, st.integers(0, 31), flips)
def test_a_frame_header_with_a_changed_bit_is_none(first, entries, salt, offset, at, mask) -> None:
    """One bit is enough."""
    data = bytearray(encode_frame(first, 1, entries, salt, offset))
    data[at] ^= mask
    assert decode_header(bytes(data), 0, salt, offset) is None


@given(words, batches, salts, offsets, offsets)
def test_a_frame_is_one_only_at_its_place(first, entries, salt, offset, other) -> None:
    """A copy of a frame at another offset proves nothing."""
    data = encode_frame(first, 1, entries, salt, offset)
    assert (decode_header(data, 0, salt, other) is not None) == (other == offset)


@given(st.lists(st.tuples(words, words), max_size=50), words, salts)
def test_a_footer_comes_back(points, end, salt) -> None:
    """All points, also behind other bytes."""
    data = encode_footer(points, end, salt)
    assert decode_footer(data + b"behind", salt) == (points, end)
    assert decode_footer(data[:-1], salt) is None


@given(st.binary(max_size=200), salts)
def test_other_bytes_are_no_footer(data, salt) -> None:
    """Nor do they raise."""
    assert decode_footer(b"COMETIDX" + data, salt) is None


@given(words, st.binary(max_size=100), st.binary(max_size=20))
def test_a_slot_comes_back(sequence, payload, behind) -> None:
    """Also with other bytes behind it, and not under another kind."""
    data = encode_slot(b"KIND", sequence, payload) + behind
    assert decode_slot(b"KIND", data) == (sequence, payload)
    assert decode_slot(b"ELSE", data) is None


@given(st.binary(max_size=30), st.binary(max_size=30), st.integers(0, 2**63), st.data())
def test_a_torn_slot_leaves_the_other_one(old, new, sequence, data) -> None:
    """Of two slots the newer one that is whole counts."""
    first, second = encode_slot(b"KIND", sequence, old), encode_slot(b"KIND", sequence + 1, new)
    assert newest_slot(b"KIND", first, second) == (sequence + 1, new)
    cut = data.draw(st.integers(0, len(second) - 1))
    torn = second[:cut] + bytes(len(second) - cut)
    assert newest_slot(b"KIND", first, torn) in ((sequence, old), (sequence + 1, new))


@st.composite
def records(draw) -> GroupRecord:
    """Any record with ranges in order."""
    numbers = [draw(st.integers(0, 2**62)) for _ in range(8)]
    edges = sorted(draw(st.sets(st.integers(0, 2**32 - 1), max_size=2 * GROUP_RANGES_MAX)))
    ranges = tuple((low, high, draw(st.integers(0, 1))) for low, high in zip(edges[::2], edges[1::2], strict=False))
    return GroupRecord(*numbers, ranges=ranges)


@given(records(), st.integers(0, 2**63))
def test_a_group_record_comes_back(record, sequence) -> None:
    """From either slot, with up to 64 ranges."""
    slot = encode_group_slot(sequence, record)
    assert len(slot) <= GROUP_SLOT_BYTES
    assert decode_group_file(slot) == (sequence, 0, record)
    assert decode_group_file(bytes(GROUP_SLOT_BYTES) + slot) == (sequence, 1, record)


@given(words, words, words, words, st.binary(min_size=16, max_size=16))
def test_the_slots_of_a_state_page_come_back(sequence, one, two, three, boot) -> None:
    """Identity and durable slots, from either place."""
    for place in (0, 1):
        page = bytearray(4096)
        identity, durable = (
            encode_identity(sequence, Identity(one, boot, two, three)),
            encode_durable(sequence, Durable(one, two, three)),
        )
        page[IDENTITY_OFFSETS[place] : IDENTITY_OFFSETS[place] + len(identity)] = identity
        page[DURABLE_OFFSETS[place] : DURABLE_OFFSETS[place] + len(durable)] = durable
        assert decode_identity(bytes(page)) == (sequence, Identity(one, boot, two, three))
        assert decode_durable(bytes(page)) == (sequence, Durable(one, two, three))


@given(st.binary(min_size=16, max_size=16), salts, words, words, words, st.integers(0, 511), flips)
def test_a_segment_header_survives_damage_to_either_copy(log_id, salt, first, base, lost, at, mask) -> None:
    """It is there twice."""
    header = SegmentHeader(log_id, salt, first, base, lost, lost, 4096, 1, "traces:v1:shard:0003")
    data = header.encode()
    assert decode_segment_header(data) == header
    for copy in (0, 512):
        damaged = bytearray(data)
        damaged[copy + at] ^= mask
        assert decode_segment_header(bytes(damaged)) == header
