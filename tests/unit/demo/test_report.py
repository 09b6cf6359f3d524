"""The demo's verdict: a missing item must show, a doubled one must show, and half a line must not confuse it."""

from __future__ import annotations

import io

from rich.console import Console

from demo.ledger import Ledger, count_ids
from demo.report import SignalReport, compare, print_report


def test_losses_and_duplicates_are_found(tmp_path) -> None:
    """By id, over the ledgers of several processes on one side and one on the other."""
    exported, received = tmp_path / "exported", tmp_path / "received.jsonl"
    exported.mkdir()
    for ids in (["a", "b"], ["c", "d"]):
        Ledger.of_this_process(exported).note("traces", ids)
    collector = Ledger(received)
    for ids in (["a", "b"], ["b", "c"], ["unknown"]):
        collector.note("traces", ids)
    traces, logs, _ = compare(exported, received)
    assert traces == SignalReport("traces", exported=4, delivered=4, duplicates=1, lost=1)
    assert logs == SignalReport("logs", exported=0, delivered=0, duplicates=0, lost=0)


def test_half_a_line_is_left_out_and_the_next_one_is_not(tmp_path) -> None:
    """A process that is killed while it writes leaves one."""
    file = tmp_path / "ledger.jsonl"
    Ledger(file).note("logs", ["a"])
    with file.open("ab") as ledger:
        ledger.write(b'{"signal": "logs", "ids": ["b')
    Ledger(file).note("logs", ["c"])
    assert count_ids(file)["logs"] == {"a": 1, "c": 1}


def test_nothing_received_is_everything_lost(tmp_path) -> None:
    """Also when the collector never wrote its file."""
    Ledger(tmp_path / "exported.jsonl").note("metrics", ["a"])
    assert compare(tmp_path / "exported.jsonl", tmp_path / "none")[2].lost == 1


def test_the_table_shows_all_numbers(tmp_path) -> None:
    """On a terminal of 80 columns, or none at all."""
    output = io.StringIO()
    reports = [SignalReport("traces", exported=12_345, delivered=12_340, duplicates=7, lost=5)]
    print_report(Console(file=output, width=80), reports, peak_bytes=3 * 2**20, end_bytes=2**20)
    for text in ("12,345", "12,340", "7", "5", "3.0 MiB", "1.0 MiB"):
        assert text in output.getvalue()
