"""The exporters' settings: arguments, variables, defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comet_otel import config
from comet_otel.config import load_config, parse_size
from comet_storage import CometConfig, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("512 MiB", 512 * MIB),
        ("512mib", 512 * MIB),
        (" 1.5 GB ", 1_500_000_000),
        ("1 TiB", 2**40),
        ("7B", 7),
    ],
)
def test_sizes_are_read_with_and_without_units(text, size) -> None:
    """Numbers are bytes; decimal and binary units are told apart."""
    assert parse_size(text, name="x") == size


@pytest.mark.parametrize("text", ["", "0", 0, -1, "-5", "5 MiBi", "five", "1e9", True, "٣ MiB", "1 2"])
def test_sizes_that_are_none_are_refused_with_name_value_and_rule(text) -> None:
    """The message is enough to find and mend the setting."""
    with pytest.raises(ConfigError, match="max_total_size") as caught:
        parse_size(text, name="max_total_size")
    assert repr(text) in str(caught.value)
    assert "512 MiB" in str(caught.value)


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


@pytest.mark.parametrize(
    ("name", "value"),
    [("COMET_DURABILITY", "sometimes"), ("COMET_MAX_TOTAL_SIZE", "lots"), ("COMET_MAX_TOTAL_SIZE", "1")],
)
def test_wrong_variables_warn_and_do_not_stop_the_application(tmp_path, caplog, name, value) -> None:
    """Whoever deploys an application can misspell a variable without breaking it."""
    loaded = load_config(data_dir=tmp_path, environment={name: value})
    assert loaded == load_config(data_dir=tmp_path, environment={})
    (record,) = caplog.records
    assert name in record.getMessage()
    assert value in record.getMessage()


@pytest.mark.parametrize("arguments", [{"durability": "sometimes"}, {"max_total_size": "lots"}, {"max_total_size": 1}])
def test_wrong_arguments_raise(tmp_path, arguments) -> None:
    """Whoever writes the code learns of a wrong argument when it is passed."""
    with pytest.raises(ConfigError):
        load_config(data_dir=tmp_path, environment={}, **arguments)


def test_a_complete_configuration_is_used_as_it_is(tmp_path) -> None:
    """With `config`, the other variables are not looked at, and arguments still win."""
    given = CometConfig.default()
    assert load_config(data_dir=tmp_path, config=given, environment={"COMET_DURABILITY": "always"}).storage == given
    changed = load_config(data_dir=tmp_path, config=given, durability="always", environment={})
    assert changed.storage.storage.durability == "always"


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
