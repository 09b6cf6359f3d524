"""The exporters' settings: arguments, variables, defaults."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comet_otel import config
from comet_otel.config import load_config
from comet_storage import CometConfig, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (2**26, 2**26),
        (float(2**26), 2**26),
        ("67108864", 2**26),
        ("64 MiB", 2**26),
        ("64mib", 2**26),
        (" 0.5 GB ", 500_000_000),
    ],
)
def test_sizes_are_read_with_and_without_units(tmp_path, given, size) -> None:
    """Numbers are bytes, also where a configuration file made them floats; decimal and binary units are told apart."""
    loaded = load_config(data_dir=tmp_path, max_total_size=given, environment={})
    assert loaded.storage.retention.max_total_size == size


@pytest.mark.parametrize("given", ["", "0", 0, -1, "-5", "5 MiBi", "five", 1.5, True, [1], float("nan")])
def test_sizes_that_are_none_are_refused_with_name_and_rule(tmp_path, given) -> None:
    """The message is enough to find and mend the setting."""
    with pytest.raises(ConfigError, match=r"retention\.max_total_size is .*: must be"):
        load_config(data_dir=tmp_path, max_total_size=given, environment={})


@pytest.mark.parametrize("given", [90, 90.0, "90", "90s", "1m30s", timedelta(seconds=90)])
def test_ages_are_seconds_durations_or_text(tmp_path, given) -> None:
    """As in the log's own configuration."""
    assert load_config(data_dir=tmp_path, max_age=given, environment={}).storage.retention.max_age == 90


def test_arguments_win_over_variables_and_those_over_defaults(tmp_path) -> None:
    """The order of precedence is the documented one."""
    variables = {
        "COMET_DATA_DIR": str(tmp_path / "variable"),
        "COMET_DURABILITY": "always",
        "COMET_MAX_TOTAL_SIZE": "64 MiB",
    }
    from_variables = load_config(environment=variables)
    assert from_variables.data_dir == tmp_path / "variable"
    assert from_variables.storage.storage.durability == "always"
    assert from_variables.storage.retention.max_total_size == 64 * MIB

    from_arguments = load_config(
        data_dir=tmp_path / "argument", durability="process", max_total_size="32 MiB", environment=variables
    )
    assert from_arguments.data_dir == tmp_path / "argument"
    assert from_arguments.storage.storage.durability == "process"
    assert from_arguments.storage.retention.max_total_size == 32 * MIB

    default = load_config(data_dir=tmp_path, environment={})
    assert default.storage.storage.durability == "process"
    assert default.storage.retention.max_total_size <= 2**30


def test_every_variable_sets_what_it_is_named_after(tmp_path) -> None:
    """Nothing of the log's configuration that a deployment may want to change needs code."""
    variables = {
        "COMET_DURABILITY": "always",
        "COMET_COMPRESSION": "none",
        "COMET_MAX_TOTAL_SIZE": " 64 MiB ",
        "COMET_MAX_AGE": "7d",
        "COMET_MIN_FREE_BYTES": "1 GB",
        "COMET_WHEN_FULL": "reject_new",
        "COMET_SYNC_INTERVAL": "250ms",
        "COMET_WRITE_METHOD": "pwrite",
        "COMET_LANES": "3",
    }
    assert set(variables) == set(config.VARIABLES)
    loaded = load_config(data_dir=tmp_path, environment=variables).storage
    assert loaded.storage.durability == "always"
    assert loaded.compression.codec == "none"
    assert loaded.retention.max_total_size == 64 * MIB
    assert loaded.retention.max_age == 7 * 86_400
    assert loaded.retention.min_free_bytes == 10**9
    assert loaded.retention.when_full == "reject_new"
    assert loaded.storage.sync_interval == 0.25
    assert loaded.storage.write_method == "pwrite"
    assert loaded.concurrency.lanes == 3
    empty = dict.fromkeys(variables, "")
    assert load_config(data_dir=tmp_path, environment=empty) == load_config(data_dir=tmp_path, environment={})


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_blank_directory_counts_as_unset(blank) -> None:
    """A template of a deployment that filled in nothing must not make a directory named of blanks."""
    assert load_config(environment={"COMET_DATA_DIR": blank}).data_dir == load_config(environment={}).data_dir


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COMET_DURABILITY", "sometimes"),
        ("COMET_COMPRESSION", "gzip"),
        ("COMET_MAX_TOTAL_SIZE", "lots"),
        ("COMET_MAX_TOTAL_SIZE", "1"),
        ("COMET_MAX_AGE", "forever"),
        ("COMET_LANES", "many"),
        ("COMET_LANES", "0"),
        ("COMET_LANES", "9" * 5000),
    ],
)
def test_wrong_variables_warn_and_do_not_stop_the_application(tmp_path, caplog, name, value) -> None:
    """Whoever deploys an application can misspell a variable without breaking it."""
    loaded = load_config(data_dir=tmp_path, environment={name: value})
    assert loaded == load_config(data_dir=tmp_path, environment={})
    (record,) = caplog.records
    assert name in record.getMessage()
    assert value in record.getMessage()


