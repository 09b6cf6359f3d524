"""Settings are checked as a whole, before anything is touched."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import timedelta

import pytest

from comet_storage import (
    Client,
    CometConfig,
    CompressionConfig,
    ConcurrencyConfig,
    ConfigError,
    IndexingConfig,
    RetentionConfig,
    StorageConfig,
)
from comet_storage.config import MAX_FILE_SIZE_MAX, MIB, SMALL_FILES_BYTES

WRONG = [
    (CompressionConfig(min_compress_size=-1), "compression.min_compress_size"),
    (CompressionConfig(level=0), "compression.level"),
    (CompressionConfig(level=-8), "compression.level"),
    (CompressionConfig(codec="lz4"), "compression.codec"),
    (StorageConfig(max_pinned_bytes=-1), "storage.max_pinned_bytes"),
    (RetentionConfig(max_age=-1), "retention.max_age"),
    (RetentionConfig(max_shard_size=-1), "retention.max_shard_size"),
    (RetentionConfig(cleanup_interval=timedelta(days=-1)), "retention.cleanup_interval"),
    (RetentionConfig(min_files_to_keep=-1), "retention.min_files_to_keep"),
    (RetentionConfig(force_delete_after=1e12), "retention.force_delete_after"),
    (IndexingConfig(boundary_interval=0), "indexing.boundary_interval"),
    (IndexingConfig(boundary_interval=10_001), "indexing.boundary_interval"),
    (IndexingConfig(max_index_entries=9), "indexing.max_index_entries"),
    (StorageConfig(checkpoint_time=301), "storage.checkpoint_time"),
    (StorageConfig(max_file_size=100), "storage.max_file_size"),
    (StorageConfig(max_file_size=MAX_FILE_SIZE_MAX + 1), "storage.max_file_size"),
    (StorageConfig(durability="maybe"), "storage.durability"),
    (StorageConfig(sync_interval=0), "storage.sync_interval"),
    (StorageConfig(sync_interval=timedelta(hours=1)), "storage.sync_interval"),
    (StorageConfig(write_method="telepathy"), "storage.write_method"),
    (StorageConfig(max_entry_bytes=0), "storage.max_entry_bytes"),
    (StorageConfig(max_append_bytes=1), "storage.max_append_bytes"),
    (ConcurrencyConfig(lock_timeout=-1.0), "concurrency.lock_timeout"),
    (ConcurrencyConfig(lanes=0), "concurrency.lanes"),
    (RetentionConfig(max_total_size=0), "retention.max_total_size"),
    (RetentionConfig(when_full="panic"), "retention.when_full"),
    (RetentionConfig(min_free_bytes=-1), "retention.min_free_bytes"),
    (RetentionConfig(max_age=-1), "retention.max_age"),
    (RetentionConfig(max_age=timedelta(days=100_000)), "retention.max_age"),
    (RetentionConfig(force_delete_after=-0.5), "retention.force_delete_after"),
    (RetentionConfig(cleanup_interval=timedelta(seconds=-1)), "retention.cleanup_interval"),
    (RetentionConfig(max_shard_size=-1), "retention.max_shard_size"),
    (RetentionConfig(min_files_to_keep=-1), "retention.min_files_to_keep"),
]


def with_section(config: CometConfig, section: object) -> CometConfig:
    """Put a section in the place of its kind."""
    name = type(section).__name__.removesuffix("Config").lower()
    return replace(config, **{name: section})


@pytest.mark.parametrize(("section", "key"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_value_is_named_with_its_key_and_its_rule(section, key) -> None:
    """The message has the key, the value and what it must be."""
    with pytest.raises(ConfigError, match=rf"{key} is .+: must be"):
        with_section(CometConfig.default(), section).validate()


def test_every_problem_is_named_at_once() -> None:
    """Nobody has to mend one key to learn of the next."""
    config = CometConfig(
        storage=StorageConfig(max_file_size=1, durability="x", write_method="y", max_entry_bytes=0),
        concurrency=ConcurrencyConfig(lanes=0, lock_timeout=1e9),
        retention=RetentionConfig(max_total_size=-1, when_full="z", min_free_bytes=-1),
    )
    with pytest.raises(ConfigError) as caught:
        config.validate()
    keys = {problem.split(" ", 1)[0] for problem in str(caught.value).split("; ")}
    assert keys == {
        "storage.max_file_size",
        "storage.durability",
        "storage.write_method",
        "storage.max_entry_bytes",
        "concurrency.lanes",
        "concurrency.lock_timeout",
        "retention.max_total_size",
        "retention.when_full",
        "retention.min_free_bytes",
    }


@pytest.mark.parametrize("value", ["4096", None, b"x", [1], 1.5, True, float("nan")])
def test_a_value_of_a_wrong_type_is_a_configuration_error(value) -> None:
    """A text in the place of a number is told as such, with its key."""
    with pytest.raises(ConfigError, match=r"storage\.max_entry_bytes is .+: must be a number of bytes"):
        CometConfig(storage=StorageConfig(max_entry_bytes=value)).validate()


@pytest.mark.parametrize("value", [None, 7, {}, StorageConfig])
def test_a_section_of_a_wrong_type_is_a_configuration_error(value) -> None:
    """What stands in the place of a section must be one."""
    with pytest.raises(ConfigError, match=r"storage is .+: must be a StorageConfig"):
        CometConfig(storage=value).validate()


def test_wrong_types_and_wrong_values_are_named_together() -> None:
    """One field of a wrong type does not hide what is wrong with the others."""
    config = CometConfig(
        storage=StorageConfig(max_entry_bytes="x", sync_interval=float("inf"), write_method="y"),  # type: ignore[arg-type]
        retention=RetentionConfig(max_total_size=1),
    )
    with pytest.raises(ConfigError) as caught:
        config.validate()
    keys = [problem.split(" ", 1)[0] for problem in caught.value.problems]
    assert keys == [
        "storage.sync_interval",
        "storage.max_entry_bytes",
        "storage.write_method",
        "retention.max_total_size",
    ]


def test_a_bound_too_small_for_its_segments_says_what_is_needed() -> None:
    """The least that a configuration needs is worked out and demanded."""
    config = CometConfig(storage=StorageConfig(max_file_size=MIB), retention=RetentionConfig(max_total_size=2 * MIB))
    assert config.least_total_size() == 2 * MIB + SMALL_FILES_BYTES
    with pytest.raises(ConfigError, match=str(config.least_total_size())):
        config.validate()
    replace(config, retention=RetentionConfig(max_total_size=config.least_total_size())).validate()


def test_the_files_that_are_to_be_kept_have_to_fit_into_the_bound() -> None:
    """A bound that cannot hold the fewest files of one shard is a contradiction, named with the figure."""
    config = CometConfig(
        storage=StorageConfig(max_file_size=MIB), retention=RetentionConfig(max_total_size=8 * MIB, min_files_to_keep=8)
    )
    assert config.least_total_size() == 8 * MIB + SMALL_FILES_BYTES
    with pytest.raises(ConfigError, match=str(config.least_total_size())):
        config.validate()


def test_a_shard_has_to_hold_two_segments() -> None:
    """Otherwise its size could never be kept; without a size for segments, one is chosen that fits."""
    storage = StorageConfig(max_file_size=MIB)
    with pytest.raises(ConfigError, match=rf"max_shard_size is {MIB}: these settings need at least {2 * MIB}"):
        CometConfig(storage=storage, retention=RetentionConfig(max_shard_size=MIB)).validate()
    config = CometConfig(retention=RetentionConfig(max_shard_size=MIB))
    config.validate()
    assert config.segment_size() == MIB // 8


@pytest.mark.parametrize("name", ["traces", "traces:v1:shard:0000", "traces:v1:shard:*", "", "a:b:c"])
def test_priorities_are_given_to_streams(name) -> None:
    """A name that is no stream's is named."""
    with pytest.raises(ConfigError, match=r"retention\.priorities names"):
        CometConfig(retention=RetentionConfig(priorities={name: 1})).validate()
    CometConfig(retention=RetentionConfig(priorities={"traces:v1": -1})).validate()


