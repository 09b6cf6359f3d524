"""Which requests share an append call, where it is made, and that each gets its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from comet_otel.receiver.errors import InternalError, NotStoredError, OverloadedError
from comet_otel.receiver.grouping import GROUP_BYTES, GROUP_BYTES_MAX, LARGE_WAITING_MAX, Grouping
from comet_otel.receiver.preparing import Request
from comet_otel.receiver.storing import Stored
from comet_otel.streams import Signal


class Store:
    """Records the groups that it gets, and in which thread."""

    def __init__(self) -> None:
        """Store everything, until told otherwise."""
        self.groups: list[list[bytes]] = []
        self.threads: list[bool] = []
        self.answer: Callable[[bytes], Any] = lambda body: Stored(entries=len(body))

    def __call__(self, signal, requests) -> list[Any]:
        """Take a group."""
        assert signal is Signal.TRACES
        self.groups.append([request.body for request in requests])
        self.threads.append(threading.current_thread() is not threading.main_thread())
        return [self.answer(request.body) for request in requests]


def run(
    scenario: Callable[[Grouping, Store], Coroutine[Any, Any, Any]], *, wait: float = 60.0, quick: bool = True
) -> Store:
    """Run a scenario on a grouping that has proved quick, and return what was stored."""

    async def main() -> Store:
        store = Store()
        grouping = Grouping(store, group_wait=wait, appends_are_quick=quick)
        await grouping.submit(Request(Signal.TRACES, b"first"))
        store.groups.clear()
        store.threads.clear()
        await scenario(grouping, store)
        grouping.close()
        return store

    return asyncio.run(main())


def test_the_first_append_of_a_lane_is_a_threads() -> None:
    """Claiming a lane may mean to recover it; the event loop serves meanwhile. What follows is quick."""

    async def scenario(grouping: Grouping, store: Store) -> None:
        await grouping.submit(Request(Signal.TRACES, b"second"))

    async def main() -> list[bool]:
        store = Store()
        grouping = Grouping(store, group_wait=0, appends_are_quick=True)
        for body in (b"first", b"second"):
            await grouping.submit(Request(Signal.TRACES, body))
        grouping.close()
        return store.threads

    assert asyncio.run(main()) == [True, False]


def test_a_request_that_is_alone_does_not_wait() -> None:
    """When nothing else is arriving, a small request is stored at once, whatever the time to wait is."""

    async def scenario(grouping: Grouping, store: Store) -> None:
        assert await grouping.submit(Request(Signal.TRACES, b"abc")) == Stored(entries=3)

    assert run(scenario).groups == [[b"abc"]]


def test_nothing_waits_behind_what_turns_out_large() -> None:
    """A request that is marked on its way is stored later and alone, while others go on; too many are refused."""
    go_on = threading.Event()

    class Marking(Store):
        def __call__(self, signal, requests) -> list[Any]:
            for request in requests:
                if request.is_large:
                    assert go_on.wait(60)
            answers = super().__call__(signal, requests)
            for index, request in enumerate(requests):
                if request.encoding == "zstd" and not request.is_large:
                    request.is_large, answers[index] = True, None
            return answers

    async def main() -> None:
        store = Marking()
        grouping = Grouping(store, group_wait=0, appends_are_quick=True)
        large = [
            grouping.submit(Request(Signal.TRACES, b"%d" % number, "zstd")) for number in range(LARGE_WAITING_MAX + 5)
        ]
        for _ in range(20):
            assert await grouping.submit(Request(Signal.TRACES, b"small")) == Stored(entries=5)
        while sum(answer.done() for answer in large) < 4:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        assert {type(answer.result()) for answer in large if answer.done()} == {OverloadedError}
        go_on.set()
        answers = await asyncio.gather(*large)
        assert sum(isinstance(answer, OverloadedError) for answer in answers) == 4
        assert all(len(group) == 1 for group in store.groups[-LARGE_WAITING_MAX:])
        grouping.close()

    asyncio.run(main())


def test_small_requests_wait_for_one_that_is_arriving() -> None:
    """While another is on its way, small requests gather, and the last one to arrive takes all with it."""

    async def scenario(grouping: Grouping, store: Store) -> None:
        grouping.arriving = 1
        waiting = [grouping.submit(Request(Signal.TRACES, body)) for body in (b"a", b"bb")]
        assert store.groups == []
        grouping.arriving = 0
        last = grouping.submit(Request(Signal.TRACES, b"ccc"))
        assert [(await answer).entries for answer in (*waiting, last)] == [1, 2, 3]

    assert run(scenario).groups == [[b"a", b"bb", b"ccc"]]


def test_the_wait_is_bounded() -> None:
    """A request whose neighbour never arrives is stored after the time to wait."""

    async def scenario(grouping: Grouping, store: Store) -> None:
        grouping.arriving = 1
        await grouping.submit(Request(Signal.TRACES, b"a"))

    assert run(scenario, wait=0.001).groups == [[b"a"]]


def test_a_large_request_does_not_wait() -> None:
    """A body that is worth a frame takes those that wait with it; more than a group may have goes to another."""
    large = bytes(GROUP_BYTES)
    larger = bytes(GROUP_BYTES_MAX)

    async def scenario(grouping: Grouping, store: Store) -> None:
        grouping.arriving = 1
        small = grouping.submit(Request(Signal.TRACES, b"a"))
        await asyncio.gather(small, grouping.submit(Request(Signal.TRACES, large)))
        small = grouping.submit(Request(Signal.TRACES, b"b"))
        await asyncio.gather(small, grouping.submit(Request(Signal.TRACES, larger)))

    assert run(scenario).groups == [[b"a", large], [b"b"], [larger]]


@pytest.mark.parametrize(
    ("settings", "in_thread"),
    [
        ({"body": b"a"}, False),
        ({"body": b"a", "encoding": "gzip"}, False),
        ({"body": b"a", "is_json": True}, False),
        ({"body": b"a", "encoding": "zstd"}, True),
        ({"body": bytes(5000), "encoding": "gzip"}, True),
        ({"body": bytes(5000), "is_json": True}, True),
        ({"body": bytes(GROUP_BYTES_MAX + 1)}, True),
    ],
)
def test_what_may_be_much_work_is_a_threads(settings, in_thread) -> None:
    """Large or encoded bodies are worked on in a thread, others where they are."""

    async def scenario(grouping: Grouping, store: Store) -> None:
        await grouping.submit(Request(Signal.TRACES, **settings))

    assert run(scenario).threads == [in_thread]
    assert run(scenario, quick=False).threads == [True]


def test_after_a_refusal_of_the_log_groups_are_a_threads() -> None:
    """A log that refused may be slow to refuse again."""

    async def scenario(grouping: Grouping, store: Store) -> None:
        store.answer = lambda _: NotStoredError("full")
        assert isinstance(await grouping.submit(Request(Signal.TRACES, b"a")), NotStoredError)
        await grouping.submit(Request(Signal.TRACES, b"b"))

    assert run(scenario).threads == [False, True]


def test_an_unexpected_error_is_an_answer() -> None:
    """If storing itself fails, each request of the group is told so, and the next group is stored."""

    async def scenario(grouping: Grouping, store: Store) -> None:
        store.answer = lambda _: 1 / 0
        assert isinstance(await grouping.submit(Request(Signal.TRACES, b"a")), InternalError)
        store.answer = lambda _: Stored(entries=1)
        assert await grouping.submit(Request(Signal.TRACES, b"b")) == Stored(entries=1)

    run(scenario)


def test_while_groups_are_stored_others_gather() -> None:
    """With two groups in threads the rest waits, and goes together when one of them is done."""
    gate = threading.Event()

    async def scenario(grouping: Grouping, store: Store) -> None:
        def answer(body: bytes) -> Stored:
            gate.wait(60)
            return Stored(entries=1)

        store.answer = answer
        waiting = [grouping.submit(Request(Signal.TRACES, bytes([number]))) for number in range(6)]
        gate.set()
        await asyncio.gather(*waiting)

    groups = run(scenario, quick=False).groups
    assert sorted(map(len, groups)) == [1, 1, 4]
