"""Does a log with a consumer group behave like a list, whatever is done to it and whenever its process dies?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from comet_storage import AckError, Client, CometConfig, Consumer, RetentionConfig, StorageConfig
from comet_storage.types import MessageID
from tests.support.small_log import GROUP, QUICK, SHARD, STREAM, crash

SEGMENT_BYTES = 4096
RANGES_MAX = 60
CONFIG = CometConfig(
    storage=StorageConfig(max_file_size=SEGMENT_BYTES, sync_interval=300),
    retention=RetentionConfig(max_total_size=2 * SEGMENT_BYTES + 256 * 1024),
)
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def _do_nothing() -> None:
    """Instead of starting the flusher: its work is done by rules, so that eviction happens only when one says so."""


class LogMachine(RuleBasedStateMachine):
    """The model: a list of all entries, and for each number its class if it has left the group."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(dir=_MEMORY, prefix="comet-property-")
        self.entries: list[bytes] = []
        self.classes: dict[int, str] = {}
        self.start = 0
        self.read_last: list[int] = []
        self.open()

    def open(self) -> None:
        """A new client and consumer."""
        self.client = Client(self.directory.name, CONFIG, _door=QUICK)
        start: Callable[[], None] = _do_nothing
        self.client._start_flusher = start  # type: ignore[method-assign]
        self.consumer = Consumer(self.client, GROUP, stream=STREAM)
        self.read_last = []

    def teardown(self) -> None:
        """Remove everything."""
        self.consumer.close()
        self.client.close()
        self.directory.cleanup()

    # What the model says.

    def first_held(self) -> int:
        """The oldest number that is still stored."""
        return next((message.id.entry_number for message in self.client.scan(SHARD)), len(self.entries))

    def pending(self) -> list[int]:
        """Numbers that are in no class yet."""
        return [number for number in range(self.start, len(self.entries)) if number not in self.classes]

    def note_evicted(self) -> None:
        """The consumer reads: what is gone by now is evicted for good."""
        first = self.first_held()
        for number in self.pending():
            if number < first:
                self.classes[number] = "evicted"

    def ranges(self) -> int:
        """How many separate acknowledged ranges there are."""
        done = sorted(self.classes)
        return sum(1 for index, number in enumerate(done) if index == 0 or done[index - 1] != number - 1)

    # What can be done.

    @rule(count=st.one_of(st.integers(0, 8), st.integers(0, 300)), size=st.one_of(st.just(0), st.integers(0, 200)))
    def append(self, count: int, size: int) -> None:
        """One batch; also an empty one, and one of empty entries."""
        first = len(self.entries)
        batch = [str(first + index).encode().ljust(size, b".")[:size] for index in range(count)]
        ids = self.client.append(SHARD, batch)
        assert list(ids) == [MessageID(0, first + index) for index in range(count)]
        self.entries += batch

    @rule(count=st.integers(1, 400))
    def read(self, count: int) -> None:
        """The unacknowledged entries, in order, with their bytes."""
        self.note_evicted()
        messages = self.consumer.read(count=count)
        assert [message.id.entry_number for message in messages] == self.pending()[:count]
        assert all(message.data == self.entries[message.id.entry_number] for message in messages)
        self.read_last = [message.id.entry_number for message in messages]

    @precondition(lambda self: self.read_last and self.ranges() < RANGES_MAX)
    @rule(data=st.data(), kind=st.sampled_from(["delivered", "delivered", "rejected"]))
    def acknowledge(self, data: Any, kind: str) -> None:
        """Some of what was read last, in any order."""
        low = data.draw(st.integers(0, len(self.read_last) - 1))
        high = data.draw(st.integers(low, len(self.read_last) - 1))
        chosen = data.draw(st.permutations(self.read_last[low : high + 1][:20]))
        ids = [MessageID(0, number) for number in chosen]
        if kind == "delivered":
            self.consumer.ack(*ids)
        else:
            self.consumer.reject(*ids, reason="a test")
        for number in chosen:
            if number >= self.start:
                self.classes.setdefault(number, kind)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def reset(self, data: Any) -> None:
        """To any number, forwards or backwards."""
        self.read(1)
        target = data.draw(st.integers(0, len(self.entries)))
        self.consumer.reset_offset(0, target)
        pending = self.pending()
        offset = pending[0] if pending else len(self.entries)
        if target < offset:
            self.start = target
            self.classes = {}
        else:
            self.classes.update((number, "skipped") for number in pending if number < target)
        self.read_last = []

    @precondition(lambda self: self.entries)
    @rule(beyond=st.integers(0, 5))
    def acknowledge_what_was_not_read(self, beyond: int) -> None:
        """Refused, and nothing changes."""
        with pytest.raises(AckError):
            self.consumer.ack(MessageID(0, len(self.entries) + beyond))

    @rule()
    def flush(self) -> None:
        """What the flusher does."""
        self.client._flush()
        self.client._grow_ahead()

    @rule()
    def reopen(self) -> None:
        """Close everything and open it again."""
        self.consumer.close()
        self.client.close()
        self.open()

    @rule()
    def die(self) -> None:
        """The process is killed, and the next one opens the log."""
        crash(self.client)
        self.open()

    # What holds always.

    @invariant()
    def every_number_is_in_exactly_one_class(self) -> None:
        """The accounting is the model's."""
        first = self.first_held()
        found = self.client.shard_accounting(STREAM, 0, GROUP)
        expected = dict.fromkeys(("delivered", "rejected", "skipped", "evicted", "pending"), 0)
        for number in range(self.start, len(self.entries)):
            expected[self.classes.get(number, "evicted" if number < first else "pending")] += 1
        assert {name: getattr(found, name) for name in expected} == expected
        assert (found.total, found.corrupt, found.lost) == (len(self.entries) - self.start, 0, 0)

    @invariant()
    def what_is_held_is_whole(self) -> None:
        """From the oldest held number on, every entry is there, in order, with its bytes."""
        found = [(message.id.entry_number, message.data) for message in self.client.scan(SHARD)]
        first = found[0][0] if found else len(self.entries)
        assert found == list(enumerate(self.entries))[first:]


TestLogAgainstAList = pytest.mark.slow(LogMachine.TestCase)
