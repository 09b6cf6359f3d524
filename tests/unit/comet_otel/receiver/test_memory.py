"""When memory is short, and what reading JSON takes of it."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from comet_otel.receiver.json_transcoder import memory_needed, transcode
from comet_otel.receiver.memory import ResidentMemory
from comet_otel.streams import Signal

PAGE = os.sysconf("SC_PAGE_SIZE")


def test_memory_is_short_beyond_so_many_bytes_more_than_at_the_beginning(tmp_path) -> None:
    """Pages of files are not counted."""
    figures = tmp_path / "statm"
    figures.write_text("900 500 100 0 0 0 0\n")
    memory = ResidentMemory(10 * PAGE, path=figures)
    assert not memory.is_short()
    figures.write_text("900 710 300 0 0 0 0\n")
    assert not memory.is_short()
    figures.write_text("900 711 300 0 0 0 0\n")
    assert memory.is_short()


def test_memory_is_short_where_nobody_tells(tmp_path) -> None:
    """Without figures nothing is waited for that may turn out large."""
    assert ResidentMemory(1 << 40, path=tmp_path / "missing").is_short()


@pytest.mark.parametrize(
    "unit",
    [
        "{},",
        '{"a":1},',
        "1234,",
        "1.5,",
        '"ab",',
        '"éü",',
        '{"key":"k","value":{"stringValue":"v 17"}},',
        '"\U0001f600",',
    ],
)
def test_what_reading_json_takes_is_known_before(unit) -> None:
    """The estimate is not less than what is taken, and not out of all proportion."""
    body = ('{"x":[' + unit * (200_000 // len(unit)) + "0]}").encode()
    tracemalloc.start()
    try:
        transcode(Signal.TRACES, body)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken / 1.6 < memory_needed(body) < 4 * taken
