"""Reading endpoint URLs."""

from __future__ import annotations

import pytest

from shipper.endpoint import Endpoint, parse_endpoint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("http://collector:4317", Endpoint("collector", 4317, "", secure=False)),
        ("https://collector", Endpoint("collector", 443, "", secure=True)),
        ("http://collector/", Endpoint("collector", 80, "", secure=False)),
        ("https://host/otlp/", Endpoint("host", 443, "/otlp", secure=True)),
        ("collector:4317", Endpoint("collector", 4317, "", secure=True)),
        ("http://[::1]:4318", Endpoint("::1", 4318, "", secure=False)),
    ],
)
def test_endpoints_are_read_as_the_specification_says(text, endpoint) -> None:
    """The scheme decides about TLS, and without one TLS is spoken."""
    assert parse_endpoint(text) == endpoint


def test_insecure_is_for_endpoints_without_a_scheme() -> None:
    """A scheme says already whether TLS is to be spoken."""
    assert parse_endpoint("collector:4317", insecure=True).secure is False
    assert parse_endpoint("https://collector:4317", insecure=True).secure is True


def test_signal_paths_are_appended_to_the_base_path() -> None:
    """An existing path is kept."""
    assert parse_endpoint("http://host:4318").http_url("v1/traces") == "http://host:4318/v1/traces"
    assert parse_endpoint("https://host/otlp/").http_url("v1/logs") == "https://host:443/otlp/v1/logs"
    assert parse_endpoint("http://[::1]:4318").target == "[::1]:4318"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "ftp://host:21",
        "http://host:port",
        "http://host:0",
        "http://host:70000",
        "http://user:secret@host",
        "http://host?key=value",
        "two words",
        "grpc://host:4317",
    ],
)
def test_what_is_no_endpoint_is_refused_with_a_rule(text) -> None:
    """Wrong endpoints are found before anything is sent, not by a puzzling failure afterwards."""
    with pytest.raises(ValueError, match="must"):
        parse_endpoint(text)
