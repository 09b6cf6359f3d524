"""Joining entries to requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from comet_storage import MessageID, StreamMessage
from shipper.batcher import requests


def messages(*payloads: bytes) -> list[StreamMessage]:
    """Return entries of one shard with these payloads."""
    return [
        StreamMessage("traces:v1:shard:0000", MessageID(0, number), payload, 0)
        for number, payload in enumerate(payloads)
    ]


def test_nothing_gives_no_request() -> None:
    """An empty request is not sent."""
    assert list(requests([], 100)) == []


def test_entries_are_joined_up_to_the_limit() -> None:
    """A request may be exactly as large as the limit and not a byte larger."""
    made = list(requests(messages(b"a" * 40, b"b" * 60, b"c"), 100))
    assert [request.body for request in made] == [b"a" * 40 + b"b" * 60, b"c"]
    assert [request.ids for request in made] == [(MessageID(0, 0), MessageID(0, 1)), (MessageID(0, 2),)]


def test_an_entry_over_the_limit_goes_alone() -> None:
    """It neither waits for ever nor takes others with it."""
    made = list(requests(messages(b"a", b"b" * 500, b"c"), 100))
    assert [len(request.body) for request in made] == [1, 500, 1]


@given(st.lists(st.binary(max_size=60), max_size=60), st.integers(1, 100))
def test_nothing_is_left_out_doubled_or_moved(payloads, limit) -> None:
    """Joined again, the requests are the entries, whatever their sizes."""
    made = list(requests(messages(*payloads), limit))
    assert b"".join(request.body for request in made) == b"".join(payloads)
    assert [one.entry_number for request in made for one in request.ids] == list(range(len(payloads)))
    for request in made:
        # Only an entry that is too large by itself may make a request that is; empty ones add nothing to it.
        assert len(request.body) <= limit or sum(bool(payloads[one.entry_number]) for one in request.ids) == 1