@pytest.mark.parametrize(
    "arguments",
    [
        {"durability": "sometimes"},
        {"durability": 5},
        {"compression": "gzip"},
        {"max_total_size": "lots"},
        {"max_total_size": 1},
        {"max_age": "never"},
        {"max_age": [1]},
        {"data_dir": 5},
        {"data_dir": "a\0b"},
        {"config": 5},
        {"config": "not JSON"},
        {"config": "[]"},
        {"config": {"retention": 5}},
        {"config": {"retention": {"max_age": object()}}},
        {"config": {"retention": {"unknown": 1}}},
        {"config": {"unknown": {}}},
    ],
)
def test_wrong_arguments_raise(tmp_path, arguments) -> None:
    """Whoever writes the code learns of a wrong argument when it is passed."""
    with pytest.raises(ConfigError):
        load_config(**{"data_dir": tmp_path, "environment": {}, **arguments})


def test_a_complete_configuration_is_used_as_it_is(tmp_path) -> None:
    """With `config`, the other variables are not looked at, and arguments still win."""
    given = CometConfig.default()
    assert load_config(data_dir=tmp_path, config=given, environment={"COMET_DURABILITY": "always"}).storage == given
    changed = load_config(data_dir=tmp_path, config=given, durability="always", environment={})
    assert changed.storage.storage.durability == "always"


@pytest.mark.parametrize("form", [dict, json.dumps])
def test_a_complete_configuration_may_be_its_sections(tmp_path, form) -> None:
    """A configuration file has no other way to give one; the bound that it does not name fits the volume."""
    given = form({"retention": {"max_age": "4h"}, "storage": {"durability": "always"}})
    loaded = load_config(data_dir=tmp_path, config=given, environment={"COMET_LANES": "3"}).storage
    assert (loaded.retention.max_age, loaded.storage.durability, loaded.concurrency.lanes) == (4 * 3600, "always", 8)
    assert loaded.retention.max_total_size == config.default_max_total_size(tmp_path)


def test_default_directory_is_private_to_the_user(monkeypatch, tmp_path) -> None:
    """It is a system directory for root and in the user's state directory for others; never a shared one."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config.default_data_dir({}) == Path("/var/lib/comet")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert config.default_data_dir({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "comet-otel"
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".local/state/comet-otel"
    assert load_config(environment={}).data_dir == expected
    assert load_config(environment={"XDG_STATE_HOME": "relative"}).data_dir == expected


def test_two_spellings_of_a_directory_are_one(tmp_path) -> None:
    """Links and dots are resolved, so that exporters share a client."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    spelled = [tmp_path / "link", f"{tmp_path}/real/../real/", os.path.relpath(tmp_path / "real")]
    assert {load_config(data_dir=one, environment={}).data_dir for one in spelled} == {tmp_path / "real"}


def test_default_bound_is_a_tenth_of_a_small_volume(monkeypatch, tmp_path) -> None:
    """A log must not fill the disk of a small board; a directory that does not exist yet counts as its parent."""

    def volume(size: int) -> Callable[[object], os.statvfs_result]:
        return lambda _: os.statvfs_result((4096, 4096, size // 4096, 0, 0, 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "statvfs", volume(2**30))
    assert config.default_max_total_size(tmp_path / "a" / "b") == 2**30 // 10
    monkeypatch.setattr(os, "statvfs", volume(2**40))
    assert config.default_max_total_size(tmp_path) == 2**30
