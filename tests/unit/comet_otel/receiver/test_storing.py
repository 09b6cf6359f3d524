"""What each refusal of the log means to a sender."""

from __future__ import annotations

import gzip
from types import SimpleNamespace

import pytest

from comet_otel.receiver import preparing
from comet_otel.receiver.duplicates import Duplicates
from comet_otel.receiver.errors import InternalError, NotStoredError, TooLargeError, UndecodableError
from comet_otel.receiver.preparing import Preparer, Request
from comet_otel.receiver.storing import Stored, Storing, entry_bytes_max
from comet_otel.streams import Signal
from comet_storage import (
    BatchTooLarge,
    ClosedError,
    CometConfig,
    EntryTooLarge,
    LogBusyError,
    LogFullError,
    LogMovedError,
    RetentionConfig,
    ShardLostError,
    StorageIOError,
)
from tests.support.otlp_requests import trace_request


class Log:
    """A client that stores in a list, or refuses."""

    def __init__(self, *, max_append_bytes: int = 1000) -> None:
        """Take everything."""
        self.appended: list[list[bytes]] = []
        self.refusal: Exception | None = None
        self.data_dir = "log"
        self.config = SimpleNamespace(storage=SimpleNamespace(max_append_bytes=max_append_bytes))

    def lanes(self, stream: str) -> Log:
        """Return the only lane."""
        assert stream == "traces:v1"
        return self

    def append(self, entries) -> None:
        """Store, or refuse."""
        if self.refusal is not None:
            raise self.refusal
        self.appended.append(list(entries))


def storing(log: Log, *, duplicates: Duplicates | None = None) -> Storing:
    """Return what is tested, over a log."""
    duplicates = duplicates or Duplicates(60)
    preparer = Preparer(
        max_body_bytes=10_000, json_bytes_max=0, entry_bytes_max=400, item_bytes_max=400, duplicates=duplicates
    )
    return Storing(log, preparer, duplicates)


def request(body: bytes | None = None, **more) -> Request:
    """Return a request, by default a good one."""
    return Request(Signal.TRACES, trace_request() if body is None else body, **more)


@pytest.mark.parametrize(
    ("refusal", "expected", "broken"),
    [
        (LogFullError("full"), NotStoredError, False),
        (LogBusyError("busy"), NotStoredError, False),
        (ShardLostError("lost"), NotStoredError, False),
        (StorageIOError("disk"), NotStoredError, False),
        (ClosedError("closed"), NotStoredError, True),
        (LogMovedError("moved"), NotStoredError, True),
        (EntryTooLarge("entry"), TooLargeError, False),
        (BatchTooLarge("batch"), TooLargeError, False),
        (MemoryError(), NotStoredError, False),
    ],
)
def test_each_refusal_has_its_answer(refusal, expected, broken) -> None:
    """Where time may help the sender keeps its data; where it cannot it is told so; a dead client is noted."""
    log = Log()
    log.refusal = refusal
    stored = storing(log)
    [answer] = stored.store(Signal.TRACES, [request()])
    assert type(answer) is expected
    assert (stored.broken is refusal) is broken


def test_a_bad_request_costs_its_group_nothing() -> None:
    """The good requests of a group are stored in one call, and only the bad one is refused."""
    log = Log()
    good = [request(), request()]
    answers = storing(log).store(Signal.TRACES, [good[0], request(b"\xff"), good[1]])
    assert [type(answer) for answer in answers] == [Stored, UndecodableError, Stored]
    assert log.appended == [[good[0].body, good[1].body]]


def test_a_mistake_of_our_own_is_told_to_its_request_alone(monkeypatch) -> None:
    """An unexpected error while a request is looked at is an internal error of that request."""
    log = Log()
    bad = request(b"bad")
    prepare = Preparer.prepare
    monkeypatch.setattr(Preparer, "prepare", lambda self, one, work: 1 / 0 if one is bad else prepare(self, one, work))
    answers = storing(log).store(Signal.TRACES, [bad, request()])
    assert [type(answer) for answer in answers] == [InternalError, Stored]


def test_what_turns_out_large_is_left_to_others(monkeypatch) -> None:
    """It is marked and not stored, at no cost to its group, and stored when it comes again with its mark."""
    monkeypatch.setattr(preparing, "LARGE_BYTES", 1000)
    log = Log()
    stored = storing(log)
    small, large = request(), request(gzip.compress(trace_request(60)), encoding="gzip")
    assert [type(answer) for answer in stored.store(Signal.TRACES, [large, small])] == [type(None), Stored]
    assert (large.is_large, small.is_large, len(log.appended)) == (True, False, 1)
    [answer] = stored.store(Signal.TRACES, [large])
    assert isinstance(answer, Stored)
    assert len(log.appended) > 1


def test_what_is_too_much_for_one_call_goes_in_several() -> None:
    """Entries are appended in their order, each call within the log's limit."""
    log = Log(max_append_bytes=250)
    requests = [request() for _ in range(5)]
    storing(log).store(Signal.TRACES, requests)
    assert len(log.appended) > 1
    assert [entry for call in log.appended for entry in call] == [one.body for one in requests]
    assert all(sum(map(len, call)) <= 250 for call in log.appended)


def test_only_what_was_stored_is_a_duplicate_later() -> None:
    """A request that was refused is stored when it comes again; after that it is a duplicate."""
    log = Log()
    stored = storing(log)
    body = trace_request()
    log.refusal = LogFullError("full")
    stored.store(Signal.TRACES, [request(body, request_id="1")])
    log.refusal = None
    for duplicate in (False, True, True):
        [answer] = stored.store(Signal.TRACES, [request(body, request_id="1")])
        assert answer.duplicate is duplicate
    assert log.appended == [[body]]


def test_duplicates_are_forgotten_after_the_window() -> None:
    """After the window, the same request is stored again."""
    log, now = Log(), [0.0]
    stored = storing(log, duplicates=Duplicates(60, clock=lambda: now[0]))
    body = trace_request()
    for seconds in (0, 59, 61):
        now[0] = seconds
        stored.store(Signal.TRACES, [request(body, request_id="1")])
    assert log.appended == [[body], [body]]


def test_entries_stay_small_in_a_small_log() -> None:
    """A request is cut at what a collector takes, or at an eighth of the log if that is less."""
    assert entry_bytes_max(CometConfig.default()) == 4 * 1024 * 1024 - 64 * 1024
    assert entry_bytes_max(CometConfig(retention=RetentionConfig(max_total_size=4 * 1024 * 1024))) == 512 * 1024