def test_a_wrong_configuration_makes_no_directory(tmp_path) -> None:
    """The check comes before the first touch of the disk."""
    with pytest.raises(ConfigError):
        Client(tmp_path / "log", CometConfig(storage=StorageConfig(durability="x")))
    assert list(tmp_path.iterdir()) == []


PRESETS = [
    CometConfig.default,
    CometConfig.high_compression,
    CometConfig.multi_process,
    CometConfig.high_throughput,
]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_are_valid(preset) -> None:
    """What we hand out passes our own check."""
    preset().validate()


def test_the_presets_differ_from_the_default_as_the_originals_do() -> None:
    """What has the same name has the same numbers."""
    default = CometConfig.default()
    assert (default.compression.min_compress_size, default.storage.checkpoint_time) == (4096, 2.0)
    assert (default.indexing.boundary_interval, default.indexing.max_index_entries) == (100, 10_000)
    assert not default.concurrency.multi_process
    assert CometConfig.high_compression().compression.min_compress_size == 256
    shared = CometConfig.multi_process()
    assert (shared.concurrency.multi_process, shared.storage.checkpoint_time) == (True, 0.1)
    fast = CometConfig.high_throughput()
    assert (fast.indexing.boundary_interval, fast.indexing.max_index_entries) == (1000, 100_000)
    assert (fast.storage.checkpoint_time, fast.compression.min_compress_size) == (5.0, 10240)


def test_a_timedelta_and_its_seconds_are_the_same_setting() -> None:
    """Two spellings of one configuration are equal."""
    assert StorageConfig(sync_interval=timedelta(milliseconds=250)) == StorageConfig(sync_interval=0.25)


def test_settings_cannot_be_changed_afterwards() -> None:
    """A configuration that was checked stays what it was."""
    with pytest.raises(FrozenInstanceError):
        CometConfig.default().storage.durability = "always"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("bound", "lanes", "expected"),
    [(1 << 30, 8, 16 * MIB), (1 << 40, 8, 64 * MIB), (1 << 20, 8, 16384), (300_000, 8, 4096), (1 << 30, 1, 64 * MIB)],
)
def test_the_automatic_segment_size_follows_bound_and_lanes(bound, lanes, expected) -> None:
    """An eighth of a lane's share, at most 64 MiB, whole pages."""
    config = CometConfig(concurrency=ConcurrencyConfig(lanes=lanes), retention=RetentionConfig(max_total_size=bound))
    assert config.segment_size() == expected
    assert config.segment_size() % 4096 == 0


def test_a_client_tells_its_settings(tmp_path) -> None:
    """What a client was opened with can be read from it; without anything, the defaults."""
    config = CometConfig(storage=StorageConfig(durability="always"))
    with Client(tmp_path / "a", config) as client:
        assert client.config == config
    with Client(tmp_path / "b") as client:
        assert client.config == CometConfig.default()
