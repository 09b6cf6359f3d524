"""Consumers and their groups beside the model: what is read, acknowledged, rejected, skipped, and handed over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from comet_storage import AckError, Client, Consumer
from comet_storage._format.group_record import GroupRecord, decode_group_file
from comet_storage.types import MessageID, StreamMessage
from tests.support.log_model import DELIVERED, LOST, REJECTED, Place, ShardModel
from tests.support.log_world import LogWorld, OpenClient, OpenConsumer, Outcome, outcome_of

EVERYTHING = 1 << 30


VIEWS_PER_READ = 20
VIEWS_MAX = 200


class GroupWorld(LogWorld):
    """A log with consumers."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.views: list[tuple[bytes | memoryview, bytes]] = []
        """What was read without copying, and what it was then."""

    def open_consumer(self, holder: OpenClient, stream: str, group: str, start: str) -> OpenConsumer:
        """A consumer, which makes the group if it is new."""
        reader = OpenConsumer(holder, Consumer(holder.client, group, stream=stream, start=start), stream, group)
        self._register(stream, group, start)
        self.consumers.append(reader)
        return reader

    def _register(self, stream: str, group: str, start: str) -> None:
        if (stream, group) in self.places:
            return
        places = self.places[stream, group] = {}
        for shard_id, shard in self._shards_of(stream).items():
            places[shard_id] = [Place(shard.next_number if start == "newest" else shard.first)]

    def _shards_of(self, stream: str) -> dict[int, ShardModel]:
        """The shards of a stream that exist."""
        found = {int(name[-4:]): shard for name, shard in self.shards.items() if name.startswith(f"{stream}:shard:")}
        return {
            shard_id: shard
            for shard_id, shard in sorted(found.items())
            if self.shard_directory(f"{stream}:shard:{shard_id:04d}").is_dir()
        }

    def close_consumer(self, reader: OpenConsumer) -> None:
        """Close it in the regular way."""
        reader.consumer.close()
        self.forget_consumer(reader, synced=True)

    def drop_consumer(self, reader: OpenConsumer) -> None:
        """Nobody holds it any more, and nobody closed it."""
        del reader.consumer
        self.forget_consumer(reader, synced=False)

    def sync_consumer(self, reader: OpenConsumer) -> None:
        """Its acknowledgements are durable."""
        reader.consumer.sync()
        for shard_id in reader.places:
            self.stored(reader.stream, reader.group, shard_id)[:-1] = []

    def delete_group(self, holder: OpenClient, stream: str, group: str) -> None:
        """The group is gone; who still has a consumer of it is told so."""
        holder.client.delete_group(stream, group)
        del self.places[stream, group]
        for reader in [reader for reader in self.consumers if (reader.stream, reader.group) == (stream, group)]:
            for shard_id, place in reader.places.items():
                if place.seen > place.start:
                    with pytest.raises(AckError):
                        reader.consumer.ack_range(shard_id, place.start, place.start)
            reader.consumer.close()
            self.consumers.remove(reader)

    # Leases.

    def lease(self, reader: OpenConsumer, shard_id: int) -> Place | None:
        """The consumer's place in a shard, if it has the shard or gets it."""
        if shard_id in reader.places:
            return reader.places[shard_id]
        if shard_id not in self._shards_of(reader.stream):
            return None
        for other in self.consumers:
            if (other.stream, other.group) == (reader.stream, reader.group) and shard_id in other.places:
                return None
        place = reader.places[shard_id] = self.stored(reader.stream, reader.group, shard_id)[-1].stored()
        self.tally["leases"] += 1
        return place

    def _looked_at(self, reader: OpenConsumer, shard_id: int) -> Place | None:
        """The consumer's place in a shard that a read came to, which it may not when it was full before."""
        return self.lease(reader, shard_id) if shard_id in reader.consumer._cursors else None

    def _store(self, reader: OpenConsumer, shard_id: int) -> None:
        self.stored(reader.stream, reader.group, shard_id).append(reader.places[shard_id].stored())

    # Reading.

    def read(
        self, reader: OpenConsumer, shards: Sequence[int] | None, count: int, max_bytes: int, *, copy: bool = True
    ) -> None:
        """One read, of one shard or of several; what is not copied is kept, and stays what it is."""
        messages = reader.consumer.read(shards, count, max_bytes=max_bytes, copy=copy)
        if not copy:
            self.views += [(message.data, bytes(message.data)) for message in messages[:VIEWS_PER_READ]]
            del self.views[:-VIEWS_MAX]
        existing = sorted(self._shards_of(reader.stream))
        wanted = existing if shards is None else sorted(set(shards))
        if len(wanted) == 1:
            self.check_read(reader, wanted[0], count, max_bytes, messages)
            return
        self._check_shares(reader, wanted, count, max_bytes, messages)
        # How far the others were looked into is not known, and matters where numbers are missing.
        for shard_id in wanted:
            place = self._looked_at(reader, shard_id)
            if place is not None:
                shard = self._shards_of(reader.stream)[shard_id]
                missing = list(shard.gaps(place.offset))
                if missing:
                    more = EVERYTHING if missing[-1][2] == LOST else 1
                    self.check_read(
                        reader, shard_id, more, EVERYTHING, reader.consumer.read([shard_id], more, max_bytes=EVERYTHING)
                    )

    def check_read(
        self, reader: OpenConsumer, shard_id: int, count: int, max_bytes: int, messages: Sequence[StreamMessage]
    ) -> None:
        """Exactly the first unacknowledged entries of one shard, as many as were asked for."""
        place = self.lease(reader, shard_id)
        if place is None:
            assert messages == []
            return
        shard = self._shards_of(reader.stream)[shard_id]
        wanted = place.wants(shard.numbers[shard.held()])
        expected = self._first_of(shard, wanted, count, max_bytes)
        found = [message.id.entry_number for message in messages]
        # Behind the last byte that was asked for, empty entries of the same frame may come along.
        expected += [n for n in found[len(expected) : count] if expected and not shard.entry(n)]
        assert found == expected == wanted[: len(found)]
        self._check_messages(reader, messages)
        more = len(messages) < count and sum(len(message.data) for message in messages) < max_bytes
        looked_up_to = expected[-1] if expected else -1
        if more:
            looked_up_to = wanted[len(expected)] if len(expected) < len(wanted) else shard.next_number
        if count > 0:
            self._looked(reader, shard_id, looked_up_to, found)

    def _looked(self, reader: OpenConsumer, shard_id: int, looked_up_to: int, found: list[int]) -> None:
        """The gaps that were met on the way are counted, and what was found can be acknowledged."""
        place = reader.places[shard_id]
        offset = place.offset
        for first, end, kind in list(self._shards_of(reader.stream)[shard_id].gaps(offset)):
            if first < looked_up_to or first == offset:
                place.note_gap(first, end, kind)
        if found:
            place.note_seen(found[-1] + 1)
        if place.offset != offset:
            self._store(reader, shard_id)

    @staticmethod
    def _first_of(shard: ShardModel, wanted: list[int], count: int, max_bytes: int) -> list[int]:
        """The numbers that one read returns: the first one also when it is over ``max_bytes``."""
        expected: list[int] = []
        size = 0
        for number in wanted[: max(0, count)]:
            size += len(shard.entry(number))
            if expected and size > max_bytes:
                break
            expected.append(number)
            if size >= max_bytes:
                break
        return expected

    def _check_shares(
        self, reader: OpenConsumer, wanted: list[int], count: int, max_bytes: int, messages: Sequence[StreamMessage]
    ) -> None:
        """Each shard's messages are its first unacknowledged ones, and no shard is left out for another."""
        assert len(messages) <= max(0, count)
        size = sum(len(message.data) for message in messages)
        assert size <= max_bytes or len([message for message in messages if message.data]) == 1
        self._check_messages(reader, messages)
        by_shard: defaultdict[int, list[int]] = defaultdict(list)
        for message in messages:
            by_shard[message.id.shard_id].append(message.id.entry_number)
        full = len(messages) >= count or size >= max_bytes
        for shard_id in wanted:
            place = self._looked_at(reader, shard_id) if full else self.lease(reader, shard_id)
            found = by_shard.pop(shard_id, [])
            if place is None:
                assert found == []
                continue
            shard = self._shards_of(reader.stream)[shard_id]
            pending = place.wants(shard.numbers[shard.held()])
            assert found == pending[: len(found)]
            if max_bytes == EVERYTHING:
                assert len(found) >= min(len(pending), count // len(wanted))
            if found:
                self._looked(reader, shard_id, found[-1], found)
        assert not by_shard

    def _check_messages(self, reader: OpenConsumer, messages: Iterable[StreamMessage]) -> None:
        """Their bytes, names and times."""
        for message in messages:
            name = f"{reader.stream}:shard:{message.id.shard_id:04d}"
            assert message.stream == name
            assert message.data == self.shards[name].entry(message.id.entry_number)
            reader.given.append(message.id)

    # Acknowledging.

    def acknowledge(self, reader: OpenConsumer, ids: Sequence[MessageID], kind: int) -> None:
        """Ids in any order, of any shards; all of them or, with an error, none."""
        if kind == REJECTED:
            found = outcome_of(lambda: reader.consumer.reject(*ids, reason="a test"))
        else:
            found = outcome_of(lambda: reader.consumer.ack(*ids))
        self.check_acknowledged(reader, [(i.shard_id, i.entry_number, i.entry_number + 1) for i in ids], kind, found)

    def acknowledge_range(self, reader: OpenConsumer, shard_id: int, first: int, last: int) -> None:
        """A range of numbers."""
        found = outcome_of(lambda: reader.consumer.ack_range(shard_id, first, last))
        self.check_acknowledged(reader, [(shard_id, first, last + 1)], DELIVERED, found)

    def check_acknowledged(
        self, reader: OpenConsumer, ranges: Sequence[tuple[int, int, int]], kind: int, found: Outcome
    ) -> None:
        """Refused as a whole if anything of it was not delivered to this consumer."""
        refused = False
        for shard_id in dict.fromkeys(shard_id for shard_id, _, _ in ranges):
            if self.lease(reader, shard_id) is None:
                refused = True
                break
        if not refused:
            refused = any(first >= end for _, first, end in ranges) or not all(
                reader.places[shard_id].may_acknowledge(first, end) for shard_id, first, end in ranges
            )
        assert found.error == ("AckError" if refused else None)
        if refused:
            self.tally["AckError"] += 1
            return
        for shard_id, first, end in ranges:
            reader.places[shard_id].acknowledge(first, end, kind)
        for shard_id in {shard_id for shard_id, _, _ in ranges}:
            self._store(reader, shard_id)

    def reset(self, reader: OpenConsumer, shard_id: int, entry: int) -> None:
        """Go to a number, or so many back from the end."""
        found = outcome_of(lambda: reader.consumer.reset_offset(shard_id, entry))
        place = self.lease(reader, shard_id)
        shard = self._shards_of(reader.stream).get(shard_id)
        target = max(0, shard.next_number + entry) if entry < 0 and shard is not None else entry
        if place is None or shard is None or target > shard.next_number:
            assert found.error == "AckError"
            return
        assert found.error is None
        place.reset(target)
        self._store(reader, shard_id)

    # In a forked child.

    def consume_in_child(self, holder: OpenClient, stream: str, group: str, shard_id: int, count: int) -> None:
        """A child makes a consumer of its own, reads, acknowledges half, and ends without a word."""

        def consume() -> list[StreamMessage]:
            consumer = Consumer(holder.client, group, stream=stream)
            messages = consumer.read([shard_id], count)
            consumer.ack(*(message.id for message in messages[::2]))
            return messages

        found = self.in_child(consume)
        assert found.error is None
        self._register(stream, group, "oldest")
        reader = OpenConsumer(holder, None, stream, group)  # type: ignore[arg-type]  # it lived in the child
        self.consumers.append(reader)
        self.check_read(reader, shard_id, count, EVERYTHING, found.value)
        if found.value:
            ranges = [(shard_id, m.id.entry_number, m.id.entry_number + 1) for m in found.value[::2]]
            self.check_acknowledged(reader, ranges, DELIVERED, Outcome())
        self.forget_consumer(reader, synced=False)

    # After a power cut.

    def _learn_what_is_stored(self) -> None:
        for (stream, group), places in self.places.items():
            for shard_id, history in places.items():
                path = self.shard_directory(f"{stream}:shard:{shard_id:04d}") / f"group-{group}"
                found = decode_group_file(path.read_bytes()) if path.exists() else None
                fields = _fields(found.record if found else GroupRecord())
                kept = [place for place in history if place.fields() == fields]
                assert kept, f"{stream} {group} {shard_id}: {fields} is not among {[p.fields() for p in history]}"
                history[:] = kept[-1:]

    # What holds always.

    def check_views(self) -> None:
        """What was read without copying is what it was, through eviction, close and power cut."""
        assert all(view == data for view, data in self.views), "a view changed"

    def check_groups(self, client: Client) -> None:
        """The groups are those that were made, and every number of every shard is in exactly the model's class."""
        for stream in {name.rpartition(":shard:")[0] for name in self.shards}:
            groups = sorted(group for known, group in self.places if known == stream)
            assert client.groups(stream) == groups
            for group in groups:
                for shard_id, shard in self._shards_of(stream).items():
                    expected = self.stored(stream, group, shard_id)[-1].accounting(shard)
                    found = client.shard_accounting(stream, shard_id, group)
                    classes = {name: getattr(found, name) for name in expected}
                    assert classes == expected, f"{stream} {shard_id} {group}: {classes}, not {expected}; {shard}"
                    for name in ("delivered", "rejected", "skipped", "evicted", "lost"):
                        self.tally[name] += expected[name]


def _fields(record: GroupRecord) -> tuple[Any, ...]:
    counts = (record.rejected, record.skipped, record.evicted, record.corrupt, record.lost)
    return (record.start, record.offset, *counts, record.ranges)
