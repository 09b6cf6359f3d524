"""Does the quick way to read frames of one entry each take exactly what the plain way takes?"""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from comet_storage._format.checksum import crc32
from comet_storage._format.frame import decode_header, encode_frame
from comet_storage._format.single_entries import RESIDUE, Deltas, decode_single_entries

OFFSET = 1024
salts = st.integers(0, 2**32 - 1)
firsts = st.one_of(st.integers(0, 1000), st.integers(2**32 - 50, 2**32 + 50), st.integers(0, 2**62))
entries = st.one_of(
    st.lists(st.binary(max_size=40), min_size=1, max_size=40),
    # Runs of one size, which are decoded in columns.
    st.tuples(st.integers(0, 40), st.integers(1, 40), st.binary(min_size=1, max_size=1)).map(
        lambda t: [t[2] * t[0]] * t[1]
    ),
)
changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=2)


def plainly(window: bytes, salt: int, number: int, limit: int) -> tuple[list[bytes], list[int], int]:
    """One frame after the other, each with both of its checks."""
    at, found, times = 0, [], []
    half = number >> 32
    while len(found) < limit and at + 32 <= len(window):
        header = decode_header(window, at, salt, OFFSET + at)
        if header is None or header.count != 1 or header.codec or window[at + 27] or header.first_entry != number:
            break
        body = window[at + 32 : at + 32 + header.body_length]
        if len(body) < header.body_length or crc32(body, salt) != header.body_crc or number >> 32 != half:
            break
        found.append(body)
        times.append(header.timestamp)
        at += header.size
        number += 1
    return found, times, at


@given(salts, firsts, entries, changes, st.integers(1, 50), st.integers(0, 60))
@example(salt=0, first=0, contents=[b""] * 20, damage=[], limit=50, cut=0)
@example(salt=7, first=2**32 - 10, contents=[b"same"] * 20, damage=[], limit=50, cut=0)
@example(salt=7, first=5, contents=[b"x" * 6000, b"y"], damage=[], limit=50, cut=0)
def test_both_ways_give_the_same(salt, first, contents, damage, limit, cut) -> None:
    """Entries, time stamps and bytes, with any bytes changed and the end cut off anywhere."""
    window = b""
    for index, entry in enumerate(contents):
        window += encode_frame(first + index, 1000 + index, [entry], salt, OFFSET + len(window))
    data = bytearray(window[: len(window) - cut])
    for where, mask in damage:
        if data:
            data[int(where * len(data))] ^= mask
    got = decode_single_entries(bytes(data), 0, OFFSET, first, limit, Deltas(salt))
    expected, times, size = plainly(bytes(data), salt, first, limit)
    # The quick way may leave large entries to the plain one; it never takes more.
    if any(len(entry) > 4096 for entry in contents):
        expected, times = expected[: len(got.entries)], times[: len(got.entries)]
        size = got.size
    assert (got.entries, got.timestamps) == (expected, times)
    assert got.size == size
    assert got.entry_bytes == sum(map(len, got.entries))


@given(st.binary(max_size=100), salts)
def test_bytes_with_their_own_checksum_have_one_checksum(data, start) -> None:
    """The constant that the quick way rests on."""
    check = crc32(data, start)
    assert crc32(data + check.to_bytes(4, "little"), start) == RESIDUE
