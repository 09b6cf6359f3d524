"""The record of a dead letter is the one that docs/dead-letters.md promises."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.delivery.dead_letters import DeadLetter, NotADeadLetterError, decode, encode

GOLDEN = Path(__file__).parent / "dead_letter_v1.bin"

LETTER = DeadLetter(
    destination="central",
    signal="traces",
    stream="traces:v1",
    shard=3,
    first_entry=617,
    last_entry=617,
    piece="2.1",
    reason="rejected",
    code="HTTP 400",
    message="bad “b”",
    attempts=2,
    first_try=1_700_000_000.25,
    last_try=1_700_000_001.5,
    items=7,
    request_id="00ff/traces:v1/3/617-617/2.1",
    body=b"\x0a\x00\xff\xfe",
)


def test_the_bytes_are_those_of_the_golden_file(regenerate_golden) -> None:
    """A changed record needs another magic."""
    if regenerate_golden:
        GOLDEN.write_bytes(encode(LETTER))
    assert encode(LETTER) == GOLDEN.read_bytes()
    assert decode(GOLDEN.read_bytes()) == LETTER


def test_the_layout_can_be_read_by_the_words_of_the_document_alone() -> None:
    """Magic, length, JSON, and the request as it was."""
    record = GOLDEN.read_bytes()
    magic, length = struct.unpack("<4sI", record[:8])
    header = json.loads(record[8 : 8 + length])
    assert magic == b"CDL1"
    assert header["first_entry"] == 617
    assert record[8 + length :] == LETTER.body


def test_what_a_later_version_adds_is_left_out() -> None:
    """Old readers go on reading."""
    record = encode(LETTER)
    length = struct.unpack("<I", record[4:8])[0]
    header = {**json.loads(record[8 : 8 + length]), "mood": "bad"}
    text = json.dumps(header).encode()
    assert decode(b"CDL1" + struct.pack("<I", len(text)) + text + LETTER.body) == LETTER


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda data: b"CDL1" + data))
def test_anything_else_is_told_apart(data) -> None:
    """By one error."""
    with pytest.raises(NotADeadLetterError):
        decode(data)


@given(st.binary(max_size=200))
def test_the_request_is_unchanged(body) -> None:
    """Whatever it is."""
    assert decode(encode(DeadLetter(**{**vars(LETTER), "body": body}))).body == body
