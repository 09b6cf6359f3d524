"""The shipper's documentation says what its code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from comet_storage import Client
from shipper.configuration import schema
from shipper.configuration.environment import PREFIX, SUFFIXES
from shipper.configuration.flags import Flags, flag_name
from shipper.configuration.resolving import load_config
from shipper.metrics import Telemetry
from tests.support.observations import observation, report

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "shipper.md").read_text()


@pytest.mark.parametrize("table", ["SHIPPER", "SENDING", "DESTINATION", "RETRY", "PACING"])
def test_every_key_of_the_file_is_explained(table) -> None:
    """In a row of one of the tables."""
    rows = [line.split("|")[1] for line in TEXT.splitlines() if line.startswith("|")]
    missing = [key for key in getattr(schema, table) if not any(f"`{key}`" in row for row in rows)]
    assert missing == []


def test_every_flag_and_every_variable_is_explained() -> None:
    """By its full name, or by the end of it beside the common beginning."""
    flags = {flag_name(name) for name in Flags.__dataclass_fields__} - {"--client-certificate", "--client-key"}
    assert [flag for flag in sorted(flags) if flag not in TEXT] == []
    assert f"`{PREFIX}…`" in TEXT
    assert [suffix for suffix in SUFFIXES if f"`{suffix}`" not in TEXT] == []


def test_every_metric_is_explained(tmp_path) -> None:
    """By its full name, or by the end of it behind another one of the same row."""
    telemetry = Telemetry(lambda: observation(report()))
    with Client(tmp_path / "log") as telemetry.client:
        text = telemetry.text().decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert len(names) >= 25
    for name in names:
        short = name.removeprefix("comet_shipper_").removeprefix("otel_sdk_exporter_")
        assert name in TEXT or f"…_{short}`" in TEXT, name


def test_the_example_of_a_file_is_right(tmp_path) -> None:
    """As it stands, but for the token that it names."""
    file = tmp_path / "shipper.toml"
    file.write_text((ROOT / "examples" / "shipper.toml").read_text())
    (tmp_path / "token").write_text("secret")
    central, archive = load_config(Flags(config=file), {"TENANT": "shop"}).config.destinations
    assert (central.name, central.order, central.max_lag_age) == ("central", "fresh-first", 30 * 86400.0)
    assert archive.signals[0].headers == (("x-tenant", "shop"),)
