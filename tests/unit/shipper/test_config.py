"""The shipper's settings: options, variables, defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipper.config import MAX_REQUEST_BYTES_DEFAULT, Options, load_config
from shipper.errors import ConfigurationError

NEEDED = {"data_dir": Path("/log"), "endpoint": "http://collector:4317"}


def test_defaults_are_the_documented_ones() -> None:
    """Directory and endpoint are all that has to be said."""
    config = load_config(Options(**NEEDED), {})
    assert (config.protocol, config.compression, config.group) == ("grpc", "gzip", "shipper")
    assert config.timeout == 10.0
    assert config.max_request_bytes == MAX_REQUEST_BYTES_DEFAULT < 4 * 2**20
    assert config.headers == ()


def test_standard_variables_are_understood_and_options_win() -> None:
    """What works for an OpenTelemetry exporter works here."""
    environment = {
        "COMET_DATA_DIR": "/from/variable",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://variable:4318/base",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, other=2",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
    }
    config = load_config(Options(), environment)
    assert str(config.data_dir) == "/from/variable"
    assert str(config.endpoint) == "https://variable:4318/base"
    assert (config.protocol, config.compression, config.timeout) == ("http/protobuf", "none", 2.5)
    assert config.headers == (("api-key", "a b"), ("other", "2"))

    options = Options(**NEEDED, protocol="grpc", compression="gzip", headers=("x=1=2",), timeout=3.0)
    config = load_config(options, environment)
    assert str(config.endpoint) == "http://collector:4317"
    assert (config.protocol, config.compression, config.timeout) == ("grpc", "gzip", 3.0)
    assert config.headers == (("x", "1=2"),)


def test_empty_variables_count_as_not_set() -> None:
    """As the specification says."""
    config = load_config(Options(**NEEDED), {"OTEL_EXPORTER_OTLP_PROTOCOL": "", "OTEL_EXPORTER_OTLP_TIMEOUT": " "})
    assert config.protocol == "grpc"


def test_insecure_by_variable_only_concerns_endpoints_without_scheme() -> None:
    """The scheme wins, as the specification says."""
    environment = {"OTEL_EXPORTER_OTLP_INSECURE": "true"}
    assert load_config(Options(data_dir=Path("/log"), endpoint="host:4317"), environment).endpoint.secure is False
    assert load_config(Options(data_dir=Path("/log"), endpoint="https://host"), environment).endpoint.secure is True


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ({"data_dir": None}, {}, ["--data-dir", "COMET_DATA_DIR"]),
        ({"endpoint": None}, {}, ["--endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT"]),
        ({"endpoint": "ftp://x"}, {}, ["--endpoint", "'ftp://x'", "http or https"]),
        ({"endpoint": None}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://x"}, ["OTEL_EXPORTER_OTLP_ENDPOINT", "'ftp://x'"]),
        ({"protocol": "http/json"}, {}, ["--protocol", "'http/json'", "grpc, http/protobuf"]),
        ({}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, ["OTEL_EXPORTER_OTLP_PROTOCOL", "'smoke'"]),
        ({"compression": "zip"}, {}, ["--compression", "'zip'", "gzip, none"]),
        ({"headers": ("novalue",)}, {}, ["--header", "'novalue'", "NAME=VALUE"]),
        ({"headers": ("bad name=1",)}, {}, ["--header", "'bad name'"]),
        ({"headers": ("x=a\r\nb",)}, {}, ["--header", "'x'", "printable"]),
        ({"certificate": Path("/does/not/exist.pem")}, {}, ["--certificate", "exist.pem", "readable"]),
        ({"endpoint": "https://x", "insecure": True}, {}, ["--insecure", "https://x"]),
        ({"max_request_bytes": 10}, {}, ["--max-request-bytes", "10", "bytes"]),
        ({"timeout": 0.0}, {}, ["--timeout", "0", "seconds"]),
        ({"timeout": float("nan")}, {}, ["--timeout", "nan"]),
        ({}, {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, ["OTEL_EXPORTER_OTLP_TIMEOUT", "'soon'", "milliseconds"]),
        ({"retry_max": 1e9}, {}, ["--retry-max", "seconds"]),
        ({"group": "no spaces"}, {}, ["--group", "'no spaces'"]),
    ],
)
def test_wrong_settings_are_named_with_value_and_rule(options, environment, expected) -> None:
    """The message says which option or variable is wrong, how, and what would be right."""
    with pytest.raises(ConfigurationError) as caught:
        load_config(Options(**{**NEEDED, **options}), environment)
    for part in expected:
        assert part in str(caught.value)


def test_all_wrong_settings_are_named_at_once() -> None:
    """Nobody has to mend them one by one."""
    with pytest.raises(ConfigurationError) as caught:
        load_config(Options(protocol="smoke", compression="zip", timeout=-1), {})
    for name in ("--data-dir", "--endpoint", "--protocol", "--compression", "--timeout"):
        assert name in str(caught.value)


def test_a_certificate_that_is_none_is_refused(tmp_path) -> None:
    """It is found at the start, not by the first connection."""
    file = tmp_path / "ca.pem"
    file.write_text("hello")
    with pytest.raises(ConfigurationError, match="PEM"):
        load_config(Options(**NEEDED, certificate=file), {})


def test_secrets_are_neither_in_messages_nor_in_representations() -> None:
    """Headers carry tokens, and both end up in logs."""
    config = load_config(Options(**NEEDED, headers=("authorization=Bearer s3cret",)), {})
    assert "s3cret" not in repr(config)
    with pytest.raises(ConfigurationError) as caught:
        load_config(Options(**NEEDED, headers=("bad name=s3cret",)), {})
    assert "s3cret" not in str(caught.value)
