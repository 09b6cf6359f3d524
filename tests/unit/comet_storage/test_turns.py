"""Whose turn is it? Never that of a block which is over."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from comet_storage import LogBusyError, ReentrantAppendError
from comet_storage._shard.compression import Compression
from comet_storage._shard.context import ShardContext, WriterSettings
from comet_storage._shard.layout import ShardLayout
from comet_storage._shard.turns import Turns
from comet_storage.names import ShardName
from tests.support.engine import ManualDoor, free_reserve


@pytest.fixture
def turns(tmp_path) -> Turns:
    """A shard's turns, on a clock that only waiting moves."""
    door = ManualDoor()
    context = ShardContext(
        door=door,
        name=ShardName("turns", "v1", 0),
        layout=ShardLayout(door, str(tmp_path)),
        settings=WriterSettings(
            log_id=bytes(16),
            segment_size=4096,
            mapped=True,
            sync_each_append=False,
            refuse_unsynced=False,
            lock_timeout=1.0,
            max_entry_bytes=100,
            max_append_bytes=100,
            compression=Compression(min_size=1 << 30, level=1, clock=door.monotonic),
        ),
        reserve=free_reserve,
        log_time=lambda: 0,
        release=lambda _free: None,
        wake=lambda: None,
    )
    return Turns(context, (lambda: None).__code__)


def leave_open(turns: Turns) -> contextlib.AbstractContextManager[None]:
    """What an exception between the turn and the block's first line leaves behind, held by its traceback."""
    block = turns.turn()
    block.__enter__()
    return block


def test_a_turn_whose_block_is_over_is_free(turns) -> None:
    """Although whoever keeps the traceback keeps the block, and leaving it late frees nobody else's turn."""
    kept = leave_open(turns)
    with turns.turn():
        with contextlib.suppress(StopIteration):
            kept.__exit__(None, None, None)
        with pytest.raises(ReentrantAppendError), turns.turn():
            pass
    with turns.turn():
        pass


def test_a_turn_of_a_block_that_goes_on_is_waited_for_and_not_taken(turns) -> None:
    """Another thread's wait ends with LogBusyError; the turn is still the first one's."""
    outcomes: list[type[BaseException]] = []

    def try_it() -> None:
        try:
            with turns.turn():
                pass
        except LogBusyError as error:
            outcomes.append(type(error))

    with turns.turn():
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        with pytest.raises(ReentrantAppendError), turns.turn():
            pass
    assert outcomes == [LogBusyError]
    with turns.turn():
        pass


def test_a_turn_through_other_context_managers_is_that_of_their_user(turns) -> None:
    """The generators in between are suspended while the block runs, and that is not its end."""

    @contextlib.contextmanager
    def exclusive() -> Iterator[None]:
        with turns.turn():
            yield

    with exclusive(), pytest.raises(ReentrantAppendError), turns.turn():
        pass
    with turns.turn():
        pass
