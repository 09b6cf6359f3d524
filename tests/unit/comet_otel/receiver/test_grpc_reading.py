"""Which gRPC messages are waited for, and how long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from comet_otel.receiver import ReceiverConfig, grpc_reading
from comet_otel.receiver.errors import OverloadedError, ReceiverError, TooSlowError
from comet_otel.receiver.grpc_reading import Reading

CONFIG = ReceiverConfig(max_body_bytes=1000, max_bytes_in_flight=8000)
PLACES = 2


class Memory:
    """Says what it is told to."""

    def __init__(self, *, short: bool) -> None:
        """Begin with that."""
        self.short = short

    def is_short(self) -> bool:
        """Say it."""
        return self.short


class Call:
    """A call whose message comes when `message` is set."""

    def __init__(self) -> None:
        """Without a message yet."""
        self.message: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def read(self) -> bytes:
        """Wait for it."""
        return await asyncio.shield(self.message)


async def answer(waiting: Awaitable[bytes]) -> bytes | type[ReceiverError]:
    """Return the message, or why there is none."""
    try:
        return await waiting
    except ReceiverError as error:
        return type(error)


async def waiting_calls(reading: Reading, count: int) -> tuple[list[Call], list[asyncio.Task]]:
    """Begin to read so many messages, and return when all of them are slow or refused."""
    calls = [Call() for _ in range(count)]
    tasks = [asyncio.create_task(answer(reading.message(call))) for call in calls]
    await asyncio.sleep(0)
    while reading._quick.taken:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    return calls, tasks


def test_a_message_that_is_there_is_read() -> None:
    """Nothing is left of the waiting."""

    async def run() -> None:
        reading, call = Reading(CONFIG, Memory(short=True)), Call()
        call.message.set_result(b"x")
        assert await reading.message(call) == b"x"
        assert not reading._slow
        assert not reading._quick.taken

    asyncio.run(run())


def test_slow_messages_are_waited_for_while_there_is_memory() -> None:
    """Many clients with thin lines get through at the same time."""

    async def run() -> None:
        reading = Reading(CONFIG, Memory(short=False))
        calls, tasks = await waiting_calls(reading, 50)
        for call in calls:
            call.message.set_result(b"x")
        assert await asyncio.gather(*tasks) == [b"x"] * 50
        assert not reading._slow

    asyncio.run(run())


def test_few_slow_messages_are_waited_for_without_memory() -> None:
    """The first that become slow have the places; the others are told to come back."""

    async def run() -> None:
        reading = Reading(CONFIG, Memory(short=True))
        calls, tasks = await waiting_calls(reading, 10)
        for call in calls:
            call.message.set_result(b"x")
        assert await asyncio.gather(*tasks) == [b"x"] * PLACES + [OverloadedError] * (10 - PLACES)

    asyncio.run(run())


def test_when_memory_becomes_short_the_oldest_go_on() -> None:
    """Those beyond the places are refused at the next look."""

    async def run() -> None:
        memory = Memory(short=False)
        reading = Reading(CONFIG, memory)
        calls, tasks = await waiting_calls(reading, 10)
        memory.short = True
        while len(reading._slow) > PLACES:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        for call in calls:
            call.message.set_result(b"x")
        answers = await asyncio.gather(*tasks)
        assert answers.count(OverloadedError) == 10 - PLACES

    asyncio.run(run())


def test_a_place_is_given_up_when_others_want_it(monkeypatch) -> None:
    """Without memory, one that has had its place for long enough makes room, and the next one has it."""
    monkeypatch.setattr(grpc_reading, "YIELD_AFTER_SECONDS", 0.2)

    async def run() -> None:
        reading = Reading(CONFIG, Memory(short=True))
        _, holders = await waiting_calls(reading, PLACES)
        served = False
        while not served:
            calls, tasks = await waiting_calls(reading, 1)
            calls[0].message.set_result(b"x")
            served = await tasks[0] == b"x"
        assert OverloadedError in [task.result() for task in holders if task.done()]
        for task in holders:
            task.cancel()

    asyncio.run(run())


def test_a_message_that_never_comes_is_given_up() -> None:
    """Also where nobody else wants anything."""

    async def run() -> None:
        reading = Reading(ReceiverConfig(body_timeout=0.01), Memory(short=False))
        _, tasks = await waiting_calls(reading, 3)
        assert await asyncio.gather(*tasks) == [TooSlowError] * 3
        assert not reading._slow

    asyncio.run(run())


def test_a_call_that_is_cancelled_leaves_nothing() -> None:
    """Whoever hangs up is forgotten."""

    async def run() -> None:
        reading = Reading(CONFIG, Memory(short=False))
        _, tasks = await waiting_calls(reading, 3)
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(found, asyncio.CancelledError) for found in await asyncio.gather(*tasks, return_exceptions=True)
        )
        assert not reading._slow

    asyncio.run(run())
