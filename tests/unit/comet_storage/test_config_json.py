"""A configuration as JSON: the original's keys, text for people, and every problem named."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_storage import (
    CometConfig,
    CompressionConfig,
    ConcurrencyConfig,
    ConfigError,
    IndexingConfig,
    RetentionConfig,
    StorageConfig,
)
from comet_storage._settings import SIZE, kinds

PRESETS = [
    CometConfig.default,
    CometConfig.high_compression,
    CometConfig.multi_process,
    CometConfig.high_throughput,
]
SECTIONS = [CompressionConfig, IndexingConfig, StorageConfig, ConcurrencyConfig, RetentionConfig]


def problems_of(text: str | bytes) -> tuple[str, ...]:
    """Return what is wrong with a text."""
    with pytest.raises(ConfigError) as caught:
        CometConfig.from_json(text)
    return caught.value.problems


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_read_back_as_it_was_written(preset) -> None:
    """`from_json` and `to_json` are each other's inverse."""
    assert CometConfig.from_json(preset().to_json()) == preset()
    assert CometConfig.from_json(preset().to_json().encode()) == preset()


@given(st.floats(0.01, 300), st.floats(0, 300), st.booleans(), st.integers(4096, 2**20) | st.none())
def test_any_valid_configuration_is_read_back_as_it_was_written(interval, checkpoint, shared, size) -> None:
    """Also durations that are no whole milliseconds."""
    config = CometConfig(
        storage=StorageConfig(sync_interval=interval, checkpoint_time=checkpoint, max_file_size=size),
        concurrency=ConcurrencyConfig(multi_process=shared, lock_timeout=timedelta(seconds=interval)),
    )
    assert CometConfig.from_json(config.to_json()) == config


def test_long_durations_and_priorities_are_read_back_as_they_were_written() -> None:
    """A duration that would be taken for nanoseconds is written as text."""
    retention = RetentionConfig(max_age=2e8, force_delete_after=timedelta(days=30), priorities={"traces:v1": 3})
    config = CometConfig(retention=retention)
    assert CometConfig.from_json(config.to_json()) == config


def test_the_keys_are_the_originals_and_ours() -> None:
    """Sections and keys of the original's file are there under their names."""
    written = json.loads(CometConfig.default().to_json())
    original = {
        "compression": {"min_compress_size"},
        "indexing": {"boundary_interval", "max_index_entries"},
        "storage": {"max_file_size", "checkpoint_time_ms"},
        "concurrency": {"enable_file_locking"},
        "retention": {
            *("max_age", "max_total_size", "max_shard_size", "cleanup_interval"),
            *("min_files_to_keep", "protect_unconsumed", "force_delete_after"),
        },
    }
    assert list(written) == list(original)
    for section, keys in original.items():
        assert keys <= set(written[section])
    assert written["storage"]["checkpoint_time_ms"] == 2000


def test_sizes_and_durations_may_be_text() -> None:
    """People write 512 MiB and 1h30m."""
    config = CometConfig.from_json(
        json.dumps(
            {
                "storage": {"max_file_size": "8 MiB", "checkpoint_time_ms": "1.5s", "sync_interval": "250ms"},
                "retention": {"max_total_size": "512 MiB", "max_age": "4h", "force_delete_after": None},
                "concurrency": {"lock_timeout": "1m"},
            }
        )
    )
    expected = CometConfig.default()
    expected = replace(
        expected,
        storage=replace(expected.storage, max_file_size=8 << 20, checkpoint_time=1.5, sync_interval=0.25),
        retention=replace(expected.retention, max_total_size=512 << 20, max_age=14_400.0),
        concurrency=replace(expected.concurrency, lock_timeout=60.0),
    )
    assert config == expected


def test_what_is_not_given_has_its_default() -> None:
    """An empty object is the default configuration."""
    assert CometConfig.from_json("{}") == CometConfig.default()
    assert CometConfig.from_json('{"storage": {}}') == CometConfig.default()


def test_every_problem_of_a_file_is_named_at_once() -> None:
    """Unknown sections and keys, wrong types, wrong texts, broken rules and keys given twice."""
    text = """{
        "storage": {"max_file_size": "8 miles", "durability": "maybe", "checkpoint": 1, "max_file_size": "9 miles"},
        "retention": [],
        "concurrency": {"enable_file_locking": "yes", "lanes": null},
        "indexing": {"boundary_interval": 0.5, "max_index_entries": 3},
        "colour": {}
    }"""
    keys = [problem.split(" ", 1)[0] for problem in problems_of(text)]
    assert sorted(keys) == sorted(
        [
            "max_file_size",
            "storage.max_file_size",
            "storage.checkpoint",
            "storage.durability",
            "retention",
            "concurrency.enable_file_locking",
            "concurrency.lanes",
            "indexing.boundary_interval",
            "indexing.max_index_entries",
            "colour",
        ]
    )


def test_an_unknown_key_is_told_with_the_known_ones() -> None:
    """The name in Python is not the key in JSON where the original has another one."""
    (problem,) = problems_of('{"concurrency": {"multi_process": true}}')
    assert problem == (
        "concurrency.multi_process is unknown: the keys of concurrency are enable_file_locking, lock_timeout, lanes"
    )


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"x"', "{'a': 1}", b"\xff\xfe\xff", "[" * 100_000, None])
def test_what_is_no_json_object_is_a_configuration_error(text) -> None:
    """Whatever is in the file, the error is ours."""
    assert len(problems_of(text)) == 1


def test_nanoseconds_in_the_place_of_seconds_are_told() -> None:
    """The original wrote durations as nanoseconds: four hours would be four hundred thousand years."""
    (problem,) = problems_of('{"retention": {"max_age": 14400000000000}}')
    assert "seconds" in problem
    assert "'4h'" in problem


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_are_none_are_refused(value) -> None:
    """JSON as Python reads it has more numbers than settings have."""
    (problem,) = problems_of(f'{{"storage": {{"sync_interval": {value}}}}}')
    assert problem.startswith("storage.sync_interval is ")


@pytest.mark.parametrize("key", ["sync_interval", "checkpoint_time_ms", "max_entry_bytes", "max_file_size"])
def test_numbers_too_large_for_anything_are_refused(key) -> None:
    """They would overflow what they are compared with."""
    (problem,) = problems_of(f'{{"storage": {{"{key}": {10**400}}}}}')
    assert problem.startswith(f"storage.{key} is ")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_size_may_be_written_as_text(section) -> None:
    """A field whose name says bytes or size is one; a plain whole number would not take `64 MiB`."""
    sizes = {field.name for field in fields(section) if field.name.endswith(("_size", "_bytes"))}
    assert {name for name, (kind, _) in kinds(section).items() if kind is SIZE} == sizes
