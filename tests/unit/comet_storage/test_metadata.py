"""`log.json`: fixed by the first opener, proved by a checksum, made anew when it is damaged."""

from __future__ import annotations

import json
import logging
import zlib

import pytest

from comet_storage import Client, CometConfig, RetentionConfig, StorageConfig
from comet_storage._log.metadata import LogMetadata, decode_metadata

SHARD = "events:v1:shard:0000"
METADATA = LogMetadata(b"0123456789abcdef", 1 << 30, 1 << 20, "evict_oldest")


def test_the_values_are_read_back_as_they_were_written() -> None:
    """Encoding and decoding are each other's inverse."""
    assert decode_metadata(METADATA.encode()) == METADATA


def test_any_changed_value_makes_it_nothing() -> None:
    """A file that does not prove itself is not believed, whatever it says."""
    members = json.loads(METADATA.encode())
    for name in members:
        assert decode_metadata(json.dumps({**members, name: "x"}).encode()) is None
        assert decode_metadata(json.dumps({k: v for k, v in members.items() if k != name}).encode()) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b"[" * 65536, b'{"checksum": 1}'])
def test_any_other_content_is_nothing(data) -> None:
    """No content makes decoding fail."""
    assert decode_metadata(data) is None


def test_values_that_cannot_be_are_nothing_also_with_a_right_checksum() -> None:
    """Types are checked as well."""
    for name, value in (("max_total_size", None), ("max_file_size", float("inf")), ("log_id", 7), ("log_id", "xy")):
        members = json.loads(METADATA.encode())
        del members["checksum"]
        members[name] = value
        check = f"{zlib.crc32(json.dumps(members, sort_keys=True).encode()):08x}"
        assert decode_metadata(json.dumps({**members, "checksum": check}).encode()) is None


@pytest.mark.parametrize("damage", [b"", b"garbage", b"[" * 5000])
def test_a_damaged_file_is_kept_aside_and_made_anew_with_the_same_identity(damage, tmp_path, caplog) -> None:
    """The log opens, its id comes back from a segment, and what was damaged can be looked at."""
    with Client(tmp_path / "log") as client:
        client.append(SHARD, [b"x"])
    path = tmp_path / "log/log.json"
    before = decode_metadata(path.read_bytes())
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING, "comet_storage"), Client(tmp_path / "log") as client:
        assert client.append(SHARD, [b"y"])[0].entry_number == 1
    assert decode_metadata(path.read_bytes()) == before
    assert (tmp_path / "log/log.json.damaged").read_bytes() == damage
    assert "damaged" in caplog.text


def test_a_missing_file_is_made_anew(tmp_path) -> None:
    """Without it the log opens as well, for reading only without making it."""
    with Client(tmp_path / "log") as client:
        client.append(SHARD, [b"x"])
    (tmp_path / "log/log.json").unlink()
    with Client(tmp_path / "log", read_only=True) as client:
        assert client.len(SHARD) == 1
    assert not (tmp_path / "log/log.json").exists()
    with Client(tmp_path / "log") as client:
        assert client.append(SHARD, [b"y"])[0].entry_number == 1
    assert (tmp_path / "log/log.json").exists()


def test_another_openers_different_values_are_not_used_and_told(tmp_path, caplog) -> None:
    """The first opener's values stay; a warning names each that differs."""
    first = CometConfig(
        storage=StorageConfig(max_file_size=65536),
        retention=RetentionConfig(max_total_size=1 << 24, when_full="reject_new"),
    )
    with Client(tmp_path / "log", first):
        pass
    before = (tmp_path / "log/log.json").read_bytes()
    second = CometConfig(storage=StorageConfig(max_file_size=4096), retention=RetentionConfig(max_total_size=1 << 25))
    with caplog.at_level(logging.WARNING, "comet_storage"), Client(tmp_path / "log", second) as client:
        client.append(SHARD, [bytes(30_000)])
        client.append(SHARD, [bytes(30_000)])
    for fact in ("max_total_size=16777216", "max_file_size=65536", "when_full=reject_new"):
        assert fact in caplog.text
    assert len(list((tmp_path / "log").glob("events/v1/shard-0000/*.segment"))) == 1
    assert (tmp_path / "log/log.json").read_bytes() == before
    caplog.clear()
    with caplog.at_level(logging.WARNING, "comet_storage"), Client(tmp_path / "log", first):
        pass
    assert caplog.text == ""
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == [
        "events",
        "log.json",
        "log.lock",
        "retention.json",
    ]
