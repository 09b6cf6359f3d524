"""How bytes in flight and requests are shared out."""

from __future__ import annotations

import asyncio
import threading

import pytest

from comet_otel.receiver.allowance import Allowance
from comet_otel.receiver.errors import OverloadedError


def allowance(most: int = 10, wait: float = 60.0) -> Allowance:
    """Return an allowance whose waiters are patient."""
    return Allowance(most, wait_seconds=wait, what="tests")


def test_what_is_there_is_taken_and_given_back() -> None:
    """Amounts add up to the most and no further."""
    shared = allowance()
    assert [shared.try_take(6), shared.try_take(5), shared.try_take(4), shared.taken] == [True, False, True, 10]
    shared.give(6)
    assert shared.taken == 4


def test_the_youngest_waiter_is_served_first() -> None:
    """Of those that wait, the last one that came gets what is given back."""

    async def run() -> list[str]:
        shared, served = allowance(), []
        await shared.take(10)

        async def take(name: str) -> None:
            await shared.take(5)
            served.append(name)

        tasks = [asyncio.create_task(take(name)) for name in ("old", "young", "youngest")]
        await asyncio.sleep(0)
        shared.give(10)
        await asyncio.sleep(0)
        shared.give(5)
        await asyncio.gather(*tasks)
        return served

    assert asyncio.run(run()) == ["youngest", "young", "old"]


def test_who_waits_too_long_is_refused() -> None:
    """After the time to wait, the request is told to come back, and nothing is taken for it."""

    async def run() -> int:
        shared = allowance(wait=0.01)
        await shared.take(10)
        with pytest.raises(OverloadedError, match="too many tests"):
            await shared.take(1)
        shared.give(10)
        return shared.taken

    assert asyncio.run(run()) == 0


def test_a_waiter_that_is_cancelled_takes_nothing() -> None:
    """Cancelled while waiting, or in the moment of being served, it leaves the amount to others."""

    async def run(*, served: bool) -> int:
        shared = allowance()
        await shared.take(10)
        task = asyncio.create_task(shared.take(10))
        await asyncio.sleep(0)
        if served:
            shared.give(10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not served:
            shared.give(10)
        return shared.taken

    assert asyncio.run(run(served=False)) == 0
    assert asyncio.run(run(served=True)) == 0


def test_another_thread_can_give_to_a_waiter() -> None:
    """What a worker thread gives back wakes a waiter on the event loop."""

    async def run() -> int:
        shared = allowance()
        await shared.take(10)
        thread = threading.Timer(0.01, shared.give, [10])
        thread.start()
        await shared.take(3)
        thread.join()
        return shared.taken

    assert asyncio.run(run()) == 3
