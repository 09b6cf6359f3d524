"""The dead letters of a log: found, told of, and sent on their way again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from comet_cli.opening import shard_names
from comet_storage import AckError, Client, Consumer, MessageID, StreamMessage
from shipper.delivery.dead_letters import STREAM, DeadLetter, NotADeadLetterError, decode

REPLAY_GROUP = "replay"
"""Consumer group of those that were sent on their way again."""

_READ_ENTRIES = 100


@dataclass(frozen=True)
class StoredLetter:
    """A dead letter, and the entries that hold it."""

    ids: tuple[MessageID, ...]
    letter: DeadLetter

    def facts(self) -> dict[str, Any]:
        """Everything but the request itself."""
        found = asdict(self.letter)
        body = found.pop("body")
        return {"id": str(self.ids[0]), **found, "bytes": len(body)}


@dataclass(frozen=True)
class Wanted:
    """Which dead letters are meant; None leaves all."""

    destination: str | None = None
    signal: str | None = None
    code: str | None = None
    since: int | None = None

    def __contains__(self, stored: object) -> bool:
        return (
            isinstance(stored, StoredLetter)
            and self.destination in (None, stored.letter.destination)
            and self.signal in (None, stored.letter.signal)
            and self.code in (None, stored.letter.code)
            and (self.since is None or stored.letter.last_try * 1e9 >= self.since)
        )


def stored_letters(client: Client) -> Iterator[StoredLetter]:
    """All dead letters that the log holds, by shard in order."""
    for name in shard_names(client, STREAM) if STREAM in client.streams() else ():
        yield from _joined(client.scan(name))


def _joined(messages: Iterable[StreamMessage]) -> Iterator[StoredLetter]:
    """Dead letters of records in order; two that hold one request become one. What is none is left out."""
    half: StoredLetter | None = None
    for message in messages:
        try:
            letter = decode(message.data)
        except NotADeadLetterError:
            continue
        if letter.fragment == "1/2":
            half = StoredLetter((message.id,), letter)
            continue
        ids: tuple[MessageID, ...] = (message.id,)
        if letter.fragment == "2/2" and half is not None and half.letter.request_id == letter.request_id:
            ids = (*half.ids, message.id)
            letter = replace(letter, fragment="", body=half.letter.body + letter.body)
        half = None
        yield StoredLetter(ids, letter)


def replay_letters(client: Client, wanted: Wanted, *, dry_run: bool = False) -> Iterator[StoredLetter]:
    """Append each request to the stream that it came from, so that it is delivered anew; yields those that were.

    With ``dry_run`` nothing is appended.

    1. The request is appended. It survives ``kill -9`` from here on.
    2. Its records are acknowledged by the group of what was replayed. A crash before: the next replay appends it again.

    Raises:
        CometError: the log could not take it, or another replay runs. What was appended before stays so.
    """
    if STREAM not in client.streams():
        return
    client.register_group(STREAM, REPLAY_GROUP)
    # The dead letters stay within their share whether they are ever replayed or not.
    client.protect_group(STREAM, REPLAY_GROUP, protect=False)
    with Consumer(client, REPLAY_GROUP, stream=STREAM) as consumer:
        for shard in client.shards(STREAM):
            if consumer.position(shard) is None:
                raise AckError(f"shard {shard} of {STREAM} is being replayed by another process")
            for stored in _joined(_unreplayed(consumer, shard)):
                # A half whose other one is gone is no request any more.
                if stored in wanted and not stored.letter.fragment:
                    if not dry_run:
                        client.lanes(stored.letter.stream).append([stored.letter.body])
                        consumer.ack(*stored.ids)
                    yield stored
        client.sync()


def _unreplayed(consumer: Consumer, shard: int) -> Iterator[StreamMessage]:
    number = 0
    while messages := consumer.read_from(shard, number, _READ_ENTRIES):
        yield from messages
        number = messages[-1].id.entry_number + 1
