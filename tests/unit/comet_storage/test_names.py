"""Names of streams, shards and groups, and the shard of a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_storage import all_shard_streams, all_shards_range, pick_shard, pick_shard_stream, shard_stream_name
from comet_storage.errors import InvalidStreamName
from comet_storage.names import (
    ShardName,
    parse_group,
    parse_shard_directory,
    parse_shard_stream,
    parse_stream,
    shard_directory_name,
)


@pytest.mark.parametrize(
    ("key", "shards"),
    [
        ("", (5, 197, 2)),
        ("a", (12, 44, 5)),
        ("user123", (6, 6, 6)),
        ("user-123", (3, 147, 4)),
        ("日本", (1, 81, 1)),
    ],
)
def test_a_key_goes_to_the_same_shard_as_in_the_original(key, shards) -> None:
    """FNV-1a over the key's UTF-8 bytes: the original's own vectors for 16, 256 and 7 shards."""
    assert tuple(pick_shard(key, count) for count in (16, 256, 7)) == shards
    assert pick_shard(key, 0) == pick_shard(key) == shards[0]


def test_the_helpers_write_full_names() -> None:
    """Numbers have four digits or more; a count of 0 means 16."""
    assert shard_stream_name("events", "v1", 3) == "events:v1:shard:0003"
    assert shard_stream_name("events", "v1", 12345) == "events:v1:shard:12345"
    assert pick_shard_stream("user123", "events", "v1") == "events:v1:shard:0006"
    assert all_shards_range(3) == [0, 1, 2]
    assert all_shards_range(0) == all_shards_range() == list(range(16))
    assert all_shard_streams("events", "v1", 2) == ["events:v1:shard:0000", "events:v1:shard:0001"]
    assert len(all_shard_streams("events", "v1", 0)) == 16


@pytest.mark.parametrize("shard", [0, 7, 9999, 10_000, 2**32 - 1])
def test_a_full_name_is_read_back_as_it_was_written(shard) -> None:
    """Writing and parsing are each other's inverse, for names and for directories."""
    name = ShardName("name.space-1", "v_2", shard)
    assert parse_shard_stream(str(name)) == name
    assert parse_stream(name.stream) == ("name.space-1", "v_2")
    assert parse_shard_directory(shard_directory_name(shard)) == shard


@pytest.mark.parametrize("name", ["a:b", "a:b:shard:*", "A.b-c_9:v1"])
def test_a_stream_may_be_named_with_the_pattern_of_its_shards(name) -> None:
    """`namespace:version` and `namespace:version:shard:*` are the same stream."""
    assert parse_stream(name) == tuple(name.split(":")[:2])


@pytest.mark.parametrize("name", ["shard-1", "shard-00001", "shard-", "shard-4294967296", "Shard-0001", "shard-0001x"])
def test_other_directories_are_no_shards(name) -> None:
    """Only the one canonical spelling is a shard."""
    assert parse_shard_directory(name) is None


@pytest.mark.parametrize("name", ["a" * 64 + ":v1", "9:9"])
def test_the_longest_and_the_shortest_parts_are_allowed(name) -> None:
    """Parts have 1 to 64 characters."""
    assert parse_stream(name) == tuple(name.split(":"))


@pytest.mark.parametrize("name", ["a" * 65 + ":v1", "-a:v1", ".a:v1", "_a:v1", "a :v1", "a:v1:", "a:v1:shard:**"])
def test_other_characters_and_lengths_are_refused(name) -> None:
    """The alphabet is that of plain file names."""
    with pytest.raises(InvalidStreamName):
        parse_stream(name)


@pytest.mark.parametrize("name", ["log.json:v1", "log.lock:v1", "retention.json:v1", "log.json.damaged:v1"])
def test_a_namespace_cannot_take_the_place_of_the_logs_own_files(name) -> None:
    """Their names are refused before anything is made, and only theirs: `log` and `log.app` are namespaces as any."""
    for parse in (parse_stream, lambda each: parse_shard_stream(f"{each}:shard:0001")):
        with pytest.raises(InvalidStreamName):
            parse(name)
    assert parse_stream("log.app:log.json") == ("log.app", "log.json")


def test_a_group_name_is_returned_as_it_is() -> None:
    """1 to 128 characters."""
    assert parse_group("g" * 128) == "g" * 128
    with pytest.raises(InvalidStreamName):
        parse_group("g" * 129)


@pytest.mark.parametrize("count", [-1, 2**32 + 1])
def test_an_impossible_number_of_shards_is_refused(count) -> None:
    """It would give numbers that no shard has."""
    for call in (lambda: pick_shard("key", count), lambda: all_shards_range(count)):
        with pytest.raises(ValueError, match="shard_count is"):
            call()


@pytest.mark.parametrize("shard", [-1, 2**32])
def test_a_number_that_no_shard_has_makes_no_name(shard) -> None:
    """The name would be refused wherever it is used."""
    with pytest.raises(InvalidStreamName, match="invalid shard number"):
        shard_stream_name("events", "v1", shard)


@pytest.mark.parametrize("key", [5, b"user123", None])
def test_a_key_is_text(key) -> None:
    """Bytes and numbers would have to be spelled as text by somebody, and producers would disagree on how."""
    with pytest.raises(ValueError, match="must be text"):
        pick_shard(key, 16)


def test_a_key_that_was_no_utf_8_hashes_as_its_bytes() -> None:
    """A file name in another encoding goes where the original would send its bytes."""
    assert pick_shard(b"\xff".decode("utf-8", "surrogateescape"), 256) == ((2166136261 ^ 0xFF) * 16777619) % 2**32 % 256


@given(st.text(), st.integers(0, 2**32))
def test_a_key_always_goes_to_the_same_shard_in_range(key, count) -> None:
    """For every text and every number of shards."""
    shard = pick_shard(key, count)
    assert shard == pick_shard(key, count)
    assert 0 <= shard < (count or 16)
